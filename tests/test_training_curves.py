"""Every training keeps its epochs; the curves show them."""

from dataclasses import replace
from itertools import pairwise

import matplotlib.colors
import pytest
import torch

from experiments.checkpoints import load_checkpoint, load_metadata
from experiments.reports import gather
from experiments.trainings import run_training
from reporting.accuracy import group_trainings, load_trainings
from reporting.figures import draw_training
from reporting.labels import COLOURS, colours_of_models
from reporting.training_curves import TrainingCurve, training_curves, write_training_curves
from tests.run_main import run
from tests.test_report import keep, report
from tests.train_and_save import train_and_save
from training.config import TrainingConfig
from training.finetuning import finetune, finetuning_record
from training.recipe import recipe_for

CPU = torch.device("cpu")
RECIPE = replace(recipe_for("mnist"), epochs=3, batch_size=100)
CONFIG = TrainingConfig("mnist", None, 0, RECIPE, limit_train=300, validation_rate=0.1)


def epochs_of(*losses: float, accuracies: tuple[float | None, ...] = (0.5, 0.7, 0.8)) -> list[dict]:
    return [
        {"epoch": place + 1, "loss": loss, "validation_accuracy": accuracies[place], "learning_rate": 0.1}
        for place, loss in enumerate(losses)
    ]


def curves_in(folder, quantity="loss") -> list[TrainingCurve]:
    return training_curves(group_trainings(load_metadata(folder / "checkpoints"), "mnist", quick=False), quantity)


def test_history_has_an_entry_for_each_epoch(mnist, tmp_path):
    states = []
    saved = train_and_save(CONFIG, mnist, tmp_path, CPU, on_epoch=states.append)
    metadata = load_checkpoint(CONFIG.path(tmp_path)).metadata
    history = metadata["history"]
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    assert [epoch["loss"] for epoch in history] == [state.loss for state in states]
    assert [epoch["validation_accuracy"] for epoch in history] == [state.validation_accuracy for state in states]
    assert [len(state.history) for state in states] == [1, 2, 3], "a state has the epochs up to its own"
    assert history[-1]["loss"] == metadata["loss"]
    assert history[-1]["validation_accuracy"] == metadata["validation_accuracy"]
    assert saved.metadata["history"] == history


def test_the_learning_rate_is_that_of_the_cycle_at_the_end_of_each_epoch(mnist):
    steps = 270 // 100  # in an epoch, less the images that are held out
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], RECIPE.learning_rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RECIPE.learning_rate, total_steps=3 * steps + 1, pct_start=RECIPE.warm_up, cycle_momentum=False
    )
    expected = []
    for _epoch in range(3):
        for _step in range(steps):
            optimiser.step()
            cycle.step()
        expected.append(optimiser.param_groups[0]["lr"])
    history = run_training(CONFIG, mnist, CPU, None, None, on_images=lambda images: None).metadata["history"]
    assert [epoch["learning_rate"] for epoch in history] == pytest.approx(expected)


def test_a_task_on_another_machine_brings_the_history_back(mnist, tmp_path):
    here = train_and_save(CONFIG, mnist, tmp_path, CPU)
    there = run_training(CONFIG, mnist, CPU, None, None, on_images=lambda images: None)  # without a call back
    assert there.metadata["history"] == here.metadata["history"]
    assert there.sha256 == here.sha256


def test_without_held_out_images_there_is_no_accuracy(mnist):
    config = replace(CONFIG, validation_rate=0.0)
    history = run_training(config, mnist, CPU, None, None, on_images=lambda images: None).metadata["history"]
    assert [epoch["validation_accuracy"] for epoch in history] == [None] * 3


def test_fine_tuning_keeps_its_history_too(mnist, tmp_path):
    checkpoint = train_and_save(CONFIG, mnist, tmp_path, CPU)
    recipe = replace(RECIPE, epochs=2)
    record = finetuning_record(checkpoint, recipe, 0.5, "mean", 200)
    assert [epoch["epoch"] for epoch in finetune(checkpoint, mnist, record, recipe, CPU).metadata["history"]] == [1, 2]


def test_lines_are_the_histories(tmp_path):
    keep(tmp_path, seed=0, history=epochs_of(3.0, 2.0, 1.0))
    keep(tmp_path, seed=1, history=epochs_of(5.0, 4.0, 2.0))
    keep(tmp_path, model="CAM", history=epochs_of(2.5, 2.4), recipe={"epochs": 2, "batch_size": 64})
    panels = {quantity: curves_in(tmp_path, quantity) for quantity in ("validation_accuracy", "loss")}
    _accuracy, loss = draw_training(panels, "a note").axes
    colours = colours_of_models([])
    drawn = [(line.get_color(), list(line.get_xdata()), list(line.get_ydata())) for line in loss.lines]
    assert (colours["SimpleCNN"], [1, 2, 3], [3.0, 2.0, 1.0]) in drawn
    assert (colours["SimpleCNN"], [1, 2, 3], [5.0, 4.0, 2.0]) in drawn
    assert (colours["SimpleCNN"], [1, 2, 3], [4.0, 3.0, 1.5]) in drawn, "the mean"
    assert (colours["CAM"], [1, 2], [2.5, 2.4]) in drawn
    assert {text.get_text(): text.get_color() for text in loss.texts} == {
        name: colours[name] for name in ("SimpleCNN", "CAM")
    }


