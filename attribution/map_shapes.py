"""Maps as one tensor, whatever a method returns."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from attribution.gradcam import to_size_of
from common.errors import InputError


def maps_of(result: Any, inputs: Tensor, method: str) -> Tensor:
    """The maps of `inputs` (N, C, H, W) that a method returned: (N, C, H, W) or (N, 1, H, W) float32, without a graph.

    Taken are tensors, arrays, lists of a map for each image, and a tuple or list of one of these. Maps without an axis
    of channels get one, and smaller ones are interpolated bilinearly.

    Args:
        method: its name, for messages.

    Raises:
        InputError: the result is of another kind or shape, or not finite.
    """
    if isinstance(result, tuple) and len(result) != 1:
        raise InputError(
            f"{method} returned {len(result)} things: it must return the maps alone; a function make(model) of your "
            "own can pick them out"
        )
    maps = _tensor(result, inputs, method)
    maps = maps.unsqueeze(1) if inputs.ndim == 4 and maps.ndim == 3 else maps
    if maps.shape != inputs.shape:
        _require_fitting(maps, inputs, method)
        maps = maps if maps.shape[2:] == inputs.shape[2:] else to_size_of(inputs, maps)
    if not torch.isfinite(maps).all():
        raise InputError(f"{method} returned values that are not finite")
    return maps


def _tensor(result: Any, inputs: Tensor, method: str) -> Tensor:
    """`result` as float32 on the device of `inputs`, in its own shape."""
    if isinstance(result, tuple):
        return _tensor(result[0], inputs, method)
    if not isinstance(result, list):
        return _plain(result, inputs, method)
    maps = [_plain(one, inputs, method) for one in result]
    if len(maps) == 1 and maps[0].ndim >= 3 and len(maps[0]) == len(inputs):  # of one layer, say, not of one image
        return maps[0]
    shapes = sorted({tuple(one.shape) for one in maps})
    if len(maps) != len(inputs) or len(shapes) != 1:
        raise InputError(
            f"{method} returned a list of {len(maps)} maps of shape {' and '.join(map(str, shapes))} for "
            f"{len(inputs)} images"
        )
    stacked = torch.stack(maps)
    return stacked.squeeze(1) if stacked.ndim > inputs.ndim else stacked


def _plain(result: Any, inputs: Tensor, method: str) -> Tensor:
    try:
        values = result.detach() if isinstance(result, Tensor) else torch.from_numpy(np.array(result))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{method} returned a {type(result).__name__}, not maps as a tensor or an array") from error
    if values.is_complex():
        raise InputError(f"{method} returned complex numbers")
    return values.to(inputs.device, torch.float32)


def _require_fitting(maps: Tensor, inputs: Tensor, method: str) -> None:
    """Raise `InputError` if `maps` can't be interpolated to maps of `inputs`."""
    returned = f"{method} returned maps of shape {tuple(maps.shape)} for {tuple(inputs.shape)}"
    if maps.ndim != inputs.ndim or maps.ndim != 4 or len(maps) != len(inputs):
        raise InputError(returned)
    sizes, wanted = maps.shape[2:], inputs.shape[2:]
    if maps.shape[1] not in (1, inputs.shape[1]):
        is_last = maps.shape[1:3] == wanted and maps.shape[3] in (1, inputs.shape[1])
        mend = (
            "channels come before height and width"
            if is_last
            else f"a function make(model) of your own can make one map of the {maps.shape[1]} channels of a layer, and "
            "captum.attr.LayerAttribution.interpolate gives it the image's size"
        )
        raise InputError(f"{returned}: {mend}")
    if sizes != wanted and any(size >= most for size, most in zip(sizes, wanted, strict=True)):
        raise InputError(f"{returned}: only maps that are smaller in height and width are interpolated")
    if sizes.numel() <= 1 < wanted.numel():
        raise InputError(f"{returned}: one value tells no pixel from another; choose a layer with an extent")
