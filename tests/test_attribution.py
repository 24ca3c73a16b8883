import copy

import captum.attr
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from attribution import (
    ANY_MODEL_METHODS,
    ENSEMBLE_REGISTRY,
    ENSEMBLES,
    METHODS,
    REGISTRY,
    build_method,
    canonical_ensemble,
    canonical_method,
)
from attribution.capture import Layer, capture
from attribution.fusing import fuse_batchnorm
from attribution.layers import find_layer
from attribution.network import Network
from attribution.pixel_hash import hash32, pixel_hash
from common.errors import InputError
from data import Dataset
from models import IMAGE_SHAPES, build_model
from tests.own_model import vgg
from training.inputs import Images, Normalisation


@pytest.fixture(params=["mnist", "cifar10"])
def explained(request, data_dir) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network with lively batch norm statistics, real images, and a class for each."""
    from data import load_dataset

    dataset: Dataset = load_dataset(request.param, data_dir)
    torch.manual_seed(0)
    model = build_model(request.param)
    cpu = torch.device("cpu")
    inputs = Images(dataset.test, Normalisation.from_dataset(dataset, cpu), cpu).batch(torch.arange(12))
    model.train()
    for _ in range(5):
        model(inputs)
    return model.eval(), inputs, torch.arange(12) % 10


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    return ((got - want).norm() / want.norm()).item()


def test_vbp_equals_finite_differences():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Softplus(), nn.Flatten(), nn.Linear(3 * 9, 4)).double()
    inputs, target, step = torch.randn(2, 2, 5, 5).double(), torch.tensor([1, 3]), 1e-6
    got = build_method("VBP", model).attribute(inputs, target)
    for n in range(2):
        for place in range(50):
            moved = torch.zeros(50).double()
            moved[place] = step
            ahead, behind = (model(inputs[n : n + 1] + sign * moved.view(1, 2, 5, 5))[0, target[n]] for sign in (1, -1))
            assert got[n].flatten()[place].item() == pytest.approx((ahead - behind).item() / (2 * step), abs=1e-6)


def test_vbp_equals_captum(explained):
    model, inputs, target = explained
    want = captum.attr.Saliency(model).attribute(inputs.clone().requires_grad_(), target, abs=False)
    assert relative_error(build_method("VGB", model).attribute(inputs, target), want) < 1e-5


def test_gc_equals_captum(explained):
    model, inputs, target = explained
    cam = captum.attr.LayerGradCam(model, model.features[2][2])
    want = cam.attribute(inputs, target, relu_attributions=True)
    want = captum.attr.LayerAttribution.interpolate(want, inputs.shape[2:], "bilinear")
    assert relative_error(build_method("GC", model).attribute(inputs, target), want) < 1e-5
    assert want.any()


def test_gc_worked_out_by_hand():
    """One 2×2 image, two 1×1 filters that give A_1 = x and A_2 = −2x, logits f = (Σ A_1 + 3 Σ A_2, −Σ A_1)."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
        model[2].weight.copy_(torch.tensor([[1.0] * 4 + [3.0] * 4, [-1.0] * 4 + [0.0] * 4]))
    inputs = torch.tensor([[[[1.0, -2.0], [3.0, 0.5]]]]).repeat(2, 1, 1, 1)
    got = build_method("GC", model).attribute(inputs, torch.tensor([0, 1]))
    # class 0: α = (1, 3): ReLU(1·x + 3·(−2x)) = ReLU(−5x); class 1: α = (−1, 0): ReLU(−x)
    assert torch.equal(got[0, 0], torch.tensor([[0.0, 10.0], [0.0, 0.0]]))
    assert torch.equal(got[1, 0], torch.tensor([[0.0, 2.0], [0.0, 0.0]]))


