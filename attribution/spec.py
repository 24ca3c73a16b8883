"""What is chosen when maps are asked for: a method, perhaps an ensemble around it, and their parameters."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attribution import ANY_MODEL_METHODS, ENSEMBLE_PARAMETERS, LAYER_METHODS, REGISTRY, build_method
from common.errors import InputError
from common.files import json_sha256
from common.fingerprint import require_unchanged
from common.imports import is_user_code, place_to_filename

if TYPE_CHECKING:
    from torch import nn

    from attribution.method import Method

LONGEST_NAMES = 100  # letters: file names end at 255 bytes


@dataclass(frozen=True)
class MethodSpec:
    """A method as it is filed, evaluated and named in tables.

    Attributes:
        method: canonical name, or `package.module:Name`.
        ensemble: None, or one of `ENSEMBLES`.
        parameters: pairs of name and value; only those that the method or the ensemble takes. `arguments` of other
            people's methods are JSON.
        blur: a control: the same maps, blurred before pixels are ranked by them.
        code: stands for the code of a user's own method; None for ours.
        edition: what tells it in tables from the same method of other code; nothing where there is no other.
    """

    method: str
    ensemble: str | None = None
    parameters: tuple[tuple[str, float | str], ...] = ()
    blur: bool = False
    code: str | None = None
    edition: str = field(default="", compare=False)

    @classmethod
    def of(cls, method: str, ensemble: str | None = None, **known: float | str) -> "MethodSpec":
        """With those of the `known` parameters that matter to it.

        These are `steps` and `baseline` to IG, `level` and `samples` to ensembles, and all of `parameters_by_method`.
        """
        names = {"layer", "arguments", *(REGISTRY[method].parameters if method in REGISTRY else ())}
        names |= set(ENSEMBLE_PARAMETERS) if ensemble else set()
        parameters = {name: known[name] for name in names & set(known)}
        return cls(method, ensemble, tuple(sorted(parameters.items())), code=_code(method, parameters))

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "MethodSpec":
        """The one of which a record holds `plain`, and perhaps `blur`, among other things."""
        parameters = tuple(sorted(record["parameters"].items()))
        return cls(record["method"], record["ensemble"], parameters, record.get("blur", False), record.get("code"))

    @property
    def label(self) -> str:
        """For tables and figures: "VBP", "SG-SQ VBP"."""
        return " ".join([*([self.ensemble] if self.ensemble else []), self.method, *self._special])

    @property
    def _special(self) -> list[str]:
        return ["blurred"] * self.blur + ([self.edition] if self.edition else [])

    @property
    def is_external(self) -> bool:
        """Whether the method is the user's own or of another library."""
        return ":" in self.method

    @property
    def explains_network_itself(self) -> bool:
        """Whether a copy with folded batch norms won't do, for other people's code or a layer chosen by name."""
        return self.is_external or "layer" in dict(self.parameters)

    @property
    def filed_method(self) -> str:
        """The method alone as a part of file names."""
        return place_to_filename(self.method)

    @property
    def filed(self) -> str:
        """As a part of file names: "SG-SQ-VBP"."""
        words = [*([self.ensemble] if self.ensemble else []), self.filed_method, *self._special]
        return "-".join(words).replace(" ", "-")

    @property
    def plain(self) -> dict[str, Any]:
        """What decides on the maps, for their record and that of a run."""
        fields = {"method": self.method, "ensemble": self.ensemble, "parameters": dict(self.parameters)}
        return fields | ({"code": self.code} if self.code else {})

    def network(self, model: "nn.Module") -> "nn.Module":
        """Return the network to explain: a faster copy of `model`, or `model` itself with contiguous weights.

        Other people's methods may look for batch norms or call `view`, and a layer that was chosen by name may have
        another output in the copy.
        """
        import torch  # here, so that choosing costs no import of torch

        from attribution.fusing import fuse_batchnorm

        if self.explains_network_itself:
            return model.to(memory_format=torch.contiguous_format)
        return fuse_batchnorm(model)

    def build(self, model: "nn.Module", **given: Any) -> "Method":
        """The method for `model`; `given` are parameters that only the data can tell, where none were chosen.

        Raises:
            InputError: unknown name or parameter, or code that was edited meanwhile.
        """
        if self.code:
            require_unchanged(self.method, self.code)
        parameters = given | dict(self.parameters)
        if "arguments" in parameters:
            parameters["arguments"] = with_tuples(json.loads(parameters["arguments"]))
        return build_method(self.method, model, self.ensemble, **parameters)


