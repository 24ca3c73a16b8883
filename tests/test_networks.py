"""Networks that other people wrote: their layers, outputs, modes and wrappers."""

import copy

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.mlp_mixer import MlpMixer
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.models import (
    convnext_tiny,
    densenet121,
    googlenet,
    mobilenet_v3_small,
    squeezenet1_1,
    swin_t,
)
from torchvision.models.vision_transformer import VisionTransformer

from attribution import ENSEMBLES, build_method
from attribution.layers import find_layer
from attribution.network import Network
from common.errors import InputError
from models import build_model

GRADIENTS = ("VBP", "IB", "IG", "GB", "DeconvNet")
LAYERS = ("GC", "GB-GC", "CO")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Shared(nn.Module):
    """One ReLU module for the convolutions and for the linear part."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.hidden, self.head = nn.Linear(8 * 25, 12), nn.Linear(12, 5)

    def forward(self, images):
        features = self.pool(self.relu(self.last(self.relu(self.first(images)))))
        return self.head(self.relu(self.hidden(features.flatten(1))))


class Functional(Shared):
    """The same with functions in place of modules."""

    def forward(self, images):
        features = F.max_pool2d(F.relu(self.last(F.relu(self.first(images)))), 2)
        return self.head(F.relu(self.hidden(features.flatten(1))))


class ConvolutionHead(nn.Module):
    """A 1×1 convolution gives the class scores, which are averaged."""

    def __init__(self, pool) -> None:
        super().__init__()
        self.last, self.scores, self.pool = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1), pool

    def forward(self, images):
        return self.pool(self.scores(torch.relu(self.last(images))))


class TwoStreams(nn.Module):
    """No feature map that everything goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 5), nn.Linear(8, 5)

    def forward(self, images):
        return self.head(torch.cat([self.left(images).mean((2, 3)), self.right(images).mean((2, 3))], dim=1))


def images(size=14, number=3):
    return torch.randn(number, 3, size, size), torch.tensor([0, 3, 1])[:number]


def grad_cam(activation, logits, target, size, arrange=lambda one: one):
    """Worked out by hand: ReLU(Σ_k mean(∂f_c/∂A_k) A_k), bilinearly interpolated."""
    (gradient,) = torch.autograd.grad(logits[range(len(logits)), target].sum(), activation)
    gradient, activation = arrange(gradient), arrange(activation)
    maps = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True).relu()
    return F.interpolate(maps.detach(), size=size, mode="bilinear", align_corners=False)


def noted(model, module, inputs):
    """The output of the only call of `module`, with its graph, and the logits."""
    outputs = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    logits = model(inputs)
    handle.remove()
    return outputs[0], logits


# A layer is a call


@pytest.mark.parametrize("kind", [Shared, Functional])
def test_grad_cam_is_of_the_rectified_convolution_whatever_calls_the_relu(kind):
    model, (inputs, target) = kind().eval(), images()
    activation = torch.relu(model.last(torch.relu(model.first(inputs))))
    logits = model.head(torch.relu(model.hidden(F.max_pool2d(activation, 2).flatten(1))))
    want = grad_cam(activation, logits, target, (14, 14))
    assert want.any()
    torch.testing.assert_close(build_method("GC", model).attribute(inputs, target), want)
    co = build_method("CO", model).attribute(inputs, target)
    torch.testing.assert_close(co, F.interpolate(activation.mean(1, keepdim=True), size=(14, 14), mode="bilinear"))
    guided = build_method("GB", model).attribute(inputs, target)
    torch.testing.assert_close(build_method("GB-GC", model).attribute(inputs, target), guided * want)


