"""Each kind of figure is rendered, the same at each time, with the colours of its methods."""

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

from evaluation.statistics import Curve, Estimate
from reporting.figures import Grid, Panel, draw_curves, draw_falls, draw_grid_of_places, draw_lines, draw_scores
from reporting.palette import colours_of
from reporting.selectivity import SelectivityCurve

METHODS = ["GC", "RANDOM"]
CURVES = [Curve(method, sees, (0.3, 0.9), ((0.8,), (0.5,)), 100) for method in METHODS for sees in ("image", "mask")]
BASELINES = dict.fromkeys(METHODS, Estimate(0.9, 0.85, 0.95))
PANEL = Panel("ROAR on 100% of it", CURVES, BASELINES, (0.1, "chance"), "pixels removed")
FALLS = [SelectivityCurve(method, np.linspace(1, 0, 8).reshape(2, 4), np.eye(2, 4) > 0) for method in METHODS]
GRID = Grid(
    "all", METHODS, ["ROAR", "ROAD"], [["1 ± 0", ""], ["0", "1"]], np.eye(2), np.array([[1, np.nan], [np.nan, 1]])
)
FIGURES = {
    "curves": (lambda path: draw_curves([PANEL, PANEL], "a note", path, "a title"), True),
    "lines": (
        lambda path: draw_lines({"rank": {"GC": [1, 0], "RANDOM": [1, 1]}}, ["a", "b"], "x", "a note", path),
        True,
    ),
    "grid": (lambda path: draw_grid_of_places(GRID, "a note", path), False),
    "falls": (lambda path: draw_falls(FALLS, "a title", "a note", path), True),
    "scores": (lambda path: draw_scores(FALLS, "a title", "a note", path), False),
}


@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_rendered_the_same_each_time(name, tmp_path):
    draw, is_coloured = FIGURES[name]
    written = draw(tmp_path / "figure")
    assert [path.name for path in written] == ["figure.png", "figure.pdf"]
    png, pdf = (path.read_bytes() for path in written)
    assert pdf.startswith(b"%PDF")
    assert [path.read_bytes() for path in draw(tmp_path / "figure")] == [png, pdf]
    pixels = matplotlib.image.imread(written[0])[..., :3].reshape(-1, 3)
    for colour in colours_of(METHODS).values() if is_coloured else ():
        assert (np.abs(pixels - matplotlib.colors.to_rgb(colour)).max(axis=1) < 0.1).sum() > 500, "more than a name"
