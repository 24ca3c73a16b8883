"""Read finished measurements: JSON files, gathered ones in `records.jsonl`, and selectivity in HDF5; format 1."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from common.errors import InputError
from common.files import catch_read_errors
from evaluation.runs import Run, RunResult

FORMAT = 1
REMEDY = "delete it, and the run is done again"
GATHERED = "records.jsonl"  # the records of many measurements in one file, for publishing

Record = tuple[dict[str, Any], dict[str, Any]]


def load_records(folder: Path, kind: str) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Yield path, configuration and result of each finished measurement.

    First `<folder>/<kind>/*.json` in the order of their names, then the records in `<folder>/records.jsonl` that have
    such a path and no file of their own.

    Raises:
        InputError: a file is damaged.
    """
    paths = sorted((folder / kind).glob("*.json"))
    for path in paths:
        yield path, *read_record(path)
    for name, record in load_gathered(folder).items():
        if name.startswith(f"{kind}/") and folder / name not in paths:
            yield folder / name, *record


def load_gathered(folder: Path) -> dict[str, Record]:
    """Return configuration and result by `<kind>/<file name>`, from `<folder>/records.jsonl`.

    Raises:
        InputError: the file is damaged, or has another format.
    """
    path = folder / GATHERED
    if not path.exists():
        return {}
    with naming_damage(path):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {line["name"]: _record(line) for line in lines}


def read_record(path: Path) -> Record:
    """Return configuration and result of a file that `write_record` wrote.

    Raises:
        InputError: the file is damaged, or has another format.
    """
    with naming_damage(path):
        return _record(json.loads(path.read_text(encoding="utf-8")))


def _record(content: dict[str, Any]) -> Record:
    _require_format(content["format"])
    return content["configuration"], content["result"]


def _require_format(number: int) -> None:
    if number != FORMAT:
        raise ValueError(f"format {number}, this program reads {FORMAT}")


def load_runs(results: Path) -> Iterator[tuple[Run, RunResult]]:
    """Yield all finished runs of a results folder, in the order of their names.

    Raises:
        InputError: a file is damaged.
    """
    for path, configuration, result in load_records(results, "runs"):
        with naming_damage(path):
            yield Run.of(configuration), RunResult(**result)


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Raise `InputError` if a record, or a file of selectivity, can't be read in the `with` block."""
    try:
        with catch_read_errors(path, f"is damaged: {REMEDY}"):
            yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): {REMEDY}") from error


def load_selectivity(results: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield path and configuration of each method whose selectivity is finished."""
    for path in sorted((results / "selectivity").glob("*.h5")):
        with naming_damage(path), h5py.File(path, "r") as file:
            yield path, json.loads(file.attrs["configuration"])


def read_result(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the scores and hits of a method's selectivity.

    Raises:
        InputError: the file is damaged or in use.
    """
    with naming_damage(path), h5py.File(path, "r") as file:
        _require_format(file.attrs["format"])
        return {name: file[name][:] for name in ("score", "correct")}
