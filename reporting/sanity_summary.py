"""The summary of the sanity checks: tables, a figure and a sentence for each method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution import CONTROLS
from attribution.spec import MethodSpec, methods_stem
from evaluation.configs import SanityConfig
from evaluation.options import notes_of, words_of
from evaluation.statistics import at_chance, chance_words, estimate, mean_interval
from reporting.evaluation_summary import MeasurementSummary
from reporting.labels import (
    counted,
    described_parameters,
    filed_words,
    unusual_parameters,
    usual_images_if_known,
)
from reporting.tables import areas_cell, markdown_rows, numbers

USUAL_WINDOW = 11  # pixels each way, of SSIM
MEANING = {
    "fails": "its map stays much the same while layer after layer forgets what it learned",
    "fails in part": "some of its map is the image's, not the network's",
    "passes": "its map is lost with what was learned",
}
ALIKE, PARTLY = 0.4, 0.2  # mean of both similarities from which on a map is called (partly) independent of the weights
MEASURES = {
    "rank": "rank correlation",
    "absolute_rank": "rank correlation of absolute values",
    "ssim": "structural similarity (SSIM) of absolute values",
}


@dataclass(frozen=True)
class SanitySummary(MeasurementSummary):
    """The stages, a similarity for each of them, infidelity and sensitivity of several methods."""

    settings: SanityConfig

    @property
    def stages(self) -> list[str]:
        """The layer from the output down to which weights are random, for each stage."""
        return [group[0] for group in self._first["stages"]]

    def values(self, method: MethodSpec, name: str, stage: int | None = None) -> list[float]:
        """One for each seed."""
        found = (self.results[method, seed][name] for seed in self.seeds)
        return [float(one if stage is None else one[stage]) for one in found]

    def table(self, name: str) -> str:
        """A row for each method, a column for each stage."""
        rows = [["method", *(f"… {stage}" for stage in self.stages)]]
        for method in self.methods:
            cells = [areas_cell(self.values(method, name, place)) for place in self._places]
            rows.append([method.label, *cells])
        return markdown_rows(rows)

    @property
    def other_labels(self) -> str:
        """Likeness to the maps of networks that were trained on shuffled labels; nothing where there are none."""
        if not self.settings.random_labels:
            return ""
        rows = [["method", *MEASURES.values()]]
        for method in self.methods:
            found = [self.results[method, seed]["random_labels"] for seed in self.seeds]
            rows.append([method.label, *(areas_cell([float(one[name]) for one in found]) for name in MEASURES)])
        return f"Likeness to the maps of a network that was trained on shuffled labels\n\n{markdown_rows(rows)}\n"

    @property
    def nearby(self) -> str:
        """Infidelity and maximum sensitivity."""
        rows = [["method", "infidelity", "maximum sensitivity"]]
        rows += [
            [method.label, *(areas_cell(self.values(method, name)) for name in ("infidelity", "sensitivity"))]
            for method in self.methods
        ]
        return markdown_rows(rows)

    def alike(self, method: MethodSpec) -> list[float]:
        """Return for each seed the likeness of the maps: mean of rank correlation and SSIM over all stages.

        Over all of them, because a map that ignores what the last layers do stays the same until the first are
        random, which change every map (Adebayo et al. 2018, figure 2, on guided backpropagation).
        """
        cells = [self.values(method, name, place) for name in ("absolute_rank", "ssim") for place in self._places]
        return [sum(of_seed) / len(of_seed) for of_seed in zip(*cells, strict=True)]

    @property
    def _places(self) -> range:
        return range(len(self.stages))

    def outcome(self, method: MethodSpec) -> str:
        """In a word or two: "passes", "fails", "fails in part", or "–" for a control."""
        if method.method in CONTROLS:
            return "–"
        alike = sum(self.alike(method)) / len(self.seeds)
        return "fails" if alike >= ALIKE else "fails in part" if alike >= PARTLY else "passes"

    def sentence(self, method: MethodSpec) -> str:
        """Return the outcome of one method in a sentence."""
        last = len(self.stages) - 1
        rank, ssim = (sum(self.values(method, name, last)) / len(self.seeds) for name in ("absolute_rank", "ssim"))
        first = sum(self.values(method, "absolute_rank", 0)) / len(self.seeds)
        facts = (
            f"rank correlation {first:.2f} when the output layer is random, {rank:.2f} when all are; "
            f"SSIM {ssim:.2f} there"
        )
        if method.method in CONTROLS:
            return f"never looks at the network ({facts}): what a map without any explanation scores"
        outcome = self.outcome(method)
        return f"{outcome}: {MEANING[outcome]} ({facts})"

    @property
    def title(self) -> str:
        return f"Sanity checks on {self.dataset}, {self.model}"

    @property
    def note(self) -> str:
        one = self.settings
        explained_class = "class that the trained network predicts" if one.explain == "prediction" else "label"
        interval = "" if len(self.seeds) == 1 else " ± is the 95 % interval, Student's t over the seeds."
        return (
            "Cascading randomisation (Adebayo et al. 2018): weights drawn anew from the output down to the layer "
            "named, and the map compared with the trained network's; 1 is the same map. Below, a map fails if rank "
            f"correlation (absolute values) and SSIM are {ALIKE:g} or more in the mean over all stages, in part from "
            f"{PARTLY:g}.\n"
            f"{one.limit_test:,} test images, {counted(len(self.seeds), 'seed')}; maps of the {explained_class}."
            f"{described_parameters(self.methods)}{interval}{self._small_window}{notes_of(one)}\n"
            f"Infidelity (Yeh et al. 2019, with the best scale of each map): {one.samples} normal perturbations, σ "
            f"{one.noise:g}; maximum sensitivity: {one.samples} from a cube of half width {one.radius:g}, in units of "
            "the network's input. Lower is better."
        )

    @property
    def body(self) -> str:
        tables = "\n".join(f"{words[0].upper()}{words[1:]}\n\n{self.table(name)}" for name, words in MEASURES.items())
        sentences = "".join(f"- {method.label} {self.sentence(method)}\n" for method in self.methods)
        doubt = f"- {self.doubt}\n" if self.doubt else ""
        return f"{tables}\n{self.other_labels}{self.nearby}\n{doubt or sentences}"

    @property
    def _small_window(self) -> str:
        """A sentence on SSIM's window where the images are smaller than the usual one."""
        window = self._first.get("ssim_window", USUAL_WINDOW)
        return "" if window == USUAL_WINDOW else f" SSIM over windows of {window}×{window} pixels."

    @property
    def doubt(self) -> str:
        # older records don't say what chance is
        found = [self.results[self.methods[0], seed] for seed in self.seeds]
        if not all("chance" in one for one in found):
            return ""
        whole, chance = estimate([one["accuracy"] for one in found], found[0]["test_images"]), found[0]["chance"]
        return f"no map can be judged, since {chance_words(whole, chance)}" if at_chance(whole, chance) else ""

    @property
    def _first(self) -> Mapping[str, Any]:
        return self.results[self.methods[0], self.seeds[0]]

    @property
    def csv(self) -> str:
        """One line per method and measure, and stage where there are several."""
        lines = ["method,measure,down_to,mean,low,high"]
        for method in self.methods:
            points = [(name, place) for name in MEASURES for place in self._places]
            for name, place in [*points, ("infidelity", None), ("sensitivity", None)]:
                values = self.values(method, name, place)
                stage = "" if place is None else self.stages[place]
                cells = [f"{values[0]:.6f}", "", ""] if len(values) == 1 else numbers(mean_interval(values))
                lines.append(",".join([method.label, name, stage, *cells]))
        return "\n".join(lines) + "\n"

    @property
    def stem(self) -> str:
        one = self.settings
        words = ["sanity", self.dataset, filed_words(self.model), methods_stem(self.methods)]
        words += words_of(one, {"limit_test": usual_images_if_known(self.dataset)})
        words += unusual_parameters(self.methods)
        return "_".join([*words, *[f"{len(self.seeds)}-seeds"] * (len(self.seeds) > 1), *["quick"] * self.quick])

    def draw(self, stem: Path) -> list[Path]:
        from reporting.figures import draw_lines  # here, so that nothing else waits for matplotlib

        lines = {
            words: {method.label: self._means(method, name) for method in self.methods}
            for name, words in MEASURES.items()
            if name != "rank"
        }
        return draw_lines(lines, ["trained", *self.stages], "weights random from the output down to", self.note, stem)

    def _means(self, method: MethodSpec, name: str) -> Sequence[float]:
        """1 for the trained network's own map, then each stage."""
        return [1.0, *(sum(self.values(method, name, place)) / len(self.seeds) for place in self._places)]
