"""Checkpoints: trained weights with what is known of them, in files that run no code when read."""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from common.errors import InputError
from common.files import atomic_write, catch_read_errors
from common.fingerprint import report_code_change
from data import Dataset
from models import model_name, parse_model_name
from reporting.accuracy import load_trainings
from training.checkpoint import Checkpoint, TrainingState, weights_sha256
from training.classifier import OnEpoch, train_classifier
from training.config import TrainingConfig

FORMAT = 1
_SIGNS_OF_DAMAGE = (
    *(RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, ImportError, MemoryError),
    *(OverflowError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error),
)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    content = io.BytesIO()  # torch.save to a full disk fails without saying why
    fields = {"weights": checkpoint.weights, "sum": checkpoint.sha256, "metadata": checkpoint.metadata}
    torch.save({"format": FORMAT, **fields}, content)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check its sum.

    Raises:
        InputError: the file can't be read, is damaged, or is no checkpoint of ours.
    """
    with naming_damage(path, "delete it, and it is trained anew"):
        content = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(content["weights"], content["sum"], content["metadata"])
        written_in = content["format"]
        intact = weights_sha256(checkpoint.weights) == checkpoint.sha256
    if written_in != FORMAT:
        raise InputError(f"{path} has format {written_in}, this program reads {FORMAT}: train it anew with --overwrite")
    if not intact:
        raise InputError(f"{path} is damaged (the weights don't have their sum): delete it, and it is trained anew")
    return checkpoint


@contextmanager
def naming_damage(path: Path, mend: str) -> Iterator[None]:
    """Whatever a damaged or foreign file makes `torch.load` raise in the `with` block becomes an `InputError`."""
    with catch_read_errors(path, f"is damaged or no checkpoint: {mend}", _SIGNS_OF_DAMAGE):
        yield


def made_by_other_code(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether code of a user's own that made something was edited since, and say so.

    Args:
        found: what is known of it: `model` and `model_code`; `method` and `code` if it is of a method, too.
        wanted: the same of what is asked for.
    """
    places = {"code": wanted.get("method"), "model_code": parse_model_name(wanted["model"])}
    changed = {name: place for name, place in places.items() if wanted.get(name) not in (None, found.get(name))}
    for name, place in changed.items():
        report_code_change(str(place), found.get(name), wanted[name])
    return bool(changed)


def load_metadata(folder: Path, dataset: str = "") -> dict[str, dict[str, Any]]:
    """Return the metadata of classifiers, of one data set or of all, by the names of their files.

    Raises:
        InputError: a damaged checkpoint.
    """
    paths = (path for path in folder.glob("*_seed*.pt") if path.name.startswith(dataset))
    kept = {path.stem: load_checkpoint(path).metadata for path in paths}
    known = sorted({**load_trainings(folder, dataset), **kept}.items())
    return {name: metadata for name, metadata in known if dataset in ("", metadata["dataset"])}


def find_classifier(order: TrainingConfig, dataset_sum: str, folder: Path) -> Checkpoint | None:
    """The kept classifier at the place of `order`, whatever its recipe.

    Returns:
        None if there is none, or its model's code was edited since it was trained.

    Raises:
        InputError: it is damaged, or was trained on other data.
    """
    path = order.path(folder)
    if not path.exists():
        return None
    checkpoint = load_checkpoint(path)
    found = checkpoint.metadata
    wanted = {"dataset": order.dataset, "model": model_name(order.attention), "dataset_sum": dataset_sum}
    for name, value in wanted.items():
        if found.get(name) != value:
            raise InputError(f"{path} has {name} {found.get(name)!r}, not {value!r}: move it away")
    return None if made_by_other_code(found, order.plain()) else checkpoint


def find_finetuned(path: Path, wanted: dict[str, Any]) -> Checkpoint | None:
    """The kept network, None if there is none or it was tuned otherwise.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return None
    checkpoint = load_checkpoint(path)
    if made_by_other_code(checkpoint.metadata, wanted):
        return None
    return checkpoint if all(checkpoint.metadata.get(name) == value for name, value in wanted.items()) else None


def finetuned_path(folder: Path, classifier: Path) -> Path:
    """`<folder>/finetuned/<name of the classifier's file>`."""
    return folder / "finetuned" / classifier.name


class ResumeFile:
    """`<checkpoint>.resume`, beside the checkpoint that the training shall become."""

    def __init__(self, checkpoint: Path, identity: dict[str, Any]) -> None:
        """`identity`: plain data; all that decides on the result."""
        self.path = checkpoint.with_name(checkpoint.name + ".resume")
        self.identity = identity

    @classmethod
    def of(cls, config: TrainingConfig, dataset_sum: str, folder: Path) -> "ResumeFile":
        """Return the file of an unfinished training whose checkpoint belongs into `folder`."""
        return cls(config.path(folder), config.plain() | {"dataset_sum": dataset_sum})

    def save(self, state: TrainingState) -> None:
        content = {"format": FORMAT, "identity": self.identity}
        fields = {name: getattr(state, name) for name in TrainingState.__annotations__}
        held = io.BytesIO()  # torch.save to a full disk fails without saying why
        torch.save(content | fields, held)
        with atomic_write(self.path) as unfinished:
            unfinished.write_bytes(held.getbuffer())

    def load(self) -> TrainingState | None:
        """The kept state, None if there is none, or it is of a model whose code was edited since.

        Raises:
            InputError: it is damaged, or of another training.
        """
        if not self.path.exists():
            return None
        with naming_damage(self.path, "delete it, and the training begins anew"):
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            written_by = content.pop("format"), content.pop("identity")
            state = TrainingState(**content)
        if made_by_other_code(written_by[1], self.identity):
            return None
        if written_by != (FORMAT, self.identity):
            raise InputError(
                f"{self.path} is of another training: give the options of that one, or leave --resume away"
            )
        return state

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def train_and_save(
    config: TrainingConfig,
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
) -> Checkpoint:
    """Train a classifier and save it; until then save the state after each epoch beside its place.

    Args:
        resume: go on with a training that was interrupted, if there is one.
        on_epoch: called with each state after it is saved.

    Raises:
        InputError: the training diverged; the state to resume is damaged or of another training.
    """
    unfinished = ResumeFile.of(config, dataset.sha256, folder)

    def keep(state: TrainingState) -> None:
        unfinished.save(state)
        if on_epoch is not None:
            on_epoch(state)

    resumed = unfinished.load() if resume else None
    try:
        checkpoint = train_classifier(config, dataset, device, resumed, keep)
    except InputError:
        unfinished.remove()  # going on would end in the same way
        raise
    save_checkpoint(config.path(folder), checkpoint)
    unfinished.remove()
    return checkpoint