def _code(method: str, parameters: Mapping[str, Any]) -> str | None:
    if not is_user_code(method):
        return None
    from attribution.probe import method_code  # here, so that choosing costs no import of torch

    return method_code(method, {name: one for name, one in parameters.items() if name not in ENSEMBLE_PARAMETERS})


def filed_methods(choices: Sequence[MethodSpec]) -> str:
    """Several methods as a part of file names.

    "all" for every method as it is; the names of others; and their number with a hash where that is too long.
    """
    plain = {choice.method for choice in choices if choice.ensemble is None and not choice.blur}
    if plain >= set(ANY_MODEL_METHODS):
        others = [choice.filed for choice in choices if choice.ensemble is not None or choice.blur]
        names = "-".join(["all", *others])
    else:
        names = "-".join(choice.filed for choice in choices)
    return names if len(names) <= LONGEST_NAMES else f"{len(choices)}-methods-{json_sha256(names)[:8]}"


def parameters_by_method(
    methods: Sequence[str], layer: str | None, arguments: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """For each of `methods` those of `layer` and `arguments` that it takes, as `parameters` of a `MethodSpec`.

    Args:
        arguments: values by name, for all of other people's methods that take the name; a mapping under the place of
            one of them is for that one.

    Raises:
        InputError: something that no method takes.
    """
    chosen: dict[str, dict[str, str]] = {method: {} for method in methods}
    if layer is None and not arguments:
        return chosen
    from attribution.custom import construction  # here, so that reading records costs no import of torch

    external = {method: construction(method)[1] for method in methods if ":" in method}
    if layer is not None:
        takers = [
            method for method in methods if method in LAYER_METHODS or (method in external and external[method].layer)
        ]
        if not takers:
            raise InputError(f"--layer={layer} is for methods that take a layer, such as {', '.join(LAYER_METHODS)}")
        for method in takers:
            chosen[method]["layer"] = layer
    wanted = {signature.layer.name for signature in external.values() if signature.layer} & set(arguments)
    if wanted:
        raise InputError(f"--method-args: give {', '.join(wanted)} by --layer=NAME")
    of_one: dict[str, dict[str, Any]] = {method: {} for method in external}
    for name, value in arguments.items():
        if ":" in name:
            if name not in external or not isinstance(value, dict):
                raise InputError(f"--method-args: {name} needs a place in --method, and an object of its arguments")
            continue
        takers = [method for method, signature in external.items() if name in signature.names]
        takers = takers or [method for method, signature in external.items() if signature.may_take_more]
        if not takers:
            known = "; ".join(f"{method} takes {signature.names_in_words}" for method, signature in external.items())
            known = known or "it is for methods given as package.module:Name"
            raise InputError(f"--method-args: no method takes {name!r}: {known}")
        for method in takers:
            of_one[method][name] = value
    for method, signature in external.items():
        of_one[method] |= arguments.get(method, {})
        for name, value in of_one[method].items():
            if signature.layer and name == signature.layer.name:
                raise InputError(f"--method-args: give {name} of {method} by --layer=NAME")
            if not is_plain(value):
                raise InputError(f"--method-args: {name} must be a number, a text, true, false, or a list of those")
            if name not in signature.names and not signature.may_take_more:
                raise InputError(f"--method-args: {method} takes no {name!r}: it takes {signature.names_in_words}")
        if of_one[method]:
            chosen[method]["arguments"] = json.dumps(of_one[method], sort_keys=True, separators=(",", ":"))
    return chosen


def is_plain(value: object) -> bool:
    """Whether a record can hold `value`: a finite number, a text, a truth value, or a list of those."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def with_tuples(value: Any) -> Any:
    """What was read from JSON, with tuples for lists, as Captum wants shapes."""
    if isinstance(value, dict):
        return {name: with_tuples(one) for name, one in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value
