"""Curves as Markdown and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.files import write_text
from evaluation.runs import Run, RunResult
from evaluation.statistics import Curve, Estimate, Values, difference, mean_interval


def markdown_table(curves: Sequence[Curve], baseline: Estimate) -> str:
    """One row per curve, one column per ratio; the unmasked baseline under 0 %."""
    ratios = curves[0].ratios
    head = ["method", "0 %", *(f"{ratio * 100:g} %" for ratio in ratios), "area", "area − RANDOM's", "ties"]
    random = next((curve for curve in curves if curve.method == "RANDOM" and curve.sees == "image"), None)
    rows = []
    for curve in curves:
        alone = curve.sees == "mask"
        rows.append(
            [
                f"{curve.method}, mask alone" if alone else curve.method,
                "" if alone else cell(baseline),
                *(cell(one) for one in curve.estimates),
                areas_cell(curve.areas),
                "" if alone or random is None or curve is random else distance_cell(curve.areas, random.areas),
                "" if alone else f"{curve.tied:.0%}",
            ]
        )
    return markdown_rows([head, *rows])


def markdown_rows(rows: Sequence[list[str]]) -> str:
    """A Markdown table: `rows` are the head and the cells, the first column to the left, the others to the right."""
    head, *cells = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "".join(f"| {' | '.join(_padded(line, widths))} |\n" for line in lines)


def cell(one: Estimate) -> str:
    return f"{one.mean:.3f} ± {one.half:.3f}"


def _padded(row: list[str], widths: list[int]) -> list[str]:
    first, *rest = (
        text.ljust(width) if i == 0 else text.rjust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return [first, *rest]


def areas_cell(areas: Sequence[float]) -> str:
    """The mean over the seeds, with its interval if there are several."""
    return cell(mean_interval(areas)) if len(areas) > 1 else f"{areas[0]:.3f}"


def distance_cell(areas: Values, others: Values) -> str:
    """areas − others, paired by seed; with its interval, if there are several."""
    distance = difference(areas, others)
    return f"{areas[0] - others[0]:+.3f}" if distance is None else f"{distance.mean:+.3f} ± {distance.half:.3f}"


def gap_table(roar: Sequence[Curve], kar: Sequence[Curve]) -> str:
    """KAR − ROAR of each method's area, paired by seed: what the order of its pixels is worth; 0 for a random one."""
    rows = [["method", "area of ROAR", "area of KAR", "KAR − ROAR"]]
    others = {curve.method: curve for curve in kar if curve.sees == "image"}
    for curve in (curve for curve in roar if curve.sees == "image"):
        kept = others[curve.method]
        rows.append(
            [curve.method, areas_cell(curve.areas), areas_cell(kept.areas), distance_cell(kept.areas, curve.areas)]
        )
    return markdown_rows(rows)


def runs_csv(results: Mapping[Run, RunResult]) -> str:
    """One line per retraining: its configuration and its result."""
    text = io.StringIO()
    lines = [flat(run.configuration()) | flat(result.plain()) for run, result in results.items()]
    names = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"recipe": {"epochs": 4}} -> {"recipe.epochs": 4}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def csv_table(curves: Sequence[Curve], baseline: Estimate) -> str:
    """One line per point: method, what the network sees, ratio, mean, low, high."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "sees", "ratio", "accuracy", "low", "high"])
    writer.writerow(["baseline", "image", 0, *numbers(baseline)])
    for curve in curves:
        for ratio, one in zip(curve.ratios, curve.estimates, strict=True):
            writer.writerow([curve.method, curve.sees, f"{ratio:g}", *numbers(one)])
    return text.getvalue()


def numbers(one: Estimate) -> list[str]:
    """Mean and interval as cells of a CSV."""
    return [f"{number:.6f}" for number in (one.mean, one.low, one.high)]


def write_table(stem: Path, text: str, values: str) -> list[Path]:
    """Write the Markdown `text` and the CSV `values` to `stem` with their suffixes; return both paths."""
    table, data = (stem.with_name(stem.name + suffix) for suffix in (".md", ".csv"))
    write_text(table, text)
    write_text(data, values)
    return [table, data]


def small_print(text: str) -> str:
    return f"<sub>{text}</sub>"


def details(title: str, text: str) -> str:
    """Return `text` folded below `title`, as GitHub shows it."""
    return f"<details><summary>{title}</summary>\n\n{text.rstrip()}\n\n</details>"
