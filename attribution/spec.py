"""The choice of a method, of an ensemble around it, and of their parameters."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from attribution import ANY_MODEL_METHODS, ENSEMBLE_PARAMETERS, LAYER_METHODS, REGISTRY, build_method
from common.fingerprint import require_unchanged
from common.hashing import json_sha256
from common.imports import is_user_code, place_to_filename

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attribution.method import Method

LONGEST_NAMES = 100  # letters: file names end at 255 bytes


@dataclass(frozen=True)
class MethodSpec:
    """A method as it is stored, evaluated and named in tables.

    Attributes:
        method: canonical name, or `package.module:Name`.
        ensemble: None, or one of `ENSEMBLES`.
        parameters: pairs of name and value, of the method and the ensemble; `arguments` of other people's methods are
            JSON.
        blur: a control: the same maps, blurred before pixels are ranked by them.
        code: stands for the code of a user's own method; None for ours.
        edition: tells it in tables from the same method of other code; empty where there is no other.
    """

    method: str
    ensemble: str | None = None
    parameters: tuple[tuple[str, float | str], ...] = ()
    blur: bool = False
    code: str | None = None
    edition: str = field(default="", compare=False)

    @classmethod
    def of(cls, method: str, ensemble: str | None = None, **known: float | str) -> "MethodSpec":
        """Return the choice with those of the `known` parameters that the method or the ensemble takes.

        IG takes `steps` and `baseline`, ensembles `level` and `samples`, and any method those of
        `experiments.method_options`.
        """
        names = {*REGISTRY[method].parameters} if method in REGISTRY else {"layer", "arguments"}
        names |= {"layer"} if method in LAYER_METHODS else set()
        names |= set(ENSEMBLE_PARAMETERS) if ensemble else set()
        parameters = {name: known[name] for name in names & set(known)}
        code = None
        if is_user_code(method):
            from attribution.probe import method_code  # here, so that choosing costs no import of torch

            own = {name: value for name, value in parameters.items() if name not in ENSEMBLE_PARAMETERS}
            code = method_code(method, own)
        return cls(method, ensemble, tuple(sorted(parameters.items())), code=code)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "MethodSpec":
        """Return the method of a record that holds `plain`, and perhaps `blur`."""
        parameters = tuple(sorted(record["parameters"].items()))
        return cls(record["method"], record["ensemble"], parameters, record.get("blur", False), record.get("code"))

    @property
    def label(self) -> str:
        """The name in tables and figures, such as "SG-SQ VBP"."""
        return " ".join(self._words(self.method))

    def _words(self, method: str) -> list[str]:
        return [word for word in (self.ensemble, method, self.edition, "blurred" if self.blur else None) if word]

    @property
    def is_external(self) -> bool:
        """The method is the user's own or of another library."""
        return ":" in self.method

    @property
    def explains_network_itself(self) -> bool:
        """No copy with fused batch norms is explained: by other people's code, or for a layer chosen by name."""
        return self.is_external or "layer" in dict(self.parameters)

    @property
    def method_stem(self) -> str:
        """The method alone as a part of file names."""
        return place_to_filename(self.method)

    @property
    def file_stem(self) -> str:
        """The part of file names, such as "SG-SQ-VBP"."""
        return "-".join(self._words(self.method_stem)).replace(" ", "-")

    @property
    def plain(self) -> dict[str, Any]:
        """The fields that decide on the maps, as records hold them."""
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

    def build(self, model: "nn.Module", pixels: "Mapping[str, Tensor] | None" = None) -> "Method":
        """Build the method for `model`.

        Args:
            pixels: the "black" and the "mean" pixel (C,), or image (C, H, W), as the network sees them, for IG.

        Raises:
            InputError: unknown name or parameter, or code that was edited meanwhile.
        """
        if self.code:
            from attribution.libraries import source_place  # here, so that choosing costs no import of torch

            require_unchanged(source_place(self.method), self.code)
        parameters: dict[str, Any] = dict(self.parameters)
        if self.method == "IG":
            parameters |= pixels or {}
        if "arguments" in parameters:
            parameters["arguments"] = with_tuples(json.loads(parameters["arguments"]))
        return build_method(self.method, model, self.ensemble, **parameters)


def methods_stem(methods: Sequence[MethodSpec]) -> str:
    """Return the part of file names for several methods.

    It is "all" for every method without ensemble or blur, followed by the others; a number and a hash if too long.
    Where each method is there with its maps blurred, too, one word says so.
    """
    unblurred = [spec for spec in methods if not spec.blur]
    if unblurred and {replace(spec, blur=True) for spec in unblurred} == set(methods) - set(unblurred):
        return f"{methods_stem(unblurred)}-and-blurred"
    plain = {spec.method for spec in methods if spec.ensemble is None and not spec.blur}
    if plain >= set(ANY_MODEL_METHODS):
        others = [spec.file_stem for spec in methods if spec.ensemble is not None or spec.blur]
        names = "-".join(["all", *others])
    else:
        names = "-".join(spec.file_stem for spec in methods)
    return names if len(names) <= LONGEST_NAMES else f"{len(methods)}-methods-{json_sha256(names)[:8]}"


def with_tuples(value: Any) -> Any:
    """Return a value read from JSON with tuples for lists, since Captum takes shapes as tuples."""
    if isinstance(value, dict):
        return {name: with_tuples(entry) for name, entry in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value
