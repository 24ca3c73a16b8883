import csv
import json

import pytest
import torch

import main
from evaluation.statistics import estimate
from experiments.checkpoints import load_checkpoint, load_metadata, save_checkpoint
from reporting.accuracy import ORIGINAL, accuracy_rows, group_trainings
from training.checkpoint import Checkpoint, weights_sha256

CLASSES = 10


def keep(folder, dataset="mnist", model="SimpleCNN", seed=0, accuracy=0.9, quick=False, **others):
    recipe = {"epochs": 3, "batch_size": 64}
    metadata = {
        "dataset": dataset,
        "dataset_sum": "sum",
        "model": model,
        "seed": seed,
        "recipe": recipe,
        "limit_train": None,
        "validation_rate": 0.02,
        "parameters": 1234,
        "test_accuracy": accuracy,
        "test_accuracy_per_class": [accuracy] * CLASSES,
        "seconds": 10.0 * (seed + 1),
        "device": "a processor",
        "versions": {"torch": "2.11"},
    }
    suffix = "_quick" if quick else ""
    path = folder / "checkpoints" / f"{dataset}_{model}_seed{seed}{suffix}.pt"
    weights = {"weight": torch.zeros(1)}
    save_checkpoint(path, Checkpoint(weights, weights_sha256(weights), metadata | others))


def report(output, *options):
    return main.main(["--report", f"--output-dir={output}", *options])


def row_of(text, model, trained_by):
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[:2] == [model, trained_by]:
            return cells
    raise AssertionError(f"no row {model} {trained_by}")


def test_row_is_the_mean_over_the_seeds_beside_the_original(tmp_path, capsys):
    accuracies = [0.99, 0.994, 0.995]
    for seed, accuracy in enumerate(accuracies):
        keep(tmp_path, seed=seed, accuracy=accuracy)
    assert report(tmp_path, "--target=mnist") == 0
    text = capsys.readouterr().out
    cells = row_of(text, "SimpleCNN", "this project")
    expected = estimate(accuracies, 10_000)
    assert cells[2] == "1,234"
    assert cells[3] == f"{expected.mean:.4f} ± {(expected.high - expected.low) / 2:.4f}"
    assert cells[4:14] == ["0.993"] * CLASSES
    assert cells[14:] == ["0, 1, 2", "3", "58,800", "20", "a processor"]
    published = json.loads(ORIGINAL.read_text())["accuracy"]["mnist"]["Simple CNN"]
    original = row_of(text, "SimpleCNN", "the original")
    assert original[2:4] == [f"{published['parameters']:,}", f"{published['total']:.3f}"]
    assert [float(cell) for cell in original[4:14]] == published["per_class"]
    assert (tmp_path / "results" / "accuracy_mnist.md").read_text() in text


def test_cells_that_nobody_ran_say_so(tmp_path, capsys):
    keep(tmp_path)
    report(tmp_path)
    mnist, cifar10 = capsys.readouterr().out.split("## Test accuracy on CIFAR-10")
    for text, model in ((mnist, "CAM"), (mnist, "WARN"), (cifar10, "SimpleCNN"), (cifar10, "RAN")):
        assert set(row_of(text, model, "this project")[2:]) == {"not run"}
    assert "not run" not in row_of(mnist, "SimpleCNN", "this project")


def test_other_recipes_depths_and_limits_have_rows_of_their_own(tmp_path):
    keep(tmp_path)
    keep(tmp_path, seed=1, recipe={"epochs": 1, "batch_size": 64})
    keep(tmp_path, model="RAN92", limit_train=1000)
    keep(tmp_path, seed=2, quick=True)
    trainings = group_trainings(load_metadata(tmp_path / "checkpoints"), "mnist", quick=False)
    assert [(one.model, len(one.checkpoints)) for one in trainings] == [
        ("SimpleCNN", 1),
        ("SimpleCNN", 1),
        ("RAN92", 1),
    ]
    rows = [row for row in accuracy_rows("mnist", trainings) if row[1] == "this project"]
    assert [row[0] for row in rows] == ["SimpleCNN", "SimpleCNN", "CAM", "CBAM", "RAN", "WARN", "RAN92"]
    assert rows[-1][16] == "980"  # 1,000 less the held-out ones


