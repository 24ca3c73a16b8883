"""What other people's methods take, read off their signatures."""

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
    """The parameters of a callable after the first one, which is the network or the images.

    Attributes:
        named: those that can be given by name.
        takes_any: there is a `**kwargs` among them.
    """

    named: Mapping[str, Parameter]
    takes_any: bool

    @classmethod
    def of(cls, function: Callable[..., Any], leave_out: int = 1) -> "Signature":
        """`leave_out`: how many parameters come before; two for a method that is read off its class."""
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # of a callable that has none, such as some built-in ones
            return cls({}, True)
        named = {one.name: one for one in parameters[leave_out:] if one.kind not in VARIADIC}
        return cls(named, any(one.kind is Parameter.VAR_KEYWORD for one in parameters))

    def takes(self, name: str) -> bool:
        return self.takes_any or (name in self.named and self.named[name].kind is not Parameter.POSITIONAL_ONLY)

    @property
    def required(self) -> list[str]:
        """Those without a default."""
        return [name for name, one in self.named.items() if one.default is Parameter.empty]

    @property
    def layer(self) -> Parameter | None:
        """The one that wants a layer."""
        return next((one for name, one in self.named.items() if LAYER.fullmatch(name)), None)


@dataclass(frozen=True)
class MethodSignature:
    """What a method takes: its class or factory, and its `attribute` where that is known.

    Attributes:
        attribute: None for a factory, of which it is known when it is called.
    """

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
        """Of all arguments, as far as they are known; without network, layer, images and target."""
        layer = self.layer.name if self.layer else None
        of_constructor = [name for name in self.constructor.named if name != layer]
        of_attribute = [name for name in (self.attribute.named if self.attribute else ()) if name != TARGET]
        return list(dict.fromkeys([*of_constructor, *of_attribute]))

    @property
    def may_take_more(self) -> bool:
        """Whether there may be arguments beside `names`."""
        return self.constructor.takes_any or self.attribute is None

    def require(self, given: Mapping[str, object]) -> None:
        """Check the arguments `given`.

        Raises:
            InputError: one is missing, or one is not known.
        """
        required = [*self.constructor.required, *(self.attribute.required if self.attribute else ())]
        if any(name in (IMAGES, TARGET) for name in self.constructor.required):
            raise InputError(
                f"{self.place} is called with the network alone, and must return an object with attribute(inputs, "
                "target), or a function f(inputs, target)"
            )
        missing = [name for name in required if name in self.names and name not in given]
        if missing:
            values = ", ".join(f'"{name}": VALUE' for name in missing)
            raise InputError(
                f"{self.place} needs {', '.join(missing)}: give it as --method-args='{{{values}}}', or name a function "
                "make(model) of your own that returns the method with it"
            )
        unknown = [name for name in given if name not in self.names]
        if unknown and not self.may_take_more:
            raise InputError(f"{self.place} takes no {', '.join(unknown)}: it takes {self.in_words}")

    @property
    def in_words(self) -> str:
        return ", ".join(self.names) or "no arguments"
