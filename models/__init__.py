"""The classifiers, as plain modules that return logits."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from common.errors import InputError
from common.fingerprint import code_fingerprint
from common.imports import filename_to_place, import_object, is_user_code, place_to_filename

if TYPE_CHECKING:
    from torch import nn

NO_ATTENTION = "SimpleCNN"
ATTENTIONS = ("CAM", "CBAM", "RAN", "WARN")
OPTIONS = {"RAN": ("depth", (56, 92)), "WARN": ("width", (4, 10))}
"""Attention -> its option and the values; the first is the default, the others are part of the model's name."""

IMAGE_SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "planted": (1, 16, 16)}


def build_model(
    dataset: str,
    attention: str | None = None,
    *,
    shape: tuple[int, int, int] | None = None,
    classes: int = 10,
    **options: int,
) -> "nn.Module":
    """Build a new classifier that maps images (N, C, H, W) to logits (N, classes).

    Args:
        dataset: "mnist", "cifar10" or "planted"; any other name with `shape`.
        attention: None for SimpleCNN, one of `ATTENTIONS`, a result of `variant_name` such as "RAN92", or
            `package.module:factory` or `file.py:factory`, which is called with `shape` and `classes`.
        shape: (C, H, W) of an image of another data set.
        options: depth=56 or 92 of RAN, width=4 or 10 of WARN.

    Raises:
        InputError: unknown data set, attention or option; no such factory, or it returns no module.
    """
    if shape is None and dataset not in IMAGE_SHAPES:
        raise InputError(f"unknown data set {dataset!r}: choose from {', '.join(IMAGE_SHAPES)}")
    shape = shape or IMAGE_SHAPES[dataset]
    if is_user_code(attention):
        return _user_model(attention, shape, classes)
    family, options = parse_variant(variant_name(attention, **options))
    from models.ran import RAN  # here, so that naming the models costs no import of torch
    from models.simple_cnn import SimpleCNN, SimpleCNNWithCAM, SimpleCNNWithCBAM
    from models.warn import WARN

    networks: dict[str | None, Callable[..., nn.Module]]
    networks = {None: SimpleCNN, "CAM": SimpleCNNWithCAM, "CBAM": SimpleCNNWithCBAM, "RAN": RAN, "WARN": WARN}
    return networks[family](shape, classes, **options)


def _user_model(place: str, shape: tuple[int, int, int], classes: int) -> "nn.Module":
    from torch import nn

    from models.adapter import adapt_model

    model = import_object(place, "a model")(shape, classes)
    if not isinstance(model, nn.Module):
        raise InputError(f"{place} gave {type(model).__name__}, not a torch.nn.Module")
    return adapt_model(model, shape, place)


def model_code(attention: str | None, shape: tuple[int, int, int], classes: int) -> str | None:
    """Return the fingerprint of a user's own model, for records; None for our models.

    Raises:
        InputError: no such factory.
    """
    if not is_user_code(attention):
        return None
    from models.probe import hash_outputs

    build = partial(_user_model, attention, shape, classes)
    return code_fingerprint(attention, (shape, classes), lambda: hash_outputs(build, shape))


def variant_name(attention: str | None, **options: int) -> str | None:
    """Return the name of an attention with its options: "RAN" at depth 92 is "RAN92", at its default 56 "RAN".

    Raises:
        InputError: an unknown option or value.
    """
    name = attention
    for option, value in options.items():
        if attention not in OPTIONS or OPTIONS[attention][0] != option:
            raise InputError(f"{model_name(attention)} has no {option}")
        values = OPTIONS[attention][1]
        if value not in values:
            raise InputError(f"no {attention} with {option} {value}: choose from {', '.join(map(str, values))}")
        name = attention if value == values[0] else f"{attention}{value}"
    return name


def parse_variant(name: str | None) -> tuple[str | None, dict[str, int]]:
    """Invert `variant_name`: "RAN92" -> "RAN" and {"depth": 92}, "RAN" -> "RAN" and {"depth": 56}.

    Raises:
        InputError: unknown name.
    """
    for attention, (option, values) in OPTIONS.items():
        for value in values:
            if name == variant_name(attention, **{option: value}):
                return attention, {option: value}
    if name is None or name in ATTENTIONS:
        return name, {}
    raise InputError(f"unknown attention {name!r}: choose from {', '.join(ATTENTIONS)}, or leave it away for SimpleCNN")


def model_name(attention: str | None) -> str:
    """Return the model's name in files: the attention's, SimpleCNN without, a user's own with a dot."""
    return place_to_filename(attention) if is_user_code(attention) else attention or NO_ATTENTION


def parse_model_name(name: str) -> str | None:
    """Return the attention of a model's name; invert `model_name`."""
    if "." in name:  # only in names of users' models
        return filename_to_place(name)
    return None if name == NO_ATTENTION else name
