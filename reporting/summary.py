"""A table of methods × evaluations for each data set and model, and the agreement of the evaluations."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attribution import CONTROLS
from attribution.spec import MethodSpec
from evaluation import REMOVING, RETRAINING
from evaluation.statistics import Estimate, mean_interval
from reporting.evaluation_summary import EvaluationSummary, ModelSummary
from reporting.groups import list_measured_models, load_sanity, load_selectivity_curves, select_largest
from reporting.labels import file_name_part, parameter_words, quantity
from reporting.removal_summary import RemovalSummary
from reporting.retraining_summary import RetrainingSummary
from reporting.retrainings import Retrainings
from reporting.sanity_summary import ROBUSTNESS, SanitySummary
from reporting.selectivity_summary import SelectivityCurve
from reporting.tables import csv_text, markdown_table, numbers

FEWEST = 3  # methods that two evaluations must share for a correlation
LEAKS = "†"


@dataclass(frozen=True)
class Column:
    """One evaluation.

    Attributes:
        about: the meaning of the number, and the number of seeds.
        values: by method label; an interval of no width where there is none.
        marked: methods whose value the mask explains.
    """

    name: str
    about: str
    higher_is_better: bool
    values: Mapping[str, Estimate]
    marked: frozenset[str] = frozenset()

    @cached_property
    def places(self) -> dict[str, float]:
        """1 for the best method; equals share their mean place."""
        from scipy.stats import rankdata  # here, since it takes a second to import

        means = np.array([value.mean for value in self.values.values()])
        ranks = rankdata(-means if self.higher_is_better else means)
        return dict(zip(self.values, map(float, ranks), strict=True))

    @property
    def head(self) -> str:
        """The evaluation, and the direction of the better values."""
        return f"{self.name} {'↑' if self.higher_is_better else '↓'}"

    def cell(self, method: str) -> str:
        if method not in self.values:
            return ""
        value, mark = self.values[method], f" {LEAKS}" if method in self.marked else ""
        interval = f" ± {value.half:.3f}" if value.half > 0 else ""
        return f"{value.mean:.3f}{interval}{mark}"


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
        return sorted(methods, key=lambda method: method in CONTROLS)

    @property
    def title(self) -> str:
        return f"Methods × evaluations on {self.dataset}, {self.model}"

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
    def table(self) -> str:
        rows = ([method, *cells] for method, cells in zip(self.methods, self.cells, strict=True))
        return markdown_table([self.head, *rows])

    @cached_property
    def correlations(self) -> npt.NDArray[np.float64]:
        """Spearman's, of the methods' places in each two evaluations; NaN for fewer than `FEWEST` common methods."""
        from scipy.stats import spearmanr

        count = len(self.columns)
        correlations = np.full((count, count), np.nan)
        for row, column in product(range(count), range(count)):
            pair = self.columns[row].places, self.columns[column].places
            common = [method for method in pair[0] if method in pair[1]]
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
    def body(self) -> str:
        return self.table

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

    def draw(self, stem: Path) -> list[Path]:
        from reporting.figures import draw_summary  # here, so that nothing else waits for matplotlib

        return draw_summary(self, stem)


def summarize(
    results: Path, datasets: Sequence[str], retrainings: Retrainings, removals: Sequence[RemovalSummary]
) -> list[Summary]:
    """Return a summary for each data set and model of which something is finished.

    Args:
        removals: those that `load_removal` read from `results`.

    Raises:
        InputError: a damaged file.
    """
    checks = load_sanity(results)
    retrained = [summary for summary in retrainings.largest if not summary.mask_words]
    models = dict.fromkeys(summary.model for group in (retrained, removals, checks) for summary in group)
    models |= dict.fromkeys(model for _dataset, model in list_measured_models(results))
    summaries = []
    for dataset, model in product(datasets, models):
        columns = [
            _retraining_column(summary) for summary in retrained if (summary.dataset, summary.model) == (dataset, model)
        ]
        if curves := load_selectivity_curves(results, dataset, model):
            columns.append(_selectivity_column(curves))
        for evaluation in REMOVING:
            of_evaluation = (summary for summary in removals if summary.evaluation == evaluation)
            if removal := select_largest(of_evaluation, dataset, model):
                columns.append(_removal_column(removal))
        if check := select_largest(checks, dataset, model):
            columns += _sanity_columns(check)
        if columns:
            summaries.append(Summary(dataset, model, tuple(columns)))
    return summaries


def _retraining_column(summary: RetrainingSummary) -> Column:
    seeds = quantity(summary.config.seeds, "seed")
    about = f"area under the accuracy after retraining, {seeds}{_doubt(summary)}"
    values = {curve.method: _estimate(curve.areas) for curve in summary.image_curves}
    return Column(
        summary.evaluation, about, summary.evaluation == RETRAINING[1], values, summary.methods_read_off_masks
    )


def _selectivity_column(curves: Mapping[MethodSpec, SelectivityCurve]) -> Column:
    images = len(next(iter(curves.values())).score)
    words = "".join(f", {word}" for word in parameter_words(curves))
    about = f"area under the class's probability, one network, interval over {images:,} images{words}"
    return Column("selectivity", about, False, {curve.method: mean_interval(curve.areas) for curve in curves.values()})


def _removal_column(summary: RemovalSummary) -> Column:
    values = {method: _estimate(gaps) for method, gaps in summary.gaps.items()}
    about = f"area of least minus area of most important first, {_seeds(summary)}"
    return Column(summary.evaluation, about, True, values)


def _sanity_columns(summary: SanitySummary) -> Iterator[Column]:
    about = f"likeness of the maps while layer after layer is made random, mean over the cascade, {_seeds(summary)}"
    values = {method.label: _estimate(summary.similarity(method)) for method in summary.methods}
    yield Column("sanity", about, False, values)
    for name in ROBUSTNESS:
        values = {method.label: _estimate(summary.values(method, name)) for method in summary.methods}
        yield Column(name, f"mean over the images, {_seeds(summary)}", False, values)


def _seeds(summary: RemovalSummary | SanitySummary) -> str:
    """Return the number of seeds, the parameters that are not the default, and a doubt if there is one."""
    words = [quantity(len(summary.seeds), "seed"), *parameter_words(summary.methods)]
    return ", ".join(words) + _doubt(summary)


def _doubt(summary: ModelSummary) -> str:
    return "; at chance on whole images" * summary.is_at_chance


def _estimate(values: Sequence[float]) -> Estimate:
    """Return the mean, with an interval if there are several values."""
    return mean_interval(values) if len(values) > 1 else Estimate(values[0], values[0], values[0])
