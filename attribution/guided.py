"""Methods that change the backward pass of ReLU."""

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
from attribution.gradcam import GradCAM, to_size_of
from attribution.method import LogitGradient, target_logits


class ModifiedBackprop:
    """∂f_c/∂x with `rule` in place of the derivative of ReLU; see `attribution.backward_relu` for what is a ReLU."""

    rule: Rule

    def __init__(self, model: nn.Module) -> None:
        """Raises `InputError` if the ReLUs of `model` can't be reached."""
        require_visible_calls(model)
        self.gradient = LogitGradient(model)

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W).

        Raises:
            InputError: the network has a rectifier that is no ReLU.
        """
        with BackwardReLU(self.rule):
            return self.gradient(inputs, target)


class DeconvNet(ModifiedBackprop):
    """DeconvNet of Zeiler and Fergus 2014 (arXiv 1311.2901, section 2.1), as a backward pass from the logit.

    A deconvolution network filters with transposed filters, unpools with the switches of the forward pass and
    rectifies what it reconstructs. The first two are what backpropagation does; the third is the rule for ReLU.
    """

    rule = Deconvolved


class GuidedBackprop(ModifiedBackprop):
    """GB: guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806, section 3.4)."""

    rule = Guided


class GuidedGradCAM:
    """GB-GC: GB × GC (Selvaraju et al. 2017, section 3.2), GC computed with the plain gradient.

    Both come from one forward pass, whose ReLUs are told by which rule to go back.
    Captum's GuidedGradCam interpolates GC to the nearest pixel; here bilinearly, as in the paper.
    """

    def __init__(self, model: nn.Module, layer: str | None = None) -> None:
        """`layer`: see GradCAM.

        Raises `InputError` if the ReLUs of `model` can't be reached.
        """
        require_visible_calls(model)
        self.gradcam = GradCAM(model, layer)

    @torch.enable_grad()
    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W).

        Raises:
            InputError: the network has a rectifier that is no ReLU, the layer gives no feature map, or the logits don't
                depend on it.
        """
        guided, maps = torch.empty_like(inputs), []
        for part in self.gradcam.chunks(inputs):
            leaf, guiding = inputs[part].detach().requires_grad_(), Switch()
            with BackwardReLU(SwitchedGuided, guiding):
                activation, logits = self.gradcam.activation_and_logits(leaf.clone(), from_here=False)
            score = target_logits(logits, target[part]).sum()
            maps.append(self.gradcam.of_activation(activation, score, retain_graph=True))
            guiding.on = True
            (guided[part],) = torch.autograd.grad(score, leaf)
        return guided * to_size_of(inputs, torch.cat(maps))
