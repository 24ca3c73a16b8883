"""The summary of removal without retraining: curves, table, verdicts and a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attribution.spec import MethodSpec
from common.hashing import json_sha256
from evaluation import ORDERS, RATIOS, RECORDED_ORDERS
from evaluation.chance import known_dataset_info
from evaluation.configs import RemovalConfig, usual_ratios, usual_removal
from evaluation.options import notes_of, words_of
from evaluation.statistics import Curve, Estimate, Values, difference, estimate
from evaluation.trust import ImageValues
from reporting.evaluation_summary import Chart, Column, estimate_seeds
from reporting.labels import explained_class, interval_kind, parameter_sentences, quantity
from reporting.measurement_summary import MeasurementSummary
from reporting.tables import (
    BETTER,
    WORSE,
    cell,
    csv_text,
    difference_cell,
    mark,
    markdown_table,
    numbers,
    random_differences,
    signed_cell,
)

DESCRIPTIONS = {
    "ROAD": "ROAD (Rong et al. 2022): removed pixels imputed from their neighbours, with noise; no network retrained.",
    "F-Fidelity": "F-Fidelity (Zheng et al. 2025): a random part of the pixels in question removed, judged by a "
    "network fine-tuned on random masks.",
    "insertion-deletion": "Deletion removes the most important pixels first; insertion, read from the other end, is "
    "the curve that removes the least important first.",
}


@dataclass(frozen=True)
class RemovalSummary(MeasurementSummary):
    """Accuracies and scores of several methods, as `evaluation.removal.measure` returns them."""

    config: RemovalConfig

    @property
    def evaluation(self) -> str:
        return self.config.evaluation

    @property
    def title(self) -> str:
        special = [word for word in self._option_words if not word.startswith("limit_test")]
        return f"{super().title} ({', '.join(special)})" if special else super().title

    @cached_property
    def baseline(self) -> Estimate:
        return self.estimate_whole("accuracy")

    def estimate_whole(self, value: str) -> Estimate:
        """Return the estimate of accuracy or score for whole images."""
        return estimate(self.values_by_seed(self.methods[0], f"whole_{value}"), self.config.limit_test)

    @property
    def curves(self) -> list[Curve]:
        """The curve of each method, the most relevant pixels first."""
        return self.curves_of("MoRF")

    def curves_of(self, order: str, value: str = "") -> list[Curve]:
        """Return for each method accuracy or score over the fraction removed, "MoRF" or "LeRF"."""
        value, curves = value or self.config.value, []
        for method in self.methods:
            by_seed = [values[RECORDED_ORDERS[order]] for values in self.values_by_seed(method, value)]
            by_ratio = tuple(zip(*by_seed, strict=True))
            spreads = self._spreads(method, order) if value == "score" else ()
            images = self.config.limit_test
            curves.append(Curve(method.label, "image", self.config.ratios, by_ratio, images, spreads=spreads))
        return curves

    def _spreads(self, method: MethodSpec, order: str) -> tuple[float, ...]:
        """Return the deviation over the images at each ratio, of one network whose values of images are stored."""
        spreads = self.results[method, self.seeds[0]].get("image_spread") if len(self.seeds) == 1 else None
        return tuple(spreads[RECORDED_ORDERS[order]]) if spreads else ()

    def areas_of(self, order: str) -> dict[str, Values]:
        """Return for each method the area of each seed, or of the probability of each image if these are stored."""
        if self.is_by_image and all("image_area" in result for result in self.results.values()):
            areas = ((method, self.values_by_seed(method, "image_area")) for method in self.methods)
            return {
                method.label: np.mean([of_seed[RECORDED_ORDERS[order]] for of_seed in by_seed], axis=0)
                for method, by_seed in areas
            }
        return {curve.method: curve.areas for curve in self.curves_of(order)}

    @cached_property
    def gaps(self) -> dict[str, list[float]]:
        """For each method, and seed or image, the area of least-important-first minus that of most-important-first.

        The higher the better, 0 for a random order; for insertion and deletion it is SRG (Blücher et al. 2024,
        arXiv 2401.06654), for F-Fidelity FFid⁺ − FFid⁻.
        """
        if self.is_by_image:
            return {method.label: self.values_by_image(method, "image_gap").tolist() for method in self.methods}
        return {
            morf.method: [low - high for low, high in zip(lerf.areas, morf.areas, strict=True)]
            for morf, lerf in zip(*map(self.curves_of, ORDERS), strict=True)
        }

    @property
    def gains(self) -> dict[str, Estimate]:
        """The difference of each method from RANDOM that has an interval; none if no method can be judged."""
        random = self.gaps.get("RANDOM")
        if self.doubt or random is None:
            return {}
        gains = {name: difference(gap, random) for name, gap in self.gaps.items() if name != "RANDOM"}
        return {name: gain for name, gain in gains.items() if gain is not None}

    @property
    def marks(self) -> dict[str, str]:
        """▲ or ▼ for each method that differs from RANDOM."""
        gains = self.gains
        return {method: mark(gains.get(method)) for method in self.gaps}

    @property
    def gap_cells(self) -> dict[str, str]:
        """For each method its gap, marked if it differs from RANDOM's."""
        cells = {method: difference_cell(gap, [0.0] * len(gap)) for method, gap in self.gaps.items()}
        return {method: f"{text} {self.marks[method]}".rstrip() for method, text in cells.items()}

    @property
    def table(self) -> str:
        """Two rows per method, the most and the least important removed first."""
        head = ["method", "first removed", *(f"{ratio * 100:g} %" for ratio in self._table_ratios), "area"]
        rows = [[*head, "least − most", "− RANDOM's"]]
        against = random_differences(self.gaps)
        for morf, lerf in zip(*map(self.curves_of, ORDERS), strict=True):
            gap = self.gaps[morf.method]
            least_most = difference_cell(gap, [0.0] * len(gap))
            rows.append([morf.method, "most", *self._cells(morf), least_most, against[morf.method]])
            rows.append(["", "least", *self._cells(lerf), "", ""])
        return markdown_table(rows)

    def _cells(self, curve: Curve) -> list[str]:
        """Return the cells at each ratio and the area; of F-Fidelity the accuracy lost: FFid⁺, FFid⁻."""
        places = [curve.ratios.index(ratio) for ratio in self._table_ratios]
        if self.config.tuning is None:
            return [*(cell(curve.estimates[place]) for place in places), cell(curve.areas)]
        whole = self.values_by_seed(self.methods[0], "whole_accuracy")
        return [difference_cell(whole, values) for values in (*(curve.accuracies[n] for n in places), curve.areas)]

    @property
    def _table_ratios(self) -> Sequence[float]:
        """Few enough for a page."""
        return [ratio for ratio in self.config.ratios if ratio in RATIOS] or self.config.ratios

    @property
    def verdicts(self) -> str:
        """A line for each method on its difference from RANDOM; empty with one seed; one line at chance."""
        if self.doubt:
            return f"\n- no verdict, since {self.doubt}\n"
        words = {BETTER: "better than", WORSE: "worse than", "": "not told apart from"}
        lines = [
            f"- {method}: {words[mark(gain)]} RANDOM ({signed_cell(gain)})\n" for method, gain in self.gains.items()
        ]
        return "".join(["\n" * bool(lines), *lines])

    @property
    def columns(self) -> list[Column]:
        values = {method: estimate_seeds(gaps) for method, gaps in self.gaps.items()}
        seeds = self.describe_seeds(len(self.seeds), self.methods, self.is_by_image)
        return [Column(self.evaluation, f"area of least minus area of most important first, {seeds}", True, values)]

    @property
    def image_values(self) -> list[ImageValues]:
        if not self.is_by_image:
            return []
        about = "area under the probability of the explained class with the least relevant pixels removed first, minus "
        about += "that with the most relevant first"
        return [self.compare_images(self.evaluation, about, "image_gap", True)]

    @property
    def note(self) -> str:
        config, seeds = self.config, len(self.seeds)
        tuned = ""
        networks = f"{quantity(seeds, 'seed')} (a classifier with its own maps each)"
        if self.is_by_image and seeds == 1:
            networks = "one network"
        pairs = ", differences paired by image" if self.is_by_image else ", differences paired by seed" * (seeds > 1)
        if self.is_by_image and seeds > 1:
            pairs += f"; of the curves, {interval_kind(seeds)}"
        value = "probability of the explained class" if config.value == "score" else "accuracy"
        if config.tuning is not None:
            epochs = quantity(config.tuning.epochs, "epoch")
            tuned = f" α {config.alpha:g}, β {config.beta:g}, {config.draws} draws; fine-tuned for {epochs}."
            value = "accuracy lost, FFid⁺ (most) and FFid⁻ (least), over the share of these pixels"
        return (
            f"{DESCRIPTIONS[self.evaluation]}{tuned} Fill: {config.fill}. Values: {value}.\n"
            f"{config.limit_test:,} test images, {networks}; by the {config.rank} attribution of the "
            f"{explained_class(config.explain)}."
            f"{parameter_sentences(self.methods)}{notes_of(config)}\n"
            f"± is the 95 % interval, {self.interval_words}{pairs}. "
            "Least − most: the difference of the two areas, the higher the better, 0 for a random order."
        )

    @property
    def figure_note(self) -> str:
        config, over = self.config, "seeds" if len(self.seeds) > 1 else "images"
        networks = quantity(len(self.seeds), "network")
        return (
            f"{config.limit_test:,} test images, {networks}, pixels ranked by {config.rank} attribution, replaced: "
            f"{config.fill}. Bands: 95 % intervals over the {over}."
        )

    @property
    def body(self) -> str:
        return f"Of the whole images: {cell(self.estimate_whole(self.config.value))}\n\n{self.table}{self.verdicts}"

    @property
    def _option_words(self) -> list[str]:
        return words_of(self.config, usual_removal(self.evaluation) | {"limit_test": self.usual_images})

    @property
    def config_words(self) -> list[str]:
        config, words = self.config, self._option_words
        if tuple(config.ratios) != usual_ratios(self.evaluation):
            words.append(f"ratios-{json_sha256(list(config.ratios))[:6]}")
        return words

    @property
    def charts(self) -> list[Chart]:
        value = self.config.value
        return [
            Chart(
                f"{self.title}: {word} first",
                self.note,
                self.curves_of(order),
                baselines={method.label: self.estimate_whole(value) for method in self.methods},
                chance=self.chance_line,
                removed=f"{word} important pixels {'in question' if self.config.tuning else 'removed'}",
                ylabel="probability of the explained class" if value == "score" else "test accuracy",
                page_title=f"{self.title}: {word} important first",
            )
            for order, word in RECORDED_ORDERS.items()
        ]

    @property
    def chance_line(self) -> tuple[float, str] | None:
        """Height and name of the dotted line; the mean of the probabilities of K classes is always 1/K."""
        if self.config.value == "accuracy":
            return None if self.chance is None else (self.chance, "chance")
        info = known_dataset_info(self.dataset)
        return None if info is None else (1 / len(info.classes), "1/K")

    @property
    def csv(self) -> str:
        """One line per method, order and ratio."""
        rows = [["method", "first_removed", "ratio", "value", "mean", "low", "high"]]
        for value in ("accuracy", "score"):
            for order, word in RECORDED_ORDERS.items():
                for curve in self.curves_of(order, value):
                    for ratio, point in zip(curve.ratios, curve.estimates, strict=True):
                        rows.append([curve.method, word, f"{ratio:g}", value, *numbers(point)])
        return csv_text(rows)
