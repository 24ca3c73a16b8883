"""The blocks of docs/findings.md on smoothness: methods beside a smooth random map, and beside their maps blurred."""

from collections import defaultdict
from itertools import product

from attribution.spec import MethodSpec
from data import DATASETS
from evaluation import REMOVING
from evaluation.statistics import Values, difference
from models import NO_ATTENTION
from reporting.findings import common_methods, halves_table
from reporting.groups import select_largest
from reporting.labels import BLURRED, TITLES
from reporting.removal_summary import RemovalSummary
from reporting.summary import Published
from reporting.tables import cell, mark, markdown_table

SMOOTH = MethodSpec("RANDOM", blur=True)


def smooth(published: Published) -> str:
    """Return what each order of removal alone says of the methods beside a smooth random map, RANDOM's blurred."""
    parts = (
        halves_table(TITLES[dataset], summaries, SMOOTH.label)
        for dataset, summaries in with_blurred_maps(published).items()
    )
    return "\n\n".join(parts)


def blurred(published: Published) -> str:
    """Return the gaps of methods and controls beside those of their maps blurred."""
    columns: dict[str, dict[str, str]] = {}
    for dataset, summaries in with_blurred_maps(published).items():
        for summary in summaries:
            title, pairs = f"{TITLES[dataset]}: {summary.evaluation}", gaps_and_blurred(summary)
            columns[title] = {name: cell(own) for name, (own, _after) in pairs.items()}
            columns[f"{title}, blurred"] = {
                name: f"{cell(after)} {mark(difference(after, own))}".rstrip() for name, (own, after) in pairs.items()
            }
    if not columns:
        return ""
    rows = [[name, *(column[name] for column in columns.values())] for name in common_methods(columns.values())]
    return markdown_table([["method", *columns], *rows])


def with_blurred_maps(published: Published) -> dict[str, list[RemovalSummary]]:
    """Return by data set the largest summary with blurred maps of each evaluation without retraining, of SimpleCNN."""
    found: dict[str, list[RemovalSummary]] = defaultdict(list)
    for dataset, evaluation in product(DATASETS, REMOVING):
        fitting = [each for each in published.measurements if SMOOTH in each.methods]
        summary = select_largest(fitting, evaluation, dataset, NO_ATTENTION)
        if isinstance(summary, RemovalSummary):
            found[dataset].append(summary)
    return found


def gaps_and_blurred(summary: RemovalSummary) -> dict[str, tuple[Values, Values]]:
    """Return for each method the gap of its maps, and of its maps blurred, by image or seed."""
    gaps = summary.gaps
    return {name: (gap, gaps[f"{name}{BLURRED}"]) for name, gap in gaps.items() if f"{name}{BLURRED}" in gaps}


BLOCKS = (smooth, blurred)
