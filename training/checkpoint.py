"""Trained weights with what is known of them, in one file that runs no code when read."""

import hashlib
import io
import pickle
import platform
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from common.files import atomic_write, catch_read_errors
from common.fingerprint import report_code_change
from models import attention_of

FORMAT = 1
_SIGNS_OF_DAMAGE = (
    *(RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, ImportError, MemoryError),
    *(OverflowError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error),
)


@dataclass(frozen=True)
class Checkpoint:
    """Weights and plain metadata.

    Attributes:
        weights: the model's state.
        sum: SHA-256 over names and bytes of the weights: what maps and runs refer to.
        metadata: dataset, dataset_sum, model, seed, recipe, limit_train, test accuracy, seconds, versions.
    """

    weights: Mapping[str, Tensor]
    sum: str
    metadata: dict[str, Any]


def checkpoint_path(folder: Path, dataset: str, model: str, seed: int, quick: bool = False) -> Path:
    """`<folder>/<dataset>_<model>_seed<k>.pt`; models of `--quick` have a name of their own."""
    return folder / f"{dataset}_{model}_seed{seed}{'_quick' if quick else ''}.pt"


def save_checkpoint(path: Path, weights: Mapping[str, Tensor], metadata: dict[str, Any]) -> Checkpoint:
    on_cpu = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    checkpoint = Checkpoint(on_cpu, weights_sum(on_cpu), metadata)
    content = io.BytesIO()  # torch.save to a full disk fails without saying why
    torch.save({"format": FORMAT, "weights": on_cpu, "sum": checkpoint.sum, "metadata": metadata}, content)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content.getbuffer())
    return checkpoint


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check its sum.

    Raises:
        InputError: the file can't be read, is damaged, or is no checkpoint of ours.
    """
    with naming_damage(path, "delete it, and it is trained anew"):
        content = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(content["weights"], content["sum"], content["metadata"])
        written_in = content["format"]
        intact = weights_sum(checkpoint.weights) == checkpoint.sum
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
    places = {"code": wanted.get("method"), "model_code": attention_of(wanted["model"])}
    changed = {name: place for name, place in places.items() if wanted.get(name) not in (None, found.get(name))}
    for name, place in changed.items():
        report_code_change(str(place), found.get(name), wanted[name])
    return bool(changed)


def weights_sum(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names and the bytes of the weights."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What computed a result, for its record."""
    return {"python": platform.python_version(), "torch": str(torch.__version__)}
