"""Curves as Markdown and CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evaluation.runs import Run, RunResult
from evaluation.statistics import Curve, Estimate, Values, difference, mean_interval

BETTER, WORSE = "▲", "▼"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of a head and rows; the first column is left-aligned, the others are right-aligned."""
    head, *cells = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *cells]
    first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "".join(f"| {' | '.join([name.ljust(first), *map(str.rjust, texts, widths)])} |\n" for name, *texts in lines)


def curves_table(curves: Sequence[Curve], baseline: Estimate) -> str:
    """Return a row per curve, a column per ratio; the unmasked baseline under 0 %."""
    ratios = curves[0].ratios
    head = ["method", "0 %", *(f"{ratio * 100:g} %" for ratio in ratios), "area", "area − RANDOM's", "ties"]
    against = random_differences({curve.method: curve.areas for curve in curves if curve.network_input == "image"})
    rows = [head]
    for curve in curves:
        cells = [*map(cell, curve.estimates), cell(curve.areas)]
        if curve.network_input == "mask":
            rows.append([f"{curve.method}, mask alone", "", *cells, "", ""])
        else:
            rows.append([curve.method, cell(baseline), *cells, against[curve.method], f"{curve.tied:.0%}"])
    return markdown_table(rows)


def gap_table(roar: Sequence[Curve], kar: Sequence[Curve]) -> str:
    """Return KAR − ROAR of each method's area, paired by seed; 0 for a random order of the pixels."""
    rows = [["method", "area of ROAR", "area of KAR", "KAR − ROAR"]]
    kar_curves = {curve.method: curve for curve in kar if curve.network_input == "image"}
    for curve in (curve for curve in roar if curve.network_input == "image"):
        areas, kar_areas = curve.areas, kar_curves[curve.method].areas
        rows.append([curve.method, cell(areas), cell(kar_areas), difference_cell(kar_areas, areas)])
    return markdown_table(rows)


def cell(value: Estimate | Values) -> str:
    """Return a mean with its interval; of values, a single one has none."""
    if isinstance(value, Estimate):
        return f"{value.mean:.3f} ± {value.half:.3f}"
    return cell(mean_interval(value)) if len(value) > 1 else f"{value[0]:.3f}"


def difference_cell(areas: Values, others: Values) -> str:
    """Return areas − others, paired by seed; with its interval, if there are several."""
    gain = difference(areas, others)
    return f"{areas[0] - others[0]:+.3f}" if gain is None else signed_cell(gain)


def signed_cell(value: Estimate) -> str:
    """Return a difference with its sign and its interval."""
    return f"{value.mean:+.3f} ± {value.half:.3f}"


def mark(gain: Estimate | None) -> str:
    """Return ▲ or ▼ if a difference's interval lies above or below zero."""
    return "" if gain is None else BETTER if gain.low > 0 else WORSE if gain.high < 0 else ""


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def numbers(value: Estimate | Values) -> list[str]:
    """Return mean and interval as cells of a CSV; of values, a single one has no interval."""
    if isinstance(value, Estimate):
        return [f"{number:.6f}" for number in (value.mean, value.low, value.high)]
    return numbers(mean_interval(value)) if len(value) > 1 else [f"{value[0]:.6f}", "", ""]


def random_differences(areas: Mapping[str, Values]) -> dict[str, str]:
    """Return for each method a cell with its areas − RANDOM's; empty for RANDOM, and where there is none."""
    random = areas.get("RANDOM")
    return {
        method: "" if random is None or method == "RANDOM" else difference_cell(values, random)
        for method, values in areas.items()
    }


def curves_csv(curves: Sequence[Curve], baseline: Estimate) -> str:
    """Return a line per point: method, what the network sees, ratio, mean, low, high."""
    rows = [["method", "sees", "ratio", "accuracy", "low", "high"], ["baseline", "image", "0", *numbers(baseline)]]
    for curve in curves:
        for ratio, point in zip(curve.ratios, curve.estimates, strict=True):
            rows.append([curve.method, curve.network_input, f"{ratio:g}", *numbers(point)])
    return csv_text(rows)


def runs_csv(results: Mapping[Run, RunResult]) -> str:
    """Return a line per retraining: its configuration and its result."""
    lines = [flatten(run.configuration()) | flatten(result.plain()) for run, result in results.items()]
    names = list(dict.fromkeys(name for line in lines for name in line))
    return csv_text([names, *([line.get(name, "") for name in names] for line in lines)])


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {"recipe.epochs": 4} for {"recipe": {"epochs": 4}}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def small_print(text: str) -> str:
    return f"<sub>{text}</sub>"


def details(title: str, text: str) -> str:
    """Return `text` folded below `title`, as GitHub shows it."""
    return f"<details><summary>{title}</summary>\n\n{text.rstrip()}\n\n</details>"
