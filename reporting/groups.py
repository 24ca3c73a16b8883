"""Records of a results folder, grouped into summaries; each version of a user's code has groups of its own."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from attribution import CONTROLS, ENSEMBLE_PARAMETERS, ENSEMBLES, METHODS
from attribution.spec import MethodSpec
from data import DATA_DIR, DATASETS, GENERATED
from evaluation import REMOVING
from evaluation.configs import RemovalConfig, SanityConfig
from evaluation.options import from_record
from reporting.evaluation_summary import MeasurementSummary
from reporting.records import load_records, load_selectivity, read_result
from reporting.removal_summary import RemovalSummary
from reporting.sanity_summary import SanitySummary
from reporting.selectivity_summary import SelectivityCurve
from training.recipe import Recipe

METHOD_FIELDS = ("method", "ensemble", "parameters", "blur", "code")
MEASUREMENT_FIELDS = (*METHOD_FIELDS, "seed", "checkpoint_sum")

Results = Mapping[tuple[MethodSpec, int], Mapping[str, Any]]
Key = tuple[object, ...]
SummaryType = TypeVar("SummaryType", bound=MeasurementSummary)


def method_order(method: MethodSpec) -> Key:
    """Return a key that sorts methods: the usual order, own ones after them, controls last."""
    known = METHODS.index(method.method) if method.method in METHODS else len(METHODS)
    ensemble = ENSEMBLES.index(method.ensemble) + 1 if method.ensemble else 0
    return method.method in CONTROLS, known, method.method, ensemble, method.blur, method.parameters, method.code or ""


def sort_datasets(datasets: Iterable[str]) -> list[str]:
    """Return each data set once: the published ones, the generated ones, then image folders by name."""
    known = (*DATASETS, *GENERATED)
    return sorted(set(datasets), key=lambda name: (known.index(name) if name in known else len(known), name))


def _configurations(results: Path) -> Iterator[dict[str, Any]]:
    """Yield the configuration of everything that is finished."""
    for kind in ("runs", *REMOVING, "sanity"):
        for _path, configuration, _result in load_records(results, kind):
            yield configuration
    for _path, configuration in load_selectivity(results):
        yield configuration


def list_measured_models(results: Path) -> list[tuple[str, str]]:
    """Return data set and model of everything that is finished, each pair once.

    Raises:
        InputError: a damaged file.
    """
    return list(dict.fromkeys((record["dataset"], record["model"]) for record in _configurations(results)))


@dataclass(frozen=True)
class CodeVersions:
    """The versions of a user's code in a results folder: each has tables and figures, or a row, of its own.

    Attributes:
        edited: methods (by place and parameters) and models (by data set and name) of which there are several.
    """

    edited: frozenset[Key]

    @classmethod
    def load(cls, results: Path) -> "CodeVersions":
        """Read the versions.

        Raises:
            InputError: a damaged file.
        """
        codes: dict[Key, set[str | None]] = defaultdict(set)
        for record in _configurations(results):
            codes[record["dataset"], record["model"]].add(record.get("model_code"))
            if record["method"]:
                codes[_method_key(MethodSpec.read(record))].add(record.get("code"))
        return cls(frozenset(key for key, of_key in codes.items() if len(of_key) > 1))

    def label_method(self, method: MethodSpec) -> MethodSpec:
        """Return the same method, with its code in its label if there are several versions."""
        return replace(method, edition=_code_label(method.code)) if _method_key(method) in self.edited else method

    def label_model(self, record: Mapping[str, Any]) -> str:
        """Return the name of the record's model, with its code if there are several versions."""
        name = str(record["model"])
        return f"{name} {_code_label(record.get('model_code'))}" if (record["dataset"], name) in self.edited else name


def _method_key(method: MethodSpec) -> Key:
    return method.method, *(pair for pair in method.parameters if pair[0] not in ENSEMBLE_PARAMETERS)


