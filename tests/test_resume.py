from dataclasses import replace

import pytest
import torch

import experiments.checkpoints
import training.step
from common.errors import InputError
from experiments.checkpoints import ResumeFile
from tests.train_and_save import train_and_save
from training.config import TrainingConfig
from training.recipe import recipe_for

CPU = torch.device("cpu")
RECIPE = replace(recipe_for("mnist"), epochs=4, batch_size=100)


def order(attention: str | None = None) -> TrainingConfig:
    return TrainingConfig("mnist", attention, 0, RECIPE, limit_train=300, validation_rate=0.1)


class Killed(BaseException):
    pass


def interrupt(monkeypatch, epochs: int) -> None:
    """Kill the training right after the state of `epochs` epochs was written."""
    save = experiments.checkpoints.ResumeFile.save

    def save_and_die(file, state):
        save(file, state)
        if state.epochs == epochs:
            raise Killed

    monkeypatch.setattr(experiments.checkpoints.ResumeFile, "save", save_and_die)


@pytest.mark.parametrize(("attention", "epochs"), [(None, 1), (None, 3), (None, 4), ("CBAM", 3)])
def test_resumed_training_ends_bit_identical(mnist, tmp_path, monkeypatch, attention, epochs):
    unbroken = train_and_save(order(attention), mnist, tmp_path / "unbroken", CPU)
    folder = tmp_path / "broken"
    with monkeypatch.context() as patch:
        interrupt(patch, epochs)
        with pytest.raises(Killed):
            train_and_save(order(attention), mnist, folder, CPU)
    assert [path.name for path in folder.iterdir()] == [f"{order(attention).path(folder).name}.resume"]
    state = ResumeFile.of(order(attention), mnist.sha256, folder).load()
    assert state is not None
    assert state.epochs == epochs

    resumed = train_and_save(order(attention), mnist, folder, CPU, resume=True)
    assert resumed.sha256 == unbroken.sha256
    changing = {"seconds"}
    assert {k: v for k, v in resumed.metadata.items() if k not in changing} == {
        k: v for k, v in unbroken.metadata.items() if k not in changing
    }
    assert resumed.metadata["seconds"] >= round(state.seconds, 2)
    assert len(resumed.metadata["history"]) == RECIPE.epochs
    assert state.history == unbroken.metadata["history"][:epochs]
    assert [path.name for path in folder.iterdir()] == [order(attention).path(folder).name]


def test_only_the_missing_epochs_are_trained(mnist, tmp_path, monkeypatch):
    interrupt(monkeypatch, 3)
    with pytest.raises(Killed):
        train_and_save(order(), mnist, tmp_path, CPU)
    epochs = []
    monkeypatch.setattr(experiments.checkpoints.ResumeFile, "save", lambda _file, state: epochs.append(state.epochs))
    train_and_save(order(), mnist, tmp_path, CPU, resume=True)
    assert epochs == [4]


def test_a_state_of_an_older_version_has_no_history(mnist, tmp_path, monkeypatch):
    unbroken = train_and_save(order(), mnist, tmp_path / "unbroken", CPU)
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(Killed):
            train_and_save(order(), mnist, tmp_path, CPU)
    path = ResumeFile.of(order(), mnist.sha256, tmp_path).path
    content = torch.load(path, weights_only=True)
    del content["history"]
    torch.save(content, path)
    resumed = train_and_save(order(), mnist, tmp_path, CPU, resume=True)
    assert resumed.sha256 == unbroken.sha256
    assert resumed.metadata["history"] == unbroken.metadata["history"][3:]


def test_without_the_option_a_training_begins_anew(mnist, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(Killed):
            train_and_save(order(), mnist, tmp_path, CPU)
    epochs = []
    monkeypatch.setattr(experiments.checkpoints.ResumeFile, "save", lambda _file, state: epochs.append(state.epochs))
    train_and_save(order(), mnist, tmp_path, CPU)
    assert epochs == [1, 2, 3, 4]


def test_a_state_that_can_not_be_used_is_refused(mnist, tmp_path, monkeypatch):
    interrupt(monkeypatch, 1)
    with pytest.raises(Killed):
        train_and_save(order(), mnist, tmp_path, CPU)
    with pytest.raises(InputError, match="of another training"):
        train_and_save(replace(order(), limit_train=200), mnist, tmp_path, CPU, resume=True)
    path = ResumeFile.of(order(), mnist.sha256, tmp_path).path
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="is damaged"):
        train_and_save(order(), mnist, tmp_path, CPU, resume=True)


def test_a_training_that_diverged_leaves_nothing_to_resume(mnist, tmp_path, monkeypatch):
    interrupt(monkeypatch, 99)
    losses = iter([1.0, 1.0])
    real = training.step.compute_loss
    monkeypatch.setattr(training.step, "compute_loss", lambda *a: real(*a) * next(losses, float("nan")))
    with pytest.raises(InputError, match="diverged"):
        train_and_save(order(), mnist, tmp_path, CPU)
    assert list(tmp_path.glob("*.pt*")) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_resumed_training_ends_alike_on_a_gpu(mnist, tmp_path, monkeypatch):
    device = torch.device("cuda")
    unbroken = train_and_save(order(), mnist, tmp_path / "unbroken", device)
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.raises(Killed):
            train_and_save(order(), mnist, tmp_path, device)
    resumed = train_and_save(order(), mnist, tmp_path, device, resume=True)
    assert resumed.metadata["test_accuracy"] == pytest.approx(unbroken.metadata["test_accuracy"], abs=0.05)
