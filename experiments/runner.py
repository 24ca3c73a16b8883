"""The runner: whatever is measured is planned, found again, done, kept and reported in the same way."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import BaseFileLock, Timeout

from common.progress import progress_bar
from evaluation.tasks import OnImages, Task
from experiments.engine import Engine
from experiments.store import Folders

Config = TypeVar("Config", bound=Hashable)


class Experiment(ABC, Generic[Config]):
    """One evaluation on one data set and model: what it measures, and what of that is finished.

    Creating it looks at what is there and refuses what can't be used; nothing is written before it is run.

    Attributes:
        results: what is finished.
        overwrite: whether everything shall be done again.
    """

    title: str
    unit = "measurements"
    folders: Folders

    def __init__(self, overwrite: bool) -> None:
        self.overwrite = overwrite
        self.results: dict[Config, Any] = {}

    @abstractmethod
    def configs(self) -> Sequence[Config]:
        """Return everything to measure, in order; named with the classifier's weights once they are known."""

    @abstractmethod
    def path(self, config: Config) -> Path:
        """Return the file of the result."""

    @abstractmethod
    def load(self, config: Config) -> Any | None:
        """Return the result that is kept; None if there is none.

        Raises:
            InputError: it is damaged.
        """

    @abstractmethod
    def save(self, config: Config, result: Any) -> Any:
        """Keep a result; return it as `load` would."""

    @abstractmethod
    def prepare(self) -> None:
        """Make what the tasks need: classifiers, maps, fine-tuned networks."""

    @abstractmethod
    def images(self, config: Config) -> int:
        """Return how many images the task of one configuration tells the progress bar of."""

    @abstractmethod
    def task(self, config: Config) -> Task:
        """Return the work of one configuration."""

    @abstractmethod
    def plan(self, planned: set[Hashable], jobs: int) -> str:
        """Say in lines what would be done.

        Args:
            planned: what is planned before this one and not done twice; what this one does is added.
        """

    @abstractmethod
    def report(self) -> str:
        """Write tables and figures; return what to print."""

    @property
    def todo(self) -> list[Config]:
        """What is not finished."""
        return [config for config in self.configs() if config not in self.results]

    def find(self) -> None:
        """Look for results that are kept."""
        for config in self.todo if not self.overwrite else ():
            if (result := self.load(config)) is not None:
                self.results[config] = result


class _Claims:
    """Hands out tasks that no other command is doing, and keeps their results."""

    def __init__(self, work: Sequence[tuple[Experiment[Any], Any]], on_images: OnImages) -> None:
        self.work, self.on_images = list(work), on_images
        self.running: dict[int, tuple[Experiment[Any], Any, BaseFileLock]] = {}

    def __iter__(self) -> Iterator[Task | None]:
        """Yield the first task that can be begun, until all are done; None while others do what is left."""
        while self.work:
            yield self._next()

    def _next(self) -> Task | None:
        paths = {experiment.path(config) for experiment, config, _lock in self.running.values()}
        for place, (experiment, config) in enumerate(self.work):
            path = experiment.path(config)
            if path in paths:  # two evaluations need the same result
                continue
            lock = experiment.folders.lock(path.name)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            del self.work[place]
            task = experiment.task(config)
            if (result := experiment.load(config)) is not None:  # another command, or another evaluation, did it
                experiment.results[config] = result
                lock.release()
                self.on_images(task.images)
                return self._next() if self.work else None
            self.running[id(task)] = experiment, config, lock
            return task
        return None

    def keep(self, task: Task, result: Any) -> None:
        experiment, config, lock = self.running.pop(id(task))
        experiment.results[config] = experiment.save(config, result)
        lock.release()


def run(experiments: Sequence[Experiment[Any]], engine: Engine) -> None:
    """Do what is not finished, each result kept as soon as it is there.

    What another command is doing is left to it, and awaited at the end.
    """
    for experiment in experiments:
        experiment.prepare()
        experiment.find()
        done, total = len(experiment.results), len(experiment.configs())
        left = total - done
        print(f"{experiment.title}: {done} of {total} {experiment.unit} are finished, {left} to do", flush=True)
        for config in experiment.todo if experiment.overwrite else ():
            experiment.path(config).unlink(missing_ok=True)  # what is there from now on was done now
        experiment.overwrite = False
    work = [(experiment, config) for experiment in experiments for config in experiment.todo]
    if not work:
        return
    total = sum(experiment.images(config) for experiment, config in work)
    with progress_bar(total, experiments[0].title, "images") as bar:
        claims = _Claims(work, bar.update)
        for task, result in engine.run(claims, bar.update):
            bar.set_postfix_str(task.name, refresh=False)
            claims.keep(task, result)
