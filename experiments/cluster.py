"""An engine that carries out tasks on a Ray cluster.

Ray places the tasks and brings code, arrays and results to where they belong; this module hands tasks over one by one,
and again if the process, the machine or the memory under them was lost. Ray is optional: it is imported at first use.
"""

import importlib.util
import io
import os
import socket
import tempfile
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import InputError
from evaluation.tasks import Failure, OnImages, SharedArrays, Task
from experiments.cluster_worker import (
    OBJECTS_HELD,
    Identity,
    RefusedError,
    TaskPickler,
    carry_out,
    plain,
)
from experiments.engine import SECONDS_BETWEEN_LOOKS, threads_set_to
from experiments.shipping import copy_code

INSTALL = "pip install -r requirements-cluster.txt"
ADDRESS_VARIABLE = "RAY_ADDRESS"
THIS_MACHINE = "127.0.0.1"
AHEAD = 2  # tasks handed over, for each that the cluster has room for, so that no process waits for the next one
LOSSES = 10  # of the process under one task, before the task itself is blamed
SECONDS_TO_CONNECT = 10.0
SECONDS_BETWEEN_COUNTS = 5.0  # of the processors of the cluster, which grows and shrinks


def require_ray() -> Any:
    """Import Ray, without its reports to its makers.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError(f"--engine=ray needs Ray, which is not installed: {INSTALL}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # under `ray job submit`: our code, not its whole folder
    import ray

    return ray


def require_listener(address: str | None) -> None:
    """Raise `InputError` if nobody listens at HOST:PORT, for which Ray would wait for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--address={address}: no Ray cluster there: {error}") from error


@dataclass
class _Attempt:
    """A task on its way.

    Attributes:
        share: how many times the usual processors it asks for, so that fewer run beside it.
        losses: how often the process under it was lost.
        objects: keeps what was put into the object store for it.
    """

    task: Task
    share: int = 1
    losses: int = 0
    objects: tuple[Any, ...] = ()


