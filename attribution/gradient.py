"""Methods that are the gradient of a logit with respect to the image."""

import torch
from torch import Tensor

from attribution.method import AttributionMethod
from attribution.network import Network, gradients, require_numbers
from common.errors import InputError


class GradientMethod(AttributionMethod):
    """Base of the methods that need the gradient of the logit alone."""

    network: Network

    @torch.enable_grad()
    def gradient(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return ∂f_c/∂x for each image, c its target: (N, …), (N,) -> (N, …).

        Images don't meet in a network in evaluation mode, so that the gradient of the sum of their logits is each
        image's own. Gradients of parameters are neither computed nor accumulated.
        """
        result = torch.empty_like(inputs)
        for part in self.chunks(inputs):
            leaf = inputs[part].detach().requires_grad_()
            result[part] = gradient_of(target_logits(self.network(leaf), target[part]), leaf)
        return result


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


def gradient_of(scores: Tensor, leaf: Tensor) -> Tensor:
    """Return ∂ Σ scores/∂leaf; raise `InputError` if the network cuts the graph."""
    (gradient,) = gradients(scores.sum(), leaf) if scores.requires_grad else (None,)
    if gradient is None:
        raise InputError("the logits have no gradient: the network detaches them, or computes without gradients")
    return gradient


def target_logits(logits: Tensor, target: Tensor) -> Tensor:
    """Return f_c for each image: (N, K), (N,) -> (N,); raise `InputError` for logits that are no numbers."""
    require_numbers(logits)
    return logits.gather(1, target.view(-1, 1)).squeeze(1)
