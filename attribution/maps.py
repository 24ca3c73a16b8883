"""Maps of a batch: any network, any method."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt
import torch
from torch import Tensor, nn

from attribution.map_shapes import maps_of
from attribution.method import Method

Array = npt.NDArray[Any]

BATCH = 250


@dataclass(frozen=True)
class Explained:
    """What became of one batch.

    Attributes:
        attribution: (N, C|1, H, W) float32.
        prediction: (N,) int64.
        gap: (N,) float32, see `IntegratedGradients.completeness_gap`; None for methods that have none.
    """

    attribution: Array
    prediction: Array
    gap: Array | None


@runtime_checkable
class HasCompletenessGap(Protocol):
    """A method whose maps should sum to a difference of logits, and that knows by how much they miss it."""

    def completeness_gap(self, inputs: Tensor, target: Tensor, attributions: Tensor) -> Tensor: ...


def explained(method: Method, model: nn.Module, inputs: Tensor, label: Tensor, explain: str) -> Explained:
    """Attributions of the class that `explain` names, and the predictions, of one batch.

    Raises:
        InputError: the method returns something else than maps.
    """
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        prediction = model(inputs).argmax(dim=1)
    target = prediction if explain == "prediction" else label
    maps = attributions(method, inputs, target)
    gap = None
    if isinstance(method, HasCompletenessGap):
        gap = method.completeness_gap(inputs, target, maps).float().cpu().numpy()
    return Explained(maps.cpu().contiguous().numpy(), prediction.cpu().numpy(), gap)


def attributions(method: Method, inputs: Tensor, target: Tensor) -> Tensor:
    """What `method` says of (N, C, H, W) and (N,), whoever wrote it: float32, without a graph.

    Raises:
        InputError: the method returns something else than maps.
    """
    return maps_of(method.attribute(inputs, target=target), inputs, getattr(method, "place", type(method).__name__))
