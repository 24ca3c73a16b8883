"""An evaluation where the truth is known: what it should say of a map is no question."""

import json

import numpy as np
import pytest
import torch

from attribution.spec import MethodSpec
from data import load_dataset
from data.planted import BLOCK, informative
from evaluation.planted import LabelMap, ReversedMap, TrueMap
from evaluation.runs import Run
from evaluation.statistics import Curve
from tests.run_main import run

MAPS = {name: f"evaluation.planted:{name}" for name in ("TrueMap", "ReversedMap", "LabelMap")}


def test_only_the_block_carries_the_class():
    train = load_dataset("planted").train
    images = train.images[..., 0].astype(float)
    means = np.stack([images[train.labels == label].mean(axis=0) for label in range(10)])
    noise = images.std(axis=0) / np.sqrt(len(images) / 10)
    spread = (means - means.mean(axis=0)) / noise
    outside = spread[:, ~informative()]
    assert np.abs(outside).max() < 5, "the means of classes differ by chance only"
    assert outside.std() == pytest.approx(1, abs=0.1)
    assert (np.abs(spread[:, informative()]).max(axis=0) > 5).all()
    assert informative().sum() == 36
    assert train.images.min() >= 1
    assert train.images.max() <= 255


def test_the_three_maps():
    inputs, target = torch.zeros(4, 1, 16, 16), torch.tensor([1, 2, 1, 0])
    true, reverse, label = (
        kind(torch.nn.Identity()).attribute(inputs, target) for kind in (TrueMap, ReversedMap, LabelMap)
    )
    assert true.shape == reverse.shape == label.shape == (4, 1, 16, 16)
    assert true.sum() == 4 * 36
    assert (true[:, :, BLOCK, BLOCK] == 1).all()
    torch.testing.assert_close(reverse, -true)
    assert torch.equal(label[0], label[2])
    assert not torch.equal(label[0], label[1])


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """ROAR and KAR of the known maps, two seeds: (evaluation, method, sees) -> a curve."""
    output = tmp_path_factory.mktemp("planted")
    methods = ",".join(MAPS.values())
    options = ["--eval=ROAR,KAR", "--target=planted", "--model=tests.own_model:perceptron", f"--method={methods}"]
    assert run(output / "data", output, [*options, "--quick", "--seeds=2", "--ratios=0.2,0.6"]) == 0
    points = {}
    for path in (output / "results" / "runs").iterdir():
        content = json.loads(path.read_text())
        one = content["configuration"]
        key = one["evaluation"], str(one["method"]).rpartition(":")[2], one["sees"]
        points[key, one["ratio"], one["seed"]] = content["result"]["accuracy"]
    found = {}
    for key in {key for key, _ratio, _seed in points}:
        ratios = sorted({ratio for other, ratio, _seed in points if other == key})
        seeds = sorted({seed for other, _ratio, seed in points if other == key})
        accuracies = tuple(tuple(points[key, ratio, seed] for seed in seeds) for ratio in ratios)
        found[key] = Curve(key[1], key[2], tuple(ratios), accuracies, 2000)
    return found


def test_true_map_is_best_and_reversed_map_worst_in_every_seed(curves):
    for evaluation, best_first in (("ROAR", 1), ("KAR", -1)):
        areas = [np.array(curves[evaluation, name, "image"].areas) for name in ("TrueMap", "RANDOM", "ReversedMap")]
        assert (best_first * (areas[1] - areas[0]) > 0.05).all()
        assert (best_first * (areas[2] - areas[1]) > 0.05).all()


def test_where_the_class_is_removed_nothing_is_left(curves):
    for accuracies in curves["ROAR", "TrueMap", "image"].accuracies:
        assert max(accuracies) < 0.15
    for accuracies in curves["KAR", "TrueMap", "image"].accuracies:
        assert min(accuracies) > 0.8


def test_random_removal_is_the_same_under_roar_and_kar(curves):
    roar, kar = (np.array(curves[evaluation, "RANDOM", "image"].accuracies) for evaluation in ("ROAR", "KAR"))
    assert np.abs(roar - kar).max() < 0.1


def test_a_map_that_writes_the_label_into_the_mask_is_caught(curves):
    leaking = curves["ROAR", "LabelMap", "mask"]
    assert min(leaking.means) > 0.7, "as good as the explained network's predictions"
    for name in ("TrueMap", "ReversedMap", "RANDOM"):
        assert max(curves["ROAR", name, "mask"].means) < 0.15
    assert curves["ROAR", "LabelMap", "image"].area > curves["ROAR", "RANDOM", "image"].area + 0.05


def test_runs_of_a_module_method_are_filed_under_it():
    run_of = Run(
        "ROAR", "planted", "sum", "SimpleCNN", 0, None, None, None, method=MethodSpec(MAPS["TrueMap"]), ratio=0.5
    )
    assert run_of.name == "planted_SimpleCNN_evaluation.planted.TrueMap_ROAR_0.5_seed0"
