"""What a model of somebody's own gives for a fixed input, of which its code is known again."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from common.hashing import json_sha256, rounded_sha256

IMAGES = 2
DIGITS = {torch.float64: 6, torch.float32: 2}
"""Decimals that are the same on every processor."""


def results(build: Callable[[], nn.Module], shape: tuple[int, int, int]) -> list[str]:
    """Sums of a new model: names and shapes of its weights, and its outputs in evaluation and in training.

    What the model refuses is left out. With double precision the last digits, in which processors differ, are far
    behind those that are summed; a model that takes only single precision is summed up by means and deviations.
    """
    model = build()
    sums = []
    for mode in (_evaluated, _trained, _penalised):
        for dtype in DIGITS:
            try:
                images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
                parts = _tensors(mode(model.to(dtype), images.to(next(model.parameters()).device)))
                sums.append(json_sha256([mode.__name__, *(_summed(part, dtype) for part in parts)]))
                break
            except Exception:  # of whatever kind: somebody else's code
                continue
    weights = {name: list(value.shape) for name, value in model.state_dict().items()}
    return [*sums, json_sha256(weights)]


def _summed(values: Tensor, dtype: torch.dtype) -> str:
    values = values.detach().cpu().double()
    if dtype == torch.float32:
        values = torch.stack([values.mean(), values.std(correction=0)])
    return rounded_sha256(values.numpy(), DIGITS[dtype])


@torch.no_grad()
def _evaluated(model: nn.Module, images: Tensor) -> Any:
    return model.eval()(images)


@torch.no_grad()
def _trained(model: nn.Module, images: Tensor) -> Any:
    return model.train()(images)


@torch.no_grad()
def _penalised(model: nn.Module, images: Tensor) -> Any:
    loss: Any = model.train().training_loss
    return loss(images, torch.zeros(len(images), dtype=torch.int64, device=images.device), 0.1)


def _tensors(output: Any) -> Iterator[Tensor]:
    """All tensors in what a model returns."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for one in output.values():
            yield from _tensors(one)
    elif isinstance(output, list | tuple):
        for one in output:
            yield from _tensors(one)
