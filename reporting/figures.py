"""Curves as figures: PNG to look at, PDF to print."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.files import atomic_write
from evaluation.statistics import Curve, Estimate
from reporting.palette import colours_of
from reporting.selectivity import SelectivityCurve

LINES = {"RANDOM": (0, (5, 3)), "SOBEL": (0, (1, 1.5))}
LABEL_DISTANCE = 0.045  # of the height of the axes
LETTERS_PER_INCH = 20  # of a note
FEW = 4  # methods, up to which the curves of their masks have labels too


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Attributes:
        curves: of networks that see images, and of those that see the mask alone.
        baselines: for each method the accuracy on unmasked images, where its curve begins.
        chance: a height and its name, for a dotted line; None draws no line.
        removed: what the fraction is of, in words.
    """

    title: str
    curves: Sequence[Curve]
    baselines: Mapping[str, Estimate]
    chance: tuple[float, str] | None
    removed: str
    ylabel: str = "test accuracy after retraining"


def draw_curves(panels: Sequence[Panel], note: str, path: Path, title: str = "") -> list[Path]:
    """Accuracy over the fraction removed; the mask alone as a thin line in the colour of its method.

    Returns:
        the paths of the files written: `path` with the suffixes .png and .pdf.
    """
    width = 7.2 if len(panels) == 1 else 5.6 * len(panels)
    figure, (row,) = new_figure((width, 4.6), 1, len(panels))
    names = list(dict.fromkeys(curve.method for panel in panels for curve in panel.curves))
    for axes, panel in zip(row, panels, strict=True):
        _draw_panel(axes, panel, colours_of(names))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    _write_note(figure, note)
    return save_figure(figure, path)


def _draw_panel(axes: Axes, panel: Panel, colours: Mapping[str, str]) -> None:
    labels = []
    few = len({curve.method for curve in panel.curves}) <= FEW
    for curve in panel.curves:
        colour = colours[curve.method]
        percent = [100 * ratio for ratio in curve.ratios]
        if curve.sees == "mask":
            axes.plot(percent, curve.means, color=colour, linewidth=0.9, marker="x", markersize=3.5, alpha=0.75)
            if few:
                labels.append((curve.means, f"{curve.method}, mask alone", colour, 7.5))
            continue
        baseline = panel.baselines[curve.method]
        axes.plot(
            [0, *percent],
            [baseline.mean, *curve.means],
            color=colour,
            linewidth=2 if few else 1.6,
            linestyle=LINES.get(curve.method, "-"),
            marker="o",
            markersize=3.5 if few else 2.5,
        )
        low, high = ([getattr(one, side) for one in (baseline, *curve.estimates)] for side in ("low", "high"))
        axes.fill_between([0, *percent], low, high, color=colour, alpha=0.18, linewidth=0)
        labels.append((curve.means, curve.method, colour, 9.0 if few else 8.0))
    if panel.chance is not None:
        height, name = panel.chance
        axes.axhline(height, color="#999999", linewidth=0.8, linestyle=(0, (1, 3)))
        axes.text(0, height + 0.012, name, color="#777777", fontsize=7.5)
    axes.set(xlabel=f"{panel.removed} (%)", ylabel=panel.ylabel)
    axes.set(xlim=(-2, 101), ylim=(0, 1.02))
    _finish(axes, panel.title)
    _label_ends(axes, labels, x=100 * max(curve.ratios[-1] for curve in panel.curves) + 1.5)


def draw_lines(
    panels: Mapping[str, Mapping[str, Sequence[float]]], ticks: Sequence[str], xlabel: str, note: str, path: Path
) -> list[Path]:
    """A panel for each quantity (its name is the title): a line for each method over named places, from 0 to 1."""
    figure, (row,) = new_figure((5.6 * len(panels), 4.6), 1, len(panels))
    for axes, (title, lines) in zip(row, panels.items(), strict=True):
        colours, labels = colours_of(list(lines)), []
        for method, values in lines.items():
            axes.plot(values, color=colours[method], linestyle=LINES.get(method, "-"), marker="o", markersize=3)
            labels.append((values, method, colours[method], 8.0))
        axes.set_xticks(range(len(ticks)), ticks, rotation=30, ha="right", fontsize=7)
        axes.set(xlabel=xlabel, ylim=(min(0.0, *(min(values) for values in lines.values())) - 0.02, 1.02))
        _finish(axes, title)
        _label_ends(axes, labels, x=len(ticks) - 0.9)
    _write_note(figure, note)
    return save_figure(figure, path)


