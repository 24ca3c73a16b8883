"""--layer and --method-args: which method takes what of them."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attribution import LAYER_METHODS
from common.errors import InputError

if TYPE_CHECKING:
    from attribution.signature import MethodSignature

Signatures = Mapping[str, "MethodSignature"]


def parameters_by_method(
    methods: Sequence[str], layer: str | None, arguments: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """Return for each of `methods` those of `layer` and `arguments` that it takes, as `parameters` of a `MethodSpec`.

    Args:
        arguments: values by name, for all of other people's methods that take the name; or by the place of such a
            method, a mapping for it alone.

    Raises:
        InputError: no method takes one of them, or a value is no plain one.
    """
    parameters: dict[str, dict[str, str]] = {method: {} for method in methods}
    if layer is None and not arguments:
        return parameters
    from attribution.custom import construction  # here, so that reading records costs no import of torch

    signatures = {method: construction(method)[1] for method in methods if ":" in method}
    if layer is not None:
        with_layer = {*LAYER_METHODS, *(method for method, signature in signatures.items() if signature.layer)}
        if not with_layer & set(methods):
            raise InputError(f"--layer={layer} is for methods that take a layer, such as {', '.join(LAYER_METHODS)}")
        for method in with_layer & set(methods):
            parameters[method]["layer"] = layer
    for method, values in _arguments_by_method(signatures, arguments).items():
        if values:
            parameters[method]["arguments"] = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return parameters


def _arguments_by_method(signatures: Signatures, arguments: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments of each method that has a signature, by name."""
    for place, values in arguments.items():
        if ":" in place and (place not in signatures or not isinstance(values, dict)):
            raise InputError(f"--method-args: {place} needs a place in --method, and an object of its arguments")
    by_method: dict[str, dict[str, Any]] = {method: {} for method in signatures}
    for name, value in arguments.items():
        for method in _takers(signatures, name) if ":" not in name else ():
            by_method[method][name] = value
    for method, signature in signatures.items():
        by_method[method] |= arguments.get(method, {})
        for name, value in by_method[method].items():
            if signature.layer and name == signature.layer.name:
                raise InputError(f"--method-args: give {name} of {method} by --layer=NAME")
            if not _is_plain(value):
                raise InputError(f"--method-args: {name} must be a number, a text, true, false, or a list of those")
            if name not in signature.names and not signature.may_take_more:
                raise InputError(f"--method-args: {method} takes no {name!r}: it takes {signature.names_in_words}")
    return by_method


def _takers(signatures: Signatures, name: str) -> list[str]:
    """Return the methods that take an argument `name`, else those that may take any."""
    if any(signature.layer and signature.layer.name == name for signature in signatures.values()):
        raise InputError(f"--method-args: give {name} by --layer=NAME")
    takers = [method for method, signature in signatures.items() if name in signature.names]
    takers = takers or [method for method, signature in signatures.items() if signature.may_take_more]
    if not takers:
        known = "; ".join(f"{method} takes {signature.names_in_words}" for method, signature in signatures.items())
        known = known or "it is for methods given as package.module:Name"
        raise InputError(f"--method-args: no method takes {name!r}: {known}")
    return takers


def _is_plain(value: object) -> bool:
    """Return whether a record can hold `value`: a finite number, a text, a truth value, or a list of those."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
