"""Editions of a user's code: results of before and after an edit never share a curve.

Each edition has tables and figures, or a row, of its own.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attribution import ENSEMBLE_PARAMETERS
from attribution.spec import MethodSpec
from evaluation import REMOVING
from reporting.records import load_records
from reporting.selectivity_files import load_selectivity

Thing = tuple[object, ...]


@dataclass(frozen=True)
class Editions:
    """The methods and models of which there are several.

    Attributes:
        several: methods by place and parameters, models by data set and name.
    """

    several: frozenset[Thing]

    @classmethod
    def of(cls, results: Path) -> "Editions":
        """
        Raises:
            InputError: a damaged file.
        """
        codes: dict[Thing, set[str | None]] = defaultdict(set)
        found = [one for kind in ("runs", *REMOVING, "sanity") for _, one, _ in load_records(results, kind)]
        for configuration in (*found, *(one for _, one in load_selectivity(results))):
            codes[configuration["dataset"], configuration["model"]].add(configuration.get("model_code"))
            if configuration["method"]:
                codes[_method(MethodSpec.read(configuration))].add(configuration.get("code"))
        return cls(frozenset(thing for thing, of_thing in codes.items() if len(of_thing) > 1))

    def method(self, choice: MethodSpec) -> MethodSpec:
        """Return the same method, which says its code if there are several."""
        return replace(choice, edition=_words(choice.code)) if _method(choice) in self.several else choice

    def model(self, record: Mapping[str, Any]) -> str:
        """Return the name of the record's model, which says its code if there are several."""
        name = str(record["model"])
        if (record["dataset"], name) not in self.several:
            return name
        return f"{name} {_words(record.get('model_code'))}"


def _method(choice: MethodSpec) -> Thing:
    return choice.method, *(pair for pair in choice.parameters if pair[0] not in ENSEMBLE_PARAMETERS)


def _words(code: str | None) -> str:
    return f"code {code}" if code else "code not recorded"
