import ctypes
import gc
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from data import DATASETS, Dataset, load_dataset
from data.catalog import CATALOG
from evaluation import REMOVING
from tests.planted import OPTIONS
from tests.run_main import run
from tests.samples import sample_entry, write_sample

# With several, most of the time of such small work is one waiting for the other, and so do processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

SAVEFIG = Figure.savefig


@pytest.fixture(scope="session", autouse=True)
def freed_memory_goes_back() -> Iterator[None]:
    """Memory that is kept for the next tensor of the same size would grow from test to test, all of other sizes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.device.keep_freed_memory", lambda: False)
        yield


@pytest.fixture(scope="module", autouse=True)
def trimmed() -> Iterator[None]:
    """Give what a file's tests have freed back to the system, if the C library can."""
    yield
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session", autouse=True)
def unrendered() -> Iterator[None]:
    """Figures are put together and written, but not rendered, which takes most of the time of a small evaluation."""

    def write_header(_figure: Figure, file: Path, *, format: str, **_options: object) -> None:
        file.write_bytes(b"\x89PNG" if format == "png" else b"%PDF")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", write_header)
        yield


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures as they are."""
    monkeypatch.setattr(Figure, "savefig", SAVEFIG)


@pytest.fixture(scope="session")
def published() -> dict:
    """The catalog as published, whatever a test puts in its place."""
    return dict(CATALOG)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: dict) -> Path:
    """A data folder with small real samples of both data sets, which the catalog takes for the published ones."""
    folder = tmp_path / "data"
    for name in DATASETS:
        monkeypatch.setitem(CATALOG, name, sample_entry(name))
        write_sample(name, folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with the evaluations that remove without retraining, and `learned`, of known maps, two seeds."""
    output = tmp_path_factory.mktemp("finished")
    assert run(output / "data", output, [f"--eval={','.join(REMOVING)},learned", *OPTIONS, "--draws=4"]) == 0
    return output


@pytest.fixture
def mnist(data_dir: Path) -> Dataset:
    return load_dataset("mnist", data_dir)


@pytest.fixture
def cifar10(data_dir: Path) -> Dataset:
    return load_dataset("cifar10", data_dir)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads, where that several work side by side is the point."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process beside the test's own, unless it asks for some with --jobs."""
    monkeypatch.setattr("experiments.request.default_jobs", lambda device: 1)
