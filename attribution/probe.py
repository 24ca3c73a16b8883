"""Maps of a fixed network and fixed images, which tell one version of a user's own method from another."""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from attribution import build_method
from attribution.custom import construction
from attribution.libraries import source_place
from attribution.maps import compute_maps
from common.fingerprint import code_fingerprint
from common.hashing import rounded_sha256

SHAPES = ((3, 32, 32), (1, 28, 28), (1, 16, 16))
CLASSES = 10
IMAGES = 2
DIGITS = {torch.float64: 6, torch.float32: 2}  # decimals that are the same on every processor
LAYER = "features"


def method_code(place: str, parameters: dict[str, Any]) -> str:
    """Return the hash that stands for the code of the method at `place` in records.

    Raises:
        InputError: there is no such method.
    """
    construction(place)  # which names similar methods of a library
    return code_fingerprint(source_place(place), sorted(parameters.items()), lambda: results(place, parameters))


def results(place: str, parameters: dict[str, Any]) -> list[str]:
    """Return hashes of the method's maps of the first kind of images that it takes.

    Rounded maps in double precision don't show the last digits, in which processors differ; in single precision, the
    maps' means and deviations are hashed.

    Raises:
        Exception: of whatever kind, if it takes none of them.
    """
    parameters = parameters | ({"layer": LAYER} if "layer" in parameters else {})
    refused: Exception | None = None
    for shape in SHAPES:
        for dtype, digits in DIGITS.items():
            images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
            try:
                method = build_method(place, small_network(shape[0]).to(dtype), **parameters)
                maps = compute_maps(method, images, torch.arange(IMAGES)).cpu().double()
            except Exception as error:
                refused = error
                continue
            if dtype == torch.float32:
                maps = torch.stack([maps.flatten(1).mean(dim=1), maps.flatten(1).std(dim=1)])
            return [rounded_sha256(maps.numpy(), digits)]
    assert refused is not None
    raise refused


def small_network(channels: int) -> nn.Module:
    """Return a network of convolutions, batch norm, ReLUs, pooling and a linear head."""
    return nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(channels, 8, 3, padding=1),
            normed=nn.BatchNorm2d(8),
            rectified=nn.ReLU(),
            pooled=nn.MaxPool2d(2),
            second=nn.Conv2d(8, 16, 3, padding=1),
            features=nn.ReLU(),
            averaged=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(16, CLASSES),
        )
    ).eval()
