"""Scalars of a training for TensorBoard."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import InputError
from training.checkpoint import TrainingState


def require_tensorboard() -> None:
    """Raise `InputError` if the package is missing."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError("--tensorboard needs a package that is not installed: pip install tensorboard") from error


class Scalars:
    """Writes loss, learning rate and validation accuracy of each epoch into a folder that TensorBoard reads."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def __call__(self, state: TrainingState) -> None:
        values = {"loss": state.loss, "learning rate": state.parts["schedule"]["_last_lr"][0]}
        if state.validation_accuracy is not None:
            values["validation accuracy"] = state.validation_accuracy
        for name, value in values.items():
            self.writer.add_scalar(name, value, state.epochs)
        self.writer.flush()


@contextmanager
def scalars(folder: Path | None) -> Iterator[Scalars | None]:
    """Yield `Scalars` in `folder`, closed at the end; None without a folder."""
    if folder is None:
        yield None
        return
    to_tensorboard = Scalars(folder)
    try:
        yield to_tensorboard
    finally:
        to_tensorboard.writer.close()
