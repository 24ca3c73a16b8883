"""Speed of selectivity beside a plain loop and Quantus's pixel flipping: `python -m benchmarks.selectivity`.

All remove pixels by the gradient from the same MNIST images. The plain loop does what selectivity does, one image at a
time. Quantus (where it is installed) explains each image once, and removes 16 pixels at each of its 49 steps: that is
the deletion curve of `--eval=insertion-deletion`, which is timed beside it with the same pixels and steps.
"""

import importlib.util
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attribution import build_method
from attribution.fusing import fuse_batchnorm
from attribution.maps import compute_maps
from benchmarks.apart import apart
from benchmarks.timing import Side, goal_cell, largest_convolution_rate, operations, parser_of, published
from evaluation.configs import SelectivityConfig
from evaluation.masking import importance, ranks
from evaluation.protocol import TestImages
from evaluation.removal import RemovalEvaluation, measure
from evaluation.selectivity import remove_one_by_one
from experiments.pipeline import Pipeline
from experiments.store import Folders
from training.classifier import restore
from training.config import TrainingConfig
from training.device import device_name, disable_tf32, resolve_device, set_up_process
from training.inputs import BATCH, Images, load_labels
from training.recipe import recipe_for

GOAL = 10.0
IMAGES, REMOVALS, REPEATS = 250, 50, 3
SLOW = 10  # times fewer images for the others
PIXELS_AT_ONCE = 16  # of Quantus: 784 / 16 = 49 steps


def ours(model: nn.Module, images: Tensor, labels: Tensor, fill: Tensor) -> list[Tensor]:
    """The pixels removed from each image."""
    method = build_method("VBP", model)
    settings = SelectivityConfig(len(images), REMOVALS)
    index = torch.arange(len(images), device=images.device)
    return [
        remove_one_by_one(method, model, images[rows], labels[rows], index[rows], fill, settings)[2]
        for rows in index.split(BATCH)
    ]


def ours_explained_once(model: nn.Module, images: Images, labels: Tensor, target: Tensor) -> None:
    """One map for each image, and both curves over Quantus's steps."""
    index = torch.arange(len(labels), device=labels.device)
    batches = index.split(BATCH)
    method = build_method("VBP", model)
    maps = torch.cat([compute_maps(method, images.batch(rows), target[rows]) for rows in batches])
    order = ranks(importance(maps, maps.shape[1], "pixel", "signed"), index)
    pixels = order[0].numel()
    steps = [step / pixels for step in range(PIXELS_AT_ONCE, pixels + 1, PIXELS_AT_ONCE)]
    config = RemovalEvaluation("insertion-deletion").configure(ratios=tuple(steps), fill="mean")
    measure(model, TestImages(images, labels, index, images.normalisation), target, order, config)


