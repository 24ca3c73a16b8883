"""The summary of an evaluation that measures numbers: a table, its CSV and a ranking."""

from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from attribution.spec import MethodSpec
from evaluation.options import notes_of
from evaluation.trust import ImageValues
from reporting.evaluation_summary import Column
from reporting.labels import parameter_sentences, quantity
from reporting.measurement_summary import MeasurementSummary
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
        return [name for name, value in self.first.items() if isinstance(value, int | float | list)]

    def numbers(self, method: MethodSpec, name: str) -> list[float]:
        """Return a number for each seed; of one seed and a list, which has a number for each image, the list."""
        values = self.values_by_seed(method, name)
        if not isinstance(values[0], list):
            return values
        return values[0] if len(values) == 1 else [float(np.mean(of_seed)) for of_seed in values]

    @property
    def image_values(self) -> list[ImageValues]:
        name = self.names[0]
        if not isinstance(self.first[name], list):
            return []
        return [self.compare_images(name, "", name, not self.lowest_first, is_compared=False)]

    @property
    def columns(self) -> list[Column]:
        seeds, higher = self.describe_seeds(len(self.seeds)), not self.lowest_first
        return [self.method_column(self.evaluation, seeds, partial(self.numbers, name=self.names[0]), higher)]

    @property
    def note(self) -> str:
        seeds = len(self.seeds)
        has_interval = seeds > 1 or any(isinstance(self.first[name], list) for name in self.names)
        return (
            f"{self.config.limit_test:,} test images, {quantity(seeds, 'seed')}."
            f"{parameter_sentences(self.methods)}{notes_of(self.config)}\n"
            + f"± is the 95 % interval, Student's t over the {'seeds' if seeds > 1 else 'images'}. " * has_interval
            + f"{'Lower' if self.lowest_first else 'Higher'} is better."
        )

    @property
    def body(self) -> str:
        return self.method_table(
            self.names, ([self.numbers(method, name) for name in self.names] for method in self.methods)
        )

    @property
    def csv(self) -> str:
        rows = [["method", "number", "mean", "low", "high"]]
        for method, name in product(self.methods, self.names):
            rows.append([method.label, name, *numbers(self.numbers(method, name))])
        return csv_text(rows)


@dataclass(frozen=True)
class LearnedSummary(NumbersSummary):
    """By how much a map of the trained network removes better than one of random weights."""

    evaluation: str = "learned"
