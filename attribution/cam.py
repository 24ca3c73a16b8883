"""Class activation maps of networks that end in global average pooling and a linear layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attribution.chunks import Chunks
from attribution.gradcam import to_size_of
from attribution.method import AttributionMethod
from attribution.network import Network
from common.errors import InputError

POOLING = {"adaptive_avg_pool2d", "avg_pool2d", "mean"}


class CAM(AttributionMethod):
    """CAM: Σ_k w_ck A_k (Zhou et al. 2016, arXiv 1512.04150, eq. 2), bilinearly interpolated to the input's size.

    A and w are read off the forward pass: w is the weight of the linear layer whose output is the logits, A the
    feature map of which this layer's input is the mean over positions. How the modules are called doesn't matter.
    """

    network: Network

    def __init__(self, model: Callable[..., Any]) -> None:
        """`model`: a module or another callable that returns logits."""
        super().__init__(model)
        self.chunks = Chunks(self.network)

    @torch.no_grad()
    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W).

        Raises:
            InputError: the logits are no linear function of a pooled feature map.
        """
        maps = []
        for part in self.chunks(inputs):
            activation, weight = cam_head(self.network, inputs[part].clone())
            maps.append(torch.einsum("nk,nkhw->nhw", weight[target[part]], activation).unsqueeze(1))
        return to_size_of(inputs, torch.cat(maps))


def cam_head(network: Network, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """A (N, K, h, w) and w (classes, K) of the head that gives the logits of `inputs` (N, C, H, W).

    Raises:
        InputError: the logits don't come from such a head.
    """
    with Heads() as heads:
        logits = network(inputs)
    for output, features, weight in heads.linear:
        for activation in reversed(heads.pooled):
            if output is logits and is_mean_of(features, activation):
                return activation, weight
    raise InputError(
        "CAM needs a CAM head (global average pooling, then the linear layer that gives the logits); "
        "this network has none: GC works without"
    )


def is_mean_of(features: Tensor, activation: Tensor) -> bool:
    """Whether `features` (N, K) is `activation` (N, K, h, w) averaged over all positions."""
    pooled = activation.mean(dim=(2, 3))
    return pooled.shape == features.shape and torch.allclose(pooled, features, rtol=1e-4, atol=1e-5)


class Heads(TorchFunctionMode):
    """Notes every linear layer of a forward pass (output, input, weight), and every feature map that is averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.linear: list[tuple[Tensor, Tensor, Tensor]] = []
        self.pooled: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "linear" and len(args) > 1:
            self.linear.append((output, args[0], args[1]))
        elif name in POOLING and isinstance(args[0], Tensor) and args[0].ndim == 4:
            self.pooled.append(args[0])
        return output
