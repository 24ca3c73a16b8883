"""The accuracy tables: test accuracy of the trained classifiers, beside the original's figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from common.files import write_text
from data.catalog import DatasetInfo
from evaluation.chance import known_dataset_info
from evaluation.statistics import estimate
from models import ATTENTIONS, NO_ATTENTION
from reporting.records import load_records
from reporting.tables import csv_text, markdown_table

ORIGINAL = Path(__file__).with_name("original_results.json")
ORIGINAL_NAMES = {NO_ATTENTION: "Simple CNN", "CAM": "Simple CNN + CAM", "CBAM": "Simple CNN + CBAM", "RAN": "RAN"}
MODELS = (NO_ATTENTION, *ATTENTIONS)
TRAININGS = "checkpoints"  # among gathered records
NOT_RUN = "not run"
NOT_PUBLISHED = "not published"
FACTS = ("parameters", "epochs", "batch_size", "limit_train", "seconds", "device", "torch")  # columns of the CSV


@dataclass(frozen=True)
class Trainings:
    """Classifiers that differ by their seed alone: one row of a table.

    Attributes:
        checkpoints: their metadata, by seed.
    """

    checkpoints: tuple[dict[str, Any], ...]

    @property
    def first(self) -> dict[str, Any]:
        return self.checkpoints[0]

    @property
    def model(self) -> str:
        return str(self.first["model"])

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Their names, or numbers where older checkpoints don't name them and the data are not here."""
        count = len(self.first["test_accuracy_per_class"])
        known = self.first.get("classes") or (self._info.classes if self._info else ())
        return tuple(known) if len(known) == count else tuple(map(str, range(count)))

    @cached_property
    def per_class(self) -> dict[str, float]:
        """Mean over the seeds, of each class that there are test images of."""
        by_class = zip(*(checkpoint["test_accuracy_per_class"] for checkpoint in self.checkpoints), strict=True)
        return {
            name: float(np.mean(values))
            for name, values in zip(self.classes, by_class, strict=True)
            if all(value is not None and value == value for value in values)  # older checkpoints have NaN for None
        }

    def images(self, split: str) -> int | None:
        """Return the number of images of a split; None if an older checkpoint lacks it and the data are not here."""
        if (recorded := self.first.get(f"{split}_images")) is not None:
            return int(recorded)
        return self._info.shapes[f"{split}_images"][0] if self._info else None

    @cached_property
    def _info(self) -> DatasetInfo | None:
        return known_dataset_info(self.first["dataset"], self.first["dataset_sum"])

    @property
    def accuracy(self) -> str:
        """Test accuracy, with its interval if there are enough seeds or test images."""
        accuracies, tested = [checkpoint["test_accuracy"] for checkpoint in self.checkpoints], self.images("test")
        if len(accuracies) == 1 and tested is None:
            return f"{accuracies[0]:.4f}"
        mean = estimate(accuracies, tested or 0)
        return f"{mean.mean:.4f} ± {mean.half:.4f}"

    def cells(self, classes: Sequence[str]) -> list[str]:
        """Return a row of the table, with the accuracy of each of `classes`."""
        images = self.first["limit_train"] or self.images("train")
        trained = "" if images is None else f"{images - round(self.first['validation_rate'] * images):,}"
        return [
            self.model,
            "this project",
            f"{self.first['parameters']:,}",
            self.accuracy,
            *(f"{self.per_class[name]:.3f}" if name in self.per_class else "" for name in classes),
            ", ".join(str(checkpoint["seed"]) for checkpoint in self.checkpoints),
            str(self.first["recipe"]["epochs"]),
            trained,
            f"{np.mean([checkpoint['seconds'] for checkpoint in self.checkpoints]):,.0f}",
            ", ".join(dict.fromkeys(checkpoint["device"] for checkpoint in self.checkpoints)),
        ]


