"""Publishing: finished results are gathered in `results/published`, in few and small files that go into git."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from common.files import atomic_write, write_text
from evaluation import REMOVING
from experiments.checkpoints import load_metadata
from reporting.accuracy import TRAININGS
from reporting.records import FORMAT, GATHERED, load_gathered, load_records, reading_result

KINDS = ("runs", *REMOVING, "sanity")


def gather(checkpoints: Path, results: Path, published: Path) -> str:
    """Add everything that is finished to the published results; return a line to print.

    Retrainings, measurements and the metadata of classifiers become lines of `records.jsonl`, replacing those of the
    same name; selectivity's scores become small HDF5 files. All that reports need is in them: they read `published` as
    they read `results`.

    Raises:
        InputError: a damaged file.
    """
    records: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for kind in KINDS:
        for path, configuration, result in load_records(results, kind):
            records[f"{kind}/{path.name}"] = configuration, result
    for name, metadata in load_metadata(checkpoints).items():
        records[f"{TRAININGS}/{name}.json"] = {}, metadata
    files = sorted((results / "selectivity").glob("*.h5"))
    for path in files:
        if not (to := published / "selectivity" / path.name).exists():
            _write_short(path, to)
    everything = {**load_gathered(published), **records}
    contents = (
        {"name": name, "format": FORMAT, "configuration": configuration, "result": result}
        for name, (configuration, result) in sorted(everything.items())
    )
    style: dict[str, Any] = {"separators": (",", ":"), "sort_keys": True, "allow_nan": False}
    write_text(published / GATHERED, "".join(f"{json.dumps(content, **style)}\n" for content in contents))
    counts = f"{len(records)} records and {len(files)} methods of selectivity"
    return f"published: {counts} -> {published}, which has {len(everything)} records"


def _write_short(path: Path, to: Path) -> None:
    """Write only the scores, in half precision, and the hits of a finished method."""
    with reading_result(path), h5py.File(path, "r") as file:
        arrays = {"score": file["score"][:].astype(np.float16), "correct": file["correct"][:]}
        facts = dict(file.attrs)
    with atomic_write(to) as unfinished, h5py.File(unfinished, "w") as short:
        for name, values in arrays.items():
            short.create_dataset(name, data=values, compression="gzip", compression_opts=9, shuffle=True)
        short.attrs.update(facts)
