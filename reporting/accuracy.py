"""The accuracy tables: test accuracy of the trained classifiers, beside the original's figures."""

import json
from collections import defaultdict
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
from reporting.labels import readable_dataset
from reporting.records import load_records
from reporting.tables import csv_text, markdown_table

ORIGINAL = Path(__file__).with_name("original_results.json")
ORIGINAL_NAMES = {NO_ATTENTION: "Simple CNN", "CAM": "Simple CNN + CAM", "CBAM": "Simple CNN + CBAM", "RAN": "RAN"}
MODELS = (NO_ATTENTION, *ATTENTIONS)
TRAININGS = "checkpoints"  # among gathered records
NOT_RUN = "not run"
NOT_PUBLISHED = "not published"
SAME = ("model", "recipe", "limit_train", "validation_rate", "dataset_sum", "model_code")  # of all seeds of a row
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
        by_class = zip(*self.values("test_accuracy_per_class"), strict=True)
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

    def values(self, name: str) -> list[Any]:
        """Return an entry of the metadata for each seed."""
        return [checkpoint[name] for checkpoint in self.checkpoints]

    @property
    def accuracy(self) -> str:
        """Test accuracy, with its interval if there are enough seeds or test images."""
        accuracies, tested = self.values("test_accuracy"), self.images("test")
        if len(accuracies) == 1 and tested is None:
            return f"{accuracies[0]:.4f}"
        mean = estimate(accuracies, tested or 0)
        return f"{mean.mean:.4f} ± {mean.half:.4f}"

    def cells(self, classes: Sequence[str]) -> list[str]:
        """Return a row of the table without the model, with the accuracy of each of `classes`."""
        images = self.first["limit_train"] or self.images("train")
        return [
            "this project",
            f"{self.first['parameters']:,}",
            self.accuracy,
            *(f"{self.per_class[name]:.3f}" if name in self.per_class else "" for name in classes),
            ", ".join(map(str, self.values("seed"))),
            str(self.first["recipe"]["epochs"]),
            "" if images is None else f"{images - round(self.first['validation_rate'] * images):,}",
            f"{np.mean(self.values('seconds')):,.0f}",
            ", ".join(dict.fromkeys(self.values("device"))),
        ]


def group_trainings(known: Mapping[str, dict[str, Any]], dataset: str, quick: bool) -> list[Trainings]:
    """Return the trainings of `dataset`: one entry for each model and recipe, models in their usual order.

    Args:
        known: metadata of classifiers by the names of their files.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, metadata in known.items():
        if name.endswith("_quick") == quick and metadata["dataset"] == dataset:
            groups[json.dumps([metadata.get(field) for field in SAME], sort_keys=True)].append(metadata)
    trainings = (Trainings(tuple(sorted(group, key=lambda each: int(each["seed"])))) for group in groups.values())
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
    return dict(json.loads(ORIGINAL.read_text(encoding="utf-8")))


def original_accuracy(dataset: str, model: str) -> dict[str, Any] | None:
    """Return the figures that the original published of a model; None if there are none."""
    accuracy: dict[str, dict[str, dict[str, Any]]] = original_figures()["accuracy"]
    return accuracy.get(dataset, {}).get(ORIGINAL_NAMES.get(model, ""))


def accuracy_rows(dataset: str, trainings: Sequence[Trainings]) -> list[list[str]]:
    """Return head and rows of the table of one data set: each model, and below it the original's figures."""
    classes = class_names(dataset, trainings)
    head = ["model", "trained by", "parameters", "test accuracy", *classes, "seeds", "epochs"]
    head += ["training images", "seconds", "hardware"]
    rows = [head]
    for model in dict.fromkeys([*MODELS, *(training.model for training in trainings)]):
        of_model = [training for training in trainings if training.model == model]
        codes = [training.first.get("model_code") for training in of_model]
        for training, code in zip(of_model, codes, strict=True):
            version = f" code {code or 'not recorded'}" * (len(set(codes)) > 1)  # several of a user's own model
            rows.append([f"{model}{version}", *training.cells(classes)])
        if not of_model:
            rows.append([model, "this project", *[NOT_RUN] * (len(head) - 2)])
        if (original := original_accuracy(dataset, model)) is not None:
            figures = (f"{figure:.3f}" for figure in (original["total"], *original["per_class"]))
            cells = [model, "the original", f"{original['parameters']:,}", *figures, "1 seed"]
            rows.append(cells + [NOT_PUBLISHED] * (len(head) - len(cells)))
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
                flat = metadata | metadata["recipe"] | metadata["versions"]
                accuracies = (metadata["test_accuracy"], *metadata["test_accuracy_per_class"])
                for label, accuracy in zip(("total", *training.classes), accuracies, strict=True):
                    value = "" if accuracy is None else f"{accuracy:.4f}"
                    row = [dataset, training.model, "this project", metadata["seed"], label, value]
                    rows.append([*row, *(flat[name] for name in FACTS)])
        for model in MODELS:
            if not any(training.model == model for training in trainings[dataset]):
                rows.append([dataset, model, "this project", *[""] * (3 + len(FACTS))])
            if (original := original_accuracy(dataset, model)) is not None:
                facts = [original["parameters"], *[""] * (len(FACTS) - 1)]
                for label, accuracy in zip(classes, (original["total"], *original["per_class"]), strict=True):
                    rows.append([dataset, model, "the original", "", label, accuracy, *facts])
    return csv_text(rows)


def accuracy_text(dataset: str, trainings: Sequence[Trainings]) -> str:
    """Return the table of one data set in Markdown, with its title and note."""
    seeds = {len(training.checkpoints) for training in trainings}
    intervals = ["Student's t over the seeds"] if seeds - {1} else []
    if 1 in seeds:
        intervals.append("with one seed Wilson's over the test images (the spread between networks is unknown)")
    note = f"\n± is the 95 % interval: {' and '.join(intervals)}. Seconds are of one training.\n" if intervals else ""
    table = markdown_table(accuracy_rows(dataset, trainings))
    return f"## Test accuracy on {readable_dataset(dataset)}\n\n{table}{note}"


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