def group_trainings(known: Mapping[str, dict[str, Any]], dataset: str, quick: bool) -> list[Trainings]:
    """Return the trainings of `dataset`: one entry for each model and recipe, models in their usual order.

    Args:
        known: metadata of classifiers by the names of their files.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, metadata in known.items():
        if name.endswith("_quick") == quick and metadata["dataset"] == dataset:
            same = [metadata[field] for field in ("model", "recipe", "limit_train", "validation_rate", "dataset_sum")]
            same.append(metadata.get("model_code"))
            groups.setdefault(json.dumps(same, sort_keys=True), []).append(metadata)
    trainings = [
        Trainings(tuple(sorted(group, key=lambda metadata: int(metadata["seed"])))) for group in groups.values()
    ]
    return sorted(trainings, key=lambda training: model_order(training.model))


def load_trainings(folder: Path, dataset: str = "") -> dict[str, dict[str, Any]]:
    """Return the metadata of gathered classifiers, of one data set or of all, by the names of their files.

    Raises:
        InputError: a damaged file.
    """
    gathered = {path.stem: metadata for path, _nothing, metadata in load_records(folder, TRAININGS)}
    return {name: metadata for name, metadata in gathered.items() if dataset in ("", metadata["dataset"])}


def model_order(model: str) -> int:
    """Return the place of a model in a table; unknown models come last."""
    return next((place for place, name in enumerate(MODELS) if model.startswith(name)), len(MODELS))


@cache
def original_figures() -> dict[str, Any]:
    """Return the figures that the original White Box published."""
    published: dict[str, Any] = json.loads(ORIGINAL.read_text(encoding="utf-8"))
    return published


def original_accuracy(dataset: str, model: str) -> dict[str, Any] | None:
    """Return the figures that the original published of a model; None if there are none."""
    figures: dict[str, dict[str, Any]] = original_figures()["accuracy"].get(dataset, {})
    return figures.get(ORIGINAL_NAMES.get(model, ""))


def accuracy_rows(dataset: str, trainings: Sequence[Trainings]) -> list[list[str]]:
    """Return head and rows of the table of one data set: each model, and below it the original's figures."""
    classes = class_names(dataset, trainings)
    head = ["model", "trained by", "parameters", "test accuracy", *classes, "seeds", "epochs"]
    head += ["training images", "seconds", "hardware"]
    rows = [head]

    def add_row(cells: list[str], rest: str) -> None:
        rows.append(cells + [rest] * (len(head) - len(cells)))

    for model in dict.fromkeys([*MODELS, *(training.model for training in trainings)]):
        of_model = [training for training in trainings if training.model == model]
        codes = [training.first.get("model_code") for training in of_model]
        for training, code in zip(of_model, codes, strict=True):
            name, *cells = training.cells(classes)
            name += f" code {code or 'not recorded'}" * (len(set(codes)) > 1)  # several versions of a user's own model
            rows.append([name, *cells])
        if not of_model:
            add_row([model, "this project"], NOT_RUN)
        if (original := original_accuracy(dataset, model)) is not None:
            figures = [
                f"{original['parameters']:,}",
                *(f"{x:.3f}" for x in (original["total"], *original["per_class"])),
            ]
            add_row([model, "the original", *figures, "1 seed"], NOT_PUBLISHED)
    return rows


def class_names(dataset: str, trainings: Sequence[Trainings]) -> list[str]:
    """Return the classes of all trainings; if there are none, those of the data as they are here."""
    names = dict.fromkeys(name for training in trainings for name in training.classes)
    info = None if trainings else known_dataset_info(dataset)
    return list(names or (info.classes if info else ()))


def accuracy_csv(datasets: Sequence[str], trainings: Mapping[str, Sequence[Trainings]]) -> str:
    """Return a line per data set, model, seed and class (or `total`); accuracy empty if it was not run."""
    rows: list[list[object]] = [["dataset", "model", "trained_by", "seed", "class", "accuracy", *FACTS]]
    for dataset in datasets:
        classes = ("total", *class_names(dataset, trainings[dataset]))
        for training in trainings[dataset]:
            for metadata in training.checkpoints:
                recipe = metadata["recipe"]
                facts = [metadata["parameters"], recipe["epochs"], recipe["batch_size"], metadata["limit_train"]]
                facts += [metadata["seconds"], metadata["device"], metadata["versions"]["torch"]]
                accuracies = (metadata["test_accuracy"], *metadata["test_accuracy_per_class"])
                for label, accuracy in zip(("total", *training.classes), accuracies, strict=True):
                    value = "" if accuracy is None else f"{accuracy:.4f}"
                    row = [dataset, metadata["model"], "this project", metadata["seed"], label, value]
                    rows.append([*row, *facts])
        for model in MODELS:
            if not any(training.model == model for training in trainings[dataset]):
                rows.append([dataset, model, "this project", *[""] * (3 + len(FACTS))])
            if (original := original_accuracy(dataset, model)) is not None:
                facts = [original["parameters"], *[""] * (len(FACTS) - 1)]
                accuracies = (original["total"], *original["per_class"])
                for label, accuracy in zip(classes, accuracies, strict=True):
                    rows.append([dataset, model, "the original", "", label, accuracy, *facts])
    return csv_text(rows)


def accuracy_text(dataset: str, trainings: Sequence[Trainings]) -> str:
    """Return the table of one data set in Markdown, with its title and note."""
    seeds = {len(training.checkpoints) for training in trainings}
    intervals = ["Student's t over the seeds"] if seeds - {1} else []
    if 1 in seeds:
        intervals.append("with one seed Wilson's over the test images (the spread between networks is unknown)")
    note = f"\n± is the 95 % interval: {' and '.join(intervals)}. Seconds are of one training.\n" if intervals else ""
    return f"## Test accuracy on {dataset}\n\n{markdown_table(accuracy_rows(dataset, trainings))}{note}"


def report_accuracy(
    datasets: Sequence[str],
    known: Mapping[str, dict[str, Any]],
    results: Path,
    suffix: str,
    quick: bool,
    write: bool = True,
) -> str:
    """Write `accuracy<suffix>.md` and `.csv` of the trained classifiers; return the text to print.

    Args:
        known: see `group_trainings`.
    """
    trainings = {dataset: group_trainings(known, dataset, quick) for dataset in datasets}
    text = "\n".join(accuracy_text(dataset, trainings[dataset]) for dataset in datasets)
    stem = results / f"accuracy{suffix}{'_quick' if quick else ''}"
    if not write:
        return f"{text}\nnothing written"
    write_text(stem.with_suffix(".md"), text)
    write_text(stem.with_suffix(".csv"), accuracy_csv(datasets, trainings))
    return f"{text}\ntable: {stem}.md and .csv"
