"""The classifiers, as plain modules that return logits."""

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from common.errors import InputError
from common.fingerprint import code_fingerprint, require_unchanged
from common.imports import filename_to_place, import_object, is_user_code, place_to_filename
from models.zoo import create_zoo_model, is_zoo_model, split_zoo_place, zoo_fingerprint

if TYPE_CHECKING:
    from torch import nn

NO_ATTENTION = "SimpleCNN"
ATTENTIONS = ("CAM", "CBAM", "RAN", "WARN")
OPTIONS = {"RAN": ("depth", (56, 92)), "WARN": ("width", (4, 10))}
"""Attention -> its option and the values; the first is the default, the others are part of the model's name."""

_WITH_WEIGHTS = re.compile(r"(.+)\+([0-9a-f]{8})")

IMAGE_SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "planted": (1, 16, 16)}


def build_model(
    dataset: str,
    attention: str | None = None,
    *,
    shape: tuple[int, int, int] | None = None,
    classes: int = 10,
    pretrained: bool = False,
    **options: int,
) -> "nn.Module":
    """Build a new classifier that maps images (N, C, H, W) to logits (N, classes).

    Args:
        dataset: "mnist", "cifar10" or "planted"; any other name with `shape`.
        attention: None for SimpleCNN, one of `ATTENTIONS`, a result of `variant_name` such as "RAN92", or
            `torchvision:name`, `timm:name`, or `package.module:factory` or `file.py:factory`, which is called with
            `shape` and `classes`; the weights in a name (`with_weights`) are not loaded.
        shape: (C, H, W) of an image of another data set. torchvision's networks see grey images as three equal
            channels; timm's are built for one channel.
        classes: number of logits; a network of another's with one logit z has two classes, of logits −z/2 and z/2.
        pretrained: load the weights of the library, or call the factory with `pretrained=True`.
        options: depth=56 or 92 of RAN, width=4 or 10 of WARN.

    Raises:
        InputError: unknown data set, attention or option; no such factory, or it returns no module; no pretrained
            weights.
    """
    attention, _weights = split_weights(attention)
    if shape is None and dataset not in IMAGE_SHAPES:
        raise InputError(f"unknown data set {dataset!r}: choose from {', '.join(IMAGE_SHAPES)}")
    shape = shape or IMAGE_SHAPES[dataset]
    if is_user_code(attention):
        return _user_model(attention, shape, classes, pretrained)
    if pretrained:
        raise InputError(f"{model_name(attention)} has no pretrained weights: give a file with --weights=FILE")
    family, options = parse_variant(variant_name(attention, **options))
    from models.ran import RAN  # here, so that naming the models costs no import of torch
    from models.simple_cnn import SimpleCNN, SimpleCNNWithCAM, SimpleCNNWithCBAM
    from models.warn import WARN

    networks: dict[str | None, Callable[..., nn.Module]]
    networks = {None: SimpleCNN, "CAM": SimpleCNNWithCAM, "CBAM": SimpleCNNWithCBAM, "RAN": RAN, "WARN": WARN}
    return networks[family](shape, classes, **options)


def _user_model(place: str, shape: tuple[int, int, int], classes: int, pretrained: bool = False) -> "nn.Module":
    from torch import nn

    from models.adapter import adapt_model, repeat_grey

    if is_zoo_model(place):
        is_grey = place.startswith("torchvision:") and shape[0] == 1
        network = create_zoo_model(place, (3, *shape[1:]) if is_grey else shape, classes, pretrained)
        return adapt_model(repeat_grey(network) if is_grey else network, shape, place)
    factory = import_object(place, "a model")
    try:
        model = factory(shape, classes, pretrained=True) if pretrained else factory(shape, classes)
    except TypeError as error:
        if not pretrained or "pretrained" not in str(error):
            raise
        raise InputError(f"{place} takes no pretrained=True: give its weights as a file, --weights=FILE") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{place} gave {type(model).__name__}, not a torch.nn.Module")
    return adapt_model(model, shape, place)


def model_code(attention: str | None, shape: tuple[int, int, int], classes: int) -> str | None:
    """Return the fingerprint of another's model, for records: library and version of a name; None for our models.

    Raises:
        InputError: no such factory or name.
    """
    place, _weights = split_weights(attention)
    if not is_user_code(place):
        return None
    if is_zoo_model(place):
        return zoo_fingerprint(place)
    from models.probe import hash_outputs

    build = partial(_user_model, place, shape, classes)
    return code_fingerprint(place, (shape, classes), lambda: hash_outputs(build, shape))


def require_unchanged_model(attention: str | None, code: str | None) -> None:
    """Raise `InputError` if this process has loaded another source of a user's model than that of its `model_code`."""
    place, _weights = split_weights(attention)
    if is_user_code(place) and not is_zoo_model(place) and code is not None:
        require_unchanged(place, code)


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


def with_weights(attention: str | None, sha256: str) -> str:
    """Return the name of a network with weights that are not trained here, such as "timm:resnet18+1a2b3c4d".

    Args:
        sha256: of the weights.
    """
    return f"{attention or NO_ATTENTION}+{sha256[:8]}"


def split_weights(attention: str | None) -> tuple[str | None, str | None]:
    """Invert `with_weights`: return the network, and the first 8 digits of its weights' SHA-256 or None."""
    match = _WITH_WEIGHTS.fullmatch(attention or "")
    if match is None:
        return attention, None
    return None if match[1] == NO_ATTENTION else match[1], match[2]


def model_name(attention: str | None) -> str:
    """Return the model's name in files.

    That is the attention's, "SimpleCNN" without, a user's own with a dot, "timm@resnet18" of a library, each with
    "+1a2b3c4d" behind it for weights that are not trained here.
    """
    place, weights = split_weights(attention)
    if is_zoo_model(place):
        name = "@".join(split_zoo_place(str(place)))
    else:
        name = place_to_filename(place) if is_user_code(place) else place or NO_ATTENTION
    return with_weights(name, weights) if weights else name


def parse_model_name(name: str) -> str | None:
    """Return the attention of a model's name; invert `model_name`."""
    place, weights = split_weights(name)
    if place is not None and "@" in place:  # only in names of libraries' models
        place = place.replace("@", ":", 1)
    elif place is not None and "." in place:  # only in names of users' models
        place = filename_to_place(place)
    elif place == NO_ATTENTION:
        place = None
    return with_weights(place, weights) if weights else place
