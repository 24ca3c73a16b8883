"""The Ray engine, on clusters of several nodes that run on this machine."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from common.errors import InputError
from evaluation.tasks import Failure, SharedArrays, Task
from tests import cluster_tasks
from tests.cluster_nodes import HEAD, Faults, add_node
from tests.run_main import hear_ctrl_c, run

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parent.parent
PLACES = ["tests/cluster_tasks.py:double"]  # its folder is shipped


@pytest.fixture
def nodes(monkeypatch) -> Iterator:
    """A cluster of a head without processors and two nodes of one each, on the loopback interface."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        # The head's own folder; there, too, Ray notes the address, in a folder that it doesn't make.
        monkeypatch.setenv("RAY_TMPDIR", folder)
        (Path(folder) / "ray").mkdir()
        head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": HEAD, "temp_dir": f"{folder}/ray"}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.folder = folder
        cluster.workers = [add_node(cluster) for _ in range(2)]
        cluster.wait_for_nodes()
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def engine(nodes, monkeypatch):
    from experiments.cluster import Cluster

    monkeypatch.chdir(ROOT)
    return Cluster(nodes.address, 1, 0.0, PLACES)


def results(engine, tasks) -> dict[str, object]:
    return {task.name: result for task, result in engine.run(iter(tasks), lambda images: None)}


def test_tasks_get_their_arguments_their_arrays_and_their_threads(engine):
    values = [SharedArrays({"values": np.full(200_000, value)}) for value in (1.0, 2.0)]
    tasks = [Task(f"double {number}", cluster_tasks.double, (number,), 1) for number in range(20)]
    tasks += [Task(f"total {number}", cluster_tasks.total, (*values,), 1) for number in range(3)]
    tasks += [Task("threads", cluster_tasks.threads, (), 1), Task("where", cluster_tasks.where, (), 1)]
    found = results(engine, tasks)
    assert [found[f"double {number}"] for number in range(20)] == [2 * number for number in range(20)]
    assert {found[f"total {number}"] for number in range(3)} == {600_000.0}
    assert found["threads"] == 1
    assert not Path(str(found["where"])).is_relative_to(ROOT), "the code that was shipped, not this folder"
    assert len(engine._objects) == 2, "arrays are put into the object store once"


def test_a_failing_task_is_named_and_the_others_go_on(engine, tmp_path):
    tasks = [
        Task("first", cluster_tasks.double, (1,), 1),
        Task("wrong", cluster_tasks.wrong, (), 1),
        Task("killed", cluster_tasks.killed, (), 1),
        Task("killed once", cluster_tasks.killed_once, (str(tmp_path / "mark"),), 1),
        Task("last", cluster_tasks.double, (2,), 1),
    ]
    found = results(engine, tasks)
    assert (found["first"], found["last"], found["killed once"]) == (2, 4, "done")
    assert isinstance(found["wrong"], Failure)
    assert re.fullmatch(r"wrong: ValueError: seven is wrong \(cluster_tasks.py:\d+\)", str(found["wrong"]))
    assert "its process was lost" in str(found["killed"])


def test_tasks_with_too_little_memory_run_again_with_fewer_beside_them(nodes, engine, tmp_path):
    nodes.remove_node(nodes.workers.pop(), allow_graceful=False)
    add_node(nodes, cpus=2)
    folder = tmp_path / "running"
    folder.mkdir()
    tasks = [Task(f"greedy {number}", cluster_tasks.greedy, (str(folder), 0.5), 1) for number in range(4)]
    nodes.remove_node(nodes.workers.pop(), allow_graceful=False)  # one node of two processors is left
    found = results(engine, [*tasks, Task("never", cluster_tasks.never_enough, (), 1)])
    assert "out of memory, even alone" in str(found.pop("never"))
    assert set(found.values()) == {"done"}


def test_other_versions_are_refused(engine, monkeypatch):
    from experiments.cluster_worker import Identity

    here = engine._identity
    engine._identity = Identity(here.source, tuple((dict(here.versions) | {"torch": "1.0"}).items()))
    with pytest.raises(InputError, match=r"the machine .* of the cluster has torch .*, here 1.0"):
        results(engine, [Task("double", cluster_tasks.double, (1,), 1)])
    assert Identity("a", here.versions).difference(Identity("b", here.versions)) == "other code of this project"
    assert not here.difference(Identity.of_this_process())


def test_wrong_options_are_one_line(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    options = ["--eval=ROAD", "--method=VBP", "--quick", "--engine=ray"]
    for wrong, message in {
        ("--address=127.0.0.1:1",): "no Ray cluster",
        ("--address=nonsense",): "no Ray cluster",
        ("--jobs=2",): "--jobs is for --engine=local",
        ("--device=cpu",): "--device is for --engine=local",
        ("--engine=local", "--gpus-per-task=1"): "--gpus-per-task is for --engine=ray",
        ("--engine=local", "--address=auto"): "--address is for --engine=ray",
        ("--cpus-per-task=0",): "cpus-per-task",
        ("--engine=dask",): "dask",
    }.items():
        assert run(data_dir, tmp_path / "output", [*options, *wrong]) == 2, wrong
        err = capsys.readouterr().err
        assert message in err, wrong
        assert err.strip().count("\n") == 0, wrong
    assert not list(tmp_path.glob("output/results/*.md"))


SWEEP = ["--eval=ROAR,F-Fidelity,sanity,selectivity", "--method=VBP,GC", "--target=mnist", "--quick", "--epochs=1"]
SWEEP += ["--ratios=0.3,0.7", "--limit-test=40"]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def command(data_dir: Path, output: Path, options: list[str]) -> list[str]:
    return [sys.executable, "-m", "tests.run_main", str(data_dir), f"--output-dir={output}", *options]


def carry_out(data_dir: Path, output: Path, options: list[str]) -> str:
    facts = {"cwd": ROOT, "env": os.environ | ONE_THREAD, "capture_output": True, "text": True}
    done = subprocess.run(command(data_dir, output, options), check=False, **facts)
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_times(value):
    """The record, without what differs from run to run."""
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name != "seconds"}
    return value


