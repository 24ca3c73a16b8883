"""Networks of tutorials on the command line: from training to maps."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from models import build_model
from models.adapter import adapt_model
from tests.own_model import Tutorial
from tests.run_main import run

OPTIONS = ["--quick", "--limit-train=8", "--limit-test=8"]


@pytest.mark.parametrize(
    "name", ["tutorial", "with_features", "with_names", "lazy", "weight_norm", "pruned", "bfloat16"]
)
def test_networks_of_tutorials_are_trained_and_explained(name, data_dir, tmp_path, capsys):
    model = f"--model=tests.own_model:{name}"
    asked = [model, "--target=cifar10", "--method=GC,VBP,GB", *OPTIONS]
    assert run(data_dir, tmp_path, ["--saliency", *asked]) == 0, capsys.readouterr().err
    (maps,) = (tmp_path / "saliency_maps").glob("*_VBP_*.h5")
    with h5py.File(maps) as file:
        attribution = file["test/attribution"][:]
    assert attribution.shape == (8, 3, 32, 32)
    assert np.isfinite(attribution).all()
    assert attribution.any()


@pytest.mark.parametrize(
    ("name", "words"),
    [("with_two_heads", "logits="), ("frozen", "no parameters to train"), ("for_other_images", "(3, 32, 32)")],
)
def test_what_can_not_be_trained_is_one_line(name, words, data_dir, tmp_path, capsys):
    assert (
        run(data_dir, tmp_path, ["--train", f"--model=tests.own_model:{name}", "--target=cifar10", *OPTIONS[:2]]) == 2
    )
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert words in line


def test_an_adapted_network_computes_what_it_did():
    torch.manual_seed(0)
    plain, images = Tutorial(3, 5), torch.randn(4, 3, 9, 9)
    expected = plain(images)
    model = adapt_model(plain, (3, 9, 9), "it").to(memory_format=torch.channels_last)
    assert all(weight.is_contiguous() for weight in model.parameters())
    torch.testing.assert_close(model(images.contiguous(memory_format=torch.channels_last)), expected)
    assert isinstance(model, Tutorial)
    assert model.training


def test_an_adapted_network_leaves_its_images_as_they_are():
    model = adapt_model(nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(27, 5)), (3, 3, 3), "it")
    images = torch.randn(2, 3, 3, 3)
    before, logits = images.clone(), model(images)
    assert torch.equal(images, before)
    torch.testing.assert_close(logits, model[2](before.relu().flatten(1)))


def test_a_network_that_reads_channels_last_gets_it():
    model = build_model("cifar10", "tests.own_model:small").to(memory_format=torch.channels_last)
    assert model.first.weight.is_contiguous(memory_format=torch.channels_last)


def test_statistics_and_counters_are_not_trained_by_the_trial():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 5))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    adapt_model(model, (3, 3, 3), "it")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
