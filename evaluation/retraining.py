"""ROAR and KAR: remove pixels by a map, retrain, and measure the accuracy."""

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from data import Dataset
from evaluation import ORDER_OF
from evaluation.chance import chance_of
from evaluation.masking import MaskedImages, MaskOnlyInputs, Removal, SplitRanks, impute_images
from evaluation.runs import Run, RunResult
from evaluation.tasks import OnImages, SharedArrays, normalisation_of, split_of
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
        self._imputed = lru_cache(2)(impute_images)  # both splits, for all seeds

    def execute(
        self, run: Run, ranks: SplitRanks | None, on_images: OnImages, weights: Mapping[str, Tensor] | None = None
    ) -> RunResult:
        """Retrain from new weights, or from `weights`, and test once.

        The seed decides on initialisation, order and augmentation, which are the same for every method and ratio.

        Args:
            ranks: those of the run's method; None for the baseline.
            weights: those with which the network begins; None for new ones.
        """
        seed, attention = seed_for(run.seed, "retraining"), parse_model_name(run.model)
        require_unchanged_model(attention, run.model_code)
        model = initialise(lambda: new_model(run.dataset, attention, weights), seed, self.device)
        inputs, tests = (self.inputs(run, ranks, split) for split in ("train", "test"))
        trained = train(model, inputs, self.labels["train"], run.recipe, seed, on_step=lambda n, _: on_images(n))
        correct = predict(model, tests) == self.labels["test"]
        return RunResult(
            accuracy=correct.double().mean().item(),
            test_images=len(correct),
            removed_fraction=removal_of(run).mask(ranks.train).double().mean().item() if ranks else 0.0,
            tied_fraction=ranks.tied if ranks else 0.0,
            loss=trained.loss,
            seconds=round(trained.seconds, 3),
            device=device_name(self.device),
            versions=versions(),
            chance=chance_of(self.labels["test"].cpu()),
        )

    def inputs(self, run: Run, ranks: SplitRanks | None, split: str) -> Inputs:
        """Return the inputs on which the network of `run` is trained or tested."""
        images = self.images[split]
        if ranks is None or (split == "test" and run.masks.mask_split == "train"):
            return images
        masks = images, getattr(ranks, split), removal_of(run)
        if run.network_input == "mask":
            return MaskOnlyInputs(*masks)
        return self._imputed(*masks) if run.masks.fill == "linear" else MaskedImages(*masks, run.masks.fill)


def removal_of(run: Run) -> Removal:
    """Return the part of each image that ROAR or KAR removes."""
    return Removal(ORDER_OF[run.evaluation], run.ratio)


@lru_cache(1)
def _retraining(data: SharedArrays, device: torch.device) -> Retraining:
    arrays = data.arrays()
    dataset = Dataset("", split_of(arrays, "train"), split_of(arrays, "test"), (), "")
    return Retraining(dataset, normalisation_of(arrays, device), device)


@lru_cache(RANKS_ON_DEVICE)
def _ranks(shared: SharedArrays, device: torch.device) -> SplitRanks:
    arrays = shared.arrays()
    train, test = (torch.from_numpy(arrays[split]).to(device) for split in ("train", "test"))
    return SplitRanks(train, test, float(arrays["tied"]))


def retrain(
    run: Run,
    data: SharedArrays,
    ranks: SharedArrays | None,
    device: torch.device,
    weights: Mapping[str, Tensor] | None,
    on_images: OnImages,
) -> RunResult:
    """Carry out one retraining: a task.

    Args:
        data: see `tasks.arrays_of`.
        ranks: `train` and `test` (N, C|1, H, W) int16 or int32, and `tied`.
        weights: see `Retraining.execute`.
    """
    return _retraining(data, device).execute(run, _ranks(ranks, device) if ranks else None, on_images, weights)
