"""Shared by all notebooks: folders, a trained classifier with some images, evaluations, pictures.

Run from this folder, as Jupyter does. Nothing here computes anything that the toolkit doesn't: read `subject` to see
which classifier a notebook explains.
"""

import csv
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import whitebox  # noqa: E402
from attribution.fusing import fuse_batchnorm  # noqa: E402
from common.errors import InputError  # noqa: E402
from data import DATA_DIR  # noqa: E402
from evaluation.coherence import choose_examples  # noqa: E402
from evaluation.configs import ExampleFilter  # noqa: E402
from experiments.pictures import Subject  # noqa: E402
from experiments.pipeline import Pipeline  # noqa: E402
from experiments.store import Folders  # noqa: E402
from reporting.accuracy import group_trainings, load_trainings  # noqa: E402
from reporting.evaluation_summary import ModelSummary  # noqa: E402
from reporting.figures import Figure, save_figure  # noqa: E402
from reporting.pictures import Column, draw_grid  # noqa: E402
from training.config import TrainingConfig  # noqa: E402
from training.device import resolve_device  # noqa: E402
from training.loop import initialise  # noqa: E402
from training.networks import new_model  # noqa: E402
from training.recipe import quick_train_images, recipe_for  # noqa: E402

OUTPUT = Path(os.path.relpath(os.environ.get("WHITEBOX_OUTPUT", ROOT)))
DATA = Path(os.path.relpath(os.environ.get("WHITEBOX_DATA", ROOT / DATA_DIR)))


class Picture:
    """A PNG file that a notebook shows when it is the last value of a cell."""

    def __init__(self, path: Path | str) -> None:
        self.content = Path(path).read_bytes()

    def _repr_png_(self) -> bytes:
        return self.content


def has_trained(dataset: str, attention: str | None = None) -> bool:
    """Return whether the classifier of the full recipe is there (`python main.py --train`)."""
    return TrainingConfig(dataset, attention, 0, recipe_for(dataset, attention)).path(OUTPUT / "checkpoints").exists()


def subject(
    dataset: str, attention: str | None = None, classes: Sequence[str] = (), correct_only: bool = True
) -> Subject:
    """The classifier of seed 0 with one test image of each of `classes` (none: of all), ready to be explained.

    Where nobody has run `python main.py --train`, it is that of `--quick`, trained now unless it is there: minutes
    on a processor instead of half an hour, and less accurate.

    Args:
        correct_only: images that it classifies correctly, where there are such.
    """
    quick = not has_trained(dataset, attention)
    limit = quick_train_images(dataset, attention) if quick else None
    order = TrainingConfig(dataset, attention, 0, recipe_for(dataset, attention, quick=quick), limit, quick=quick)
    found = Subject(Pipeline(order, Folders.below(OUTPUT, DATA), resolve_device("auto")))
    try:
        show_first(found, ExampleFilter(tuple(classes), correct_only=correct_only))
    except InputError:  # a class of which it gets nothing right
        show_first(found, ExampleFilter(tuple(classes)))
    return found


def show_first(one: Subject, examples: ExampleFilter) -> None:
    """Let `one` show the first example of each class."""
    pipeline = one.pipeline
    one.examples = choose_examples(pipeline.dataset.test, pipeline.whole.classes, examples, [one.correct])


def untrained(dataset: str, attention: str | None = None, classes: Sequence[str] = ()) -> Subject:
    """The same network with the weights that it begins with, and the first test image of each of `classes`."""
    device = resolve_device("auto")
    found = Subject(
        Pipeline(
            TrainingConfig(dataset, attention, 0, recipe_for(dataset, attention)), Folders.below(OUTPUT, DATA), device
        )
    )
    found.model = fuse_batchnorm(initialise(lambda: new_model(dataset, attention), 0, device).eval())
    show_first(found, ExampleFilter(tuple(classes)))
    return found


