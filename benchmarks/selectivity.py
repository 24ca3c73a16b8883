"""How fast selectivity is beside a plain loop and Quantus's pixel flipping: `python -m benchmarks.selectivity`.

All remove pixels by the gradient from the same MNIST images. The plain loop does what this project does, one image at
a time. Quantus (where it is installed) explains each image once, and removes 16 pixels at each of its 49 steps: less
work.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attribution import build_method
from attribution.folding import folded
from attribution.maps import BATCH
from benchmarks.timing import Side, alternated, goal_cell, parser_of, published
from evaluation.pipeline import Folders, Pipeline
from evaluation.selectivity import Settings, remove_one_by_one
from training.classifier import Order, restore
from training.device import device_name, resolve_device
from training.inputs import Images, labels_of
from training.recipe import recipe_for

GOAL = 10.0
IMAGES, REMOVALS, REPEATS = 250, 50, 3
SLOW = 10  # times fewer images for the others
PIXELS_AT_ONCE = 16  # of Quantus: 784 / 16 = 49 steps


def ours(model: nn.Module, images: Tensor, labels: Tensor, fill: Tensor) -> list[Tensor]:
    """The pixels removed from each image."""
    method = build_method("VBP", model)
    settings = Settings(len(images), REMOVALS)
    index = torch.arange(len(images), device=images.device)
    return [
        remove_one_by_one(method, model, images[rows], labels[rows], index[rows], fill, settings)[2]
        for rows in index.split(BATCH)
    ]


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


def main() -> None:
    options = parser_of(__doc__, REPEATS).parse_args()
    device = resolve_device(options.device)
    pipeline = Pipeline(
        Order("mnist", None, 0, recipe_for("mnist")), Folders.below(options.output_dir, options.data_dir), device
    )
    test = pipeline.whole.test.limited(IMAGES)
    images = Images(test, pipeline.normalisation, device).batch(torch.arange(len(test), device=device))
    labels, fill = labels_of(test, device), pipeline.normalisation.fill("mean")
    whole = restore(pipeline.checkpoint, device)
    model, few = folded(whole), images[: IMAGES // SLOW].contiguous()
    with torch.no_grad():
        target = whole(few).argmax(dim=1)
    sides: dict[str, Side] = {
        "ours": lambda: ours(model, images, labels, fill),
        "plain": lambda: plain(whole, few, fill),
    }
    try:
        quantus_flipping(whole, few, target)
        sides["quantus"] = lambda: quantus_flipping(whole, few, target)
    except ImportError:
        print("Quantus is not installed here: left out (make benchmark has it)")
    timings = alternated(sides, options.repeats, device)
    rates = {name: (IMAGES if name == "ours" else IMAGES // SLOW) / timing.median for name, timing in timings.items()}
    rows, names = [], {"plain": "plain loop over images", "quantus": "Quantus, PixelFlipping, 49 steps of 16 pixels"}
    for side, words in names.items():
        if side in rates:
            rows.append([words, f"{rates[side]:.1f}", goal_cell(rates["ours"] / rates[side], GOAL)])
    about = f"ours {rates['ours']:.1f} images/s; median of {options.repeats}"
    title = f"Selectivity by VBP, MNIST, {REMOVALS} removals: {about}"
    facts = {"device": device_name(device), "images_per_second": rates}
    published("selectivity", title, ["beside", "images/s", "ratio"], rows, facts, options.output_dir)


if __name__ == "__main__":
    main()
