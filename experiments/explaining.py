"""Maps of a method for the images of a classifier, as a job that explains part by part."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from attribution.maps import explain_batch
from attribution.method import Method
from attribution.spec import MethodSpec
from data import dataset_info
from evaluation.tasks import OnImages, SharedArrays, Task, normalisation_of, split_of
from experiments.jobs import Job
from experiments.map_files import SPLITS, Array, MapReader, MapWriter, Rows
from training.checkpoint import Checkpoint
from training.classifier import restore
from training.device import release_freed_memory
from training.inputs import Images, Inputs, batch_size


@dataclass(frozen=True)
class MapSubject:
    """All that the maps of one method depend on, but the images' rows; equal ones have equal `key`, data and device.

    Attributes:
        data: see `tasks.arrays_of`.
        explain: "prediction" or "label".
    """

    method: MethodSpec
    key: str
    data: SharedArrays
    explain: str
    device: torch.device
    checkpoint: Checkpoint = field(compare=False)


@dataclass(eq=False)
class MapJob(Job):
    """Makes the maps of one method for all images of a classifier's data set.

    Attributes:
        writer: where they belong.
        look_up: returns the maps if they are there.
        subject: returns what is explained.
        overwrite: forget the parts of an earlier command.
        fresh: the files that this command has made anew.
    """

    method: MethodSpec
    dataset: str
    writer: MapWriter
    look_up: Callable[[], MapReader | None]
    subject: Callable[[], MapSubject]
    overwrite: bool
    fresh: set[Path]

    def __post_init__(self) -> None:
        self.path: Path = self.writer.path
        self.name, self.title = self.path.name, f"maps {self.method.label}"

    @property
    def images(self) -> int:
        if self.overwrite:
            return sum(map(len, self.writer.index.values()))
        return sum(part.stop - part.start for _split, part in self.writer.missing())

    def find(self) -> bool:
        return self.look_up() is not None

    def tasks(self, is_here: bool) -> Iterator[Task]:
        if self.overwrite:
            self.writer.forget()
        total = sum(map(len, self.writer.index.values()))
        print(f"maps: {self.method.label} of {total:,} images -> {self.path}", flush=True)
        _explainer.cache_clear()  # a user may have edited code meanwhile
        info, subject = dataset_info(self.dataset), self.subject()
        for split, part in self.writer.missing():
            arguments = subject, split, part.start, part.stop
            name, count = f"maps {self.method.label} {split} {part.start:,}", part.stop - part.start
            yield Task(name, explain_part, arguments, count, (subject.data,), info)

    def save(self, task: Task, result: Rows) -> None:
        _subject, split, start, stop = task.arguments
        part = slice(start, stop)
        self.writer.write(split, part, result | {"index": self.writer.index[split][part]})

    def finish(self) -> None:
        self.writer.finish()
        self.fresh.add(self.path)
        _explainer.cache_clear()
        _images.cache_clear()
        release_freed_memory()


def explain_part(subject: MapSubject, split: str, start: int, stop: int, on_images: OnImages) -> Rows:
    """Explain the images `start` to `stop` of a split: a task."""
    method, model = _explainer(subject)
    images, labels = _images(subject.data, split, subject.device)
    return explain_rows(method, model, images, labels, slice(start, stop), subject.explain, on_images)


@lru_cache(1)
def _explainer(subject: MapSubject) -> tuple[Method, nn.Module]:
    model = subject.method.network(restore(subject.checkpoint, subject.device))
    pixels = normalisation_of(subject.data.arrays(), subject.device).pixels
    return subject.method.build(model, pixels), model


@lru_cache(len(SPLITS))
def _images(data: SharedArrays, split: str, device: torch.device) -> tuple[Images, Array]:
    arrays = data.arrays()
    rows = split_of(arrays, split)
    return Images(rows, normalisation_of(arrays, device), device), rows.labels


def explain_rows(
    method: Method, model: nn.Module, images: Inputs, labels: Array, part: slice, explain: str, on_images: OnImages
) -> Rows:
    """Explain a part of the images.

    Args:
        model: in evaluation mode; decides on the predicted class.
        labels: (N,) of all images.
        on_images: called with the number of images of each batch.
    """
    device, batches = next(model.parameters()).device, []
    at_once = batch_size(images.batch(torch.tensor([part.start], device=device)).shape[1:])
    for rows in torch.arange(part.start, part.stop, device=device).split(at_once):
        label = torch.from_numpy(labels[rows.cpu().numpy()]).to(device)
        batches.append(explain_batch(method, model, images.batch(rows), label, explain))
        on_images(len(rows))
    names = [name for name, values in vars(batches[0]).items() if values is not None]
    arrays = {name: np.concatenate([vars(batch)[name] for batch in batches]) for name in names}
    return arrays | {"label": labels[part]}
