"""Curves as Markdown and CSV."""

import csv
import io
from collections.abc import Sequence

from evaluation.statistics import Curve, Estimate


def markdown_table(curves: Sequence[Curve], baseline: Estimate) -> str:
    """One row per curve, one column per ratio; the unmasked baseline under 0 %."""
    ratios = curves[0].ratios
    head = ["method", "0 %", *(f"{ratio * 100:g} %" for ratio in ratios), "area"]
    rows = []
    for curve in curves:
        alone = curve.sees == "mask"
        rows.append(
            [
                f"{curve.method}, mask alone" if alone else curve.method,
                "" if alone else cell(baseline),
                *(cell(one) for one in curve.estimates),
                f"{curve.area:.3f}",
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


def csv_table(curves: Sequence[Curve], baseline: Estimate) -> str:
    """One line per point: method, what the network sees, ratio, mean, low, high."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "sees", "ratio", "accuracy", "low", "high"])
    writer.writerow(["baseline", "image", 0, *_numbers(baseline)])
    for curve in curves:
        for ratio, one in zip(curve.ratios, curve.estimates, strict=True):
            writer.writerow([curve.method, curve.sees, f"{ratio:g}", *_numbers(one)])
    return text.getvalue()


def _numbers(one: Estimate) -> list[str]:
    return [f"{number:.6f}" for number in (one.mean, one.low, one.high)]
