"""ROAR and KAR: remove pixels by a map, retrain, and measure the accuracy."""

from functools import lru_cache

import torch

from data import Dataset
from evaluation import ORDER_OF
from evaluation.chance import chance_of
from evaluation.masking import ImputedImages, MaskedImages, MaskOnlyInputs, Removal, SplitRanks
from evaluation.runs import Run, RunResult
from evaluation.tasks import Arrays, OnImages, SharedArrays, normalisation_of, once_for_each, split_of
from models import parse_model_name, require_unchanged_model
from training.checkpoint import versions
from training.device import device_name
from training.inputs import Images, Inputs, Normalisation, load_labels
from training.loop import initialise, predict, seed_for, train
from training.networks import new_model

RANKS_ON_DEVICE = 4  # methods


class Retraining:
    """Retrains networks on one data set, which stays on the device."""

    def __init__(self, dataset: Dataset, normalisation: Normalisation, device: torch.device) -> None:
        """`dataset` is limited already; `normalisation` is that of the whole training set."""
        splits = {"train": dataset.train, "test": dataset.test}
        self.images = {name: Images(split, normalisation, device) for name, split in splits.items()}
        self.labels = {name: load_labels(split, device) for name, split in splits.items()}
        self.device = device
        self.ranks: SplitRanks | None = None
        self._imputed = lru_cache(2)(self._impute)  # both splits, for all seeds

    def execute(self, run: Run, ranks: SplitRanks | None, on_images: OnImages) -> RunResult:
        """Retrain from a new initialisation and test once.

        The seed decides on initialisation, order and augmentation, which are the same for every method and ratio.

        Args:
            ranks: those of the run's method; None for the baseline.
        """
        self.ranks = ranks
        seed, attention = seed_for(run.seed, "retraining"), parse_model_name(run.model)
        require_unchanged_model(attention, run.model_code)
        model = initialise(lambda: new_model(run.dataset, attention), seed, self.device)
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
        """Return the inputs on which the network of `run` is trained or tested."""
        images = self.images[split]
        if self.ranks is None or (split == "test" and run.masks.mask_split == "train"):
            return images
        ranks, removal = getattr(self.ranks, split), Removal(ORDER_OF[run.evaluation], run.ratio)
        if run.network_input == "mask":
            return MaskOnlyInputs(images, ranks, removal)
        if run.masks.fill == "linear":
            return self._imputed(self.ranks.key, removal, split)
        return MaskedImages(images, ranks, removal, run.masks.fill)

    def _impute(self, _key: str, removal: Removal, split: str) -> ImputedImages:
        return ImputedImages(self.images[split], getattr(self.ranks, split), removal)

    def removed_fraction(self, run: Run) -> float:
        """Return the fraction of positions that the masks of the training images remove."""
        if self.ranks is None:
            return 0.0
        return Removal(ORDER_OF[run.evaluation], run.ratio).mask(self.ranks.train).double().mean().item()


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
        ranks: `train` and `test` (N, C|1, H, W) int16, `tied` and `key`.
    """
    return _retraining(data, device).execute(run, _ranks(ranks, device) if ranks else None, on_images)
