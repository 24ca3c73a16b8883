"""Files of checkpoints, which run no code when they are read."""

import io
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from common.errors import InputError
from common.files import atomic_write, catch_read_errors
from common.fingerprint import report_code_change
from models import model_name, parse_model_name
from reporting.accuracy import load_trainings
from reporting.groups import Networks
from training.checkpoint import Checkpoint, TrainingState, weights_sha256
from training.config import TrainingConfig

FORMAT = 1
REMEDY = "delete it, and it is trained anew"


def _save(path: Path, content: dict[str, Any]) -> None:
    held = io.BytesIO()  # torch.save to a full disk fails without the reason
    torch.save({"format": FORMAT} | content, held)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(held.getbuffer())


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    _save(path, {"weights": checkpoint.weights, "sum": checkpoint.sha256, "metadata": checkpoint.metadata})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check its sum.

    Raises:
        InputError: the file can't be read, is damaged, or has another format.
    """
    with _catch_damage(path, REMEDY):
        content = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(content["weights"], content["sum"], content["metadata"])
        format_ = content["format"]
        intact = weights_sha256(checkpoint.weights) == checkpoint.sha256
    if format_ != FORMAT:
        raise InputError(f"{path} has format {format_}, this program reads {FORMAT}: train it anew with --overwrite")
    if not intact:
        raise InputError(f"{path} is damaged (the weights don't have their sum): delete it, and it is trained anew")
    return checkpoint


def _catch_damage(path: Path, remedy: str) -> AbstractContextManager[None]:
    """Turn whatever a damaged or foreign file makes `torch.load` raise into an `InputError`."""
    return catch_read_errors(path, f"is damaged or no checkpoint: {remedy}", (Exception,))


def has_code_changed(stored: Mapping[str, Any], requested: Mapping[str, Any]) -> bool:
    """Return whether a user's own code that made a result was edited since, and say so.

    Args:
        stored: its record: `model` and `model_code`; of a method's result `method` and `code` too.
        requested: the same fields as they are now.
    """
    places = {"code": requested.get("method"), "model_code": parse_model_name(requested["model"])}
    changed = {name: place for name, place in places.items() if requested.get(name) not in (None, stored.get(name))}
    for name, place in changed.items():
        report_code_change(str(place), stored.get(name), requested[name])
    return bool(changed)


def stored_networks(folder: Path) -> Networks:
    """Return the sums of the classifiers that are stored, by data set, model and seed, without reading the weights.

    Raises:
        InputError: a damaged checkpoint.
    """
    sums: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for path in folder.glob("*_seed*.pt"):
        with _catch_damage(path, REMEDY):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            dataset, model, seed = (content["metadata"][name] for name in ("dataset", "model", "seed"))
            sums[dataset, model, seed].add(content["sum"])
    return {key: frozenset(of_key) for key, of_key in sums.items()}


def load_metadata(folder: Path, dataset: str = "") -> dict[str, dict[str, Any]]:
    """Return the metadata of classifiers, stored or gathered, of one data set or of all, by the names of their files.

    Raises:
        InputError: a damaged checkpoint.
    """
    paths = (path for path in folder.glob("*_seed*.pt") if path.name.startswith(dataset))
    stored = {path.stem: load_checkpoint(path).metadata for path in paths}
    everything = sorted({**load_trainings(folder, dataset), **stored}.items())
    return {name: metadata for name, metadata in everything if dataset in ("", metadata["dataset"])}


def find_classifier(config: TrainingConfig, dataset_sha256: str, folder: Path) -> Checkpoint | None:
    """Return the stored classifier in the place of `config`, whatever its recipe.

    Returns:
        None if there is none, or its model's code was edited since it was trained.

    Raises:
        InputError: it is damaged, or was trained on other data or with another seed.
    """
    path = config.path(folder)
    if not path.exists():
        return None
    checkpoint = load_checkpoint(path)
    metadata = checkpoint.metadata
    expected = {
        "dataset": config.dataset,
        "model": model_name(config.attention),
        "seed": config.seed,
        "dataset_sum": dataset_sha256,
    }
    for name, value in expected.items():
        if metadata.get(name) != value:
            raise InputError(f"{path} has {name} {metadata.get(name)!r}, not {value!r}: move it away")
    return None if has_code_changed(metadata, config.plain()) else checkpoint


class ResumeFile:
    """The state of an unfinished training, in `<checkpoint>.resume` beside its future checkpoint."""

    def __init__(self, checkpoint: Path, identity: dict[str, Any]) -> None:
        """`identity`: all that decides on the result, as plain data."""
        self.path = checkpoint.with_name(checkpoint.name + ".resume")
        self.identity = identity

    @classmethod
    def of(cls, config: TrainingConfig, dataset_sha256: str, folder: Path) -> "ResumeFile":
        """Return the file of a training whose checkpoint belongs into `folder`."""
        return cls(config.path(folder), config.plain() | {"dataset_sum": dataset_sha256})

    def save(self, state: TrainingState) -> None:
        fields = {name: getattr(state, name) for name in TrainingState.__annotations__}
        _save(self.path, {"identity": self.identity} | fields)

    def load(self) -> TrainingState | None:
        """Return the stored state; None if there is none, or its model's code was edited since.

        Raises:
            InputError: it is damaged, or of another training.
        """
        if not self.path.exists():
            return None
        with _catch_damage(self.path, "delete it, and the training begins anew"):
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            format_, identity = content.pop("format"), content.pop("identity")
            state = TrainingState(**content)
        if has_code_changed(identity, self.identity):
            return None
        if (format_, identity) != (FORMAT, self.identity):
            raise InputError(
                f"{self.path} is of another training: give the options of that one, or leave --resume away"
            )
        return state

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
