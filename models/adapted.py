"""A network of a user's own, made to fit: it returns logits alone, and gets its images in a layout that it can read."""

from typing import Any

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.outputs import find_logits


class LogitsAlone:
    """Put before the class of a network whose output holds more than the logits."""

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        return find_logits(super().forward(*arguments, **options))  # type: ignore[misc]


class Contiguous:
    """Put before the class of a network that reads its activations with `view`, which channels_last forbids."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images.contiguous())  # type: ignore[misc]

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        """Whatever is done to the weights, such as `.to(memory_format=…)`: they stay contiguous."""
        changed = super()._apply(*arguments, **options)  # type: ignore[misc]
        for weight in changed.parameters():
            if not weight.is_contiguous():
                weight.data = weight.data.contiguous()
        return changed


@torch.no_grad()
def adapted(model: nn.Module, shape: tuple[int, int, int], name: str) -> nn.Module:
    """Return `model` in single precision, changed in class alone where that is needed.

    Lazy layers get their weights here.

    Args:
        shape: (C, H, W) of an image.
        name: for messages.

    Raises:
        InputError: it fails on such images, or returns no logits.
    """
    modes = [(part, part.training) for part in model.modules()]
    images = torch.zeros(2, *shape)
    output = _call(model.float().eval(), images, name)  # which makes the weights of lazy layers
    buffers = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        find_logits(output)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    if not isinstance(output, Tensor):
        _change_class(model, LogitsAlone)
    try:
        model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        _change_class(model, Contiguous)
        model.to(memory_format=torch.contiguous_format)
    model.load_state_dict(buffers)
    for part, training in modes:
        part.training = training
    return model


def _call(model: nn.Module, images: Tensor, name: str) -> Any:
    try:
        return model(images)
    except Exception as error:  # whatever somebody's forward pass raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{name} fails on images of {tuple(images.shape[1:])}: {reason}") from error


def _change_class(model: nn.Module, before: type) -> None:
    kind = type(model)
    model.__class__ = type(kind.__name__, (before, kind), {"__module__": kind.__module__})
