"""Speed of training beside a plain PyTorch loop with the same model, batch and steps: `python -m benchmarks.training`.

The plain loop is what a tutorial writes: a `DataLoader` over images that are decoded, transformed and collated one by
one, float32, no memory format. Each side runs in a process of its own. `--to-accuracy` also times both to the same
accuracy on held-out training images, there with the original's recipe (batch 128, SGD with learning rate 0.01).
"""

import argparse
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.apart import apart
from benchmarks.timing import (
    Side,
    goal_cell,
    largest_product_rate,
    operations,
    parser_of,
    published,
    wait_for,
)
from data import DATASETS, Split, load_dataset
from models import build_model
from training.device import device_name, has_bfloat16, resolve_device, set_up_process
from training.inputs import Images, Normalisation, load_labels
from training.loop import initialise, predict, train
from training.recipe import Recipe, recipe_for

GOALS = {"cpu": 3.0, "cuda": 20.0}
WHY = {
    "cpu": "convolutions and linear layers take three fifths of a step, at nearly the rate of the large matrix "
    "product. The rest is bound by memory: batch normalisation, pooling, the optimiser, the random crops."
}
SIDES = {"ours": 0, "plain": 0, "plain, 2 workers": 2}
"""And how many workers each has."""
STEPS, REPEATS = {"cpu": 30, "cuda": 195}, 5  # CIFAR-10 has no more than 195 batches
ACCURACIES = {  # of --to-accuracy
    "cpu": {"mnist": 0.98, "cifar10": 0.70},
    "cuda": {"mnist": 0.99, "cifar10": 0.87},
}
SECONDS_GOALS = {"cuda": {"mnist": 1.0, "cifar10": 6.0}}
HELD_OUT = 5_000
MOST_EPOCHS = 40
MOST_SECONDS = {"cpu": 600, "cuda": 30}  # of the plain loop


class OneByOne(Dataset[tuple[Tensor, int]]):
    """As torchvision's data sets do it: a PIL image from an array, then the transforms."""

    def __init__(self, split: Split, transform: Any) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.transform(transforms.functional.to_pil_image(self.split.images[place])), self.split.labels[place]


def usual_transform(recipe: Recipe, size: int, normalisation: Normalisation) -> Any:
    parts: list[Any] = [transforms.RandomCrop(size, padding=recipe.crop)] if recipe.crop else []
    parts += [transforms.RandomHorizontalFlip()] if recipe.flip else []
    mean, std = normalisation.mean.tolist(), normalisation.std.tolist()
    return transforms.Compose([*parts, transforms.ToTensor(), transforms.Normalize(mean, std)])


def plain_steps(model: nn.Module, loader: "DataLoader[Any]", optimiser: torch.optim.Optimizer) -> Iterator[int]:
    """The tutorial's loop, step by step; yields the images of each."""
    device = next(model.parameters()).device
    criterion = nn.CrossEntropyLoss()
    while True:
        for images, labels in loader:
            model.train()
            optimiser.zero_grad()
            loss = criterion(model(images.to(device)), labels.to(device))
            loss.backward()
            optimiser.step()
            yield len(labels)


class Comparison:
    """Both ways of training SimpleCNN on one data set."""

    def __init__(self, name: str, data_dir: Path, device: torch.device) -> None:
        self.name, self.device, self.steps = name, device, STEPS[device.type]
        self.dataset, self.recipe = load_dataset(name, data_dir), recipe_for(name)
        self.normalisation = Normalisation.from_dataset(
            self.dataset, CPU
        )  # of any device: other processes are given it
        self.transform = usual_transform(self.recipe, self.dataset.shape[1], self.normalisation)

    def loader(self, images: int, batch: int, workers: int) -> "DataLoader[Any]":
        split = self.dataset.train.subset(images)
        return DataLoader(OneByOne(split, self.transform), batch, shuffle=True, drop_last=True, num_workers=workers)

    def images(self, split: Split) -> Images:
        mean, std = (one.to(self.device) for one in (self.normalisation.mean, self.normalisation.std))
        return Images(split, Normalisation(mean, std), self.device)

    def model(self) -> nn.Module:
        return initialise(lambda: build_model(self.name), 0, self.device)

    def plain(self, workers: int) -> None:
        batch = self.recipe.batch_size
        model = build_model(self.name).to(self.device)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for _step, _images in zip(
            range(self.steps),
            plain_steps(model, self.loader(self.steps * batch, batch, workers), optimiser),
            strict=False,
        ):
            pass

    def ours(self) -> None:
        recipe = Recipe(**self.recipe.plain() | {"epochs": 1})
        split = self.dataset.train.subset(self.steps * recipe.batch_size)
        train(self.model(), self.images(split), load_labels(split, self.device), recipe, 0)

    def side(self, name: str) -> Side:
        """One of `SIDES`, in its process; the plain ones leave PyTorch as it is."""
        if name != "ours":
            return partial(self.plain, SIDES[name])
        set_up_process()
        return self.ours

    def floating_point_operations(self) -> float:
        """Of training on one image."""
        model, images = build_model(self.name), torch.zeros(2, *self.dataset.shape)
        return operations(lambda: model(images).sum().backward()) / 2

    def seconds_to_accuracy(self, ours: bool) -> tuple[float, float]:
        """Seconds of training until the held-out images are classified well enough, and how well they then are.

        Validation is read after every fifth of an epoch, and its time is not counted.
        """
        goal, train_images = ACCURACIES[self.device.type][self.name], len(self.dataset.train) - HELD_OUT
        shuffled = torch.randperm(len(self.dataset.train), generator=torch.Generator().manual_seed(0)).numpy()
        split, held = self.dataset.train.take(shuffled[:train_images]), self.dataset.train.take(shuffled[train_images:])
        images, labels = self.images(held), load_labels(held, self.device)

        def accuracy(model: nn.Module) -> float:
            found = (predict(model, images) == labels).float().mean().item()
            model.train()
            return found

        if ours:
            for epochs in range(
                1, MOST_EPOCHS + 1
            ):  # a one-cycle training ends when it is planned to: the shortest that suffices
                model, recipe = self.model(), Recipe(**self.recipe.plain() | {"epochs": epochs})
                trained = train(model, self.images(split), load_labels(split, self.device), recipe, 0)
                if (reached := accuracy(model)) >= goal:
                    return trained.seconds, reached
            return float("inf"), reached
        model = build_model(self.name).to(self.device)
        loader = DataLoader(OneByOne(split, self.transform), 128, shuffle=True, drop_last=True, num_workers=2)
        each, seconds, reached = len(split) // 128 // 5, 0.0, 0.0
        started = time.perf_counter()
        steps = plain_steps(model, loader, torch.optim.SGD(model.parameters(), lr=0.01))
        for done, _images in enumerate(steps, start=1):
            if done % each == 0:
                wait_for(self.device)
                seconds += time.perf_counter() - started
                reached = accuracy(model)
                if reached >= goal or seconds > MOST_SECONDS[self.device.type]:
                    break
                started = time.perf_counter()
        return (seconds if reached >= goal else float("inf")), reached


