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
