"""Methods that are the gradient of a logit with respect to the image."""

from torch import Tensor, nn

from attribution.method import logit_gradient


class VanillaBackprop:
    """VBP: ∂f_c/∂x (Simonyan et al. 2014, arXiv 1312.6034, eq. 3; without their absolute value)."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W)."""
        return logit_gradient(self.model, inputs, target)
