"""Methods that are the gradient of a logit with respect to the image."""

from torch import Tensor, nn

from attribution.method import LogitGradient


class VanillaBackprop:
    """VBP: ∂f_c/∂x (Simonyan et al. 2014, arXiv 1312.6034, eq. 3; without their absolute value)."""

    def __init__(self, model: nn.Module) -> None:
        self.gradient = LogitGradient(model)

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W)."""
        return self.gradient(inputs, target)


class InputBackprop:
    """IB: x · ∂f_c/∂x, x as the network sees it (Shrikumar et al. 2016, arXiv 1605.01713, section 3.2)."""

    def __init__(self, model: nn.Module) -> None:
        self.gradient = LogitGradient(model)

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W)."""
        return inputs.detach() * self.gradient(inputs, target)
