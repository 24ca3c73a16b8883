"""Figures of means with intervals: a dot for each method, a panel for each evaluation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.statistics import Estimate
from evaluation.trust import Comparison
from reporting.figures import new_figure
from reporting.labels import NOT_TRUSTED, TRUSTED, is_control


@dataclass(frozen=True)
class Dot:
    """A mean with its 95 % interval in the row of a method.

    Attributes:
        is_full: filled; else hollow.
        name: written beside it.
    """

    value: Estimate
    colour: str
    is_full: bool = True
    name: str = ""


Panel = Mapping[str, Sequence[Dot]]  # by method, from top to bottom


def draw_dots(
    panels: Mapping[str, Panel], title: str, xlabel: str, line: float | None = 0.0, width: float = 2.5
) -> Figure:
    """Draw panels with a row for each method.

    Args:
        panels: by their titles.
        line: where a dashed line stands; None for none.
        width: of a panel in inches.
    """
    methods = dict.fromkeys(method for panel in panels.values() for method in panel)
    rows = sorted(methods, key=is_control)
    figure, (axes_row,) = new_figure((width * len(panels) + 1.3, 0.27 * len(rows) + 1.2), 1, len(panels))
    for place, (axes, (name, panel)) in enumerate(zip(axes_row, panels.items(), strict=True)):
        for row, method in enumerate(rows):
            for dot in panel.get(method, ()):
                _draw_dot(axes, row, dot)
        if line is not None:
            axes.axvline(line, color="#444444", linewidth=0.8, linestyle=(0, (5, 3)))
        axes.set_yticks(range(len(rows)), rows if place == 0 else [""] * len(rows), fontsize=8.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="x", labelsize=7.5)
        axes.tick_params(axis="y", length=0)
        axes.set_title(name, loc="left", fontsize=9.5)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.supxlabel(xlabel, fontsize=8)
    return figure


def _draw_dot(axes: Axes, row: int, dot: Dot) -> None:
    value, face = dot.value, dot.colour if dot.is_full else "white"
    axes.plot([value.low, value.high], [row, row], color=dot.colour, linewidth=1.6)
    axes.plot(value.mean, row, marker="o", markersize=5, color=dot.colour, markerfacecolor=face)
    if dot.name:
        axes.annotate(dot.name, (value.mean, row), (0, 7), textcoords="offset points", ha="center", fontsize=7)


def draw_differences(
    parts: Mapping[str, Mapping[str, Comparison]], methods: Sequence[str], trusted: Collection[str], title: str
) -> Figure:
    """Draw the answer of trust: the difference of each method from RANDOM in each evaluation.

    Args:
        parts: the comparison of each method with RANDOM, by evaluation.
        methods: from top to bottom.
        trusted: those drawn in blue.
    """
    rows = [method for method in (*methods, "SOBEL") if any(method in family for family in parts.values())]
    panels = {
        name: {
            method: [Dot(value, TRUSTED if method in trusted else NOT_TRUSTED, value.is_different)]
            for method in rows
            if (value := family.get(method))
        }
        for name, family in parts.items()
    }
    xlabel = "better than RANDOM by (right of the dashed line); blue: trusted; hollow: not significant"
    return draw_dots(panels, title, xlabel)