POOLS = {
    "mean": lambda scores: scores.mean((2, 3)),
    "maximum": lambda scores: scores.amax((2, 3)),
    "rectified mean": lambda scores: F.adaptive_avg_pool2d(scores.relu(), 1).flatten(1),
    "sum": lambda scores: scores.flatten(2).sum(2),
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_the_map_is_not_of_the_class_scores(pool):
    model, (inputs, target) = ConvolutionHead(pool).eval(), images()
    activation = torch.relu(model.last(inputs))
    want = grad_cam(activation, pool(model.scores(activation)), target, (14, 14))
    torch.testing.assert_close(build_method("GC", model).attribute(inputs, target), want)


def test_squeezenet_is_explained_before_its_classifier():
    model, inputs = squeezenet1_1(num_classes=7).eval(), torch.randn(2, 3, 64, 64)
    activation = model.features(inputs)
    want = grad_cam(activation, model.classifier(activation).flatten(1), torch.tensor([1, 2]), (64, 64))
    torch.testing.assert_close(build_method("GC", model).attribute(inputs, [1, 2]), want, rtol=1e-4, atol=1e-6)


def vision_transformer():
    model = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=5).eval()
    nn.init.normal_(model.heads.head.weight)  # torchvision begins with zeros
    return model


def test_vit_is_explained_on_its_patch_tokens_before_the_last_attention():
    model, (inputs, target) = vision_transformer(), images(32)
    tokens, logits = noted(model, model.encoder.layers[-1].ln_1, inputs)
    want = grad_cam(tokens, logits, target, (32, 32), lambda one: one[:, 1:].transpose(1, 2).reshape(3, -1, 4, 4))
    assert want.any()
    torch.testing.assert_close(build_method("GC", model).attribute(inputs, target), want, rtol=1e-5, atol=1e-7)
    assert find_layer(Network(model), inputs).name == "encoder.layers.encoder_layer_1.ln_1"


def test_swin_is_explained_with_its_channels_last():
    model, (inputs, target) = swin_t(num_classes=5).eval(), images(64)
    block = model.features[-1][-1]
    activation, logits = noted(model, block.norm1, inputs)
    assert activation.shape == (3, 2, 2, 768)
    want = grad_cam(activation, logits, target, (64, 64), lambda one: one.permute(0, 3, 1, 2))
    torch.testing.assert_close(build_method("GC", model).attribute(inputs, target), want, rtol=1e-5, atol=1e-7)
    given = build_method("GC", model, layer=block.norm1).attribute(inputs, target)
    named = build_method("GC", model, layer="features.7.1.norm1").attribute(inputs, target)
    torch.testing.assert_close(given, want, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(named, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "prefix"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64}, 1),
        ("vit_tiny_patch16_224", {"img_size": 64, "class_token": False, "global_pool": "avg"}, 0),
        ("deit_tiny_distilled_patch16_224", {"img_size": 64}, 2),
        ("vit_tiny_patch16_224", {"img_size": (32, 96), "reg_tokens": 4, "qk_norm": True}, 5),
    ],
)
def test_timm_vit(name, options, prefix):
    model = timm.create_model(name, num_classes=5, depth=2, **options).eval()
    height, width = model.patch_embed.img_size
    inputs, target = torch.randn(2, 3, height, width), torch.tensor([0, 3])
    tokens, logits = noted(model, model.blocks[-1].norm1, inputs)

    def arrange(one):
        return one[:, prefix:].transpose(1, 2).reshape(2, -1, height // 16, width // 16)

    want = grad_cam(tokens, logits, target, (height, width), arrange)
    assert want.any()
    torch.testing.assert_close(build_method("GC", model).attribute(inputs, target), want, rtol=1e-5, atol=1e-7)
    assert find_layer(Network(model), inputs).name == "blocks.1.norm1"


def test_timm_swin():
    model = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, window_size=2, num_classes=5).eval()
    inputs, target = images(64)
    activation, logits = noted(model, model.layers[-1].blocks[-1].norm1, inputs)
    want = grad_cam(activation, logits, target, (64, 64), lambda one: one.permute(0, 3, 1, 2))
    assert want.any()
    torch.testing.assert_close(build_method("GC", model).attribute(inputs, target), want, rtol=1e-5, atol=1e-7)