def about(one: Subject) -> str:
    """Return data set, model and test accuracy of the classifier."""
    known = one.pipeline.checkpoint.metadata
    kind = " (--quick)" if one.pipeline.config.quick else ""
    return f"{known['dataset']}, {known['model']}{kind}: test accuracy {known['test_accuracy']:.3f}"


def image_columns(one: Subject) -> list[Column]:
    """The images of `one`, with what it says of them."""
    return [Column("image", list(one.examples.images), one.captions())]


def grid(
    one: Subject,
    maps: Mapping[str, Sequence[NDArray[np.floating]]],
    title: str,
    note: str = "",
    from_minimum: bool = False,
) -> Picture:
    """The images of `one` and beside them named maps, one (H, W) for each image.

    Args:
        from_minimum: let each map's colours begin at its smallest value instead of at zero.
    """
    columns = image_columns(one) + [Column(name, cells, from_minimum=from_minimum) for name, cells in maps.items()]
    rows = [one.pipeline.whole.classes[label] for label in one.examples.labels]
    return grid_of(rows, columns, title, note)


def grid_of(rows: Sequence[str], columns: Sequence[Column], title: str, note: str = "") -> Picture:
    """A picture of `columns`, each with a cell for every name in `rows`."""
    with tempfile.TemporaryDirectory() as folder:
        return Picture(draw_grid(rows, columns, title, note, Path(folder) / "grid")[0])


def drawn(figure: Figure) -> Picture:
    """A figure of `reporting.figures.new_figure`, which is closed."""
    with tempfile.TemporaryDirectory() as folder:
        return Picture(save_figure(figure, Path(folder) / "figure")[0])


@contextmanager
def evened(model: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """In the `with` block the layers `names` give their mean over all positions at every position."""

    def mean(_module: nn.Module, _arguments: object, output: Tensor) -> Tensor:
        return output.mean(dim=(2, 3), keepdim=True).expand_as(output)

    with ExitStack() as hooks:
        for name in names:
            hooks.callback(model.get_submodule(name).register_forward_hook(mean).remove)
        yield


def print_accuracy(model: str) -> None:
    """Print the test accuracy of the published networks of a model, and what they were trained on."""
    for dataset in ("mnist", "cifar10"):
        known = load_trainings(ROOT / "results" / "published", dataset)
        for trainings in group_trainings(known, dataset, quick=False):
            if trainings.model == model:
                cells = trainings.cells(trainings.classes)
                _by, parameters, accuracy, *_classes, seeds, epochs, images, _seconds, _device = cells
                trained = f"epochs: {epochs}, training images: {images}, seeds: {seeds}"
                print(f"{dataset:8} {parameters} parameters, test accuracy {accuracy}; {trained}")


def print_evaluations(method: str) -> None:
    """Print what the published evaluations say of a method on SimpleCNN, and its place among the methods."""
    for dataset in ("mnist", "cifar10"):
        path = ROOT / "results" / "published" / f"summary_{dataset}_SimpleCNN.csv"
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for one in (row for row in rows if row["method"] == method):
            others = [row for row in rows if row["evaluation"] == one["evaluation"]]
            half = (float(one["high"]) - float(one["low"])) / 2
            leak = ", explained by the mask" if one["explained_by_the_mask"] == "True" else ""
            value = f"{float(one['mean']):7.3f}" + (f" ± {half:.3f}" if half else "")
            place = f"place {float(one['place']):g} of {len(others)}"
            print(f"{dataset:8} {one['evaluation']:19} {value:16} {place}{leak}")


def evaluate(evaluation: str, methods: Sequence[str], dataset: str = "mnist", **options: Any) -> ModelSummary:
    """Evaluate methods on SimpleCNN, without progress bars: the trained one if it is there, else that of `quick`."""
    options = {"quick": not has_trained(dataset), "output_dir": OUTPUT, "data_dir": DATA, **options}
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        return whitebox.evaluate("SimpleCNN", dataset=dataset, methods=methods, evaluation=evaluation, **options)