@dataclass(frozen=True)
class Grid:
    """Numbers of methods in several evaluations.

    Attributes:
        cells: (rows, columns) of text; empty where there is none.
        places: (rows, columns) from 0, the best, to 1, the worst; NaN where there is none.
        agreement: (columns, columns), correlations between the columns.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[str]]
    places: Any
    agreement: Any


def draw_grid_of_places(grid: Grid, note: str, path: Path) -> list[Path]:
    """Methods × evaluations with their numbers, coloured by place; beside it how the evaluations agree."""
    height = 0.34 * max(len(grid.rows), len(grid.columns)) + 1.6
    figure, ((left, right),) = new_figure((1.87 * len(grid.columns) + 3.2, height), 1, 2)
    for row, cells in enumerate(grid.cells):
        for place, text in enumerate(cells):
            colour = "white" if grid.places[row, place] < 0.35 else "black"
            words = text.replace(" ± ", "\n± ")
            left.text(place, row, words, ha="center", va="center", fontsize=6, color=colour)
    left.imshow(grid.places, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    left.set_yticks(range(len(grid.rows)), grid.rows, fontsize=8)
    left.set_title(f"{grid.title}: dark is best", loc="left", fontsize=10)
    right.imshow(grid.agreement, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for row, values in enumerate(grid.agreement):
        for place, value in enumerate(values):
            if not np.isnan(value):
                colour = "white" if abs(value) > 0.6 else "black"
                right.text(place, row, f"{value:+.2f}", ha="center", va="center", fontsize=6.5, color=colour)
    right.set_yticks(range(len(grid.columns)), grid.columns, fontsize=7)
    right.set_title("do the evaluations agree? (rank correlation)", loc="left", fontsize=10)
    for axes in (left, right):
        axes.set_xticks(range(len(grid.columns)), grid.columns, rotation=30, ha="right", fontsize=8)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    _write_note(figure, note)
    return save_figure(figure, path)


def draw_falls(falls: Sequence[SelectivityCurve], title: str, note: str, path: Path) -> list[Path]:
    """Selectivity: accuracy over the number of pixels removed, with intervals."""
    figure, ((axes,),) = new_figure((7.2, 4.6), 1, 1)
    colours = colours_of([fall.method for fall in falls])
    labels = []
    for fall in falls:
        colour, means = colours[fall.method], [one.mean for one in fall.accuracy]
        low, high = ([getattr(one, side) for one in fall.accuracy] for side in ("low", "high"))
        axes.plot(means, color=colour, linewidth=1.6, linestyle=LINES.get(fall.method, "-"))
        axes.fill_between(range(len(means)), low, high, color=colour, alpha=0.12, linewidth=0)
        labels.append((means, fall.method, colour, 8.5))
    steps = len(falls[0].accuracy) - 1
    axes.set(xlabel="pixels removed", ylabel="accuracy", xlim=(0, steps), ylim=(0, 1.02))
    _finish(axes, title)
    _label_ends(axes, labels, x=1.015 * steps)
    _write_note(figure, note)
    return save_figure(figure, path)


def draw_scores(falls: Sequence[SelectivityCurve], title: str, note: str, path: Path, images: int = 100) -> list[Path]:
    """Selectivity: one panel per method, the score of some images in thin lines, the mean of all in bold."""
    columns = min(4, len(falls))
    rows = -(-len(falls) // columns)
    figure, panels = new_figure((2.1 * columns + 0.6, 1.9 * rows + 0.7), rows, columns)
    colours = colours_of([fall.method for fall in falls])
    for place, axes in enumerate(panels.flat):
        if place >= len(falls):
            axes.set_axis_off()
            continue
        fall = falls[place]
        axes.plot(fall.score[:images].T, color=colours[fall.method], linewidth=0.4, alpha=0.35)
        axes.plot(fall.score.mean(axis=0), color="black", linewidth=2)
        axes.set(xlim=(0, fall.score.shape[1] - 1), ylim=(0, 1.02))
        _finish(axes, fall.method, size=9)
        axes.tick_params(labelsize=7, labelleft=place % columns == 0, labelbottom=place + columns >= len(falls))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.supxlabel("pixels removed", fontsize=9)
    figure.supylabel("probability of the class", fontsize=9)
    about = f"Thin: {min(images, len(falls[0].score))} images. Bold: the mean of all."
    _write_note(figure, f"{about}\n{note}")
    return save_figure(figure, path)


def _write_note(figure: Figure, note: str) -> None:
    """Below the figure, in lines no longer than it is wide."""
    letters = round(figure.get_figwidth() * LETTERS_PER_INCH)
    lines = [part for line in note.splitlines() for part in textwrap.wrap(line, letters)]
    figure.text(0.01, -0.01, "\n".join(lines), fontsize=7, color="#555555", va="top")


def _finish(axes: Axes, title: str, size: float = 11) -> None:
    axes.set_title(title, loc="left", fontsize=size)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)


def new_figure(size: tuple[float, float], rows: int, columns: int) -> tuple[Figure, Any]:
    """A figure of `size` in inches with a grid of axes: `axes[row][column]`."""
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write `figure` to `path` with the suffixes .png and .pdf, which are returned, and close it."""
    written = []
    for suffix, metadata in ((".png", None), (".pdf", {"CreationDate": None})):
        file = path.with_name(path.name + suffix)
        with atomic_write(file) as unfinished:
            figure.savefig(unfinished, format=suffix[1:], dpi=160, bbox_inches="tight", metadata=metadata)
        written.append(file)
    plt.close(figure)
    return written


def _label_ends(axes: Axes, labels: Sequence[tuple[Sequence[float], str, str, float]], x: float) -> None:
    """Write each curve's name at its end; where curves meet, in the order of their mean heights."""
    ordered = sorted(labels, key=lambda label: (round(label[0][-1], 2), sum(label[0])), reverse=True)
    lowest = axes.get_ylim()[0] + LABEL_DISTANCE
    heights = spread([float(label[0][-1]) for label in ordered], LABEL_DISTANCE, lowest)
    for height, (_values, text, colour, size) in zip(heights, ordered, strict=True):
        axes.text(x, height, text, color=colour, fontsize=size, va="center", clip_on=False)


def spread(heights: Sequence[float], distance: float, lowest: float) -> list[float]:
    """Descending heights, moved down to lie `distance` apart, and up again where that leads below `lowest`."""
    placed: list[float] = []
    for height in heights:
        placed.append(min([height, *(above - distance for above in placed[-1:])]))
    for place in reversed(range(len(placed))):
        placed[place] = max(placed[place], lowest + distance * (len(placed) - 1 - place))
    return placed
