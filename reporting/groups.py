"""Records of a results folder, grouped into summaries; each version of a user's code has groups of its own."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attribution import CONTROLS, ENSEMBLE_PARAMETERS, ENSEMBLES, MAP_DTYPES, METHODS
from attribution.spec import MethodSpec
from data import DATA_DIR, DATASETS, GENERATED
from evaluation import REMOVING
from evaluation.configs import RemovalConfig, SanityConfig, SelectivityConfig
from evaluation.options import from_record
from reporting.measurement_summary import MeasurementSummary
from reporting.numbers_summary import LearnedSummary
from reporting.records import load_records, load_selectivity, read_result
from reporting.removal_summary import RemovalSummary
from reporting.sanity_summary import SanitySummary
from reporting.selectivity_summary import SelectivitySummary

METHOD_FIELDS = ("method", "ensemble", "parameters", "blur", "code")
MEASUREMENT_FIELDS = (*METHOD_FIELDS, "seed", "checkpoint_sum")

REPLACED = ", since replaced"  # ends the name of a model whose classifier is no longer the stored one

Results = Mapping[tuple[MethodSpec, int], Mapping[str, Any]]
Networks = Mapping[tuple[str, str, int], frozenset[str]]
"""Data set, model and seed -> the sums of the classifiers that are stored now."""
NO_NETWORKS: Networks = MappingProxyType({})
Key = tuple[object, ...]

MEASUREMENTS: dict[str, tuple[type[MeasurementSummary], type]] = {
    "selectivity": (SelectivitySummary, SelectivityConfig),
    **dict.fromkeys(REMOVING, (RemovalSummary, RemovalConfig)),
    "sanity": (SanitySummary, SanityConfig),
    "learned": (LearnedSummary, RemovalConfig),
}
KINDS = ("runs", *(name for name in MEASUREMENTS if name != "selectivity"))
"""The folders of records; selectivity has HDF5 files."""


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
    for kind in KINDS:
        yield from (configuration for _path, configuration, _result in load_records(results, kind))
    yield from (configuration for _path, configuration in load_selectivity(results))


def list_datasets(results: Path) -> set[str]:
    """Return the data sets of everything that is finished.

    Raises:
        InputError: a damaged file.
    """
    return {record["dataset"] for record in _configurations(results)}


@dataclass(frozen=True)
class CodeVersions:
    """The versions of users' code, and of classifiers, in a results folder: each has tables, or a row, of its own.

    Attributes:
        edited: methods (by place and parameters) and models (by data set and name) of which there are several.
        networks: the classifiers that are stored now.
    """

    edited: frozenset[Key]
    networks: Networks

    @classmethod
    def load(cls, results: Path, networks: Networks) -> "CodeVersions":
        """Read the versions.

        Raises:
            InputError: a damaged file.
        """
        codes: dict[Key, set[str | None]] = defaultdict(set)
        for record in _configurations(results):
            codes[record["dataset"], record["model"]].add(record.get("model_code"))
            if record["method"]:
                codes[_method_key(MethodSpec.read(record))].add(record.get("code"))
        return cls(frozenset(key for key, of_key in codes.items() if len(of_key) > 1), networks)

    def label_method(self, method: MethodSpec) -> MethodSpec:
        """Return the same method, with its code in its label if there are several versions."""
        return replace(method, edition=_code_label(method.code)) if _method_key(method) in self.edited else method

    def label_model(self, record: Mapping[str, Any], explained: Mapping[int, str]) -> str:
        """Return the name of the record's model, with its code if there are several versions.

        Args:
            explained: the sums of the explained classifiers by seed. Where others are stored now, the name says so.
        """
        dataset, name = record["dataset"], str(record["model"])
        label = f"{name} {_code_label(record.get('model_code'))}" if (dataset, name) in self.edited else name
        stored = ((sha256, self.networks.get((dataset, name, seed))) for seed, sha256 in explained.items())
        return label + REPLACED * any(of_seed and sha256 not in of_seed for sha256, of_seed in stored)


def _method_key(method: MethodSpec) -> Key:
    return method.method, *(pair for pair in method.parameters if pair[0] not in ENSEMBLE_PARAMETERS)


def _code_label(code: str | None) -> str:
    return f"code {code}" if code else "code not recorded"


def load_measurements(
    results: Path, data_dir: Path = DATA_DIR, networks: Networks = NO_NETWORKS
) -> list[MeasurementSummary]:
    """Return the summaries of all evaluations without retraining, for each data set, model and configuration.

    Of selectivity those that remove the most important pixel first. Where several networks of one seed were measured,
    the stored one has a summary, and of the others the one of which there is most, so that no table mixes them. Where
    methods have fewer seeds than others, there is a summary with the most methods, too.

    Args:
        data_dir: see `MeasurementSummary`.
        networks: the classifiers that are stored now.

    Raises:
        InputError: a damaged file.
    """
    versions = CodeVersions.load(results, networks)
    summaries = []
    for evaluation, (summary_type, config_type) in MEASUREMENTS.items():
        stored: Iterable[tuple[Path, dict[str, Any], Any]] = load_records(results, evaluation)
        if evaluation == "selectivity":
            finished = load_selectivity(results)
            stored = ((path, record, read_result(path)) for path, record in finished if record["order"] == "most")
        groups: dict[tuple[str, str], dict[str, dict[tuple[MethodSpec, int], Mapping[str, Any]]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for _path, record, result in stored:
            fields = MEASUREMENT_FIELDS if "seed" in record else METHOD_FIELDS  # selectivity is of seed 0
            common = json.dumps({name: record[name] for name in record if name not in fields}, sort_keys=True)
            seed, sha256 = int(record.get("seed", 0)), record["checkpoint_sum"]
            model = versions.label_model(record, {seed: sha256})
            groups[common, model][sha256][versions.label_method(MethodSpec.read(record)), seed] = result
        for (text, model), of_networks in groups.items():
            record, of_group = json.loads(text), _one_network_a_seed(of_networks)
            config = config_type(**from_record(config_type, record))
            for methods, seeds in complete_parts(of_group):
                summary = summary_type(
                    config=config,
                    dataset=record["dataset"],
                    model=model,
                    methods=methods,
                    seeds=seeds,
                    results=of_group,
                    quick=record.get("quick", False),
                    dataset_sha256=record["dataset_sum"],
                    data_dir=data_dir,
                    edition=edition_of(record.get("map_dtype")),
                    left_out=_left_out(of_group, methods),
                )
                summaries.append(summary)
    counts = Counter(summary.stem for summary in summaries)
    return [
        replace(summary, edition="_".join(filter(None, [summary.edition, f"images-{summary.dataset_sha256[:6]}"])))
        if counts[summary.stem] > 1
        else summary
        for summary in summaries
    ]


def edition_of(map_dtype: str | None) -> str:
    """Return the word for maps that were not stored in the usual precision; None stands for maps that were not."""
    return "" if map_dtype in (None, MAP_DTYPES[0]) else f"maps-{map_dtype}"


def _one_network_a_seed(of_networks: Mapping[str, Results]) -> Results:
    """Return the results of one network for each seed, that of which there are most."""
    by_seed: dict[int, Results] = {}
    for results in sorted(of_networks.values(), key=len, reverse=True):
        seed = next(seed for _method, seed in results)  # a network has one seed
        by_seed.setdefault(seed, results)
    return {key: result for results in by_seed.values() for key, result in results.items()}


def complete_parts(results: Results) -> list[tuple[tuple[MethodSpec, ...], tuple[int, ...]]]:
    """Return the methods and seeds 0 … k − 1 of which each pair is there: as many as possible.

    Where that leaves out methods of fewer seeds, the second part has the most methods.
    """
    methods = sorted({method for method, _seed in results}, key=method_order)
    parts = []
    for count in range(1, 2 + max(seed for _method, seed in results)):
        seeds = tuple(range(count))
        finished = tuple(method for method in methods if all((method, seed) in results for seed in seeds))
        parts += [(finished, seeds)] if finished else []
    largest = max(parts, key=lambda part: (len(part[0]) * len(part[1]), len(part[1])), default=None)
    broadest = max(parts, key=lambda part: (len(part[0]), len(part[1])), default=None)
    return [part for part in dict.fromkeys((largest, broadest)) if part]


def _left_out(results: Results, methods: Sequence[MethodSpec]) -> dict[str, str]:
    """Return the reason why a method is not among `methods`, by its label."""
    finished: dict[MethodSpec, list[int]] = defaultdict(list)
    for method, seed in sorted(results, key=lambda point: (method_order(point[0]), point[1])):
        finished[method].append(seed)
    return {
        method.label: f"finished for seed{'s' * (len(of_method) > 1)} {', '.join(map(str, of_method))} alone"
        for method, of_method in finished.items()
        if method not in methods
    }


def select_largest(
    summaries: Iterable[MeasurementSummary], evaluation: str, dataset: str, model: str
) -> MeasurementSummary | None:
    """Return the summary with the most methods and seeds, a full one before any of --quick; None if there is none."""
    key = evaluation, dataset, model
    fitting = [summary for summary in summaries if (summary.evaluation, summary.dataset, summary.model) == key]
    return max(
        fitting, key=lambda summary: (not summary.quick, len(summary.methods) * len(summary.seeds)), default=None
    )
