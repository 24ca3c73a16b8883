"""The state of an unfinished training, kept after each epoch so that it can go on as if it had never stopped."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import InputError
from common.files import atomic_write
from training.checkpoint import made_by_other_code, naming_damage

FORMAT = 1


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


class ResumeFile:
    """`<checkpoint>.resume`, beside the checkpoint that the training shall become."""

    def __init__(self, checkpoint: Path, identity: dict[str, Any]) -> None:
        """`identity`: plain data; all that decides on the result."""
        self.path = checkpoint.with_name(checkpoint.name + ".resume")
        self.identity = identity

    def save(self, state: TrainingState) -> None:
        content = {"format": FORMAT, "identity": self.identity}
        fields = {name: getattr(state, name) for name in TrainingState.__annotations__}
        held = io.BytesIO()  # torch.save to a full disk fails without saying why
        torch.save(content | fields, held)
        with atomic_write(self.path) as unfinished:
            unfinished.write_bytes(held.getbuffer())

    def load(self) -> TrainingState | None:
        """The kept state, None if there is none, or it is of a model whose code was edited since.

        Raises:
            InputError: it is damaged, or of another training.
        """
        if not self.path.exists():
            return None
        with naming_damage(self.path, "delete it, and the training begins anew"):
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            written_by = content.pop("format"), content.pop("identity")
            state = TrainingState(**content)
        if made_by_other_code(written_by[1], self.identity):
            return None
        if written_by != (FORMAT, self.identity):
            raise InputError(
                f"{self.path} is of another training: give the options of that one, or leave --resume away"
            )
        return state

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
