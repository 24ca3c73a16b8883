"""Networks by the names of torchvision and timm, with weights of their own or given."""

import builtins
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import ResNet50_Weights, shufflenet_v2_x0_5
from torchvision.transforms.functional import InterpolationMode

from attribution import build_method
from common.errors import InputError
from data import Dataset, Split
from experiments.given import folder_options
from experiments.request import Request
from models import (
    build_model,
    model_code,
    model_name,
    parse_model_name,
    require_unchanged_model,
    split_weights,
    with_weights,
)
from models.preprocessing import Preprocessing, preprocessing_of
from models.zoo import require_library
from tests.own_model import Small
from training.classifier import restore
from training.config import TrainingConfig
from training.device import device_name, has_bfloat16, resolve_device
from training.finetuning import finetune
from training.given import load_given, normalisation_for
from training.inputs import Normalisation
from training.recipe import recipe_for

CPU = torch.device("cpu")
TINY = "torchvision:shufflenet_v2_x0_5"
SHAPE = (3, 32, 32)

PLACES = [
    *("timm:resnet18.a1_in1k", "timm:vit_tiny_patch16_224", "torchvision:resnet50", "package.module:factory"),
    *("timm/resnet.py:build", "nets@home/net.py:build", "a+b/deadbeef+0123abcd.py:build"),
]


@pytest.mark.parametrize("place", [None, "CBAM", "RAN92", *PLACES])
def test_names_go_both_ways_with_weights_and_without(place):
    given = with_weights(place, "0123abcd" * 8)
    assert split_weights(given) == (place, "0123abcd")
    assert split_weights(place) == (place, None)
    names = [model_name(place), model_name(given)]
    assert [parse_model_name(name) for name in names] == [place, given]
    assert names[1] == names[0] + "+0123abcd"
    assert not any({"/", ":", " "} & set(name) for name in names)


def test_names_are_all_different():
    names = [
        model_name(with_weights(place, digits * 8)) for place in (None, *PLACES) for digits in ("01234567", "a" * 8)
    ]
    assert len(set(names)) == len(names)


def test_naming_a_network_imports_no_library():
    code = (
        "import sys; from models import model_name, parse_model_name; from models.zoo import split_zoo_place;"
        "parse_model_name(model_name('timm:resnet18+0123abcd'));"
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize(
    ("place", "shape"),
    [
        (TINY, SHAPE),
        (TINY, (1, 32, 32)),
        ("timm:test_resnet", SHAPE),
        ("timm:test_resnet.r160_in1k", (1, 32, 32)),
        ("timm:test_vit", (3, 48, 32)),
        ("torchvision:vit_b_32", (3, 64, 64)),
    ],
)
def test_a_network_by_name_has_the_shape_of_the_images(place, shape):
    model = build_model("anything", place, shape=shape, classes=6).eval()
    assert model(torch.zeros(2, *shape)).shape == (2, 6)


def test_torchvision_sees_grey_as_three_equal_channels():
    torch.manual_seed(0)
    colour = build_model("", TINY, shape=SHAPE, classes=4).eval()
    torch.manual_seed(0)
    grey, images = build_model("", TINY, shape=(1, 32, 32), classes=4).eval(), torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("torchvision:resnet5", "torchvision:resnet50"),
        ("timm:vit_tny_patch16_224", "timm:vit_tiny_patch16_224"),
        ("timm:resnet18.no_such_tag", "did you mean timm:resnet18"),
        ("timm:§", "no network's name"),
        ("timm:", "no network's name"),
        ("timm:hf-hub:someone/network", "no network's name"),
        ("torchvision:zzzzqqqq", "list_models"),
        ("torchvision:fcn_resnet50", "no classifier"),
        ("torchvision:raft_small", "no classifier"),
        ("torchvision:inception_v3", "auxiliary classifiers"),
        ("torchvision:vit_b_16", "for images of"),
        ("timm:test_vit", "fails on images of|can't be built"),
        ("torchvision:alexnet", "fails on images of"),
        ("tests.own_model:with_several_labels", "several labels"),
    ],
)
def test_a_network_that_is_not_there_is_one_line(place, words):
    with pytest.raises(InputError, match=words) as caught:
        build_model("", place, shape=(3, 9, 9), classes=4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["torchvision:alexnet", "timm:test_resnet"])
def test_two_channels(place):
    if place.startswith("torchvision"):
        with pytest.raises(InputError, match="3 channels"):
            build_model("", place, shape=(2, 64, 64), classes=4)
    else:
        assert build_model("", place, shape=(2, 64, 64), classes=4).eval()(torch.zeros(1, 2, 64, 64)).shape == (1, 4)


def test_a_library_that_is_not_installed_is_one_line():
    with pytest.raises(InputError, match="pip install no_such_library"):
        require_library("no_such_library.torch")


