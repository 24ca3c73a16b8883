"""A trained classifier that gets used to missing pixels, wherever they are missing.

The fine-tuning of F-Fidelity (Zheng et al., ICLR 2025, arXiv 2410.02970, section 4): random masks, never a method's, so
that nothing of any explanation leaks into the network.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from data import Dataset
from training.checkpoint import Checkpoint, versions
from training.classifier import restore
from training.device import device_name
from training.inputs import Images, Normalisation, labels_of
from training.loop import predict, seed_for, train
from training.recipe import Recipe


class RandomlyMasked:
    """Images of each of which a random part is replaced, up to a fraction; another part at every call."""

    def __init__(self, images: Images, most: float, fill: Tensor, seed: int) -> None:
        """
        Args:
            most: β, the largest fraction of the pixels; each image's is drawn evenly between none and this.
            fill: (C,).
        """
        self.images, self.most, self.fill = images, most, fill
        self.border = images.border
        self.generator = torch.Generator().manual_seed(seed)  # on the CPU, so that every device sees the same draws

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        images = self.images.batch(index)
        n, _channels, height, width = images.shape
        order = torch.rand(n, height * width, generator=self.generator).to(images.device).argsort(dim=1)
        counts = (torch.rand(n, 1, generator=self.generator) * self.most * height * width).round().to(images.device)
        removed = (order < counts).view(n, 1, height, width)
        return torch.where(removed, self.fill.view(-1, 1, 1), images)


def finetuning(
    checkpoint: Checkpoint, recipe: Recipe, most: float, fill: str, limit_train: int | None
) -> dict[str, Any]:
    """What decides on a fine-tuned network, for its record."""
    known = checkpoint.metadata
    facts = {name: known[name] for name in ("dataset", "dataset_sum", "model", "seed", "model_code") if name in known}
    settings = {"recipe": recipe.plain(), "most": most, "fill": fill, "limit_train": limit_train}
    return facts | settings | {"classifier_sum": checkpoint.sum}


def finetune(
    checkpoint: Checkpoint,
    dataset: Dataset,
    wanted: dict[str, Any],
    recipe: Recipe,
    device: torch.device,
    on_images: Callable[[int], object] = lambda images: None,
) -> Checkpoint:
    """Go on training a classifier on randomly masked images.

    Args:
        dataset: whole; `wanted` (of `finetuning`) says how many of its training images are used.

    Raises:
        InputError: the training diverged.
    """
    normalisation = Normalisation.of(dataset, device)
    training = dataset.train.subset(wanted["limit_train"])
    seed = seed_for(wanted["seed"], "finetuning")
    images = Images(training, normalisation, device)
    inputs = RandomlyMasked(images, wanted["most"], normalisation.fill(wanted["fill"]), seed)
    model = restore(checkpoint, device)
    try:
        trained = train(
            model, inputs, labels_of(training, device), recipe, seed, on_step=lambda images, _: on_images(images)
        )
    except InputError as error:
        raise InputError(f"fine-tuning for F-Fidelity: {error}") from error
    correct = predict(model, Images(dataset.test, normalisation, device)).cpu().numpy() == dataset.test.labels
    facts: dict[str, Any] = {"test_accuracy": float(correct.mean()), "seconds": round(trained.seconds, 2)}
    facts |= {"device": device_name(device), "versions": versions()}
    return Checkpoint.of(model, wanted | facts)
