"""`report.html`: everything that was measured, in one file that needs no server and no other host."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from itertools import chain
from pathlib import Path
from string import Template

import numpy as np

from common.files import write_text
from evaluation.runs import Run, RunResult
from evaluation.statistics import Curve
from reporting.evaluation_summary import Chart
from reporting.labels import colours_of, dashes_of, spread
from reporting.measurement_summary import MeasurementSummary
from reporting.retrainings import Retrainings
from reporting.summary import Summary
from reporting.tables import flatten

HERE = Path(__file__).parent
BEST, WORST = (230, 159, 0), (247, 249, 251)  # colours of a cell, from the best place to the worst
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 440, 260, 34, 76, 30, 8
LABEL_DISTANCE = 10  # between the names at the ends of curves
TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
LARGEST_PICTURES = 3_000_000  # bytes of all pictures together
RUN_COLUMNS = ("evaluation", "dataset", "model", "method", "ensemble", "blur", "sees", "ratio", "seed")
RESULT_COLUMNS = ("accuracy", "removed_fraction", "tied_fraction", "seconds", "device")


def write_page(
    summaries: Sequence[Summary],
    retrainings: Retrainings,
    measurements: Sequence[MeasurementSummary],
    results: Path,
    suffix: str = "",
) -> Path:
    """Write `report<suffix>.html` into `results`, where answers and coherence pictures may lie; return its path."""
    links = [
        f'<a href="#{_anchor(summary)}">{escape(summary.dataset)}, {escape(summary.model)}</a>' for summary in summaries
    ]
    answers = {path.stem: path.read_text(encoding="utf-8") for path in sorted(results.glob("trust_*.html"))}
    answer_links = [f'<a href="#{escape(stem)}">{escape(stem.replace("_", " "))}</a>' for stem in answers]
    runs = retrainings.runs
    text = fill(
        "page.html",
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        links=" ".join([*answer_links, *links, *['<a href="#runs">all runs</a>'] * bool(runs)]),
        answers="\n".join(answers.values()),
        sections="\n".join(_section(summary, retrainings, measurements, results) for summary in summaries),
        runs=_runs(runs) if runs else "",
    )
    path = results / f"report{suffix}.html"
    write_text(path, text)
    return path


def fill(template: str, **values: object) -> str:
    return Template((HERE / template).read_text(encoding="utf-8")).substitute(values)


def _anchor(summary: Summary) -> str:
    return escape(f"{summary.dataset}-{summary.model}")


def _section(
    summary: Summary, retrainings: Retrainings, measurements: Sequence[MeasurementSummary], results: Path
) -> str:
    pair = (summary.dataset, summary.model)
    retrained = [part for part in retrainings.summaries if (part.dataset, part.model) == pair]
    measured = [part for part in measurements if (part.dataset, part.model) == pair]
    charts = [chart for parts in (retrained, measured) for part in parts for chart in part.charts]
    verdicts = "".join(
        f"<h3>{escape(part.title)}: can the curves be believed?</h3>\n{items(part.verdicts)}" for part in retrained
    )
    lead, columns = summary.note.split("\n\n", 1)
    head, *agreement = summary.agreement
    return fill(
        "section.html",
        anchor=_anchor(summary),
        title=escape(summary.title),
        table=_summary_table(summary),
        note=f'<p class="note">{escape(lead)}</p>{items(columns)}',
        agreement=cells_table(head, (map(text_cell, row) for row in agreement)),
        curves=curves_of_charts(charts, summary.methods) if charts else "\n\n",
        verdicts=verdicts,
        pictures=_pictures(summary, results),
    ).removesuffix("\n")


def items(lines: str) -> str:
    """Return lines that begin with "- " as a list."""
    items = "".join(f"<li>{escape(line.removeprefix('- '))}</li>" for line in lines.splitlines() if line.strip())
    return f'<ul class="note">{items}</ul>'


def cells_table(head: Iterable[str], rows: Iterable[Iterable[str]], style: str = "scroll") -> str:
    """Return a table that sorts; the cells are HTML with their `<td>`."""
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        f'<div class="{style}"><table class="sorts"><thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def text_cell(text: str, share: float = np.nan) -> str:
    """Return a cell, in the colour of its place: 0 the best, 1 the worst, NaN for no colour."""
    if np.isnan(share):
        return f"<td>{escape(text)}</td>"
    rgb = ",".join(str(round(best + share * (worst - best))) for best, worst in zip(BEST, WORST, strict=True))
    return f'<td style="background:rgb({rgb})">{escape(text)}</td>'


def _summary_table(summary: Summary) -> str:
    rows = (
        [text_cell(method), *map(text_cell, cells, shares)]
        for method, cells, shares in zip(summary.methods, summary.cells, summary.shares, strict=True)
    )
    return cells_table(summary.head, rows)


def curves_of_charts(charts: Sequence[Chart], methods: Iterable[str]) -> str:
    """Return the charts, and above them the legend with a box for each method to show and hide it."""
    drawn = (curve.method for chart in charts for curve in chart.curves)
    colours = colours_of(list(dict.fromkeys([*methods, *drawn])))
    boxes = "".join(
        f'<label><input type="checkbox" checked value="{escape(method)}"> '
        f'<i style="border-color:{colour}"></i> {escape(method)}</label>'
        for method, colour in colours.items()
    )
    figures = "".join(_figure(chart, colours) for chart in charts)
    return f'<h3>Curves</h3>\n<p class="keys">{boxes}</p>\n<div class="charts">{figures}</div>'


def _figure(chart: Chart, colours: Mapping[str, str]) -> str:
    curves = sorted(chart.curves, key=lambda curve: curve.network_input == "image")  # the bold ones over the thin ones
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(height):.1f}" y2="{_y(height):.1f}" stroke="#e3e7ea"/>'
        f'<text x="{LEFT - 5}" y="{_y(height) + 3:.1f}" text-anchor="end">{height:g}</text>'
        for height in TICKS
    )
    grid += "".join(
        f'<text x="{_x(ratio):.1f}" y="{HEIGHT - 16}" text-anchor="middle">{ratio * 100:g} %</text>' for ratio in TICKS
    )
    grid += f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 3}" text-anchor="middle">removed</text>'
    ends = {curve.method: _y(curve.means[-1]) for curve in curves if curve.network_input == "image"}
    names = sorted(ends, key=lambda name: ends[name])
    heights = spread([ends[name] for name in names], LABEL_DISTANCE, TOP + 4, HEIGHT - BOTTOM)
    labels = dict(zip(names, heights, strict=True))
    return fill(
        "chart.html",
        title=escape(chart.page_title or chart.title),
        width=WIDTH,
        height=HEIGHT,
        grid=grid,
        lines="".join(_line(curve, colours[curve.method], labels.get(curve.method)) for curve in curves),
        about=escape(chart.note) + " Thin: a network that sees the mask alone." * (curves[0].network_input == "mask"),
    )


def _x(ratio: float) -> float:
    return LEFT + ratio * (WIDTH - LEFT - RIGHT)


def _y(height: float) -> float:
    return HEIGHT - BOTTOM - height * (HEIGHT - BOTTOM - TOP)


def _line(curve: Curve, colour: str, label: float | None) -> str:
    """Return a curve with its numbers when the pointer rests on it: thin of the mask, else with its interval and name.

    Args:
        label: the height of the name at the curve's end.
    """

    def points(heights: Iterable[float]) -> list[str]:
        return [f"{_x(ratio):.1f},{_y(height):.1f}" for ratio, height in zip(curve.ratios, heights, strict=True)]

    numbers = ", ".join(f"{ratio * 100:g} %: {y:.3f}" for ratio, y in zip(curve.ratios, curve.means, strict=True))
    name, band, style = f"{curve.method}, mask alone", "", 'stroke-width="0.8"'
    if curve.network_input == "image":
        low = points(max(0, estimate.low) for estimate in curve.estimates)
        high = points(min(1, estimate.high) for estimate in curve.estimates)
        band = f'<polygon points="{" ".join([*low, *reversed(high)])}" fill="{colour}" opacity="0.15"/>'
        name, style = curve.method, 'stroke-width="2"'
        if dashes := dashes_of(curve.method):
            style += f' stroke-dasharray="{" ".join(f"{2 * length:g}" for length in dashes)}"'
    text = ""
    if label is not None and curve.network_input == "image":
        place = f'x="{_x(curve.ratios[-1]) + 4:.1f}" y="{label + 3:.1f}"'
        text = f'<text class="name" {place} style="fill:{colour}">{escape(curve.method)}</text>'
    return (
        f'<g data-method="{escape(curve.method)}">{band}<polyline points="{" ".join(points(curve.means))}" fill="none" '
        f'stroke="{colour}" {style}><title>{escape(name)}: {numbers}</title></polyline>{text}</g>'
    )


def _pictures(summary: Summary, results: Path) -> str:
    """Return the embedded coherence picture of the methods, if there is one and it is not too large."""
    image = embedded(results / f"coherence_{summary.dataset}_{summary.model}_methods.png", 'loading="lazy"')
    return f"<h3>Sample maps</h3>\n{image}" if image else ""


def embedded(path: Path, attribute: str) -> str:
    """Return a picture of maps as an element that holds it; empty if there is none, or it is too large."""
    if not path.exists() or path.stat().st_size > LARGEST_PICTURES:
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="maps of the methods" {attribute} src="data:image/png;base64,{data}">'


def _runs(runs: Mapping[Run, RunResult]) -> str:
    """Return the table of all retrainings; options that all have in common stand below it."""
    configurations = [flatten(run.configuration()) for run in runs]
    names = list(dict.fromkeys(chain.from_iterable(configurations)))
    others = [name for name in names if name not in RUN_COLUMNS]
    varying = [name for name in others if len({str(values.get(name)) for values in configurations}) > 1]
    columns = [name for name in (*RUN_COLUMNS, *varying) if name in names]
    rows = []
    for configuration, result in zip(configurations, runs.values(), strict=True):
        cells = ["" if configuration.get(name) is None else str(configuration[name]) for name in columns]
        numbers = [asdict(result)[name] for name in RESULT_COLUMNS]
        cells += [f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers]
        rows.append(map(text_cell, cells))
    common = {name: configurations[0].get(name) for name in others if name not in varying}
    items = "".join(f"<li>{escape(name)}: {escape(str(value))}</li>" for name, value in common.items())
    return (
        f'<section id="runs"><h2>All retrainings</h2><details><summary>{len(runs):,} runs</summary>'
        f"{cells_table([*columns, *RESULT_COLUMNS], rows, 'scroll long')}</details>"
        f'<p class="note">The same in all:</p><ul class="note">{items}</ul></section>'
    )
