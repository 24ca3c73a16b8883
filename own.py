"""What users bring themselves, by its place: `package.module:Name`."""

import importlib
from typing import Any

from errors import InputError


def named(place: str, what: str) -> Any:
    """What is called `Name` in `package.module`.

    Args:
        what: it is to be, for the message: "a method", "a model".

    Raises:
        InputError: there is no such module or name.
    """
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{place}: {error}; give {what} as package.module:Name") from error
