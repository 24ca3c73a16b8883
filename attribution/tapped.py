"""A network as other libraries take it: the logits are its output, and each layer's map is the output of a module."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from attribution.capture import Layer, changed_output
from attribution.feature_maps import Reshape
from attribution.network import Network
from common.outputs import find_logits


class TappedNetwork(nn.Module):
    """Returns the logits alone, and sends the maps (N, C, h, w) of some layers through the identities `taps`.

    So a library can hook, read and change the map of any call: of tokens, of channels-last blocks, of a function, or of
    one call of a module that is used several times.

    Attributes:
        module: the network itself.
    """

    def __init__(self, network: Network, layers: Sequence[Layer] = ()) -> None:
        super().__init__()
        assert network.module is not None
        self.module = network.module
        self.taps = nn.ModuleList(nn.Identity() for _ in layers)
        self._call, self._layers = network.__call__, tuple(layers)  # the network is no part, the module is
        self.train(network.module.training)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, K)."""
        with ExitStack() as stack:
            for layer, tap in zip(self._layers, self.taps, strict=True):
                stack.enter_context(changed_output(layer, tapping(layer.to_map, tap)))
            return self._call(images)


def tapping(to_map: Reshape, tap: nn.Module) -> Reshape:
    """Return a function that sends the map of an output through `tap`, and puts it back into its places there."""

    def through(output: Tensor) -> Tensor:
        places = to_map(torch.arange(output.numel(), device=output.device).view(output.shape)).reshape(-1)
        maps = tap(to_map(output).clone())
        return output.reshape(-1).scatter(0, places, maps.reshape(-1)).view(output.shape)

    return through


@torch.no_grad()
def with_modules(network: Network, layers: Sequence[Layer], images: Tensor) -> tuple[nn.Module, list[nn.Module]]:
    """Return the network as a module that returns its logits alone, and modules in it that return the layers' maps.

    That is the network itself where it does so, each layer being a module that is called once, and else a
    `TappedNetwork`. `images` (N, C, H, W) show which.
    """
    assert network.module is not None
    outputs: list[tuple[nn.Module, Any]] = []
    with ExitStack() as stack:
        for module in {layer.module for layer in layers if layer.module is not None}:
            hook = module.register_forward_hook(lambda module, _inputs, output: outputs.append((module, output)))
            stack.callback(hook.remove)
        images = images.to(network.dtype or images.dtype, copy=True)
        version = images._version
        output = network.call(images)
    is_plain = find_logits(output, network.choice) is output and images._version == version  # changed in place
    modules: list[nn.Module] = []
    for layer in layers:
        maps = [output for module, output in outputs if module is layer.module]
        if layer.module is not None and len(maps) == 1 and isinstance(maps[0], Tensor):
            is_plain = is_plain and layer.to_map(maps[0]) is maps[0]
            modules.append(layer.module)
    if is_plain and len(modules) == len(layers):
        return network.module, modules
    tapped = TappedNetwork(network, layers)
    return tapped, list(tapped.taps)
