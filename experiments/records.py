"""Records of finished measurements, written and found again."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.files import write_text
from evaluation.runs import Run, RunResult
from experiments.checkpoints import made_by_other_code
from reporting.records import FORMAT, GATHERED, load_gathered, naming_damage, read_record

OF_CODE = ("code", "model_code")


def write_record(path: Path, configuration: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """One finished measurement as JSON: what decided on it, and what came out."""
    content = {"format": FORMAT, "configuration": configuration, "result": result}
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def save_run(run: Run, result: RunResult, results: Path) -> None:
    write_record(run.path(results), run.configuration(), result.plain())


def find_run(run: Run, results: Path) -> RunResult | None:
    """The result of `run` if it is finished, else None.

    Raises:
        InputError: there is a file under its name that is damaged or of another configuration.
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
    """Put `records` into `<folder>/records.jsonl`, in the place of those of the same name; return how many are there.

    Raises:
        InputError: the file that is there is damaged.
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


def say_other_code(kept: Iterable[tuple[Any, ...]], missing: Iterable[Mapping[str, Any]]) -> None:
    """Say of which of the `missing` configurations there are results that code made which was edited since.

    Args:
        kept: what is finished: of each the path, the configuration, and more.

    Raises:
        InputError: a file is damaged.
    """
    wanted = {_without_code(one): one for one in missing if any(name in one for name in OF_CODE)}
    for _path, configuration, *_result in kept if wanted else ():
        if (now := wanted.get(_without_code(configuration))) is not None:
            made_by_other_code(configuration, now)


def _without_code(configuration: Mapping[str, Any]) -> str:
    """All but the code, and the weights that came of it."""
    rest = {name: one for name, one in configuration.items() if name not in (*OF_CODE, "checkpoint_sum")}
    return json.dumps(rest, sort_keys=True)