CPU = torch.device("cpu")


def main() -> None:
    parser = parser_of(__doc__, REPEATS)
    parser.add_argument(
        "--to-accuracy",
        nargs="?",
        const="too",
        choices=["too", "only"],
        help="time both to the same accuracy, too (minutes), or do nothing else",
    )
    options = parser.parse_args()
    device = resolve_device(options.device)
    if options.to_accuracy != "only":
        rates(options, device)
    if options.to_accuracy:
        to_accuracy(options, device)


def rates(options: argparse.Namespace, device: torch.device) -> None:
    kind = torch.bfloat16 if has_bfloat16(device.type) else torch.float32
    limit, goal = largest_product_rate(device, kind), GOALS[device.type]
    rows, facts = [], []
    for name in DATASETS:
        one = Comparison(name, options.data_dir, device)
        with apart({side: partial(one.side, side) for side in SIDES}, device) as processes:
            timings = processes.alternated(options.repeats)
        per_second = {side: one.steps * one.recipe.batch_size / timing.median for side, timing in timings.items()}
        plain = max(per_second["plain"], per_second["plain, 2 workers"])
        operations = one.floating_point_operations()
        share = per_second["ours"] * operations / limit
        facts.append(
            {
                "dataset": name,
                "seconds": {side: list(timing.seconds) for side, timing in timings.items()},
                "images_per_second": per_second,
                "ratio": per_second["ours"] / plain,
                "operations_per_image": operations,
                "share_of_matrix_product": share,
            }
        )
        cells = [f"{per_second[side]:,.0f}" for side in SIDES]
        rows.append([name, *cells, goal_cell(per_second["ours"] / plain, goal), f"{share:.0%}"])
    head = ["SimpleCNN", "ours, images/s", "plain loop", "plain loop, 2 workers", "ratio to the faster", "of the limit"]
    batches = ", ".join(f"{name} {recipe_for(name).batch_size}" for name in DATASETS)
    title = (
        f"Training: {STEPS[device.type]} steps (batch: {batches}), median of {options.repeats}; "
        f"limit: a large matrix product, {limit / 1e12:.2f} · 10¹² operations/s"
    )
    about = {"device": device_name(device), "limit": limit, "rows": facts}
    published("training", title, head, rows, about, options.output_dir, WHY.get(device.type, ""))


def to_accuracy(options: argparse.Namespace, device: torch.device) -> None:
    rows, facts, most = [], [], MOST_SECONDS[device.type]
    for name in DATASETS:
        one, goal = Comparison(name, options.data_dir, device), SECONDS_GOALS.get(device.type, {}).get(name)
        (seconds, reached), (plain, plain_reached) = (one.seconds_to_accuracy(ours) for ours in (True, False))
        said = f"{plain:.0f}" if plain < float("inf") else f"more than {most} ({plain_reached:.3f})"
        ratio = f"{plain / seconds:.1f}" if plain < float("inf") else f"more than {most / seconds:.1f}"
        aim = "" if goal is None else f"{goal:g}: {'reached' if seconds < goal else 'missed'}"
        accuracy = ACCURACIES[device.type][name]
        rows.append([name, f"{accuracy:.2f}", f"{seconds:.1f} ({reached:.3f})", aim, said, ratio])
        facts.append(
            {"dataset": name, "accuracy": accuracy, "ours": [seconds, reached], "plain": [plain, plain_reached]}
        )
    head = ["SimpleCNN", "held-out accuracy", "ours, s", "aimed at, s", "the original's recipe, s", "ratio"]
    title = f"Training to an accuracy on {HELD_OUT:,} held-out training images"
    published("to_accuracy", title, head, rows, {"device": device_name(device), "rows": facts}, options.output_dir)


if __name__ == "__main__":
    main()