def test_timm_mixer():
    model = MlpMixer(img_size=64, patch_size=32, num_blocks=2, embed_dim=32, num_classes=5).eval()
    nn.init.normal_(model.head.weight)  # which begins with zeros
    inputs, target = images(64)
    tokens, logits = noted(model, model.norm, inputs)
    want = grad_cam(tokens, logits, target, (64, 64), lambda one: one.transpose(1, 2).reshape(3, -1, 2, 2))
    assert want.any()
    torch.testing.assert_close(build_method("GC", model).attribute(inputs, target), want, rtol=1e-5, atol=1e-7)


class Mixer(nn.Module):
    """Patches by unfolding and a linear layer; tokens are mixed, normalised and averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mix, self.norm = nn.Linear(3 * 16, 10), nn.Linear(16, 16), nn.LayerNorm(10)
        self.head = nn.Linear(10, 5)

    def forward(self, images):
        tokens = self.patches(F.unfold(images, 4, stride=4).transpose(1, 2))
        tokens = tokens + F.gelu(self.mix(tokens.transpose(1, 2)).transpose(1, 2))
        return self.head(self.norm(tokens).mean(1))


def test_mixer_is_explained_on_its_last_tokens():
    model, (inputs, target) = Mixer().eval(), images(16)
    tokens, logits = noted(model, model.norm, inputs)
    want = grad_cam(tokens, logits, target, (16, 16), lambda one: one.transpose(1, 2).reshape(3, -1, 4, 4))
    torch.testing.assert_close(build_method("GC", model).attribute(inputs, target), want, rtol=1e-5, atol=1e-7)


def test_torchs_own_transformer_is_not_bypassed_by_its_fast_path():
    class Tutorial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
            self.patches = nn.Conv2d(3, 16, 4, stride=4)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(16, 5)

        def forward(self, images):
            return self.head(self.encoder(self.patches(images).flatten(2).transpose(1, 2)).mean(1))

    model, (inputs, target) = Tutorial().eval().requires_grad_(False), images(16)
    for method in ("GC", "CO", "VBP"):
        assert build_method(method, model).attribute(inputs, target).any()
    assert find_layer(Network(model), inputs).name == "encoder.layers.1.norm1"


def test_reshape_brings_any_layer_to_a_map():
    model, (inputs, target) = Mixer().eval(), images(16)

    def reshape(tokens):
        return tokens.transpose(1, 2).unflatten(2, (4, 4)).flip(3)

    own = build_method("GC", model, layer="norm", reshape=reshape).attribute(inputs, target)
    torch.testing.assert_close(own, build_method("GC", model).attribute(inputs, target).flip(3))


def test_the_last_feature_map_of_known_networks():
    small = torch.randn(1, 3, 64, 64)
    for model, want in (
        (densenet121(num_classes=5), "relu"),
        (mobilenet_v3_small(num_classes=5), "features"),
        (googlenet(num_classes=5, init_weights=False), "inception5b"),
        (convnext_tiny(num_classes=5), "features"),
    ):
        assert want in find_layer(Network(model.eval()), small).name


@pytest.mark.parametrize("attention", [None, "CAM", "CBAM", "RAN", "WARN"])
def test_our_models_name_their_layer_themselves(attention):
    model = build_model("planted", attention).eval()
    assert find_layer(Network(model), torch.rand(2, 1, 16, 16)).name == model.layers[-1]


def test_what_gives_no_map_is_refused_with_the_reason():
    inputs, target = images(32)
    vit = vision_transformer()
    for model, layer, words in (
        (TwoStreams(), None, "layer="),
        (vit, "encoder.ln", "class token alone"),
        (vit, "heads", "no feature map"),
        (vit, nn.ReLU(), "no module of the network"),
        (vit, "nowhere", "no layer 'nowhere'"),
    ):
        with pytest.raises(InputError, match=words):
            build_method("GC", model.eval(), layer=layer).attribute(inputs, target)


class Recurrent(nn.Module):
    """Rows of a feature map through an LSTM, which returns a tuple."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.conv, self.lstm, self.head = (
            nn.Conv2d(3, 4, 3),
            nn.LSTM(48, 6, 2, batch_first=True, **options),
            nn.Linear(6, 5),
        )

    def forward(self, images):
        rows = self.conv(images).relu().permute(0, 2, 1, 3).flatten(2)
        return self.head(self.lstm(rows)[0][:, -1])


