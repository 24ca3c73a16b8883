"""Methods made of one layer's activation: Grad-CAM, and the mean activation."""

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

    def activation_and_logits(self, inputs: Tensor, from_here: bool) -> tuple[Tensor, Tensor]:
        """The layer's activation (n, K, h, w) of some images, and the logits.

        Args:
            from_here: the graph of the logits begins at the activation; what comes before keeps nothing for a way back.

        Raises:
            InputError: the layer gives no feature map.
        """
        if self.layer is None:
            self.layer = last_convolution_block(self.model, inputs[:1].detach().clone())
        with capture(layer_named(self.model, self.layer), from_here) as captured:
            logits = self.model(inputs)
        activation = getattr(captured, "activation", None)
        if not isinstance(activation, Tensor) or activation.ndim != 4:
            raise InputError(f"layer {self.layer!r} gives no feature map (images, channels, height, width)")
        return activation, logits


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
        for part in self.chunks(inputs):
            activation, logits = self.activation_and_logits(inputs[part].detach().clone(), from_here=True)
            maps.append(self.of_activation(activation, target_logits(logits, target[part]).sum()))
        return to_size_of(inputs, torch.cat(maps))

    def of_activation(self, activation: Tensor, score: Tensor, retain_graph: bool = False) -> Tensor:
        """The map (n, 1, h, w) of some images, of the activation (n, K, h, w) and the sum of their logits.

        Raises:
            InputError: the logits don't depend on the activation.
        """
        gradient = None
        if score.requires_grad and activation.requires_grad:
            (gradient,) = torch.autograd.grad(score, activation, retain_graph=retain_graph, allow_unused=True)
        if gradient is None:
            raise InputError(f"the logits don't depend on layer {self.layer!r}: choose another with layer=")
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        return (weights * activation.detach()).sum(dim=1, keepdim=True).relu()


class ConvolutionOutput(LayerMethod):
    """CO: the mean over channels of a layer's activation, whatever the class."""

    @torch.no_grad()
    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W).

        Raises:
            InputError: the layer gives no feature map.
        """
        maps = []
        for part in self.chunks(inputs):
            activation, _logits = self.activation_and_logits(inputs[part].clone(), from_here=False)
            maps.append(activation.mean(dim=1, keepdim=True))
        return to_size_of(inputs, torch.cat(maps))


def to_size_of(inputs: Tensor, maps: Tensor) -> Tensor:
    """`maps` (N, 1, h, w), bilinearly interpolated to the height and width of `inputs`."""
    return F.interpolate(maps, size=inputs.shape[2:], mode="bilinear", align_corners=False)
