"""The summary of selectivity: the fall of accuracy and score while pixels are removed, as table and figures."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from data import dataset_info
from evaluation import RECORDED_ORDERS
from evaluation.chance import chance_of
from evaluation.configs import SelectivityConfig
from evaluation.options import notes_of
from evaluation.statistics import Estimate, mean_interval, proportion_interval, trapezoids
from evaluation.trust import ImageValues
from reporting.evaluation_summary import Column
from reporting.labels import explained_class, parameter_sentences, parameter_words
from reporting.measurement_summary import MeasurementSummary
from reporting.tables import cell, csv_text, markdown_table, numbers, random_differences

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

TABLE_STEPS = 6  # columns of the table


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

    @cached_property
    def accuracy(self) -> list[Estimate]:
        """After each number of removals."""
        return [proportion_interval(int(column.sum()), len(column)) for column in self.correct.T]

    @cached_property
    def areas(self) -> Array:
        """Area under each image's score curve divided by its width (trapezoids): (N,)."""
        return areas_of_rows(self.score)

    @cached_property
    def accuracy_areas(self) -> Array:
        """The same of the hits: their mean is the area under the curve of accuracy."""
        return areas_of_rows(self.correct.astype(np.float64))


def areas_of_rows(rows: Array) -> Array:
    """Return the areas by trapezoids of width 1 / steps: (N, steps + 1) -> (N,)."""
    return trapezoids(rows.T, np.arange(rows.shape[1]))


@dataclass(frozen=True)
class SelectivitySummary(MeasurementSummary):
    """The selectivity of several methods on one classifier; `results` are the arrays of `SelectivityCurve`."""

    config: SelectivityConfig

    evaluation: ClassVar[str] = "selectivity"

    @cached_property
    def curves(self) -> list[SelectivityCurve]:
        results = {method.label: self.results[method, self.seeds[0]] for method in self.methods}
        return [
            SelectivityCurve(label, result["score"].astype(np.float64), result["correct"])
            for label, result in results.items()
        ]

    @cached_property
    def chance(self) -> float | None:
        labels = self.first.get("label")  # of a network in memory
        return super().chance if labels is None else chance_of(labels)

    @property
    def baseline(self) -> Estimate:
        return self.curves[0].accuracy[0]

    @property
    def higher_is_better(self) -> bool:
        """True where the least relevant pixels go first: then the probability should stay."""
        return self.config.order == "LeRF"

    @property
    def columns(self) -> list[Column]:
        images = len(self.curves[0].score)
        words = "".join(f", {word}" for word in parameter_words(self.methods))
        about = f"area under the class's probability, one network, interval over {images:,} images{words}"
        return [
            Column(
                "selectivity",
                about,
                self.higher_is_better,
                {curve.method: mean_interval(curve.areas) for curve in self.curves},
            )
        ]

    @property
    def image_values(self) -> list[ImageValues]:
        values = {curve.method: curve.areas for curve in self.curves}
        about = "area under the probability of the explained class while the map is made anew after each removal"
        return [ImageValues("selectivity", about, self.higher_is_better, values)]

    @property
    def title(self) -> str:
        order = f"{RECORDED_ORDERS[self.config.order]} important first"
        return f"Selectivity on {self.network}, {order}"

    @property
    def note(self) -> str:
        config = self.config
        height, width = (
            self.first["maps"].shape[2:] if "maps" in self.first else dataset_info(self.dataset).image_shape[1:]
        )
        removed = f"{config.removals} of {height * width} pixels replaced by {config.fill}, one after the other,"
        if config.share:
            removed = f"{config.removals} times {config.share:.0%} of the pixels replaced by {config.fill},"
        return (
            f"{config.limit_test:,} test images; {removed} by the {config.rank} attribution of the "
            f"{explained_class(config.explain)} of the image as it then is. One network (seed 0)."
            f"{parameter_sentences(self.methods)}{notes_of(config)}\n"
            "± is the 95 % interval over the test images, of accuracies Wilson's, of scores and areas Student's t."
        )

    @property
    def figure_note(self) -> str:
        return f"{self.config.limit_test:,} test images; the map is made anew after each removal."

    @property
    def table(self) -> str:
        """A row per method: accuracy after some removals, both areas, the distance to RANDOM, paired by image."""
        against = random_differences({curve.method: curve.areas for curve in self.curves})
        steps = sorted({round(step) for step in np.linspace(0, len(self.curves[0].accuracy) - 1, TABLE_STEPS)})
        areas = ["area of accuracy", "area of score", "score − RANDOM's"]
        unit = "steps" if self.config.share else "pixels"
        rows = [["method", *(f"{step} {unit}" for step in steps), *areas]]
        for curve in self.curves:
            cells = map(cell, (*(curve.accuracy[step] for step in steps), curve.accuracy_areas, curve.areas))
            rows.append([curve.method, *cells, against[curve.method]])
        return markdown_table(rows)

    @property
    def body(self) -> str:
        doubt = f"No map can be judged, since {self.doubt}.\n\n" if self.doubt else ""
        return f"{doubt}{self.table}"

    @property
    def csv(self) -> str:
        """One line per method and number of removals."""
        rows = [["method", "removed", "accuracy", "accuracy_low", "accuracy_high", "score", "score_low", "score_high"]]
        for curve in self.curves:
            for step, (accuracy, scores) in enumerate(zip(curve.accuracy, curve.score.T, strict=True)):
                rows.append([curve.method, str(step), *numbers(accuracy), *numbers(scores)])
        return csv_text(rows)

    def figures(self) -> "dict[str, Figure]":
        from reporting.figures import draw_accuracies, draw_scores  # here, so that nothing else waits for matplotlib

        curves, title, note = self.curves, self.title, self.figure_note
        return {"_accuracy": draw_accuracies(curves, title, note), "_scores": draw_scores(curves, title, note)}
