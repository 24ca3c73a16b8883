"""What is chosen when maps are asked for: a method, perhaps an ensemble around it, and their parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attribution import ANY_MODEL_METHODS, ENSEMBLE_PARAMETERS, build_method
from own import filed, is_own, require_unchanged
from storage import plain_sum

if TYPE_CHECKING:
    from torch import nn

    from attribution.method import Method

LONGEST_NAMES = 100  # letters: file names end at 255 bytes


@dataclass(frozen=True)
class Choice:
    """A method as it is filed, evaluated and named in tables.

    Attributes:
        method: canonical name, or `package.module:Name`.
        ensemble: None, or one of `ENSEMBLES`.
        parameters: pairs of name and value; only those that the method or the ensemble takes.
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
    def of(cls, method: str, ensemble: str | None = None, **known: float | str) -> "Choice":
        """With those of the `known` parameters that matter to it.

        These are `steps` and `baseline` to IG, `level` and `samples` to ensembles.
        """
        wanted = {"steps", "baseline"} if method == "IG" else set()
        wanted |= set(ENSEMBLE_PARAMETERS) if ensemble else set()
        given = {name: known[name] for name in wanted & set(known)}
        return cls(method, ensemble, tuple(sorted(given.items())), code=_code(method, given))

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Choice":
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
    def filed_method(self) -> str:
        """The method alone as a part of file names."""
        return filed(self.method)

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

    def build(self, model: "nn.Module", **given: Any) -> "Method":
        """The method for `model`; `given` are parameters that only the data can tell.

        Raises:
            InputError: unknown name or parameter, or code that was edited meanwhile.
        """
        if self.code:
            require_unchanged(self.method, self.code)
        return build_method(self.method, model, self.ensemble, **dict(self.parameters), **given)


def _code(method: str, parameters: Mapping[str, Any]) -> str | None:
    if not is_own(method):
        return None
    from attribution.probe import method_code  # here, so that choosing costs no import of torch

    return method_code(method, {name: one for name, one in parameters.items() if name not in ENSEMBLE_PARAMETERS})


def filed_methods(choices: Sequence[Choice]) -> str:
    """Several methods as a part of file names.

    "all" for every method as it is; the names of others; and their number with a hash where that is too long.
    """
    plain = {choice.method for choice in choices if choice.ensemble is None and not choice.blur}
    if plain >= set(ANY_MODEL_METHODS):
        others = [choice.filed for choice in choices if choice.ensemble is not None or choice.blur]
        names = "-".join(["all", *others])
    else:
        names = "-".join(choice.filed for choice in choices)
    return names if len(names) <= LONGEST_NAMES else f"{len(choices)}-methods-{plain_sum(names)[:8]}"
