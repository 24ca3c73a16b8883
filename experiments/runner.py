"""The runner: every experiment is planned, resumed, carried out and stored in the same way."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import BaseFileLock, Timeout

from attribution.spec import MethodSpec
from common.progress import progress_bar
from evaluation.tasks import Task
from experiments.engine import Engine
from experiments.pipeline import Pipeline
from experiments.records import StoredRecords, find_result, report_other_code
from reporting.records import load_records

Config = TypeVar("Config", bound=Hashable)


class Experiment(ABC, Generic[Config]):
    """One evaluation on the classifiers of one data set and model, and its finished results.

    Creating it finds finished results and refuses what can't be used; nothing is written before it is run.

    Attributes:
        config: the configuration of the evaluation.
        results: the finished ones.
        overwrite: do everything again.
        left_out: the reason why a method is not evaluated, by its label.
    """

    config: Any
    left_out: Mapping[str, str]
    title: str
    unit = "measurements"
    needs_maps = True

    def __init__(self, pipelines: Sequence[Pipeline], overwrite: bool) -> None:
        """Find the finished results.

        Raises:
            InputError: a method that the model refuses, maps of something else, a damaged result.
        """
        self.pipelines, self.overwrite = pipelines, overwrite
        self.folders = pipelines[0].folders
        self.results: dict[Config, Any] = {}
        self.find()
        if not overwrite:
            report_other_code(self.stored_records(), map(self.record, self.todo))
        for pipeline, method in self.explanations:
            if not (self.needs_maps and pipeline.find_maps(method)):
                pipeline.try_method(method)  # so that a method that fails is refused at once

    @abstractmethod
    def configs(self) -> Sequence[Config]:
        """Return everything to measure, in order."""

    @abstractmethod
    def subject(self, config: Config) -> tuple[Pipeline, MethodSpec | None]:
        """Return the classifier and the method that are measured; None without a method."""

    @abstractmethod
    def record(self, config: Config) -> dict[str, Any]:
        """Return everything that decides on a result, as its record has it."""

    @abstractmethod
    def path(self, config: Config) -> Path:
        """Return the file of the result."""

    def stored_records(self) -> StoredRecords:
        """Return everything finished of this kind."""
        return load_records(self.folders.results, self.title)

    def load(self, config: Config) -> Any | None:
        """Return the stored result; None if there is none.

        Raises:
            InputError: it is damaged.
        """
        return find_result(self.path(config), self.record(config))

    @abstractmethod
    def save(self, config: Config, result: Any) -> Any:
        """Store a result; return it as `load` would."""

    @abstractmethod
    def images(self, config: Config) -> int:
        """Return the number of images that the task of one configuration counts."""

    @abstractmethod
    def task(self, config: Config) -> Task:
        """Return the work of one configuration."""

    @abstractmethod
    def plan(self, planned: set[Hashable]) -> str:
        """Return the lines of a dry run.

        Args:
            planned: the work of earlier experiments, which is not done twice; this one's is added.
        """

    @property
    @abstractmethod
    def summary(self) -> Any:
        """The summary of the results."""

    def report(self) -> str:
        """Write tables and figures; return what to print."""
        text: str = self.summary.write(self.folders.results)
        return text

    @property
    def todo(self) -> list[Config]:
        """The configurations without a result."""
        return [config for config in self.configs() if config not in self.results]

    @property
    def explanations(self) -> list[tuple[Pipeline, MethodSpec]]:
        """The classifiers and methods of unfinished work."""
        subjects = dict.fromkeys(map(self.subject, self.todo))
        return [(pipeline, method) for pipeline, method in subjects if method]

    def find(self) -> None:
        """Load stored results."""
        for config in self.todo if not self.overwrite else ():
            if self.subject(config)[0].has_classifier and (result := self.load(config)) is not None:
                self.results[config] = result

    def prepare(self) -> None:
        """Make what the tasks need: classifiers and maps."""
        for pipeline in self.pipelines:
            pipeline.announce()
        self.find()
        for pipeline, method in self.explanations if self.needs_maps else ():
            pipeline.maps(method)


def run(experiments: Sequence[Experiment[Any]], engine: Engine) -> None:
    """Do the unfinished work and store each result at once; wait at the end for what another command is doing."""
    for experiment in experiments:
        experiment.prepare()
        experiment.find()
        done, total = len(experiment.results), len(experiment.configs())
        counts = f"{done} of {total} {experiment.unit} are finished, {total - done} to do"
        print(f"{experiment.title}: {counts}", flush=True)
        for config in experiment.todo if experiment.overwrite else ():
            experiment.path(config).unlink(missing_ok=True)  # a file from now on is a result of now
        experiment.overwrite = False
    work = [(experiment, config) for experiment in experiments for config in experiment.todo]
    if not work:
        return
    running: dict[int, tuple[Experiment[Any], Any, BaseFileLock]] = {}
    total = sum(experiment.images(config) for experiment, config in work)

    def tasks() -> Iterator[Task | None]:
        """Yield the first task that no other command is doing, until all are done; None while others do the rest."""
        while work:
            yield next_task()

    def next_task() -> Task | None:
        busy = {experiment.path(config) for experiment, config, _lock in running.values()}
        for item in list(work):
            experiment, config = item
            path = experiment.path(config)
            if path in busy:  # two evaluations need the same result
                continue
            lock = experiment.folders.lock(path.name)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            work.remove(item)
            if (result := experiment.load(config)) is None:
                task = experiment.task(config)
                running[id(task)] = experiment, config, lock
                return task
            experiment.results[config] = result  # another command, or another evaluation, did it
            lock.release()
            bar.update(experiment.images(config))
        return None

    with progress_bar(total, experiments[0].title, "images") as bar:
        for task, result in engine.run(tasks(), bar.update):
            bar.set_postfix_str(task.name, refresh=False)
            experiment, config, lock = running.pop(id(task))
            experiment.results[config] = experiment.save(config, result)
            lock.release()
