"""Trainings of classifiers as jobs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data import Dataset, dataset_info
from evaluation.tasks import Failure, OnImages, Task
from experiments.checkpoints import ResumeFile, save_checkpoint
from experiments.jobs import Job
from reporting.labels import classifier_line
from training.checkpoint import Checkpoint, TrainingState
from training.classifier import OnEpoch, train_classifier
from training.config import TrainingConfig

Watch = Callable[[], AbstractContextManager[OnEpoch | None]]


@dataclass(eq=False)
class Training(Job):
    """Trains a classifier and saves it; in this process it saves the state after each epoch beside its place.

    Attributes:
        load: returns the data set.
        folder: of the checkpoint.
        look_up: returns the checkpoint if it is there.
        resume: continue an interrupted training if there is one.
        watch: returns a context with what is called with each state after it is saved, or None.
        announcement: printed before the training.
        checkpoint: the result.
    """

    config: TrainingConfig
    load: Callable[[], Dataset]
    folder: Path
    device: torch.device
    look_up: Callable[[], Checkpoint | None] = lambda: None
    resume: bool = False
    watch: Watch = nullcontext
    announcement: str = ""
    checkpoint: Checkpoint | None = None

    def __post_init__(self) -> None:
        self.path = self.config.path(self.folder)
        self.name = f"{self.folder.name} {self.path.name}"

    @property
    def images(self) -> int:
        limit = self.config.limit_train or dataset_info(self.config.dataset).shapes["train_images"][0]
        return self.config.recipe.epochs * limit

    def find(self) -> bool:
        self.checkpoint = self.look_up()
        return self.checkpoint is not None

    def tasks(self, is_here: bool) -> Iterator[Task]:
        if self.announcement:
            print(self.announcement, flush=True)
        dataset = self.load()
        self.file = ResumeFile.of(self.config, dataset.sha256, self.folder)
        state = self.file.load() if self.resume else None
        with self.watch() as on_epoch:

            def save_state(state: TrainingState) -> None:
                self.file.save(state)
                if on_epoch is not None:
                    on_epoch(state)

            arguments = self.config, dataset, self.device, state, save_state if is_here else None
            info = dataset_info(self.config.dataset)
            yield Task(self.path.stem, run_training, arguments, self.images, dataset=info)

    def save(self, task: Task, result: Checkpoint) -> None:
        save_checkpoint(self.path, result)
        self.file.remove()
        self.checkpoint = result
        print(classifier_line(result.metadata, self.path), flush=True)

    def abandon(self, failure: Failure) -> None:
        if failure.is_of_input:
            self.file.remove()  # continuing would end in the same way


def run_training(*arguments: Any, on_images: OnImages) -> Checkpoint:
    """Train a classifier: a task; see `train_classifier`."""
    return train_classifier(*arguments)