def test_a_layer_that_returns_a_tuple_is_no_hindrance():
    model, (inputs, target) = Recurrent().eval(), images()
    for method in (*GRADIENTS, *LAYERS):
        assert build_method(method, model).attribute(inputs, target).any()
    with pytest.raises(InputError, match="no feature map"):
        build_method("GC", model, layer="lstm").attribute(inputs, target)


# Targets and inputs


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)).eval()


METHODS = [(method, None) for method in (*GRADIENTS, *LAYERS)] + [("IG", ensemble) for ensemble in ENSEMBLES]


@pytest.mark.parametrize(("method", "ensemble"), METHODS)
def test_one_class_for_all_images_and_every_way_to_say_it(method, ensemble):
    built, inputs = build_method(method, small(), ensemble), torch.randn(4, 3, 9, 9)
    want = built.attribute(inputs, torch.full((4,), 2))
    for target in (2, np.int64(2), [2], [2] * 4, (2,) * 4, np.full(4, 2), torch.tensor(2), torch.tensor([2])):
        torch.testing.assert_close(built.attribute(inputs, target), want)
    torch.testing.assert_close(built.attribute(inputs, torch.full((4,), 2, dtype=torch.uint8)), want)


WRONG = {
    "none": None,
    "short": [0, 1, 2],
    "surplus": torch.zeros(5, dtype=torch.int64),
    "negative": -1,
    "too large": [0, 1, 2, 5],
    "floats": torch.zeros(4),
    "matrix": torch.zeros(4, 5, dtype=torch.int64),
    "words": ["cat"] * 4,
}


@pytest.mark.parametrize(("method", "ensemble"), [*METHODS, ("CAM", None)])
@pytest.mark.parametrize("target", WRONG.values(), ids=WRONG)
def test_targets_that_do_not_fit_are_refused(method, ensemble, target):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(InputError, match="target"):
        build_method(method, model.eval(), ensemble).attribute(torch.randn(4, 3, 9, 9), target)


