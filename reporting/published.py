"""The published results, read from their folder when a block of a document needs them."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attribution.spec import MethodSpec
from common.errors import InputError
from data import DATASETS
from models import NO_ATTENTION
from reporting.accuracy import (
    Trainings,
    load_trainings,
    trainings_of,
)
from reporting.groups import kept_checks, kept_falls, kept_removals
from reporting.removal_summary import RemovalSummary
from reporting.report import Retrainings
from reporting.sanity_summary import SanitySummary
from reporting.selectivity import SelectivityCurve
from reporting.summary import Summary, summaries


@dataclass(frozen=True)
class Published:
    """The summaries of a folder of published results, read on demand."""

    folder: Path

    @cached_property
    def retrainings(self) -> Retrainings:
        return Retrainings.of(self.folder, DATASETS)

    @cached_property
    def removals(self) -> list[RemovalSummary]:
        return kept_removals(self.folder)

    @cached_property
    def checks(self) -> list[SanitySummary]:
        return kept_checks(self.folder)

    @cached_property
    def summaries(self) -> list[Summary]:
        found = summaries(self.folder, DATASETS, self.retrainings, self.removals)
        return [one for one in found if one.model == NO_ATTENTION]

    @cached_property
    def trainings(self) -> dict[str, list[Trainings]]:
        return {
            dataset: trainings_of(load_trainings(self.folder, dataset), dataset, quick=False) for dataset in DATASETS
        }

    def falls(self, dataset: str) -> dict[MethodSpec, SelectivityCurve]:
        return kept_falls(self.folder, dataset, NO_ATTENTION)

    def json(self, name: str) -> dict[str, Any]:
        """A record of `benchmarks/`; without the frame that only some have.

        Raises:
            InputError: it is not there.
        """
        path = self.folder / f"{name}.json"
        if not path.exists():
            raise InputError(f"{path} is not there: the README has a table of it")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content | content.get("found", {})
