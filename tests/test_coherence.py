from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

import experiments.pictures as coherence
import main
from attribution.spec import MethodSpec
from reporting.pictures import Caption, Column, colour_limits, draw_grid
from tests.run_main import run

QUICK = ["--eval=coherence", "--quick", "--target=mnist"]


@pytest.fixture
def grids(monkeypatch) -> dict[str, tuple[list[str], list[Column], str]]:
    """Collect the grids by file name instead of drawing them."""
    drawn = {}

    def note(rows, columns, title, text, path: Path):
        drawn[path.name] = (list(rows), list(columns), text)
        return [path.with_name(path.name + ".png")]

    monkeypatch.setattr(coherence, "draw_grid", note)
    return drawn


def test_pictures_of_methods_layers_and_models(data_dir, tmp_path, grids, capsys):
    options = [*QUICK, "--method=VBP,GC", "--ensemble=none,SG-SQ", "--attention=none,CBAM", "--classes=3,7,0"]
    assert run(data_dir, tmp_path, options) == 0
    stem = "coherence_mnist"
    assert set(grids) == {
        *(
            f"{stem}_{model}_methods{ensemble}_classes-3-7-0_quick"
            for model in ("SimpleCNN", "CBAM")
            for ensemble in ("", "_SG-SQ")
        ),
        *(
            f"{stem}_{model}_layers_{method}_classes-3-7-0_quick"
            for model in ("SimpleCNN", "CBAM")
            for method in ("GC", "CO")
        ),
        f"{stem}_CBAM_attention_classes-3-7-0_quick",
        *(f"{stem}_models_{name}_classes-3-7-0_quick" for name in ("VBP", "GC", "SG-SQ-VBP", "SG-SQ-GC")),
    }
    rows, columns, _note = grids[f"{stem}_SimpleCNN_methods_classes-3-7-0_quick"]
    assert rows == ["0", "3", "7"]
    assert [column.name for column in columns] == ["image", "VBP", "GC", "RANDOM"]
    assert [column.signed for column in columns] == [False, True, False, False]
    _rows, columns, _note = grids[f"{stem}_CBAM_attention_classes-3-7-0_quick"]
    assert [column.cells[0].shape for column in columns] == [(28, 28, 1), (28, 28), (14, 14), (7, 7)]
    _rows, columns, _note = grids[f"{stem}_models_VBP_classes-3-7-0_quick"]
    assert [column.name for column in columns] == ["image", "SimpleCNN", "CBAM"]
    assert not np.allclose(columns[1].cells[0], columns[2].cells[0])
    out = capsys.readouterr().out
    assert all(f"{name}.png" in out for name in grids)


def test_maps_are_those_of_the_method_and_captions_those_of_the_model(data_dir, tmp_path, grids, mnist):
    assert run(data_dir, tmp_path, [*QUICK, "--method=IB", "--index=5,2"]) == 0
    _rows, columns, note = grids["coherence_mnist_SimpleCNN_methods_index-5-2_quick"]
    assert "Test images 5, 2" in note
    from experiments.checkpoints import load_checkpoint
    from training.classifier import restore
    from training.inputs import Normalisation

    cpu = torch.device("cpu")
    model = restore(load_checkpoint(tmp_path / "checkpoints" / "mnist_SimpleCNN_seed0_quick.pt"), cpu)
    images = torch.from_numpy(mnist.test.images[[5, 2]]).permute(0, 3, 1, 2)
    inputs = Normalisation.from_dataset(mnist, cpu)(images)
    probabilities = model(inputs).softmax(dim=1)
    sure, prediction = probabilities.max(dim=1)
    expected = MethodSpec("IB").build(model).attribute(inputs, target=prediction).sum(dim=1)
    np.testing.assert_allclose(np.stack(columns[1].cells), expected.numpy(), atol=1e-4)
    assert [caption.text for caption in columns[0].captions] == [
        f"{one}: {share:.0%}" for one, share in zip(prediction.tolist(), sure.tolist(), strict=True)
    ]
    assert [caption.right for caption in columns[0].captions] == [
        one == label for one, label in zip(prediction.tolist(), mnist.test.labels[[5, 2]], strict=True)
    ]


