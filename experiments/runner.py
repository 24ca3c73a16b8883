"""The runner: every experiment is planned, resumed, carried out and stored in the same way."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from attribution.spec import MethodSpec
from common.errors import InputError
from evaluation.tasks import Failure, Task
from experiments.engine import Engine
from experiments.jobs import Job, make, make_large, require_success
from experiments.pipeline import Pipeline
from experiments.records import StoredRecords, find_result, report_other_code
from experiments.store import Folders
from reporting.records import load_records

Point = TypeVar("Point", bound=Hashable)
Explanation = tuple[Pipeline, MethodSpec]


class Experiment(ABC, Generic[Point]):
    """One evaluation on the classifiers of one data set and model, and its finished results.

    Creating it finds finished results and refuses what can't be used; nothing is written before it is run.

    A point is what has a result of its own: a retraining, or the measurement of a method on a classifier.

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
            InputError: a method that the model refuses, maps of something else, a damaged result, or classifiers of
                several seeds that were not trained alike.
        """
        require_alike(pipelines)
        self.pipelines, self.overwrite = pipelines, overwrite
        self.folders = pipelines[0].folders
        self.results: dict[Point, Any] = {}
        self.find()
        if not overwrite:
            report_other_code(self.stored_records(), map(self.record, self.todo))
        for pipeline, method in self.explanations:
            if not (self.needs_maps and pipeline.find_maps(method)):
                pipeline.try_method(method)  # so that a method that fails is refused at once

    @abstractmethod
    def points(self) -> Sequence[Point]:
        """Return everything to measure, in order."""

    @abstractmethod
    def subject(self, point: Point) -> tuple[Pipeline, MethodSpec | None]:
        """Return the classifier and the method that are measured; None without a method."""

    @abstractmethod
    def record(self, point: Point) -> dict[str, Any]:
        """Return everything that decides on a result, as its record has it."""

    @abstractmethod
    def path(self, point: Point) -> Path:
        """Return the file of the result."""

    def stored_records(self) -> StoredRecords:
        """Return everything finished of this kind."""
        return load_records(self.folders.results, self.title)

    def load(self, point: Point) -> Any | None:
        """Return the stored result; None if there is none.

        Raises:
            InputError: it is damaged.
        """
        return find_result(self.path(point), self.record(point))

    @abstractmethod
    def save(self, point: Point, result: Any) -> Any:
        """Store a result; return it as `load` would."""

    @abstractmethod
    def images(self, point: Point) -> int:
        """Return the number of images that the task of one point counts."""

    @abstractmethod
    def task(self, point: Point) -> Task:
        """Return the work of one point."""

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
        return self.summary.write(self.folders.results)

    @property
    def todo(self) -> list[Point]:
        """The points without a result."""
        return [point for point in self.points() if point not in self.results]

    @property
    def explanations(self) -> list[Explanation]:
        """The classifiers and methods of unfinished work, once where one command blurs their maps, too."""
        return list(dict.fromkeys(filter(None, map(self.explanation, self.todo))))

    def explanation(self, point: Point) -> Explanation | None:
        """Return the classifier and the method whose maps a point needs, as they are before they are blurred."""
        pipeline, method = self.subject(point)
        return (pipeline, replace(method, blur=False)) if method else None

    def plan_maps(self, planned: set[Hashable]) -> list[Explanation]:
        """Return the classifiers and methods whose maps are missing, without those `planned`; add them to these."""
        missing = [
            (pipeline, method)
            for pipeline, method in (self.explanations if self.needs_maps else ())
            if pipeline.key_of_maps(method) not in planned and not pipeline.has_maps(method)
        ]
        planned |= {pipeline.key_of_maps(method) for pipeline, method in missing}
        return missing

    def find(self) -> None:
        """Load stored results."""
        for point in self.todo if not self.overwrite else ():
            if self.subject(point)[0].has_classifier and (result := self.load(point)) is not None:
                self.results[point] = result

    def networks(self) -> Sequence[Job]:
        """Return the jobs of the other networks that the tasks need."""
        return ()


class ResultJob(Job):
    """Makes one result of an experiment."""

    def __init__(self, experiment: Experiment[Any], point: Any) -> None:
        self.experiment, self.point = experiment, point
        self.name = experiment.path(point).name

    @property
    def images(self) -> int:
        return self.experiment.images(self.point)

    def find(self) -> bool:
        if (result := self.experiment.load(self.point)) is None:
            return False
        self.experiment.results[self.point] = result
        return True

    def tasks(self, is_here: bool) -> Iterator[Task]:
        yield self.experiment.task(self.point)

    def save(self, task: Task, result: Any) -> None:
        self.experiment.results[self.point] = self.experiment.save(self.point, result)


def run(experiments: Sequence[Experiment[Any]], engine: Engine) -> None:
    """Make what is missing: classifiers, other networks, maps, results; store each at once.

    Raises:
        InputError: a part failed; the others are finished.
    """
    folders = experiments[0].folders
    pipelines = dict.fromkeys(pipeline for experiment in experiments for pipeline in experiment.pipelines)
    prepare(list(pipelines), engine)
    for experiment in experiments:
        experiment.find()
    networks = [job for experiment in experiments for job in experiment.networks()]
    failures = make_large(networks, engine, folders, "networks")
    require_success(failures.values(), len(networks), "networks")
    subjects = [each for experiment in experiments if experiment.needs_maps for each in experiment.explanations]
    without_maps = make_maps(subjects, engine, folders)
    for experiment in experiments:
        experiment.find()
        done, total = len(experiment.results), len(experiment.points())
        counts = f"{done} of {total} {experiment.unit} are finished, {total - done} to do"
        print(f"{experiment.title}: {counts}", flush=True)
        for point in experiment.todo if experiment.overwrite else ():
            experiment.path(point).unlink(missing_ok=True)  # a file from now on is a result of now
        experiment.overwrite = False
    work = [(experiment, point) for experiment in experiments for point in experiment.todo]
    jobs = [
        ResultJob(experiment, point)
        for experiment, point in work
        if not (experiment.needs_maps and experiment.explanation(point) in without_maps)
    ]
    failures = make(jobs, engine, folders, experiments[0].title)
    require_success([*without_maps.values(), *failures.values()], len(work), experiments[0].unit)


def require_alike(pipelines: Sequence[Pipeline]) -> None:
    """Raise `InputError` if classifiers of several seeds, over which an interval would be, were not trained alike."""
    first, *others = (pipeline.training_facts for pipeline in pipelines)
    for pipeline, facts in zip(pipelines[1:], others, strict=True):
        if different := [name for name in first if facts[name] != first[name]]:
            seeds = f"{pipelines[0].config.seed} and {pipeline.config.seed}"
            raise InputError(
                f"the classifiers of seeds {seeds} differ in {', '.join(different)}, and an interval over them would "
                f"say nothing: train all alike, with --train --seeds={len(pipelines)} --overwrite"
            )


def prepare(pipelines: Sequence[Pipeline], engine: Engine) -> None:
    """Train the classifiers that are missing, and print a line on each that is given."""
    train_missing(pipelines, engine)
    for pipeline in pipelines:
        pipeline.announce()


def train_missing(pipelines: Sequence[Pipeline], engine: Engine) -> None:
    """Train the classifiers that are missing.

    Raises:
        InputError: a training failed; the others are finished.
    """
    jobs: list[Job] = [pipeline.training() for pipeline in pipelines if not pipeline.has_classifier]
    failures = make_large(jobs, engine, pipelines[0].folders, "classifiers") if jobs else {}
    require_success(failures.values(), len(jobs), "trainings")
    for pipeline in pipelines:
        _ = pipeline.checkpoint  # reads it


def make_maps(subjects: Iterable[Explanation], engine: Engine, folders: Folders) -> dict[Explanation, Failure]:
    """Make the maps that are missing; return the failures by classifier and method."""
    missing = [each for each in dict.fromkeys(subjects) if not each[0].has_maps(each[1])]
    jobs: dict[Job, Explanation] = {pipeline.map_job(method): (pipeline, method) for pipeline, method in missing}
    failures = make_large(list(jobs), engine, folders, "maps")
    return {jobs[job]: failure for job, failure in failures.items()}
