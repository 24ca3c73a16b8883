"""New networks for a data set by its name."""

from torch import nn

from data import dataset_info
from models import build_model


def new_model(dataset: str, attention: str | None) -> nn.Module:
    """Build a model for the images and classes of any data set, an image folder too; see `build_model`.

    Raises:
        InputError: unknown data set or attention, or no such model of a user's.
    """
    info = dataset_info(dataset)
    return build_model(dataset, attention, shape=info.image_shape, classes=len(info.classes))