def test_correct_only_shows_no_mistake(data_dir, tmp_path, grids, mnist):
    every = ",".join(str(index) for index in range(60))
    assert run(data_dir, tmp_path, [*QUICK, "--method=VBP", f"--index={every}"]) == 0
    captions = next(iter(grids.values()))[1][0].captions
    right = sum(caption.right for caption in captions)
    assert 0 < right < len(captions) == 60
    assert run(data_dir, tmp_path, [*QUICK, "--method=VBP", f"--index={every}", "--correct-only"]) == 0
    captions = next(iter(grids.values()))[1][0].captions
    assert len(captions) == right
    assert all(caption.right for caption in captions)


def test_one_fixed_example_per_class(data_dir, tmp_path, grids, mnist):
    assert run(data_dir, tmp_path, [*QUICK, "--method=VBP", "--explain=label"]) == 0
    rows, columns, note = grids["coherence_mnist_SimpleCNN_methods_explain-label_quick"]
    assert rows == list(mnist.classes)
    first = [int(np.flatnonzero(mnist.test.labels == label)[0]) for label in range(10)]
    np.testing.assert_array_equal(np.stack(columns[0].cells), mnist.test.images[first])
    assert "explain the label" in note


def test_own_and_captum_methods_are_shown(data_dir, tmp_path, grids):
    methods = "--method=captum.attr:Saliency,captum.attr:DeepLift,tests.test_sweep:BorderFirst"
    assert run(data_dir, tmp_path, [*QUICK, methods, "--index=0"]) == 0
    names = [column.name for column in grids["coherence_mnist_SimpleCNN_methods_index-0_quick"][1]]
    assert names == ["image", "Saliency", "DeepLift", "BorderFirst", "RANDOM"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes=cat"], "unknown class 'cat': choose from 0, 1"),
        (["--index=999"], "no such test image (0 to 199)"),
        (["--index=-1"], "'-1' is not a whole number"),
        (["--limit-test=2"], "no test image of class"),
        (["--index=0", "--classes=0,1"], "none of the images of --index"),
        (["--method=CAM"], "CAM"),
    ],
)
def test_wrong_input_is_one_line(data_dir, tmp_path, grids, capsys, options, message):
    assert run(data_dir, tmp_path, [*QUICK, *options]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith("main.py: ")
    assert message in err
    assert not grids
    assert not (tmp_path / "checkpoints").exists(), "it is said before a training"


def test_options_of_coherence_are_for_coherence(capsys):
    assert main.main(["--eval=ROAR", "--correct-only"]) == 2
    assert "--eval=coherence" in capsys.readouterr().err


def test_dry_run_writes_nothing(data_dir, tmp_path, capsys):
    assert run(data_dir, tmp_path / "out", [*QUICK, "--dry-run"]) == 0
    assert "coherence_mnist_..." in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_colour_limits():
    signed = np.array([[-2.0, 1.0], [0.5, 0.0]])
    low, high = colour_limits(signed, signed=True)
    assert low == -high
    assert 1.9 < high <= 2
    assert colour_limits(np.zeros((3, 3)), signed=True) == (-1, 1)
    assert colour_limits(np.zeros((3, 3)), signed=False) == (0, 1)
    gate = np.array([[0.4, 0.5], [0.6, 0.45]])
    low, high = colour_limits(gate, signed=False, from_minimum=True)
    assert low == 0.4
    assert 0.59 < high <= 0.6
    outlier = np.ones((50, 50))
    outlier[0, 0] = 100
    assert colour_limits(outlier, signed=False) == (0, 1)


@pytest.mark.usefixtures("rendered")
def test_grid_is_written_as_png_and_pdf_and_shows_its_maps(tmp_path):
    image = np.full((28, 28, 1), 255, np.uint8)
    maps = [np.linspace(-1, 1, 784).reshape(28, 28), np.zeros((28, 28))]
    columns = [Column("image", [image, image], [Caption("7: 90 %", True), Caption("1: 50 %", False)])]
    columns.append(Column("VBP", maps))
    written = draw_grid(["7", "1"], columns, "title", "a note", tmp_path / "grid")
    assert [path.name for path in written] == ["grid.png", "grid.pdf"]
    assert written[1].read_bytes().startswith(b"%PDF")
    pixels = matplotlib.image.imread(written[0])[..., :3]
    red, green, blue = np.moveaxis(pixels, -1, 0)
    assert ((red > 0.5) & (blue < 0.3) & (green < 0.3)).any()  # for the class
    assert ((blue > 0.5) & (red < 0.3)).any()  # against it
