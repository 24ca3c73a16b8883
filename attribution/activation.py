"""Reading a layer's activation during a forward pass, and finding the last convolution block."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from errors import InputError

POOLING = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
)


class Captured:
    """Where `capture` puts the activation; the last one, if the layer is used several times."""

    activation: Tensor


@contextmanager
def capture(layer: nn.Module, from_here: bool = False) -> Iterator[Captured]:
    """Hold the output of `layer` during the forward passes in the `with` block.

    The network goes on with a copy, so that a following in-place operation leaves the captured tensor as it was.

    Args:
        from_here: the output is cut from what it was computed from, and asks for a gradient of its own.
    """
    captured = Captured()

    def hold(_module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
        if from_here and isinstance(output, Tensor):
            output = output.detach().requires_grad_()
        captured.activation = output
        return output.clone()

    handle = layer.register_forward_hook(hold)
    try:
        yield captured
    finally:
        handle.remove()


@torch.no_grad()
def last_convolution_block(model: nn.Module, inputs: Tensor) -> str:
    """The name of the module whose output is the last feature map with a spatial extent, before any pooling.

    This is the last convolution with its normalisation, non-linearity and skip connection: `layer4` in a ResNet,
    the ReLU before the last max-pooling in a VGG net.

    Args:
        inputs: (N, C, H, W) to run through the network; one image is enough.

    Raises:
        InputError: no module of the network gives such a feature map.
    """
    names = {module: name for name, module in model.named_modules() if name}
    finished: list[tuple[nn.Module, Tensor]] = []
    with ExitStack() as hooks:
        for module in names:
            hooks.callback(module.register_forward_hook(lambda *call: finished.append((call[0], call[2]))).remove)
        model(inputs)
    pooled = [output for module, output in finished if isinstance(module, POOLING)]
    for module, output in reversed(finished):
        if _is_feature_map(output) and not any(output is other for other in pooled):
            return names[module]
    raise InputError("the network has no convolution layer that a Grad-CAM could explain: give layer=")


def _is_feature_map(output: object) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1


def layer_named(model: nn.Module, name: str) -> nn.Module:
    """The module called `name` in `model.named_modules()`.

    Raises:
        InputError: there is none.
    """
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        known = ", ".join(known for known, _module in model.named_modules() if known)
        raise InputError(f"the network has no layer {name!r}: choose from {known}") from error