def test_names_at_the_ends_lie_apart_and_in_order():
    heights = (0.991, 0.992, 0.9922, 0.9921, 0.97)
    curves = [TrainingCurve(f"m{place}", f"m{place}", ((0.9, end),)) for place, end in enumerate(heights)]
    (axes,) = draw_training({"accuracy": curves}, "").axes
    low, high = axes.get_ylim()
    placed = sorted(((text.get_position()[1] - low) / (high - low), text.get_text()) for text in axes.texts)
    assert all(above - below > 0.044 for (below, _), (above, _) in pairwise(placed))
    assert [name for _, name in placed][:2] == ["m4", "m0"]
    assert 0 < placed[0][0] < placed[-1][0] <= 1


def test_models_have_the_same_colour_in_every_figure():
    assert colours_of_models(["WARN"])["WARN"] == colours_of_models(["mine", "SimpleCNN", "WARN"])["WARN"]
    assert len(set(colours_of_models(["mine", "RAN92"]).values())) == 7
    assert all(matplotlib.colors.is_color_like(colour) for colour in COLOURS)


def test_other_recipes_of_a_model_are_told_apart_by_their_seeds(tmp_path):
    keep(tmp_path, seed=0, history=epochs_of(3.0, 2.0, 1.0))
    keep(tmp_path, seed=1, history=epochs_of(3.0, 2.0), recipe={"epochs": 2, "batch_size": 64})
    assert sorted(curve.label for curve in curves_in(tmp_path)) == ["SimpleCNN, seed 0", "SimpleCNN, seed 1"]


def test_trainings_of_older_versions_are_not_drawn(tmp_path, capsys):
    keep(tmp_path, model="CAM")
    keep(tmp_path, model="CBAM", history=epochs_of(1.0))  # resumed from a state of an older version: 1 of 3 epochs
    assert report(tmp_path) == 0
    assert "training_" not in capsys.readouterr().out
    assert not list((tmp_path / "results").glob("training_*"))
    keep(tmp_path, history=epochs_of(3.0, 2.0, 1.0, accuracies=(None,) * 3))
    assert [curve.model for curve in curves_in(tmp_path)] == ["SimpleCNN"]
    assert curves_in(tmp_path, "validation_accuracy") == []
    assert report(tmp_path) == 0
    assert {path.name for path in (tmp_path / "results").glob("training_*")} == {
        "training_mnist.png",
        "training_mnist.pdf",
    }


@pytest.mark.usefixtures("rendered")
def test_training_and_report_draw_the_same_figure(data_dir, tmp_path, capsys):
    options = ["--train", "--target=mnist", "--epochs=2", "--batch-size=64", "--seeds=2"]
    assert run(data_dir, tmp_path, options) == 0
    picture = tmp_path / "results" / "training_mnist.png"
    assert f"figure: {picture}" in capsys.readouterr().out
    drawn = picture.read_bytes()
    picture.unlink()
    assert run(data_dir, tmp_path, ["--report", "--target=mnist"]) == 0
    assert f"written: {picture}" in capsys.readouterr().out
    assert picture.read_bytes() == drawn
    (curve,) = curves_in(tmp_path)
    assert [len(values) for values in curve.seeds] == [2, 2]


def test_a_damaged_checkpoint_of_another_model_costs_the_figure_alone(data_dir, tmp_path, capsys):
    keep(tmp_path, model="CAM")
    path = tmp_path / "checkpoints" / "mnist_CAM_seed0.pt"
    path.write_bytes(path.read_bytes()[:-50])
    assert run(data_dir, tmp_path, ["--train", "--target=mnist", "--epochs=1", "--batch-size=64"]) == 0
    assert f"no figure: {path} is damaged" in capsys.readouterr().out


def test_published_trainings_have_their_history_and_old_lines_stay(tmp_path):
    keep(tmp_path)
    published = tmp_path / "published"
    gather(tmp_path / "checkpoints", tmp_path / "results", published)
    before = (published / "records.jsonl").read_text()
    assert write_training_curves(["mnist"], load_trainings(published), published, quick=False) == []
    history = epochs_of(3.0, 2.0, 1.0)
    keep(tmp_path, seed=1, history=history)
    gather(tmp_path / "checkpoints", tmp_path / "results", published)
    assert before in (published / "records.jsonl").read_text()
    assert load_trainings(published)["mnist_SimpleCNN_seed1"]["history"] == history
