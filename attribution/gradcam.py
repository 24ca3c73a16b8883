"""Methods made of one layer's activation: Grad-CAM, and the mean activation."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attribution.capture import Layer, capture
from attribution.feature_maps import Reshape
from attribution.gradient import target_logits
from attribution.layers import find_layer
from attribution.method import AttributionMethod
from attribution.network import Network, gradients
from common.errors import InputError


class LayerMethod(AttributionMethod):
    """Base of the methods that look at the activation A of one layer."""

    network: Network

    def __init__(
        self, model: Callable[..., Any], layer: str | nn.Module | None = None, reshape: Reshape | None = None
    ) -> None:
        """
        Args:
            layer: the module whose output is A, or its name; see `find_layer` for the default.
            reshape: brings the layer's output to (N, K, h, w); feature maps, channels-last blocks and tokens on a grid
                need none.
        """
        super().__init__(model)
        self.layer, self.reshape = layer, reshape
        self._layers: dict[torch.Size, Layer] = {}  # of this network: a faster copy may be renewed
        self._network_of_layers: Callable[..., Any] | None = None

    def layer_for(self, inputs: Tensor) -> Layer:
        """Return the call whose output is A, for images like `inputs`; raise `InputError` without a feature map."""
        shape = inputs.shape[1:]
        if self._network_of_layers is not self.network.call:
            self._layers, self._network_of_layers = {}, self.network.call
        if shape not in self._layers:
            self._layers[shape] = find_layer(self.network, inputs, self.layer, self.reshape)
        return self._layers[shape]

    def activation_and_logits(self, inputs: Tensor, from_here: bool) -> tuple[Tensor, Tensor]:
        """Return the layer's output as it is, and the logits.

        Args:
            from_here: the graph of the logits begins at the activation, so that earlier layers save nothing for a
                backward pass.

        Raises:
            InputError: the network doesn't call the layer for these images.
        """
        layer = self.layer_for(inputs)
        with capture(layer, from_here) as captured:
            logits = self.network(inputs)
        activation = captured.activation
        if activation is None:
            raise InputError(f"layer {layer.name!r} is not called for every image: choose another with layer=")
        return activation, logits


class GradCAM(LayerMethod):
    """GC: ReLU(Σ_k α_k A_k) with α_k the mean of ∂f_c/∂A_k over positions (Selvaraju et al. 2017, eq. 1 and 2).

    The ReLU is applied, as in the paper but not by Captum's default, and the map is interpolated bilinearly to the size
    of the input.
    """

    @torch.enable_grad()
    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W), not negative."""
        maps = []
        for part in self.chunks(inputs):
            activation, logits = self.activation_and_logits(inputs[part], from_here=True)
            score = target_logits(logits, target[part]).sum()
            maps.append(self.of_activation(self.layer_for(inputs), activation, score))
        return to_size_of(inputs, torch.cat(maps))

    def of_activation(self, layer: Layer, activation: Tensor, score: Tensor, retain_graph: bool = False) -> Tensor:
        """Return the maps (n, 1, h, w); raise `InputError` if the `score` doesn't depend on the activation."""
        gradient = None
        if score.requires_grad and activation.requires_grad:
            (gradient,) = gradients(score, activation, retain_graph=retain_graph)
        if gradient is None:
            raise InputError(f"the logits don't depend on layer {layer.name!r}: choose another with layer=")
        weights = layer.to_map(gradient).mean(dim=(2, 3), keepdim=True)
        return (weights * layer.to_map(activation.detach())).sum(dim=1, keepdim=True).relu()


class ConvolutionOutput(LayerMethod):
    """CO: the mean over channels of a layer's activation, whatever the class."""

    @torch.no_grad()
    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W)."""
        maps = []
        for part in self.chunks(inputs):
            activation, _logits = self.activation_and_logits(inputs[part], from_here=False)
            maps.append(self.layer_for(inputs).to_map(activation).mean(dim=1, keepdim=True))
        return to_size_of(inputs, torch.cat(maps))


def to_size_of(inputs: Tensor, maps: Tensor) -> Tensor:
    """Return `maps` (N, 1, h, w), bilinearly interpolated to the height and width of `inputs`, in their precision."""
    return F.interpolate(maps.to(inputs.dtype), size=inputs.shape[2:], mode="bilinear", align_corners=False)
