"""Networks by name: `torchvision:resnet50` and `timm:vit_small_patch16_224`.

The libraries are imported when a name is looked up, timm only if it is named.
"""

import importlib
import importlib.metadata
import logging
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from common.errors import InputError

if TYPE_CHECKING:
    from torch import nn

ZOOS = ("torchvision", "timm")
REFUSED = {
    f"torchvision:{name}": "it has auxiliary classifiers and a transform of its input that its weights don't tell"
    for name in ("googlenet", "inception_v3")
}
_PLACE = re.compile(rf"({'|'.join(ZOOS)}):([\w.-]+)")
_IMAGE_SIZE = {"vit_": "image_size", "maxvit_t": "input_size"}
"""Beginnings of torchvision's names -> the argument with the image's size."""


def is_zoo_model(place: str | None) -> bool:
    """Return whether `place` begins with the name of a library of networks."""
    return place is not None and place.startswith(tuple(f"{zoo}:" for zoo in ZOOS))


def split_zoo_place(place: str) -> tuple[str, str]:
    """Return the library and the network of a name, without looking them up.

    Raises:
        InputError: not a name.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise InputError(f"{place!r} is no network's name: give it like torchvision:resnet50")
    return match[1], match[2]


def require_library(name: str) -> Any:
    """Import an optional library.

    Raises:
        InputError: it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{name} can't be imported ({error}): pip install {name.partition('.')[0]}") from error


def require_zoo_model(place: str) -> tuple[str, str]:
    """Return the library and the network of a name.

    Raises:
        InputError: the library isn't installed, or has no such classifier.
    """
    zoo, name = split_zoo_place(place)
    if place in REFUSED:
        raise InputError(f"{place} is not taken: {REFUSED[place]}; give another network, or a factory of your own")
    library = require_library("torchvision.models" if zoo == "torchvision" else zoo)
    names = library.list_models(module=library) if zoo == "torchvision" else library.list_models()
    if zoo == "timm" and "." in name:  # a name with the tag of its weights
        names = library.list_models(pretrained=True)
    if name not in names:
        of_tags = [known for known in names if "." in name and known.partition(".")[0] == name.partition(".")[0]]
        close = of_tags[:3] or get_close_matches(name, names, 3)
        hint = f"did you mean {', '.join(f'{zoo}:{match}' for match in close)}?" if close else "see its list_models()"
        raise InputError(f"{zoo} has no classifier {name!r}: {hint}")
    return zoo, name


def zoo_fingerprint(place: str) -> str:
    """Return library and version, such as "timm 1.0.31", which stand for the code of a network by name.

    Raises:
        InputError: the library isn't installed, or has no such classifier.
    """
    zoo, _name = require_zoo_model(place)
    return f"{zoo} {importlib.metadata.version(zoo).partition('+')[0]}"  # without the build, such as +cu126


def create_zoo_model(place: str, shape: tuple[int, int, int], classes: int, pretrained: bool = False) -> "nn.Module":
    """Build a network by name.

    Args:
        shape: (C, H, W) of an image. A network of timm takes any number of channels, one of torchvision three.
        classes: number of logits; with `pretrained` the weights decide.
        pretrained: download the library's weights.

    Raises:
        InputError: no such network, library or weights, or the network doesn't take images of this shape.
    """
    zoo, name = require_zoo_model(place)
    options: dict[str, Any] = {} if pretrained else {"num_classes": classes}
    if zoo == "torchvision" and shape[0] != 3:
        raise InputError(f"{place} takes images of 3 channels, not of {shape[0]}")
    try:
        return (
            _create_timm(name, shape, options, pretrained)
            if zoo == "timm"
            else _create(name, shape, options, pretrained)
        )
    except Exception as error:  # whatever a constructor or a download raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        if pretrained:
            raise InputError(f"no pretrained weights of {place}: {reason}; give a file with --weights=FILE") from error
        raise InputError(f"{place} can't be built for images of {shape}: {reason}; try another --image-size") from error


def _create(name: str, shape: tuple[int, int, int], options: dict[str, Any], pretrained: bool) -> "nn.Module":
    from torchvision.models import get_model

    argument = next((value for beginning, value in _IMAGE_SIZE.items() if name.startswith(beginning)), None)
    if argument and not pretrained:
        options[argument] = shape[1:] if argument == "input_size" else shape[1]
    return get_model(name, weights="DEFAULT" if pretrained else None, **options)


def _create_timm(name: str, shape: tuple[int, int, int], options: dict[str, Any], pretrained: bool) -> "nn.Module":
    import timm

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of each of its attempts without a network
    options = {**options, "in_chans": shape[0], "pretrained": pretrained}
    try:
        model: nn.Module = timm.create_model(name, img_size=shape[1:], **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        model = timm.create_model(name, **options)
    return model
