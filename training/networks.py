"""New networks: for a data set by its name, or as a checkpoint says."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from data import dataset_info
from models import build_model, parse_model_name


def new_model(dataset: str, attention: str | None, initial_weights: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Build a model for the images and classes of any data set, an image folder too; see `build_model`.

    Args:
        initial_weights: the model begins with all of these, and has as many outputs as they.

    Raises:
        InputError: unknown data set or attention, or no such model of a user's; the weights don't fit.
    """
    info = dataset_info(dataset)
    if initial_weights is None:
        return build_model(dataset, attention, shape=info.image_shape, classes=len(info.classes))
    from models.weights import build_with_weights

    return build_with_weights(attention, info.image_shape, initial_weights, len(info.classes), "initial weights")[0]


def rebuild_model(metadata: Mapping[str, Any]) -> nn.Module:
    """Build the network of a checkpoint without its weights, for its data set or as `load_given` built it.

    Raises:
        InputError: unknown data set or attention, or no such model of a user's.
    """
    attention = parse_model_name(metadata["model"])
    if "image_shape" not in metadata:
        return new_model(metadata["dataset"], attention)
    return build_model("", attention, shape=tuple(metadata["image_shape"]), classes=metadata["built_classes"])
