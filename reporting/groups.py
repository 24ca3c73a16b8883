"""Records of a results folder, grouped into summaries."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from attribution import CONTROLS, ENSEMBLES, METHODS
from attribution.spec import MethodSpec
from data import DATA_DIR, DATASETS, GENERATED
from evaluation import REMOVING
from evaluation.configs import RemovalConfig, SanityConfig
from evaluation.options import from_record
from reporting.editions import Editions
from reporting.records import load_records
from reporting.removal_summary import RemovalSummary
from reporting.sanity_summary import SanitySummary
from reporting.selectivity import SelectivityCurve
from reporting.selectivity_files import load_selectivity, read_result
from training.recipe import Recipe

OF_METHOD = ("method", "ensemble", "parameters", "blur", "code")
OF_ONE = (*OF_METHOD, "seed", "checkpoint_sum")

Found = Mapping[tuple[MethodSpec, int], Mapping[str, Any]]
Measured = TypeVar("Measured", RemovalSummary, SanitySummary)


def method_place(method: MethodSpec) -> tuple[object, ...]:
    """Methods in their usual order, own ones after them, controls last."""
    known = METHODS.index(method.method) if method.method in METHODS else len(METHODS)
    ensemble = ENSEMBLES.index(method.ensemble) + 1 if method.ensemble else 0
    return method.method in CONTROLS, known, method.method, ensemble, method.blur, method.parameters, method.code or ""


def in_order(datasets: Iterable[str]) -> list[str]:
    """Return each data set once: the published ones, the generated ones, then image folders by name."""
    known = (*DATASETS, *GENERATED)
    return sorted(set(datasets), key=lambda one: (known.index(one) if one in known else len(known), one))


def kept_removals(results: Path, data_dir: Path = DATA_DIR) -> list[RemovalSummary]:
    """Return the summaries of ROAD, F-Fidelity, insertion and deletion, for each data set, model and settings.

    Args:
        data_dir: see `RemovalSummary`.

    Raises:
        InputError: a damaged file.
    """
    return [
        RemovalSummary(
            *(_removal_config(common), common["dataset"], common["model"], methods, seeds, found),
            dataset_sum=common["dataset_sum"],
            data_dir=data_dir,
        )
        for evaluation in REMOVING
        for common, methods, seeds, found in _groups(results, evaluation)
    ]


def kept_checks(results: Path) -> list[SanitySummary]:
    """Return the summaries of the sanity checks, for each data set, model and settings.

    Raises:
        InputError: a damaged file.
    """
    return [
        SanitySummary(
            SanityConfig(**from_record(SanityConfig, common)), common["dataset"], common["model"], methods, seeds, found
        )
        for common, methods, seeds, found in _groups(results, "sanity")
    ]


def kept_falls(results: Path, dataset: str, model: str) -> dict[MethodSpec, SelectivityCurve]:
    """Selectivity, most important first: of all methods with the same settings, of which there are most.

    Raises:
        InputError: a damaged file.
    """
    groups: dict[str, dict[MethodSpec, Path]] = defaultdict(dict)
    editions = Editions.of(results)
    for path, configuration in load_selectivity(results):
        names = configuration["dataset"], editions.model(configuration), configuration["order"]
        if names == (dataset, model, "most"):
            common = {name: value for name, value in configuration.items() if name not in OF_METHOD}
            groups[json.dumps(common, sort_keys=True)][editions.method(MethodSpec.read(configuration))] = path
    most = max(groups.values(), key=len, default={})
    return {
        method: SelectivityCurve.of(method.label, read_result(most[method]))
        for method in sorted(most, key=method_place)
    }


def measured_pairs(results: Path) -> list[tuple[str, str]]:
    """Data set and model of everything that is finished, each pair once.

    Raises:
        InputError: a damaged file.
    """
    records = (one for kind in ("runs", *REMOVING, "sanity") for _path, one, _result in load_records(results, kind))
    falls = (one for _path, one in load_selectivity(results))
    return list(dict.fromkeys((one["dataset"], one["model"]) for one in chain(records, falls)))


def _removal_config(record: Mapping[str, Any]) -> RemovalConfig:
    tuning = Recipe(**record["tuning"]) if record["tuning"] else None
    fields = from_record(RemovalConfig, record) | {"ratios": tuple(record["ratios"]), "tuning": tuning}
    return RemovalConfig(**fields)


def _groups(
    results: Path, kind: str
) -> Iterator[tuple[dict[str, Any], tuple[MethodSpec, ...], tuple[int, ...], Found]]:
    """Yield the common configuration of each group, its methods and seeds (as many as are finished), and its results.

    The model's name says its code where there are several, and so do the methods.
    """
    groups: dict[str, dict[tuple[MethodSpec, int], Mapping[str, Any]]] = defaultdict(dict)
    editions = Editions.of(results)
    for _path, configuration, result in load_records(results, kind):
        common = {name: value for name, value in configuration.items() if name not in OF_ONE}
        key = editions.method(MethodSpec.read(configuration)), int(configuration["seed"])
        groups[json.dumps(common, sort_keys=True)][key] = result
    for common_text, found in groups.items():
        methods, seeds = most_finished(found)
        common = json.loads(common_text)
        yield common | {"model": editions.model(common)}, methods, seeds, found


def most_finished(found: Found) -> tuple[tuple[MethodSpec, ...], tuple[int, ...]]:
    """The methods and seeds 0 … k − 1 of which each pair is there: as many as possible."""
    everything = sorted({method for method, _seed in found}, key=method_place)
    best: tuple[tuple[MethodSpec, ...], tuple[int, ...]] = ((), ())
    for count in range(1, 2 + max(seed for _method, seed in found)):
        seeds = tuple(range(count))
        methods = tuple(method for method in everything if all((method, seed) in found for seed in seeds))
        if len(methods) * count >= len(best[0]) * len(best[1]):
            best = methods, seeds
    return best


def largest(candidates: Iterable[Measured], dataset: str, model: str) -> Measured | None:
    """Return the summary on a data set and model with the most methods and seeds; None if there is none."""
    fitting = [one for one in candidates if (one.dataset, one.model) == (dataset, model)]
    return max(fitting, key=lambda one: len(one.methods) * len(one.seeds), default=None)
