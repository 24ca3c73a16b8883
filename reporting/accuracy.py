"""The accuracy tables: what the kept classifiers reached on the test images, beside the original's figures."""

import csv
import io
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
from reporting.tables import markdown_rows

ORIGINAL = Path(__file__).with_name("original_results.json")
ORIGINAL_NAMES = {NO_ATTENTION: "Simple CNN", "CAM": "Simple CNN + CAM", "CBAM": "Simple CNN + CBAM", "RAN": "RAN"}
MODELS = (NO_ATTENTION, *ATTENTIONS)
TRAININGS = "checkpoints"  # among gathered records
NOT_RUN = "not run"
NOT_PUBLISHED = "not published"


@dataclass(frozen=True)
class Trainings:
    """Classifiers that differ by their seed alone: one row of a table.

    Attributes:
        checkpoints: their metadata, by seed.
    """

    checkpoints: tuple[dict[str, Any], ...]

    @property
    def model(self) -> str:
        return str(self.checkpoints[0]["model"])

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Their names, or numbers where older checkpoints don't name them and the data are not here."""
        first = self.checkpoints[0]
        count = len(first["test_accuracy_per_class"])
        known = first.get("classes") or (self._entry.classes if self._entry else ())
        return tuple(known) if len(known) == count else tuple(map(str, range(count)))

    @cached_property
    def per_class(self) -> dict[str, float]:
        """Mean over the seeds, of each class that there are test images of."""
        seeds = zip(*(one["test_accuracy_per_class"] for one in self.checkpoints), strict=True)
        return {
            name: float(np.mean(of_class))
            for name, of_class in zip(self.classes, seeds, strict=True)
            if all(one is not None and one == one for one in of_class)  # older checkpoints have NaN for None
        }

    def images(self, split: str) -> int | None:
        """Return the number of images of a split; None if an older checkpoint lacks it and the data are not here."""
        if (recorded := self.checkpoints[0].get(f"{split}_images")) is not None:
            return int(recorded)
        return self._entry.shapes[f"{split}_images"][0] if self._entry else None

    @cached_property
    def _entry(self) -> DatasetInfo | None:
        return known_dataset_info(self.checkpoints[0]["dataset"], self.checkpoints[0]["dataset_sum"])

    @property
    def total(self) -> str:
        """Test accuracy, with its interval where that can be told."""
        accuracies, tested = [one["test_accuracy"] for one in self.checkpoints], self.images("test")
        if len(accuracies) == 1 and tested is None:
            return f"{accuracies[0]:.4f}"
        total = estimate(accuracies, tested or 0)
        return f"{total.mean:.4f} ± {total.half:.4f}"

    @property
    def trained_on(self) -> str:
        """The number of training images without the held-out ones."""
        first = self.checkpoints[0]
        images = first["limit_train"] or self.images("train")
        return "" if images is None else f"{images - round(first['validation_rate'] * images):,}"

    def cells(self, classes: Sequence[str]) -> list[str]:
        """A row of the table, with the accuracy of each of `classes`."""
        first = self.checkpoints[0]
        return [
            self.model,
            "this project",
            f"{first['parameters']:,}",
            self.total,
            *(f"{self.per_class[name]:.3f}" if name in self.per_class else "" for name in classes),
            ", ".join(str(one["seed"]) for one in self.checkpoints),
            str(first["recipe"]["epochs"]),
            self.trained_on,
            f"{np.mean([one['seconds'] for one in self.checkpoints]):,.0f}",
            ", ".join(dict.fromkeys(one["device"] for one in self.checkpoints)),
        ]


def trainings_of(known: Mapping[str, dict[str, Any]], dataset: str, quick: bool) -> list[Trainings]:
    """Return the trainings of `dataset`: one entry for each model and recipe, models in their usual order.

    Args:
        known: metadata of classifiers by the names of their files.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, metadata in known.items():
        if name.endswith("_quick") == quick and metadata["dataset"] == dataset:
            same = [metadata[name] for name in ("model", "recipe", "limit_train", "validation_rate", "dataset_sum")]
            same.append(metadata.get("model_code"))
            groups.setdefault(json.dumps(same, sort_keys=True), []).append(metadata)
    found = [Trainings(tuple(sorted(group, key=lambda one: int(one["seed"])))) for group in groups.values()]
    return sorted(found, key=lambda one: order_of(one.model))


def load_trainings(folder: Path, dataset: str = "") -> dict[str, dict[str, Any]]:
    """Return the metadata of gathered classifiers, of one data set or of all, by the names of their files.

    Raises:
        InputError: a damaged file.
    """
    gathered = {path.stem: metadata for path, _nothing, metadata in load_records(folder, TRAININGS)}
    return {name: metadata for name, metadata in gathered.items() if dataset in ("", metadata["dataset"])}


def order_of(model: str) -> int:
    """Return the place of a model in a table; unknown models come last."""
    return next((place for place, name in enumerate(MODELS) if model.startswith(name)), len(MODELS))


@cache
def original_figures() -> dict[str, Any]:
    """Return the figures that the original White Box published."""
    published: dict[str, Any] = json.loads(ORIGINAL.read_text(encoding="utf-8"))
    return published


def accuracy_rows(dataset: str, trainings: Sequence[Trainings]) -> list[list[str]]:
    """Head and rows of the table of one data set: each model, and below it the original's figures."""
    classes = class_names(dataset, trainings)
    head = ["model", "trained by", "parameters", "test accuracy", *classes, "seeds", "epochs"]
    head += ["training images", "seconds", "hardware"]
    rows = [head]
    published = original_figures()["accuracy"].get(dataset, {})
    for model in dict.fromkeys([*MODELS, *(one.model for one in trainings)]):
        ours = [one for one in trainings if one.model == model]
        rows += _rows_of_model(ours, classes) or [_filled([model, "this project"], NOT_RUN, len(head))]
        if (original := published.get(ORIGINAL_NAMES.get(model))) is not None:
            figures = [f"{original['parameters']:,}", f"{original['total']:.3f}"]
            figures += [f"{accuracy:.3f}" for accuracy in original["per_class"]]
            rows.append(_filled([model, "the original", *figures, "1 seed"], NOT_PUBLISHED, len(head)))
    return rows


