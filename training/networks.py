"""New networks for a data set by its name."""

from torch import nn

from common.imports import is_user_code
from data import dataset_info
from models import build_model, model_code


def new_model(dataset: str, attention: str | None) -> nn.Module:
    """`build_model` for the images and classes of any data set, an image folder of one's own too.

    Raises:
        InputError: unknown data set, attention, or no such model of one's own.
    """
    entry = dataset_info(dataset)
    return build_model(dataset, attention, shape=entry.image_shape, classes=len(entry.classes))


def network_code(dataset: str, attention: str | None) -> str | None:
    """Return what stands for the code of `new_model` in records; None for our own models.

    Raises:
        InputError: unknown data set, or no such model of one's own.
    """
    if not is_user_code(attention):
        return None
    entry = dataset_info(dataset)
    return model_code(attention, entry.image_shape, len(entry.classes))
