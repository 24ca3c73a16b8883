"""The retrainings of ROAR and KAR: the options of masks, one retraining with its result, and the curves of several."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from attribution import CONTROLS, MAP_DTYPES
from attribution.spec import MethodSpec
from common.hashing import json_sha256
from common.parsing import fractions, positive
from evaluation import (
    ALL_FILLS,
    EXPLAIN,
    EXPLAINED_SEEDS,
    FILLS,
    FILLS_OF,
    GRANULARITIES,
    MASK_SPLITS,
    OWN,
    QUICK_RATIOS,
    RANKS,
    RATIOS,
    REMOVING,
    RETRAIN_FROM,
    RETRAINING,
    TRUST,
)
from evaluation.options import from_record, option, options_of, record_of
from models import model_name
from training.recipe import Recipe


def explain_option(word: str = "{}", users: tuple[str, ...] = ()) -> Any:
    return option(EXPLAIN[0], "the class explained", choices=EXPLAIN, word=word, users=users)


def rank_option(word: str = "{}") -> Any:
    return option(RANKS[0], "rank by the attribution, its absolute value or its square", choices=RANKS, word=word)


def fill_option(word: str = "{}") -> Any:
    """Return the option of the fill, whose choices and default depend on the evaluation: `FILLS_OF`."""
    evaluations = {fills: [name for name in FILLS_OF if FILLS_OF[name] == fills] for fills in FILLS_OF.values()}
    listed = (f"{', '.join(names)}: {'|'.join(fills)}" for fills, names in evaluations.items())
    return option(
        FILLS[0],
        "what replaces a pixel: the training set's mean per channel, black, its neighbours' (noisy) mean, or the "
        "blurred image",
        choices=ALL_FILLS,
        word=word,
        usual=f"the first of {'; '.join(listed)}",
    )


def ratios_option() -> Any:
    usual, quick = (",".join(f"{ratio:g}" for ratio in ratios) for ratios in (RATIOS, QUICK_RATIOS))
    return option(
        RATIOS,
        "fractions to replace, between 0 and 1",
        parse=fractions,
        metavar="T,T,...",
        word="",
        usual=f"{usual}; --quick: {quick}",
    )


@dataclass(frozen=True)
class MaskOptions:
    """The options of masks."""

    granularity: str = option(
        GRANULARITIES[0], "what is ranked: pixels over all channels, or each channel's value", choices=GRANULARITIES
    )
    rank: str = rank_option()
    fill: str = fill_option()
    mask_split: str = option(
        MASK_SPLITS[0],
        "mask training and test images, or only training images as the original did",
        choices=MASK_SPLITS,
    )
    explain: str = explain_option(users=("saliency", "coherence", *RETRAINING, OWN))
    map_dtype: str = option(
        MAP_DTYPES[0],
        "in which maps are kept; float16 takes half the space",
        choices=MAP_DTYPES,
        users=("saliency", *RETRAINING, *REMOVING, "learned", TRUST, OWN),
    )
    retrain_from: str = option(
        RETRAIN_FROM[0],
        "networks of ROAR and KAR begin with new weights, or with those of --weights",
        choices=RETRAIN_FROM,
        word="from-{}",
        note="Retrained from the given weights.",
        is_new=True,
    )
    explained_seeds: str = option(
        EXPLAINED_SEEDS[0],
        "networks of ROAR and KAR retrain on the maps of the same classifier, that of seed 0, or of their own seed's",
        choices=EXPLAINED_SEEDS,
        word="{}-networks",
        note="With each seed another network is explained; the maps of RANDOM and SOBEL need none.",
        is_new=True,
    )

    def without(self, *names: str) -> "MaskOptions":
        """Return the same with None for the options `names`, which have no influence."""
        nothing: dict[str, Any] = dict.fromkeys(names)
        return replace(self, **nothing)


NO_MASK = MaskOptions().without(*(name for name, about in options_of(MaskOptions).items() if not about.is_new))


@dataclass(frozen=True)
class Run:
    """Everything that decides on the result of one retraining.

    Attributes:
        evaluation: "ROAR", "KAR", or "baseline" for whole images.
        network_input: "image", or "mask" for a network that sees the 0/1 mask alone, 1 at the most important `ratio`.
            The mask of KAR is the complement of one of ROAR and tells the same: both have the same runs.
        method: None for the baseline, like every field of masks.
        checkpoint_sha256: of the explained model.
        masks: with `explained_seeds="own"` only where that model is not the one of seed 0, so that all else is shared.
        model_code: fingerprint of a user's own model; None for ours.
    """

    evaluation: str
    dataset: str
    dataset_sha256: str
    model: str
    seed: int
    recipe: Recipe
    limit_train: int | None
    limit_test: int | None
    network_input: str = "image"
    method: MethodSpec | None = None
    ratio: float = 0.0
    checkpoint_sha256: str | None = None
    masks: MaskOptions = NO_MASK
    model_code: str | None = None

    def configuration(self) -> dict[str, Any]:
        """Return the fields as the record has them."""
        record = record_of(self)
        del record["masks"]
        if self.model_code is None:
            del record["model_code"]
        method = self.method.plain if self.method else {"method": None, "ensemble": None, "parameters": None}
        return record | record_of(self.masks) | method | {"blur": self.method.blur if self.method else None}

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> "Run":
        """Return the run of a `configuration()`."""
        method = MethodSpec.read(configuration) if configuration["method"] else None
        masks = MaskOptions(**from_record(MaskOptions, configuration))
        return cls(**from_record(cls, configuration) | {"method": method, "masks": masks})

    @property
    def name(self) -> str:
        words: list[str | None] = [self.dataset, self.model]
        if method := self.method:
            words += [method.method_stem, method.ensemble, "blurred" if method.blur else None]
        words += [self.evaluation, f"{self.ratio:.4g}" if method else None]
        words += ["mask" if self.network_input == "mask" else None, f"seed{self.seed}"]
        return "_".join(filter(None, words))

    def path(self, results: Path) -> Path:
        """Return `<results>/runs/<name>-<hash of the configuration>.json`."""
        return results / "runs" / f"{self.name}-{json_sha256(self.configuration())[:12]}.json"


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run.

    Attributes:
        accuracy: on the test images.
        removed_fraction: of the positions of the training images, counted.
        tied_fraction: of their positions: those whose value another position has too; their order is random.
        chance: on the test images, see `evaluation.chance`; None in older records.
    """

    accuracy: float
    test_images: int
    removed_fraction: float
    tied_fraction: float
    loss: float
    seconds: float
    device: str
    versions: dict[str, str]
    chance: float | None = None

    def plain(self) -> dict[str, Any]:
        """Return the fields for a record, without an unknown chance."""
        return {name: value for name, value in asdict(self).items() if name != "chance" or value is not None}


