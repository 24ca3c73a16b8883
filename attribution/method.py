"""What an attribution method is, and the one gradient that most of them are made of."""

from typing import Protocol

import torch
from torch import Tensor, nn


class Method(Protocol):
    """Captum's calling convention: any of its attribution objects is a `Method`."""

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Signed, unscaled attributions of the logit of `target`.

        Args:
            inputs: (N, C, H, W) float32, as the network sees them.
            target: (N,) int64, the class to explain per image.

        Returns:
            (N, C, H, W) or (N, 1, H, W) float32.
        """
        ...


def logit_gradient(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """∂f_c/∂x for each image, c its target: (N, C, H, W).

    The images don't meet in the forward pass of a network in evaluation mode, so that the gradient of the sum
    of their logits is each image's own. Gradients of parameters are neither computed nor accumulated.
    """
    with torch.enable_grad():
        leaf = inputs.detach().requires_grad_()
        logits = model(leaf)
        (gradient,) = torch.autograd.grad(target_logits(logits, target).sum(), leaf)
    return gradient


def target_logits(logits: Tensor, target: Tensor) -> Tensor:
    """f_c for each image: (N, K) and (N,) -> (N,)."""
    return logits.gather(1, target.view(-1, 1)).squeeze(1)
