import csv
import json

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from attribution import build_method
from attribution.spec import MethodSpec
from evaluation.configs import SelectivityConfig
from evaluation.masking import TIE_SEED, ranks
from evaluation.selectivity import KEEP_EVERY, pick_pixels, remove_one_by_one
from evaluation.statistics import estimate, mean_interval, proportion_interval
from reporting.selectivity_summary import SelectivityCurve, SelectivitySummary, areas_of_rows
from tests.run_main import run

OPTIONS = ["--eval=selectivity", "--quick", "--target=mnist", "--method=VBP,GC", "--removals=7", "--limit-test=30"]


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 5))
    return model.eval(), torch.randn(9, 2, 6, 6), torch.arange(9) % 5


def plainly(method, model, image, label, number, fill, settings):
    """One image, one pixel at a time, without batches: the definition."""
    image, removed, scores, hits = image.clone(), [], [], []
    target = model(image[None]).argmax(1) if settings.explain == "prediction" else label[None]
    for _ in range(settings.removals + 1):
        with torch.no_grad():
            logits = model(image[None])[0]
        scores.append(logits.softmax(0)[target].item())
        hits.append(bool(logits.argmax() == label))
        values = method.attribute(image[None], target=target)
        if settings.rank == "absolute":
            values = values.abs()
        values = values.sum(1)
        if settings.order == "LeRF":
            values = -values
        order = ranks(values[None], torch.tensor([number]), TIE_SEED).flatten().argsort()
        pixel = next(place for place in order.tolist() if place not in removed)
        removed.append(pixel)
        image[:, pixel // 6, pixel % 6] = fill
    return scores, hits, removed[:-1]


class OfAnother:
    """The gradient of the network with half of its last layer's weights: what it says is not what is measured."""

    def __init__(self, model):
        self.model, self.gradient = model, build_method("VBP", model)

    def attribute(self, inputs, target):
        whole = self.model[-1].weight.data
        self.model[-1].weight.data = whole / 2
        try:
            return self.gradient.attribute(inputs, target)
        finally:
            self.model[-1].weight.data = whole


@pytest.mark.parametrize(("method", "each"), [("VBP", 1), ("GC", 1), ("SOBEL", 1), ("another", 2)])
def test_a_method_that_asks_the_network_about_the_image_answers_for_the_score_too(network, method, each):
    model, inputs, label = network
    fill, asked = torch.tensor([0.1, -0.2]), []
    built = OfAnother(model) if method == "another" else build_method(method, model)
    model.register_forward_hook(lambda *_: asked.append(1))
    calls = {}
    for removals in (6, 6, 7):  # the first time a method may look at the network
        before, settings = len(asked), SelectivityConfig(9, removals=removals)
        score = remove_one_by_one(built, model, inputs, label, torch.arange(9), fill, settings)[0]
        calls[removals] = len(asked) - before
    assert calls[7] - calls[6] == each
    for number in range(9):
        want, _hits, _removed = plainly(built, model, inputs[number], label[number], number, fill, settings)
        torch.testing.assert_close(score[number], torch.tensor(want))


@pytest.mark.parametrize("method", ["VBP", "GC", "SOBEL"])
@pytest.mark.parametrize(
    "settings",
    [
        SelectivityConfig(9, removals=8),
        SelectivityConfig(9, removals=8, order="LeRF"),
        SelectivityConfig(9, removals=8, rank="absolute", explain="label"),
    ],
    ids=["most", "least", "absolute-label"],
)
def test_all_images_at_once_equal_one_after_the_other(network, method, settings):
    model, inputs, label = network
    built, fill, index = build_method(method, model), torch.tensor([0.3, -0.7]), torch.arange(9) * 11
    before = inputs.clone()
    score, correct, pixel, kept, maps = remove_one_by_one(built, model, inputs, label, index, fill, settings)
    torch.testing.assert_close(inputs, before)
    for n in range(9):
        scores, hits, removed = plainly(built, model, inputs[n], label[n], 11 * n, fill, settings)
        np.testing.assert_allclose(score[n], scores, atol=1e-5)
        assert correct[n].tolist() == hits
        assert pixel[n].tolist() == removed
    assert len(kept) == len(maps) == settings.removals // KEEP_EVERY + 1
    torch.testing.assert_close(kept[0], inputs)
    changed = (kept[1] != inputs).any(dim=1).flatten(1)
    assert (changed.sum(1) == KEEP_EVERY).all()
    for n in range(9):
        assert set(changed[n].nonzero().flatten().tolist()) == set(pixel[n, :KEEP_EVERY].tolist())


@pytest.mark.parametrize("order", ["MoRF", "LeRF"])
def test_a_share_of_the_pixels_goes_at_each_step(network, order):
    model, inputs, label = network
    settings = SelectivityConfig(9, removals=3, share=0.12, order=order)  # 4 of 36 pixels
    built, index = build_method("VBP", model), torch.arange(9)
    course = remove_one_by_one(built, model, inputs, label, index, torch.zeros(2), settings)
    score, _correct, pixel, _kept, maps = course
    assert score.shape == (9, 4)
    assert pixel.shape == (9, 12)
    for n in range(9):
        first = maps[0][n].flatten().argsort(descending=order == "MoRF")[:4]
        assert set(pixel[n, :4].tolist()) == set(first.tolist())
        assert len(set(pixel[n].tolist())) == 12
        image = inputs[n].clone().flatten(1)
        image[:, pixel[n]] = 0
        with torch.no_grad():
            after = model(image.view(1, *inputs.shape[1:])).softmax(dim=1)
        target = model(inputs[n : n + 1]).argmax()
        torch.testing.assert_close(score[n, 3], after[0, target])


def test_every_pixel_goes_once(network):
    model, inputs, label = network
    settings = SelectivityConfig(9, removals=36)
    _score, _correct, pixel, kept, _maps = remove_one_by_one(
        build_method("GC", model), model, inputs, label, torch.arange(9), torch.zeros(2), settings
    )
    assert (pixel.sort(dim=1).values == torch.arange(36)).all()
    assert len(kept) == 36 // KEEP_EVERY + 1


def test_equal_values_go_in_a_random_order_of_each_image():
    values, remaining = torch.zeros(2, 5), torch.tensor([[True] * 5, [False, True, True, False, True]])
    tie = torch.tensor([[1, 5, 2, 9, 3], [7, 1, 2, 9, 3]])
    assert pick_pixels(values, remaining, tie, torch.arange(2)).tolist() == [[3], [4]]
    values[0, 2] = 1
    assert pick_pixels(values, remaining, tie, torch.arange(2)).tolist() == [[2], [4]]


def test_methods_that_return_nonsense_are_refused(network):
    from common.errors import InputError

    class Nan:
        def attribute(self, inputs, target):
            return inputs * float("nan")

    model, inputs, label = network
    with pytest.raises(InputError, match="not finite"):
        remove_one_by_one(
            Nan(), model, inputs, label, torch.arange(9), torch.zeros(2), SelectivityConfig(9, removals=9)
        )
    with pytest.raises(InputError, match="fewer --removals"):
        remove_one_by_one(Nan(), model, inputs, label, torch.arange(9), torch.zeros(2), SelectivityConfig(9, share=0.1))


def test_areas_and_table_by_hand():
    score = np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 0.5]])
    np.testing.assert_allclose(areas_of_rows(score), [0.5, 0.875])
    fall = SelectivityCurve("VBP", score, np.array([[True, False, False], [True, True, True]]))
    assert fall.accuracy == [proportion_interval(hits, 2) for hits in (2, 1, 1)]
    np.testing.assert_allclose(fall.accuracy_areas, [0.25, 1])
    vbp, random = MethodSpec("VBP"), MethodSpec("RANDOM")
    arrays = {
        (vbp, 0): {"score": score, "correct": fall.correct},
        (random, 0): {"score": np.ones((2, 3)), "correct": np.ones((2, 3), bool)},
    }
    summary = SelectivitySummary(SelectivityConfig(2), "mnist", "SimpleCNN", (vbp, random), (0,), arrays)
    row = summary.table.splitlines()[2]
    distance = mean_interval([-0.5, -0.125])
    assert row.split("|")[-2].strip() == f"-0.312 ± {distance.half:.3f}"
    assert mean_interval([0.2, 0.4]) == estimate([0.2, 0.4], 100)


