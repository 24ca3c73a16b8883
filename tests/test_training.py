import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import InputError
from data import Dataset
from experiments.checkpoints import find_classifier, load_checkpoint, save_checkpoint
from models import build_model
from tests.train_and_save import train_and_save
from training.augmentation import augment, sample_augmentation, shift
from training.checkpoint import Checkpoint, weights_sha256
from training.classifier import restore
from training.config import TrainingConfig
from training.device import has_bfloat16, resolve_device
from training.inputs import Images, Normalisation, channel_statistics, load_labels
from training.loop import initialise, predict, seed_for, train
from training.recipe import RECIPES, finetuning_recipe, recipe_for
from training.step import TrainingStep

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
SHORT = replace(recipe_for("mnist"), epochs=2, batch_size=64)
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=CUDA)]


def mnist_training(mnist: Dataset, device: torch.device = CPU) -> tuple[Images, torch.Tensor]:
    return Images(mnist.train, Normalisation.from_dataset(mnist, device), device), load_labels(mnist.train, device)


def trained_weights(mnist: Dataset, seed: int, device: torch.device = CPU) -> dict[str, torch.Tensor]:
    model = initialise(lambda: build_model("mnist"), seed, device)
    train(model, *mnist_training(mnist, device), SHORT, seed)
    return model.state_dict()


def test_the_first_epochs_see_images_of_half_the_size(mnist):
    sizes = []
    model = initialise(lambda: build_model("mnist", "tests.own_model:small"), 0, CPU)
    model.register_forward_pre_hook(lambda _model, images: sizes.append(tuple(images[0].shape[1:])))
    images, labels = mnist_training(mnist)
    train(model, images, labels, replace(SHORT, epochs=3, small_epochs=2, batch_size=len(images)), 0)
    trained = [size for size in sizes[1:] if size]  # after the trial
    assert trained == [(1, 14, 14), (1, 14, 14), (1, 28, 28)]


def test_half_of_an_image_is_its_mean_over_blocks(mnist):
    images, labels = mnist_training(mnist)
    step = TrainingStep(
        build_model("mnist"), None, replace(SHORT, crop=0, small_epochs=1), images, labels, half_size=True
    )
    index, shifts = torch.arange(3), torch.zeros(3, 2, dtype=torch.int64)
    whole = images.batch(index)
    means = whole.unflatten(3, (14, 2)).unflatten(2, (14, 2)).mean((3, 5))
    torch.testing.assert_close(step.batch(index, shifts)[0], means)


def test_small_epochs_belong_to_the_recipe_alone():
    assert recipe_for("cifar10", "RAN").small_epochs > 0
    assert recipe_for("cifar10", "RAN", epochs=1).small_epochs == 0
    assert recipe_for("cifar10", "RAN", quick=True).small_epochs == 0
    assert recipe_for("cifar10", "RAN", epochs=5, small_epochs=4).small_epochs == 4
    assert finetuning_recipe(recipe_for("cifar10", "RAN")).small_epochs == 0
    assert "small_epochs" not in recipe_for("cifar10").plain()
    with pytest.raises(InputError, match="small-epochs"):
        recipe_for("cifar10", "RAN", epochs=1, small_epochs=2)


def test_a_network_of_one_size_can_not_begin_with_small_images(mnist):
    model = initialise(lambda: build_model("mnist"), 0, CPU)
    with pytest.raises(InputError, match="one size"):
        train(model, *mnist_training(mnist), replace(SHORT, small_epochs=1), 0)


