"""Processes that do the same work side by side: what one of them is at, no other does (see `claims.py`).

A small network leaves most of a machine idle, and a second thread speeds a training of it up by far less than a second
training beside it does.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
import torch.multiprocessing

from training.device import set_up_process

Work = Callable[[Callable[[int], object]], object]
"""Called with what is to be told how much was just done."""

MOST_JOBS = 16  # unless asked for: each holds the images


def usual_jobs(device: torch.device) -> int:
    """One process for each core that this one may use; a GPU is left to a single one."""
    if device.type != "cpu":
        return 1
    return min(MOST_JOBS, torch.get_num_threads())


@contextmanager
def sharing(work: Work, jobs: int, tasks: int) -> Iterator[None]:
    """While the `with` block does `work`, `jobs` − 1 other processes do it too.

    The threads of this process are divided among all of them. What fails in another process is left undone there, and
    this one, which comes to everything that is left, meets it again.

    Args:
        work: can be pickled, claims what it does, and looks whether that was done already.
        tasks: how many there are; no more processes are started, but each has the threads of one of `jobs`, since the
            last digits of a result depend on them.
    """
    each = threads_each(jobs)
    spawn = torch.multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=_help, args=(work, each, os.getpid()), daemon=True) for _ in range(min(jobs, tasks) - 1)
    ]
    try:
        with _interrupts_ignored():
            for other in others:
                other.start()
        with threads_of_one(jobs):
            yield
    finally:
        started = [other for other in others if other.pid is not None]
        for other in started:
            other.terminate()
        for other in started:
            other.join()


def threads_each(jobs: int) -> int:
    """How many threads each of `jobs` processes has."""
    return max(1, torch.get_num_threads() // jobs)


@contextmanager
def threads_of_one(jobs: int) -> Iterator[None]:
    """In the `with` block this process has the threads that one of `jobs` has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads_each(jobs))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A process that is started meanwhile never hears of Ctrl-C; the one that started it ends it."""
    if threading.current_thread() is not threading.main_thread():  # no other can change this
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _help(work: Work, threads: int, parent: int) -> None:
    """Do `work` in silence, and stop when the process that asked for it has ended, in whatever way."""

    def done(_amount: int) -> None:
        if os.getppid() != parent:
            sys.exit()

    torch.set_num_threads(threads)
    set_up_process()
    with (
        Path(os.devnull).open("w", encoding="utf-8", errors="replace") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        work(done)
