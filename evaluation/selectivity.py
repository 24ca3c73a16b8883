"""Selectivity: the class's score while the most important pixels are removed one after the other.

After Montavon et al. 2018 (arXiv 1706.07979, section 7.2) and the original White Box: without retraining, and with a
new map of the image after each removal. All images of a step go through the network together.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from attribution.maps import compute_maps
from attribution.method import Method
from attribution.network import require_numbers
from attribution.pixel_hash import pixel_hash
from attribution.spec import MethodSpec
from common.errors import InputError
from evaluation.configs import SelectivityConfig
from evaluation.masking import TIE_SEED, importance, ranks
from evaluation.protocol import Artefacts, Evaluation, Work
from evaluation.tasks import OnImages
from training.inputs import Normalisation

Array = npt.NDArray[Any]

KEEP_EVERY = 5  # steps between the images and maps in the file


def remove_one_by_one(
    method: Method,
    model: nn.Module,
    inputs: Tensor,
    label: Tensor,
    index: Tensor,
    fill: Tensor,
    config: SelectivityConfig,
    on_step: Callable[[int], object] = lambda images: None,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Remove the pixels of one batch.

    Args:
        inputs: (N, C, H, W) as the network sees them; not changed.
        label, index: (N,) int64; the images' numbers decide on the order of equal pixels.
        fill: (C,), replaces a pixel.
        on_step: called with N after each step.

    Returns:
        score, correct and pixel as `Selectivity.measure` returns them; after every `KEEP_EVERY`th step all images, as
        the network sees them, and their maps.
    """
    n, channels, height, width = inputs.shape
    images = inputs.clone(memory_format=torch.channels_last)
    remaining = torch.ones(n, height * width, dtype=torch.bool, device=inputs.device)
    tie = pixel_hash(index, height * width, TIE_SEED)
    rows = torch.arange(n, device=inputs.device).view(-1, 1)
    count = pixels_removed(config.removals, config.share, height * width)
    sign = 1 if config.order == "MoRF" else -1
    scores, correct, pixels, snapshots, maps = [], [], [], [], []
    with torch.no_grad():
        logits = model(images)
    target = logits.argmax(dim=1) if config.explain == "prediction" else label
    is_reusable = False  # whether the logits recorded from the method are those of the network
    for step in range(config.removals + 1):
        last = step == config.removals
        recorded = None
        if not last or step % KEEP_EVERY == 0:
            with record_logits(model, images) as parts:
                attribution = compute_maps(method, images, target)
            values = importance(attribution, channels, "pixel", config.rank).flatten(1)
            recorded = torch.cat(parts) if parts and sum(map(len, parts)) == n else None
        if step == 0:
            is_reusable = recorded is not None and torch.allclose(recorded, logits, rtol=1e-3, atol=1e-3)
        elif recorded is not None and is_reusable:
            logits = recorded
        else:
            with torch.no_grad():
                logits = model(images)
        scores.append(logits.softmax(dim=1).gather(1, target.view(-1, 1)).squeeze(1))
        require_numbers(scores[-1])
        correct.append(logits.argmax(dim=1) == label)
        if step % KEEP_EVERY == 0:
            snapshots.append(images.clone())
            maps.append(values.view(n, height, width))
        if last:
            break
        pixel = pick_pixels(sign * values, remaining, tie, index, count)
        pixels.append(pixel)
        remaining.scatter_(1, pixel, False)
        images[rows, :, pixel // width, pixel % width] = fill
        on_step(n)
    return torch.stack(scores, 1), torch.stack(correct, 1), torch.cat(pixels, 1), snapshots, maps


def pixels_removed(removals: int, share: float, pixels: int) -> int:
    """Return how many of an image's `pixels` each removal takes.

    Raises:
        InputError: all removals take more than there are.
    """
    count = max(1, round(share * pixels))
    if count * removals > pixels:
        amount = f"{removals} removals of {count} pixels" if count > 1 else f"{removals} removals"
        raise InputError(f"{amount} are more than an image's {pixels} pixels: give fewer --removals")
    return count


@contextmanager
def record_logits(model: nn.Module, images: Tensor) -> Iterator[list[Tensor]]:
    """Collect in the `with` block the logits of `images`, as long as `model` is called with exactly these, in turn.

    A method that begins with a gradient at the image itself computes them, so that they need no second pass.
    """
    parts: list[Tensor] = []

    def record(_module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        done = sum(map(len, parts))
        if done == len(images):
            return
        batch = arguments[0] if len(arguments) == 1 else None
        for start in (done, 0):  # the earlier parts may have been a trial of the first image
            if isinstance(batch, Tensor) and torch.equal(batch, images[start : start + len(batch)]):
                parts[:] = [*(parts if start else []), output.detach()]
                return
        parts.clear()

    hook = model.register_forward_hook(record)
    try:
        yield parts
    finally:
        hook.remove()


def pick_pixels(values: Tensor, remaining: Tensor, tie: Tensor, index: Tensor, count: int = 1) -> Tensor:
    """Return the remaining positions (N, count) of the largest values in each row of (N, P).

    Args:
        tie: (N, P), decides on equal values; the order of `masking.ranks` of the images `index`.
    """
    candidates = values.masked_fill(~remaining, -torch.inf)
    if count > 1:
        places = ranks(candidates.view(*values.shape, 1, 1), index).flatten(1).masked_fill(~remaining, values.shape[1])
        return places.topk(count, dim=1, largest=False).indices
    largest = candidates == candidates.amax(dim=1, keepdim=True)
    return tie.masked_fill(~(largest & remaining), -1).argmax(dim=1, keepdim=True)


class Selectivity(Evaluation):
    """Removal of pixel after pixel by a map that is made anew each time."""

    name = "selectivity"
    config = SelectivityConfig
    needs_maps = False
    lowest_first = True

    def images(self, config: SelectivityConfig) -> int:
        return config.limit_test * config.removals

    def work(self, config: SelectivityConfig) -> Work:
        kept_last = config.removals % KEEP_EVERY == 0  # the map of the last images
        return Work(
            maps=config.limit_test * (config.removals + kept_last), logits=config.limit_test * (config.removals + 1)
        )

    def measure(
        self, config: SelectivityConfig, method: MethodSpec, artefacts: Artefacts, on_images: OnImages
    ) -> dict[str, Array]:
        """Return the course of each image.

        Returns:
            score: (N, removals + 1) float32, softmax probability of the explained class; column 0 is the whole image.
            correct: (N, removals + 1) bool, whether the prediction is the label.
            pixel: (N, removals · pixels that each removes) int32, row · width + column of each removed pixel.
            images: (N, kept, C, H, W) uint8, every `KEEP_EVERY` removals, the first one whole.
            maps: (N, kept, H, W) float16, values that rank those images' pixels, divided by the largest absolute value.
            label, index: (N,) int64.
        """
        test, normalisation = artefacts.test, artefacts.test.normalisation
        explainer, model = artefacts.explainer(method, artefacts.network())
        fill = normalisation.fill(config.fill)
        parts = []
        for rows in test.batches():
            batch = test.images.batch(rows).contiguous(memory_format=torch.channels_last)
            score, correct, pixel, images, maps = remove_one_by_one(
                *(explainer, model, batch, test.labels[rows], test.index[rows], fill, config, on_images)
            )
            levels = to_uint8(images, normalisation)
            values = torch.stack(maps, 1)
            largest = values.abs().amax(dim=(2, 3), keepdim=True)
            scaled = (values / torch.where(largest > 0, largest, 1)).half()
            parts.append([part.cpu().numpy() for part in (score, correct, pixel.int(), levels, scaled)])
        names = ("score", "correct", "pixel", "images", "maps")
        arrays = {name: np.concatenate(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)}
        return arrays | {"label": test.labels.cpu().numpy(), "index": test.index.cpu().numpy()}


def to_uint8(images: list[Tensor], normalisation: Normalisation) -> Tensor:
    """Convert images as the network sees them, (n, C, H, W) each, to (n, kept, C, H, W) uint8."""
    mean, std = normalisation.mean.view(-1, 1, 1), normalisation.std.view(-1, 1, 1)
    return ((torch.stack(images, 1) * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
