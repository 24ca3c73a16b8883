"""A training in this process, as `--train` does it, with a data set of the test's own."""

from contextlib import nullcontext
from pathlib import Path

import torch

from common.errors import InputError
from data import Dataset
from evaluation.tasks import Failure
from experiments.trainings import Training
from training.checkpoint import Checkpoint
from training.classifier import OnEpoch
from training.config import TrainingConfig


def train_and_save(
    config: TrainingConfig,
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
) -> Checkpoint:
    """Train a classifier in this process and save it; see `Training`.

    Raises:
        InputError: the training diverged; the state to resume is damaged or of another training.
    """
    training = Training(config, lambda: dataset, folder, device, resume=resume, watch=lambda: nullcontext(on_epoch))
    for task in training.tasks(is_here=True):
        try:
            training.save(task, task.run(lambda images: None))
        except InputError as error:
            training.abandon(Failure.of(task, error))
            raise
    assert training.checkpoint is not None
    return training.checkpoint
