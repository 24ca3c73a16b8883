"""Weights from files: every usual wrapping gives the source's logits; what is wrong is one line, and no code runs."""

import argparse
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from common.errors import InputError
from models.weights import build_with_weights, read_weights
from tests.own_model import Small
from training.given import load_given
from training.networks import new_model

SHAPE = (3, 16, 16)
PLACE = "tests.own_model:small"
Weights = dict[str, Tensor]


def small(classes: int = 5) -> nn.Module:
    torch.manual_seed(1)
    return Small(3, classes).eval()


def prefixed(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in weights.items()}


WRAPPINGS: dict[str, Callable[[Weights], Any]] = {
    "plain": lambda weights: weights,
    "state_dict, as timm and Lightning": lambda weights: {"state_dict": prefixed(weights, "model."), "epoch": 3},
    "model, as torchvision": lambda weights: {"model": weights, "args": argparse.Namespace(lr=0.1), "optimizer": {}},
    "model_state_dict": lambda weights: {"epoch": 1, "model_state_dict": weights, "loss": torch.tensor(0.5)},
    "net": lambda weights: {"net": weights, "acc": 94.5},
    "ema": lambda weights: {"ema": {"state_dict": weights}},
    "not ema": lambda weights: {"ema": {name: value + 1 for name, value in weights.items()}, "model": weights},
    "AveragedModel": lambda weights: {"n_averaged": torch.tensor(4)} | prefixed(weights, "module."),
    "our own": lambda weights: {"format": 1, "weights": weights, "sum": "0", "metadata": {"seed": 0}},
    "DataParallel": lambda weights: prefixed(weights, "module."),
    "compiled in Lightning": lambda weights: prefixed(weights, "model._orig_mod."),
    "backbone": lambda weights: prefixed(weights, "backbone."),
    "half": lambda weights: {name: value.bfloat16().float() for name, value in weights.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_each_wrapping_gives_the_logits_of_its_source(wrapping, tmp_path):
    source, images = small(), torch.randn(2, *SHAPE)
    content = WRAPPINGS[wrapping](source.state_dict())
    if wrapping == "half":
        source.load_state_dict(content)
        content = {name: value.bfloat16() for name, value in content.items()}
    torch.save(content, tmp_path / "weights.pt")
    model, classes = build_with_weights(PLACE, SHAPE, read_weights(tmp_path / "weights.pt"), 10)
    assert classes == 5
    torch.testing.assert_close(model(images), source(images))


def test_a_prefix_that_belongs_to_the_names_stays(tmp_path):
    source = nn.Sequential()
    source.model = small()
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    assert all(name.startswith("model.") for name in read_weights(tmp_path / "weights.pt"))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "old.pth"])
def test_formats_are_told_by_their_content(name, tmp_path):
    weights = small().state_dict()
    if name == "old.pth":
        torch.save(weights, tmp_path / name, _use_new_zipfile_serialization=False)
    else:
        save_file(weights, tmp_path / name)
    stored = read_weights(tmp_path / name)
    assert all(torch.equal(stored[key], weights[key]) for key in weights)


def test_resnet_with_its_own_number_of_classes(tmp_path):
    torch.manual_seed(0)
    source, images = resnet18(num_classes=7).eval(), torch.randn(2, 3, 32, 32)
    weights = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}  # an old file
    save_file(weights, tmp_path / "weights.safetensors")
    stored = read_weights(tmp_path / "weights.safetensors")
    model, classes = build_with_weights("torchvision:resnet18", (3, 32, 32), stored, 10)
    assert classes == 7
    torch.testing.assert_close(model(images), source(images))


@pytest.mark.parametrize(("attention", "shape"), [(None, (1, 28, 28)), ("WARN", (3, 32, 32))])
def test_our_own_networks_take_files_too(attention, shape, tmp_path):
    from models import build_model

    source = build_model("", attention, shape=shape, classes=3).eval()
    model, classes = build_with_weights(attention, shape, source.state_dict(), 10)
    images = torch.randn(2, *shape)
    assert classes == 3
    torch.testing.assert_close(model(images), source(images))