def _rows_of_model(trainings: Sequence[Trainings], classes: Sequence[str]) -> list[list[str]]:
    """A row for each recipe; with the code in its name where there are several editions of a user's own model."""
    codes = [one.checkpoints[0].get("model_code") for one in trainings]
    rows = [one.cells(classes) for one in trainings]
    if len(set(codes)) > 1:
        rows = [
            [f"{name} code {code or 'not recorded'}", *cells] for code, (name, *cells) in zip(codes, rows, strict=True)
        ]
    return rows


def class_names(dataset: str, trainings: Sequence[Trainings]) -> list[str]:
    """Those of all trainings; where there are none, those of the data as they are here."""
    entry = None if trainings else known_dataset_info(dataset)
    return list(dict.fromkeys(name for one in trainings for name in one.classes)) or list(
        entry.classes if entry else ()
    )


def _filled(cells: list[str], rest: str, length: int) -> list[str]:
    return cells + [rest] * (length - len(cells))


def accuracy_csv(datasets: Sequence[str], trainings: dict[str, list[Trainings]]) -> str:
    """One line per data set, model, seed and class (or `total`); accuracy empty if it was not run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["dataset", "model", "trained_by", "seed", "class", "accuracy", "parameters", "epochs", "batch_size"]
    writer.writerow([*head, "limit_train", "seconds", "device", "torch"])
    published = original_figures()["accuracy"]
    for dataset in datasets:
        classes = ("total", *class_names(dataset, trainings[dataset]))
        for group, one in ((each, metadata) for each in trainings[dataset] for metadata in each.checkpoints):
            facts = [one["parameters"], one["recipe"]["epochs"], one["recipe"]["batch_size"], one["limit_train"]]
            facts += [one["seconds"], one["device"], one["versions"]["torch"]]
            accuracies = (one["test_accuracy"], *one["test_accuracy_per_class"])
            for label, accuracy in zip(("total", *group.classes), accuracies, strict=True):
                value = "" if accuracy is None else f"{accuracy:.4f}"
                writer.writerow([dataset, one["model"], "this project", one["seed"], label, value, *facts])
        for model in MODELS:
            if not any(each.model == model for each in trainings[dataset]):
                writer.writerow([dataset, model, "this project", *[""] * 10])
            original = published.get(dataset, {}).get(ORIGINAL_NAMES.get(model))
            if original is not None:
                accuracies = (original["total"], *original["per_class"])
                for label, accuracy in zip(classes, accuracies, strict=True):
                    writer.writerow(
                        [dataset, model, "the original", "", label, accuracy, original["parameters"], *[""] * 6]
                    )
    return text.getvalue()


def accuracy_text(dataset: str, trainings: Sequence[Trainings]) -> str:
    """The table of one data set in Markdown, with what it says of itself."""
    seeds = {len(one.checkpoints) for one in trainings}
    interval = " and ".join(
        words
        for words, there in (
            ("Student's t over the seeds", seeds - {1}),
            ("with one seed Wilson's over the test images (the spread between networks is unknown)", 1 in seeds),
        )
        if there
    )
    note = f"\n± is the 95 % interval: {interval}. Seconds are of one training.\n" if interval else ""
    return f"## Test accuracy on {dataset}\n\n{markdown_rows(accuracy_rows(dataset, trainings))}{note}"


def report_accuracy(
    datasets: Sequence[str],
    known: Mapping[str, dict[str, Any]],
    results: Path,
    suffix: str,
    quick: bool,
    write: bool = True,
) -> str:
    """Write `accuracy<suffix>.md` and `.csv` from the kept classifiers; return what is to be said.

    Args:
        known: see `trainings_of`.
    """
    trainings = {dataset: trainings_of(known, dataset, quick) for dataset in datasets}
    text = "\n".join(accuracy_text(dataset, trainings[dataset]) for dataset in datasets)
    stem = results / f"accuracy{suffix}{'_quick' if quick else ''}"
    if not write:
        return f"{text}\nnothing written"
    write_text(stem.with_suffix(".md"), text)
    write_text(stem.with_suffix(".csv"), accuracy_csv(datasets, trainings))
    return f"{text}\ntable: {stem}.md and .csv"
