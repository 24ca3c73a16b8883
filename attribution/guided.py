"""Methods that change the backward pass of ReLU."""

import torch
from torch import Tensor

from attribution.activation_modules import require_relu_alone
from attribution.backward_relu import BackwardReLU, Deconvolved, Guided, Rule, Switch
from attribution.gradcam import GradCAM, to_size_of
from attribution.gradient import GradientMethod, gradient_of, target_logits


class ModifiedBackprop(GradientMethod):
    """∂f_c/∂x with `rule` in place of the derivative of ReLU (see `attribution.backward_relu`)."""

    rule: Rule

    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, …), (N,) -> (N, …); raises `InputError` for a rectifier that is no ReLU, or without any."""
        require_relu_alone(self.network, inputs)
        with BackwardReLU(self.rule) as calls:
            maps = self.gradient(inputs, target)
        calls.require_applied()
        return maps


class DeconvNet(ModifiedBackprop):
    """DeconvNet of Zeiler and Fergus 2014 (arXiv 1311.2901, section 2.1), as a backward pass from the logit.

    A deconvolution network filters with transposed filters and unpools with the switches of the forward pass, as
    backpropagation does, and rectifies the reconstruction, which is the rule for ReLU.
    """

    rule = Deconvolved


class GuidedBackprop(ModifiedBackprop):
    """GB: guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806, section 3.4)."""

    rule = Guided


class GuidedGradCAM(GradCAM):
    """GB-GC: GB × GC (Selvaraju et al. 2017, section 3.2), GC computed with the plain gradient.

    Both come from one forward pass, whose ReLUs switch between the two rules. GC is interpolated bilinearly, as in the
    paper; Captum's GuidedGradCam takes the nearest pixel.
    """

    @torch.enable_grad()
    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W); raises `InputError` for a rectifier that is no ReLU, or without any."""
        require_relu_alone(self.network, inputs)
        layer = self.layer_for(inputs)  # without the other backward pass
        guided, maps = torch.empty_like(inputs), []
        for part in self.chunks(inputs):
            leaf, guiding = inputs[part].detach().requires_grad_(), Switch()
            with BackwardReLU(Guided, guiding) as calls:
                activation, logits = self.activation_and_logits(leaf, from_here=False)
            calls.require_applied()
            score = target_logits(logits, target[part]).sum()
            maps.append(self.of_activation(layer, activation, score, retain_graph=True))
            guiding.on = True
            guided[part] = gradient_of(score, leaf)
        return guided * to_size_of(inputs, torch.cat(maps))