@pytest.mark.parametrize("shape", [(4, 7), (4, 2, 7), (4, 3, 5, 6), (4, 1, 3, 4, 5)])
@pytest.mark.parametrize("method", [*GRADIENTS, "RANDOM"])
def test_inputs_of_any_rank(method, shape):
    inputs = torch.randn(shape)
    model = nn.Sequential(nn.Flatten(), nn.Linear(inputs[0].numel(), 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    maps = build_method(method, model).attribute(inputs, 1)
    assert maps.shape in {shape, (4, 1, *shape[2:])}
    if method == "VBP":
        weight = model[3].weight[1] * (model[1](inputs.flatten(1)) > 0)
        torch.testing.assert_close(maps.flatten(1), weight @ model[1].weight)
    if method == "IG":
        with torch.no_grad():
            difference = model(inputs)[:, 1] - model(torch.zeros_like(inputs))[:, 1]
        torch.testing.assert_close(maps.flatten(1).sum(1), difference, rtol=0.05, atol=0.02)
    assert build_method(method, model, "SG", samples=2).attribute(inputs, 1).shape == maps.shape


@pytest.mark.parametrize("method", [*GRADIENTS, *LAYERS, "RANDOM", "SOBEL"])
def test_no_images_have_no_maps(method):
    model, inputs = small(), torch.randn(4, 3, 9, 9)
    some = build_method(method, model).attribute(inputs, 1)
    none = build_method(method, model).attribute(inputs[:0], torch.zeros(0, dtype=torch.int64))
    assert none.shape == (0, *some.shape[1:])
    assert build_method(method, model, "SG").attribute(inputs[:0], 1).shape == (0, *some.shape[1:])


def test_noise_around_a_baseline_for_each_image():
    model, inputs, baseline = small(), torch.randn(4, 3, 9, 9), torch.randn(4, 3, 9, 9)
    whole = build_method("IG", model, "SG", baseline=baseline, samples=3).attribute(inputs, [0, 1, 2, 3])
    for row in range(4):
        alone = build_method("IG", model, "SG", baseline=baseline[row], samples=3).attribute(inputs[row : row + 1], row)
        torch.testing.assert_close(whole[row : row + 1], alone, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="baseline"):
        build_method("IG", model, baseline=baseline[:3]).attribute(inputs, 0)


@pytest.mark.parametrize("call", [lambda model: model.forward, lambda model: lambda x: model(x), lambda model: model])
def test_any_callable_is_a_network(call):
    model, (inputs, target) = small(), images(9)
    for method in GRADIENTS:
        want = build_method(method, model).attribute(inputs, target)
        torch.testing.assert_close(build_method(method, call(model)).attribute(inputs, target), want)
    want = build_method("GC", model).attribute(inputs, target)
    torch.testing.assert_close(build_method("GC", call(model)).attribute(inputs, target), want)


# Outputs, parameters and precision


class Output:
    def __init__(self, logits) -> None:
        self.logits, self.features = logits, logits.repeat(1, 2)


class Wrapped(nn.Module):
    def __init__(self, wrap) -> None:
        super().__init__()
        self.inner, self.wrap = small(), wrap

    def forward(self, images):
        return self.wrap(self.inner(images))


OUTPUTS = {
    "a tuple": lambda logits: (logits,),
    "a map beside": lambda logits: (logits[:, :, None, None], logits),
    "a dict": lambda logits: {"logits": logits, "features": logits.repeat(1, 2)},
    "another dict": lambda logits: {"out": logits, "loss": None},
    "an object": Output,
}


@pytest.mark.parametrize("method", ["VBP", "IG", "GB", "GC", "CO"])
@pytest.mark.parametrize("wrap", OUTPUTS.values(), ids=OUTPUTS)
def test_logits_are_found_in_whatever_is_returned(wrap, method):
    model, (inputs, target) = Wrapped(wrap).eval(), images(9)
    want = build_method(method, model.inner).attribute(inputs, target)
    torch.testing.assert_close(build_method(method, model).attribute(inputs, target), want)


def test_logits_that_could_be_several_are_asked_for():
    model, (inputs, target) = Wrapped(lambda logits: (logits.repeat(1, 2), logits)).eval(), images(9)
    want = build_method("VBP", model.inner).attribute(inputs, target)
    with pytest.raises(InputError, match=r"0: \(2, 10\), 1: \(2, 5\).*logits="):
        build_method("VBP", model).attribute(inputs, target)
    for choice in (1, lambda output: output[1]):
        torch.testing.assert_close(build_method("VBP", model, logits=choice).attribute(inputs, target), want)
    with pytest.raises(InputError, match="no part"):
        build_method("VBP", model, logits="scores").attribute(inputs, target)
    with pytest.raises(InputError, match="logits"):
        build_method("VBP", Wrapped(lambda logits: logits[0]).eval()).attribute(inputs, target)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("method", "ensemble"), METHODS)
def test_networks_of_every_precision(method, ensemble, dtype):
    model, (inputs, target) = small(), images(9)
    for given in (inputs, inputs.to(dtype)):
        want = build_method(method, model, ensemble).attribute(given.float(), target)
        got = build_method(method, copy.deepcopy(model).to(dtype), ensemble).attribute(given, target)
        assert got.dtype == (torch.float64 if given.dtype == torch.float64 else torch.float32)
        # on the whole, since a rounded activation may turn a ReLU off
        assert (got.float() - want).abs().mean() < 0.05 * want.abs().mean()


def lazy():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    model(torch.zeros(1, 3, 14, 14))
    return model


def pruned():
    model = small()
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    return model


def weight_normed():
    model = small()
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model[0])
    return model


