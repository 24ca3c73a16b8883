"""Maps of whole data sets: any network, any method."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from attribution.method import Method
from attribution.store import Array, MapWriter, Rows
from errors import InputError

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
        attribution, prediction = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        index = writer.index[split][part]
        writer.write(split, part, Rows(attribution, labels[split][part], prediction, index))
    writer.finish()


def explained(method: Method, model: nn.Module, inputs: Tensor, label: Tensor, explain: str) -> tuple[Array, Array]:
    """Attributions of the class that `explain` names, and the predictions, of one batch.

    Raises:
        InputError: the method returns a map of another size, or values that are not finite.
    """
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        prediction = model(inputs).argmax(dim=1)
    target = prediction if explain == "prediction" else label
    maps = method.attribute(inputs, target=target).detach().float()
    n, channels, height, width = inputs.shape
    if maps.shape not in {(n, channels, height, width), (n, 1, height, width)}:
        raise InputError(
            f"{type(method).__name__} returned maps of shape {tuple(maps.shape)} for {tuple(inputs.shape)}"
        )
    if not torch.isfinite(maps).all():
        raise InputError(f"{type(method).__name__} returned values that are not finite")
    return maps.cpu().contiguous().numpy(), prediction.cpu().numpy()
