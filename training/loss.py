"""What training minimises: the model's own loss if it has one, else cross entropy."""

from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from training.recipe import Recipe


@runtime_checkable
class HasTrainingLoss(Protocol):
    """A model that is trained on more than its logits: auxiliary heads, penalties."""

    def training_loss(self, images: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """(N, C, H, W) and (N,) int64 -> the loss to minimise, a scalar."""
        ...


def loss_of(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """The loss of one batch, a scalar: `model.training_loss` if it is there, else cross entropy of the logits."""
    if isinstance(model, HasTrainingLoss):
        return model.training_loss(images, labels, recipe.label_smoothing)
    return F.cross_entropy(model(images), labels, label_smoothing=recipe.label_smoothing)
