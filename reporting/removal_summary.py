"""The summary of removal without retraining: curves, table, verdicts and a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from attribution.spec import methods_stem
from common.hashing import json_sha256
from data import DATA_DIR
from evaluation import RATIOS, RECORDED_ORDERS
from evaluation.chance import chance_level, known_dataset_info
from evaluation.configs import RemovalConfig, usual_ratios, usual_removal
from evaluation.options import notes_of, words_of
from evaluation.statistics import Curve, Estimate, at_chance, chance_words, difference, estimate
from reporting.evaluation_summary import MeasurementSummary
from reporting.labels import (
    counted,
    described_parameters,
    explained_class,
    filed_words,
    interval_over,
    unusual_parameters,
    usual_images_if_known,
)
from reporting.tables import areas_cell, cell, distance_cell, markdown_rows, numbers

ABOUT = {
    "ROAD": "ROAD (Rong et al. 2022): removed pixels imputed from their neighbours, with noise; no network retrained.",
    "F-Fidelity": "F-Fidelity (Zheng et al. 2025): a random part of the pixels in question removed, judged by a "
    "network fine-tuned on random masks.",
    "insertion-deletion": "Deletion removes the most important pixels first; insertion, read from the other end, is "
    "the curve that removes the least important first.",
}


@dataclass(frozen=True)
class RemovalSummary(MeasurementSummary):
    """Accuracies and scores of several methods, as `evaluation.removal.Measured` names them.

    Attributes:
        dataset_sum, data_dir: of the data, and where they may lie; older records need them for chance.
    """

    settings: RemovalConfig
    dataset_sum: str = ""
    data_dir: Path = DATA_DIR

    @cached_property
    def chance(self) -> float | None:
        """Chance on the test images; None if it is not known."""
        recorded = (result.get("chance") for result in self.results.values())
        return chance_level(recorded, self.dataset, self.dataset_sum, self.settings.limit_test, self.data_dir)

    @property
    def doubt(self) -> str:
        whole = self.whole("accuracy")
        if self.chance is None or not at_chance(whole, self.chance):
            return ""
        return f"no verdict, since {chance_words(whole, self.chance)}"

    def curves(self, order: str, value: str) -> list[Curve]:
        """For each method accuracy or score over the fraction removed, "most" or "least" important first."""
        return [
            Curve(
                method.label,
                "image",
                self.settings.ratios,
                tuple(
                    tuple(self.results[method, seed][value][order][place] for seed in self.seeds)
                    for place in range(len(self.settings.ratios))
                ),
                self.settings.limit_test,
            )
            for method in self.methods
        ]

    def whole(self, value: str) -> Estimate:
        """Return the estimate for unchanged images."""
        return estimate(
            [self.results[self.methods[0], seed][f"whole_{value}"] for seed in self.seeds], self.settings.limit_test
        )

    @cached_property
    def gaps(self) -> dict[str, list[float]]:
        """For each method and seed the area of least-important-first minus that of most-important-first.

        The higher the better, 0 for a random order; for insertion and deletion it is SRG (Blücher et al. 2024,
        arXiv 2401.06654), for F-Fidelity FFid⁺ − FFid⁻.
        """
        most, least = (self.curves(order, self.settings.value) for order in RECORDED_ORDERS.values())
        return {
            one.method: [low - high for low, high in zip(other.areas, one.areas, strict=True)]
            for one, other in zip(most, least, strict=True)
        }

    @property
    def table(self) -> str:
        """Two rows per method, the most and the least important removed first."""
        head = ["method", "first removed", *(f"{ratio * 100:g} %" for ratio in self._shown), "area", "least − most"]
        rows = [[*head, "− RANDOM's"]]
        random = self.gaps.get("RANDOM")
        pairs = zip(*(self.curves(order, self.settings.value) for order in RECORDED_ORDERS.values()), strict=True)
        for most, least in pairs:
            gap = self.gaps[most.method]
            against = "" if random is None or gap is random else distance_cell(gap, random)
            rows.append([most.method, "most", *self._cells(most), distance_cell(gap, [0.0] * len(gap)), against])
            rows.append(["", "least", *self._cells(least), "", ""])
        return markdown_rows(rows)

    def _cells(self, curve: Curve) -> list[str]:
        """At each ratio shown, and the area; of F-Fidelity what is lost of the whole images' accuracy: FFid⁺, FFid⁻."""
        places = [curve.ratios.index(ratio) for ratio in self._shown]
        if self.settings.tuning is None:
            return [*(cell(curve.estimates[place]) for place in places), areas_cell(curve.areas)]
        whole = [self.results[self.methods[0], seed]["whole_accuracy"] for seed in self.seeds]
        return [distance_cell(whole, one) for one in (*(curve.accuracies[place] for place in places), curve.areas)]

    @property
    def _shown(self) -> Sequence[float]:
        """The ratios in the table, few enough for a page."""
        ratios = [ratio for ratio in self.settings.ratios if ratio in RATIOS]
        return ratios or self.settings.ratios

    @property
    def verdicts(self) -> str:
        """A line for each method on its difference from RANDOM; empty with one seed.

        One line in their place if the network is at chance.
        """
        random = self.gaps.get("RANDOM")
        if self.doubt:
            return f"\n- {self.doubt}\n"
        if random is None or len(self.seeds) == 1:
            return ""
        lines = []
        for method, gap in self.gaps.items():
            if method == "RANDOM":
                continue
            distance = difference(gap, random)
            assert distance is not None
            words = "better than" if distance.low > 0 else "worse than" if distance.high < 0 else "not told apart from"
            lines.append(f"- {method}: {words} RANDOM ({distance.mean:+.3f} ± {distance.half:.3f})\n")
        return "\n" + "".join(lines)

    @property
    def title(self) -> str:
        return f"{self.settings.evaluation} on {self.dataset}, {self.model}"

    @property
    def note(self) -> str:
        one = self.settings
        seeds = counted(len(self.seeds), "seed")
        interval = interval_over(len(self.seeds)) + ", differences paired by seed" * (len(self.seeds) > 1)
        tuned = ""
        if one.tuning is not None:
            tuned = (
                f" α {one.alpha:g}, β {one.beta:g}, {one.draws} draws; fine-tuned for "
                f"{counted(one.tuning.epochs, 'epoch')}."
            )
        what = "probability of the explained class" if one.value == "score" else "accuracy"
        if one.tuning is not None:
            what = "accuracy lost, FFid⁺ (most) and FFid⁻ (least), over the size of the explanation"
        return (
            f"{ABOUT[one.evaluation]}{tuned} Fill: {one.fill}. Values: {what}.\n"
            f"{one.limit_test:,} test images, {seeds} (a classifier with its own maps each); by the {one.rank} "
            f"attribution of the {explained_class(one.explain)}.{described_parameters(self.methods)}{notes_of(one)}\n"
            f"± is the 95 % interval, {interval}. Least − most: the difference of the two areas, the higher the "
            "better, 0 for a random order."
        )

    @property
    def body(self) -> str:
        return f"Of the whole images: {cell(self.whole(self.settings.value))}\n\n{self.table}{self.verdicts}"

    @property
    def stem(self) -> str:
        one = self.settings
        usual = usual_removal(one.evaluation) | {"limit_test": usual_images_if_known(self.dataset)}
        special = words_of(one, usual)
        if tuple(one.ratios) != usual_ratios(one.evaluation):
            special.append(f"ratios-{json_sha256(list(one.ratios))[:6]}")
        special += unusual_parameters(self.methods)
        special += [f"{len(self.seeds)}-seeds"] * (len(self.seeds) > 1) + ["quick"] * self.quick
        return "_".join([one.evaluation, self.dataset, filed_words(self.model), methods_stem(self.methods), *special])

    def draw(self, stem: Path) -> list[Path]:
        from reporting.figures import Panel, draw_curves  # here, so that nothing else waits for matplotlib

        value = self.settings.value
        ylabel = "probability of the explained class" if value == "score" else "test accuracy"
        panels = []
        for order in RECORDED_ORDERS.values():
            curves, whole = self.curves(order, value), self.whole(value)
            removed = f"{order} important pixels {'in question' if self.settings.tuning else 'removed'}"
            baselines = {curve.method: whole for curve in curves}
            panels.append(Panel(f"{self.title}: {order} first", curves, baselines, self.chance_line, removed, ylabel))
        return draw_curves(panels, self.note, stem)

    @property
    def chance_line(self) -> tuple[float, str] | None:
        """As `figures.Panel` draws it.

        Whatever the network says, the probabilities of the K classes have the mean 1/K.
        """
        if self.settings.value == "accuracy":
            return None if self.chance is None else (self.chance, "chance")
        entry = known_dataset_info(self.dataset)
        return None if entry is None else (1 / len(entry.classes), "1/K")

    @property
    def csv(self) -> str:
        """One line per method, order and ratio."""
        lines = ["method,first_removed,ratio,value,mean,low,high"]
        for value in ("accuracy", "score"):
            for order in RECORDED_ORDERS.values():
                for curve in self.curves(order, value):
                    for ratio, one in zip(curve.ratios, curve.estimates, strict=True):
                        lines.append(",".join([curve.method, order, f"{ratio:g}", value, *numbers(one)]))
        return "\n".join(lines) + "\n"
