"""Sides that are timed in turn, each in a process of its own.

What one side sets for its process, or leaves in memory, is not the other's: theirs runs as PyTorch is without this
project.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.multiprocessing

from benchmarks.timing import Side, Timing, wait_for

Build = Callable[..., Side]
"""Makes a piece of work ready, in the process that is to do it. Can be pickled, as its arguments must."""


class Apart:
    """Some processes, each of which does its side of whatever is asked."""

    def __init__(self, sides: Mapping[str, Connection]) -> None:
        self.sides = sides

    def alternated(self, repeats: int, *work: Any, sides: tuple[str, ...] = (), warm_up: int = 1) -> dict[str, Timing]:
        """Time the sides (default all) in turn, each `repeats` times.

        Args:
            work: what each side's `Build` is called with.
        """
        chosen = sides or tuple(self.sides)
        for name in chosen:
            self._answer(name, work)
        found: dict[str, list[float]] = {name: [] for name in chosen}
        for repeat in range(warm_up + repeats):
            for name in chosen:
                seconds = self._answer(name, None)
                if repeat >= warm_up:
                    found[name].append(seconds)
        return {name: Timing(tuple(seconds)) for name, seconds in found.items()}

    def _answer(self, name: str, request: tuple[Any, ...] | None) -> float:
        self.sides[name].send(request)
        try:
            seconds: float = self.sides[name].recv()
        except EOFError:
            raise RuntimeError(f"the side {name!r} of the benchmark failed") from None
        return seconds


@contextmanager
def apart(builds: Mapping[str, Build], device: torch.device) -> Iterator[Apart]:
    """One process for each of `builds`, which end with the `with` block."""
    spawn, usual = torch.multiprocessing.get_context("spawn"), torch.multiprocessing.get_start_method()
    ends, processes = {}, []
    try:
        for name, build in builds.items():
            ends[name], theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(theirs, build, device, usual))
            process.start()
            theirs.close()
            processes.append(process)
        yield Apart(ends)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _serve(end: Connection, build: Build, device: torch.device, start_method: str) -> None:
    """Answer each request with the seconds it took: to make ready what it names, or (None) to do that once.

    Args:
        start_method: of processes that the side starts, such as the workers of a `DataLoader`.
    """
    torch.multiprocessing.set_start_method(start_method, force=True)
    side: Side | None = None
    while True:
        try:
            work = end.recv()
        except EOFError:
            return
        started = time.perf_counter()
        if work is not None:
            side = build(*work)
        elif side is not None:
            side()
        wait_for(device)
        end.send(time.perf_counter() - started)
