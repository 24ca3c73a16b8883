"""Files of finished measurements."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.files import write_text
from evaluation.runs import Run, RunResult
from experiments.checkpoints import has_code_changed
from reporting.records import FORMAT, GATHERED, load_gathered, naming_damage, read_record

OF_CODE = ("code", "model_code")


def write_record(path: Path, configuration: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write a finished measurement as JSON: its configuration and its result."""
    content = {"format": FORMAT, "configuration": configuration, "result": result}
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def save_run(run: Run, result: RunResult, results: Path) -> None:
    write_record(run.path(results), run.configuration(), result.plain())


def find_run(run: Run, results: Path) -> RunResult | None:
    """Return the result of `run`; None if it is not finished.

    Raises:
        InputError: its file is damaged, or of another configuration.
    """
    path = run.path(results)
    if not path.exists():
        return None
    with naming_damage(path):
        configuration, result = read_record(path)
        if Run.of(configuration) != run:
            raise ValueError("another configuration")
        return RunResult(**result)


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
