"""Attribution methods for any classifier that returns logits, and the store that keeps their maps."""

from typing import TYPE_CHECKING, Any

from errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from attribution.method import Method

METHODS = ("VBP", "GC", "RANDOM")
CONTROLS = ("RANDOM",)
ALIASES = {"VGB": "VBP"}


def canonical_method(name: str) -> str:
    """The name under which a method is filed, whatever its accepted spelling.

    Raises:
        InputError: no such method.
    """
    known = {method.upper(): method for method in METHODS} | ALIASES
    if name.upper() not in known:
        raise InputError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    return known[name.upper()]


def build_method(name: str, model: "nn.Module", **params: Any) -> "Method":
    """An attribution method for `model`, in evaluation mode, which returns logits.

    Args:
        name: one of `METHODS` or `ALIASES`.
        params: parameters of the method, for example `layer=` of GC.

    Returns:
        an object whose `attribute(inputs, target)` maps (N, C, H, W) and (N,) int64 to signed, unscaled
        float32 maps (N, C, H, W) or (N, 1, H, W).

    Raises:
        InputError: unknown name or parameter.
    """
    from attribution.registry import CLASSES  # here, so that naming the methods costs no import of torch

    method = canonical_method(name)
    try:
        return CLASSES[method](model, **params)
    except TypeError as error:
        raise InputError(f"{method} can't be built with {', '.join(params) or 'no parameters'}: {error}") from error
