"""Class activation maps of networks that end in global average pooling and a linear layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attribution.function_calls import FunctionCalls, function_name
from attribution.gradcam import to_size_of
from attribution.method import AttributionMethod
from attribution.network import Network, require_numbers
from common.errors import InputError

POOLING = {"adaptive_avg_pool2d", "avg_pool2d", "mean"}


class CAM(AttributionMethod):
    """CAM: Σ_k w_ck A_k (Zhou et al. 2016, arXiv 1512.04150, eq. 2), bilinearly interpolated to the input's size.

    The forward pass shows A and w: w is the weight of the linear layer that returns the logits, and A the feature map
    whose mean over positions is this layer's input.
    """

    network: Network

    @torch.no_grad()
    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W)."""
        maps = []
        for part in self.chunks(inputs):
            activation, weight = cam_head(self.network, inputs[part])
            maps.append(torch.einsum("nk,nkhw->nhw", weight[target[part]], activation).unsqueeze(1))
        return to_size_of(inputs, torch.cat(maps))


def cam_head(network: Network, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return A (N, K, h, w) and w (classes, K) of the head that gives the logits; raise `InputError` without one."""
    linear: list[tuple[Tensor, Tensor, Tensor]] = []  # output, input, weight
    pooled: list[Tensor] = []

    def call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        output, name = function(*args, **kwargs), function_name(function)
        if name == "linear" and len(args) > 1:
            linear.append((output, args[0], args[1]))
        elif name in POOLING and isinstance(args[0], Tensor) and args[0].ndim == 4:
            pooled.append(args[0])
        return output

    with FunctionCalls(call):
        logits = network(inputs)
    require_numbers(logits)
    for output, features, weight in linear:
        for activation in reversed(pooled):
            if output is logits and is_mean_of(features, activation):
                return activation, weight
    raise InputError(
        "CAM needs a CAM head (global average pooling, then the linear layer that gives the logits); "
        "this network has none: GC works without"
    )


def is_mean_of(features: Tensor, activation: Tensor) -> bool:
    """Return whether `features` (N, K) is `activation` (N, K, h, w) averaged over all positions."""
    means = activation.mean(dim=(2, 3))
    return means.shape == features.shape and torch.allclose(means, features, rtol=1e-4, atol=1e-5)