def test_csv_has_a_line_per_seed_and_class(tmp_path):
    keep(tmp_path, accuracy=0.9)
    keep(tmp_path, seed=1, accuracy=0.8)
    report(tmp_path, "--target=mnist")
    rows = list(csv.DictReader((tmp_path / "results" / "accuracy_mnist.csv").open()))
    ours = [row for row in rows if row["model"] == "SimpleCNN" and row["trained_by"] == "this project"]
    assert [(row["seed"], row["class"]) for row in ours][:2] == [("0", "total"), ("0", "0")]
    assert len(ours) == 2 * (CLASSES + 1)
    assert {row["accuracy"] for row in ours if row["seed"] == "1"} == {"0.8000"}
    assert [row["accuracy"] for row in rows if row["model"] == "WARN"] == [""]


def test_dry_run_writes_nothing(tmp_path, capsys):
    keep(tmp_path)
    assert report(tmp_path, "--dry-run") == 0
    assert "nothing written" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_damaged_checkpoint_is_named(tmp_path, capsys):
    keep(tmp_path)
    path = tmp_path / "checkpoints" / "mnist_SimpleCNN_seed0.pt"
    path.write_bytes(path.read_bytes()[:-50])
    assert report(tmp_path) == 2
    assert path.name in capsys.readouterr().err


def test_tables_agree_with_a_real_training(data_dir, tmp_path, capsys):
    options = [f"--data-dir={data_dir}", f"--output-dir={tmp_path}", "--target=mnist"]
    assert main.main(["--train", "--epochs=1", "--batch-size=64", *options]) == 0
    assert main.main(["--report", *options]) == 0
    metadata = load_checkpoint(tmp_path / "checkpoints" / "mnist_SimpleCNN_seed0.pt").metadata
    cells = row_of(capsys.readouterr().out, "SimpleCNN", "this project")
    assert cells[3].split(" ± ")[0] == f"{metadata['test_accuracy']:.4f}"
    assert cells[4:14] == [f"{accuracy:.3f}" for accuracy in metadata["test_accuracy_per_class"]]
    assert cells[16] == "588"  # of the 600 images of the sample


def test_tensorboard_scalars_are_those_of_the_training(data_dir, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    options = [f"--data-dir={data_dir}", f"--output-dir={tmp_path}", "--target=mnist"]
    assert main.main(["--train", "--epochs=2", "--batch-size=64", "--tensorboard", *options]) == 0
    events = accumulator.EventAccumulator(str(tmp_path / "results" / "tensorboard" / "mnist_SimpleCNN_seed0"))
    events.Reload()
    metadata = load_checkpoint(tmp_path / "checkpoints" / "mnist_SimpleCNN_seed0.pt").metadata
    for name, value in (("loss", metadata["loss"]), ("validation accuracy", metadata["validation_accuracy"])):
        points = events.Scalars(name)
        assert [point.step for point in points] == [1, 2]
        assert points[-1].value == pytest.approx(value, rel=1e-6)
    assert [point.value for point in events.Scalars("learning rate")] == sorted(
        (point.value for point in events.Scalars("learning rate")), reverse=True
    )


def test_tensorboard_that_is_missing_is_named_before_any_work(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    assert main.main(["--train", "--tensorboard", f"--data-dir={data_dir}", f"--output-dir={tmp_path / 'out'}"]) == 2
    assert "pip install tensorboard" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tensorboard_is_for_training(tmp_path, capsys):
    assert report(tmp_path, "--tensorboard") == 2
    assert "--tensorboard is for --train" in capsys.readouterr().err
