"""What is chosen when maps are asked for: a method, perhaps an ensemble around it, and their parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attribution import ANY_MODEL_METHODS, ENSEMBLE_PARAMETERS, build_method
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
    """

    method: str
    ensemble: str | None = None
    parameters: tuple[tuple[str, float | str], ...] = ()
    blur: bool = False

    @classmethod
    def of(cls, method: str, ensemble: str | None = None, **known: float | str) -> "Choice":
        """With those of the `known` parameters that matter to it.

        These are `steps` and `baseline` to IG, `level` and `samples` to ensembles.
        """
        wanted = {"steps", "baseline"} if method == "IG" else set()
        wanted |= set(ENSEMBLE_PARAMETERS) if ensemble else set()
        return cls(method, ensemble, tuple(sorted((name, known[name]) for name in wanted & set(known))))

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Choice":
        """The one of which a record holds `plain`, and perhaps `blur`, among other things."""
        parameters = tuple(sorted(record["parameters"].items()))
        return cls(record["method"], record["ensemble"], parameters, record.get("blur", False))

    @property
    def label(self) -> str:
        """For tables and figures: "VBP", "SG-SQ VBP"."""
        name = f"{self.ensemble} {self.method}" if self.ensemble else self.method
        return f"{name} blurred" if self.blur else name

    @property
    def filed_method(self) -> str:
        """The method alone as a part of file names."""
        return self.method.replace(":", ".")

    @property
    def filed(self) -> str:
        """As a part of file names: "SG-SQ-VBP"."""
        return self.label.replace(" ", "-").replace(":", ".")

    @property
    def plain(self) -> dict[str, Any]:
        """What decides on the maps, for their record and that of a run."""
        return {"method": self.method, "ensemble": self.ensemble, "parameters": dict(self.parameters)}

    def build(self, model: "nn.Module", **given: Any) -> "Method":
        """The method for `model`; `given` are parameters that only the data can tell.

        Raises:
            InputError: unknown name or parameter.
        """
        return build_method(self.method, model, self.ensemble, **dict(self.parameters), **given)


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
