"""Curves as figures: PNG to look at, PDF to print."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attribution import CONTROLS
from evaluation.statistics import Curve, Estimate
from storage import replacing

# Okabe & Ito's colours, which people with any kind of colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#7F3C8D")
CONTROL_COLOUR = "#444444"
LINES = {"RANDOM": (0, (5, 3)), "SOBEL": (0, (1, 1.5))}
LABEL_DISTANCE = 0.045  # of the height of the axes


def draw_curves(
    curves: Sequence[Curve], baseline: Estimate, chance: float, title: str, note: str, path: Path
) -> list[Path]:
    """Accuracy over the fraction removed; the mask alone as a thin line in the colour of its method.

    Returns:
        the paths of the files written: `path` with the suffixes .png and .pdf.
    """
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    methods = list(dict.fromkeys(curve.method for curve in curves))
    attributed = [method for method in methods if method not in CONTROLS]
    colours = {method: COLOURS[place % len(COLOURS)] for place, method in enumerate(attributed)}
    labels = []
    for curve in curves:
        colour = colours.get(curve.method, CONTROL_COLOUR)
        percent = [100 * ratio for ratio in curve.ratios]
        if curve.sees == "mask":
            axes.plot(percent, curve.means, color=colour, linewidth=0.9, marker="x", markersize=3.5, alpha=0.75)
            labels.append((curve.means[-1], f"{curve.method}, mask alone", colour, 7.5))
            continue
        axes.plot(
            [0, *percent],
            [baseline.mean, *curve.means],
            color=colour,
            linewidth=2,
            linestyle=LINES.get(curve.method, "-"),
            marker="o",
            markersize=3.5,
        )
        low, high = ([getattr(one, side) for one in (baseline, *curve.estimates)] for side in ("low", "high"))
        axes.fill_between([0, *percent], low, high, color=colour, alpha=0.18, linewidth=0)
        labels.append((curve.means[-1], curve.method, colour, 9.0))
    axes.axhline(chance, color="#999999", linewidth=0.8, linestyle=(0, (1, 3)))
    axes.text(0, chance + 0.012, "chance", color="#777777", fontsize=7.5)
    axes.set(xlabel="pixels replaced in training and test images (%)", ylabel="test accuracy after retraining")
    axes.set(xlim=(-2, 100), ylim=(0, 1.02))
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    _label_ends(axes, labels, x=100 * max(curve.ratios[-1] for curve in curves) + 1.5)
    figure.text(0.01, -0.01, note, fontsize=7, color="#555555", va="top")
    return save_figure(figure, path)


def new_figure(size: tuple[float, float], rows: int, columns: int) -> tuple[Figure, Any]:
    """A figure of `size` in inches with a grid of axes: `axes[row][column]`."""
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write `figure` to `path` with the suffixes .png and .pdf, which are returned, and close it."""
    written = []
    for suffix, metadata in ((".png", None), (".pdf", {"CreationDate": None})):
        file = path.with_name(path.name + suffix)
        with replacing(file) as unfinished:
            figure.savefig(unfinished, format=suffix[1:], dpi=160, bbox_inches="tight", metadata=metadata)
        written.append(file)
    plt.close(figure)
    return written


def _label_ends(axes: Axes, labels: list[tuple[float, str, str, float]], x: float) -> None:
    """Write each curve's name at its end, moved down where names would overlap."""
    lowest = float("inf")
    for height, text, colour, size in sorted(labels, reverse=True):
        lowest = min(height, lowest - LABEL_DISTANCE)
        axes.text(x, lowest, text, color=colour, fontsize=size, va="center", clip_on=False)