class Cluster:
    """Runs tasks on a Ray cluster, or on a Ray that is started for this command on this machine.

    Only this process, the driver, plans and writes. The arrays and networks that tasks share are put into Ray's object
    store once.
    """

    is_here = False
    _is_connected = False  # this process, by the last command with this engine

    def __init__(self, address: str | None, cpus: int, gpus: float, places: Sequence[str] = ()) -> None:
        """
        Args:
            address: "auto" or "HOST:PORT"; None for the environment's, or else a Ray of this command's own.
            cpus, gpus: of one task; a task computes with as many threads.
            places: of the user's own code, which is shipped too.

        Raises:
            InputError: Ray is not installed, or the user's code lies where it can't be shipped from.
        """
        self._ray = require_ray()
        self.address = address or os.environ.get(ADDRESS_VARIABLE)
        self.cpus, self.gpus = cpus, gpus
        self.places = places
        self._objects: OrderedDict[Any, tuple[Any, Any]] = OrderedDict()  # what was put, and its reference
        self._identity = Identity.of_this_process()
        self._remote: Any = None
        self._slots, self._counted = 1, 0.0

    @property
    def large(self) -> "Cluster":
        return self

    def connect(self) -> None:
        """Connect to the cluster, or start a Ray on this machine, unless that is done.

        Raises:
            InputError: there is no such cluster.
        """
        if self._remote is not None:
            return
        ray = self._ray
        options: dict[str, Any] = {"address": self.address, "log_to_driver": False, "logging_level": "ERROR"}
        if not self.address:
            count = max(self.cpus, torch.get_num_threads())
            started = {"num_cpus": count, "include_dashboard": False, "_node_ip_address": THIS_MACHINE}
            options |= {"address": "local"} | started
        if ray.is_initialized():
            if not Cluster._is_connected:
                raise InputError("this process uses Ray already: give --engine=ray to a process of its own")
            ray.shutdown()  # of an earlier command, with the code of that
        require_listener(self.address)
        try:
            with tempfile.TemporaryDirectory(prefix="whitebox-code-") as code:
                copy_code(self.places, Path(code))
                # Ray removes the code of a driver that has ended, and would remove that of the next if it were the same
                Path(code, "driver.txt").write_text(uuid.uuid4().hex, encoding="utf-8")
                ray.init(runtime_env={"working_dir": code}, **options)
        except (ConnectionError, ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"--address={self.address or 'local'}: no Ray cluster: {reason}") from error
        Cluster._is_connected = True
        print(f"cluster: {self.describe()}", flush=True)
        self._remote = ray.remote(max_retries=0)(carry_out)

    def describe(self) -> str:
        """Return a line on the cluster."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        resources = self._ray.cluster_resources()
        gpus = f", {resources['GPU']:g} GPUs" if resources.get("GPU") else ""
        where = self.address or "started for this command"
        return f"Ray {self._ray.__version__} ({where}): {len(nodes)} nodes, {resources.get('CPU', 0):g} CPUs{gpus}"

    def count_slots(self) -> int:
        """Return the number of tasks that the cluster has room for now, and say if there is none."""
        if time.monotonic() - self._counted > SECONDS_BETWEEN_COUNTS:
            there = self._ray.cluster_resources()
            room = there.get("CPU", 0) / self.cpus
            if self.gpus:
                room = min(room, there.get("GPU", 0) / self.gpus)
            if room < 1 <= self._slots:
                print(f"cluster: no room for a task ({self.cpus} CPUs, {self.gpus:g} GPUs) now: waiting", flush=True)
            self._slots, self._counted = int(room), time.monotonic()
        return max(1, self._slots)  # a cluster that grows by demand has to see some

    def run(self, tasks: Iterable[Task | None], on_images: OnImages) -> Iterator[tuple[Task, Any]]:
        """See `Engine.run`; images are counted when their task ends.

        Raises:
            InputError: there is no cluster, it was lost, or a machine of it has other versions.
        """
        self.connect()
        ray = self._ray
        running: dict[Any, _Attempt] = {}
        again: list[_Attempt] = []
        waiting, is_exhausted = iter(tasks), False
        try:
            with threads_set_to(self.cpus):
                while running or again or not is_exhausted:
                    while len(running) < AHEAD * self.count_slots() and (again or not is_exhausted):
                        attempt = again.pop() if again else None
                        if attempt is None:
                            task = next(waiting, _END)
                            is_exhausted = task is _END
                            if not isinstance(task, Task):
                                break
                            attempt = _Attempt(task)
                        running[self._submit(attempt)] = attempt
                    if not running:
                        time.sleep(SECONDS_BETWEEN_LOOKS)
                        continue
                    ended, _ = ray.wait(list(running), num_returns=1, timeout=SECONDS_BETWEEN_LOOKS)
                    for reference in ended:
                        attempt = running.pop(reference)
                        result = self._result(reference, attempt)
                        if result is _AGAIN:
                            again.append(attempt)
                        else:
                            on_images(attempt.task.images)
                            yield attempt.task, result
        except (ray.exceptions.RayError, ConnectionError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise InputError(
                f"the cluster was lost ({reason}): what is finished is kept; the same command goes on"
            ) from error
        finally:
            for reference in running:
                with suppress(Exception):  # the cluster may be gone
                    ray.cancel(reference, force=True)

    def _submit(self, attempt: _Attempt) -> Any:
        file = io.BytesIO()
        pickler = TaskPickler(file, self._put)
        pickler.dump(attempt.task)
        attempt.objects = tuple(pickler.references.values())
        # in lists, so that Ray hands over the references and not what they stand for
        objects = [[key, [reference]] for key, reference in pickler.references.items()]
        cpus, gpus = float(self.cpus), self.gpus
        if attempt.share > 1:
            cpus = min(cpus * attempt.share, max(self._most("CPU"), cpus))
            gpus = min(gpus * attempt.share, max(gpus, 1)) if gpus else gpus
        arguments = file.getvalue(), objects, astuple(self._identity), self.cpus
        return self._remote.options(num_cpus=cpus, num_gpus=gpus).remote(*arguments)

    def _put(self, value: Any) -> Any:
        """Put what tasks share into the object store, once; return the reference."""
        key = value.key if isinstance(value, SharedArrays) else id(value)  # the object lives while it is here
        if key not in self._objects:
            self._objects[key] = value, self._ray.put(plain(value))
            while len(self._objects) > OBJECTS_HELD:
                self._objects.popitem(last=False)
        self._objects.move_to_end(key)
        return self._objects[key][1]

    @property
    def _alone(self) -> float:
        """The share with which a task has a machine, and a GPU, to itself."""
        return max(self._most("CPU") / self.cpus, 1 / self.gpus if self.gpus else 1)

    def _most(self, resource: str) -> float:
        """Return how much of a resource the largest machine has."""
        nodes = (node for node in self._ray.nodes() if node["Alive"])
        return max((node["Resources"].get(resource, 0) for node in nodes), default=0)

    def _result(self, reference: Any, attempt: _Attempt) -> Any:
        """Return the result of an attempt that has ended, a `Failure`, or `_AGAIN`."""
        errors = self._ray.exceptions
        try:
            outcome = self._ray.get(reference)
        except errors.OutOfMemoryError:
            outcome = MemoryError()
        except errors.RuntimeEnvSetupError as error:
            raise InputError(f"the code can't be brought to the cluster: {' '.join(str(error).split())}") from error
        except errors.NodeDiedError:
            return _AGAIN
        except (errors.WorkerCrashedError, errors.ObjectLostError):
            return self._after_loss(attempt)
        except errors.RayTaskError as error:  # of Ray itself, or of an import: a task's own is a `Failure`
            return self._after_loss(attempt, str(error).strip().splitlines()[-1])
        if isinstance(outcome, RefusedError):
            raise outcome
        if isinstance(outcome, MemoryError):
            return self._with_more_room(attempt)
        return outcome

    def _after_loss(self, attempt: _Attempt, reason: str = "its process was lost") -> Any:
        """Try again, with more room after the second loss: the system may have had too little memory."""
        attempt.losses += 1
        if attempt.losses >= LOSSES:
            return Failure(attempt.task.name, f"{reason}, {LOSSES} times")
        if attempt.losses > 1 and attempt.share < self._alone:
            attempt.share *= 2
        return _AGAIN

    def _with_more_room(self, attempt: _Attempt) -> Any:
        """Let fewer tasks run beside one that had too little memory, at last none."""
        if attempt.share >= self._alone:
            return Failure(attempt.task.name, "out of memory, even alone on a machine")
        attempt.share *= 2
        return _AGAIN


_END, _AGAIN = object(), object()
