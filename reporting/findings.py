"""The blocks of docs/findings.md: what the published results say, in tables and sentences with intervals."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from attribution import CONTROLS
from data import DATASETS
from evaluation import ALL_FILLS, RANKS, REMOVING
from evaluation.statistics import Values, correlation_interval, difference, mean_interval
from evaluation.trust import Comparison, compare_family
from models import NO_ATTENTION
from reporting.labels import HOUR, TITLES, is_blurred, is_control, quantity
from reporting.removal_summary import RemovalSummary
from reporting.summary import Published, Summary
from reporting.tables import (
    BETTER,
    WORSE,
    cell,
    difference_cell,
    mark,
    markdown_table,
    signed_cell,
    small_print,
)

FEWEST_PAIRS = 6  # of a correlation: the interval of fewer is nearly −1 to 1
CLAIMED_FASTEST = ("IB", "GB", "GB-GC")  # by the original, in selectivity
RANKED = ("ROAD", "insertion-deletion")  # the evaluations without retraining that every rank and fill is tried in


def fastest(published: Published) -> str:
    """Return the methods in the order in which their scores fall in selectivity, and where the claimed ones stand."""
    lines = []
    for summary in filter(None, (published.largest("selectivity", dataset) for dataset in DATASETS)):
        areas = {curve.method: curve.areas for curve in summary.curves}
        gains = {name: mean_interval(areas[name] - areas["RANDOM"]) for name in areas if not is_control(name)}
        ordered = sorted(gains, key=lambda name: gains[name].mean)
        places = ", ".join(f"{name} {ordered.index(name) + 1}" for name in CLAIMED_FASTEST if name in ordered)
        order = ", ".join(f"{name} ({signed_cell(gains[name])})" for name in ordered)
        lines.append(
            f"- {TITLES[summary.dataset]}, area of the score minus RANDOM's, the fastest first: {order}. Places of the "
            f"three that the original names, of {len(ordered)}: {places}."
        )
    return "\n".join(lines)


def agree(published: Published) -> str:
    """Return the rank correlations of the evaluations, with intervals over the methods."""
    summaries = published.summaries
    rows = [["", *(TITLES[summary.dataset] for summary in summaries)]]
    for pair in combinations(("ROAR", "KAR", *REMOVING, "selectivity"), 2):
        rows.append([" and ".join(pair), *(_correlation(summary, *pair) for summary in summaries)])
    return markdown_table(rows)


def _correlation(summary: Summary, first: str, second: str) -> str:
    columns = {column.name: (place, column) for place, column in enumerate(summary.columns)}
    if first not in columns or second not in columns:
        return ""
    (row, first_column), (place, second_column) = columns[first], columns[second]
    common = sum(not is_blurred(name) for name in set(first_column.values) & set(second_column.values))
    value = float(summary.correlations[row, place])
    if np.isnan(value) or common < FEWEST_PAIRS:
        return ""
    interval = correlation_interval(value, common)
    return f"{value:+.2f} ({interval.low:+.2f} to {interval.high:+.2f}; {common} methods)"


def variants(published: Published, evaluation: str, dataset: str, option: str) -> dict[str, RemovalSummary]:
    """Return the summaries that differ from the default one in an option of the configuration alone, by its value."""
    default = published.largest(evaluation, dataset)
    if default is None:
        return {}
    found = {
        getattr(summary.config, option): summary
        for summary in published.measurements
        if (summary.dataset, summary.model) == (dataset, NO_ATTENTION)
        and isinstance(summary, RemovalSummary)
        and replace(summary.config, **{option: getattr(default.config, option)}) == default.config
    }
    found |= {getattr(default.config, option): default}
    return {value: found[value] for value in (*RANKS, *ALL_FILLS) if value in found}


def ranks(published: Published) -> str:
    """Return ROAD and SRG with pixels ranked by the signed, the absolute and the squared attribution."""
    return _variants_table(published, "rank", RANKED)


def fills(published: Published) -> str:
    """Return SRG with several fills of removed pixels."""
    return _variants_table(published, "fill", RANKED[1:])


def _variants_table(published: Published, option: str, evaluations: Sequence[str]) -> str:
    parts = []
    for dataset in DATASETS:
        summaries = {evaluation: variants(published, evaluation, dataset, option) for evaluation in evaluations}
        if all(len(by_value) < 2 for by_value in summaries.values()):
            continue
        columns = {
            f"{evaluation}, {value}": summary.gap_cells
            for evaluation, by_value in summaries.items()
            for value, summary in by_value.items()
        }
        names = common_methods(columns.values())
        rows = [
            [TITLES[dataset], *columns],
            *([name, *(column[name] for column in columns.values())] for name in names),
        ]
        turns = (
            turning_verdicts(evaluation, {value: summary.marks for value, summary in by_value.items()}, names)
            for evaluation, by_value in summaries.items()
        )
        parts.append("\n".join([markdown_table(rows), *turns]))
    return "\n\n".join(parts)


def common_methods(columns: Collection[Mapping[str, object]]) -> list[str]:
    """Return the methods that all columns have, in the order of the first."""
    return [name for name in next(iter(columns)) if all(name in column for column in columns)]


def turning_verdicts(evaluation: str, marks: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> str:
    """Return a line with the methods whose verdict against RANDOM depends on an option.

    Args:
        marks: of each method, by the option's value.
    """
    words = {BETTER: "better", WORSE: "worse", "": "not told apart"}
    turning = [
        f"{name} ({', '.join(f'{value} {words[of_value[name]]}' for value, of_value in marks.items())})"
        for name in names
        if len({of_value[name] for of_value in marks.values()}) > 1
    ]
    return f"- {evaluation}: the verdict against RANDOM turns for {'; '.join(turning) or 'no method'}."


def halves(published: Published) -> str:
    """Return what each order of removal alone says of the methods beside RANDOM.

    Both add up to the distance of the gap from RANDOM's.
    """
    parts = []
    for dataset in DATASETS:
        summaries = filter(None, (published.largest(evaluation, dataset) for evaluation in REMOVING))
        parts.append(halves_table(TITLES[dataset], summaries, "RANDOM"))
    return "\n\n".join(parts)


def halves_table(title: str, summaries: Iterable[RemovalSummary], control: str) -> str:
    """Return a table of what each order says of the methods, without blurred maps, beside a control."""
    columns: dict[str, dict[str, str]] = {}
    for summary in summaries:
        for order, words in (("MoRF", "falls faster"), ("LeRF", "falls slower")):
            areas = summary.areas_of(order)
            of_control = areas.pop(control)
            pairs = {name: (of_control, own) if order == "MoRF" else (own, of_control) for name, own in areas.items()}
            columns[f"{summary.evaluation}, {order} {words}"] = {
                name: f"{difference_cell(*pair)} {mark(difference(*pair))}".rstrip() for name, pair in pairs.items()
            }
    names = [name for name in common_methods(columns.values()) if not is_blurred(name)]
    return markdown_table(
        [[title, *columns], *([name, *(column[name] for column in columns.values())] for name in names)]
    )


def evidence(published: Published) -> str:
    """Return for each method in how many comparisons it beats the controls, and what is left of its map."""
    differences: dict[str, dict[str, Values]] = {control: {} for control in CONTROLS}
    names: dict[str, list[str]] = defaultdict(list)
    likeness: dict[str, dict[str, str]] = defaultdict(dict)
    for dataset in DATASETS:
        for evaluation in REMOVING:
            summary = published.largest(evaluation, dataset)
            gaps = {name: np.array(gap) for name, gap in summary.gaps.items()} if summary else {}
            for name in (name for name in gaps if not is_control(name)):
                names[name].append(f"{name} {evaluation} {dataset}")
                for control in CONTROLS:
                    differences[control][names[name][-1]] = gaps[name] - gaps[control]
        check = published.largest("sanity", dataset)
        for method in check.methods if check else ():
            likeness[method.label][dataset] = cell(check.similarity(method))
    families = {control: compare_family(of_control) for control, of_control in differences.items()}
    rows = [["method", *(f"against {control}" for control in CONTROLS), *(f"likeness, {TITLES[d]}" for d in DATASETS)]]
    for name, keys in names.items():
        counts = (_count_verdicts([family[key] for key in keys]) for family in families.values())
        rows.append([name, *counts, *(likeness[name].get(dataset, "") for dataset in DATASETS)])
    note = (
        "ROAD, F-Fidelity and insertion–deletion on both data sets, three networks each; better or worse by the 95 % "
        f"interval of the difference paired by seed, in brackets after Holm's correction over the column's "
        f"{len(differences['RANDOM'])} comparisons. Likeness: Spearman's rank correlation and SSIM of absolute maps, "
        "the mean of both over the cascade from a random output layer to all weights random; 1 for the same map."
    )
    return f"{markdown_table(rows)}\n{small_print(note)}"


def _count_verdicts(comparisons: Sequence[Comparison]) -> str:
    """Return the numbers of better and worse comparisons, in brackets those that stay so after the correction."""
    signs = [mark(comparison) for comparison in comparisons]
    better = sum(comparison.is_better for comparison in comparisons)
    worse = sum(comparison.is_different for comparison in comparisons) - better
    return f"{signs.count(BETTER)} better ({better}), {signs.count(WORSE)} worse ({worse}) of {len(signs)}"


def cost(published: Published) -> str:
    """Return what was published, and how long it took."""
    rows = [["published", "data set", "number", "hours"]]
    trainings = {
        TITLES[dataset]: [seconds for each in of_dataset for seconds in each.values("seconds")]
        for dataset, of_dataset in published.trainings.items()
    }
    retrainings = {
        TITLES[dataset]: [
            result.seconds for run, result in published.retrainings.runs.items() if run.dataset == dataset
        ]
        for dataset in DATASETS
    }
    for name, kinds in {"trained classifiers": trainings, "retrainings of ROAR and KAR": retrainings}.items():
        for title, seconds in kinds.items():
            rows.append([name, title, f"{len(seconds):,}", f"{sum(seconds) / HOUR:.1f}"])
    for evaluation in (*REMOVING, "sanity", "selectivity"):
        for dataset in DATASETS:
            count = sum(
                len(summary.results)
                for summary in published.measurements
                if (summary.evaluation, summary.dataset) == (evaluation, dataset)
            )
            rows.append([evaluation, TITLES[dataset], f"{count:,}", ""])
    return markdown_table(rows)


def accuracies(published: Published) -> str:
    """Return the test accuracy of the five models in a line for each data set."""
    lines = []
    for dataset, trainings in published.trainings.items():
        models = (
            f"{training.model} {training.accuracy} ({quantity(len(training.checkpoints), 'seed')})"
            for training in trainings
        )
        lines.append(f"- {TITLES[dataset]}: {', '.join(models)}.")
    return "\n".join(lines)


BLOCKS = (fastest, agree, halves, ranks, fills, evidence, accuracies, cost)
