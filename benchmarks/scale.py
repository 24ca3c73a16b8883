"""The engines themselves: `python -m benchmarks.scale`, with Ray installed (`requirements-cluster.txt`).

Empty tasks say what handing one over costs; retrainings of about ten seconds, in this process and as tasks, say what an
engine adds to them; one node and two nodes of one processor each, beside one and two processes of the local engine, say
what a second node brings. The nodes are Ray's own for tests, on the loopback interface of this machine.
"""

import importlib
import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from attribution.spec import MethodSpec
from benchmarks.timing import parser_of, published
from data import load_dataset
from evaluation.masking import ranks
from evaluation.retraining import retrain
from evaluation.runs import MaskOptions, Run
from evaluation.tasks import Failure, OnImages, SharedArrays, Task, arrays_of
from experiments.cluster import Cluster
from experiments.engine import Engine, Local, threads_set_to
from training.device import device_name, set_up_process
from training.inputs import Normalisation
from training.recipe import recipe_for

EMPTY = (1_000, 10_000)
RETRAININGS, IMAGES = 4, 24_000  # about ten seconds each on one core
CPU = torch.device("cpu")
HERE = "benchmarks/scale.py:empty"  # so that the nodes get this file


def empty(*, on_images: OnImages) -> None:
    """Do nothing: a task."""


@contextmanager
def cluster(nodes: int) -> Iterator[Engine]:
    """Yield the engine of a cluster with `nodes` nodes of one processor each, beside a head without any."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    place: dict[str, Any] = {"node_ip_address": "127.0.0.2"}  # Ray takes 127.0.0.1 for the address that others see
    machines = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **place})
    for _ in range(nodes):
        machines.add_node(num_cpus=1, **place)
    machines.wait_for_nodes()
    try:
        yield Cluster(machines.address, 1, 0.0, [HERE])
    finally:
        ray.shutdown()
        machines.shutdown()


def retrainings(data_dir: Path) -> list[Task]:
    """Return retrainings of SimpleCNN on MNIST with masks of known ranks; the first warms up."""
    dataset = load_dataset("mnist", data_dir).subset(IMAGES, 1000)
    data = SharedArrays(arrays_of(dataset, Normalisation.from_dataset(dataset, CPU)))
    generator = torch.Generator().manual_seed(0)
    of_split = {
        name: ranks(torch.rand(len(part), 1, 28, 28, generator=generator), torch.arange(len(part))).numpy()
        for name, part in (("train", dataset.train), ("test", dataset.test))
    }
    order = SharedArrays(of_split | {"tied": torch.zeros(()).numpy()})
    recipe, method = recipe_for("mnist", None, epochs=1), MethodSpec("RANDOM")
    facts: dict[str, Any] = {"limit_train": IMAGES, "limit_test": 1000, "method": method, "ratio": 0.5}
    runs = [
        Run("ROAR", "mnist", dataset.sha256, "SimpleCNN", seed, recipe, masks=MaskOptions(), **facts)
        for seed in range(RETRAININGS)
    ]
    return [Task(run.name, retrain, (run, data, order, CPU, None), IMAGES, (data, order)) for run in runs]


def seconds_of(engine: Engine, tasks: Sequence[Task]) -> float:
    """Return the seconds from the first task handed over to the last result."""
    started = time.perf_counter()
    results = [result for _task, result in engine.run(iter(tasks), lambda images: None)]
    seconds = time.perf_counter() - started
    assert len(results) == len(tasks)
    assert not any(isinstance(result, Failure) for result in results), results
    return seconds


def seconds_here(tasks: Sequence[Task]) -> float:
    """Return the seconds of the tasks' functions in this process, on one thread, without an engine."""
    with threads_set_to(1):
        started = time.perf_counter()
        for task in tasks:
            task.run(lambda images: None)
        return time.perf_counter() - started


def shipped_bytes(tasks: Sequence[Task]) -> dict[str, int]:
    """Return the bytes of what all tasks share, and of one task without it."""
    shared = dict.fromkeys(arrays for task in tasks for arrays in task.shared)
    once = sum(array.nbytes for arrays in shared for array in arrays.arrays().values())
    whole = len(pickle.dumps(tasks[0]))
    return {"shared once": once, "each task": whole - sum(len(pickle.dumps(arrays)) for arrays in tasks[0].shared)}


def main() -> None:
    parser = parser_of(__doc__, None)
    options = parser.parse_args()
    set_up_process()
    tasks = retrainings(options.data_dir)
    bytes_ = shipped_bytes(tasks)
    warm, timed = [tasks[0], tasks[0]], tasks
    facts: dict[str, Any] = {"device": device_name(CPU), "bytes": bytes_, "engines": []}
    seconds_here(tasks[:1])
    each = seconds_here(timed) / len(timed)
    facts["seconds_each"] = each
    rows = [["no engine, one thread", "", "", f"{each:.2f}", "", ""]]
    of_one: dict[str, float] = {}

    def add(name: str, kind: str, size: int, engine: Engine) -> None:
        none = [Task("empty", importlib.import_module("benchmarks.scale").empty, (), 1)]  # not that of __main__
        seconds_of(engine, none)
        empties = {count: seconds_of(engine, none * count) for count in EMPTY}
        seconds_of(engine, warm)
        whole = seconds_of(engine, timed)
        cost = whole * size / len(timed)  # processor seconds of a retraining, waiting included
        of_one.setdefault(kind, whole)
        rows.append(
            [
                name,
                f"{EMPTY[0] / empties[EMPTY[0]]:,.0f}",
                f"{empties[EMPTY[1]]:.1f}",
                f"{cost:.2f}",
                f"{cost / each - 1:+.1%}",
                f"{of_one[kind] / whole:.2f}",
            ]
        )
        facts["engines"].append(
            {"name": name, "kind": kind, "size": size, "empty_seconds": empties, "seconds": whole, "cost": cost}
        )

    for size in (1, 2):
        with threads_set_to(size):  # one for each process
            add(f"local, {size} {'process' if size == 1 else 'processes'}", "local", size, Local(size))
    for size in (1, 2):
        with cluster(size) as engine:
            add(f"Ray, {size} {'node' if size == 1 else 'nodes'} of one core", "ray", size, engine)
    head = ["engine", "empty tasks/s", f"seconds for {EMPTY[1]:,}", "seconds a retraining", "added", "speed-up"]
    shared, own = bytes_["shared once"] / 1e6, bytes_["each task"]
    title = (
        f"{len(timed)} retrainings on {IMAGES:,} images; shared by all {shared:.0f} MB, shipped once; of each {own:,} B"
    )
    published("scale", title, head, rows, facts, options.output_dir)


if __name__ == "__main__":
    main()
