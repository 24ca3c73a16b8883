"""The summary of an evaluation that measures numbers: a table, its CSV and a ranking."""

from dataclasses import dataclass
from functools import partial
from itertools import product

from evaluation.options import notes_of
from reporting.evaluation_summary import Column, MeasurementSummary
from reporting.labels import parameter_sentences, quantity
from reporting.tables import csv_text, numbers


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
        return [name for name, value in self.first.items() if isinstance(value, int | float)]

    @property
    def columns(self) -> list[Column]:
        seeds, higher = self.describe_seeds(len(self.seeds)), not self.lowest_first
        return [self.method_column(self.evaluation, seeds, partial(self.values_by_seed, name=self.names[0]), higher)]

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
        return self.method_table(
            self.names, ([self.values_by_seed(method, name) for name in self.names] for method in self.methods)
        )

    @property
    def csv(self) -> str:
        rows = [["method", "number", "mean", "low", "high"]]
        for method, name in product(self.methods, self.names):
            rows.append([method.label, name, *numbers(self.values_by_seed(method, name))])
        return csv_text(rows)
