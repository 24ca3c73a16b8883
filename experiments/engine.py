"""Engines, which carry out tasks and return results as they come; only the driver plans and writes.

A small network leaves most of a machine idle: a second thread speeds its training up by far less than a second training
beside it does. So `Local` divides the threads of this process among several processes, each with one task at a time.
"""

import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import torch

from common.errors import InputError
from evaluation.tasks import Failure, OnImages, Task
from training.device import release_freed_memory, set_up_process

MAX_JOBS = 16  # by default: each process holds the images
SECONDS_BETWEEN_LOOKS = 0.2


class Engine(Protocol):
    """Carries out tasks."""

    @property
    def is_here(self) -> bool:
        """Tasks run in this process, one after the other."""

    @property
    def large(self) -> "Engine":
        """The engine for tasks that use a whole machine."""

    def run(self, tasks: Iterable[Task | None], on_images: OnImages) -> Iterator[tuple[Task, Any]]:
        """Yield each task with its result, or with the `Failure` that ended it, in the order in which they end.

        Args:
            tasks: the next one is taken when there is room for it; None means that there is none at the moment.
            on_images: called with numbers of images that are done.
        """


def default_jobs(device: torch.device) -> int:
    """Return the number of processes: one for each core that this process may use; one on a GPU."""
    return min(MAX_JOBS, torch.get_num_threads()) if device.type == "cpu" else 1


def threads_per_job(jobs: int) -> AbstractContextManager[None]:
    """Give this process the threads of one of `jobs` processes: the last digits of a result depend on their number."""
    return threads_set_to(max(1, torch.get_num_threads() // jobs))


@contextmanager
def threads_set_to(count: int) -> Iterator[None]:
    """Compute with `count` threads in the `with` block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Local:
    """Runs tasks in processes of this machine, or in this process if `jobs` is 1."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    @property
    def is_here(self) -> bool:
        return self.jobs == 1

    @property
    def large(self) -> "Local":
        return Local(1)

    def run(self, tasks: Iterable[Task | None], on_images: OnImages) -> Iterator[tuple[Task, Any]]:
        """See `Engine.run`.

        Raises:
            InputError: a process was killed.
        """
        with threads_per_job(self.jobs):
            yield from self._run_here(tasks, on_images) if self.jobs == 1 else self._run_side_by_side(tasks, on_images)

    def _run_here(self, tasks: Iterable[Task | None], on_images: OnImages) -> Iterator[tuple[Task, Any]]:
        for task in tasks:
            if task is None:
                time.sleep(SECONDS_BETWEEN_LOOKS)
            else:
                yield task, _run_safely(task, on_images)

    def _run_side_by_side(self, tasks: Iterable[Task | None], on_images: OnImages) -> Iterator[tuple[Task, Any]]:
        release_freed_memory()  # this process has little to do now
        context = multiprocessing.get_context("spawn")
        reader, writer = context.Pipe(duplex=False)  # workers end when it closes, however this process ends
        images, counted = context.Value("q"), 0
        pool = ProcessPoolExecutor(self.jobs, context, _start_worker, (reader, images, torch.get_num_threads()))
        running: dict[Future[Any], Task] = {}
        waiting, is_exhausted = iter(tasks), False
        with tempfile.TemporaryDirectory(prefix="whitebox-") as folder:
            try:
                while running or not is_exhausted:
                    while len(running) < self.jobs and not is_exhausted:
                        try:
                            task = next(waiting)
                        except StopIteration:
                            is_exhausted = True
                            break
                        if task is None:
                            break
                        for arrays in task.shared:
                            arrays.write(Path(folder))
                        release_freed_memory()
                        with _ignore_interrupts():  # by the processes that this starts
                            running[pool.submit(_run_pickled, pickle.dumps(task))] = task
                    ended, _ = wait(running, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
                    if not running:
                        time.sleep(SECONDS_BETWEEN_LOOKS)
                    done = images.get_obj().value  # without its lock, which a killed worker may hold
                    on_images(done - counted)
                    counted = done
                    for future in ended:
                        yield running.pop(future), future.result()  # raises if a process was killed
            except BrokenProcessPool as error:
                raise InputError(
                    "a worker process was killed (out of memory?): give fewer --jobs; what is finished is kept"
                ) from error
            finally:
                writer.close()
                pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _ignore_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from processes that are started in the `with` block; this process ends them."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread can change this
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_images: Any = None  # shared with the driver: the number that all workers have done


def _count_images(images: int) -> None:
    with _images.get_lock():
        _images.value += images


def _start_worker(reader: Connection, images: Any, threads: int) -> None:
    """Set up a worker process, which ends with the driver."""
    global _images
    _images = images
    torch.set_num_threads(threads)
    set_up_process()

    def end_with_driver() -> None:
        multiprocessing.connection.wait([reader])
        os._exit(1)

    threading.Thread(target=end_with_driver, daemon=True).start()


def _run_pickled(task: bytes) -> Any:
    """Run a task in a worker, without output.

    The task is pickled, since PyTorch would move tensors to /dev/shm, which may be small.
    """
    with (
        Path(os.devnull).open("w", encoding="utf-8", errors="replace") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        try:
            return _run_safely(pickle.loads(task), _count_images)
        finally:
            release_freed_memory()


def _run_safely(task: Task, on_images: OnImages) -> Any:
    """Return the result of a task, or the `Failure` of one that raises; a full disk ends the command."""
    try:
        return task.run(on_images)
    except OSError:
        raise
    except Exception as error:  # users' code may raise anything
        return Failure.of(task, error)
