"""Jobs: whatever is made once, by tasks of an engine and under a lock, and then kept."""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from filelock import BaseFileLock, Timeout

from common.errors import InputError
from common.progress import progress_bar
from evaluation.tasks import Failure, Task
from experiments.engine import Engine
from experiments.store import Folders

NAMED = 5  # failures in a message
PATIENCE = 0.5  # seconds, before a command says that it waits


class Job(ABC):
    """One thing to make: a classifier, the maps of a method, a result.

    Attributes:
        name: of its lock, and for messages.
        title: of the progress bar if it is made alone; None if its task shows one itself.
    """

    name: str
    title: str | None = None

    @property
    @abstractmethod
    def images(self) -> int:
        """The number of images that all of its tasks count."""

    @abstractmethod
    def find(self) -> bool:
        """Load it if it is finished; return whether it is.

        Raises:
            InputError: something else, or something damaged, has its place.
        """

    @abstractmethod
    def tasks(self, is_here: bool) -> Iterable[Task]:
        """Return the work.

        Args:
            is_here: this process carries it out, so that a task can call back.
        """

    @abstractmethod
    def save(self, task: Task, result: Any) -> None:
        """Store the result of one task."""

    def finish(self) -> None:
        """Take note that all tasks have ended."""
        return

    def abandon(self, failure: Failure) -> None:
        """Take note that a task has failed."""
        return


@dataclass
class _ActiveJob:
    """A job that this command makes, with the number of its tasks that run."""

    job: Job
    lock: BaseFileLock
    tasks: Iterator[Task]
    running: int = 0
    is_exhausted: bool = False
    failure: Failure | None = None


@dataclass
class _Queue:
    """The jobs of one call of `make`: those that wait, and those whose tasks run."""

    folders: Folders
    waiting: list[Job]
    is_here: bool
    bar: Any
    open: list[_ActiveJob] = field(default_factory=list)
    of_task: dict[int, _ActiveJob] = field(default_factory=dict)
    failures: dict[Job, Failure] = field(default_factory=dict)
    waits_since: float = 0.0

    def tasks(self) -> Iterator[Task | None]:
        """Yield tasks until all jobs are made; None while other commands make the rest."""
        while self.waiting or self.open:
            yield self.next_task()

    def next_task(self) -> Task | None:
        while self.open or self.start():
            started = self.open[0]
            task = None if started.failure else next(started.tasks, None)
            if task is not None:
                started.running += 1
                self.of_task[id(task)] = started
                self.waits_since = 0.0
                return task
            started.is_exhausted = True
            self.open.pop(0)
            self.close(started)
        if self.waiting and not self.of_task:
            self.say_that_it_waits()
        return None

    def start(self) -> bool:
        """Start the first job that nobody else is making."""
        busy = {started.job.name for started in (*self.open, *self.of_task.values())}
        for job in list(self.waiting):
            if job.name in busy:  # two evaluations need the same result
                continue
            lock = self.folders.lock(job.name)
            if not _acquire(lock):
                continue
            self.waiting.remove(job)
            if not job.find():
                self.open.append(_ActiveJob(job, lock, iter(job.tasks(self.is_here))))
                return True
            lock.release()
            self.bar.update(job.images)  # another command, or another evaluation, did it
        return False

    def say_that_it_waits(self) -> None:
        now = time.monotonic()
        self.waits_since = self.waits_since or now
        if now - self.waits_since > PATIENCE:
            print(f"waiting: another command is making {self.waiting[0].name}", flush=True)
            self.waits_since = float("inf")  # once

    def end(self, task: Task, result: Any) -> None:
        started = self.of_task.pop(id(task))
        started.running -= 1
        if isinstance(result, Failure):
            started.failure = self.failures[started.job] = result
            started.job.abandon(result)
        elif not started.failure:
            started.job.save(task, result)
        self.close(started)

    def close(self, started: _ActiveJob) -> None:
        """Finish a job whose tasks have all ended."""
        if started.running or not (started.is_exhausted or started.failure):
            return
        if started in self.open:
            self.open.remove(started)
        if not started.failure:
            started.job.finish()
        started.lock.release()


def make(jobs: Sequence[Job], engine: Engine, folders: Folders, title: str | None) -> dict[Job, Failure]:
    """Make what is not finished, store each result at once, and wait for what another command is making.

    Args:
        title: of the progress bar; None for no bar.

    Returns:
        the jobs that failed; the others are finished.
    """
    if not jobs:
        return {}
    total = sum(job.images for job in jobs)
    with progress_bar(total, title, "images") as bar:
        queue = _Queue(folders, list(jobs), engine.is_here, bar)
        for task, result in engine.run(queue.tasks(), bar.update):
            bar.set_postfix_str(task.name, refresh=False)
            queue.end(task, result)
    return queue.failures


def make_large(jobs: Sequence[Job], engine: Engine, folders: Folders, title: str) -> dict[Job, Failure]:
    """Make what uses a whole machine: in this process one after the other, on a cluster side by side."""
    engine = engine.large
    if not engine.is_here:
        return make(jobs, engine, folders, title)
    failures: dict[Job, Failure] = {}
    waiting = list(jobs)
    while waiting:
        job = next((job for job in waiting if _is_free(folders.lock(job.name))), waiting[0])
        waiting.remove(job)
        failures |= make([job], engine, folders, job.title)
    return failures


def _acquire(lock: BaseFileLock) -> bool:
    """Take a lock unless another command has it; tell if it was taken."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _is_free(lock: BaseFileLock) -> bool:
    """Tell if no other command makes the job of this lock."""
    if is_free := _acquire(lock):
        lock.release()
    return is_free


def require_success(failures: Collection[Failure], total: int, unit: str) -> None:
    """Raise `InputError` with the names and reasons of what failed, if anything did."""
    if not failures:
        return
    reasons = list(map(str, failures))
    if total == 1:
        raise InputError(reasons[0])
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    text = "; ".join(reasons[:NAMED]) + more
    raise InputError(f"{len(reasons)} of {total} {unit} failed: {text}. What is finished is kept")
