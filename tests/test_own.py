"""Images, models and both together that users bring themselves, from training to a curve."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from data import load_dataset
from data.folders import folder_name
from models import build_model, model_name, parse_model_name
from tests.run_main import run, written
from tests.samples import sample_arrays

CLASSES = ("ant", "bee", "wasp")
OPTIONS = ["--quick", "--epochs=1", "--ratios=0.5", "--limit-test=12"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Real colour images, whose classes are given names at will; divided into train and test."""
    for part in ("train", "test"):
        for label, name in enumerate(CLASSES):
            write(tmp_path / "insects" / part / name, images_of(part, label))
    return tmp_path / "insects"


def images_of(part: str, label: int) -> np.ndarray:
    arrays = sample_arrays("cifar10")
    return arrays[f"{part}_images"][arrays[f"{part}_labels"] % len(CLASSES) == label]


def write(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for place, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{place:02}.png")


def test_a_folder_is_read_as_it_lies_there(folder, tmp_path):
    dataset = load_dataset(folder_name("folder:insects", tmp_path))
    assert dataset.classes == CLASSES
    assert dataset.shape == (3, 32, 32)
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        for label in range(len(CLASSES)):
            np.testing.assert_array_equal(split.images[split.labels == label], images_of(part, label))


def test_without_a_split_every_fifth_image_is_for_testing_and_grey_stays_grey(tmp_path):
    images = sample_arrays("mnist")["train_images"]
    write(tmp_path / "digits" / "a", images[:10])
    write(tmp_path / "digits" / "b", images[10:13])
    dataset = load_dataset(folder_name(f"folder:{tmp_path / 'digits'}", tmp_path))
    assert dataset.shape == (1, 28, 28)
    np.testing.assert_array_equal(dataset.test.images[..., 0], images[[4, 9, 12]])
    np.testing.assert_array_equal(dataset.train.labels, [0] * 8 + [1] * 2)


def test_the_name_of_a_folder_has_its_path(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = folder_name(f"folder:{folder}", tmp_path)
    assert name == "folder-insects"
    assert load_dataset(name).classes == CLASSES
    odd = tmp_path / "a+b %2B" / "c"
    folder.rename(tmp_path / "c")
    odd.parent.mkdir()
    (tmp_path / "c").rename(odd)
    assert load_dataset(folder_name("folder:a+b %2B/c", tmp_path)).classes == CLASSES
    deep = tmp_path / ("x" * 130)
    odd.rename(deep)
    with pytest.raises(InputError, match="too long"):
        folder_name(f"folder:{deep}", tmp_path)


def test_other_contents_have_another_sum(folder, tmp_path):
    name = folder_name("folder:insects", tmp_path)
    before = load_dataset(name).sha256
    again = tmp_path / "again"
    folder.rename(again)
    assert load_dataset(folder_name("folder:again", tmp_path)).sha256 == before
    (again / "train" / "ant" / "00.png").unlink()
    (tmp_path / "other").symlink_to(again)
    assert load_dataset(folder_name("folder:other", tmp_path)).sha256 != before


SMALL = ["--model=tests.own_model:small"]


@pytest.mark.parametrize(("model", "jobs"), [([], 1), (SMALL, 1), pytest.param(SMALL, 2, marks=pytest.mark.long)])
def test_from_training_to_a_curve(model, jobs, folder, tmp_path, capsys):
    output = tmp_path / "out"
    target = [f"--target=folder:{folder}", *model, "--quick", "--epochs=1"]
    assert run(tmp_path, output, ["--train", *target]) == 0
    assert "test accuracy" in capsys.readouterr().out
    asked = [f"--target=folder:{folder}", *model, *OPTIONS, "--method=GC,VBP"]
    explain = [option for option in asked if not option.startswith(("--epochs", "--ratios"))]
    assert run(tmp_path, output, ["--saliency", *explain]) == 0
    evaluations = "--eval=coherence,selectivity,ROAR,ROAD"
    assert run(tmp_path, output, [evaluations, *asked, "--removals=5", f"--jobs={jobs}"]) == 0
    printed = capsys.readouterr().out
    assert "| RANDOM, mask alone |" in printed
    assert len(list((output / "saliency_maps").glob("*.h5"))) == 3
    (run_file,) = (output / "results" / "runs").glob("*GC*mask*.json")
    configuration = json.loads(run_file.read_text())["configuration"]
    assert configuration["model"] == ("tests.own_model.small" if model else "SimpleCNN")
    assert list((output / "results").glob("ROAR_*.png"))
    assert list((output / "results").glob("coherence_*_methods_quick.png"))
    assert run(tmp_path, output, ["--report", f"--target=folder:{folder}"]) == 0
    assert "ROAR on insects" in capsys.readouterr().out
    assert list((output / "results").glob("report_*.html"))


def test_own_model_on_a_published_data_set(data_dir, tmp_path, capsys):
    assert run(data_dir, tmp_path, ["--eval=ROAR", "--model=tests.own_model:small", "--method=GB", *OPTIONS]) == 0
    assert "tests.own_model.small" in capsys.readouterr().out
    assert (tmp_path / "checkpoints" / "mnist_tests.own_model.small_seed0_quick.pt").exists()


def test_names_of_models_go_both_ways():
    for name in (None, "CBAM", "RAN92", "package.module:factory"):
        assert parse_model_name(model_name(name)) == name
    logits = build_model("anything", "tests.own_model:small", shape=(2, 16, 24), classes=7).head.out_features
    assert logits == 7


WRONG = {
    "no such folder": (["--train", "--target=folder:nowhere"], "nowhere"),
    "no classes": (["--train", "--target=folder:empty"], "no folders"),
    "no such model": (["--train", "--model=nowhere:model"], "package.module:Name"),
    "no place of a model": (["--train", "--model=small"], "package.module:factory"),
    "not a module": (["--eval=ROAR", "--model=tests.own_model:no_module"], "torch.nn.Module"),
    "two models": (["--train", "--model=tests.own_model:small", "--attention=CAM"], "--attention"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_one_line_and_nothing_is_written(what, data_dir, tmp_path, capsys):
    options, words = WRONG[what]
    (data_dir / "empty").mkdir()
    assert run(data_dir, tmp_path / "out", options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not written(tmp_path / "out")


def test_unusable_folders_are_named(tmp_path):
    images = sample_arrays("mnist")["train_images"]

    def refused(name: str, words: str) -> None:
        with pytest.raises(InputError, match=words):
            load_dataset(folder_name(f"folder:{tmp_path / name}", tmp_path))

    write(tmp_path / "one" / "a", images[:4])
    refused("one", "must have folders of 2 to .* classes, not of 1")
    write(tmp_path / "sizes" / "a", images[:4])
    write(tmp_path / "sizes" / "b", images[:4, :20])
    refused("sizes", "b/00.png has 28×20 pixels, others 28×28")
    write(tmp_path / "small" / "a", images[:4, :7])
    write(tmp_path / "small" / "b", images[:4, :7])
    refused("small", "8 or more")
    write(tmp_path / "single" / "a", images[:4])
    write(tmp_path / "single" / "b", images[:1])
    refused("single", "class b has one image")
    write(tmp_path / "broken" / "a", images[:4])
    write(tmp_path / "broken" / "b", images[:4])
    (tmp_path / "broken" / "b" / "01.png").write_bytes(b"no image")
    refused("broken", "01.png can't be read")
    write(tmp_path / "gap" / "a", images[:4])
    (tmp_path / "gap" / "b").mkdir()
    refused("gap", "no image of class b")
