"""ROAR and KAR: remove pixels by a map, retrain, and see what accuracy is left."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from attribution import MAP_DTYPES
from attribution.spec import MethodSpec
from common.fingerprint import require_unchanged
from data import Dataset
from evaluation import EXPLAIN, FILLS, GRANULARITIES, MASK_SPLITS, RANKS
from evaluation.chance import chance_of
from evaluation.masking import ImputedImages, MaskedImages, MaskOnlyInputs, Removal, SplitRanks
from evaluation.runs import Run, RunResult
from evaluation.tasks import Arrays, OnImages, SharedArrays, normalisation_of, once_for_each, split_of
from models import attention_of, model_name
from training.checkpoint import versions
from training.device import device_name
from training.inputs import Images, Inputs, Normalisation, labels_of
from training.loop import initialised, predict, seed_for, train
from training.networks import new_model
from training.recipe import Recipe

RANKS_ON_DEVICE = 4  # methods


@dataclass(frozen=True)
class Protocol:
    """What one evaluation by retraining consists of; each field but the first six is an option with a default.

    Attributes:
        seeds: networks for each point of a curve, with the seeds 0 … seeds − 1, the same for every method.
        mask_seeds: networks that see the mask alone, for each point; never more than `seeds`.
        model_code: stands for the code of a user's own model; None for ours.
    """

    evaluation: str
    dataset: str
    attention: str | None
    methods: tuple[MethodSpec, ...]
    ratios: tuple[float, ...]
    recipe: Recipe
    seeds: int = 1
    mask_seeds: int = 1
    limit_train: int | None = None
    limit_test: int | None = None
    explain: str = EXPLAIN[0]
    granularity: str = GRANULARITIES[0]
    rank: str = RANKS[0]
    fill: str = FILLS[0]
    mask_split: str = MASK_SPLITS[0]
    map_dtype: str = MAP_DTYPES[0]
    model_code: str | None = None

    def baseline(self, dataset_sum: str, seed: int) -> Run:
        """The run on unmasked images, which all methods share."""
        return Run(
            evaluation="baseline",
            dataset=self.dataset,
            dataset_sum=dataset_sum,
            model=model_name(self.attention),
            seed=seed,
            recipe=self.recipe,
            limit_train=self.limit_train,
            limit_test=self.limit_test,
            model_code=self.model_code,
        )

    def run(self, dataset_sum: str, checkpoint_sum: str, method: MethodSpec, ratio: float, seed: int, sees: str) -> Run:
        """One retraining.

        A network that sees the mask alone is the same whatever fills the image, and the same for ROAR and KAR:
        the least important fraction t is the complement of the most important 1 − t.
        """
        image = sees == "image"
        most_important = image or self.evaluation == "ROAR"
        return replace(
            self.baseline(dataset_sum, seed),
            evaluation=self.evaluation if image else "ROAR",
            sees=sees,
            method=method,
            ratio=ratio if most_important else round(1 - ratio, 9),
            checkpoint_sum=checkpoint_sum,
            explain=self.explain,
            granularity=self.granularity,
            rank=self.rank,
            fill=self.fill if image else None,
            mask_split=self.mask_split if image else None,
            map_dtype=self.map_dtype,
        )

    def runs(self, dataset_sum: str, checkpoint_sum: str) -> list[Run]:
        """All runs: the baselines, then method by method, so that few ranks are held at a time."""
        return [self.baseline(dataset_sum, seed) for seed in self.seeds_of("image")] + [
            self.run(dataset_sum, checkpoint_sum, method, ratio, seed, sees)
            for method in self.methods
            for ratio in self.ratios
            for sees in ("image", "mask")
            for seed in self.seeds_of(sees)
        ]

    def seeds_of(self, sees: str) -> range:
        """The seeds of networks that see images, or masks alone."""
        return range(self.seeds if sees == "image" else min(self.seeds, self.mask_seeds))


class Retraining:
    """Retrains networks on one data set, which is held on the device."""

    def __init__(self, dataset: Dataset, normalisation: Normalisation, device: torch.device) -> None:
        """Hold `dataset`, limited already; `normalisation` is of the whole training set."""
        splits = {"train": dataset.train, "test": dataset.test}
        self.images = {name: Images(split, normalisation, device) for name, split in splits.items()}
        self.labels = {name: labels_of(split, device) for name, split in splits.items()}
        self.device = device
        self.ranks: SplitRanks | None = None
        self._imputed = lru_cache(2)(self._impute)  # both splits, for all seeds

    def execute(self, run: Run, ranks: SplitRanks | None, on_images: OnImages) -> RunResult:
        """Retrain from a new initialisation and read the test images once.

        The seed of a run decides on initialisation, order and augmentation, the same for every method and ratio.

        Args:
            ranks: of the run's method; None for the baseline.
        """
        self.ranks = ranks
        seed, attention = seed_for(run.seed, "retraining"), attention_of(run.model)
        if attention is not None and run.model_code is not None:
            require_unchanged(attention, run.model_code)
        model = initialised(lambda: new_model(run.dataset, attention), seed, self.device)
        inputs = self.inputs(run, "train")
        trained = train(model, inputs, self.labels["train"], run.recipe, seed, on_step=lambda n, _: on_images(n))
        correct = predict(model, self.inputs(run, "test")) == self.labels["test"]
        return RunResult(
            accuracy=correct.double().mean().item(),
            test_images=len(correct),
            removed_fraction=self.removed_fraction(run),
            tied_fraction=ranks.tied if ranks else 0.0,
            loss=trained.loss,
            seconds=round(trained.seconds, 3),
            device=device_name(self.device),
            versions=versions(),
            chance=chance_of(self.labels["test"].cpu()),
        )

    def inputs(self, run: Run, split: str) -> Inputs:
        """What the network of `run` is trained or tested on."""
        images = self.images[split]
        if self.ranks is None or (split == "test" and run.mask_split == "train"):
            return images
        ranks, removal = getattr(self.ranks, split), Removal(run.evaluation, run.ratio)
        if run.sees == "mask":
            return MaskOnlyInputs(images, ranks, removal)
        if run.fill == "linear":
            return self._imputed(self.ranks.key, removal, split)
        return MaskedImages(images, ranks, removal, run.fill or FILLS[0])

    def _impute(self, _key: str, removal: Removal, split: str) -> ImputedImages:
        return ImputedImages(self.images[split], getattr(self.ranks, split), removal)

    def removed_fraction(self, run: Run) -> float:
        """Counted on the masks of the training images, not computed from the ratio."""
        if self.ranks is None:
            return 0.0
        return Removal(run.evaluation, run.ratio).mask(self.ranks.train).double().mean().item()


@once_for_each(1)
def _retraining(arrays: Arrays, device: torch.device) -> Retraining:
    dataset = Dataset("", split_of(arrays, "train"), split_of(arrays, "test"), (), "")
    return Retraining(dataset, normalisation_of(arrays, device), device)


@once_for_each(RANKS_ON_DEVICE)
def _ranks(arrays: Arrays, device: torch.device) -> SplitRanks:
    train, test = (torch.from_numpy(arrays[split]).to(device) for split in ("train", "test"))
    return SplitRanks(train, test, float(arrays["tied"]), key=str(arrays["key"]))


def retrain(
    run: Run, data: SharedArrays, ranks: SharedArrays | None, device: torch.device, on_images: OnImages
) -> RunResult:
    """Carry out one retraining: a task.

    Args:
        data: see `tasks.arrays_of`.
        ranks: `train`, `test` (N, C|1, H, W) int16 and `tied`.
    """
    return _retraining(data, device).execute(run, _ranks(ranks, device) if ranks else None, on_images)