def test_a_training_begins_with_given_weights():
    weights = Small(1, 12).state_dict()
    model = new_model("mnist", PLACE, weights)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match="missing"):
        new_model("mnist", PLACE, {"first.weight": weights["first.weight"]})


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def without(name: str) -> Weights:
    return {key: value for key, value in small().state_dict().items() if key != name}


def changed(**values: Tensor) -> Weights:
    return small().state_dict() | {name.replace("__", "."): value for name, value in values.items()}


WRONG: dict[str, tuple[Any, str]] = {
    "empty": (b"", "empty"),
    "HTML": (b"\n<!DOCTYPE html><html><body>Sign in", "web page"),
    "pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "text": (b"hello, these are my weights", "damaged or no weights"),
    "JSON of shards": (b'{"weight_map": {"a": "model-00001.safetensors"}}', "damaged or no weights"),
    "zip that is none": (b"PK\x03\x04" + bytes(100), "damaged or no weights"),
    "pickle": (pickle.dumps({"weight": [1.0]}), "damaged or no weights"),
    "safetensors that is none": (bytes(8) + b"{}", r"no \.safetensors file"),
    "whole model": (small(), r"tests\.own_model\.Small"),
    "list": ([torch.zeros(2)], "a list"),
    "tensor": (torch.zeros(2), "a Tensor"),
    "nothing": ({}, "only nothing"),
    "state of an optimiser": ({"epoch": 3, "optimizer": {"lr": 0.1}}, "only epoch, optimizer"),
    "empty wrapper": ({"state_dict": {}}, "only nothing"),
    "missing": (without("first.weight"), r"1 missing \(first.weight\)"),
    "no head": (without("head.bias"), r"1 missing \(head.bias\)"),
    "unexpected": (changed(tail=torch.zeros(2)), r"1 unexpected \(tail\)"),
    "another network": ({f"layer{i}.weight": torch.zeros(2) for i in range(9)}, r"6 missing \(.*, …\), 9 unexpected"),
    "other shape": (changed(first__weight=torch.zeros(8, 1, 3, 3)), r"\(8, 1, 3, 3\), here \(8, 3, 3, 3\)"),
    "half a head": (changed(head__bias=torch.zeros(4)), r"head\.bias \(4,\), here \(10,\)"),
    "not finite": (changed(head__bias=torch.full((5,), torch.nan)), r"not finite \(head.bias\)"),
    "scalar for a matrix": (changed(head__weight=torch.tensor(1.0)), r"head\.weight \(\), here"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_one_line(case, tmp_path):
    content, words = WRONG[case]
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=words) as caught:
        load_given(PLACE, path, SHAPE, 10)
    assert "\n" not in str(caught.value)


def test_cut_files_and_places_that_are_no_files_are_one_line(tmp_path):
    weights = small().state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    save_file(weights, tmp_path / "weights.safetensors")
    for name in ("weights.pt", "weights.safetensors"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "folder").mkdir()
    torch.jit.save(torch.jit.trace(small(), torch.zeros(1, *SHAPE)), tmp_path / "program.pt")
    cases = {
        "weights.pt": "damaged",
        "weights.safetensors": "damaged",
        "folder": "is a folder",
        "nowhere.pt": "No such file",
        "program.pt": "TorchScript",
    }
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrapping", ["plain", "state_dict", "args"])
def test_no_code_is_run(wrapping, tmp_path):
    mark, path = tmp_path / "was-run", tmp_path / "weights.pt"
    attack = Attack(mark)
    contents = {
        "plain": attack,
        "state_dict": {"state_dict": small().state_dict() | {"x": attack}},
        "args": {"model": small().state_dict(), "args": argparse.Namespace(x=attack)},
    }
    torch.save(contents[wrapping], path)
    with pytest.raises(InputError, match="could run code"):
        read_weights(path)
    assert not mark.exists()
    assert (SimpleNamespace, "argparse.Namespace") not in torch.serialization.get_safe_globals()


def test_options_beside_the_weights_become_plain_data(tmp_path):
    torch.save(argparse.Namespace(lr=0.1), tmp_path / "args.pt")
    with torch.serialization.safe_globals([(SimpleNamespace, "argparse.Namespace")]):
        assert torch.load(tmp_path / "args.pt", weights_only=True) == SimpleNamespace(lr=0.1)
