"""Methods that change the backward pass of ReLU."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attribution.backward_relu import (
    BackwardReLU,
    Deconvolved,
    Guided,
    Rule,
    Switch,
    SwitchedGuided,
    require_visible_calls,
)
from attribution.feature_maps import Reshape
from attribution.gradcam import GradCAM, to_size_of
from attribution.gradient import GradientMethod
from attribution.method import AttributionMethod, gradient_of, target_logits
from attribution.network import Network


class ModifiedBackprop(GradientMethod):
    """∂f_c/∂x with `rule` in place of the derivative of ReLU (see `attribution.backward_relu`)."""

    rule: Rule

    def __init__(self, model: Callable[..., Any]) -> None:
        """Raises `InputError` if the ReLUs of `model` can't be reached."""
        super().__init__(model)
        require_visible_calls(self.network)

    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, …), (N,) -> (N, …).

        Raises:
            InputError: the network has a rectifier that is no ReLU.
        """
        with BackwardReLU(self.rule):
            return self.gradient(inputs, target)


class DeconvNet(ModifiedBackprop):
    """DeconvNet of Zeiler and Fergus 2014 (arXiv 1311.2901, section 2.1), as a backward pass from the logit.

    A deconvolution network filters with transposed filters and unpools with the switches of the forward pass, as
    backpropagation does, and rectifies the reconstruction, which is the rule for ReLU.
    """

    rule = Deconvolved


class GuidedBackprop(ModifiedBackprop):
    """GB: guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806, section 3.4)."""

    rule = Guided


class GuidedGradCAM(AttributionMethod):
    """GB-GC: GB × GC (Selvaraju et al. 2017, section 3.2), GC computed with the plain gradient.

    Both come from one forward pass, whose ReLUs switch between the two rules. GC is interpolated bilinearly, as in the
    paper; Captum's GuidedGradCam takes the nearest pixel.
    """

    network: Network

    def __init__(
        self, model: Callable[..., Any], layer: str | nn.Module | None = None, reshape: Reshape | None = None
    ) -> None:
        """As for GradCAM. Raises `InputError` if the ReLUs of `model` can't be reached."""
        super().__init__(model)
        require_visible_calls(self.network)
        self.gradcam = GradCAM(self.network, layer, reshape)

    @torch.enable_grad()
    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W).

        Raises:
            InputError: the network has a rectifier that is no ReLU, the layer gives no feature map, or the logits don't
                depend on it.
        """
        layer = self.gradcam.layer_for(inputs)  # without the other backward pass
        guided, maps = torch.empty_like(inputs), []
        for part in self.gradcam.chunks(inputs):
            leaf, guiding = inputs[part].detach().requires_grad_(), Switch()
            with BackwardReLU(SwitchedGuided, guiding):
                activation, logits = self.gradcam.activation_and_logits(leaf.clone(), from_here=False)
            score = target_logits(logits, target[part]).sum()
            maps.append(self.gradcam.of_activation(layer, activation, score, retain_graph=True))
            guiding.on = True
            guided[part] = gradient_of(score, leaf)
        return guided * to_size_of(inputs, torch.cat(maps))
