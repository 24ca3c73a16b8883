"""A training depends on its seed alone, whatever the model draws, and whatever was drawn before it."""

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import experiments.checkpoints
from data import Dataset
from evaluation.retraining import Retraining
from evaluation.runs import Run
from tests.train_and_save import train_and_save
from training.augmentation import sample_augmentation
from training.checkpoint import weights_sha256
from training.classifier import restore
from training.config import TrainingConfig
from training.finetuning import finetune, finetuning_record
from training.inputs import Images, Normalisation, load_labels
from training.loop import initialise, make_optimiser, predict, seed_for, train
from training.networks import new_model
from training.recipe import recipe_for
from training.step import TrainingStep

CPU = torch.device("cpu")
RECIPE = replace(recipe_for("mnist"), epochs=2, batch_size=50)
DRAWING = "tests.own_model:drawing"
IMAGES = 200


def order(seed: int = 0) -> TrainingConfig:
    return TrainingConfig("mnist", DRAWING, seed, RECIPE, IMAGES, validation_rate=0.1)


def draw() -> None:
    """Simulate other work between two trainings."""
    random.random()
    np.random.rand(3)  # noqa: NPY002
    torch.rand(3)


def states() -> tuple[object, ...]:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


def trained(mnist: Dataset, folder: Path, seed: int = 0) -> str:
    draw()
    return train_and_save(order(seed), mnist, folder, CPU).sha256


def test_the_same_seed_gives_the_same_weights_in_any_order(mnist, tmp_path):
    first = [trained(mnist, tmp_path / "a", seed) for seed in (0, 1)]
    second = [trained(mnist, tmp_path / "b", seed) for seed in (1, 0)]
    assert first == second[::-1]
    assert first[0] != first[1]


def test_the_same_in_another_process(mnist, tmp_path):
    here = trained(mnist, tmp_path)
    code = (
        "import sys; from pathlib import Path; from data import load_dataset\n"
        "from data.catalog import CATALOG; from tests.samples import sample_entry\n"
        "CATALOG['mnist'] = sample_entry('mnist')\n"
        "from tests.test_random_state import trained\n"
        "print(trained(load_dataset('mnist', Path(sys.argv[1])), Path(sys.argv[2])))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "data"), str(tmp_path / "there")]
    there = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert there.stdout.split()[-1] == here


def test_a_resumed_training_draws_the_same(mnist, tmp_path, monkeypatch):
    unbroken = trained(mnist, tmp_path / "unbroken")
    save = experiments.checkpoints.ResumeFile.save

    def save_and_die(file, state):
        save(file, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(experiments.checkpoints.ResumeFile, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            trained(mnist, tmp_path / "broken")
    draw()
    assert train_and_save(order(), mnist, tmp_path / "broken", CPU, resume=True).sha256 == unbroken


def test_retraining_and_fine_tuning_too(mnist, tmp_path):
    limited = mnist.subset(IMAGES, 40)
    run = Run("baseline", "mnist", mnist.sha256, "tests.own_model.drawing", 0, RECIPE, IMAGES, 40)
    accuracies, tuned = [], []
    checkpoint = train_and_save(order(), mnist, tmp_path, CPU)
    record = finetuning_record(checkpoint, RECIPE, 0.5, "mean", IMAGES)
    for _ in range(2):
        draw()
        retraining = Retraining(limited, Normalisation.from_dataset(mnist, CPU), CPU)
        accuracies.append(replace(retraining.execute(run, None, lambda images: None), seconds=0))
        tuned.append(finetune(checkpoint, mnist, record, RECIPE, CPU).sha256)
    assert accuracies[0] == accuracies[1]
    assert tuned[0] == tuned[1]


def test_weights_that_numpy_or_random_draw_depend_on_the_seed_and_come_back(mnist, tmp_path):
    def scale(seed: int) -> float:
        draw()
        return float(initialise(lambda: new_model("mnist", DRAWING), seed, CPU).scale)

    assert scale(3) == scale(3) != scale(4)
    checkpoint = train_and_save(order(7), mnist, tmp_path, CPU)
    assert float(restore(checkpoint, CPU).scale) == scale(7), "what the state doesn't hold is drawn as before training"


def test_the_global_generators_go_on_as_if_nothing_had_been_trained(mnist, tmp_path):
    before = states()
    checkpoint = train_and_save(order(), mnist, tmp_path, CPU)
    restore(checkpoint, CPU)
    assert states() == before


def test_what_our_own_models_learn_is_what_the_plain_loop_teaches(mnist):
    """Step by step as in `train`, without a thought of global generators: bit by bit the same."""
    limited = mnist.subset(IMAGES, 10)
    images, labels = Images(limited.train, Normalisation.from_dataset(mnist, CPU), CPU), load_labels(limited.train, CPU)
    ours = initialise(lambda: new_model("mnist", None), 0, CPU)
    train(ours, images, labels, RECIPE, 0)

    plain = initialise(lambda: new_model("mnist", None), 0, CPU)
    generator = torch.Generator().manual_seed(seed_for(0, "order"))
    rows = torch.randperm(IMAGES, generator=generator)
    optimiser, schedule = make_optimiser(plain, RECIPE, IMAGES // RECIPE.batch_size * RECIPE.epochs)
    step = TrainingStep(plain, optimiser, RECIPE, images, labels)
    for _ in range(RECIPE.epochs):
        plain.train()
        shuffled = rows[torch.randperm(IMAGES, generator=generator)]
        draws = sample_augmentation(RECIPE, IMAGES, generator, CPU)
        for batch in zip(*(each.split(RECIPE.batch_size) for each in (shuffled, *draws)), strict=True):
            step(*batch)
            schedule.step()
    assert weights_sha256(ours.state_dict()) == weights_sha256(plain.state_dict())


def test_initial_weights_are_those_of_torch_with_this_seed():
    ours = initialise(lambda: new_model("mnist", None), 5, CPU)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(5, "weights"))
        plain = new_model("mnist", None)
    assert weights_sha256(ours.state_dict()) == weights_sha256(plain.state_dict())


def test_dropout_that_never_stops_gives_one_prediction(mnist):
    model = initialise(lambda: new_model("mnist", DRAWING), 0, CPU)
    model.dropout.forward = lambda images: torch.nn.functional.dropout(images, 0.9)
    images = Images(mnist.test, Normalisation.from_dataset(mnist, CPU), CPU)
    assert torch.equal(predict(model, images), predict(model, images))
