"""Weights from files, read without running code, and the network that they fit."""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import InputError
from models import build_model
from models.zoo import require_library

WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "weights", "module"),
    *("ema", "model_ema", "state_dict_ema", "ema_state_dict"),
)
"""Keys of weights inside a checkpoint; the first that is there counts, averaged weights only if there are no others."""

PREFIXES = ("module.", "model.", "backbone.", "network.", "net.", "_orig_mod.")
"""Beginnings that wrappers such as DataParallel, Lightning and torch.compile give to all names."""

SHOWN = 3  # names in a message
_WEB_PAGE = re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.IGNORECASE)
_REMEDY = "give a .safetensors file, or a state dict saved by torch.save(model.state_dict(), FILE)"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights in a `.safetensors` file or in a checkpoint of `torch.save`, by their names there.

    Raises:
        InputError: the file can't be read, is damaged, holds code or no weights.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(64)
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder: give the file of weights in it") from error
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    if not beginning:
        raise InputError(f"{path} is empty: download or save it again")
    if _WEB_PAGE.match(beginning):
        raise InputError(f"{path} is a web page, not weights: download the file itself")
    if beginning.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} only points to weights in Git LFS: download the file itself")
    is_safetensors = path.suffix == ".safetensors" or beginning[8:9] == b"{"
    return _unwrap(_read_safetensors(path) if is_safetensors else _read_checkpoint(path), path)


def _read_safetensors(path: Path) -> Any:
    library = require_library("safetensors.torch")
    try:
        return library.load_file(path)
    except Exception as error:  # of its Rust code
        raise InputError(f"{path} is damaged or no .safetensors file: download or save it again") from error


def _read_checkpoint(path: Path) -> Any:
    # Training scripts of torchvision and timm keep their options beside the weights.
    known = torch.serialization.safe_globals([(SimpleNamespace, "argparse.Namespace")])
    try:
        with warnings.catch_warnings(), known:
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise anything
        reason = "is damaged or no weights"
        if isinstance(error, pickle.UnpicklingError) and (code := re.search(r"GLOBAL ([\w.]+)", str(error))):
            reason = f"holds Python objects ({code[1]}), and reading them could run code"
        elif "TorchScript" in str(error):
            reason = "is a TorchScript program, not weights"
        raise InputError(f"{path} {reason}: {_REMEDY}") from error


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, no weights by their names: {_REMEDY}")
    weights = {
        str(name): value for name, value in content.items() if isinstance(value, Tensor) and name != "n_averaged"
    }
    if not weights:
        raise InputError(f"{path} holds no weights, only {_list(map(str, content)) or 'nothing'}: {_REMEDY}")
    return weights


def build_with_weights(
    place: str | None, shape: tuple[int, int, int], weights: Mapping[str, Tensor], classes: int, source: str = "weights"
) -> tuple[nn.Module, int]:
    """Build a network with the weights' own number of classes, and load them.

    The number is read from the weights: those of the last layer alone may have another first dimension than in the
    network for `classes` classes.

    Args:
        place: see `models.build_model`.
        shape: (C, H, W) of an image.
        classes: the number to try first.
        source: name of the file, for messages.

    Returns:
        The network in evaluation mode, and the number of classes with which `build_model` builds it.

    Raises:
        InputError: no such network, or the weights don't fit.
    """
    model = build_model("", place, shape=shape, classes=classes)
    weights = _strip_prefixes(weights, model.state_dict())
    count = _count_classes(model.state_dict(), weights, classes)
    if count not in (None, classes):
        other = build_model("", place, shape=shape, classes=count)
        if not _other_shapes(other.state_dict(), weights):
            model, classes = other, count
    load_weights(model, weights, f"{source} doesn't fit {place or 'SimpleCNN'}")
    return model.eval(), classes


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], misfit: str) -> None:
    """Load all weights into `model`.

    Args:
        misfit: beginning of the message.

    Raises:
        InputError: names or shapes differ, or a weight is not finite.
    """
    own = model.state_dict()
    shapes = _other_shapes(own, weights)
    try:
        rest = {name: value for name, value in weights.items() if name not in shapes}
        missing, unexpected = model.load_state_dict(rest, strict=False)
    except RuntimeError as error:  # of a network that checks more
        raise InputError(f"{misfit}: {str(error).splitlines()[-1].strip()}") from error
    missing = [name for name in missing if name not in shapes]
    sizes = (f"{name} {tuple(weights[name].shape)}, here {tuple(own[name].shape)}" for name in shapes)
    differences = [
        f"{len(names)} {what} ({_list(texts)})"
        for what, names, texts in (
            ("missing", missing, missing),
            ("unexpected", unexpected, unexpected),
            ("of another shape", shapes, sizes),
        )
        if names
    ]
    if differences:
        raise InputError(f"{misfit}: {', '.join(differences)}; give the --model and --image-size of its training")
    if broken := [name for name, weight in model.named_parameters() if not weight.isfinite().all()]:
        raise InputError(f"{misfit}: {len(broken)} weights are not finite ({_list(broken)}), its training diverged")


def _strip_prefixes(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the weights without the prefixes that all have, where more names then fit the network's `own`."""
    best = weights
    while prefix := next((text for text in PREFIXES if all(name.startswith(text) for name in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
        best = max(best, weights, key=lambda names: len(names.keys() & own.keys()))
    return best


def _other_shapes(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    return [name for name in own if name in weights and own[name].shape != weights[name].shape]


def _count_classes(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], classes: int) -> int | None:
    """Return the classes of `weights` if all shapes that differ from a network for `classes` are in proportion."""
    counts: set[int | None] = set()
    for name in _other_shapes(own, weights):
        (before, *rest), (after, *rest_after) = own[name].shape or (0,), weights[name].shape or (0,)
        fits = rest == rest_after and before and after * classes % before == 0
        counts.add(after * classes // before if fits else None)
    return counts.pop() if len(counts) == 1 else None


def _list(names: Any) -> str:
    shown = list(names)
    return ", ".join(shown[:SHOWN]) + (", …" if len(shown) > SHOWN else "")
