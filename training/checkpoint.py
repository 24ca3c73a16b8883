"""Trained weights with what is known of them."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Checkpoint:
    """Weights and plain metadata.

    Attributes:
        weights: the model's state.
        sum: SHA-256 over names and bytes of the weights: what maps and runs refer to.
        metadata: dataset, dataset_sum, model, seed, recipe, limit_train, test accuracy, seconds, versions.
    """

    weights: Mapping[str, Tensor]
    sum: str
    metadata: dict[str, Any]

    @classmethod
    def of(cls, model: nn.Module, metadata: dict[str, Any]) -> "Checkpoint":
        """Return a copy of the weights of `model` on the CPU, with their sum."""
        weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
        return cls(weights, weights_sum(weights), metadata)


def weights_sum(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names and the bytes of the weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What computed a result, for its record."""
    return {"python": platform.python_version(), "torch": str(torch.__version__)}
