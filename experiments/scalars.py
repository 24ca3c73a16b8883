"""Scalars of a training for TensorBoard."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import InputError
from training.checkpoint import TrainingState
from training.classifier import OnEpoch


def require_tensorboard() -> None:
    """Raise `InputError` if the package is missing."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError("--tensorboard needs a package that is not installed: pip install tensorboard") from error


@contextmanager
def scalars(folder: Path | None) -> Iterator[OnEpoch | None]:
    """Yield a function that writes loss, learning rate and validation accuracy of an epoch into `folder`, or None."""
    if folder is None:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:

        def write(state: TrainingState) -> None:
            values = {"loss": state.loss, "learning rate": state.parts["schedule"]["_last_lr"][0]}
            if state.validation_accuracy is not None:
                values["validation accuracy"] = state.validation_accuracy
            for name, value in values.items():
                writer.add_scalar(name, value, state.epochs)
            writer.flush()

        yield write
