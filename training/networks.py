"""New networks for a data set by its name."""

from torch import nn

from datasets import entry_of
from models import build_model


def new_model(dataset: str, attention: str | None) -> nn.Module:
    """`build_model` for the images and classes of any data set, an image folder of one's own too.

    Raises:
        InputError: unknown data set, attention, or no such model of one's own.
    """
    entry = entry_of(dataset)
    return build_model(dataset, attention, shape=entry.image_shape, classes=len(entry.classes))
