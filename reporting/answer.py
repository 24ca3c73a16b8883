"""The part of the page that answers which explanation of one network can be trusted."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from common.files import write_text
from evaluation.statistics import mean_interval
from evaluation.trust import Comparison
from reporting.evaluation_summary import Column
from reporting.labels import NOT_TRUSTED, TRUSTED
from reporting.page import cells_table, curves_of_charts, embedded, fill, items, text_cell
from reporting.summary import Summary
from reporting.trust_summary import RANKED, TrustSummary

NAMES, ROW, WIDTH, MARGIN = 92, 17, 380, 14  # pixels


def write_answer(summary: TrustSummary, picture: Path, results: Path) -> Path:
    """Write the answer as a part of the page, `<stem>.html` in `results`, from which `write_page` takes it."""
    head, *correlations = Summary(summary.dataset, summary.model, tuple(_columns(summary))).agreement
    maps = embedded(picture, 'class="wide"')
    text = fill(
        "answer.html",
        anchor=escape(summary.stem),
        title=escape(summary.title),
        headline=escape(summary.headline),
        explanation=escape(summary.explanation),
        accuracy=escape(summary.accuracy_line),
        refusals=_reasons(f"Don’t use, with pixels ranked by {RANKED[summary.rank]}", summary.refusals)
        + _reasons("Left out", summary.left_out),
        pictures=f'<h3>Maps</h3><div class="scroll">{maps}</div>' if maps else "",
        differences="".join(_differences(summary)),
        curves=curves_of_charts(summary.charts, summary.ranking),
        table=cells_table(summary.rows[0], (map(text_cell, row) for row in summary.rows[1:])),
        groups=items("\n".join(summary.groups)),
        agreement=cells_table(head, (map(text_cell, row) for row in correlations)),
        note=items(summary.note),
    )
    path = results / f"{summary.stem}.html"
    write_text(path, text)
    return path


def _columns(summary: TrustSummary) -> Iterator[Column]:
    for part in summary.evaluations:
        values = {method: mean_interval(of_method) for method, of_method in part.values.items()}
        yield Column(part.name, part.about, part.higher_is_better, values)


def _reasons(title: str, reasons: Mapping[str, str]) -> str:
    """Return a list of methods, each with the reason against it; empty without any."""
    lines = "".join(f"<li><b>{escape(method)}</b>: {escape(reason)}</li>" for method, reason in reasons.items())
    return f"<h3>{title}</h3><ul>{lines}</ul>" if lines else ""


def _differences(summary: TrustSummary) -> Iterator[str]:
    """Yield a chart for each evaluation: the difference of each method from RANDOM."""
    for part in summary.evaluations:
        family = part.against("RANDOM") if part.is_compared else {}
        methods = [method for method in (*summary.ranking, "SOBEL") if method in family]
        if methods:
            rows = {method: family[method] for method in methods}
            yield f"<figure><figcaption>{escape(part.name)}</figcaption>{_dots(rows, summary.recommended)}</figure>"


def _dots(rows: Mapping[str, Comparison], trusted: Sequence[str]) -> str:
    low, high = min(0.0, *(row.low for row in rows.values())), max(0.0, *(row.high for row in rows.values()))
    height = ROW * len(rows) + 30

    def x(value: float) -> float:
        return NAMES + MARGIN + (value - low) / (high - low or 1) * (WIDTH - NAMES - 2 * MARGIN)

    parts = [f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="4" y2="{height - 22}" stroke="#444" stroke-dasharray="4 3"/>']
    for value in sorted({low, 0.0, high}):
        if value == 0 or abs(x(value) - x(0)) > 30:
            parts.append(f'<text x="{x(value):.1f}" y="{height - 8}" text-anchor="middle">{value:+.2f}</text>')
    for place, (method, row) in enumerate(rows.items()):
        y, colour = ROW * place + 14, TRUSTED if method in trusted else NOT_TRUSTED
        face = colour if row.is_different else "#fff"
        parts.append(
            f"<g><title>{escape(method)}: {row.mean:+.3f} ({row.low:+.3f} to {row.high:+.3f}), p {row.p:.2g} after "
            f'correction</title><text x="{NAMES}" y="{y + 3.5}" text-anchor="end">{escape(method)}</text>'
            f'<line x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x(row.mean):.1f}" cy="{y}" r="4" fill="{face}" stroke="{colour}" stroke-width="1.5"/></g>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="difference from RANDOM">{"".join(parts)}</svg>'
