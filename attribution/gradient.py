"""Methods that are the gradient of a logit with respect to the image."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from attribution.method import AttributionMethod, LogitGradient
from attribution.network import Network


class GradientMethod(AttributionMethod):
    """Base of the methods that need the gradient of the logit alone."""

    network: Network

    def __init__(self, model: Callable[..., Any]) -> None:
        """`model`: a module or another callable that returns logits."""
        super().__init__(model)
        self.gradient = LogitGradient(self.network)


class VanillaBackprop(GradientMethod):
    """VBP: ∂f_c/∂x (Simonyan et al. 2014, arXiv 1312.6034, eq. 3; without their absolute value)."""

    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, …), (N,) -> (N, …)."""
        return self.gradient(inputs, target)


class InputBackprop(GradientMethod):
    """IB: x · ∂f_c/∂x, x as the network sees it (Shrikumar et al. 2016, arXiv 1605.01713, section 3.2)."""

    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, …), (N,) -> (N, …)."""
        return inputs * self.gradient(inputs, target)