@dataclass(frozen=True)
class RetrainingConfig:
    """The retrainings of one evaluation.

    Attributes:
        seeds: networks for each point of a curve, with the seeds 0 … seeds − 1, the same for every method.
        mask_seeds: networks that see the mask alone, for each point; at most `seeds`.
        model_code: fingerprint of a user's own model; None for ours.
    """

    evaluation: str
    dataset: str
    attention: str | None
    methods: tuple[MethodSpec, ...]
    recipe: Recipe
    ratios: tuple[float, ...] = ratios_option()
    seeds: int = 1
    mask_seeds: int = option(
        1, "networks that see the mask alone, for each point; at most --seeds", parse=positive, metavar="N"
    )
    limit_train: int | None = None
    limit_test: int | None = None
    masks: MaskOptions = MaskOptions()
    model_code: str | None = None

    def baseline(self, dataset_sha256: str, seed: int) -> Run:
        """Return the run on unmasked images, which all methods share."""
        return Run(
            evaluation="baseline",
            dataset=self.dataset,
            dataset_sha256=dataset_sha256,
            model=model_name(self.attention),
            seed=seed,
            recipe=self.recipe,
            limit_train=self.limit_train,
            limit_test=self.limit_test,
            model_code=self.model_code,
            masks=replace(NO_MASK, retrain_from=self.masks.retrain_from),
        )

    def explained_seed(self, method: MethodSpec, seed: int) -> int:
        """Return the seed of the classifier whose maps a retraining uses; the controls don't look at the classifier."""
        return seed if self.masks.explained_seeds == "own" and method.method not in CONTROLS else 0

    def run(
        self,
        dataset_sha256: str,
        checkpoint_sha256: str,
        method: MethodSpec,
        ratio: float,
        seed: int,
        network_input: str,
    ) -> Run:
        """Return one retraining.

        The network that sees the mask alone is the same for every fill, and the same for ROAR and KAR: the least
        important fraction t is the complement of the most important 1 − t.

        Args:
            checkpoint_sha256: of the classifier of `explained_seed`.
        """
        masks = self.masks if self.explained_seed(method, seed) else replace(self.masks, explained_seeds="same")
        image = network_input == "image"
        most_important = image or self.evaluation == "ROAR"
        return replace(
            self.baseline(dataset_sha256, seed),
            evaluation=self.evaluation if image else "ROAR",
            network_input=network_input,
            method=method,
            ratio=ratio if most_important else round(1 - ratio, 9),
            checkpoint_sha256=checkpoint_sha256,
            masks=masks if image else masks.without("fill", "mask_split"),
        )

    def runs(self, dataset_sha256: str, checkpoints_sha256: tuple[str, ...]) -> list[Run]:
        """Return all runs: the baselines, then method by method, so that few ranks are in memory at a time.

        Args:
            checkpoints_sha256: of the explained classifiers by seed; without `explained_seeds="own"` of seed 0 alone.
        """
        return [self.baseline(dataset_sha256, seed) for seed in self.seeds_of("image")] + [
            self.run(dataset_sha256, checkpoints_sha256[explained], method, ratio, seed, network_input)
            for method in self.methods
            for ratio in self.ratios
            for network_input in ("image", "mask")
            for seed in self.seeds_of(network_input)
            for explained in (self.explained_seed(method, seed),)
        ]

    def seeds_of(self, network_input: str) -> range:
        """Return the seeds of networks that see images, or masks alone."""
        return range(self.seeds if network_input == "image" else min(self.seeds, self.mask_seeds))
