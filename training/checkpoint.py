"""Trained weights with their metadata, and the state of an unfinished training."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

History = list[dict[str, float | None]]
"""The epochs of a training in their order: `epoch` from 1, mean `loss` of its batches, `validation_accuracy` after it
(None if no image is held out), and `learning_rate` after its last step."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights and plain metadata.

    Attributes:
        weights: the model's state.
        sha256: SHA-256 over the weights, to which maps and records refer.
        metadata: dataset, dataset_sum, model, seed, recipe, limit_train, test accuracy, history, seconds, versions.
    """

    weights: Mapping[str, Tensor]
    sha256: str
    metadata: dict[str, Any]

    @classmethod
    def from_model(cls, model: nn.Module, metadata: dict[str, Any]) -> "Checkpoint":
        """Copy the weights of `model` to the CPU."""
        weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
        return cls(weights, weights_sha256(weights), metadata)


@dataclass(frozen=True)
class TrainingState:
    """The state of a training after an epoch, from which it goes on as if never interrupted.

    Attributes:
        epochs: number of finished epochs.
        seconds: time spent on them.
        loss, validation_accuracy: of the last epoch.
        random: state of the generator of order and augmentation. Models draw from generators seeded anew each epoch.
        parts: states of the model, the optimiser and the schedule.
        history: of the finished epochs; empty in files of older versions.
    """

    epochs: int
    seconds: float
    loss: float
    validation_accuracy: float | None
    random: Tensor
    parts: dict[str, Any]
    history: History = field(default_factory=list)


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Return SHA-256 over the names and the bytes of the weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python and PyTorch, for records."""
    return {"python": platform.python_version(), "torch": str(torch.__version__)}
