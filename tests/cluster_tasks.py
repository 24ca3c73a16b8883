"""Tasks for a cluster in tests: its processes import this file."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

from attribution.spec import MethodSpec
from evaluation.configs import SanityConfig
from evaluation.protocol import Artefacts, Evaluation
from evaluation.tasks import OnImages, SharedArrays


def double(number, *, on_images):
    return 2 * number


def total(shared: SharedArrays, more: SharedArrays, *, on_images):
    return float(shared.arrays()["values"].sum() + more.arrays()["values"].sum())


def threads(*, on_images):
    return torch.get_num_threads()


def where(*, on_images):
    return str(Path.cwd())


def wrong(*, on_images):
    raise ValueError("seven is wrong")


def killed(*, on_images):
    os.kill(os.getpid(), signal.SIGKILL)


def killed_once(mark: str, *, on_images):
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def greedy(folder: str, seconds: float, *, on_images):
    """Have too little memory if another task runs beside it."""
    own = Path(folder) / f"{os.getpid()}"
    own.touch()
    try:
        time.sleep(seconds)
        if len(list(Path(folder).iterdir())) > 1:
            raise MemoryError
    finally:
        own.unlink()
    return "done"


def never_enough(*, on_images):
    raise MemoryError


def sleep(seconds: float, *, on_images):
    time.sleep(seconds)


class Broken(Evaluation):
    """An evaluation that can't do with one method."""

    name, config, needs_maps = "broken", SanityConfig, False

    def measure(self, config: SanityConfig, method: MethodSpec, artefacts: Artefacts, on_images: OnImages):
        if method.method == "GC":
            raise RuntimeError("no layer today")
        return {"score": float(np.float64(len(method.method)))}