def results(tmp_path):
    return sorted((tmp_path / "results" / "selectivity").glob("*.h5"))


def test_from_the_command_line_to_files_and_back(data_dir, tmp_path, capsys, mnist):
    assert run(data_dir, tmp_path, OPTIONS) == 0
    out = capsys.readouterr().out
    assert "0 of 3 measurements are finished, 3 to do" in out
    names = [path.name.rpartition("-")[0] for path in results(tmp_path)]
    assert names == ["mnist_SimpleCNN_GC", "mnist_SimpleCNN_RANDOM", "mnist_SimpleCNN_VBP"]
    with h5py.File(results(tmp_path)[2]) as file:
        assert {name: values.shape for name, values in file.items()} == {
            "score": (30, 8),
            "correct": (30, 8),
            "pixel": (30, 7),
            "images": (30, 2, 1, 28, 28),
            "maps": (30, 2, 28, 28),
            "label": (30,),
            "index": (30,),
        }
        shown = mnist.test.subset(30)
        np.testing.assert_array_equal(file["index"], shown.index)
        np.testing.assert_array_equal(file["images"][:, 0], shown.images.transpose(0, 3, 1, 2))
        configuration = json.loads(file.attrs["configuration"])
        assert configuration["removals"] == 7
        assert configuration["method"] == "VBP"
        accuracy = file["correct"][:].mean(axis=0)
    stem = "selectivity_mnist_SimpleCNN_VBP-GC-RANDOM_30-tested_7-removals_quick"
    for suffix in (".md", ".csv", "_accuracy.png", "_accuracy.pdf", "_scores.png", "_scores.pdf"):
        assert (tmp_path / "results" / f"{stem}{suffix}").stat().st_size > 0
    lines = csv.DictReader((tmp_path / "results" / f"{stem}.csv").open())
    found = [float(line["accuracy"]) for line in lines if line["method"] == "VBP"]
    np.testing.assert_allclose(found, accuracy, atol=1e-6)

    before = [(path, path.stat().st_mtime_ns) for path in results(tmp_path)]
    assert run(data_dir, tmp_path, OPTIONS) == 0
    assert "3 of 3 measurements are finished, 0 to do" in capsys.readouterr().out
    assert [(path, path.stat().st_mtime_ns) for path in results(tmp_path)] == before
    assert run(data_dir, tmp_path, [*OPTIONS, "--order=least"]) == 0
    assert len(results(tmp_path)) == 6
    assert (tmp_path / "results" / f"{stem.removesuffix('_quick')}_least_quick.md").exists()