def plain(model: nn.Module, images: Tensor, fill: Tensor) -> list[list[int]]:
    """The same as everyone would write it first; equal values are removed in the order of their places."""
    removed = []
    for image in images:
        left, places = image.clone().unsqueeze(0), []
        remaining = torch.ones(image[0].numel(), dtype=torch.bool, device=image.device)
        target = model(left).argmax()
        for _ in range(REMOVALS):
            left.requires_grad_(True)
            score = model(left)[0, target]
            (gradient,) = torch.autograd.grad(score, left)
            left = left.detach()
            importance = gradient.sum(dim=1).flatten().masked_fill(~remaining, -torch.inf)
            place = int(importance.argmax())
            remaining[place] = False
            left[0, :, place // image.shape[2], place % image.shape[2]] = fill
            model(left).softmax(dim=1)[0, target].item()
            places.append(place)
        removed.append(places)
    return removed


def quantus_flipping(model: nn.Module, images: Tensor, target: Tensor) -> None:
    import quantus  # only in an environment for benchmarks

    method = build_method("VBP", model)
    maps = method.attribute(images, target).cpu().numpy()
    metric = quantus.PixelFlipping(features_in_step=PIXELS_AT_ONCE, perturb_baseline="mean", disable_warnings=True)
    batch: dict[str, Any] = {"x_batch": images.cpu().numpy(), "y_batch": target.cpu().numpy(), "a_batch": maps}
    scores = metric(model=model, **batch, device=str(images.device), batch_size=len(images))
    assert np.isfinite(np.asarray(scores)).all()


@dataclass(frozen=True)
class Sides:
    """Each side of both comparisons, made ready in a process of its own."""

    data_dir: Path
    output_dir: Path
    device: torch.device

    def pipeline(self) -> Pipeline:
        order = TrainingConfig("mnist", None, 0, recipe_for("mnist"))
        return Pipeline(order, Folders.below(self.output_dir, self.data_dir), self.device)

    def __call__(self, name: str) -> Side:
        disable_tf32()
        pipeline = self.pipeline()
        test = pipeline.whole.test.subset(IMAGES)
        inputs = Images(test, pipeline.normalisation, self.device)
        images = inputs.batch(torch.arange(len(test), device=self.device))
        labels, fill = load_labels(test, self.device), pipeline.normalisation.fill("mean")
        whole, few = restore(pipeline.checkpoint, self.device), images[: IMAGES // SLOW].contiguous()
        with torch.no_grad():
            target = whole(images).argmax(dim=1)
        if name == "plain":
            return lambda: plain(whole, few, fill)
        if name == "quantus":
            return lambda: quantus_flipping(whole, few, target[: len(few)])
        set_up_process()
        model = fuse_batchnorm(whole)
        if name == "once":
            return lambda: ours_explained_once(model, inputs, labels, target)
        return lambda: ours(model, images, labels, fill)


def main() -> None:
    options = parser_of(__doc__, REPEATS).parse_args()
    device = resolve_device(options.device)
    there = importlib.util.find_spec("quantus") is not None
    if not there:
        print("Quantus is not installed here: left out (make benchmark has it)")
    build = Sides(options.data_dir, options.output_dir, device)
    _checkpoint = build.pipeline().checkpoint  # trained here, where it is not, before the others look for it
    names = [name for _words, *pair, _what in COMPARED for name in pair if there or name not in NEED_QUANTUS]
    with apart({name: partial(build, name) for name in names}, device) as sides:
        timings = sides.alternated(options.repeats)
    curves, limit = {"ours": IMAGES, "once": 2 * IMAGES}, largest_convolution_rate(device)  # most and least first
    rates = {name: curves.get(name, IMAGES // SLOW) / timing.median for name, timing in timings.items()}
    needed = {ours: operations(build(ours)) / curves[ours] for _words, ours, side, _what in COMPARED if side in rates}
    rows = [
        [
            *(words, what, f"{rates[ours]:.1f}", f"{rates[side]:.1f}", goal_cell(rates[ours] / rates[side], GOAL)),
            f"{rates[ours] * needed[ours] / limit:.0%}",
        ]
        for words, ours, side, what in COMPARED
        if side in rates
    ]
    bound = f"limit: a large convolution, {limit / 1e12:.2f} · 10¹² operations/s"
    title = f"Selectivity by VBP, MNIST, {REMOVALS} removals: median of {options.repeats}; {bound}"
    facts = {"device": device_name(device), "limit": limit, "images_per_second": rates, "operations_per_curve": needed}
    head = ["evaluation", "beside", "ours, curves/s", "theirs, curves/s", "ratio", "of the limit"]
    published("selectivity", title, head, rows, facts, options.output_dir, WHY.get(device.type, ""))


WHY = {
    "cpu": "every removal needs a pass forward and one back for each image. The plain loop makes them image by image; "
    "what there is to gain is the rate of batches: half of their time goes into convolutions at nearly the limit, "
    "the rest is bound by memory. Deletion is passes forward alone, which Quantus makes in batches, too."
}
COMPARED = (
    ("selectivity", "ours", "plain", "a plain loop over images"),
    ("deletion, explained once", "once", "quantus", "Quantus, PixelFlipping, 49 steps of 16 pixels"),
)
NEED_QUANTUS = ("once", "quantus")


if __name__ == "__main__":
    main()
