"""Grids of images and maps: one row per example, one column per method, layer or model."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes


SIGNED, POSITIVE = "RdBu_r", "magma"
PERCENTILE = 99.5  # of a map's values: where its colours end, so that a single pixel can't darken all others
CELL = 0.86  # inches
LONGEST_NAME = 12  # letters that fit above a column
RIGHT, WRONG = "#333333", "#C1272D"

SCALE_NOTE = (
    f"Each map has its own scale, which ends at the {PERCENTILE:g} % quantile of its absolute values. "
    "Columns with negative values: white is zero, red speaks for the class, blue against it. Others: black is zero."
)


@dataclass(frozen=True)
class Caption:
    """A line below a cell: the model's prediction for the image."""

    text: str
    right: bool


@dataclass(frozen=True)
class Column:
    """One column of a grid.

    Attributes:
        name: written above it.
        cells: one array per row: an image (H, W, 1 or 3) uint8, or a map (H, W) float.
        captions: none, or one per row.
        from_minimum: let a map's colours begin at its smallest value instead of at zero.
    """

    name: str
    cells: Sequence[npt.NDArray[Any]]
    captions: Sequence[Caption] = ()
    from_minimum: bool = False

    @property
    def signed(self) -> bool:
        return any(bool((cell < 0).any()) for cell in self.cells if cell.ndim == 2)


def colour_limits(values: npt.NDArray[Any], signed: bool, from_minimum: bool = False) -> tuple[float, float]:
    """Return the ends of the colour scale of one map; a map of zeros gets a scale as well."""
    high = float(np.percentile(np.abs(values), PERCENTILE)) or float(np.abs(values).max()) or 1.0
    if signed:
        return -high, high
    low = float(values.min()) if from_minimum else 0.0
    return (low, high) if low < high else (low, low + 1.0)


def draw_grid(rows: Sequence[str], columns: Sequence[Column], title: str, note: str, path: Path) -> list[Path]:
    """Draw `columns`, each with one cell for every name in `rows`.

    Returns:
        the paths of the files written: `path` with the suffixes .png and .pdf.
    """
    from reporting.figures import new_figure, save_figure  # here, so that nothing else waits for matplotlib

    captioned = any(column.captions for column in columns)
    size = CELL * (len(columns) + 1.2), CELL * len(rows) * (1.22 if captioned else 1.06) + 0.9
    figure, all_axes = new_figure(size, len(rows), len(columns))
    for place, column in enumerate(columns):
        for row, name in enumerate(rows):
            axes: Axes = all_axes[row][place]
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color("#bbbbbb")
            axes.spines[:].set_linewidth(0.5)
            _draw_cell(axes, column, column.cells[row])
            if place == 0:
                axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, labelpad=6)
            if row == 0:
                front, dot, last = column.name.rpartition(".")  # a layer's long name is as wide as two columns
                is_long = len(column.name) > LONGEST_NAME and front
                axes.set_title(f"{front}\n{dot}{last}" if is_long else column.name, fontsize=8.5, pad=4)
            if column.captions:
                caption = column.captions[row]
                axes.set_xlabel(caption.text, fontsize=6.5, labelpad=2, color=RIGHT if caption.right else WRONG)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    lines = textwrap.wrap(note, max(50, int(size[0] * 19)))
    figure.text(0.01, -0.005, "\n".join(lines), fontsize=7, color="#555555", va="top")
    return save_figure(figure, path)


def _draw_cell(axes: "Axes", column: Column, cell: npt.NDArray[Any]) -> None:
    if cell.ndim == 3:
        axes.imshow(cell.squeeze(-1) if cell.shape[-1] == 1 else cell, cmap="gray", vmin=0, vmax=255)
        return
    low, high = colour_limits(cell, column.signed, column.from_minimum)
    axes.imshow(cell, cmap=SIGNED if column.signed else POSITIVE, vmin=low, vmax=high)
    if not cell.any():
        colour = "#333333" if column.signed else "white"
        axes.text(0.5, 0.5, "all zero", color=colour, fontsize=6.5, ha="center", va="center", transform=axes.transAxes)
