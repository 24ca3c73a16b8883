"""One page for each data set and model: methods × evaluations, and whether the evaluations agree."""

from collections.abc import Iterable, Mapping, Sequence
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
from reporting.evaluation_summary import EvaluationSummary, MeasurementSummary
from reporting.groups import kept_checks, kept_falls, largest, measured_pairs
from reporting.labels import counted, filed_words, unusual_parameters
from reporting.removal_summary import RemovalSummary
from reporting.report import Retrainings
from reporting.retraining_summary import RetrainingSummary
from reporting.sanity_summary import SanitySummary
from reporting.selectivity import SelectivityCurve
from reporting.tables import markdown_rows, numbers

FEWEST = 3  # methods that two evaluations must share for a correlation
LEAKS = "†"


@dataclass(frozen=True)
class Column:
    """One evaluation.

    Attributes:
        name: its name.
        about: what the number is, and of how many seeds.
        higher_is_better: which end is the good one.
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

        heights = np.array([one.mean for one in self.values.values()])
        ranks = rankdata(-heights if self.higher_is_better else heights)
        return dict(zip(self.values, map(float, ranks), strict=True))

    def cell(self, method: str) -> str:
        if method not in self.values:
            return ""
        one, mark = self.values[method], f" {LEAKS}" if method in self.marked else ""
        interval = f" ± {one.half:.3f}" if one.half > 0 else ""
        return f"{one.mean:.3f}{interval}{mark}"


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
        found = dict.fromkeys(method for column in columns for method in column.values)
        return [one for one in found if one not in CONTROLS] + [one for one in found if one in CONTROLS]

    @property
    def title(self) -> str:
        return f"Methods × evaluations on {self.dataset}, {self.model}"

    @property
    def heads(self) -> list[str]:
        """The evaluations, and which end is the good one."""
        return [f"{one.name} {'↑' if one.higher_is_better else '↓'}" for one in self.columns]

    @cached_property
    def shares(self) -> npt.NDArray[np.float64]:
        """(methods, columns): places from 0, the best, to 1, the worst; NaN where there is none."""
        found = [
            [(one.places.get(method, np.nan) - 1) / max(1, len(one.values) - 1) for one in self.columns]
            for method in self.methods
        ]
        return np.array(found)

    @property
    def table(self) -> str:
        rows = [[method, *(one.cell(method) for one in self.columns)] for method in self.methods]
        return markdown_rows([["method", *self.heads], *rows])

    @cached_property
    def correlations(self) -> npt.NDArray[np.float64]:
        """Spearman's, of the methods' places in each two evaluations; NaN for fewer than `FEWEST` common methods."""
        from scipy.stats import spearmanr

        count = len(self.columns)
        found = np.full((count, count), np.nan)
        for row, first in enumerate(self.columns):
            for column, second in enumerate(self.columns):
                common = [method for method in first.values if method in second.values]
                if len(common) >= FEWEST:
                    one, other = ([each.places[method] for method in common] for each in (first, second))
                    if len(set(one)) > 1 and len(set(other)) > 1:
                        found[row, column] = spearmanr(one, other).statistic
        return found

    @property
    def agreement(self) -> list[list[str]]:
        """The correlations as a table, its head first."""
        names = [one.name for one in self.columns]
        rows = [
            [name, *("" if np.isnan(value) else f"{value:+.2f}" for value in values)]
            for name, values in zip(names, self.correlations, strict=True)
        ]
        return [["", *names], *rows]

    @property
    def note(self) -> str:
        columns = "".join(f"- {one.name}: {one.about}\n" for one in self.columns)
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
        return f"{self.title}\n\n{self.table}\n{self.note}\n{agree}{markdown_rows(self.agreement)}"

    @property
    def csv(self) -> str:
        lines = ["dataset,model,evaluation,method,mean,low,high,place,explained_by_the_mask"]
        for column in self.columns:
            for method, one in column.values.items():
                facts = [f"{column.places[method]:g}", str(method in column.marked)]
                lines.append(",".join([self.dataset, self.model, column.name, method, *numbers(one), *facts]))
        return "\n".join(lines) + "\n"

    @property
    def stem(self) -> str:
        return f"summary_{self.dataset}_{filed_words(self.model)}"

    def draw(self, stem: Path) -> list[Path]:
        from reporting.figures import Grid, draw_grid_of_places  # here, so that nothing else waits for matplotlib

        cells = [[column.cell(method) for column in self.columns] for method in self.methods]
        grid = Grid(self.title, self.methods, self.heads, cells, self.shares, self.correlations)
        note = self.note.replace("- ", "").replace("\n\n", "\n")
        return draw_grid_of_places(grid, note, stem)


def summaries(
    results: Path, datasets: Sequence[str], retrainings: Retrainings, removals: Sequence[RemovalSummary]
) -> list[Summary]:
    """For each data set and model of which something is finished.

    Args:
        removals: those that `kept_removals` found in `results`.

    Raises:
        InputError: a damaged file.
    """
    checks = kept_checks(results)
    plain = [one for one in retrainings.chosen if not one.mask_words]
    measured: list[RetrainingSummary | MeasurementSummary] = [*plain, *removals, *checks]
    models = dict.fromkeys([*(one.model for one in measured), *(model for _dataset, model in measured_pairs(results))])
    found = []
    for dataset, model in product(datasets, models):
        columns = [_of_retraining(one) for one in plain if (one.protocol.dataset, one.model) == (dataset, model)]
        columns += _of_falls(kept_falls(results, dataset, model))
        for evaluation in REMOVING:
            of_kind = [one for one in removals if one.settings.evaluation == evaluation]
            columns += _of_removals(largest(of_kind, dataset, model))
        columns += _of_checks(largest(checks, dataset, model))
        if columns:
            found.append(Summary(dataset, model, tuple(columns)))
    return found


def _of_retraining(one: RetrainingSummary) -> Column:
    evaluation = one.protocol.evaluation
    explained = frozenset(
        image.method for image, mask in zip(one.images, one.masks, strict=True) if one.explained(image, mask)
    )
    about = f"area under the accuracy after retraining, {counted(one.protocol.seeds, 'seed')}"
    about += "; at chance on whole images" * one.is_at_chance
    values = {curve.method: _estimate(curve.areas) for curve in one.images}
    return Column(evaluation, about, evaluation == RETRAINING[1], values, explained)


def _of_falls(falls: Mapping[MethodSpec, SelectivityCurve]) -> list[Column]:
    if not falls:
        return []
    images = len(next(iter(falls.values())).score)
    about = f"area under the class's probability, one network, interval over {images:,} images{_unusual(falls)}"
    return [Column("selectivity", about, False, {fall.method: mean_interval(fall.areas) for fall in falls.values()})]


def _unusual(methods: Iterable[MethodSpec]) -> str:
    """Parameters that are not the default, with a comma before each."""
    return "".join(f", {words}" for words in unusual_parameters(methods))


def _of_removals(one: RemovalSummary | None) -> list[Column]:
    if one is None:
        return []
    gaps = {method: _estimate(values) for method, values in one.gaps.items()}
    about = (
        f"area of least minus area of most important first, {counted(len(one.seeds), 'seed')}{_unusual(one.methods)}"
        f"{'; at chance on whole images' * bool(one.doubt)}"
    )
    return [Column(one.settings.evaluation, about, True, gaps)]


def _of_checks(check: SanitySummary | None) -> list[Column]:
    if check is None:
        return []
    seeds = counted(len(check.seeds), "seed") + _unusual(check.methods)
    seeds += "; at chance on whole images" * bool(check.doubt)
    alike = {method.label: _estimate(check.alike(method)) for method in check.methods}
    columns = [
        Column(
            "sanity",
            f"likeness of the maps while layer after layer is made random, mean over the cascade, {seeds}",
            False,
            alike,
        )
    ]
    for name in ("infidelity", "sensitivity"):
        values = {method.label: _estimate(check.values(method, name)) for method in check.methods}
        columns.append(Column(name, f"mean over the images, {seeds}", False, values))
    return columns


def _estimate(values: Sequence[float]) -> Estimate:
    """With an interval if there are several."""
    return mean_interval(values) if len(values) > 1 else Estimate(values[0], values[0], values[0])
