"""What an attribution method is, and the one gradient that most of them are made of."""

from typing import Protocol

import torch
from torch import Tensor, nn

from attribution.chunks import Chunks
from errors import InputError


class Method(Protocol):
    """Captum's calling convention: any of its attribution objects is a `Method`.

    Pass `target` by name: the second place of many of Captum's methods is a baseline's.
    """

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Signed, unscaled attributions of the logit of `target`.

        Args:
            inputs: (N, C, H, W) float32, as the network sees them.
            target: (N,) int64, the class to explain per image.

        Returns:
            (N, C, H, W) or (N, 1, H, W) float32.
        """
        ...


class LogitGradient:
    """∂f_c/∂x for each image, c its target.

    The images don't meet in the forward pass of a network in evaluation mode, so that the gradient of the sum
    of their logits is each image's own. Gradients of parameters are neither computed nor accumulated.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.chunks = Chunks(model)

    def __call__(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W), chunk by chunk."""
        gradients = torch.empty_like(inputs)
        for part in self.chunks(inputs):
            gradients[part] = self._of_chunk(inputs[part], target[part])
        return gradients

    @torch.enable_grad()
    def _of_chunk(self, inputs: Tensor, target: Tensor) -> Tensor:
        leaf = inputs.detach().requires_grad_()
        # Behind an operation, because a network may change its input in place, which a leaf refuses.
        (gradient,) = torch.autograd.grad(target_logits(self.model(leaf.clone()), target).sum(), leaf)
        return gradient


def target_logits(logits: Tensor, target: Tensor) -> Tensor:
    """f_c for each image: (N, K) and (N,) -> (N,).

    Raises:
        InputError: the network returned something else than logits.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise InputError("the network must return logits, one tensor of shape (images, classes)")
    return logits.gather(1, target.view(-1, 1)).squeeze(1)


def require_evaluation_mode(model: nn.Module) -> None:
    """Raise `InputError` if a batch norm or dropout layer makes maps depend on the batch or on chance."""
    for name, module in model.named_modules():
        if module.training and isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            raise InputError(f"layer {name!r} is in training mode: call model.eval() before explaining")