def records(output: Path) -> dict[str, object]:
    paths = sorted((output / "results").rglob("*-*.json"))
    return {str(path.relative_to(output)): without_times(json.loads(path.read_text())) for path in paths}


def arrays(output: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(output.rglob("*.h5")):
        with h5py.File(path) as file:

            def take(name, item, path=path):
                if isinstance(item, h5py.Dataset):
                    found[f"{path.relative_to(output)} {name}"] = item[:].tobytes()

            file.visititems(take)
    return found


def test_records_are_those_of_the_local_engine_bit_by_bit(nodes, data_dir, tmp_path):
    local, cluster = tmp_path / "local", tmp_path / "cluster"
    carry_out(data_dir, local, [*SWEEP, "--jobs=1"])
    out = carry_out(data_dir, cluster, [*SWEEP, "--engine=ray", f"--address={nodes.address}"])
    assert "3 nodes, 2 CPUs" in out
    assert len(records(local)) > 10
    assert records(cluster) == records(local)
    assert arrays(cluster) == arrays(local)
    for table in sorted((local / "results").glob("*.md")):
        assert (cluster / "results" / table.name).read_text() == table.read_text()


def test_a_command_ends_with_what_is_missing(nodes, data_dir, tmp_path):
    options = ["--eval=tests/cluster_tasks.py:Broken", "--method=VBP,GC,IG", "--quick", "--limit-test=20"]
    for engine in (["--jobs=1"], ["--jobs=2"], ["--engine=ray", f"--address={nodes.address}"]):
        output = tmp_path / engine[0].strip("-")
        facts = {"cwd": ROOT, "env": os.environ | ONE_THREAD, "capture_output": True, "text": True}
        done = subprocess.run(command(data_dir, output, [*options, *engine]), check=False, **facts)
        assert done.returncode == 2
        line = done.stderr.strip().splitlines()[-1]
        assert re.search(
            r"1 of 4 measurements failed: GC seed 0: RuntimeError: no layer today \(cluster_tasks.py", line
        )
        assert len(list((output / "results").rglob("*seed0-*.json"))) == 3, "the others are kept"


def test_ctrl_c_cancels_what_runs(nodes, data_dir, tmp_path):
    options = [*SWEEP, "--epochs=500", "--engine=ray", f"--address={nodes.address}"]
    facts = {"cwd": ROOT, "env": os.environ | ONE_THREAD, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    words = command(data_dir, tmp_path / "output", options)
    driver = subprocess.Popen(words, text=True, preexec_fn=hear_ctrl_c, **facts)
    assert driver.stdout is not None
    for line in driver.stdout:
        if line.startswith("runs:"):
            break
    time.sleep(5)
    driver.send_signal(signal.SIGINT)
    _out, err = driver.communicate(timeout=30)
    assert driver.returncode == 130, err
    assert "the same command goes on where it stopped" in err
    ray.init(nodes.address, logging_level="ERROR", log_to_driver=False)
    end = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < end:
        time.sleep(0.5)
    assert ray.available_resources()["CPU"] == 2


FAULTS = 20
LONG = ["--eval=ROAR", "--method=VBP,GC", "--target=mnist", "--quick", "--epochs=5"]
LONG += ["--ratios=0.1,0.3,0.5,0.7,0.9"]


def test_twenty_faults_leave_the_same_table_and_nothing_is_done_twice(nodes, data_dir, tmp_path):
    local, output, seeds = tmp_path / "local", tmp_path / "cluster", 3

    def start() -> subprocess.Popen:
        words = [*LONG, f"--seeds={seeds}", "--engine=ray", f"--address={nodes.address}"]
        facts = {"cwd": ROOT, "env": os.environ | ONE_THREAD, "stdout": subprocess.DEVNULL}
        with (tmp_path / "driver.log").open("a") as log:
            return subprocess.Popen(command(data_dir, output, words), stderr=log, **facts)

    def stored() -> dict[Path, int]:
        paths = [*(output / "results").rglob("*.json"), *output.rglob("*.pt"), *output.rglob("*.h5")]
        return {path: path.stat().st_mtime_ns for path in paths}

    faults, seen = Faults(nodes, start), {}
    kinds = [faults.worker_killed, faults.node_removed, faults.node_added, faults.driver_killed] * (FAULTS // 4)
    faults.random.shuffle(kinds)
    for fault in kinds:
        time.sleep(faults.random.uniform(1, 8))
        if faults.driver.poll() is not None:  # it has done everything: there is more to do
            assert faults.driver.returncode == 0, (tmp_path / "driver.log").read_text()[-2000:]
            seeds += 2
            faults.driver = start()
        now = stored()
        assert seen.items() <= now.items(), "what is stored is not made again"
        seen = now
        fault()
    assert faults.driver.wait(timeout=500) == 0, (tmp_path / "driver.log").read_text()[-2000:]
    assert seen.items() <= stored().items()
    carry_out(data_dir, local, [*LONG, f"--seeds={seeds}", "--jobs=2"])
    assert records(output) == records(local)
    assert arrays(output) == arrays(local)
    tables = sorted((local / "results").glob(f"*{seeds}-seeds*.md"))
    assert tables
    for table in tables:
        assert (output / "results" / table.name).read_text() == table.read_text()
