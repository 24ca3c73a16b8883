"""Networks that evaluations need beside the classifier; each is trained at its first use, and stored."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import InputError
from data import dataset_info
from evaluation.sanity import with_random_labels
from evaluation.tasks import Task
from experiments.checkpoints import find_classifier, has_code_changed, load_checkpoint, save_checkpoint
from experiments.jobs import Job
from experiments.pipeline import Pipeline
from experiments.trainings import Training
from training.checkpoint import Checkpoint
from training.finetuning import finetune, finetuning_record


def network_job(name: str, pipeline: Pipeline, config: Any) -> "FineTuning | Training":
    """Return the job that makes the network that `Evaluation.networks` calls `name`.

    Raises:
        InputError: there is no such network.
    """
    if name == "finetuned":
        return FineTuning(pipeline, config)
    if name == "random_labels":
        return random_labels(pipeline)
    raise InputError(f"an evaluation needs a network {name!r}: there are 'finetuned' and 'random_labels'")


@dataclass(eq=False)
class FineTuning(Job):
    """Fine-tunes a classifier on random masks; the result judges in F-Fidelity.

    Attributes:
        checkpoint: the result.
    """

    pipeline: Pipeline
    config: Any
    checkpoint: Checkpoint | None = None

    def __post_init__(self) -> None:
        self.path = finetuned_path(self.pipeline)
        self.name, self.title = f"finetuned {self.path.name}", f"fine-tuning {self.path.stem}"

    @property
    def images(self) -> int:
        limit = self.pipeline.config.limit_train or len(self.pipeline.whole.train)
        return int(self.config.tuning.epochs) * limit

    def find(self) -> bool:
        self.checkpoint = find_finetuned(self.pipeline, self.config)
        return self.checkpoint is not None

    def tasks(self, is_here: bool) -> Iterator[Task]:
        pipeline, record = self.pipeline, _record(self.pipeline, self.config)
        arguments = pipeline.checkpoint, pipeline.whole, record, self.config.tuning, pipeline.device_of_tasks
        info = dataset_info(pipeline.config.dataset)
        yield Task(f"fine-tuning {self.path.stem}", finetune, arguments, self.images, dataset=info)

    def save(self, task: Task, result: Checkpoint) -> None:
        save_checkpoint(self.path, result)
        self.checkpoint = result
        before, after = (each.metadata.get("test_accuracy") for each in (self.pipeline.checkpoint, result))
        earlier = "" if before is None else f", {before:.4f} before"
        print(f"fine-tuned: {self.path}: test accuracy {after:.4f}{earlier}", flush=True)


def find_finetuned(pipeline: Pipeline, config: Any) -> Checkpoint | None:
    """Return the stored fine-tuned network; None if there is none, or it was tuned otherwise.

    Raises:
        InputError: the file is damaged.
    """
    path = finetuned_path(pipeline)
    if not (pipeline.has_classifier and path.exists()):
        return None
    record, checkpoint = _record(pipeline, config), load_checkpoint(path)
    if has_code_changed(checkpoint.metadata, record):
        return None
    return checkpoint if all(checkpoint.metadata.get(name) == value for name, value in record.items()) else None


def finetuned_path(pipeline: Pipeline) -> Path:
    """Return `<checkpoints>/finetuned/<name of the classifier's file>`."""
    return pipeline.folders.checkpoints / "finetuned" / pipeline.path.name


def _record(pipeline: Pipeline, config: Any) -> dict[str, Any]:
    limit = pipeline.config.limit_train
    record = finetuning_record(pipeline.checkpoint, config.tuning, config.beta, config.fill, limit)
    return {"dataset": pipeline.config.dataset, "dataset_sum": pipeline.dataset_sha256} | record


def random_labels(pipeline: Pipeline) -> Training:
    """Return the training of the classifier on shuffled labels, stored in `checkpoints/random_labels`."""
    folder = pipeline.folders.checkpoints / "random_labels"
    path = pipeline.config.path(folder)
    return Training(
        pipeline.config,
        lambda: with_random_labels(pipeline.whole, pipeline.config.seed),
        folder,
        pipeline.device_of_tasks,
        look_up=lambda: find_classifier(pipeline.config, pipeline.dataset_sha256, folder),
        announcement=f"model: {path} is not there: training it on shuffled labels ...",
    )
