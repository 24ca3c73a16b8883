"""The summary of the finished retrainings of one protocol: curves, table, verdicts and a figure."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from attribution.spec import methods_stem
from common.hashing import json_sha256
from data import DATA_DIR
from evaluation import QUICK_RATIOS, RATIOS
from evaluation.chance import chance_level, known_dataset_info
from evaluation.options import notes_of, words_of
from evaluation.runs import RetrainingConfig, Run, RunResult
from evaluation.statistics import READABLE, Curve, Estimate, at_chance, estimate, ranking, share_of_mask, verdict
from models import model_name
from reporting.evaluation_summary import EvaluationSummary
from reporting.labels import (
    ONE_SEED,
    counted,
    described_parameters,
    explained_class,
    filed_words,
    interval_over,
    unusual_parameters,
)
from reporting.tables import csv_table, gap_table, markdown_table, runs_csv
from training.recipe import quick_train_images, recipe_for

if TYPE_CHECKING:
    from reporting.figures import Panel

LONGEST_RATIOS = 40  # letters


def quick_images(dataset: str, attention: str | None) -> int | None:
    """Return the number of training images of `--quick`; None for an image folder that is not here."""
    return quick_train_images(dataset, attention) if known_dataset_info(dataset) else None


@dataclass(frozen=True)
class RetrainingSummary(EvaluationSummary):
    """The finished retrainings of one protocol.

    Attributes:
        results: of at least the protocol's runs.
        quick: whether the classifier explained is the one of `--quick`.
        model: its name in tables; the protocol's unless it says more.
        data_dir: where the labels may lie that older records need for chance.
    """

    protocol: RetrainingConfig
    dataset_sum: str
    checkpoint_sum: str
    results: Mapping[Run, RunResult]
    quick: bool = False
    model: str = ""
    data_dir: Path = DATA_DIR

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", self.model or model_name(self.protocol.attention))

    @cached_property
    def baseline(self) -> Estimate:
        """Accuracy of the networks that were retrained on unmasked images."""
        protocol = self.protocol
        found = [self.results[protocol.baseline(self.dataset_sum, seed)] for seed in protocol.seeds_of("image")]
        return estimate([one.accuracy for one in found], found[0].test_images)

    @cached_property
    def images(self) -> list[Curve]:
        """The curve of each method."""
        return self._curves("image")

    @cached_property
    def masks(self) -> list[Curve]:
        """For each method the curve of networks that see its masks alone."""
        return self._curves("mask")

    def _curves(self, sees: str) -> list[Curve]:
        protocol, sums = self.protocol, (self.dataset_sum, self.checkpoint_sum)
        curves = []
        for method in protocol.methods:
            found = [
                [self.results[protocol.run(*sums, method, ratio, seed, sees)] for seed in protocol.seeds_of(sees)]
                for ratio in protocol.ratios
            ]
            first = found[0][0]
            accuracies = tuple(tuple(one.accuracy for one in of_ratio) for of_ratio in found)
            curves.append(
                Curve(method.label, sees, protocol.ratios, accuracies, first.test_images, first.tied_fraction)
            )
        return curves

    @property
    def curves(self) -> list[Curve]:
        """Below each method's curve that of its masks."""
        return [curve for pair in zip(self.images, self.masks, strict=True) for curve in pair]

    @cached_property
    def chance(self) -> float | None:
        """Chance on the test images; None if it is not known."""
        protocol = self.protocol
        recorded = (result.chance for result in self.ordered.values())
        return chance_level(recorded, protocol.dataset, self.dataset_sum, protocol.limit_test, self.data_dir)

    @property
    def chance_line(self) -> tuple[float, str] | None:
        """As `figures.Panel` draws it."""
        return None if self.chance is None else (self.chance, "chance")

    @property
    def is_at_chance(self) -> bool:
        """True if networks are no better than chance on whole images, so that there is no verdict."""
        return self.chance is not None and at_chance(self.baseline, self.chance)

    @property
    def title(self) -> str:
        protocol = self.protocol
        special = f" ({', '.join(self.mask_words)})" if self.mask_words else ""
        return f"{protocol.evaluation} on {protocol.dataset}, {self.model}{special}"

    @property
    def masked(self) -> str:
        return "training and test images" if self.protocol.masks.mask_split == "both" else "training images only"

    @property
    def removed(self) -> str:
        """The replaced units, in words."""
        return f"{self.protocol.masks.granularity}s replaced in {self.masked}"

    @property
    def note(self) -> str:
        return f"{self.conditions}\n{self.about}"

    @property
    def conditions(self) -> str:
        """The masks, and the numbers of images and networks."""
        protocol, masks = self.protocol, self.protocol.masks
        images = f"{protocol.limit_train:,}" if protocol.limit_train else "all"
        tested = f"{protocol.limit_test:,}" if protocol.limit_test else "all"
        small_epochs = protocol.recipe.small_epochs
        small = f" ({small_epochs} with images of half the size)" if small_epochs else ""
        importance = "Most" if protocol.evaluation == "ROAR" else "Least"
        return (
            f"{importance} important {masks.granularity}s of {self.masked}, by the {masks.rank} attribution of "
            f"the {explained_class(masks.explain)}, replaced by {masks.fill}."
            f"{described_parameters(protocol.methods)}{notes_of(masks)}\n"
            f"{images} training images, {counted(protocol.recipe.epochs, 'epoch')}{small}, {tested} test images, "
            f"{counted(protocol.seeds, 'seed')}; one explained network (seed 0)."
        )

    @property
    def about(self) -> str:
        """The meaning of the numbers."""
        protocol = self.protocol
        interval = interval_over(protocol.seeds)
        if protocol.seeds > 1 == protocol.mask_seeds:
            interval += f", of the mask alone {ONE_SEED}"
        return (
            f"± is the 95 % interval, {interval}. Ties: share of the pixels whose order is random.\n"
            "Mask alone (thin, ×): a network that sees only which pixels are replaced."
        )

    @cached_property
    def table(self) -> str:
        return markdown_table(self.curves, self.baseline)

    @cached_property
    def verdicts(self) -> str:
        """A line for each method on the trust that its curve deserves."""
        clean_test = self.protocol.masks.mask_split == "train"
        return "".join(
            f"- {image.method}: {verdict(image, mask, self.chance, clean_test, self.baseline)}\n"
            for image, mask in zip(self.images, self.masks, strict=True)
        )

    def explained(self, image: Curve, mask: Curve) -> bool:
        """Tell if the mask alone explains the curve, see `statistics.verdict`."""
        if self.chance is None or self.is_at_chance or self.protocol.masks.mask_split != "both":
            return False
        return share_of_mask(image, mask, self.chance) >= READABLE

    @property
    def order(self) -> str:
        """A line with the ranking of the methods; nothing for one seed or one method."""
        protocol = self.protocol
        if protocol.seeds == 1 or len(self.images) == 1:
            return ""
        lowest_first = protocol.evaluation == "ROAR"
        best = f"the {'lowest' if lowest_first else 'highest'} area first"
        words = ranking(self.images, lowest_first)
        return f"- {best}, ≈ where the difference paired by seed can't be told from zero (95 %, each pair): {words}\n"

    @property
    def body(self) -> str:
        return f"{self.table}\n{self.verdicts}{self.order}"

    @property
    def csv(self) -> str:
        return csv_table(self.curves, self.baseline)

    @property
    def runs(self) -> str:
        return runs_csv(self.ordered)

    @property
    def stem(self) -> str:
        protocol = self.protocol
        quick = ["quick"] if self.quick else []
        words = [protocol.evaluation, protocol.dataset, filed_words(self.model), methods_stem(protocol.methods)]
        return "_".join([*words, *self.mask_words, *unusual_parameters(protocol.methods), *quick, *self._amounts()])

    @property
    def mask_words(self) -> list[str]:
        """The options of the masks that are not the default."""
        return words_of(self.protocol.masks)

    def _amounts(self) -> list[str]:
        """Return the numbers of images, epochs, ratios and seeds that are not the default."""
        protocol = self.protocol
        usual = recipe_for(protocol.dataset, protocol.attention, quick=self.quick)
        usual_images = quick_images(protocol.dataset, protocol.attention) if self.quick else None
        listed = "-".join(f"{ratio:g}" for ratio in protocol.ratios)
        brief = listed if len(listed) <= LONGEST_RATIOS else f"{len(protocol.ratios)}-{json_sha256(listed)[:6]}"
        small = protocol.recipe.small_epochs
        words = {
            f"{protocol.limit_train or 'all'}-images": protocol.limit_train != usual_images,
            f"{protocol.limit_test}-tested": protocol.limit_test is not None,
            counted(protocol.recipe.epochs, "epoch", "-"): protocol.recipe.epochs != usual.epochs,
            f"{small}-small-epochs": small != usual.small_epochs,
            f"batch-{protocol.recipe.batch_size}": protocol.recipe.batch_size != usual.batch_size,
            f"lr-{protocol.recipe.learning_rate:g}": protocol.recipe.learning_rate != usual.learning_rate,
            f"ratios-{brief}": protocol.ratios != (QUICK_RATIOS if self.quick else RATIOS),
            f"{protocol.seeds}-seeds": protocol.seeds > 1,
            f"{protocol.mask_seeds}-mask-seeds": min(protocol.mask_seeds, protocol.seeds) > 1,
        }
        return [word for word, special in words.items() if special]

    def draw(self, stem: Path) -> list[Path]:
        from reporting.figures import draw_curves  # here, so that nothing else waits for matplotlib

        return draw_curves([self.panel], self.note, stem)

    @property
    def panel(self) -> "Panel":
        """The figure's axes."""
        from reporting.figures import Panel

        baselines = {curve.method: self.baseline for curve in self.images}
        return Panel(self.title, self.curves, baselines, self.chance_line, self.removed)

    @property
    def ordered(self) -> dict[Run, RunResult]:
        """The runs in the order of the protocol, whoever did them and when."""
        return {run: self.results[run] for run in self.protocol.runs(self.dataset_sum, self.checkpoint_sum)}


