"""Measurements of methods on classifiers, one small file each: what is finished is not done again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution.spec import MethodSpec
from common.files import json_sha256
from common.progress import progress_bar
from experiments.pipeline import Pipeline
from experiments.runs import kept_records, naming_damage, read_record, say_other_code, write_record
from experiments.side_by_side import sharing
from models import model_name
from training.checkpoint import versions
from training.device import device_name

Found = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One method on one classifier."""

    pipeline: Pipeline
    method: MethodSpec


class Measurements(ABC):
    """One evaluation of several methods on the classifiers of one model, a seed each.

    Creating it looks at what is there and refuses what can't be used; nothing is written before `complete`.
    """

    def __init__(
        self, evaluation: str, pipelines: Sequence[Pipeline], methods: Sequence[MethodSpec], overwrite: bool = False
    ) -> None:
        """
        Raises:
            InputError: a method that the model refuses, maps of something else, a damaged result.
        """
        self.evaluation, self.pipelines, self.methods, self.overwrite = evaluation, pipelines, methods, overwrite
        self.dataset, self.model = pipelines[0].order.dataset, model_name(pipelines[0].order.attention)
        self.folder = pipelines[0].folders.results
        self.tasks = [Task(pipeline, method) for pipeline in pipelines for method in methods]
        self.results: dict[Task, Found] = {}
        for task in self.tasks:
            found = self._find(task) if task.pipeline.kept else None
            if found is None:
                self._check(task)
            else:
                self.results[task] = found
        if not overwrite:
            missing = (self.configuration(task, "") for task in self.todo)
            say_other_code(kept_records(self.folder, evaluation), missing)

    @abstractmethod
    def settings_of(self, task: Task) -> dict[str, Any]:
        """What decides on the result beside data, classifier and method; plain values."""

    @abstractmethod
    def lines_of(self, todo: Sequence[Task]) -> list[str]:
        """What a dry run says of `todo`."""

    @abstractmethod
    def measure(self, task: Task, on_images: Callable[[int], object]) -> Found:
        """Do one; `on_images` is told of `images_each` images in all."""

    @property
    @abstractmethod
    def images_each(self) -> int:
        """How many images a task is told to have done, for the progress bar."""

    @abstractmethod
    def report(self) -> str:
        """Write table and figure; return what is to be said at the end."""

    @abstractmethod
    def prepare(self, todo: Sequence[Task]) -> None:
        """Make what `todo` needs."""

    def _check(self, task: Task) -> None:
        """Raise `InputError` where the method can't be used on the model."""
        task.pipeline.check(task.method)

    def configuration(self, task: Task, checkpoint_sum: str) -> dict[str, Any]:
        order = task.pipeline.order
        facts = {
            "evaluation": self.evaluation,
            "dataset": order.dataset,
            "dataset_sum": task.pipeline.dataset_sum,
            "model": model_name(order.attention),
            "seed": order.seed,
            "checkpoint_sum": checkpoint_sum,
            **order.model_code,
        }
        return facts | task.method.plain | {"blur": task.method.blur} | self.settings_of(task)

    def path(self, task: Task) -> Path:
        """`results/<evaluation>/<dataset>_<model>_<method>_seed<k>-<hash of the configuration>.json`."""
        name = f"{self.dataset}_{self.model}_{task.method.file_stem}_seed{task.pipeline.order.seed}"
        configuration = json_sha256(self.configuration(task, task.pipeline.checkpoint.sum))[:12]
        return self.folder / self.evaluation / f"{name}-{configuration}.json"

    def _find(self, task: Task) -> Found | None:
        path = self.path(task)
        if self.overwrite or not path.exists():
            return None
        with naming_damage(path):
            configuration, result = read_record(path)
            if configuration != self.configuration(task, task.pipeline.checkpoint.sum):
                raise ValueError("another configuration")
            return result

    def facts(
        self,
    ) -> tuple[str, str, tuple[MethodSpec, ...], tuple[int, ...], dict[tuple[MethodSpec, int], Found], bool]:
        """What a report takes beside its settings: data set, model, methods, seeds, the results, whether quick."""
        found = {(task.method, task.pipeline.order.seed): found for task, found in self.results.items()}
        seeds = tuple(pipeline.order.seed for pipeline in self.pipelines)
        return self.dataset, self.model, tuple(self.methods), seeds, found, self.pipelines[0].order.quick

    @property
    def todo(self) -> list[Task]:
        """What is not finished."""
        return [task for task in self.tasks if task not in self.results]

    def plan(self) -> str:
        """What `complete` would do, in lines."""
        lines = [line for pipeline in self.pipelines for line in pipeline.train_lines()]
        lines += self.lines_of(self.todo)
        return "\n".join([*lines, f"{len(self.tasks)} measurements, {len(self.results)} finished, nothing written"])

    def complete(self, jobs: int = 1) -> None:
        """Do what is not finished, each measurement kept as soon as it is done, `jobs` of them side by side."""
        for task in self.todo:
            if task.pipeline.kept is None and (found := self._find(task)) is not None:
                self.results[task] = found  # of a classifier that another process, or this one, trained meanwhile
        todo = self.todo
        said = f"{self.evaluation}: {len(self.results)} of {len(self.tasks)} measurements are finished"
        print(f"{said}, {len(todo)} to do", flush=True)
        if not todo:
            return
        if self.overwrite:  # what is there from now on was done now, by whatever process
            for task in todo:
                self.path(task).unlink(missing_ok=True)
            self.overwrite = False
        self.prepare(todo)
        with progress_bar(len(todo) * self.images_each, self.evaluation, "images") as bar:

            def begun(task: Task) -> None:
                bar.set_postfix_str(f"{task.method.label} seed {task.pipeline.order.seed}", refresh=False)

            with sharing(self.work, jobs, len(todo)):
                self.work(bar.update, begun)

    def work(self, on_images: Callable[[int], object], on_task: Callable[[Task], object] = lambda task: None) -> None:
        """Do what no other process is at.

        Args:
            on_images: told how many images were just done, here or in other processes.
            on_task: told of each measurement that begins here.
        """
        for task in self.pipelines[0].claims.shared(self.todo, lambda task: self.path(task).name):
            found = self._find(task)  # another process may have done it by now
            if found is None:
                on_task(task)
                how = {"device": device_name(task.pipeline.device), "versions": versions()}
                found = self.measure(task, on_images) | how
                write_record(self.path(task), self.configuration(task, task.pipeline.checkpoint.sum), found)
            else:
                on_images(self.images_each)
            self.results[task] = found
