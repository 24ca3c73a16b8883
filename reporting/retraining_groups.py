"""Finished retrainings in groups: the runs of a group can stand in one table."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

from attribution import CONTROLS
from attribution.spec import MethodSpec
from evaluation.runs import RetrainingConfig, Run, RunResult
from models import parse_model_name
from reporting.groups import method_order
from reporting.labels import quantity

Results = Mapping[Run, RunResult]
Item = TypeVar("Item")
Key = TypeVar("Key")

AMBIGUOUS = "--explained-seeds=own: a seed has runs on several classifiers, and no record says which belong together"


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ in method, ratio and seed alone; with `explained_seeds="own"` in the explained network, too.

    Attributes:
        common: a run with everything that they have in common.
        points: the runs that see images; of the controls, which explain no network, those that all seeds share.
        checkpoints_sha256: of the explained classifiers, see `RetrainingConfig.runs`; empty if a seed has several.
    """

    common: Run
    points: tuple[Run, ...]
    checkpoints_sha256: tuple[str, ...]

    @property
    def explains_all_seeds(self) -> bool:
        return self.common.masks.explained_seeds == "own"


def group_by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def group_runs(runs: Iterable[Run]) -> list[RunGroup]:
    """Return the groups of runs that have a method."""
    points = [run for run in runs if run.method is not None and run.network_input == "image"]
    first = [run for run in points if run.masks.explained_seeds == "same"]
    others = [run for run in points if run.masks.explained_seeds == "own"]
    by_common = group_by(first, lambda run: replace(run, method=None, ratio=0.0, seed=0))
    groups = [RunGroup(key, tuple(of_key), (key.checkpoint_sha256 or "",)) for key, of_key in by_common.items()]
    of_seed_0 = group_by(first, _common_of_own)
    return groups + [
        _own_group(key, of_key, of_seed_0[key]) for key, of_key in group_by(others, _common_of_own).items()
    ]


def _common_of_own(run: Run) -> Run:
    masks = replace(run.masks, explained_seeds="own")
    return replace(run, method=None, ratio=0.0, seed=0, checkpoint_sha256=None, masks=masks)


def _own_group(common: Run, others: list[Run], first: list[Run]) -> RunGroup:
    """Return the group of runs that explain the networks of `others`, and of `first`, the one of seed 0."""
    seeds = group_by(others, lambda run: run.seed)
    by_seed = {seed: {run.checkpoint_sha256 or "" for run in of_seed} for seed, of_seed in seeds.items()}
    by_seed[0] = _networks_with_all(first, {(run.method, run.ratio) for run in others})
    sums = [by_seed.get(seed) or {""} for seed in range(1 + max(by_seed))]  # no run has the empty sum
    ratios = {run.ratio for run in others}
    controls = [run for run in first if run.method and run.method.method in CONTROLS]
    shared = [run for run in controls if run.ratio in ratios and run.seed in by_seed]
    is_clear = all(len(of_seed) == 1 for of_seed in sums)
    return RunGroup(common, (*others, *shared), tuple(min(of_seed) for of_seed in sums) if is_clear else ())


def _networks_with_all(runs: list[Run], points: set[tuple[MethodSpec | None, float]]) -> set[str]:
    """Return the sums of the explained networks that have runs at all points; of all networks if none has."""
    by_network = group_by(runs, lambda run: run.checkpoint_sha256 or "")
    complete = {sha for sha, of_one in by_network.items() if points <= {(run.method, run.ratio) for run in of_one}}
    return complete or set(by_network)


def finished_configs(group: RunGroup, runs: Results) -> tuple[list[RetrainingConfig], str]:
    """Return the configurations to show, and a line on what none of them has.

    The first has the most finished methods, ratios and seeds; where that leaves out methods of fewer seeds, the second
    has the most methods. Controls make a table by themselves only where no method is finished, and never one of
    `explained_seeds="own"`, which needs two seeds or more.
    """
    if not group.checkpoints_sha256:
        return [], AMBIGUOUS
    key, points = group.common, group.points

    def is_finished(config: RetrainingConfig) -> bool:
        return all(run in runs for run in config.runs(key.dataset_sha256, group.checkpoints_sha256))

    def size(config: RetrainingConfig) -> tuple[int, ...]:
        return has_methods(config), *count_points(config)

    def with_masks(config: RetrainingConfig) -> RetrainingConfig:
        """Return the configuration with as many networks that see the masks alone as are finished."""
        while config.mask_seeds < config.seeds:
            more = replace(config, mask_seeds=config.mask_seeds + 1)
            if not is_finished(more):
                break
            config = more
        return config

    methods = sorted({run.method for run in points if run.method}, key=method_order)
    ratios_of = {method: tuple(sorted({run.ratio for run in points if run.method == method})) for method in methods}
    seeds = range(2 if group.explains_all_seeds else 1, 2 + max(run.seed for run in points))
    configs = []
    for ratios, count in product(set(ratios_of.values()), seeds):
        config = RetrainingConfig(
            evaluation=key.evaluation,
            dataset=key.dataset,
            attention=parse_model_name(key.model),
            methods=(),
            ratios=ratios,
            recipe=key.recipe,
            seeds=count,
            limit_train=key.limit_train,
            limit_test=key.limit_test,
            masks=key.masks,
            model_code=key.model_code,
        )
        finished = tuple(method for method in methods if is_finished(replace(config, methods=(method,))))
        configs += [replace(config, methods=finished)] if finished else []
    if group.explains_all_seeds:
        configs = list(filter(has_methods, configs))
    if not configs:
        return [], f"no method is finished ({quantity(len(points), 'run')})"
    largest = max(configs, key=size)
    same_ratios = [config for config in configs if config.ratios == largest.ratios]
    broadest = max(same_ratios, key=lambda config: (len(config.methods), *size(config)))
    shown = [largest, *[broadest] * (len(broadest.methods) > len(largest.methods))]
    unfinished = [method.label for method in methods if method not in shown[-1].methods]
    other_ratios = sorted({ratio for ratios in ratios_of.values() for ratio in ratios} - set(largest.ratios))
    omissions = [f"{', '.join(unfinished)} not finished"] if unfinished else []
    omissions += [f"ratios {', '.join(f'{ratio:g}' for ratio in other_ratios)}"] if other_ratios else []
    omissions += [f"seeds from {largest.seeds}"] if largest.seeds < max(seeds) else []
    return list(map(with_masks, shown)), "; ".join(omissions)


def has_methods(config: RetrainingConfig) -> bool:
    """Return whether there is a method beside the controls."""
    return any(method.method not in CONTROLS for method in config.methods)


def count_points(config: RetrainingConfig) -> tuple[int, int]:
    """Return the size of a table; of equal ones more seeds win."""
    return len(config.methods) * len(config.ratios) * config.seeds, config.seeds
