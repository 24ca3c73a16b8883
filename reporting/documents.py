"""The numbers of README.md and docs/, written between markers from the published results, never by hand.

`<!-- report: NAME -->` and `<!-- /report -->` stand around the block that `BLOCKS` calls NAME.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.files import write_text
from data import DATASETS
from models import NO_ATTENTION
from reporting.accuracy import Trainings, group_trainings, load_trainings
from reporting.evaluation_summary import MeasurementSummary
from reporting.groups import load_measurements, select_largest
from reporting.retrainings import Retrainings
from reporting.summary import Summary, summarize

BLOCK = re.compile(r"(?P<head><!-- report: (?P<name>[\w-]+) -->\n).*?(?P<tail>\n<!-- /report -->)", re.DOTALL)


@dataclass(frozen=True)
class Published:
    """The summaries of a folder of published results, read on demand."""

    folder: Path

    @cached_property
    def retrainings(self) -> Retrainings:
        return Retrainings.load(self.folder, DATASETS)

    @cached_property
    def measurements(self) -> list[MeasurementSummary]:
        return load_measurements(self.folder)

    def largest(self, evaluation: str, dataset: str) -> Any:
        """Return the largest summary of an evaluation without retraining, on SimpleCNN; None if there is none."""
        return select_largest(self.measurements, evaluation, dataset, NO_ATTENTION)

    @cached_property
    def summaries(self) -> list[Summary]:
        summaries = summarize(DATASETS, self.retrainings, self.measurements)
        return [summary for summary in summaries if summary.model == NO_ATTENTION]

    @cached_property
    def trainings(self) -> dict[str, list[Trainings]]:
        known = load_trainings(self.folder)
        return {dataset: group_trainings(known, dataset, quick=False) for dataset in DATASETS}

    def json(self, name: str) -> dict[str, Any]:
        """Return a record of `benchmarks/`, without the frame that only some have.

        Raises:
            InputError: it is not there.
        """
        path = self.folder / f"{name}.json"
        if not path.exists():
            raise InputError(f"{path} is not there: the README has a table of it")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content | content.get("found", {})


def fill_blocks(text: str, published: Published) -> str:
    """Return `text` with every block as the published results have it.

    Raises:
        InputError: an unknown block, or results that are missing.
    """
    from reporting.blocks import BLOCKS  # here, since blocks are made of `Published`

    def fill(match: re.Match[str]) -> str:
        if match["name"] not in BLOCKS:
            raise InputError(f"unknown block {match['name']!r} in a document: choose from {', '.join(BLOCKS)}")
        return f"{match['head']}{BLOCKS[match['name']](published).strip()}{match['tail']}"

    return BLOCK.sub(fill, text)


def write_documents(paths: Iterable[Path], folder: Path) -> None:
    """Fill the blocks of the documents `paths` with the results in `folder`."""
    published = Published(folder)
    for path in paths:
        write_text(path, fill_blocks(path.read_text(encoding="utf-8"), published))
