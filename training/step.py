"""A training step: batch, loss, gradients, update."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.augmentation import augment
from training.device import mixed_precision
from training.inputs import Inputs
from training.recipe import Recipe


@runtime_checkable
class HasTrainingLoss(Protocol):
    """A model whose loss takes more than its logits: auxiliary heads, penalties."""

    def training_loss(self, images: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """(N, C, H, W) and (N,) int64 -> the loss, a scalar."""


def compute_loss(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Return the loss of a batch, a scalar: the model's own if it has one, else cross entropy of the logits."""
    if isinstance(model, HasTrainingLoss):
        return model.training_loss(images, labels, recipe.label_smoothing)
    return F.cross_entropy(model(images), labels, label_smoothing=recipe.label_smoothing)


@dataclass(frozen=True)
class TrainingStep:
    """Train `model` in place on a batch of `inputs` and `labels`, at half the height and width if `half_size`."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    recipe: Recipe
    inputs: Inputs
    labels: Tensor
    half_size: bool = False

    def __call__(self, index: Tensor, *augmentation: Tensor) -> Tensor:
        """Update the weights and return the loss before the update, without its graph.

        Args:
            index: (n,) int64, positions in the inputs.
            augmentation: the rows of `sample_augmentation` for them.
        """
        images, labels = self.batch(index, *augmentation)
        with mixed_precision(images.device):
            loss = compute_loss(self.model, images, labels, self.recipe)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def batch(self, index: Tensor, *augmentation: Tensor) -> tuple[Tensor, Tensor]:
        """Return augmented images (n, C, H, W) in channels_last, and their labels (n,)."""
        images = augment(self.inputs.batch(index), self.inputs.border, self.recipe.crop, *augmentation)
        if self.half_size:
            images = F.avg_pool2d(images, 2)
        return images.contiguous(memory_format=torch.channels_last), self.labels[index]
