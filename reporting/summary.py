"""A table of methods × evaluations for each data set and model, and the agreement of the evaluations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from data import DATASETS
from models import NO_ATTENTION
from reporting.accuracy import Trainings, group_trainings, load_trainings
from reporting.evaluation_summary import LEAKS, Column, EvaluationSummary, ModelSummary
from reporting.groups import MEASUREMENTS, load_measurements, select_largest
from reporting.labels import file_name_part, is_blurred, is_control, readable_dataset
from reporting.measurement_summary import MeasurementSummary
from reporting.retrainings import Retrainings
from reporting.tables import csv_text, markdown_table, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 3  # methods that two evaluations must share for a correlation


@dataclass(frozen=True)
class Summary(EvaluationSummary):
    """All that was measured of the methods on one data set and model."""

    dataset: str
    model: str
    columns: tuple[Column, ...]

    @cached_property
    def methods(self) -> list[str]:
        """In the order of the column that has most of them, then of the others; the controls last."""
        columns = sorted(self.columns, key=lambda column: -len(column.values))
        methods = dict.fromkeys(method for column in columns for method in column.values)
        return sorted(methods, key=is_control)

    @property
    def title(self) -> str:
        return f"Methods × evaluations on {readable_dataset(self.dataset)}, {self.model}"

    @property
    def head(self) -> list[str]:
        return ["method", *(column.head for column in self.columns)]

    @property
    def cells(self) -> list[list[str]]:
        """A row for each method, without its name."""
        return [[column.cell(method) for column in self.columns] for method in self.methods]

    @cached_property
    def shares(self) -> npt.NDArray[np.float64]:
        """(methods, columns): places from 0, the best, to 1, the worst; NaN where there is none."""
        return np.array(
            [
                [(column.places.get(method, np.nan) - 1) / max(1, len(column.values) - 1) for column in self.columns]
                for method in self.methods
            ]
        )

    @property
    def body(self) -> str:
        rows = ([method, *cells] for method, cells in zip(self.methods, self.cells, strict=True))
        return markdown_table([self.head, *rows])

    @cached_property
    def correlations(self) -> npt.NDArray[np.float64]:
        """Spearman's, of the methods' places in each two evaluations; NaN for fewer than `FEWEST` common methods.

        Maps blurred are no methods of their own.
        """
        from scipy.stats import spearmanr

        count = len(self.columns)
        correlations = np.full((count, count), np.nan)
        for row, column in product(range(count), range(count)):
            pair = self.columns[row].places, self.columns[column].places
            common = [method for method in pair[0] if method in pair[1] and not is_blurred(method)]
            first, second = ([places[method] for method in common] for places in pair)
            if len(common) >= FEWEST and len(set(first)) > 1 and len(set(second)) > 1:
                correlations[row, column] = spearmanr(first, second).statistic
        return correlations

    @property
    def agreement(self) -> list[list[str]]:
        """The correlations as a table, its head first."""
        names = [column.name for column in self.columns]
        cells = [["" if np.isnan(value) else f"{value:+.2f}" for value in row] for row in self.correlations]
        return [["", *names], *([name, *row] for name, row in zip(names, cells, strict=True))]

    @property
    def note(self) -> str:
        columns = "".join(f"- {column.name}: {column.about}\n" for column in self.columns)
        return (
            "± is a 95 % interval, ↑ higher is better, ↓ lower is better. "
            f"{LEAKS}: what a network reads off the mask explains the value.\n\n{columns}"
        )

    @property
    def figure_note(self) -> str:
        return f"↑ higher is better, ↓ lower is better; ± is the 95 % interval. {LEAKS}: the mask explains the value."

    @property
    def text(self) -> str:
        agree = "Do the evaluations agree? Rank correlation of the methods' places, 1 for the same order\n\n"
        return f"{self.title}\n\n{self.table}\n{self.note}\n{agree}{markdown_table(self.agreement)}"

    @property
    def csv(self) -> str:
        rows = [["dataset", "model", "evaluation", "method", "mean", "low", "high", "place", "explained_by_the_mask"]]
        for column in self.columns:
            for method, value in column.values.items():
                place, is_marked = f"{column.places[method]:g}", str(method in column.marked)
                rows.append([self.dataset, self.model, column.name, method, *numbers(value), place, is_marked])
        return csv_text(rows)

    @property
    def stem(self) -> str:
        return f"summary_{self.dataset}_{file_name_part(self.model)}"

    def figures(self) -> "dict[str, Figure]":
        from reporting.figures import draw_summary  # here, so that nothing else waits for matplotlib

        return {"": draw_summary(self)}


def summarize(
    datasets: Sequence[str], retrainings: Retrainings, measurements: Sequence[MeasurementSummary]
) -> list[Summary]:
    """Return a summary for each data set and model of which something is finished."""
    retrained = [summary for summary in retrainings.largest if not summary.mask_words]
    models = dict.fromkeys(summary.model for group in (retrained, measurements) for summary in group)
    summaries = []
    for dataset, model in product(datasets, models):
        parts: list[ModelSummary] = [part for part in retrained if (part.dataset, part.model) == (dataset, model)]
        parts += filter(None, (select_largest(measurements, name, dataset, model) for name in MEASUREMENTS))
        if columns := tuple(column for part in parts for column in part.columns):
            summaries.append(Summary(dataset, model, columns))
    return summaries


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
