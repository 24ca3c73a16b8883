"""Several commands in one process, as in a notebook: each has what holds for it, whatever an earlier one has kept."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import whitebox
from common.command import begin_command
from common.errors import InputError
from data import load_dataset
from data.folder_options import FolderOptions
from data.folders import folder_name
from experiments.request import Request
from tests.given import FACTORY, write_images
from tests.run_main import run

ROAR = {"quick": True, "limit_train": 200, "epochs": 1, "ratios": (0.3,), "jobs": 1}


def roar(folder: Path, **options):
    """Accuracies by curve, in a folder that has the classifier of the first call."""
    summary = whitebox.evaluate(
        *("SimpleCNN",),
        dataset="planted",
        methods=["IG"],
        evaluation="ROAR",
        output_dir=folder,
        data_dir=folder.parent / "data",
        **ROAR | options,
    )
    return {(curve.method.partition(" ")[0], curve.network_input): curve.accuracies for curve in summary.curves}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"steps": 1, "limit_test": 60}, {"steps": 30, "limit_test": 60, "overwrite": True}),
        ({"limit_test": 80}, {"limit_test": 60}),
    ],
)
def test_maps_made_anew_are_those_that_are_removed(first, then, tmp_path):
    roar(tmp_path / "one", **first)
    shutil.copytree(tmp_path / "one" / "checkpoints", tmp_path / "other" / "checkpoints")
    after = roar(tmp_path / "one", **then)
    assert after == roar(tmp_path / "other", **{name: value for name, value in then.items() if name != "overwrite"})


@pytest.fixture
def network_and_images(tmp_path, monkeypatch):
    """A folder of images, and a network with weights for them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "in_turn.py").write_text(FACTORY, encoding="utf-8")
    write_images(tmp_path / "photos")
    write_weights(tmp_path / "weights.pt", 0)
    return tmp_path


def write_weights(path: Path, seed: int) -> None:
    import torch
    from in_turn import tiny

    torch.manual_seed(seed)
    torch.save(tiny((3, 16, 16), 3).state_dict(), path)


PHOTOS = {"weights": "weights.pt", "mean": (0.5,) * 3, "std": (0.5,) * 3, "image_size": 16, "split": "test", "jobs": 1}


def measured(folder: Path, method="VBP", **options):
    """The result of ROAD with the given network."""
    folders = {"output_dir": folder / "out", "data_dir": folder / "store"}
    summary = whitebox.evaluate(
        "in_turn:tiny", dataset="folder:photos", methods=[method], evaluation="ROAD", **folders | PHOTOS | options
    )
    return next(result for (spec, _seed), result in summary.results.items() if spec.method == method)


def road(folder: Path, **options):
    return measured(folder, **options)["whole_score"]


def test_another_normalisation_is_another_input(network_and_images):
    first = road(network_and_images)
    second = road(network_and_images, mean=(0.0,) * 3, std=(0.1,) * 3)
    assert abs(first - second) > 1e-3


def test_other_weights_under_the_same_name_are_another_network(network_and_images):
    first = road(network_and_images)
    write_weights(network_and_images / "weights.pt", 1)
    assert abs(first - road(network_and_images)) > 1e-4


def test_other_images_under_the_same_name_are_another_data_set(network_and_images):
    first = road(network_and_images, limit_test=9)
    shutil.rmtree(network_and_images / "photos")
    write_images(network_and_images / "photos", dict.fromkeys(("blue", "green", "red"), (255, 255, 255)))
    with pytest.raises(InputError, match="holds maps of dataset_sum"):
        road(network_and_images, limit_test=15)
    assert abs(first - road(network_and_images, limit_test=15, overwrite=True)) > 1e-4


def test_a_file_that_changes_under_a_command_is_refused(network_and_images):
    begin_command()
    name = folder_name("folder:photos", network_and_images, FolderOptions(16, split="test"))
    dataset = load_dataset(name, network_and_images / "store")
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(network_and_images / "photos" / "red" / "0.png")
    with pytest.raises(InputError, match=r"red/0\.png has changed since this command began"):
        _ = dataset.test.images[:1]


def test_the_mean_is_that_of_the_images_shown(network_and_images):
    """Not what is subtracted from them, nor the mean of images that another evaluation shows."""
    unnormalised = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "ratios": (0.3,), "limit_test": 9}
    black, mean = (
        measured(network_and_images, "IG", baseline=name, overwrite=True, **unnormalised) for name in ("black", "mean")
    )
    assert black["score"] != mean["score"]
    request = Request.of(
        PHOTOS | {"model": "in_turn:tiny", "target": ("folder:photos",), "data_dir": network_and_images / "store"}
    )
    pipeline = next(request.with_known_targets().pipelines())
    part = pipeline.whole.subset(0, 9)
    pixel = pipeline.arrays_of(part).arrays()["mean_pixel"]
    np.testing.assert_allclose(pixel, (part.test.images.mean(axis=(0, 1, 2)) / 255 - 0.5) / 0.5, rtol=1e-5)
    assert not np.allclose(pixel, pipeline.normalisation.pixels["mean"], rtol=1e-3)


def test_an_interval_is_over_networks_that_were_trained_alike(tmp_path, capsys):
    planted = ["--target=planted", "--quick"]
    road = ["--eval=ROAD", *planted, "--method=VBP", "--seeds=2", "--limit-test=20"]
    assert run(tmp_path / "data", tmp_path, ["--train", *planted, "--epochs=1", "--limit-train=100"]) == 0
    for command in (road, [*road, "--dry-run"]):
        capsys.readouterr()
        assert run(tmp_path / "data", tmp_path, command) == 2
        assert "classifiers of seeds 0 and 1 differ in recipe, limit_train" in capsys.readouterr().err
    checkpoint = tmp_path / "checkpoints" / "planted_SimpleCNN_seed0_quick.pt"
    shutil.copy(checkpoint, checkpoint.with_name("planted_SimpleCNN_seed1_quick.pt"))
    assert run(tmp_path / "data", tmp_path, road) == 2
    assert "has seed 0, not 1: move it away" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["GC", "IG"])
def test_maps_of_other_images_stay_and_only_new_images_are_explained(method, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.map_files.PART_ROWS", 4)
    saliency = ["--saliency", "--target=planted", "--quick", f"--method={method}"]

    def maps(folder: Path, train: int, test: int) -> dict[str, np.ndarray]:
        options = [*saliency, f"--limit-train={train}", f"--limit-test={test}"]
        assert run(tmp_path / "data", tmp_path / folder, options) == 0
        with h5py.File(tmp_path / folder / "saliency_maps" / f"planted_SimpleCNN_{method}_quick.h5") as file:
            return {f"{split}/{name}": values[:] for split in ("train", "test") for name, values in file[split].items()}

    first = maps("one", 5, 30)
    shutil.copytree(tmp_path / "one" / "checkpoints", tmp_path / "other" / "checkpoints")
    assert f"maps: {method} of 35 images" in capsys.readouterr().out
    both = maps("one", 25, 10)
    assert f"maps: {method} of 20 images" in capsys.readouterr().out
    at_once = maps("other", 25, 30)
    assert both.keys() == at_once.keys() == first.keys()
    for name, values in at_once.items():
        np.testing.assert_allclose(both[name], values, rtol=1e-3, atol=1e-5)
    capsys.readouterr()
    assert maps("one", 5, 10).keys() == both.keys()
    assert f"maps: {method} of" not in capsys.readouterr().out
