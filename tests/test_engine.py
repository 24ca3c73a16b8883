"""Jobs under their locks, and the engine of this machine."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from filelock import Timeout

from common.errors import InputError
from evaluation.tasks import SharedArrays, Task
from experiments.engine import Local
from experiments.jobs import Job, make
from experiments.store import Folders

ROOT = Path(__file__).parent.parent


class Nothing(Job):
    """A job that is made at once."""

    images = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def find(self) -> bool:
        return False

    def tasks(self, is_here: bool) -> list[Task]:
        return []

    def save(self, task: Task, result: object) -> None:
        raise AssertionError("it has no task")


def test_what_another_command_makes_is_waited_for_and_a_killed_one_holds_nothing(tmp_path, capsys):
    folders = Folders.below(tmp_path, tmp_path)
    holder = (
        "import pathlib, sys, time; from experiments.store import Folders; path = pathlib.Path(sys.argv[1])\n"
        "with Folders.below(path, path).lock('a'): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(Timeout):
        folders.lock("a").acquire(blocking=False)
    assert make([Nothing("b")], Local(1), folders, None) == {}
    assert capsys.readouterr().out == ""
    threading.Timer(1.5, process.kill).start()
    assert make([Nothing("a")], Local(1), folders, None) == {}
    assert "waiting: another command is making a" in capsys.readouterr().out
    process.wait()


def killed(*, on_images):
    os.kill(os.getpid(), signal.SIGKILL)


def total(shared, *, on_images):
    return float(shared.arrays()["values"].sum())


def test_arrays_can_be_shared_by_one_run_after_another():
    shared = SharedArrays({"values": np.arange(4.0)})
    for _ in range(2):
        task = Task("total", total, (shared,), 1, (shared,))
        assert [result for _task, result in Local(2).run([task], lambda images: None)] == [6.0]


def test_a_killed_worker_is_a_clear_error():
    tasks = [Task("killed", killed, (), 1)]
    with pytest.raises(InputError, match="a worker process was killed"):
        list(Local(2).run(tasks, lambda images: None))
