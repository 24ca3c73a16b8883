"""Signatures of other people's methods."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from common.errors import InputError

LAYER = re.compile(r"(target_)?layer(_name)?s?")
IMAGES, TARGET = "inputs", "target"
VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Signature:
    """The parameters of a callable after the network or the images.

    Attributes:
        by_name: all but `*args` and `**kwargs`, by name.
        takes_any: there is a `**kwargs`.
    """

    by_name: Mapping[str, Parameter]
    takes_any: bool

    @classmethod
    def of(cls, function: Callable[..., Any], leave_out: int = 1) -> "Signature":
        """Read the signature without its first `leave_out` parameters: two for a method of a class."""
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # some built-in functions have no signature
            return cls({}, True)
        by_name = {parameter.name: parameter for parameter in parameters[leave_out:] if parameter.kind not in VARIADIC}
        return cls(by_name, any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters))

    def takes(self, name: str) -> bool:
        return self.takes_any or (name in self.by_name and self.by_name[name].kind is not Parameter.POSITIONAL_ONLY)

    @property
    def required(self) -> list[str]:
        """The names of parameters without a default."""
        return [name for name, parameter in self.by_name.items() if parameter.default is Parameter.empty]

    @property
    def layer(self) -> Parameter | None:
        """The parameter for a layer."""
        return next((parameter for name, parameter in self.by_name.items() if LAYER.fullmatch(name)), None)


@dataclass(frozen=True)
class MethodSignature:
    """The signature of a class or factory, and of `attribute`: None for a factory, until it has been called."""

    place: str
    constructor: Signature
    attribute: Signature | None

    @classmethod
    def of(cls, place: str, build: Callable[..., Any]) -> "MethodSignature":
        kind = build
        while isinstance(kind, functools.partial):
            kind = kind.func
        attribute = getattr(kind, "attribute", None) if inspect.isclass(kind) else None
        return cls(place, Signature.of(build), Signature.of(attribute, leave_out=2) if attribute else None)

    @property
    def layer(self) -> Parameter | None:
        return self.constructor.layer

    @property
    def needs_layer(self) -> bool:
        return self.layer is not None and self.layer.default is Parameter.empty

    @property
    def names(self) -> list[str]:
        """The names of all known arguments, without network, layer, images and target."""
        layer = self.layer.name if self.layer else None
        of_constructor = [name for name in self.constructor.by_name if name != layer]
        of_attribute = [name for name in (self.attribute.by_name if self.attribute else ()) if name != TARGET]
        return list(dict.fromkeys([*of_constructor, *of_attribute]))

    @property
    def may_take_more(self) -> bool:
        """It may take arguments beside `names`."""
        return self.constructor.takes_any or self.attribute is None

    def require(self, arguments: Mapping[str, object]) -> None:
        """Raise `InputError` if one of the `arguments` is missing or unknown."""
        required = [*self.constructor.required, *(self.attribute.required if self.attribute else ())]
        if any(name in (IMAGES, TARGET) for name in self.constructor.required):
            raise InputError(
                f"{self.place} is called with the network alone, and must return an object with attribute(inputs, "
                "target), or a function f(inputs, target)"
            )
        missing = [name for name in required if name in self.names and name not in arguments]
        if missing:
            values = ", ".join(f'"{name}": VALUE' for name in missing)
            raise InputError(
                f"{self.place} needs {', '.join(missing)}: give it by its name (on a command line as "
                f"--method-args='{{{values}}}'), or name a function make(model) of your own that returns the method "
                "with it"
            )
        unknown = [name for name in arguments if name not in self.names]
        if unknown and not self.may_take_more:
            raise InputError(f"{self.place} takes no {', '.join(unknown)}: it takes {self.names_in_words}")

    @property
    def names_in_words(self) -> str:
        return ", ".join(self.names) or "no arguments"
