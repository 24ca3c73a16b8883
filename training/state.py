"""The state of an unfinished training, kept after each epoch so that it can go on as if it had never stopped."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class TrainingState:
    """What decides on the rest of a training.

    Attributes:
        epochs: how many are done.
        seconds: spent on them.
        loss, validation_accuracy: of the last of them.
        random: state of the generator of order and augmentation. What models draw begins anew with each epoch.
        parts: states of the model, the optimiser and the schedule.
    """

    epochs: int
    seconds: float
    loss: float
    validation_accuracy: float | None
    random: torch.Tensor
    parts: dict[str, Any]
