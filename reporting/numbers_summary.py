"""The summary of an evaluation that measures numbers: a table, its CSV and a ranking."""

from dataclasses import dataclass

from evaluation.options import notes_of
from evaluation.statistics import mean_interval
from reporting.evaluation_summary import Column, MeasurementSummary, estimate_seeds
from reporting.labels import parameter_sentences, quantity
from reporting.tables import areas_cell, csv_text, markdown_table, numbers


@dataclass(frozen=True)
class NumbersSummary(MeasurementSummary):
    """Numbers of several methods by name, the first of which ranks them.

    Attributes:
        evaluation: its name.
        lowest_first: the lower number is the better one.
    """

    evaluation: str = ""
    lowest_first: bool = False

    @property
    def baseline(self) -> None:
        """Accuracy on whole images is not measured."""

    @property
    def names(self) -> list[str]:
        """The names of the numbers."""
        result = self.results[self.methods[0], self.seeds[0]]
        return [name for name, value in result.items() if isinstance(value, int | float)]

    @property
    def table(self) -> str:
        rows = [["method", *self.names]]
        for method in self.methods:
            rows.append([method.label, *(areas_cell(self.values_by_seed(method, name)) for name in self.names)])
        return markdown_table(rows)

    @property
    def columns(self) -> list[Column]:
        values = {method.label: estimate_seeds(self.values_by_seed(method, self.names[0])) for method in self.methods}
        return [Column(self.evaluation, self.describe_seeds(len(self.seeds)), not self.lowest_first, values)]

    @property
    def note(self) -> str:
        seeds = len(self.seeds)
        return (
            f"{self.config.limit_test:,} test images, {quantity(seeds, 'seed')}."
            f"{parameter_sentences(self.methods)}{notes_of(self.config)}\n"
            + "± is the 95 % interval, Student's t over the seeds. " * (seeds > 1)
            + f"{'Lower' if self.lowest_first else 'Higher'} is better."
        )

    @property
    def body(self) -> str:
        return self.table

    @property
    def csv(self) -> str:
        rows = [["method", "number", "mean", "low", "high"]]
        for method in self.methods:
            for name in self.names:
                values = self.values_by_seed(method, name)
                cells = [f"{values[0]:.6f}", "", ""] if len(values) == 1 else numbers(mean_interval(values))
                rows.append([method.label, name, *cells])
        return csv_text(rows)