class NoParameters(nn.Module):
    def forward(self, images):
        return F.adaptive_avg_pool2d(images.square(), 2).flatten(1)


TUTORIALS = {
    "lazy": lazy,
    "weight norm": weight_normed,
    "parametrised": lambda: nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), *small()[1:]),
    "pruned": pruned,
    "frozen": lambda: small().requires_grad_(False),
    "no parameters": NoParameters,
}


@pytest.mark.parametrize("method", ["VBP", "IG", "GB", "GC"])
@pytest.mark.parametrize("build", TUTORIALS.values(), ids=TUTORIALS)
def test_networks_of_tutorials_are_explained(build, method):
    model, (inputs, target) = build().eval(), images()
    if isinstance(model, NoParameters) and method in ("GC", "GB"):
        return
    images_of = inputs.clone().requires_grad_()
    maps = build_method(method, model).attribute(inputs, target)
    assert maps.isfinite().all()
    if method == "VBP":
        (want,) = torch.autograd.grad(model(images_of)[range(3), target].sum(), images_of)
        torch.testing.assert_close(maps, want)


# Evaluation mode


class Dropped(nn.Module):
    def forward(self, images):
        return F.dropout(images.flatten(1)[:, :5], 0.01)


class Stochastic(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :5] * (torch.rand(()) > 0.1)


def by_batch():
    return nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(243, 5)).eval()


def training_lstm():
    model = Recurrent(dropout=0.2).eval()
    model.lstm.train()
    return model


class Centred(nn.Module):
    def forward(self, images):
        return (images - images.mean(0)).flatten(1)[:, :5]


UNFIT = {
    "functional dropout": (Dropped, 9, "random"),
    "stochastic depth": (Stochastic, 9, "random"),
    "LSTM dropout": (training_lstm, 14, "random"),
    "batch norm without statistics": (by_batch, 9, "other images"),
    "the batch's mean": (Centred, 9, "other images"),
    "batch norm": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(243, 5)), 9, "model.eval"),
    "instance norm": (
        lambda: nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), nn.Flatten(), nn.Linear(243, 5)),
        9,
        "model.eval",
    ),
}


@pytest.mark.parametrize("method", ["VBP", "IG", "GC", "SG"])
@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
def test_maps_that_depend_on_chance_or_neighbours_are_refused(unfit, method):
    build, size, words = unfit
    model, ensemble = build(), "SG" if method == "SG" else None
    state = {name: value.clone() for name, value in model.state_dict().items()}
    inputs, target = images(size)
    random = torch.get_rng_state()
    with pytest.raises(InputError, match=words):
        built = build_method("VBP" if ensemble else method, model, ensemble)
        built.attribute(inputs, target)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_network_that_goes_into_training_mode_after_the_method_was_built_is_refused():
    model, (inputs, target) = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(243, 5)).eval(), images(9)
    built = build_method("VBP", model)
    built.attribute(inputs, target)
    with pytest.raises(InputError, match="training mode"):
        model.train()
        built.attribute(inputs, target)


def test_a_forward_that_asks_for_the_mode_is_refused_in_training_mode():
    class Asking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(243, 5)

        def forward(self, inputs):
            return self.last(inputs.flatten(1)) * (2 if self.training else 1)

    model, (inputs, target) = Asking(), images(9)
    for mode in (model.train(), model.last.eval()):  # parts of a network have modes of their own
        assert isinstance(mode, nn.Module)
        with pytest.raises(InputError, match=r"training mode, with other logits: call model\.eval\(\)"):
            build_method("VBP", model).attribute(inputs, target)
        assert model.training
    build_method("VBP", model.eval()).attribute(inputs, target)