def _code_label(code: str | None) -> str:
    return f"code {code}" if code else "code not recorded"


def load_removal(results: Path, data_dir: Path = DATA_DIR) -> list[RemovalSummary]:
    """Return the summaries of ROAD, F-Fidelity, insertion and deletion, for each data set, model and configuration.

    Args:
        data_dir: see `RemovalSummary`.

    Raises:
        InputError: a damaged file.
    """
    summaries = []
    for evaluation in REMOVING:
        for record, facts in _load_groups(results, evaluation):
            tuning = Recipe(**record["tuning"]) if record["tuning"] else None
            fields = from_record(RemovalConfig, record) | {"ratios": tuple(record["ratios"]), "tuning": tuning}
            facts += [False, record["dataset_sum"], data_dir]
            summaries.append(RemovalSummary(RemovalConfig(**fields), *facts))
    return summaries


def load_sanity(results: Path) -> list[SanitySummary]:
    """Return the summaries of the sanity checks, for each data set, model and configuration.

    Raises:
        InputError: a damaged file.
    """
    return [
        SanitySummary(SanityConfig(**from_record(SanityConfig, record)), *facts)
        for record, facts in _load_groups(results, "sanity")
    ]


def load_selectivity_curves(results: Path, dataset: str, model: str) -> dict[MethodSpec, SelectivityCurve]:
    """Return selectivity, most important first: of the largest group of methods with the same configuration.

    Raises:
        InputError: a damaged file.
    """
    groups: dict[str, dict[MethodSpec, Path]] = defaultdict(dict)
    versions = CodeVersions.load(results)
    for path, record in load_selectivity(results):
        if (record["dataset"], versions.label_model(record), record["order"]) == (dataset, model, "most"):
            common = {name: value for name, value in record.items() if name not in METHOD_FIELDS}
            groups[json.dumps(common, sort_keys=True)][versions.label_method(MethodSpec.read(record))] = path
    largest = max(groups.values(), key=len, default={})
    return {
        method: SelectivityCurve.from_arrays(method.label, read_result(largest[method]))
        for method in sorted(largest, key=method_order)
    }


def _load_groups(results: Path, kind: str) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Yield for each group its common configuration, and data set, model, finished methods, seeds, and results.

    The names of model and methods have their code if there are several versions.
    """
    groups: dict[str, dict[tuple[MethodSpec, int], Mapping[str, Any]]] = defaultdict(dict)
    versions = CodeVersions.load(results)
    for _path, record, result in load_records(results, kind):
        common = {name: value for name, value in record.items() if name not in MEASUREMENT_FIELDS}
        key = versions.label_method(MethodSpec.read(record)), int(record["seed"])
        groups[json.dumps(common, sort_keys=True)][key] = result
    for text, of_group in groups.items():
        common = json.loads(text)
        yield common, [common["dataset"], versions.label_model(common), *complete_part(of_group), of_group]


def complete_part(results: Results) -> tuple[tuple[MethodSpec, ...], tuple[int, ...]]:
    """Return the methods and seeds 0 … k − 1 of which each pair is there: as many as possible."""
    methods = sorted({method for method, _seed in results}, key=method_order)
    largest: tuple[tuple[MethodSpec, ...], tuple[int, ...]] = ((), ())
    for count in range(1, 2 + max(seed for _method, seed in results)):
        seeds = tuple(range(count))
        finished = tuple(method for method in methods if all((method, seed) in results for seed in seeds))
        if len(finished) * count >= len(largest[0]) * len(largest[1]):
            largest = finished, seeds
    return largest


def select_largest(summaries: Iterable[SummaryType], dataset: str, model: str) -> SummaryType | None:
    """Return the summary on a data set and model with the most methods and seeds; None if there is none."""
    fitting = [summary for summary in summaries if (summary.dataset, summary.model) == (dataset, model)]
    return max(fitting, key=lambda summary: len(summary.methods) * len(summary.seeds), default=None)
