"""Maps of whole data sets: any network, any method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from attribution.map_shapes import maps_of
from attribution.method import Method
from attribution.store import Array, MapWriter, Rows

BATCH = 250


class Batches(Protocol):
    """Images by index, as the network sees them."""

    def batch(self, index: Tensor) -> Tensor: ...


def write_maps(
    writer: MapWriter,
    method: Method,
    model: nn.Module,
    images: Mapping[str, Batches],
    labels: Mapping[str, Array],
    on_images: Callable[[int], object],
) -> None:
    """Explain every image that `writer` still misses, and finish the file.

    Args:
        model: in evaluation mode; says what the predicted class is.
        images, labels: per split, in the order of the writer's index.
        on_images: told how many images were just explained.
    """
    device = next(model.parameters()).device
    explain = writer.provenance.explain
    done = sum(map(len, labels.values()))
    missing = list(writer.missing())
    on_images(done - sum(part.stop - part.start for _split, part in missing))
    for split, part in missing:
        batches = []
        for rows in torch.arange(part.start, part.stop, device=device).split(BATCH):
            label = torch.from_numpy(labels[split][rows.cpu().numpy()]).to(device)
            batches.append(explained(method, model, images[split].batch(rows), label, explain))
            on_images(len(rows))
        attribution, prediction = (
            np.concatenate([getattr(batch, name) for batch in batches]) for name in ("attribution", "prediction")
        )
        gaps = [batch.gap for batch in batches if batch.gap is not None]
        gap = np.concatenate(gaps) if gaps else None
        writer.write(split, part, Rows(attribution, labels[split][part], prediction, writer.index[split][part], gap))
    writer.finish()


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
