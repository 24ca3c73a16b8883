"""Files of finished measurements."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from common.files import atomic_write, require_space, write_text
from evaluation.runs import Run, RunResult
from experiments.checkpoints import has_code_changed
from reporting.records import FORMAT, GATHERED, load_gathered, naming_damage, read_record

OF_CODE = ("code", "model_code")
SPARE_BYTES = 2**20


def write_record(path: Path, configuration: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write a finished measurement as JSON: its configuration and its result."""
    content = {"format": FORMAT, "configuration": configuration, "result": result}
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def save_run(run: Run, result: RunResult, results: Path) -> None:
    write_record(run.path(results), run.configuration(), result.plain())


def find_result(path: Path, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """Return the result in the record at `path`; None if there is none.

    Args:
        is_wanted: tells if the record's configuration is the one that is looked for.

    Raises:
        InputError: the file is damaged, or of another configuration.
    """
    if not path.exists():
        return None
    with naming_damage(path):
        configuration, result = read_record(path)
        if not is_wanted(configuration):
            raise ValueError("another configuration")
        return result


def find_run(run: Run, results: Path) -> RunResult | None:
    """Return the result of `run`; None if it is not finished.

    Raises:
        InputError: its file is damaged, or of another configuration.
    """
    path = run.path(results)
    result = find_result(path, lambda configuration: Run.of(configuration) == run)
    with naming_damage(path):
        return RunResult(**result) if result is not None else None


def write_arrays(
    path: Path, configuration: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], **facts: str
) -> None:
    """Write the arrays of one method, their configuration, and facts such as the device.

    Raises:
        OSError: the disk has no room for them. HDF5 itself would end the whole process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    require_space(path.parent, sum(values.nbytes for values in arrays.values()) + SPARE_BYTES)
    with atomic_write(path) as unfinished, h5py.File(unfinished, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="lzf", chunks=True, fletcher32=True)
        file.attrs.update(configuration=json.dumps(configuration, sort_keys=True), format=FORMAT, **facts)


def write_short(path: Path, to: Path) -> None:
    """Write only the scores, in half precision, and the hits of a finished method: for publishing."""
    with naming_damage(path), h5py.File(path, "r") as file:
        arrays = {"score": file["score"][:].astype(np.float16), "correct": file["correct"][:]}
        facts = dict(file.attrs)
    with atomic_write(to) as unfinished, h5py.File(unfinished, "w") as short:
        for name, values in arrays.items():
            short.create_dataset(name, data=values, compression="gzip", compression_opts=9, shuffle=True)
        short.attrs.update(facts)


def gather_records(records: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]], folder: Path) -> int:
    """Add `records` to `<folder>/records.jsonl`, replacing those of the same name; return the number of all.

    Raises:
        InputError: the file is damaged.
    """
    everything = {**load_gathered(folder), **records}
    lines = [
        json.dumps(
            {"name": name, "format": FORMAT, "configuration": configuration, "result": result},
            separators=(",", ":"),
            sort_keys=True,
            allow_nan=False,
        )
        for name, (configuration, result) in sorted(everything.items())
    ]
    write_text(folder / GATHERED, "".join(f"{line}\n" for line in lines))
    return len(lines)


def report_other_code(stored: Iterable[tuple[Any, ...]], missing: Iterable[Mapping[str, Any]]) -> None:
    """Say if results of `missing` configurations are stored that the user's own code made before an edit.

    Args:
        stored: finished measurements: path, configuration, and more.

    Raises:
        InputError: a file is damaged.
    """
    by_rest = {_without_code(config): config for config in missing if any(name in config for name in OF_CODE)}
    for _path, configuration, *_result in stored if by_rest else ():
        if (config := by_rest.get(_without_code(configuration))) is not None:
            has_code_changed(configuration, config)


def _without_code(configuration: Mapping[str, Any]) -> str:
    """Return the configuration without the code, and without the weights that came of it."""
    return json.dumps({k: v for k, v in configuration.items() if k not in (*OF_CODE, "checkpoint_sum")}, sort_keys=True)
