"""The work of one process of a cluster: it receives a task and what tasks share, and returns its result."""

import hashlib
import io
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from common.errors import InputError
from common.fingerprint import ROOT
from data import Dataset, Split
from data.load import register
from evaluation.tasks import Failure, SharedArrays, Task
from experiments.shipping import own_files
from training.checkpoint import Checkpoint, versions
from training.device import release_freed_memory, set_up_process

OBJECTS_HELD = 16  # by the driver and by each worker: data, ranks, networks


@dataclass(frozen=True)
class Identity:
    """This project's source and the versions of Python, PyTorch and NumPy, which all processes have in common."""

    source: str
    versions: tuple[tuple[str, str], ...]

    @classmethod
    def of_this_process(cls) -> "Identity":
        digest = hashlib.sha256()
        for file in own_files():
            digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
        return cls(digest.hexdigest(), tuple((versions() | {"numpy": np.__version__}).items()))

    def difference(self, other: "Identity") -> str:
        """Return in words how another process differs; empty if it doesn't."""
        there = dict(other.versions)
        parts = [f"{name} {there.get(name)}, here {here}" for name, here in self.versions if there.get(name) != here]
        return ", ".join(parts or ["other code of this project"] * (self.source != other.source))


class RefusedError(InputError):
    """A machine of the cluster has other code or other versions."""


class TaskPickler(pickle.Pickler):
    """Pickles a task, with references in place of the arrays and networks that it shares with others."""

    def __init__(self, file: io.BytesIO, put: Callable[[Any], Any]) -> None:
        super().__init__(file)
        self.put = put
        self.references: dict[str, Any] = {}

    def persistent_id(self, value: Any) -> str | None:
        if not isinstance(value, SharedArrays | Dataset | Checkpoint):
            return None
        reference = self.put(value)
        self.references[reference.hex()] = reference
        return str(reference.hex())


class _TaskUnpickler(pickle.Unpickler):
    def persistent_load(self, key: Any) -> Any:
        return _objects[key]


def plain(value: Any) -> Any:
    """Return what is put into the object store for `value`."""
    if isinstance(value, SharedArrays):
        return {name: np.asarray(array) for name, array in value.arrays().items()}, value.key  # not mapped from a file
    if isinstance(value, Dataset):
        return replace(value, train=_decode(value.train), test=_decode(value.test))
    return value


def _decode(split: Split) -> Split:
    return Split(np.asarray(split.images), split.labels, split.index)


_objects: OrderedDict[str, Any] = OrderedDict()  # of a worker: data, ranks and networks
_own_identity: list[Identity] = []


def carry_out(data: bytes, objects: list[Any], expected: tuple[Any, ...], threads: int) -> Any:
    """Run a task in a worker of the cluster; return its result, its `Failure`, a `MemoryError` or a `RefusedError`.

    The arguments are plain, so that Ray needs none of our modules, and not torch, for them: it reads them in a thread
    of its own, while this module is imported in another.
    """
    import ray

    if not _own_identity:
        _own_identity.append(Identity.of_this_process())
        warnings.filterwarnings("ignore", message="The given (NumPy array|buffer) is not writable")
        set_up_process()
    if difference := Identity(*expected).difference(_own_identity[0]):
        node = ray.util.get_node_ip_address()
        return RefusedError(f"the machine {node} of the cluster has {difference}: make them the same, or take it out")
    torch.set_num_threads(threads)
    for key, (reference,) in objects:
        if key not in _objects:
            value = ray.get(reference)
            _objects[key] = SharedArrays(*value) if isinstance(value, tuple) else value
            while len(_objects) > OBJECTS_HELD:
                _objects.popitem(last=False)
        _objects.move_to_end(key)
    task: Task = _TaskUnpickler(io.BytesIO(data)).load()
    if task.dataset is not None:
        register(task.dataset)
    try:
        return task.run(lambda images: None)
    except (MemoryError, torch.OutOfMemoryError):
        return MemoryError()
    except Exception as error:  # users' code may raise anything
        return Failure.of(task, error)
    finally:
        release_freed_memory()
