"""The code that the machines of a cluster need: this project's rooms and the user's own files, in one folder."""

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import InputError
from common.fingerprint import PACKAGES, ROOT, SITE_FOLDERS
from common.imports import is_user_code

KINDS = (".py", ".html", ".json")
LEFT_OUT = ("benchmarks",)


def own_files() -> list[Path]:
    """Return the files of this project that travel."""
    rooms = (ROOT / package for package in PACKAGES if package not in LEFT_OUT)
    return [file for room in rooms for file in sorted(_sources(room))]


def copy_code(places: Sequence[str], folder: Path) -> None:
    """Copy the code into `folder`, each file where it lies below the working folder or below this project.

    Args:
        places: of the user's own objects; names of installed libraries count as well, and need no copy.

    Raises:
        InputError: a user's file lies elsewhere.
    """
    for file in own_files():
        _copy(file, ROOT, folder)
    for place in filter(is_user_code, places):
        path, _, _name = place.rpartition(":")
        for file in _user_files(path):
            base = next((base for base in (Path.cwd(), ROOT) if file.is_relative_to(base)), None)
            if base is None or (path.endswith(".py") and Path(path).is_absolute()):
                raise InputError(f"{place} can't be brought to a cluster: run from a folder that it lies in")
            _copy(file, base, folder)


def _sources(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.suffix in KINDS and "__pycache__" not in file.parts)


def _user_files(path: str) -> list[Path]:
    """Return a user's file and the modules beside it, or the files of a package that is not installed."""
    if path.endswith(".py"):
        file = Path(path).absolute()
        return [file, *file.parent.glob("*.py")] if file.is_file() else []
    try:
        spec = importlib.util.find_spec(path.partition(".")[0])
    except (ImportError, ValueError):
        return []
    origin = Path(spec.origin) if spec and spec.origin else None
    if origin is None or not SITE_FOLDERS.isdisjoint(origin.parts) or not origin.is_file():
        return []
    return list(_sources(origin.parent)) if origin.name == "__init__.py" else [origin]


def _copy(file: Path, base: Path, folder: Path) -> None:
    target = folder / file.relative_to(base)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
