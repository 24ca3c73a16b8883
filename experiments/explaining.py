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


@dataclass(frozen=True)
class MapPlan:
    """The images of a file of maps: those that are wanted, and those whose maps are stored already.

    Attributes:
        stored: maps by the same method and network, of other images, perhaps; None if there are none.
        new: positions of the images to explain in each split.
    """

    writer: MapWriter
    stored: MapReader | None
    new: dict[str, Array]

    @classmethod
    def of(cls, wanted: dict[str, Array], stored: MapReader | None, make_writer: Callable[..., MapWriter]) -> "MapPlan":
        known = stored.index if stored else dict.fromkeys(wanted, np.array([], np.int64))
        together = {split: np.union1d(rows, known[split]) for split, rows in wanted.items()}
        return cls(
            make_writer(together), stored, {split: np.setdiff1d(wanted[split], known[split]) for split in wanted}
        )

    def parts(self) -> Iterator[tuple[str, slice, slice]]:
        """Yield the parts of the file that are missing: split, rows of the file, and the rows of `new` among them."""
        for split, part in self.writer.missing():
            rows = self.writer.index[split][part]
            start, stop = np.searchsorted(self.new[split], [rows[0], rows[-1] + 1]).tolist()
            yield split, part, slice(start, stop)

    def write(self, split: str, part: slice, explained: Rows | None) -> None:
        """Write a part of the file: maps that were made now, and stored ones."""
        rows = self.writer.index[split][part]
        pieces = [] if explained is None else [explained]
        old = rows if explained is None else np.setdiff1d(rows, explained["index"])
        if self.stored is not None and len(old):
            pieces += self.stored.rows(split, old)
        arrays = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
        order = arrays["index"].argsort()
        self.writer.write(split, part, {name: values[order] for name, values in arrays.items()})


@dataclass(eq=False)
class MapJob(Job):
    """Makes the maps of one method for all images of a classifier's data set.

    Maps of other images that are stored stay in the file.

    Attributes:
        path: where they belong.
        look_up: returns the maps if they are there.
        plan: returns what there is, and what to do.
        subject: returns what is explained, with the images at some positions of each split.
        overwrite: forget the parts of an earlier command.
        fresh: the files that this command has made anew.
        current: the plan that is carried out.
        part_of: the part of the file to which the new images of a task belong, by split and the first of them.
    """

    method: MethodSpec
    dataset: str
    path: Path
    look_up: Callable[[], MapReader | None]
    plan: Callable[[], MapPlan]
    subject: Callable[[dict[str, Array]], MapSubject]
    overwrite: bool
    fresh: set[Path]
    current: MapPlan = field(init=False)
    part_of: dict[tuple[str, int], slice] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.name, self.title = self.path.name, f"maps {self.method.label}"

    @property
    def images(self) -> int:
        plan = self.plan()
        if self.overwrite:
            return sum(map(len, plan.new.values()))
        return sum(new.stop - new.start for _split, _part, new in plan.parts())

    def find(self) -> bool:
        return self.look_up() is not None

    def tasks(self, is_here: bool) -> Iterator[Task]:
        self.current = plan = self.plan()  # another command may have made some meanwhile
        if self.overwrite:
            plan.writer.forget()
        print(f"maps: {self.method.label} of {sum(map(len, plan.new.values())):,} images -> {self.path}", flush=True)
        _explainer.cache_clear()  # a user may have edited code meanwhile
        info, subject = dataset_info(self.dataset), self.subject(plan.new)
        for split, part, new in plan.parts():
            count = new.stop - new.start
            if count == 0:
                plan.write(split, part, None)
                continue
            self.part_of[split, new.start] = part
            arguments, name = (subject, split, new.start, new.stop), f"maps {self.method.label} {split} {new.start:,}"
            yield Task(name, explain_part, arguments, count, (subject.data,), info)

    def save(self, task: Task, result: Rows) -> None:
        _subject, split, start, stop = task.arguments
        explained = result | {"index": self.current.new[split][start:stop]}
        self.current.write(split, self.part_of[split, start], explained)

    def finish(self) -> None:
        self.current.writer.finish()
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