@dataclass(frozen=True)
class Gap(EvaluationSummary):
    """KAR − ROAR, of two summaries that differ in nothing else."""

    roar: RetrainingSummary
    kar: RetrainingSummary

    @property
    def title(self) -> str:
        return self.roar.title.replace("ROAR", "KAR − ROAR", 1)

    @property
    def note(self) -> str:
        paired = " ± is the 95 % interval over the seeds; differences are paired by seed."
        about = "0 for a random order of the pixels. A leaking mask lifts both areas, and can make or hide a gap."
        return about + paired * (self.roar.protocol.seeds > 1)

    @property
    def body(self) -> str:
        return f"{gap_table(self.roar.images, self.kar.images)}\n{self.identity}{self.roar.verdicts}"

    @property
    def stem(self) -> str:
        return self.roar.stem.replace("ROAR", "KAR-ROAR", 1)

    @property
    def identity(self) -> str:
        """A line on RANDOM, for which removing the most and the least important pixels is the same in theory."""
        pair = [[curve for curve in one.images if curve.method == "RANDOM"] for one in (self.roar, self.kar)]
        if not all(pair):
            return ""
        points = list(zip(pair[0][0].estimates, pair[1][0].estimates, strict=True))
        overlap = sum(one.low <= other.high and other.low <= one.high for one, other in points)
        widest = max(abs(one.mean - other.mean) for one, other in points)
        return (
            f"- check: RANDOM's curves of ROAR and KAR, the same in theory, have overlapping intervals at {overlap} of "
            f"{len(points)} ratios; they differ by {widest:.3f} at most\n"
        )
