"""Methods made of one layer's activation: Grad-CAM, and the mean activation."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attribution.activation import capture, last_convolution_block, layer_named
from attribution.chunks import Chunks
from attribution.method import target_logits
from errors import InputError


class LayerMethod:
    """What is common to methods that look at one layer."""

    def __init__(self, model: nn.Module, layer: str | None = None) -> None:
        """`layer`: name of the module whose output is A; by default the last convolution block's."""
        self.model, self.layer = model, layer
        self.chunks = Chunks(model)

    def _activations(self, inputs: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Per chunk: its place, the layer's activation (n, K, h, w), and the logits."""
        if self.layer is None:
            self.layer = last_convolution_block(self.model, inputs[:1].clone())
        layer = layer_named(self.model, self.layer)
        for part in self.chunks(inputs):
            with capture(layer) as captured:
                logits = self.model(inputs[part].detach().requires_grad_().clone())
            activation = getattr(captured, "activation", None)
            if not isinstance(activation, Tensor) or activation.ndim != 4:
                raise InputError(f"layer {self.layer!r} gives no feature map (images, channels, height, width)")
            yield part, activation, logits


class GradCAM(LayerMethod):
    """GC: ReLU(Σ_k α_k A_k) with α_k the mean of ∂f_c/∂A_k over positions (Selvaraju et al. 2017, eq. 1 and 2).

    Unlike Captum's LayerGradCam, the ReLU is applied by default (as in the paper) and the map is interpolated
    bilinearly (Captum's default is nearest) to the size of the input.
    """

    @torch.enable_grad()
    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W), not negative.

        Raises:
            InputError: the layer gives no feature map, or the logits don't depend on it.
        """
        maps = []
        for part, activation, logits in self._activations(inputs):
            score = target_logits(logits, target[part]).sum()
            (gradient,) = torch.autograd.grad(score, activation, allow_unused=True)
            if gradient is None:
                raise InputError(f"the logits don't depend on layer {self.layer!r}: choose another with layer=")
            weights = gradient.mean(dim=(2, 3), keepdim=True)
            maps.append((weights * activation.detach()).sum(dim=1, keepdim=True).relu())
        return to_size_of(inputs, torch.cat(maps))


class ConvolutionOutput(LayerMethod):
    """CO: the mean over channels of a layer's activation, whatever the class."""

    @torch.no_grad()
    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W).

        Raises:
            InputError: the layer gives no feature map.
        """
        maps = [activation.mean(dim=1, keepdim=True) for _part, activation, _logits in self._activations(inputs)]
        return to_size_of(inputs, torch.cat(maps))


def to_size_of(inputs: Tensor, maps: Tensor) -> Tensor:
    """`maps` (N, 1, h, w), bilinearly interpolated to the height and width of `inputs`."""
    return F.interpolate(maps, size=inputs.shape[2:], mode="bilinear", align_corners=False)
