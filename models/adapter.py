"""Adapt a user's network: return logits alone, and pass images in a memory layout that it can read."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import ScriptModule

from common.errors import InputError
from common.outputs import find_logits, require_logits


class LogitsOnly:
    """Mixin for a network whose output holds more than the logits."""

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        return find_logits(super().forward(*arguments, **options))  # type: ignore[misc]


class ContiguousLayout:
    """Mixin for a network that calls `view` on its activations, which channels_last forbids."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images.contiguous())  # type: ignore[misc]

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        """Keep weights contiguous through `.to(memory_format=…)`."""
        model = super()._apply(*arguments, **options)  # type: ignore[misc]
        for weight in model.parameters():
            if not weight.is_contiguous():
                weight.data = weight.data.contiguous()
        return model


class TwoClasses:
    """Mixin for a network with one logit z: softmax of the logits −z/2 and z/2 is 1 − sigmoid(z) and sigmoid(z).

    Of the logits 0 and z all maps of the first class would be zero.
    """

    def forward(self, *arguments: Any, **options: Any) -> Tensor:
        logit = find_logits(super().forward(*arguments, **options))  # type: ignore[misc]
        return torch.cat([-logit / 2, logit / 2], dim=1)


class CopiedImages:
    """Mixin for a network that changes its images in place."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images.clone())  # type: ignore[misc]


class GreyAsColour:
    """Mixin for a network of three channels, which sees a grey image as three equal channels."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images.repeat(1, 3, 1, 1))  # type: ignore[misc]


def repeat_grey(model: nn.Module) -> nn.Module:
    """Let a network of three channels take images (N, 1, H, W)."""
    _add_mixin(model, GreyAsColour)
    return model


@torch.no_grad()
def adapt_model(model: nn.Module, shape: tuple[int, int, int], name: str) -> nn.Module:
    """Return `model` in float32, with a mixin before its class where needed; initialise lazy layers.

    Args:
        shape: (C, H, W) of an image.
        name: for messages.

    Raises:
        InputError: it fails on such images, returns no logits, or finds several labels at once.
    """
    require_one_label(model, name)
    modes = [(module, module.training) for module in model.modules()]
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    network = model.float().eval()
    try:
        with torch.enable_grad():
            given = images.clone().requires_grad_().clone()
            version = given._version
            output = network(given)
    except Exception as error:  # a user's forward pass may raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{name} fails on images of {shape}: {reason}") from error
    state = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        logits = find_logits(output)
        require_logits(logits)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    if given._version != version:
        _add_mixin(model, CopiedImages)
    if not isinstance(output, Tensor):
        _add_mixin(model, LogitsOnly)
    if logits.shape[1] == 1:
        _add_mixin(model, TwoClasses)
    try:
        model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        _add_mixin(model, ContiguousLayout)
        model.to(memory_format=torch.contiguous_format)
    model.load_state_dict(state)
    for module, training in modes:
        module.training = training
    return model


def require_one_label(model: nn.Module, name: str) -> None:
    """Raise `InputError` for a network called `name` that says it finds several labels at once."""
    for module in model.modules():  # as networks of transformers say it
        if getattr(getattr(module, "config", None), "problem_type", None) == "multi_label_classification":
            raise InputError(
                f"{name} finds several labels at once, and only networks with one class an image are taken"
            )


def with_two_classes(model: nn.Module) -> nn.Module:
    """Return a network with the same layers as `model`, which has one logit, and two classes.

    Raises:
        InputError: a scripted module.
    """
    if isinstance(model, ScriptModule):
        raise InputError("a scripted module with one logit gets no second class: give the module before scripting")
    result = copy.copy(model)
    _add_mixin(result, TwoClasses)
    return result


def _add_mixin(model: nn.Module, mixin: type) -> None:
    kind = type(model)
    model.__class__ = type(kind.__name__, (mixin, kind), {"__module__": kind.__module__})