def test_library_and_version_stand_for_the_code(monkeypatch):
    code = model_code(with_weights("timm:test_resnet", "0" * 64), SHAPE, 10)
    assert code == f"timm {timm.__version__}"
    require_unchanged_model("timm:test_resnet", code)
    assert model_code(TINY, SHAPE, 10) == f"torchvision {torch_vision_version()}"
    config = TrainingConfig("cifar10", "timm:test_resnet", 0, recipe_for("cifar10", "timm:test_resnet"))
    assert config.path(Path("x")) == Path("x/cifar10_timm@test_resnet_seed0.pt")
    assert config.plain()["model_code"] == code
    assert recipe_for("cifar10", with_weights("timm:test_resnet", "0" * 64)) == config.recipe


def torch_vision_version() -> str:
    import torchvision

    return str(torchvision.__version__).partition("+")[0]


def shufflenet(classes: int) -> nn.Module:
    torch.manual_seed(3)
    return shufflenet_v2_x0_5(num_classes=classes).eval()


def test_given_weights_are_restored_from_the_checkpoint_alone(tmp_path):
    source, images = shufflenet(7), torch.randn(2, *SHAPE)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    checkpoint = load_given(TINY, tmp_path / "weights.safetensors", SHAPE, 10, crop=1.0, mean=(0.1, 0.2, 0.3))
    metadata = checkpoint.metadata
    assert metadata["model"] == f"torchvision@shufflenet_v2_x0_5+{checkpoint.sha256[:8]}"
    assert (metadata["outputs"], metadata["image_shape"]) == (7, [3, 32, 32])
    assert metadata["preprocessing"]["mean"] == [0.1, 0.2, 0.3]
    assert metadata["weights"]["file"] == "weights.safetensors"
    torch.save(source.state_dict(), tmp_path / "same.pt")
    assert load_given(TINY, tmp_path / "same.pt", SHAPE, mean=(0.1, 0.2, 0.3)).metadata["model"] == metadata["model"]
    assert load_given(TINY, tmp_path / "same.pt", SHAPE).metadata["model"] != metadata["model"], "other normalisation"
    shipped = pickle.loads(pickle.dumps(checkpoint))
    torch.testing.assert_close(restore(shipped, CPU)(images), source(images))


def test_timm_weights_of_one_channel_and_their_preprocessing(tmp_path):
    torch.manual_seed(0)
    source = timm.create_model("test_vit", num_classes=4, in_chans=1, img_size=(32, 32)).eval()
    torch.save({"state_dict": source.state_dict()}, tmp_path / "last.pth.tar")
    with pytest.raises(InputError, match="mean and std for 3 channels, not for 1"):
        load_given("timm:test_vit", tmp_path / "last.pth.tar", (1, 32, 32))
    with pytest.raises(InputError, match="pos_embed"):
        load_given("timm:test_vit", tmp_path / "last.pth.tar")
    checkpoint = load_given("timm:test_vit", tmp_path / "last.pth.tar", (1, 32, 32), mean=(0.5,), std=(0.25,))
    images = torch.randn(3, 1, 32, 32)
    torch.testing.assert_close(restore(checkpoint, CPU)(images), source(images))


def test_grey_images_do_not_go_into_weights_for_colour(tmp_path):
    save_file(shufflenet(7).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="3 channels"):
        load_given(TINY, tmp_path / "weights.safetensors", (1, 32, 32))


def test_one_logit_counts_as_two_classes(tmp_path):
    torch.manual_seed(0)
    source, images = Small(3, 1).eval(), torch.randn(5, *SHAPE)
    torch.save(source.state_dict(), tmp_path / "binary.pt")
    for place in ("tests.own_model:small", "tests.own_model:with_one_logit"):
        checkpoint = load_given(place, tmp_path / "binary.pt", SHAPE, 2)
        assert checkpoint.metadata["outputs"] == 2
        probabilities = restore(checkpoint, CPU)(images).softmax(1)
        torch.testing.assert_close(probabilities[:, 1], source(images).sigmoid().flatten())
        maps = [build_method("VBP", restore(checkpoint, CPU)).attribute(images, target) for target in (0, 1)]
        assert maps[1].any()
        torch.testing.assert_close(maps[0], -maps[1])


def test_weights_of_a_factory():
    checkpoint = load_given("tests.own_model:with_own_weights", "pretrained", SHAPE, 10)
    assert checkpoint.metadata["outputs"] == 3
    assert checkpoint.weights["head.bias"].tolist() == [2.0] * 3
    assert checkpoint.metadata["model"].endswith(f".with_own_weights+{checkpoint.sha256[:8]}")
    for place, words in (
        ("tests.own_model:small", "takes no pretrained=True"),
        ("tests.own_model:with_hidden_state", "more than its weights"),
        ("CBAM", "no pretrained weights"),
    ):
        with pytest.raises(InputError, match=words):
            load_given(place, "pretrained", SHAPE, 10)


@pytest.mark.parametrize("place", [TINY, "timm:test_resnet.r160_in1k", "timm:test_resnet"])
def test_weights_that_can_not_be_downloaded_are_one_line(place, monkeypatch, tmp_path):
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError("no network\nreally none")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", refuse)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    with pytest.raises(InputError, match=r"no pretrained weights of .*--weights=FILE") as caught:
        load_given(place, "pretrained", SHAPE)
    assert "\n" not in str(caught.value)


