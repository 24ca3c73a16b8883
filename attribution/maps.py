"""Maps as one tensor, whatever a method returns, and the maps of a batch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from attribution.gradcam import to_size_of
from attribution.method import Method
from common.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class BatchMaps:
    """Maps and predictions of a batch.

    Attributes:
        attribution: (N, C|1, H, W) float32.
        prediction: (N,) int64.
        gap: (N,) float32, see `IntegratedGradients.completeness_gap`; None for methods that have none.
    """

    attribution: Array
    prediction: Array
    gap: Array | None


def explain_batch(method: Method, model: nn.Module, inputs: Tensor, label: Tensor, explain: str) -> BatchMaps:
    """Explain the `label`, or for `explain="prediction"` the predicted class, of each of `inputs`.

    Raises:
        InputError: see `as_maps`.
    """
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        prediction = model(inputs).argmax(dim=1)
    target = prediction if explain == "prediction" else label
    maps = compute_maps(method, inputs, target)
    completeness_gap = getattr(method, "completeness_gap", None)  # of IG alone
    gap = None if completeness_gap is None else completeness_gap(inputs, target, maps).float().cpu().numpy()
    return BatchMaps(maps.cpu().contiguous().numpy(), prediction.cpu().numpy(), gap)


def compute_maps(method: Method, inputs: Tensor, target: Tensor) -> Tensor:
    """Return the maps of `inputs` (N, C, H, W) for `target` (N,) by any library's method, see `as_maps`."""
    return as_maps(method.attribute(inputs, target=target), inputs, getattr(method, "place", type(method).__name__))


def as_maps(result: Any, inputs: Tensor, method: str) -> Tensor:
    """Return a method's result for `inputs` (N, C, H, W) as (N, C, H, W) or (N, 1, H, W) float32, without a graph.

    The result may be a tensor, an array, a list of a map for each image, or a tuple or list of one of these. Maps
    without an axis of channels get one, and smaller maps are interpolated bilinearly.

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
    maps = _stacked(result, inputs, method)
    maps = maps.unsqueeze(1) if inputs.ndim == 4 and maps.ndim == 3 else maps
    if maps.shape != inputs.shape:
        _require_fitting(maps, inputs, method)
        maps = maps if maps.shape[2:] == inputs.shape[2:] else to_size_of(inputs, maps)
    if not torch.isfinite(maps).all():
        raise InputError(f"{method} returned values that are not finite")
    return maps


def _stacked(result: Any, inputs: Tensor, method: str) -> Tensor:
    """Return `result` as one float32 tensor in its own shape, on the device of `inputs`."""
    if isinstance(result, tuple):
        return _stacked(result[0], inputs, method)
    if not isinstance(result, list):
        return _to_tensor(result, inputs, method)
    maps = [_to_tensor(part, inputs, method) for part in result]
    if len(maps) == 1 and maps[0].ndim >= 3 and len(maps[0]) == len(inputs):  # of a single layer, not a single image
        return maps[0]
    shapes = sorted({tuple(part.shape) for part in maps})
    if len(maps) != len(inputs) or len(shapes) != 1:
        raise InputError(
            f"{method} returned a list of {len(maps)} maps of shape {' and '.join(map(str, shapes))} for "
            f"{len(inputs)} images"
        )
    stacked = torch.stack(maps)
    return stacked.squeeze(1) if stacked.ndim > inputs.ndim else stacked


def _to_tensor(result: Any, inputs: Tensor, method: str) -> Tensor:
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
    size, image_size = maps.shape[2:], inputs.shape[2:]
    if maps.shape[1] not in (1, inputs.shape[1]):
        if maps.shape[1:3] == image_size and maps.shape[3] in (1, inputs.shape[1]):
            raise InputError(f"{returned}: channels come before height and width")
        raise InputError(
            f"{returned}: a function make(model) of your own can make one map of the {maps.shape[1]} channels of a "
            "layer, and captum.attr.LayerAttribution.interpolate gives it the image's size"
        )
    if size != image_size and any(length >= whole for length, whole in zip(size, image_size, strict=True)):
        raise InputError(f"{returned}: only maps that are smaller in height and width are interpolated")
    if size.numel() <= 1 < image_size.numel():
        raise InputError(f"{returned}: one value tells no pixel from another; choose a layer with an extent")
