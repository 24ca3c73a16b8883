"""`report.html`: everything that was measured, in one file that needs no server and no other host."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from itertools import chain
from pathlib import Path
from string import Template

import numpy as np

from common.files import write_text
from evaluation import RECORDED_ORDERS
from evaluation.runs import Run, RunResult
from evaluation.statistics import Curve
from reporting.palette import colours_of
from reporting.removal_summary import RemovalSummary
from reporting.report import Retrainings
from reporting.retraining_summary import RetrainingSummary
from reporting.summary import Summary
from reporting.tables import flat

HERE = Path(__file__).parent
DASHES = {"RANDOM": "6 4", "SOBEL": "2 3"}
BEST, WORST = (230, 159, 0), (247, 249, 251)  # colours of a cell, from the best place to the worst
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 400, 260, 34, 30, 8
LARGEST_PICTURES = 3_000_000  # bytes of all pictures together
SHOWN_OF_RUN = ("evaluation", "dataset", "model", "method", "ensemble", "blur", "sees", "ratio", "seed")


@dataclass(frozen=True)
class Chart:
    """Some curves in one picture.

    Attributes:
        image: of networks that see images; drawn bold.
        alone: of networks that see the mask alone; drawn thin.
    """

    title: str
    about: str
    image: Sequence[Curve]
    alone: Sequence[Curve] = ()


def charts_of(findings: Iterable[RetrainingSummary], removals: Iterable[RemovalSummary]) -> list[Chart]:
    """Return a chart for each retraining evaluation, and two for each other one."""
    charts = [Chart(one.title, one.conditions, one.images, one.masks) for one in findings]
    for one in removals:
        for order in RECORDED_ORDERS.values():
            title = f"{one.title}: {order} important first"
            charts.append(Chart(title, one.note, one.curves(order, one.settings.value)))
    return charts


def page(
    summaries: Sequence[Summary], retrainings: Retrainings, removals: Sequence[RemovalSummary], results: Path
) -> str:
    """Return the whole page.

    Args:
        results: the folder in which coherence pictures may lie.
    """
    links = [f'<a href="#{_anchor(one)}">{escape(one.dataset)}, {escape(one.model)}</a>' for one in summaries]
    runs = dict(chain.from_iterable(one.ordered.items() for one in retrainings.summaries))
    return _filled(
        "page.html",
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        links=" ".join([*links, *['<a href="#runs">all runs</a>'] * bool(runs)]),
        sections="\n".join(_section(one, retrainings, removals, results) for one in summaries),
        runs=_runs(runs) if runs else "",
    )


def _filled(template: str, **values: object) -> str:
    return Template((HERE / template).read_text(encoding="utf-8")).substitute(values)


def write_page(
    summaries: Sequence[Summary], retrainings: Retrainings, removals: Sequence[RemovalSummary], results: Path
) -> Path:
    path = results / "report.html"
    write_text(path, page(summaries, retrainings, removals, results))
    return path


def _anchor(one: Summary) -> str:
    return escape(f"{one.dataset}-{one.model}")


def _section(one: Summary, retrainings: Retrainings, removals: Sequence[RemovalSummary], results: Path) -> str:
    retrained = [
        each for each in retrainings.summaries if (each.protocol.dataset, each.model) == (one.dataset, one.model)
    ]
    removed = [each for each in removals if (each.dataset, each.model) == (one.dataset, one.model)]
    charts = charts_of(retrained, removed)
    verdicts = "".join(
        f"<h3>{escape(each.title)}: can the curves be believed?</h3>\n{_items(each.verdicts)}" for each in retrained
    )
    lead, columns = one.note.split("\n\n", 1)
    curves = f"<h3>Curves</h3>\n{_keys(one.methods)}\n{_charts(charts, one.methods)}" if charts else "\n\n"
    return _filled(
        "section.html",
        anchor=_anchor(one),
        title=escape(one.title),
        table=_summary_table(one),
        note=_items(columns, lead),
        agreement=_agreement(one),
        curves=curves,
        verdicts=verdicts,
        pictures=_pictures(one, results),
    ).removesuffix("\n")


def _items(lines: str, lead: str = "") -> str:
    """Return lines that begin with "- " as a list."""
    items = "".join(f"<li>{escape(line.removeprefix('- '))}</li>" for line in lines.splitlines() if line.strip())
    return (f'<p class="note">{escape(lead)}</p>' if lead else "") + f'<ul class="note">{items}</ul>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], long: bool = False) -> str:
    """Return a table that sorts; the cells are HTML with their `<td>`."""
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        f'<div class="scroll{" long" if long else ""}"><table class="sorts"><thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(text: str, background: str = "") -> str:
    style = f' style="background:{background}"' if background else ""
    return f"<td{style}>{escape(text)}</td>"


def _summary_table(one: Summary) -> str:
    rows = [
        [
            _cell(method),
            *(
                _cell(column.cell(method), "" if np.isnan(share) else _mixed(share))
                for column, share in zip(one.columns, shares, strict=True)
            ),
        ]
        for method, shares in zip(one.methods, one.shares, strict=True)
    ]
    return _table(["method", *one.heads], rows)


def _mixed(share: float) -> str:
    """The colour of a place: 0 the best, 1 the worst."""
    mixed = (round(best + share * (worst - best)) for best, worst in zip(BEST, WORST, strict=True))
    return f"rgb({','.join(map(str, mixed))})"


def _agreement(one: Summary) -> str:
    head, *rows = one.agreement
    return _table(head, [[_cell(text) for text in row] for row in rows])


def _keys(methods: Sequence[str]) -> str:
    """Return the legend, with a box for each method to show and hide it."""
    colours = colours_of(methods)
    boxes = "".join(
        f'<label><input type="checkbox" checked value="{escape(method)}"> '
        f'<i style="border-color:{colours[method]}"></i> {escape(method)}</label>'
        for method in methods
    )
    return f'<p class="keys">{boxes}</p>'


def _charts(charts: Iterable[Chart], methods: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(_figure(chart, methods) for chart in charts)}</div>'


def _figure(chart: Chart, methods: Sequence[str]) -> str:
    colours = colours_of(methods)
    lines = [_line(curve, colours[curve.method], thin=True) for curve in chart.alone]
    lines += [_line(curve, colours[curve.method], thin=False) for curve in chart.image]
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - 6}" y1="{_y(height):.1f}" y2="{_y(height):.1f}" stroke="#e3e7ea"/>'
        f'<text x="{LEFT - 5}" y="{_y(height) + 3:.1f}" text-anchor="end">{height:g}</text>'
        for height in (0, 0.2, 0.4, 0.6, 0.8, 1)
    )
    ticks = "".join(
        f'<text x="{_x(ratio):.1f}" y="{HEIGHT - 16}" text-anchor="middle">{ratio * 100:g} %</text>'
        for ratio in (0, 0.2, 0.4, 0.6, 0.8, 1)
    )
    words = f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 3}" text-anchor="middle">removed</text>'
    return _filled(
        "chart.html",
        title=escape(chart.title),
        width=WIDTH,
        height=HEIGHT,
        grid=grid + ticks + words,
        lines="".join(lines),
        about=escape(chart.about) + " Thin: a network that sees the mask alone." * bool(chart.alone),
    )


def _x(ratio: float) -> float:
    return LEFT + ratio * (WIDTH - LEFT - 18)


def _y(height: float) -> float:
    return HEIGHT - BOTTOM - height * (HEIGHT - BOTTOM - TOP)


def _line(curve: Curve, colour: str, thin: bool) -> str:
    """Draw a curve with its interval as a band, and its numbers when the pointer rests on it."""
    points = [(_x(ratio), _y(one.mean)) for ratio, one in zip(curve.ratios, curve.estimates, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    numbers = ", ".join(
        f"{ratio * 100:g} %: {one.mean:.3f}" for ratio, one in zip(curve.ratios, curve.estimates, strict=True)
    )
    dash = f' stroke-dasharray="{DASHES[curve.method]}"' if curve.method in DASHES and not thin else ""
    width = 0.8 if thin else 2
    name = f"{curve.method}, mask alone" if thin else curve.method
    band = ""
    if not thin:
        sides = [
            [
                f"{_x(ratio):.1f},{_y(min(1, max(0, getattr(one, side)))):.1f}"
                for ratio, one in zip(curve.ratios, curve.estimates, strict=True)
            ]
            for side in ("low", "high")
        ]
        band = f'<polygon points="{" ".join([*sides[0], *reversed(sides[1])])}" fill="{colour}" opacity="0.15"/>'
    return (
        f'<g data-method="{escape(curve.method)}">{band}<polyline points="{path}" fill="none" stroke="{colour}" '
        f'stroke-width="{width}"{dash}><title>{escape(name)}: {numbers}</title></polyline></g>'
    )


def _pictures(one: Summary, results: Path) -> str:
    """Embed the coherence pictures of the methods, if there are any and they are not too large together."""
    shown, size = [], 0
    for path in sorted(results.glob(f"coherence_{one.dataset}_{one.model}_methods.png")):
        content = path.read_bytes()
        size += len(content)
        if size <= LARGEST_PICTURES:
            data = base64.b64encode(content).decode()
            shown.append(f'<img alt="maps of the methods" loading="lazy" src="data:image/png;base64,{data}">')
    return f"<h3>Sample maps</h3>\n{''.join(shown)}" if shown else ""


def _runs(runs: Mapping[Run, RunResult]) -> str:
    """Return the table of all retrainings; options that all have in common stand below it."""
    configurations = [flat(run.configuration()) for run in runs]
    names = list(dict.fromkeys(chain.from_iterable(configurations)))
    rest = [name for name in names if name not in SHOWN_OF_RUN]
    varying = [name for name in rest if len({str(one.get(name)) for one in configurations}) > 1]
    same = {name: configurations[0].get(name) for name in rest if name not in varying}
    columns = [name for name in (*SHOWN_OF_RUN, *varying) if name in names]
    measured = ("accuracy", "removed_fraction", "tied_fraction", "seconds", "device")
    rows = []
    for configuration, result in zip(configurations, runs.values(), strict=True):
        cells = ["" if configuration.get(name) is None else str(configuration[name]) for name in columns]
        numbers = [asdict(result)[name] for name in measured]
        cells += [f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers]
        rows.append([_cell(text) for text in cells])
    common = "".join(f"<li>{escape(name)}: {escape(str(value))}</li>" for name, value in same.items())
    return (
        f'<section id="runs"><h2>All retrainings</h2><details><summary>{len(runs):,} runs</summary>'
        f"{_table([*columns, *measured], rows, long=True)}</details>"
        f'<p class="note">The same in all:</p><ul class="note">{common}</ul></section>'
    )