def test_pretrained_weights_decide_on_the_classes(monkeypatch):
    state = shufflenet(1000).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *arguments, **options: state)
    checkpoint = load_given(TINY, "pretrained", SHAPE, 10)
    assert (checkpoint.metadata["outputs"], checkpoint.metadata["weights"]["file"]) == (1000, "pretrained")
    images = torch.randn(2, *SHAPE)
    torch.testing.assert_close(restore(checkpoint, CPU)(images), shufflenet(1000)(images))


def test_preprocessing_is_that_of_the_library():
    transforms = ResNet50_Weights.DEFAULT.transforms()
    assert transforms.interpolation == InterpolationMode.BILINEAR
    ours = preprocessing_of("torchvision:resnet50")
    assert (ours.mean, ours.std) == (tuple(transforms.mean), tuple(transforms.std))
    assert (ours.size, ours.interpolation) == ((224, 224), "bilinear")
    assert round(ours.size[0] / ours.crop) == transforms.resize_size[0] == 232
    vit = preprocessing_of(with_weights("timm:vit_small_patch16_224", "0" * 64))
    assert vit == Preprocessing((0.5,) * 3, (0.5,) * 3, (224, 224), 0.9, "bicubic")
    model = timm.create_model("test_resnet")
    assert preprocessing_of(None, model).plain() == preprocessing_of("timm:test_resnet").plain()
    assert Preprocessing.read(vit.plain()) == vit
    squashed = preprocessing_of("timm:convnextv2_nano.fcmae_ft_in22k_in1k_384")  # as the library resizes for it
    assert squashed.squash
    assert Preprocessing.read(squashed.plain()) == squashed
    request = Request.of({"target": ("folder:images",), "weights": "weights.pt"})
    assert folder_options(request, "timm:convnextv2_nano.fcmae_ft_in22k_in1k_384").squash
    assert not folder_options(request, "timm:vit_small_patch16_224").squash
    assert vit.override(size=(96, 96), mean=None) == Preprocessing((0.5,) * 3, (0.5,) * 3, (96, 96), 0.9, "bicubic")


def test_preprocessing_of_other_networks():
    model = nn.Identity()  # as networks of transformers say it
    model.config = SimpleNamespace(image_size=48)
    assert preprocessing_of(None, model) == Preprocessing(size=(48, 48))
    model.config.image_size = [48, 32]
    assert preprocessing_of(None, model) == Preprocessing(size=(48, 32))
    assert preprocessing_of("tests.own_model:small", nn.Identity()) == Preprocessing()
    with pytest.raises(InputError, match="size of its images"):
        load_given("tests.own_model:small", "weights.pt")


@pytest.mark.parametrize(
    "fields",
    [{"mean": (0.5,), "std": (1.0, 1.0)}, {"std": (0.0,)}, {"crop": 0}, {"size": (0, 4)}, {"interpolation": "magic"}],
)
def test_preprocessing_that_is_none(fields):
    with pytest.raises(InputError):
        Preprocessing(**fields)


def random_dataset() -> Dataset:
    generator = np.random.default_rng(0)
    train, test = (
        Split(generator.integers(0, 256, (count, 16, 16, 1), np.uint8), np.arange(count) % 10, np.arange(count))
        for count in (40, 10)
    )
    return Dataset("planted", train, test, tuple("abcdefghij"), "0")


def test_fine_tuning_begins_with_given_weights_and_their_normalisation(tmp_path):
    dataset, source = random_dataset(), Small(1, 12)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    checkpoint = load_given("tests.own_model:small", tmp_path / "weights.pt", (1, 16, 16), mean=(0.5,), std=(0.25,))
    normalisation = normalisation_for(checkpoint.metadata, dataset, CPU)
    white = torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)
    assert normalisation(white).item() == (1 - 0.5) / 0.25
    judged = Normalisation.of_network((0.5,), (0.25,), dataset.test.images, CPU)
    assert torch.equal(normalisation.fill("mean"), judged.fill("mean"))
    assert normalisation.fill("mean").abs() > 0.001, "zero would be the network's mean"
    assert normalisation_for({}, dataset, CPU).mean == Normalisation.from_dataset(dataset, CPU).mean

    recipe = replace(recipe_for("planted"), epochs=1, batch_size=10, learning_rate=1e-7)
    record = {"seed": 0, "limit_train": None, "most": 0.5, "fill": "mean"}
    result = finetune(checkpoint, dataset, record, recipe, CPU)
    for name, weight in source.state_dict().items():
        torch.testing.assert_close(result.weights[name], weight, rtol=0, atol=1e-5)
        assert not torch.equal(result.weights[name], weight) or name != "head.weight"


def test_mps_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(InputError, match="--device=cpu"):
        resolve_device("mps")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    device = resolve_device("mps")
    assert device.type == "mps"
    assert not has_bfloat16("mps")
    assert "Apple" in device_name(device)


def test_timm_is_imported_only_when_it_is_named(monkeypatch):
    real = builtins.__import__

    def guarded(name: str, *arguments: Any) -> Any:
        assert name.partition(".")[0] not in ("timm", "transformers", "safetensors")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", guarded)
    build_model("cifar10", TINY)
    preprocessing_of(TINY)