def test_gc_takes_a_layer_and_refuses_an_unknown_one(explained):
    model, inputs, target = explained
    first, last = (build_method("GC", model, layer=layer).attribute(inputs, target) for layer in ("features.0", None))
    assert first.shape == last.shape == (12, 1, *inputs.shape[2:])
    assert not torch.allclose(first, last)
    with pytest.raises(InputError, match=r"no layer 'stem'.*features\.0"):
        build_method("GC", model, layer="stem").attribute(inputs, target)


def test_gc_needs_no_way_back_before_its_layer(explained):
    """Not even one that exists: here the images are rounded by a library that knows no gradient."""

    class Behind(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(torch.from_numpy(images.detach().numpy().round(2)))

    model, inputs, target = explained
    model = copy.deepcopy(model).requires_grad_(False)
    want = build_method("GC", model).attribute(torch.from_numpy(inputs.numpy().round(2)), target)
    torch.testing.assert_close(build_method("GC", Behind(model)).attribute(inputs, target), want)
    assert want.any()


@pytest.mark.parametrize("is_fused", [False, True])
def test_guided_gradcam_is_the_product_of_the_two_bit_by_bit(is_fused, explained):
    model, inputs, target = explained
    network = fuse_batchnorm(model) if is_fused else lambda images: model(images)
    one, other = (build_method(name, network).attribute(inputs, target) for name in ("GB", "GC"))
    got = build_method("GB-GC", network).attribute(inputs, target)
    assert torch.equal(got, one * other)
    assert got.any()


class Functional(nn.Module):
    """Non-linearities and pooling as functions, in place: a block's output is a module's only at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)

    def forward(self, images):
        hidden = torch.relu_(self.first(images))
        return self.head(torch.relu_(self.last(hidden)).mean((2, 3)))


@pytest.mark.parametrize(
    ("build", "shape", "block"),
    [
        (lambda: build_model("mnist"), (1, 28, 28), "features.2.2"),
        (lambda: resnet18(num_classes=10), (3, 64, 64), "layer4"),
        (vgg, (3, 64, 64), "features.19"),
        (Functional, (1, 9, 9), "call 4 of a function, relu"),
    ],
    ids=["SimpleCNN", "ResNet-18", "VGG-11", "functional"],
)
def test_last_convolution_block_is_found(build, shape, block):
    found = find_layer(Network(build().eval()), torch.randn(1, *shape)).name
    assert found == block


def test_network_without_feature_map_is_refused():
    with pytest.raises(InputError, match="layer="):
        find_layer(Network(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))), torch.randn(1, 1, 2, 2))


def test_captured_activation_is_that_of_the_layer_even_if_the_next_works_in_place():
    model, inputs = Functional(), torch.randn(2, 1, 9, 9)
    with capture(Layer("last", model.last, 0, 1, lambda output: output)) as captured:
        model(inputs)
    want = nn.functional.conv2d(torch.relu(model.first(inputs)), model.last.weight, model.last.bias)
    torch.testing.assert_close(captured.activation, want)
    assert (captured.activation < 0).any()


@pytest.mark.parametrize("method", ANY_MODEL_METHODS)
def test_methods_leave_the_model_as_it_was(method, explained):
    model, inputs, target = explained
    before = {name: value.clone() for name, value in model.state_dict().items()}
    untouched = inputs.clone()
    got = build_method(method, model).attribute(inputs, target)
    assert got.dtype == torch.float32
    assert got.shape in {inputs.shape, (12, 1, *inputs.shape[2:])}
    assert not got.requires_grad
    assert got.isfinite().all()
    assert torch.equal(inputs, untouched)
    assert not inputs.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert not model.training


@pytest.mark.parametrize("method", ANY_MODEL_METHODS)
def test_maps_do_not_depend_on_batch_and_order(method, explained):
    model, inputs, target = explained
    whole = build_method(method, model).attribute(inputs, target)
    order = torch.tensor([5, 0, 11])
    part = build_method(method, model).attribute(inputs[order], target[order])
    torch.testing.assert_close(part, whole[order], rtol=1e-4, atol=1e-6)


def test_no_hook_stays_after_an_exception():
    class Failing(nn.Module):
        def forward(self, images):
            raise RuntimeError("out of order")

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), Failing())
    for layer in ("0", None):
        with pytest.raises(InputError, match="out of order"):
            build_method("GC", model, layer=layer).attribute(torch.randn(1, 1, 8, 8), torch.tensor([0]))
    assert not any(module._forward_hooks for module in model.modules())


def test_random_is_one_fixed_uniform_map_per_image(explained):
    model, inputs, target = explained
    method = build_method("RANDOM", model)
    maps = method.attribute(inputs, target)
    assert torch.equal(maps, method.attribute(inputs.contiguous(memory_format=torch.channels_last), target + 1))
    assert not torch.equal(maps, build_method("RANDOM", model, seed=1).attribute(inputs, target))
    assert len(torch.unique(maps)) > 0.99 * maps.numel()
    assert maps.min() >= 0
    assert maps.max() < 1
    assert maps.mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.corrcoef(maps.flatten(1)).fill_diagonal_(0).abs().max() < 0.15


def test_hash_is_a_bijection_without_pattern():
    low = hash32(torch.arange(2**20))
    assert len(torch.unique(low)) == 2**20
    for bit in range(32):
        assert ((low >> bit) & 1).double().mean().item() == pytest.approx(0.5, abs=0.003)
    numbers = pixel_hash(torch.arange(200), 784, seed=0)
    assert torch.equal(numbers[[7, 3]], pixel_hash(torch.tensor([7, 3]), 784, seed=0))
    assert len(torch.unique(numbers)) > 0.9999 * numbers.numel()


def test_hash_equals_plain_32_bit_arithmetic():
    x = 123456789
    x = ((x ^ (x >> 16)) * 0x7FEB352D) % 2**32
    x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
    assert hash32(torch.tensor([123456789])).item() == x ^ (x >> 16)


FIELD_NAMES = {
    "Gradient": "VBP",
    "InputXGradient": "IB",
    "IntegratedGradients": "IG",
    "Deconvolution": "DeconvNet",
    "GuidedBackprop": "GB",
    "GradCAM": "GC",
    "GuidedGradCAM": "GB-GC",
    "VGB": "VBP",
    "GBGC": "GB-GC",
}
ENSEMBLE_FIELD_NAMES = {"SmoothGrad": "SG", "SmoothGradSquared": "SG-SQ", "VarGrad": "SG-VAR"}


def test_names():
    for names, canonical in ((FIELD_NAMES, canonical_method), (ENSEMBLE_FIELD_NAMES, canonical_ensemble)):
        for alias, name in names.items():
            assert {canonical(spelling) for spelling in (alias, alias.lower(), alias.upper(), name.lower())} == {name}
    assert canonical_method("captum.attr:Saliency") == "captum.attr:Saliency"
    with pytest.raises(InputError, match="VBP, IB, IG"):
        canonical_method("LIME")
    with pytest.raises(InputError, match="SG, SG-SQ, SG-VAR"):
        canonical_ensemble("GC")
    with pytest.raises(InputError, match="VBP can't be built with layer"):
        build_method("VBP", nn.Identity(), layer="x")


def test_no_name_stands_for_two_entries():
    assert (set(REGISTRY), set(ENSEMBLE_REGISTRY)) == (set(METHODS), set(ENSEMBLES))
    for registry in (REGISTRY, ENSEMBLE_REGISTRY):
        names = [name.upper() for key, info in registry.items() for name in (key, *info.aliases)]
        assert len(names) == len(set(names))


def test_shapes_are_those_of_the_data_sets(published):
    for name, (channels, height, width) in IMAGE_SHAPES.items():
        assert published[name].shapes["train_images"][1:] in {(height, width), (height, width, channels)}
