"""Selectivity: remove the most important pixel, look again, remove the next; does the class's score fall?

After Montavon et al. 2018 (arXiv 1706.07979, section 7.2) and the original White Box: no retraining, and the map is
made anew of each image as it then is. All images of a step go through the network together.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from attribution.maps import BATCH, compute_maps
from attribution.method import Method
from attribution.pixel_hash import pixel_hash
from attribution.spec import MethodSpec
from evaluation.configs import SelectivityConfig
from evaluation.masking import TIE_SEED, importance
from evaluation.protocol import Artefacts, Evaluation
from evaluation.tasks import OnImages

Array = npt.NDArray[Any]

KEEP_EVERY = 5  # steps: images and maps in the file


@dataclass(frozen=True)
class Removed:
    """What happened to some images.

    Attributes:
        score: (N, removals + 1) float32, softmax probability of the explained class; column 0 is the whole image.
        correct: (N, removals + 1) bool, whether the prediction is the label.
        pixel: (N, removals) int32, row · width + column of each removed pixel.
        images: (N, kept, C, H, W) uint8, every `KEEP_EVERY` removals, the first one whole.
        maps: (N, kept, H, W) float16, what those images' pixels were ranked by, divided by the largest absolute value.
    """

    score: Array
    correct: Array
    pixel: Array
    images: Array
    maps: Array


def remove_one_by_one(
    method: Method,
    model: nn.Module,
    inputs: Tensor,
    label: Tensor,
    index: Tensor,
    fill: Tensor,
    settings: SelectivityConfig,
    on_step: Callable[[int], object] = lambda images: None,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    """The loop itself, for one batch.

    Args:
        inputs: (N, C, H, W) as the network sees them; not changed.
        label, index: (N,) int64; the images' numbers, on which the order of equal pixels depends.
        fill: (C,), what replaces a pixel.
        on_step: told of N images after each step.

    Returns:
        score, correct and pixel as in `Removed`; the kept images as the network sees them, and their maps.
    """
    n, channels, height, width = inputs.shape
    images = inputs.clone(memory_format=torch.channels_last)
    remaining = torch.ones(n, height * width, dtype=torch.bool, device=inputs.device)
    tie = pixel_hash(index, height * width, TIE_SEED)
    rows = torch.arange(n, device=inputs.device)
    sign = 1 if settings.order == "MoRF" else -1
    scores, correct, pixels, kept, maps = [], [], [], [], []
    with torch.no_grad():
        logits = model(images)
    target = logits.argmax(dim=1) if settings.explain == "prediction" else label
    says_the_same = False  # the network, when a method asks it
    for step in range(settings.removals + 1):
        last = step == settings.removals
        said = None
        if not last or step % KEEP_EVERY == 0:
            with record_logits(model, images) as answers:
                attribution = compute_maps(method, images, target)
            values = importance(attribution, channels, "pixel", settings.rank).flatten(1)
            said = torch.cat(answers) if answers and sum(map(len, answers)) == n else None
        if step == 0:
            says_the_same = said is not None and torch.allclose(said, logits, rtol=1e-3, atol=1e-3)
        elif said is not None and says_the_same:
            logits = said
        else:
            with torch.no_grad():
                logits = model(images)
        scores.append(logits.softmax(dim=1).gather(1, target.view(-1, 1)).squeeze(1))
        correct.append(logits.argmax(dim=1) == label)
        if step % KEEP_EVERY == 0:
            kept.append(images.clone())
            maps.append(values.view(n, height, width))
        if last:
            break
        pixel = pick_pixel(sign * values, remaining, tie)
        pixels.append(pixel)
        remaining[rows, pixel] = False
        images[rows, :, pixel // width, pixel % width] = fill
        on_step(n)
    return torch.stack(scores, 1), torch.stack(correct, 1), torch.stack(pixels, 1), kept, maps


@contextmanager
def record_logits(model: nn.Module, images: Tensor) -> Iterator[list[Tensor]]:
    """In the `with` block, the logits that `model` gives, as long as it is asked about exactly `images`, in turn.

    A method that begins with a gradient at the image itself has them, and they need not be computed again.
    """
    answers: list[Tensor] = []

    def note(_module: nn.Module, inputs: tuple[Any, ...], answer: Any) -> None:
        done = sum(map(len, answers))
        if done == len(images):
            return
        asked = inputs[0] if len(inputs) == 1 else None
        for start in (done, 0):  # what came before may have been a trial of the first image
            if isinstance(asked, Tensor) and torch.equal(asked, images[start : start + len(asked)]):
                answers[:] = [*(answers if start else []), answer.detach()]
                return
        answers.clear()

    hook = model.register_forward_hook(note)
    try:
        yield answers
    finally:
        hook.remove()


def pick_pixel(values: Tensor, remaining: Tensor, tie: Tensor) -> Tensor:
    """The remaining position of the largest value in each row of (N, P); among equal ones that of the largest tie."""
    open_values = values.masked_fill(~remaining, -torch.inf)
    largest = open_values == open_values.amax(dim=1, keepdim=True)
    return tie.masked_fill(~(largest & remaining), -1).argmax(dim=1)


class Selectivity(Evaluation):
    """Remove pixel after pixel by a map that is made anew each time."""

    name = "selectivity"
    config = SelectivityConfig
    needs_maps = False
    lowest_first = True

    def images(self, settings: SelectivityConfig) -> int:
        return settings.limit_test * settings.removals

    def measure(
        self, settings: SelectivityConfig, method: MethodSpec, artefacts: Artefacts, on_images: OnImages
    ) -> dict[str, Array]:
        """Return the fields of `Removed`, and the labels and the index of the images."""
        test = artefacts.test
        explainer, model = artefacts.explainer(method, artefacts.network())
        fill = test.normalisation.fill(settings.fill)
        parts = []
        for rows in torch.arange(len(test.labels), device=artefacts.device).split(BATCH):
            batch = test.images.batch(rows).contiguous(memory_format=torch.channels_last)
            *measured, images, maps = remove_one_by_one(
                *(explainer, model, batch, test.labels[rows], test.index[rows], fill, settings, on_images)
            )
            arrays = [values.cpu().numpy() for values in measured]
            parts.append((*arrays, to_uint8(images, test.normalisation), relative(maps)))
        score, correct, pixel, *kept = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        removed = Removed(score, correct, pixel.astype(np.int32), *kept)
        return asdict(removed) | {"label": test.labels.cpu().numpy(), "index": test.index.cpu().numpy()}


def to_uint8(kept: list[Tensor], normalisation: Any) -> Array:
    """Images as the network sees them, (n, C, H, W) each, -> (n, kept, C, H, W) uint8."""
    mean, std = normalisation.mean.view(-1, 1, 1), normalisation.std.view(-1, 1, 1)
    shown = ((torch.stack(kept, 1) * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return shown.cpu().numpy()


def relative(maps: list[Tensor]) -> Array:
    """(n, H, W) each -> (n, kept, H, W) float16, each divided by its largest absolute value."""
    values = torch.stack(maps, 1)
    largest = values.abs().amax(dim=(2, 3), keepdim=True)
    return (values / torch.where(largest > 0, largest, 1)).half().cpu().numpy()
