"""The classifiers, as plain modules that return logits."""

from typing import TYPE_CHECKING

from errors import InputError

if TYPE_CHECKING:
    from torch import nn

MODELS = ("SimpleCNN",)

IMAGE_SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
_CLASSES = 10


def build_model(dataset: str, attention: str | None = None) -> "nn.Module":
    """A freshly initialised classifier for `dataset`; its forward pass maps (N, C, H, W) to logits (N, 10).

    Args:
        dataset: "mnist" or "cifar10".
        attention: None gives SimpleCNN.

    Raises:
        InputError: unknown data set or attention.
    """
    from models.simple_cnn import SimpleCNN  # here, so that naming the models costs no import of torch

    if dataset not in IMAGE_SHAPES:
        raise InputError(f"unknown data set {dataset!r}: choose from {', '.join(IMAGE_SHAPES)}")
    if attention is not None:
        raise InputError(f"unknown attention {attention!r}: leave it away for SimpleCNN")
    return SimpleCNN(IMAGE_SHAPES[dataset], _CLASSES)


def model_name(attention: str | None) -> str:
    """The name under which a model is filed: the attention's, or SimpleCNN without one."""
    return attention or "SimpleCNN"