def test_buffers_are_put_back():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("last", None)

        def forward(self, images):
            self.calls += 1
            self.last = images.detach()
            return self.inner(images)

    model, (inputs, target) = Counting().eval(), images(9)
    calls = model.calls
    for method in (*GRADIENTS, "GC"):
        build_method(method, model).attribute(inputs, target)
        assert model.calls is calls
        assert model.calls == 0
        assert model.last is None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


# Compiled, wrapped, and under other modes


@pytest.mark.parametrize("method", ["VBP", "GB", "GC", "GB-GC", "CO"])
def test_compiled_networks_are_explained_as_the_plain_ones(method):
    model, (inputs, target) = Shared().eval(), images()
    want = build_method(method, model).attribute(inputs, target)
    whole, part, itself = torch.compile(model, backend="eager"), copy.deepcopy(model), copy.deepcopy(model)
    part.last = torch.compile(part.last, backend="eager")
    itself.compile(backend="eager")
    for compiled in (whole, part, itself):
        torch.testing.assert_close(build_method(method, compiled).attribute(inputs, target), want)
    assert build_method("GC", whole, layer="last").attribute(inputs, target).any()


@pytest.mark.parametrize("method", ["VBP", "IG", "GB-GC", "GC", "CO"])
def test_wrappers_and_modes_change_nothing(method):
    model, (inputs, target) = Shared().eval(), images()
    want = build_method(method, model).attribute(inputs, target)
    torch.testing.assert_close(build_method(method, nn.DataParallel(model)).attribute(inputs, target), want)
    with torch.no_grad():
        torch.testing.assert_close(build_method(method, model).attribute(inputs, target), want)
    with torch.inference_mode():
        given = inputs * 1, target * 1
        assert given[0].is_inference()
        torch.testing.assert_close(build_method(method, model).attribute(*given), want)
        torch.testing.assert_close(
            build_method(method, model, "SG", samples=2).attribute(*given),
            build_method(method, model, "SG", samples=2).attribute(inputs, target),
        )


# Found by trying


class ByNumpy(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :5] * np.random.uniform(0.999, 1)  # noqa: NPY002


class AtExtremes(nn.Module):
    """Scaled by the largest value of the batch, which only some images have."""

    def forward(self, images):
        return (images / images.amax()).flatten(1)[:, :5]


class Cut(nn.Module):
    def forward(self, images):
        return nn.Linear(243, 5)(images.detach().flatten(1))


@pytest.mark.parametrize(
    ("model", "words"), [(ByNumpy(), "random"), (AtExtremes(), "other images"), (Cut(), "gradient|each time|random")]
)
def test_more_networks_whose_maps_would_mean_nothing(model, words):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    with pytest.raises(InputError, match=words):
        build_method("VBP", model.eval()).attribute(*images(9))
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_images_that_are_not_finite_are_refused():
    inputs, target = images(9)
    inputs[1, 0, 3, 3] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        build_method("VBP", small()).attribute(inputs, target)


def test_a_network_that_reads_by_view_takes_images_in_any_layout():
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(196, 5)

        def forward(self, images):
            features = self.conv(images).relu()
            return self.head(features.view(features.size(0), -1))

    model, (inputs, target) = Viewing().eval(), images(9)
    for method in ("VBP", "GB", "GC"):
        used = build_method(method, model)
        want = used.attribute(inputs, target)
        for given in (inputs.contiguous(memory_format=torch.channels_last), inputs.transpose(2, 3).contiguous().mT):
            torch.testing.assert_close(build_method(method, model).attribute(given, target), want)
            torch.testing.assert_close(used.attribute(given, target), want)


def test_a_network_made_under_inference_mode_is_refused():
    with torch.inference_mode():
        model = small()
    with pytest.raises(InputError, match="inference_mode"):
        build_method("VBP", model).attribute(*images(9))
