"""The figure of an answer: the difference of each method from RANDOM, in each evaluation."""

from collections.abc import Collection, Mapping, Sequence

from matplotlib.figure import Figure

from evaluation.trust import Comparison
from reporting.figures import new_figure

TRUSTED, NOT_TRUSTED = "#0072B2", "#8a8a8a"


def draw_differences(
    parts: Mapping[str, Mapping[str, Comparison]], methods: Sequence[str], trusted: Collection[str], title: str
) -> Figure:
    """Draw a panel for each evaluation: a dot with its 95 % interval for each method; right of zero beats RANDOM.

    Args:
        parts: the comparison of each method with RANDOM, by evaluation.
        methods: from top to bottom.
        trusted: those drawn in blue.
    """
    rows = [method for method in (*methods, "SOBEL") if any(method in family for family in parts.values())]
    figure, (panels,) = new_figure((2.5 * len(parts) + 1.3, 0.27 * len(rows) + 1.2), 1, len(parts))
    for place, (axes, (name, family)) in enumerate(zip(panels, parts.items(), strict=True)):
        for row, method in enumerate(rows):
            if method not in family:
                continue
            value, colour = family[method], TRUSTED if method in trusted else NOT_TRUSTED
            axes.plot([value.low, value.high], [row, row], color=colour, linewidth=1.6)
            face = colour if value.is_different else "white"
            axes.plot(value.mean, row, marker="o", markersize=5, color=colour, markerfacecolor=face)
        axes.axvline(0, color="#444444", linewidth=0.8, linestyle=(0, (5, 3)))
        axes.set_yticks(range(len(rows)), rows if place == 0 else [""] * len(rows), fontsize=8.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="x", labelsize=7.5)
        axes.tick_params(axis="y", length=0)
        axes.set_title(name, loc="left", fontsize=9.5)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.supxlabel(
        "better than RANDOM by (right of the dashed line); blue: trusted; hollow: not significant", fontsize=8
    )
    return figure
