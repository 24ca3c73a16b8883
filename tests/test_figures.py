"""Each kind of figure is rendered, the same at each time, with the colours of its methods."""

from types import SimpleNamespace

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

from evaluation.statistics import Curve, Estimate
from reporting.evaluation_summary import Chart
from reporting.figures import (
    draw_accuracies,
    draw_curves,
    draw_lines,
    draw_scores,
    draw_summary,
    draw_training,
    save_figure,
)
from reporting.labels import colours_of
from reporting.selectivity_summary import SelectivityCurve
from reporting.training_curves import TrainingCurve

METHODS = ["GC", "RANDOM"]
CURVES = [
    Curve(method, network_input, (0.3, 0.9), ((0.8,), (0.5,)), 100)
    for method in METHODS
    for network_input in ("image", "mask")
]
BASELINES = dict.fromkeys(METHODS, Estimate(0.9, 0.85, 0.95))
PANEL = Chart("ROAR on 100% of it", "", CURVES, BASELINES, (0.1, "chance"), "pixels removed")
SELECTIVITY = [SelectivityCurve(method, np.linspace(1, 0, 8).reshape(2, 4), np.eye(2, 4) > 0) for method in METHODS]
SUMMARY = SimpleNamespace(
    title="all",
    figure_note="a note",
    methods=METHODS,
    head=["method", "ROAR", "ROAD"],
    cells=[["1 ± 0", ""], ["0", "1"]],
    shares=np.eye(2),
    correlations=np.array([[1, np.nan], [np.nan, 1]]),
)
TRAININGS = [TrainingCurve(model, model, ((0.5, 0.7), (0.6, 0.8))) for model in ("SimpleCNN", "CAM")]
FIGURES = {
    "curves": (lambda: draw_curves([PANEL, PANEL], "a note"), True),
    "lines": (lambda: draw_lines({"rank": {"GC": [1, 0], "RANDOM": [1, 1]}}, ["a", "b"], "x", "a note"), True),
    "summary": (lambda: draw_summary(SUMMARY), False),
    "accuracies": (lambda: draw_accuracies(SELECTIVITY, "a title", "a note"), True),
    "training": (lambda: draw_training({"accuracy": TRAININGS, "loss": TRAININGS}, "a note"), False),
    "scores": (lambda: draw_scores(SELECTIVITY, "a title", "a note"), False),
}


@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_rendered_the_same_each_time(name, tmp_path):
    draw, is_coloured = FIGURES[name]
    written = save_figure(draw(), tmp_path / "figure")
    assert [path.name for path in written] == ["figure.png", "figure.pdf"]
    png, pdf = (path.read_bytes() for path in written)
    assert pdf.startswith(b"%PDF")
    assert [path.read_bytes() for path in save_figure(draw(), tmp_path / "figure")] == [png, pdf]
    pixels = matplotlib.image.imread(written[0])[..., :3].reshape(-1, 3)
    for colour in colours_of(METHODS).values() if is_coloured else ():
        assert (np.abs(pixels - matplotlib.colors.to_rgb(colour)).max(axis=1) < 0.1).sum() > 500, "more than a name"


def test_drawing_changes_no_backend():
    import matplotlib

    before = matplotlib.get_backend(auto_select=False)
    draw_curves([PANEL], "a note")
    assert matplotlib.get_backend(auto_select=False) == before
