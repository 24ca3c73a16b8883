"""The summary of the sanity checks: tables, a figure and a sentence for each method."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar

from attribution import CONTROLS
from attribution.spec import MethodSpec
from evaluation.configs import SanityConfig
from evaluation.options import notes_of
from evaluation.statistics import Estimate, estimate
from evaluation.trust import ImageValues
from reporting.evaluation_summary import Column
from reporting.labels import parameter_sentences, quantity
from reporting.measurement_summary import MeasurementSummary
from reporting.tables import cell, csv_text, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL_WINDOW = 11  # pixels each way, of SSIM
ZEROS = "on black ground its map is zero whatever the weights are"
SIMILARITIES = {
    "rank": "rank correlation",
    "absolute_rank": "rank correlation of absolute values",
    "ssim": "structural similarity (SSIM) of absolute values",
}
ROBUSTNESS = ("infidelity", "sensitivity")


@dataclass(frozen=True)
class SanitySummary(MeasurementSummary):
    """The stages, a similarity for each of them, infidelity and sensitivity of several methods."""

    config: SanityConfig

    evaluation: ClassVar[str] = "sanity"

    @property
    def stages(self) -> list[str]:
        """The layer from the output down to which weights are random, for each stage."""
        return [group[0] for group in self.first["stages"]]

    def values(self, method: MethodSpec, name: str, part: int | str | None = None) -> list[float]:
        """Return for each seed a value, or a part of it: that of a stage, or a similarity to shuffled labels' maps.

        Infidelity and sensitivity are those of each image, if intervals are over the images.
        """
        if self.is_by_image and name in ROBUSTNESS:
            return list(self.values_by_image(method, f"image_{name}"))
        values = self.values_by_seed(method, name)
        return [float(value if part is None else value[part]) for value in values]

    def mean(self, method: MethodSpec, name: str, stage: int) -> float:
        """Return the mean over the seeds."""
        return sum(self.values(method, name, stage)) / len(self.seeds)

    def similarity(self, method: MethodSpec) -> list[float]:
        """Return for each seed the likeness of the maps: mean of rank correlation and SSIM over all stages.

        Over all of them, because a map that ignores what the last layers do stays the same until the first are
        random, which change every map (Adebayo et al. 2018, figure 2, on guided backpropagation).
        """
        cells = [self.values(method, name, place) for name in ("absolute_rank", "ssim") for place in self._places]
        return [sum(of_seed) / len(of_seed) for of_seed in zip(*cells, strict=True)]

    @property
    def _places(self) -> range:
        return range(len(self.stages))

    @property
    def columns(self) -> list[Column]:
        seeds = self.describe_seeds(len(self.seeds), self.methods)
        about = f"likeness of the maps while layer after layer is made random, mean over the cascade, {seeds}"
        of_images = f"mean over the images, {self.describe_seeds(len(self.seeds), self.methods, self.is_by_image)}"
        robustness = (
            self.method_column(name, of_images, partial(self.values, name=name), higher=False) for name in ROBUSTNESS
        )
        return [self.method_column("sanity", about, self.similarity, higher=False), *robustness]

    @property
    def image_values(self) -> list[ImageValues]:
        if not self.is_by_image:
            return []
        likeness = "rank correlation, of absolute values, with the map of the same network with random weights"
        return [
            self.compare_images("likeness", likeness, "image_absolute_rank", False, is_compared=False),
            self.compare_images("infidelity", "error of the map's prediction (Yeh et al.)", "image_infidelity", False),
            self.compare_images(
                *("sensitivity", "largest relative change of the map (Yeh et al.)", "image_sensitivity", False),
                is_compared=False,
            ),
        ]

    def is_zero_on_black(self, method: MethodSpec) -> bool:
        """Tell if the map is zero on the black ground of the images, which says nothing about the network."""
        return self.dataset == "mnist" and ("baseline", "black") in method.parameters

    def sentence(self, method: MethodSpec) -> str:
        """Return the likeness of one method's maps in a sentence."""
        first = self.mean(method, "absolute_rank", 0)
        rank, ssim = (self.mean(method, name, len(self.stages) - 1) for name in ("absolute_rank", "ssim"))
        facts = f"rank correlation {first:.2f} when the output layer is random, {rank:.2f} when all are"
        facts += f"; SSIM {ssim:.2f} there"
        if method.method in CONTROLS:
            return f"never looks at the network: {cell(self.similarity(method))} ({facts})"
        zeros = f"; {ZEROS}" * self.is_zero_on_black(method)
        return f"{cell(self.similarity(method))} ({facts}{zeros})"

    @property
    def title(self) -> str:
        return f"Sanity checks on {self.network}"

    @property
    def note(self) -> str:
        config = self.config
        explained = "class that the trained network predicts" if config.explain == "prediction" else "label"
        has_interval = self.is_by_image or len(self.seeds) > 1
        interval = f" ± is the 95 % interval, {self.interval_words}." * has_interval
        window = self.first.get("ssim_window", USUAL_WINDOW)
        small = "" if window == USUAL_WINDOW else f" SSIM over windows of {window}×{window} pixels."
        return (
            "Cascading randomisation (Adebayo et al. 2018): weights drawn anew from the output down to the layer "
            "named, and the map compared with the trained network's; 1 is the same map. Below, the mean of rank "
            "correlation (absolute values) and SSIM over all stages: the lower, the more of the map is learned.\n"
            f"{config.limit_test:,} test images, {quantity(len(self.seeds), 'seed')}; maps of the {explained}."
            f"{parameter_sentences(self.methods)}{interval}{small}{notes_of(config)}\n"
            f"Infidelity (Yeh et al. 2019, with the best scale of each map): {config.samples} normal perturbations, σ "
            f"{config.noise:g}; maximum sensitivity: {config.samples} from a cube of half width {config.radius:g}, in "
            "units of the network's input. Lower is better."
        )

    @property
    def figure_note(self) -> str:
        images, networks = f"{self.config.limit_test:,} test images", quantity(len(self.seeds), "network")
        return f"Likeness to the trained network's map, 1 for the same; mean over {images} and {networks}."

    @property
    def body(self) -> str:
        stages = [f"… {stage}" for stage in self.stages]
        tables = ""
        for name, words in SIMILARITIES.items():
            rows = [[self.values(method, name, place) for place in self._places] for method in self.methods]
            tables += f"{words[0].upper()}{words[1:]}\n\n{self.method_table(stages, rows)}\n"
        if self.config.random_labels:
            rows = [[self.values(method, "random_labels", name) for name in SIMILARITIES] for method in self.methods]
            table = self.method_table(SIMILARITIES.values(), rows)
            tables += f"Likeness to the maps of a network that was trained on shuffled labels\n\n{table}\n"
        rows = [[self.values(method, name) for name in ROBUSTNESS] for method in self.methods]
        tables += self.method_table(["infidelity", "maximum sensitivity"], rows)
        sentences = "".join(f"- {method.label} {self.sentence(method)}\n" for method in self.methods)
        if self.doubt:
            sentences = f"- no map can be judged, since {self.doubt}\n"
        return f"{tables}\n{sentences}"

    @cached_property
    def chance(self) -> float | None:
        recorded = [self.results[self.methods[0], seed].get("chance") for seed in self.seeds]
        return None if None in recorded else recorded[0]

    @cached_property
    def baseline(self) -> Estimate:
        return estimate(self.values_by_seed(self.methods[0], "accuracy"), self.first["test_images"])

    @property
    def csv(self) -> str:
        """One line per method and measure, and stage where there are several."""
        rows = [["method", "measure", "down_to", "mean", "low", "high"]]
        points = [(name, place) for name in SIMILARITIES for place in self._places]
        for method in self.methods:
            for name, place in [*points, *((name, None) for name in ROBUSTNESS)]:
                stage = "" if place is None else self.stages[place]
                rows.append([method.label, name, stage, *numbers(self.values(method, name, place))])
        return csv_text(rows)

    def figures(self) -> "dict[str, Figure]":
        from reporting.figures import draw_lines  # here, so that nothing else waits for matplotlib

        lines = {
            SIMILARITIES[name]: {
                method.label: [1.0, *(self.mean(method, name, place) for place in self._places)]  # 1: the trained one
                for method in self.methods
            }
            for name in ("absolute_rank", "ssim")
        }
        ticks = ["trained", *self.stages]
        return {"": draw_lines(lines, ticks, "weights random from the output down to", self.figure_note)}
