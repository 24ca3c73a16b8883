"""The summary of removal without retraining: curves, table, verdicts and a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from common.hashing import json_sha256
from evaluation import ORDERS, RATIOS, RECORDED_ORDERS
from evaluation.chance import known_dataset_info
from evaluation.configs import RemovalConfig, usual_ratios, usual_removal
from evaluation.options import notes_of, words_of
from evaluation.statistics import Curve, Estimate, difference, estimate
from reporting.evaluation_summary import Chart, Column, MeasurementSummary, estimate_seeds
from reporting.labels import explained_class, interval_kind, parameter_sentences, quantity
from reporting.tables import areas_cell, cell, csv_text, difference_cell, markdown_table, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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

    @cached_property
    def baseline(self) -> Estimate:
        return self.estimate_whole("accuracy")

    def estimate_whole(self, value: str) -> Estimate:
        """Return the estimate of accuracy or score for whole images."""
        return estimate(self.values_by_seed(self.methods[0], f"whole_{value}"), self.config.limit_test)

    @property
    def curves(self) -> list[Curve]:
        """The curve of each method, the most relevant pixels first."""
        return self.curves_of("MoRF", self.config.value)

    def curves_of(self, order: str, value: str) -> list[Curve]:
        """Return for each method accuracy or score over the fraction removed, "MoRF" or "LeRF"."""
        curves = []
        for method in self.methods:
            by_seed = [values[RECORDED_ORDERS[order]] for values in self.values_by_seed(method, value)]
            by_ratio = tuple(zip(*by_seed, strict=True))
            curves.append(Curve(method.label, "image", self.config.ratios, by_ratio, self.config.limit_test))
        return curves

    @cached_property
    def gaps(self) -> dict[str, list[float]]:
        """For each method and seed the area of least-important-first minus that of most-important-first.

        The higher the better, 0 for a random order; for insertion and deletion it is SRG (Blücher et al. 2024,
        arXiv 2401.06654), for F-Fidelity FFid⁺ − FFid⁻.
        """
        pairs = zip(*(self.curves_of(order, self.config.value) for order in ORDERS), strict=True)
        return {
            morf.method: [low - high for low, high in zip(lerf.areas, morf.areas, strict=True)] for morf, lerf in pairs
        }

    def difference_from_random(self, method: str) -> Estimate | None:
        """Return the paired difference of a gap from RANDOM's; None for RANDOM, without it, or with one seed."""
        random = self.gaps.get("RANDOM")
        return None if random is None or method == "RANDOM" else difference(self.gaps[method], random)

    @property
    def table(self) -> str:
        """Two rows per method, the most and the least important removed first."""
        head = ["method", "first removed", *(f"{ratio * 100:g} %" for ratio in self._table_ratios), "area"]
        rows = [[*head, "least − most", "− RANDOM's"]]
        random = self.gaps.get("RANDOM")
        for morf, lerf in zip(*(self.curves_of(order, self.config.value) for order in ORDERS), strict=True):
            gap = self.gaps[morf.method]
            against = "" if random is None or gap is random else difference_cell(gap, random)
            rows.append([morf.method, "most", *self._cells(morf), difference_cell(gap, [0.0] * len(gap)), against])
            rows.append(["", "least", *self._cells(lerf), "", ""])
        return markdown_table(rows)

    def _cells(self, curve: Curve) -> list[str]:
        """Return the cells at each ratio and the area; of F-Fidelity the accuracy lost: FFid⁺, FFid⁻."""
        places = [curve.ratios.index(ratio) for ratio in self._table_ratios]
        if self.config.tuning is None:
            return [*(cell(curve.estimates[place]) for place in places), areas_cell(curve.areas)]
        whole = self.values_by_seed(self.methods[0], "whole_accuracy")
        return [difference_cell(whole, values) for values in (*(curve.accuracies[n] for n in places), curve.areas)]

    @property
    def _table_ratios(self) -> Sequence[float]:
        """Few enough for a page."""
        return [ratio for ratio in self.config.ratios if ratio in RATIOS] or self.config.ratios

    @property
    def verdicts(self) -> str:
        """A line for each method on its difference from RANDOM; empty with one seed; one line at chance."""
        if self.is_at_chance:
            return f"\n- no verdict, since {self.doubt}\n"
        lines = []
        for method in self.gaps:
            gain = self.difference_from_random(method)
            if gain is not None:
                words = "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not told apart from"
                lines.append(f"- {method}: {words} RANDOM ({gain.mean:+.3f} ± {gain.half:.3f})\n")
        return "".join(["\n" * ("RANDOM" in self.gaps and len(self.seeds) > 1), *lines])

    @property
    def columns(self) -> list[Column]:
        values = {method: estimate_seeds(gaps) for method, gaps in self.gaps.items()}
        seeds = self.describe_seeds(len(self.seeds), self.methods)
        return [Column(self.evaluation, f"area of least minus area of most important first, {seeds}", True, values)]

    @property
    def charts(self) -> list[Chart]:
        return [
            Chart(f"{self.title}: {word} important first", self.note, self.curves_of(order, self.config.value))
            for order, word in RECORDED_ORDERS.items()
        ]

    @property
    def note(self) -> str:
        config, seeds = self.config, len(self.seeds)
        tuned = ""
        value = "probability of the explained class" if config.value == "score" else "accuracy"
        if config.tuning is not None:
            epochs = quantity(config.tuning.epochs, "epoch")
            tuned = f" α {config.alpha:g}, β {config.beta:g}, {config.draws} draws; fine-tuned for {epochs}."
            value = "accuracy lost, FFid⁺ (most) and FFid⁻ (least), over the size of the explanation"
        return (
            f"{DESCRIPTIONS[self.evaluation]}{tuned} Fill: {config.fill}. Values: {value}.\n"
            f"{config.limit_test:,} test images, {quantity(seeds, 'seed')} (a classifier with its own maps each); "
            f"by the {config.rank} attribution of the {explained_class(config.explain)}."
            f"{parameter_sentences(self.methods)}{notes_of(config)}\n"
            f"± is the 95 % interval, {interval_kind(seeds)}{', differences paired by seed' * (seeds > 1)}. "
            "Least − most: the difference of the two areas, the higher the better, 0 for a random order."
        )

    @property
    def body(self) -> str:
        return f"Of the whole images: {cell(self.estimate_whole(self.config.value))}\n\n{self.table}{self.verdicts}"

    @property
    def config_words(self) -> list[str]:
        config = self.config
        words = words_of(config, usual_removal(self.evaluation) | {"limit_test": self.usual_images})
        if tuple(config.ratios) != usual_ratios(self.evaluation):
            words.append(f"ratios-{json_sha256(list(config.ratios))[:6]}")
        return words

    def figures(self) -> "dict[str, Figure]":
        from reporting.figures import Panel, draw_curves  # here, so that nothing else waits for matplotlib

        value = self.config.value
        ylabel = "probability of the explained class" if value == "score" else "test accuracy"
        panels = []
        for order, word in RECORDED_ORDERS.items():
            curves = self.curves_of(order, value)
            removed = f"{word} important pixels {'in question' if self.config.tuning else 'removed'}"
            baselines = dict.fromkeys((curve.method for curve in curves), self.estimate_whole(value))
            panels.append(Panel(f"{self.title}: {word} first", curves, baselines, self.chance_line, removed, ylabel))
        return {"": draw_curves(panels, self.note)}

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
