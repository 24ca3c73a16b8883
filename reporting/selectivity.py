"""Curves of selectivity: how accuracy and score fall while pixels are removed, as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attribution.spec import MethodSpec, methods_stem
from data import dataset_info
from evaluation import RECORDED_ORDERS
from evaluation.chance import chance_level
from evaluation.configs import SelectivityConfig
from evaluation.options import notes_of, words_of
from evaluation.statistics import (
    Estimate,
    at_chance,
    chance_words,
    mean_interval,
    proportion_interval,
    trapezoids,
)
from reporting.labels import described_parameters, explained_class, unusual_parameters, usual_images
from reporting.tables import cell, distance_cell, markdown_rows, numbers, write_table

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


@dataclass(frozen=True)
class SelectivitySummary:
    """The selectivity of several methods on one classifier, as tables and figures.

    Attributes:
        arrays: of each method `score` and `correct`, as `SelectivityCurve` has them.
        data_dir: where the labels may lie that chance is counted in.
    """

    settings: SelectivityConfig
    dataset: str
    dataset_sum: str
    model: str
    methods: tuple[MethodSpec, ...]
    arrays: Mapping[MethodSpec, Mapping[str, Array]]
    data_dir: Path
    quick: bool

    def write(self, folder: Path) -> str:
        """Write tables and figures; return what to print."""
        from reporting.figures import draw_falls, draw_scores  # here, so that nothing else waits for matplotlib

        curves = [SelectivityCurve.of(method.label, self.arrays[method]) for method in self.methods]
        random = next((curve for curve in curves if curve.method == "RANDOM"), None)
        stem = folder / self.stem
        table = selectivity_table(curves, random)
        text = f"{self.title}\n\n{self.note}\n\n{self._doubt(curves[0].accuracy[0])}{table}"
        write_table(stem, text, selectivity_csv(curves))
        figures = draw_falls(curves, self.title, self.note, stem.with_name(stem.name + "_accuracy"))
        figures += draw_scores(curves, self.title, self.note, stem.with_name(stem.name + "_scores"))
        files = "\n".join(f"figure: {path}" for path in figures)
        return f"\n{text}\ndata:   {folder / 'selectivity'}\ntable:  {stem}.md and .csv\n{files}"

    def _doubt(self, whole: Estimate) -> str:
        """Return a line if the network is no better than chance: its scores say little of any map."""
        chance = chance_level((), self.dataset, self.dataset_sum, self.settings.limit_test, self.data_dir)
        known = chance is not None and at_chance(whole, chance)
        return f"No map can be judged, since {chance_words(whole, chance)}.\n\n" if known and chance else ""

    @property
    def title(self) -> str:
        return f"Selectivity on {self.dataset}, {self.model}, {RECORDED_ORDERS[self.settings.order]} important first"

    @property
    def note(self) -> str:
        settings, (_channels, height, width) = self.settings, dataset_info(self.dataset).image_shape
        return (
            f"{settings.limit_test:,} test images; {settings.removals} of {height * width} pixels replaced by "
            f"{settings.fill}, one after the other, by the {settings.rank} attribution of the "
            f"{explained_class(settings.explain)} of the image as it then is. One network (seed 0)."
            f"{described_parameters(self.methods)}{notes_of(settings)}\n"
            "± is the 95 % interval over the test images, of accuracies Wilson's, of scores and areas Student's t."
        )

    @property
    def stem(self) -> str:
        special = words_of(self.settings, {"limit_test": usual_images(self.dataset)})
        special += unusual_parameters(self.methods) + ["quick"] * self.quick
        return "_".join(["selectivity", self.dataset, self.model, methods_stem(self.methods), *special])