def test_normalisation_uses_the_statistics_of_the_training_images(cifar10):
    mean, std = channel_statistics(cifar10.train.images)
    exact = cifar10.train.images.reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, exact.std(axis=0), rtol=1e-12)
    normalisation = Normalisation.from_dataset(cifar10, CPU)
    batch = Images(cifar10.train, normalisation, CPU).batch(torch.arange(len(cifar10.train)))
    assert batch.shape == (30, 3, 32, 32)
    torch.testing.assert_close(batch.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    pixel = (cifar10.train.images[4, 5, 6] / 255 - mean) / np.array(std)
    np.testing.assert_allclose(batch[4, :, 5, 6], pixel, rtol=1e-5)


def test_shift_equals_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(9, 3, 8, 6, generator=generator)
    shifts = torch.tensor([[0, 1, 2, 3, 4, 0, 4, 2, 1], [4, 3, 2, 1, 0, 0, 4, 1, 2]])
    border = torch.tensor([-1.0, -2.0, -3.0])
    actual = shift(images, shifts.T, 2, border)
    for n in range(9):
        for row in range(8):
            for column in range(6):
                y, x = row + int(shifts[0, n]) - 2, column + int(shifts[1, n]) - 2
                expected = images[n, :, y, x] if 0 <= y < 8 and 0 <= x < 6 else border
                assert torch.equal(actual[n, :, row, column], expected)


def test_augmentation_draws_per_image_and_flips_half():
    recipe = replace(recipe_for("cifar10"), crop=0)
    images = torch.arange(4.0).expand(1000, 1, 4, 4)
    draws = sample_augmentation(recipe, 1000, torch.Generator().manual_seed(0), CPU)
    actual = augment(images, torch.zeros(1), recipe.crop, *draws)
    flipped = (actual == images.flip(3)).flatten(1).all(1)
    assert ((actual == images).flatten(1).all(1) ^ flipped).all()
    assert 430 < flipped.sum() < 570
    shifts, _flips = sample_augmentation(recipe_for("cifar10"), 1000, torch.Generator().manual_seed(0), CPU)
    assert shifts.shape == (1000, 2)
    assert set(shifts.flatten().tolist()) == set(range(9))


@pytest.mark.parametrize("device", DEVICES)
def test_training_learns(mnist, device):
    images, labels = mnist_training(mnist, device)
    model = initialise(lambda: build_model("mnist"), 0, device)
    steps: list[tuple[int, float | None]] = []
    recipe = replace(SHORT, epochs=6, batch_size=32)
    trained = train(model, images, labels, recipe, 0, 0.1, lambda n, accuracy: steps.append((n, accuracy)))
    test = Images(mnist.test, Normalisation.from_dataset(mnist, device), device)
    assert (predict(model, test).cpu().numpy() == mnist.test.labels).mean() > 0.8
    assert sum(n for n, _ in steps) == 6 * (540 // 32) * 32
    assert [accuracy for _, accuracy in steps if accuracy is not None][-1] == trained.validation_accuracy > 0.8


@pytest.mark.usefixtures("two_threads")
def test_same_seed_gives_bit_identical_weights_and_another_seed_does_not(mnist):
    first, again, other = (trained_weights(mnist.subset(200), seed) for seed in (0, 0, 1))
    assert weights_sha256(first) == weights_sha256(again) != weights_sha256(other)


def test_training_leaves_the_global_random_state_alone(mnist):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    trained_weights(mnist, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_differ_by_purpose():
    assert len({seed_for(seed, purpose) for seed in range(10) for purpose in ("weights", "order")}) == 20


def test_held_out_images_are_not_trained_on(mnist):
    images, labels = mnist_training(mnist)
    seen: set[int] = set()

    class Watched:
        border = images.border

        def __len__(self):
            return len(images)

        def batch(self, index):
            if model.training:
                seen.update(index.tolist())
            else:
                held_out.update(index.tolist())
            return images.batch(index)

    held_out: set[int] = set()
    model = initialise(lambda: build_model("mnist"), 0, CPU)
    train(model, Watched(), labels, replace(SHORT, batch_size=540), 0, validation_rate=0.1)
    assert len(held_out) == 60
    assert len(seen) == 540
    assert not seen & held_out


def test_predictions_do_not_depend_on_the_batch(mnist):
    images, _labels = mnist_training(mnist)
    model = initialise(lambda: build_model("mnist"), 0, CPU)
    some = torch.tensor([17, 3, 599])
    assert torch.equal(predict(model, images)[some], predict(model, images, some))


@pytest.mark.parametrize(("change", "message"), [({"learning_rate": 1e12}, "--lr"), ({}, "--valid-rate")])
def test_hopeless_training_is_refused(mnist, change, message):
    model = initialise(lambda: build_model("mnist"), 0, CPU)
    with pytest.raises(InputError, match=message):
        train(model, *mnist_training(mnist), replace(SHORT, **change), 0, 0.0 if change else 1.0)


def test_checkpoint_round_trip(mnist, tmp_path):
    order = TrainingConfig("mnist", None, 0, SHORT)
    saved = train_and_save(order, mnist, tmp_path, CPU)
    read = find_classifier(order, mnist.sha256, tmp_path)
    assert read is not None
    assert read.sha256 == saved.sha256 == weights_sha256(saved.weights)
    assert order.plain().items() <= read.metadata.items()
    model = restore(read, CPU)
    correct = (
        predict(model, Images(mnist.test, Normalisation.from_dataset(mnist, CPU), CPU)).numpy() == mnist.test.labels
    )
    assert read.metadata["test_accuracy"] == correct.mean()
    assert read.metadata["test_accuracy_per_class"][3] == correct[mnist.test.labels == 3].mean()
    with pytest.raises(InputError, match="dataset_sum"):
        find_classifier(order, "other data", tmp_path)


def test_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "linear.pt"
    weights, metadata = nn.Linear(50, 50).state_dict(), {"recipe": {"epochs": 1}}
    save_checkpoint(path, Checkpoint(weights, weights_sha256(weights), metadata))
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            read = load_checkpoint(path)
        except InputError as refusal:
            assert "linear.pt is damaged" in str(refusal)
            refused += 1
        else:  # a byte of the container that carries nothing
            assert (read.sha256, read.metadata) == (weights_sha256(weights), metadata)
    assert refused > 0.8 * len(range(0, len(whole), 97))


def test_checkpoint_that_runs_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return type(tmp_path).touch, (tmp_path / "was-run",)

    torch.save({"weights": Attack()}, tmp_path / "attack.pt")
    with pytest.raises(InputError, match="damaged or no checkpoint"):
        load_checkpoint(tmp_path / "attack.pt")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cuda:x", "cpu:1", ""])
def test_device_that_is_not_there(name):
    with pytest.raises(InputError, match="device"):
        resolve_device(name)


def test_device_automatic():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("flags", "has_it"), [("fpu avx512f avx512_bf16", True), ("fphp bf16", True), ("fpu avx512f avx2", False)]
)
def test_bfloat16_is_used_where_the_processor_multiplies_it(monkeypatch, flags, has_it):
    monkeypatch.setattr("training.device._cpu_info", lambda: f"model name : it\nflags : {flags}\n")
    ask = has_bfloat16.__wrapped__  # whose answer is not kept
    assert ask("cpu") == has_it
    assert not ask("mps")


FAULTS = """
import resource, sys
import torch
from training.device import keep_freed_memory

is_kept = sys.argv[1] == "keep" and keep_freed_memory()
for turn in range(40):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(10_000_000) for _ in range(2)]
    del tensors
print(is_kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks to glibc")
def test_memory_that_was_freed_is_not_asked_for_again():
    """80 MB in two tensors, for the fortieth time: 20,000 pages from the system, or none.

    The first times the heap still grows, until what lies between the tensors has found its place.
    """
    commands = ([sys.executable, "-c", FAULTS, mode] for mode in ("keep", "free"))
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT) for command in commands]
    (done, faults), (_undone, usual) = (run.stdout.split() for run in runs)
    assert done == "True"
    assert int(faults) < 100 < int(usual)


def test_recipe_takes_what_is_given():
    recipe = recipe_for("mnist", quick=True, epochs=7)
    assert (recipe.epochs, recipe.batch_size) == (7, 64)
    assert recipe_for("cifar10") == RECIPES["cifar10", "SimpleCNN"]


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_levels_from_the_table_are_bit_by_bit_those_of_the_formula(name, request):
    dataset = request.getfixturevalue(name)
    normalisation = Normalisation.from_dataset(dataset, CPU)
    images = Images(dataset.test, normalisation, CPU).images[:20]
    assert torch.equal(normalisation.look_up(images), normalisation(images))
