"""The summary of an evaluation that measures numbers: a table, its CSV and a ranking."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from attribution.spec import MethodSpec, methods_stem
from evaluation.options import notes_of, words_of
from evaluation.statistics import mean_interval
from reporting.evaluation_summary import MeasurementSummary
from reporting.labels import (
    counted,
    described_parameters,
    filed_words,
    unusual_parameters,
    usual_images_if_known,
)
from reporting.tables import areas_cell, markdown_rows, numbers


@dataclass(frozen=True)
class NumbersSummary(MeasurementSummary):
    """Numbers of several methods by name, the first of which ranks them.

    Attributes:
        name: of the evaluation.
        lowest_first: the lower number is the better one.
    """

    name: str = ""
    lowest_first: bool = False

    @property
    def names(self) -> list[str]:
        """The names of the numbers."""
        result = self.results[self.methods[0], self.seeds[0]]
        return [name for name, value in result.items() if isinstance(value, int | float)]

    def values(self, method: MethodSpec, name: str) -> list[float]:
        """Return one number for each seed."""
        return [float(self.results[method, seed][name]) for seed in self.seeds]

    @property
    def table(self) -> str:
        rows = [["method", *self.names]]
        rows += [[one.label, *(areas_cell(self.values(one, name)) for name in self.names)] for one in self.methods]
        return markdown_rows(rows)

    @property
    def ranking(self) -> Sequence[str]:
        """The labels of the methods, the best first."""
        sign = 1 if self.lowest_first else -1
        best = sorted(self.methods, key=lambda one: sign * fmean(self.values(one, self.names[0])))
        return [method.label for method in best]

    @property
    def title(self) -> str:
        return f"{self.name} on {self.dataset}, {self.model}"

    @property
    def note(self) -> str:
        seeds = len(self.seeds)
        return (
            f"{self.settings.limit_test:,} test images, {counted(seeds, 'seed')}."
            f"{described_parameters(self.methods)}{notes_of(self.settings)}\n"
            + "± is the 95 % interval, Student's t over the seeds. " * (seeds > 1)
            + f"{'Lower' if self.lowest_first else 'Higher'} is better."
        )

    @property
    def body(self) -> str:
        return self.table

    @property
    def csv(self) -> str:
        lines = ["method,number,mean,low,high"]
        for method in self.methods:
            for name in self.names:
                values = self.values(method, name)
                cells = [f"{values[0]:.6f}", "", ""] if len(values) == 1 else numbers(mean_interval(values))
                lines.append(",".join([method.label, name, *cells]))
        return "\n".join(lines) + "\n"

    @property
    def stem(self) -> str:
        words = [self.name, self.dataset, filed_words(self.model), methods_stem(self.methods)]
        words += words_of(self.settings, {"limit_test": usual_images_if_known(self.dataset)})
        words += unusual_parameters(self.methods)
        return "_".join([*words, *[f"{len(self.seeds)}-seeds"] * (len(self.seeds) > 1), *["quick"] * self.quick])