def test_damaged_result_is_named(data_dir, tmp_path, capsys):
    assert run(data_dir, tmp_path, OPTIONS) == 0
    for path in results(tmp_path):
        path.write_bytes(path.read_bytes()[:200])
    assert run(data_dir, tmp_path, OPTIONS) == 2
    assert "damaged" in capsys.readouterr().err


def test_dry_run_and_wrong_input(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(data_dir, output, [*OPTIONS, "--dry-run"]) == 0
    assert "3 measurements, 0 finished" in capsys.readouterr().out
    for options, message in (
        (["--removals=785"], "785 removals are more than an image's 784 pixels"),
        (["--limit-test=201"], "has 200 test images"),
        (["--limit-test=1"], "two test images or more"),
        (["--order=best"], "best"),
    ):
        assert run(data_dir, output, [*OPTIONS, *options]) == 2
        assert message in capsys.readouterr().err
    assert not output.exists()


def test_own_and_captum_methods(data_dir, tmp_path, capsys):
    methods = "--method=captum.attr:InputXGradient,tests.test_sweep:BorderFirst"
    assert run(data_dir, tmp_path, [*OPTIONS, methods]) == 0
    assert "| captum.attr:InputXGradient " in capsys.readouterr().out
    assert len(results(tmp_path)) == 3
