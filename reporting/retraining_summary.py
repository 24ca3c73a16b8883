"""The summary of the finished retrainings of one configuration: curves, table, verdicts and a figure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path

from attribution.spec import methods_stem
from common.hashing import json_sha256
from data import DATA_DIR
from evaluation import QUICK_RATIOS, RATIOS
from evaluation.chance import chance_level, known_dataset_info
from evaluation.options import notes_of, words_of
from evaluation.runs import RetrainingConfig, Run, RunResult
from evaluation.statistics import READABLE, Curve, Estimate, estimate, ranking, share_of_mask, verdict
from models import model_name
from reporting.evaluation_summary import Chart, Column, ModelSummary, estimate_seeds
from reporting.labels import (
    ONE_SEED,
    explained_class,
    file_name_part,
    interval_kind,
    parameter_sentences,
    parameter_words,
    quantity,
    readable_dataset,
)
from reporting.tables import curves_csv, curves_table, runs_csv
from training.recipe import quick_train_images, recipe_for

LONGEST_RATIOS = 40  # letters
READING = (
    "Bands: 95 % intervals, over the seeds, with one seed over the test images.\n"
    "Thin lines, ×: a network that sees only which pixels were replaced, the mask alone."
)


def quick_images(dataset: str, attention: str | None) -> int | None:
    """Return the number of training images of `--quick`; None for an image folder that is not here."""
    return quick_train_images(dataset, attention) if known_dataset_info(dataset) else None


def _count_or_all(limit: int | None) -> str:
    return f"{limit:,}" if limit else "all"


@dataclass(frozen=True)
class RetrainingSummary(ModelSummary):
    """The finished retrainings of one configuration.

    Attributes:
        checkpoints_sha256: of the explained classifiers, see `RetrainingConfig.runs`.
        results: of at least the configuration's runs.
        quick: True if the explained classifier is the one of `--quick`.
        model: its name in tables; the configuration's unless it says more.
        data_dir: folder of the data, from which chance is counted if old records lack it.
    """

    config: RetrainingConfig
    dataset_sha256: str
    checkpoints_sha256: tuple[str, ...]
    results: Mapping[Run, RunResult]
    quick: bool = False
    model: str = ""
    data_dir: Path = DATA_DIR
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", self.model or model_name(self.config.attention))

    def common_part(self, other: "RetrainingSummary") -> "RetrainingSummary":
        """Return the summary of the methods and seeds that the other one has, too."""
        first, second = self.config, other.config
        methods = tuple(method for method in first.methods if method in second.methods)
        seeds, mask_seeds = min(first.seeds, second.seeds), min(first.mask_seeds, second.mask_seeds)
        config = replace(first, methods=methods, seeds=seeds, mask_seeds=mask_seeds)
        return replace(self, config=config, checkpoints_sha256=self.checkpoints_sha256[:seeds])

    @property
    def evaluation(self) -> str:
        return self.config.evaluation

    @property
    def dataset(self) -> str:
        return self.config.dataset

    @property
    def runs_in_order(self) -> dict[Run, RunResult]:
        """The runs in the order of the configuration."""
        return {run: self.results[run] for run in self.config.runs(self.dataset_sha256, self.checkpoints_sha256)}

    @cached_property
    def baseline(self) -> Estimate:
        """Accuracy of the networks that were retrained on unmasked images."""
        runs = [self.config.baseline(self.dataset_sha256, seed) for seed in self.config.seeds_of("image")]
        return estimate([self.results[run].accuracy for run in runs], self.results[runs[0]].test_images)

    @cached_property
    def curves(self) -> list[Curve]:
        """Below each method's curve that of networks that see its masks alone."""
        config, curves = self.config, []
        for method, network_input in product(config.methods, ("image", "mask")):
            explained = [config.explained_seed(method, seed) for seed in config.seeds_of(network_input)]
            sums = [(self.dataset_sha256, self.checkpoints_sha256[seed]) for seed in explained]
            results = [
                [self.results[config.run(*each, method, ratio, seed, network_input)] for seed, each in enumerate(sums)]
                for ratio in config.ratios
            ]
            accuracies = tuple(tuple(result.accuracy for result in of_ratio) for of_ratio in results)
            first = results[0][0]
            curve = Curve(
                method.label, network_input, config.ratios, accuracies, first.test_images, tied=first.tied_fraction
            )
            curves.append(curve)
        return curves

    @property
    def image_curves(self) -> list[Curve]:
        return self.curves[::2]

    @property
    def pairs(self) -> list[tuple[Curve, Curve]]:
        """For each method the two curves."""
        return list(zip(self.curves[::2], self.curves[1::2], strict=True))

    @cached_property
    def chance(self) -> float | None:
        recorded = (result.chance for result in self.runs_in_order.values())
        return chance_level(recorded, self.dataset, self.dataset_sha256, self.config.limit_test, self.data_dir)

    @property
    def devices(self) -> list[str]:
        return [result.device for result in self.runs_in_order.values()]

    @property
    def title(self) -> str:
        special = f" ({', '.join(self.mask_words)})" if self.mask_words else ""
        return f"{self.evaluation} on {readable_dataset(self.dataset)}, {self.model}{special}"

    @property
    def note(self) -> str:
        return f"{self.conditions}\n{self.legend}"

    @property
    def masked_images(self) -> str:
        return "training and test images" if self.config.masks.mask_split == "both" else "training images only"

    @property
    def conditions(self) -> str:
        """The masks, and the numbers of images and networks."""
        config, masks = self.config, self.config.masks
        trained, tested = map(_count_or_all, (config.limit_train, config.limit_test))
        small_epochs = config.recipe.small_epochs
        small = f" ({small_epochs} with images of half the size)" if small_epochs else ""
        return (
            f"{'Most' if self.evaluation == 'ROAR' else 'Least'} important {masks.granularity}s of "
            f"{self.masked_images}, by the {masks.rank} attribution of the {explained_class(masks.explain)}, replaced "
            f"by {masks.fill}.{parameter_sentences(config.methods)}{notes_of(masks)}\n"
            f"{trained} training images, {quantity(config.recipe.epochs, 'epoch')}{small}, {tested} test images, "
            f"{quantity(config.seeds, 'seed')}{'; one explained network (seed 0)' * (not self.explains_all_seeds)}."
        )

    @property
    def legend(self) -> str:
        """The meaning of the numbers."""
        interval = self.interval_words if self.config.seeds > 1 else interval_kind(1)
        if self.config.seeds > 1 == self.config.mask_seeds:
            interval += f", of the mask alone {ONE_SEED}"
        return (
            f"± is the 95 % interval, {interval}. Ties: share of the pixels whose order is random.\n"
            "Mask alone (thin, ×): a network that sees only which pixels are replaced."
        )

    @property
    def amounts(self) -> str:
        """The numbers of images, epochs and seeds."""
        epochs, seeds = quantity(self.config.recipe.epochs, "epoch"), quantity(self.config.seeds, "seed")
        return f"{_count_or_all(self.config.limit_train)} training images, {epochs}, {seeds}"

    @property
    def figure_note(self) -> str:
        return f"{self.amounts[0].upper()}{self.amounts[1:]}. {READING}"

    @property
    def explains_all_seeds(self) -> bool:
        return self.config.masks.explained_seeds == "own"

    @property
    def interval_words(self) -> str:
        """The kind of interval, and the seeds that it is over, if there are several."""
        explained = "both the explained network and its" if self.explains_all_seeds else "one explained network's"
        return f"{interval_kind(self.config.seeds)} of {explained} retraining"

    @property
    def table(self) -> str:
        return curves_table(self.curves, self.baseline)

    @property
    def verdicts(self) -> str:
        """A line for each method on the trust that its curve deserves."""
        clean_test = self.config.masks.mask_split == "train"
        return "".join(
            f"- {image.method}: {verdict(image, mask, self.chance, clean_test, self.baseline)}\n"
            for image, mask in self.pairs
        )

    @property
    def shares_of_masks(self) -> dict[str, float]:
        """For each method the share of its curve that the mask explains; none if no curve can be judged."""
        if self.chance is None or self.doubt or self.config.masks.mask_split != "both":
            return {}
        return {image.method: share_of_mask(image, mask, self.chance) for image, mask in self.pairs}

    @property
    def methods_read_off_masks(self) -> frozenset[str]:
        """The methods whose curve the mask alone explains, see `statistics.verdict`."""
        return frozenset(method for method, share in self.shares_of_masks.items() if share >= READABLE)

    @property
    def columns(self) -> list[Column]:
        about = f"area under the accuracy after retraining, {self.describe_seeds(self.config.seeds)}"
        values = {curve.method: estimate_seeds(curve.areas) for curve in self.image_curves}
        return [Column(self.evaluation, about, self.evaluation == "KAR", values, self.methods_read_off_masks)]

    @property
    def charts(self) -> list[Chart]:
        chart = Chart(
            self.title,
            self.conditions,
            self.curves,
            baselines={curve.method: self.baseline for curve in self.image_curves},
            chance=None if self.chance is None else (self.chance, "chance"),
            removed=f"{self.config.masks.granularity}s replaced in {self.masked_images}",
        )
        return [chart]

    @property
    def order(self) -> str:
        """A line with the ranking of the methods; empty for one seed or one method."""
        if self.config.seeds == 1 or len(self.image_curves) == 1:
            return ""
        lowest_first = self.evaluation == "ROAR"
        best = f"the {'lowest' if lowest_first else 'highest'} area first"
        words = ranking(self.image_curves, lowest_first)
        return f"- {best}, ≈ where the difference paired by seed can't be told from zero (95 %, each pair): {words}\n"

    @property
    def body(self) -> str:
        return f"{self.table}\n{self.verdicts}{self.order}"

    @property
    def csv(self) -> str:
        return curves_csv(self.curves, self.baseline)

    @property
    def runs(self) -> str:
        return runs_csv(self.runs_in_order)

    @property
    def mask_words(self) -> list[str]:
        """The options of the masks that are not the default."""
        return words_of(self.config.masks)

    @property
    def stem(self) -> str:
        config, recipe = self.config, self.config.recipe
        usual = recipe_for(self.dataset, config.attention, quick=self.quick)
        usual_images = quick_images(self.dataset, config.attention) if self.quick else None
        listed = "-".join(f"{ratio:g}" for ratio in config.ratios)
        ratios = listed if len(listed) <= LONGEST_RATIOS else f"{len(config.ratios)}-{json_sha256(listed)[:6]}"
        amounts = {
            f"{config.limit_train or 'all'}-images": config.limit_train != usual_images,
            f"{config.limit_test}-tested": config.limit_test is not None,
            quantity(recipe.epochs, "epoch", "-"): recipe.epochs != usual.epochs,
            f"{recipe.small_epochs}-small-epochs": recipe.small_epochs != usual.small_epochs,
            f"batch-{recipe.batch_size}": recipe.batch_size != usual.batch_size,
            f"lr-{recipe.learning_rate:g}": recipe.learning_rate != usual.learning_rate,
            f"ratios-{ratios}": config.ratios != (QUICK_RATIOS if self.quick else RATIOS),
            f"{config.seeds}-seeds": config.seeds > 1,
            f"{config.mask_seeds}-mask-seeds": min(config.mask_seeds, config.seeds) > 1,
        }
        words = [self.evaluation, self.dataset, file_name_part(self.model), methods_stem(config.methods)]
        words += [*self.mask_words, *parameter_words(config.methods), *["quick"] * self.quick]
        return "_".join([*words, *(word for word, is_special in amounts.items() if is_special)])
