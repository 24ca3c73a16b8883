"""The layers and attention maps of our models, by names for `get_submodule`."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from common.errors import InputError


@runtime_checkable
class Inspectable(Protocol):
    """A model that names the modules worth looking at.

    Attributes:
        layers: feature maps (N, C, H, W), first to last; the last is the last convolution block's activation.
        attention_layers: modules that return attention maps or gates, first to last.
    """

    @property
    def layers(self) -> tuple[str, ...]: ...

    @property
    def attention_layers(self) -> tuple[str, ...]: ...


def layers(model: nn.Module) -> list[str]:
    """Return the names of the layers of `model` in order; none if it doesn't name them."""
    return list(model.layers) if isinstance(model, Inspectable) else []


def last_block(model: nn.Module) -> str:
    """Return the name of the last convolution block, whose output is the last feature map before pooling."""
    names = layers(model)
    if not names:
        raise InputError(f"{type(model).__name__} doesn't name its layers: give the layer to look at")
    return names[-1]


def attention_layers(model: nn.Module) -> list[str]:
    """Return the names of the modules that return attention maps (N, 1 | C | K, H, W) or gates (N, K), in order."""
    return list(model.attention_layers) if isinstance(model, Inspectable) else []


@torch.no_grad()
def attention_maps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the output of each attention layer for `images` (N, C, H, W); always remove the hooks.

    CBAM: spatial gates (N, 1, h, w). RAN: soft masks (N, c, h, w). WARN: heads (N, K, h, w), gates (N, K), and output
    gates (N, 4). Other models: none.
    """
    maps: dict[str, Tensor] = {}

    def store_as(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _arguments, output: maps.__setitem__(name, output.clone())

    with ExitStack() as hooks:
        for name in attention_layers(model):
            hooks.callback(model.get_submodule(name).register_forward_hook(store_as(name)).remove)
        model(images)
    return maps
