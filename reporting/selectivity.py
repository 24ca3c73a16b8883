"""Curves of selectivity: how accuracy and score fall while pixels are removed, as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.statistics import Estimate, mean_interval, proportion_interval, trapezoids
from reporting.tables import cell, distance_cell, markdown_rows, numbers

Array = npt.NDArray[Any]

SHOWN_STEPS = 6  # columns of the table


@dataclass(frozen=True)
class SelectivityCurve:
    """Accuracy and score of one method while pixels are removed.

    Attributes:
        score: (N, steps + 1), probability of the explained class per image.
        correct: (N, steps + 1) bool.
    """

    method: str
    score: Array
    correct: Array

    @classmethod
    def of(cls, method: str, found: Mapping[str, Array]) -> "SelectivityCurve":
        return cls(method, found["score"].astype(np.float64), found["correct"])

    @cached_property
    def accuracy(self) -> list[Estimate]:
        """After each number of removals."""
        return [proportion_interval(int(column.sum()), len(column)) for column in self.correct.T]

    @cached_property
    def areas(self) -> Array:
        """Area under each image's score curve divided by its width (trapezoids): (N,)."""
        return area_of_rows(self.score)

    @cached_property
    def hit_areas(self) -> Array:
        """The same of the hits: their mean is the area under the curve of accuracy."""
        return area_of_rows(self.correct.astype(np.float64))


def area_of_rows(rows: Array) -> Array:
    """(N, steps + 1) -> (N,): trapezoids of width 1 / steps."""
    return trapezoids(rows.T, np.arange(rows.shape[1]))


def selectivity_table(falls: Sequence[SelectivityCurve], random: SelectivityCurve | None) -> str:
    """One row per method: accuracy after some removals, both areas, and the distance to RANDOM, paired by image."""
    steps = sorted({round(step) for step in np.linspace(0, falls[0].score.shape[1] - 1, SHOWN_STEPS)})
    head = ["method", *(f"{step} pixels" for step in steps), "area of accuracy", "area of score", "score − RANDOM's"]
    rows = [head]
    for fall in falls:
        cells = [fall.method, *(cell(fall.accuracy[step]) for step in steps)]
        cells += [cell(mean_interval(fall.hit_areas)), cell(mean_interval(fall.areas))]
        cells.append("" if random is None or fall is random else distance_cell(fall.areas, random.areas))
        rows.append(cells)
    return markdown_rows(rows)


def selectivity_csv(falls: Sequence[SelectivityCurve]) -> str:
    """One line per method and number of removals."""
    lines = ["method,removed,accuracy,accuracy_low,accuracy_high,score,score_low,score_high"]
    for fall in falls:
        for step, (accuracy, column) in enumerate(zip(fall.accuracy, fall.score.T, strict=True)):
            score = mean_interval(column)
            lines.append(",".join([fall.method, str(step), *numbers(accuracy), *numbers(score)]))
    return "\n".join(lines) + "\n"
