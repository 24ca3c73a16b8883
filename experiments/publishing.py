"""Publishing: what is finished here is gathered in `results/published`, in few and small files that go into git."""

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
    """Add everything that is finished to what is published already; return what is to be said.

    Retrainings, measurements and what is known of classifiers become lines of `records.jsonl`, selectivity's scores
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
    falls = sorted((results / "selectivity").glob("*.h5"))
    for path in falls:
        if not (to := published / "selectivity" / path.name).exists():
            shorten(path, to)
    there = gather_records(records, published)
    found = f"{len(records)} records and {len(falls)} methods of selectivity"
    return f"published: {found} -> {published}, which has {there} records"
