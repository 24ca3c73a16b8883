"""Records of finished measurements: JSON files, and gathered ones in `records.jsonl`; format 1."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import catch_read_errors
from evaluation.runs import Run, RunResult

FORMAT = 1
GATHERED = "records.jsonl"  # the records of many measurements in one file, for publishing


def load_records(folder: Path, kind: str) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Path, configuration and result of each finished measurement.

    First `<folder>/<kind>/*.json` in the order of their names, then what was gathered in `<folder>/records.jsonl` under
    such a path and has no file of its own.

    Raises:
        InputError: a file is damaged.
    """
    paths = sorted((folder / kind).glob("*.json"))
    for path in paths:
        yield path, *read_record(path)
    for name, (configuration, result) in load_gathered(folder).items():
        if name.startswith(f"{kind}/") and folder / name not in paths:
            yield folder / name, configuration, result


def load_gathered(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Of `<folder>/records.jsonl`: `<kind>/<file name>` -> configuration and result.

    Raises:
        InputError: the file is damaged, or has another format.
    """
    path = folder / GATHERED
    if not path.exists():
        return {}
    with naming_damage(path):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if any(line["format"] != FORMAT for line in lines):
            raise ValueError(f"another format, this program reads {FORMAT}")
        return {line["name"]: (line["configuration"], line["result"]) for line in lines}


def load_runs(results: Path) -> Iterator[tuple[Run, RunResult]]:
    """All finished runs of a results folder, in the order of their names.

    Raises:
        InputError: a file is damaged.
    """
    for path, configuration, result in load_records(results, "runs"):
        with naming_damage(path):
            yield Run.of(configuration), RunResult(**result)


def read_record(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and result of a file that `write_record` wrote.

    Raises:
        InputError: the file is damaged, or has another format.
    """
    with naming_damage(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, this program reads {FORMAT}")
        return content["configuration"], content["result"]


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """What keeps a record from being read in the `with` block becomes an `InputError`."""
    try:
        with catch_read_errors(path, "is damaged: delete it, and the run is done again"):
            yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it, and the run is done again") from error
