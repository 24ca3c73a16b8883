"""Gradient-weighted class activation maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attribution.activation import capture, last_convolution_block, layer_named
from attribution.method import target_logits


class GradCAM:
    """GC: ReLU(Σ_k α_k A_k) with α_k the mean of ∂f_c/∂A_k over positions (Selvaraju et al. 2017, eq. 1 and 2).

    Unlike Captum's LayerGradCam, the ReLU is applied by default (as in the paper) and the map is interpolated
    bilinearly (Captum's default is nearest) to the size of the input.
    """

    def __init__(self, model: nn.Module, layer: str | None = None) -> None:
        """`layer`: name of the module whose output is A; by default the last convolution block's."""
        self.model = model
        self.layer = layer

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W), not negative."""
        if self.layer is None:
            self.layer = last_convolution_block(self.model, inputs[:1])
        with torch.enable_grad(), capture(layer_named(self.model, self.layer)) as captured:
            logits = self.model(inputs.detach().requires_grad_())
            (gradient,) = torch.autograd.grad(target_logits(logits, target).sum(), captured.activation)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        cam = (weights * captured.activation.detach()).sum(dim=1, keepdim=True).relu()
        return F.interpolate(cam, size=inputs.shape[2:], mode="bilinear", align_corners=False)
