"""Publishing: finished results are gathered in `results/published`, in few and small files that go into git."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation import REMOVING
from experiments.checkpoints import load_metadata
from experiments.records import gather_records
from experiments.selectivity_files import shorten
from reporting.accuracy import TRAININGS
from reporting.records import load_records

KINDS = ("runs", *REMOVING, "sanity")


def gather(checkpoints: Path, results: Path, published: Path) -> str:
    """Add everything that is finished to the published results; return a line to print.

    Retrainings, measurements and the metadata of classifiers become lines of `records.jsonl`, selectivity's scores
    small HDF5 files. All that reports need is in them: they read `published` as they read `results`.

    Raises:
        InputError: a damaged file.
    """
    records: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for kind in KINDS:
        for path, configuration, result in load_records(results, kind):
            records[f"{kind}/{path.name}"] = configuration, result
    for name, metadata in load_metadata(checkpoints).items():
        records[f"{TRAININGS}/{name}.json"] = {}, metadata
    files = sorted((results / "selectivity").glob("*.h5"))
    for path in files:
        if not (to := published / "selectivity" / path.name).exists():
            shorten(path, to)
    total = gather_records(records, published)
    counts = f"{len(records)} records and {len(files)} methods of selectivity"
    return f"published: {counts} -> {published}, which has {total} records"
