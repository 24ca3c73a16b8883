"""Training curves: accuracy on held-out images and loss by epoch, a figure for each data set with all its models."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from reporting.accuracy import Trainings, group_trainings
from reporting.labels import readable_dataset, readable_model

QUANTITIES = {"validation_accuracy": "accuracy on held-out images", "loss": "training loss"}  # and titles of the panels
NOTE = (
    "Held out: a part of the training images. Loss: mean over the batches of an epoch, with label smoothing. "
    "Dotted: after the last epoch. "
)
OF_SEEDS, OF_ONE = "Bold: mean over the seeds; thin: each seed.", "One seed each."


@dataclass(frozen=True)
class TrainingCurve:
    """A quantity by epoch, of trainings that differ by their seed alone.

    Attributes:
        label: written at the end of the line.
        seeds: the values of each seed, from the first epoch to the last.
    """

    model: str
    label: str
    seeds: tuple[tuple[float, ...], ...]

    @cached_property
    def means(self) -> list[float]:
        """Mean over the seeds, by epoch."""
        return [float(np.mean(values)) for values in zip(*self.seeds, strict=True)]


def history_of(metadata: Mapping[str, Any], quantity: str) -> tuple[float, ...]:
    """Return a quantity by epoch, from a checkpoint's metadata.

    Returns:
        nothing if older versions trained it, or its first epochs, or if no images were held out.
    """
    values = tuple(epoch[quantity] for epoch in metadata.get("history", ()))
    return values if len(values) == metadata["recipe"]["epochs"] and None not in values else ()


def training_curves(trainings: Sequence[Trainings], quantity: str) -> list[TrainingCurve]:
    """Return the curves of a data set's trainings; where several are of one model, their labels name the seeds."""
    counts = Counter(training.model for training in trainings)
    curves = []
    for training in trainings:
        seeds = {each["seed"]: values for each in training.checkpoints if (values := history_of(each, quantity))}
        if seeds:
            name = readable_model(training.model)
            label = f"{name}, seed {', '.join(map(str, seeds))}" if counts[training.model] > 1 else name
            curves.append(TrainingCurve(training.model, label, tuple(seeds.values())))
    return curves


def write_training_curves(
    datasets: Sequence[str], known: Mapping[str, dict[str, Any]], results: Path, quick: bool
) -> list[Path]:
    """Write `training_<dataset>` as PNG and PDF for each data set that has a training with its history.

    Args:
        known: see `group_trainings`.

    Returns:
        the paths of the figures.
    """
    paths: list[Path] = []
    for dataset in datasets:
        trainings = group_trainings(known, dataset, quick)
        title = readable_dataset(dataset)
        curves = {name: training_curves(trainings, quantity) for quantity, name in QUANTITIES.items()}
        panels = {f"{title}: {name}": of_name for name, of_name in curves.items() if of_name}
        if panels:
            from reporting.figures import draw_training, save_figure  # here, so that nothing else waits for matplotlib

            shown = {curve.model for of_quantity in curves.values() for curve in of_quantity}
            missing = dict.fromkeys(readable_model(each.model) for each in trainings if each.model not in shown)
            left_out = f" Trained before curves were kept: {', '.join(missing)}." if missing else ""
            has_seeds = any(len(curve.seeds) > 1 for of_quantity in curves.values() for curve in of_quantity)
            note = f"{NOTE}{OF_SEEDS if has_seeds else OF_ONE}{left_out}"
            stem = f"training_{dataset}{'_quick' if quick else ''}"
            paths += save_figure(draw_training(panels, note), results / stem)
    return paths
