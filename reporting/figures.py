"""Figures: PNG for screens, PDF for print."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.files import atomic_write
from evaluation.statistics import Estimate
from reporting.evaluation_summary import Chart
from reporting.labels import colours_of, colours_of_models, dashes_of, spread

if TYPE_CHECKING:
    from reporting.selectivity_summary import SelectivityCurve
    from reporting.summary import Summary
    from reporting.training_curves import TrainingCurve

LABEL_DISTANCE = 0.045  # of the height of the axes
LEADER = 0.05  # of the width of the axes, from the end of a curve to its name
LETTERS_PER_INCH = 20  # of a note
MOST_COLUMNS = 3  # of panels in a row
FEW = 4  # methods, up to which the curves of their masks have labels too

Label = tuple[Sequence[float], str, str, float]  # heights of the curve, text, colour, font size


def draw_curves(panels: Sequence[Chart], note: str) -> Figure:
    """Draw accuracy over the fraction removed; the mask alone as a thin line in the colour of its method."""
    columns = min(len(panels), MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    figure, grid = new_figure((7.2 if columns == 1 else 5.6 * columns, 4.6 * rows), rows, columns)
    colours = colours_of(list(dict.fromkeys(curve.method for panel in panels for curve in panel.curves)))
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel, colours)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    return _with_note(figure, note)


def _draw_panel(axes: Axes, panel: Chart, colours: Mapping[str, str]) -> None:
    labels: list[Label] = []
    few = len({curve.method for curve in panel.curves}) <= FEW
    for curve in panel.curves:
        colour = colours[curve.method]
        percent = [100 * ratio for ratio in curve.ratios]
        if curve.network_input == "mask":
            style = {"linestyle": _line_style(curve.method), "linewidth": 0.9, "marker": "x", "markersize": 3.5}
            axes.plot(percent, curve.means, color=colour, alpha=0.75, **style)
            labels += [(curve.means, f"{curve.method}, mask alone", colour, 7.5)] if few else []
            continue
        points = [panel.baselines[curve.method], *curve.estimates]
        style = {"linewidth": 2 if few else 1.6, "marker": "o", "markersize": 3.5 if few else 2.5}
        _draw_line(axes, [0, *percent], points, curve.method, colour, 0.18, **style)
        labels.append((curve.means, curve.method, colour, 9.0 if few else 8.0))
    if panel.chance is not None:
        height, name = panel.chance
        axes.axhline(height, color="#999999", linewidth=0.8, linestyle=(0, (1, 3)))
        axes.text(0, height + 0.012, name, color="#777777", fontsize=7.5)
    end = 100 * max(curve.ratios[-1] for curve in panel.curves)
    axes.set(xlabel=f"{panel.removed} (%)", ylabel=panel.ylabel, xlim=(-2, end + 1), ylim=(0, 1.02))
    _finish(axes, panel.title)
    _label_ends(axes, labels, end)


def _draw_line(
    axes: Axes, x: Sequence[float], points: Sequence[Estimate], method: str, colour: str, alpha: float, **style: Any
) -> None:
    """Draw the means of a method as a line, and their intervals as a band."""
    axes.plot(x, [point.mean for point in points], color=colour, linestyle=_line_style(method), **style)
    low, high = [point.low for point in points], [point.high for point in points]
    axes.fill_between(x, low, high, color=colour, alpha=alpha, linewidth=0)


def draw_lines(
    panels: Mapping[str, Mapping[str, Sequence[float]]], ticks: Sequence[str], xlabel: str, note: str
) -> Figure:
    """Draw a panel for each quantity (its name is the title): a line for each method over the ticks, from 0 to 1."""
    figure, (row,) = new_figure((5.6 * len(panels), 4.6), 1, len(panels))
    for axes, (title, lines) in zip(row, panels.items(), strict=True):
        colours = colours_of(list(lines))
        for method, values in lines.items():
            axes.plot(values, color=colours[method], linestyle=_line_style(method), marker="o", markersize=3)
        axes.set_xticks(range(len(ticks)), ticks, rotation=30, ha="right", fontsize=7)
        axes.set(xlabel=xlabel, ylim=(min(0.0, *(min(values) for values in lines.values())) - 0.02, 1.02))
        _finish(axes, title)
        labels = [(values, method, colours[method], 8.0) for method, values in lines.items()]
        _label_ends(axes, labels, len(ticks) - 1)
    return _with_note(figure, note)


def draw_summary(summary: "Summary") -> Figure:
    """Draw methods × evaluations with their numbers, coloured by place, and the agreement of the evaluations."""
    rows, columns = summary.methods, summary.head[1:]
    height = 0.34 * max(len(rows), len(columns)) + 1.6
    figure, ((left, *others),) = new_figure((1.87 * len(columns) + 3.2, height), 1, 1 + (len(columns) > 1))
    for row, cells in enumerate(summary.cells):
        for place, text in enumerate(cells):
            colour = "white" if summary.shares[row, place] < 0.35 else "black"
            left.text(place, row, text.replace(" ± ", "\n± "), ha="center", va="center", fontsize=6, color=colour)
    left.imshow(summary.shares, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    left.set_yticks(range(len(rows)), rows, fontsize=8)
    left.set_title(f"{summary.title}: dark is best", loc="left", fontsize=10)
    for right in others:
        right.imshow(summary.correlations, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
        for (row, place), value in np.ndenumerate(summary.correlations):
            if not np.isnan(value):
                colour = "white" if abs(value) > 0.6 else "black"
                right.text(place, row, f"{value:+.2f}", ha="center", va="center", fontsize=6.5, color=colour)
        right.set_yticks(range(len(columns)), columns, fontsize=7)
        right.set_title("do the evaluations agree? (rank correlation)", loc="left", fontsize=10)
    for axes in (left, *others):
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", fontsize=8)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return _with_note(figure, summary.figure_note)


def draw_accuracies(curves: Sequence["SelectivityCurve"], title: str, note: str) -> Figure:
    """Draw selectivity: accuracy over the number of pixels removed, with intervals."""
    figure, ((axes,),) = new_figure((7.2, 4.6), 1, 1)
    colours, steps = colours_of([curve.method for curve in curves]), len(curves[0].accuracy)
    for curve in curves:
        _draw_line(axes, range(steps), curve.accuracy, curve.method, colours[curve.method], 0.12, linewidth=1.6)
    axes.set(xlabel="pixels removed", ylabel="accuracy", xlim=(0, steps - 1), ylim=(0, 1.02))
    _finish(axes, title)
    labels = [([point.mean for point in curve.accuracy], curve.method, colours[curve.method], 8.5) for curve in curves]
    _label_ends(axes, labels, steps - 1)
    return _with_note(figure, note)


def draw_scores(curves: Sequence["SelectivityCurve"], title: str, note: str, images: int = 100) -> Figure:
    """Draw selectivity: one panel per method, the score of some images in thin lines, the mean of all in bold."""
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure, panels = new_figure((2.1 * columns + 0.6, 1.9 * rows + 0.7), rows, columns)
    colours = colours_of([curve.method for curve in curves])
    for place, (axes, curve) in enumerate(zip(panels.flat, curves, strict=False)):
        axes.plot(curve.score[:images].T, color=colours[curve.method], linewidth=0.4, alpha=0.35)
        axes.plot(curve.score.mean(axis=0), color="black", linewidth=2)
        axes.set(xlim=(0, curve.score.shape[1] - 1), ylim=(0, 1.02))
        _finish(axes, curve.method, size=9)
        axes.tick_params(labelsize=7, labelleft=place % columns == 0, labelbottom=place + columns >= len(curves))
    for axes in panels.flat[len(curves) :]:
        axes.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.supxlabel("pixels removed", fontsize=9)
    figure.supylabel("probability of the class", fontsize=9)
    thin = f"Thin: {min(images, len(curves[0].score))} images. Bold: the mean of all."
    return _with_note(figure, f"{thin}\n{note}")


def draw_training(panels: Mapping[str, Sequence["TrainingCurve"]], note: str) -> Figure:
    """Draw a panel for each quantity (its name is the title): the mean over the seeds by epoch, each seed thin."""
    figure, (row,) = new_figure((6.2 * len(panels), 4.6), 1, len(panels))
    colours = colours_of_models(curve.model for curves in panels.values() for curve in curves)
    for axes, (title, curves) in zip(row, panels.items(), strict=True):
        last = max(len(curve.means) for curve in curves)
        for curve in curves:
            colour, epochs = colours[curve.model], range(1, len(curve.means) + 1)
            for values in curve.seeds if len(curve.seeds) > 1 else ():
                axes.plot(epochs, values, color=colour, linewidth=0.6, alpha=0.6)
            axes.plot(epochs, curve.means, color=colour, linewidth=1.8, marker="o", markersize=3)
            ends = [epochs[-1], 1.02 * last], [curve.means[-1]] * 2
            axes.plot(*ends, color=colour, linewidth=0.8, linestyle=(0, (1, 2)))  # from the last epoch to the name
        axes.set(xlabel="epoch", xlim=(0, 1.02 * last))
        axes.xaxis.get_major_locator().set_params(integer=True)
        _finish(axes, title)
        low, high = axes.get_ylim()
        labels = [(curve.means, curve.label, colours[curve.model], 8.5) for curve in curves]
        _label_ends(axes, labels, 1.02 * last, span=high - low)
    return _with_note(figure, note)


def _line_style(method: str) -> Any:
    """Return matplotlib's name of the method's dashes."""
    return (0, dashes) if (dashes := dashes_of(method)) else "-"


def _finish(axes: Axes, title: str, size: float = 11) -> None:
    axes.set_title(title, loc="left", fontsize=size)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)


def new_figure(size: tuple[float, float], rows: int, columns: int) -> tuple[Figure, Any]:
    """Return a figure of `size` in inches with a grid of axes: `axes[row][column]`."""
    figure = Figure(figsize=size, layout="constrained")  # not pyplot's, so that no backend is set and none is left open
    return figure, figure.subplots(rows, columns, squeeze=False)


def _with_note(figure: Figure, note: str) -> Figure:
    """Write a note below a figure, in lines no longer than it is wide."""
    letters = round(figure.get_figwidth() * LETTERS_PER_INCH)
    lines = [part for line in note.splitlines() for part in textwrap.wrap(line, letters)]
    figure.text(0.01, -0.01, "\n".join(lines), fontsize=7, color="#555555", va="top")
    return figure


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write `figure` to `path` with the suffixes .png and .pdf; return the paths."""
    paths = []
    for suffix, metadata in ((".png", None), (".pdf", {"CreationDate": None})):
        file = path.with_name(path.name + suffix)
        with atomic_write(file) as unfinished:
            figure.savefig(unfinished, format=suffix[1:], dpi=160, bbox_inches="tight", metadata=metadata)
        paths.append(file)
    return paths


def _label_ends(axes: Axes, labels: Sequence[Label], end: float, span: float = 1.0) -> None:
    """Write each curve's name beside its end, with a thin line to it; where curves meet, by their mean heights.

    Args:
        end: of the curves, in units of the x-axis.
        span: height of the axes in units of the curves.
    """
    low, high = axes.get_xlim()
    leader, letters = end + LEADER * (high - low), end + (LEADER + 0.01) * (high - low)
    ordered = sorted(labels, key=lambda label: (round(label[0][-1] / span, 2), sum(label[0])))
    lowest, highest = axes.get_ylim()
    distance = LABEL_DISTANCE * span
    heights = spread([float(label[0][-1]) for label in ordered], distance, lowest + distance / 2, highest)
    for height, (values, text, colour, size) in zip(heights, ordered, strict=True):
        ends = [end, leader], [values[-1], height]
        axes.plot(*ends, color=colour, linewidth=0.6, alpha=0.6, clip_on=False, scalex=False, scaley=False)
        axes.text(letters, height, text, color=colour, fontsize=size, va="center", clip_on=False)
