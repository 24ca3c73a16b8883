"""Methods of the user's own, by their place: `package.module:Name`."""

from collections.abc import Callable
from typing import Any

from attribution.method import Method
from errors import InputError
from own import named


def load_method(place: str, model: Callable[..., Any], **params: Any) -> Method:
    """`Name(model, **params)` of `package.module:Name`: a class of the user's or of Captum, or any other callable.

    Raises:
        InputError: there is no such module or name, or what it gives has no `attribute`.
    """
    method: Method = named(place, "a method")(model, **params)
    if not callable(getattr(method, "attribute", None)):
        raise InputError(f"{place} has no attribute(inputs, target), which a method needs")
    return method
