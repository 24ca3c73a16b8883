"""Methods by other libraries' names, against the libraries called by hand."""

import operator

import numpy as np
import pytest
import pytorch_grad_cam
import timm
import torch
import torch.nn.functional as F
import torchcam.methods
import zennit.composites
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchvision.models.resnet import BasicBlock
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.layer import Sum
from zennit.torchvision import ResNetCanonizer

from attribution import build_method
from attribution.libraries import LIBRARIES
from attribution.spec import MethodSpec
from common.errors import InputError
from experiments.method_options import parameters_by_method
from tests.test_gradcam_networks import tokens
from tests.test_other_methods import Network, facts

pytestmark = pytest.mark.filterwarnings("ignore")
TARGET = torch.tensor([2, 0, 1])


def convolutional():
    return Network(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3),
    )  # fmt: skip


def vit():
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=4, depth=2, embed_dim=16, num_heads=2, num_classes=3
    )


class Twice(nn.Module):
    """A block that is called twice, whose first call comes before a stride."""

    def __init__(self):
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, images):
        hidden = torch.tanh(self.block(torch.tanh(self.stem(images))))
        return self.head(torch.tanh(self.block(hidden[:, :, ::2, ::2])).mean((2, 3)))


class Unrolled(nn.Module):
    """The same with a module for each call, for libraries that know modules alone."""

    def __init__(self, model):
        super().__init__()
        self.model, self.last = model, nn.Identity()

    def forward(self, images):
        block = self.model.block
        hidden = torch.tanh(block(torch.tanh(self.model.stem(images))))
        return self.model.head(self.last(torch.tanh(block(hidden[:, :, ::2, ::2]))).mean((2, 3)))


class Output:
    def __init__(self, logits):
        self.logits = logits


class Wrapped(nn.Module):
    """Returns an object, as networks of transformers do."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return Output(self.model(images))


def made(build, size=16):
    torch.manual_seed(0)
    model = build().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return model, torch.randn(3, 3, size, size)


def explain(method, model, inputs, **parameters):
    before = facts(model)
    maps = build_method(method, model, **parameters).attribute(inputs, TARGET)
    assert facts(model) == before
    return maps


# Zennit


@pytest.mark.parametrize("name", ["EpsilonPlusFlat", "EpsilonPlus", "EpsilonAlpha2Beta1Flat", "GuidedBackprop"])
def test_zennit_with_batch_norms_merged(name):
    model, inputs = made(convolutional)
    composite = getattr(zennit.composites, name)(canonizers=[SequentialMergeBatchNorm()])
    with Gradient(model, composite) as attributor:
        _, want = attributor(inputs.clone(), torch.eye(3)[TARGET])
    torch.testing.assert_close(explain(f"zennit:{name}", model, inputs), want, rtol=1e-5, atol=1e-6)
    with Gradient(model, getattr(zennit.composites, name)()) as attributor:
        _, unmerged = attributor(inputs.clone(), torch.eye(3)[TARGET])
    assert name == "GuidedBackprop" or not torch.allclose(want, unmerged, rtol=1e-2)


def test_zennits_arguments_and_its_canonizer_of_torchvisions_resnet():
    model, inputs = made(
        lambda: Network(
            nn.Conv2d(3, 8, 3), BasicBlock(8, 8), BasicBlock(8, 8), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)
        )
    )
    composite = zennit.composites.EpsilonGammaBox(low=-3.0, high=3.0, gamma=0.1, canonizers=[ResNetCanonizer()])
    with Gradient(model, composite) as attributor:
        _, want = attributor(inputs.clone(), torch.eye(3)[TARGET])
    got = explain("zennit:EpsilonGammaBox", model, inputs, arguments={"low": -3.0, "high": 3.0, "gamma": 0.1})
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="needs low, high"):
        build_method("zennit:EpsilonGammaBox", model)


class Residual(nn.Module):
    """A block of one's own, with or without the sum that zennit sees as a module."""

    def __init__(self, is_seen, combine=operator.add):
        super().__init__()
        self.first, self.inner = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.sum, self.combine = Sum() if is_seen else None, combine
        self.relu, self.pool, self.head = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3, bias=False)

    def forward(self, images):
        hidden = self.relu(self.first(images))
        both = hidden, self.relu(self.inner(hidden))
        out = self.combine(*both) if self.sum is None else self.sum(torch.stack(both, dim=-1))
        return self.head(self.pool(out).flatten(1))


@pytest.mark.parametrize(
    "combine", [operator.add, torch.add, lambda x, y: x.add(y), lambda x, y: operator.iadd(x.clone(), y)]
)
def test_zennit_splits_the_relevance_of_any_residual_sum(combine):
    seen, inputs = made(lambda: Residual(True))
    with Gradient(seen, zennit.composites.EpsilonPlus()) as attributor:
        _, want = attributor(inputs.clone(), torch.eye(3)[TARGET])
    unseen, inputs = made(lambda: Residual(False, combine))
    with Gradient(unseen, zennit.composites.EpsilonPlus()) as attributor:
        _, twice = attributor(inputs.clone(), torch.eye(3)[TARGET])
    assert not torch.allclose(twice, want, rtol=0.1)
    torch.testing.assert_close(explain("zennit:EpsilonPlus", unseen, inputs), want, rtol=1e-5, atol=1e-6)


WAYS = {
    "modules": {},
    "mean": {"head": lambda x: x.mean((2, 3))},
    "adaptive": {"head": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1)},
    "pooled": {"pool": lambda x: F.avg_pool2d(x, 2)},
    "stacked": {"join": lambda x, y: torch.stack([x, y]).sum(0)},
    "halved": {"join": lambda x, y: (x + y) / 2},
    "scaled": {"join": lambda x, y: 0.25 * (x + y) * 4 * torch.ones(6, 1, 1)},
}


class Written(nn.Module):
    """A residual network whose averages, sums and multiples are written as modules, or in another way."""

    def __init__(self, way: str = "modules") -> None:
        super().__init__()
        self.first, self.last, self.classes = (
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Linear(6, 3),
        )
        self.relu, self.of_pool, self.of_head = nn.ReLU(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)
        usual = {"pool": self.of_pool, "join": torch.add, "head": lambda x: self.of_head(x).flatten(1)}
        self.steps = usual | WAYS[way]

    def forward(self, images):
        features = self.steps["pool"](self.relu(self.first(images)))
        return self.classes(self.steps["head"](self.steps["join"](features, self.relu(self.last(features)))))


@pytest.mark.parametrize("name", ["EpsilonPlus", "EpsilonPlusFlat"])
@pytest.mark.parametrize("way", WAYS)
def test_zennits_rules_hold_however_averages_sums_and_multiples_are_written(way, name):
    model, inputs = made(Written)
    other = Written(way).eval()
    other.load_state_dict(model.state_dict())
    if way == "halved":
        other.classes.weight.data *= 2
    torch.testing.assert_close(other(inputs), model(inputs))
    want = explain(f"zennit:{name}", model, inputs)
    torch.testing.assert_close(explain(f"zennit:{name}", other, inputs), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("join", "words"),
    [
        (lambda x, y: x - (-y), "differences of activations"),
        (lambda x, y: torch.add(x, y, alpha=1), "weighted sums of activations"),
        (lambda x, y: x / (1 + y), "quotients of activations"),
        (lambda x, y: x + 1 / (1 + y), "a quotient by an activation"),
    ],
)
def test_zennit_is_refused_for_combinations_without_a_rule(join, words):
    model, inputs = made(Written)
    model.steps["join"] = join
    with pytest.raises(InputError, match=words):
        explain("zennit:EpsilonPlus", model, inputs)


def test_zennits_composites_of_gradients_have_no_rule_for_sums():
    model, inputs = made(lambda: Residual(False))
    with Gradient(model, zennit.composites.GuidedBackprop()) as attributor:
        _, want = attributor(inputs.clone(), torch.eye(3)[TARGET])
    torch.testing.assert_close(explain("zennit:GuidedBackprop", model, inputs), want)


def test_zennit_is_refused_for_gates_and_norms_of_images():
    model, inputs = made(lambda: Residual(False, operator.mul))
    with pytest.raises(InputError, match="products of activations"):
        explain("zennit:EpsilonPlus", model, inputs)
    model, inputs = made(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
    )
    with pytest.raises(InputError, match="no rule for group_norm"):
        explain("zennit:EpsilonPlus", model, inputs)


def test_zennit_is_refused_where_it_has_no_rule():
    model, inputs = made(vit)
    with pytest.raises(InputError, match="no rule for attention"):
        explain("zennit:EpsilonPlusFlat", model, inputs)
    functional, inputs = made(Twice)
    with pytest.raises(InputError, match=r"nn\.ReLU alone.*GB"):
        explain("zennit:GuidedBackprop", functional, inputs)


class Functional(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.function, self.head = nn.Conv2d(3, 4, 3), function, nn.Linear(4, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images):
        return self.head(self.pool(self.function(self.first(images))).flatten(1))


@pytest.mark.parametrize("function", [F.gelu, F.silu])
def test_zennit_is_refused_for_a_smooth_rectifier_that_it_cannot_see(function):
    model, inputs = made(lambda: Functional(function))
    with pytest.raises(InputError, match=f"sees no {function.__name__}"):
        explain("zennit:EpsilonPlusFlat", model, inputs)


def test_zennits_rules_for_activations_that_are_modules_and_for_relu_in_any_spelling():
    for function, spelling in ((nn.GELU(), nn.GELU()), (nn.ReLU(), F.relu), (nn.ReLU(), lambda x: x.clamp(min=0))):
        model, inputs = made(lambda function=function: Functional(function))
        with Gradient(model, zennit.composites.EpsilonPlusFlat()) as attributor:
            _, want = attributor(inputs.clone(), torch.eye(3)[TARGET])
        model, inputs = made(lambda spelling=spelling: Functional(spelling))
        torch.testing.assert_close(explain("zennit:EpsilonPlusFlat", model, inputs), want, rtol=1e-5, atol=1e-6)


# pytorch-grad-cam


def by_grad_cam(name, model, inputs, layer, reshape=None, **arguments):
    maps = []
    for image, label in zip(inputs.split(1), TARGET.tolist(), strict=True):
        kind = getattr(pytorch_grad_cam, name)
        method = kind(
            model, [layer] if layer else [], **({"reshape_transform": reshape} if reshape else {}), **arguments
        )
        maps.append(method(image, [ClassifierOutputTarget(label)]))
        if hasattr(method, "activations_and_grads"):
            method.activations_and_grads.release()
    return torch.from_numpy(np.stack(maps))


OF_GRAD_CAM = ["GradCAM", "LayerCAM", "ScoreCAM", "EigenCAM", "EigenGradCAM", "GradCAMPlusPlus", "HiResCAM", "XGradCAM",
               "AblationCAM", "FinerCAM", "GradCAMElementWise"]  # fmt: skip


@pytest.mark.parametrize("name", OF_GRAD_CAM)
def test_grad_cam_of_a_convolutional_network(name):
    model, inputs = made(convolutional)
    want = by_grad_cam(name, model, inputs, model[5])
    assert want.any()
    torch.testing.assert_close(explain(f"pytorch_grad_cam:{name}", model, inputs), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["GradCAM", "LayerCAM", "ScoreCAM", "EigenCAM", "GradCAMPlusPlus"])
def test_grad_cam_of_tokens(name):
    model, inputs = made(vit)
    want = by_grad_cam(name, model, inputs, model.blocks[-1].norm1, tokens(1, 4, 4))
    assert want.any()
    torch.testing.assert_close(explain(f"pytorch_grad_cam:{name}", model, inputs), want, rtol=1e-4, atol=1e-4)
    earlier = by_grad_cam(name, model, inputs, model.blocks[0].norm1, tokens(1, 4, 4))
    got = explain(f"pytorch_grad_cam:{name}", model, inputs, layer="blocks.0.norm1")
    torch.testing.assert_close(got, earlier, rtol=1e-4, atol=1e-4)


def test_grad_cam_with_everything_by_hand():
    model, inputs = made(vit)
    reshape = tokens(1, 4, 4)
    want = by_grad_cam("LayerCAM", model, inputs, model.blocks[0], reshape)
    got = explain("pytorch_grad_cam:LayerCAM", model, inputs, layer="blocks.0", reshape_transform=reshape)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_full_grad_takes_no_layer():
    model, inputs = made(convolutional)
    want = by_grad_cam("FullGrad", model, inputs, None)
    torch.testing.assert_close(explain("pytorch_grad_cam:FullGrad", model, inputs), want, rtol=1e-4, atol=1e-5)


def test_options_of_the_call(capfd):
    model, inputs = made(convolutional)
    plain = explain("pytorch_grad_cam:ScoreCAM", model, inputs)
    assert "it/s" not in capfd.readouterr().err
    smooth = explain("pytorch_grad_cam:ScoreCAM", model, inputs, arguments={"eigen_smooth": True})
    assert not torch.allclose(plain, smooth)


# Torchcam


def by_torchcam(name, model, inputs, layer, **arguments):
    maps = []
    for image, label in zip(inputs.split(1), TARGET.tolist(), strict=True):
        with getattr(torchcam.methods, name)(model, layer, **arguments) as method:
            (cam,) = method(label, model(image))
        maps.append(F.interpolate(cam[None], size=inputs.shape[2:], mode="bilinear"))
    return torch.cat(maps)


@pytest.mark.parametrize("name", ["GradCAM", "GradCAMpp", "LayerCAM", "XGradCAM", "ScoreCAM"])
def test_torchcam_of_a_convolutional_network_and_of_tokens(name):
    model, inputs = made(convolutional)
    want = by_torchcam(name, model, inputs, model[5])
    torch.testing.assert_close(explain(f"torchcam.methods:{name}", model, inputs), want, rtol=1e-4, atol=1e-5)
    model, inputs = made(vit)
    want = by_torchcam(name, model, inputs, model.blocks[-1].norm1, reshape_transform=tokens(1, 4, 4))
    torch.testing.assert_close(explain(f"torchcam.methods:{name}", model, inputs), want, rtol=1e-4, atol=1e-4)


def test_smooth_grad_cam_depends_on_the_image_alone():
    model, inputs = made(convolutional)
    method = build_method("torchcam.methods:SmoothGradCAMpp", model, arguments={"num_samples": 2})
    whole = method.attribute(inputs, TARGET)
    torch.testing.assert_close(method.attribute(inputs[1:], TARGET[1:]), whole[1:])


# Captum, and layers in general


class PartlyFunctional(nn.Module):
    """One ReLU is a module, the other a function."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.second = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        return self.head(F.relu(self.second(self.relu(self.first(images)))).mean((2, 3)))


@pytest.mark.parametrize(
    ("method", "ours"),
    [
        ("captum.attr:GuidedBackprop", "try GB"),
        ("captum.attr:Deconvolution", "try DeconvNet"),
        ("captum.attr:DeepLift", "try IG"),
        ("zennit:GuidedBackprop", "try GB"),
        ("zennit:DeconvNet", "try DeconvNet"),
    ],
)
def test_rules_for_relu_modules_refuse_a_relu_that_is_a_function(method, ours):
    inputs = torch.randn(3, 3, 8, 8)
    with pytest.raises(InputError, match=ours):
        explain(method, PartlyFunctional().eval(), inputs)
    model, inputs = made(convolutional)
    assert explain(method, model, inputs).any(), "all are modules"


def test_captum_of_tokens():
    model, inputs = made(vit)
    maps = build_method("GC", model).attribute(inputs, TARGET)
    got = explain("captum.attr:LayerGradCam", model, inputs, arguments={"relu_attributions": True})
    assert maps.any()
    torch.testing.assert_close(got, maps, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "method", ["captum.attr:LayerGradCam", "pytorch_grad_cam:LayerCAM", "torchcam.methods:LayerCAM"]
)
def test_a_layer_is_a_call(method):
    model, inputs = made(Twice)
    unrolled = Unrolled(model).eval()
    want = build_method(method, unrolled, layer=unrolled.last).attribute(inputs, TARGET)
    torch.testing.assert_close(explain(method, model, inputs), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "method", ["captum.attr:Saliency", "captum.attr:LayerGradCam", "zennit:EpsilonPlus", "pytorch_grad_cam:ScoreCAM",
               "torchcam.methods:LayerCAM"]
)  # fmt: skip
def test_logits_in_an_object(method):
    model, inputs = made(lambda: convolutional()[:7].append(nn.Linear(6, 3)))
    for module in model:  # zennit merges batch norms only where it sees them
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    want = explain(method, model, inputs)
    got = explain(method, Wrapped(model).eval(), inputs)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "fails_at"),
    [("zennit:EpsilonPlus", 1), ("pytorch_grad_cam:AblationCAM", 3), ("torchcam.methods:ScoreCAM", 2)],
)
def test_the_network_is_left_as_it_was_after_an_exception(method, fails_at):
    model, inputs = made(convolutional)
    built, calls = build_method(method, model), []
    built.attribute(inputs, TARGET)

    def fail(*_args):
        calls.append(1)
        if len(calls) == fails_at:
            raise RuntimeError("on purpose")

    handle = model[6].register_forward_hook(fail)
    before = facts(model)
    with pytest.raises(InputError, match="RuntimeError: on purpose"):
        built.attribute(inputs, TARGET)
    assert facts(model) == before
    handle.remove()
    assert built.attribute(inputs, TARGET).any()


# Names


@pytest.mark.parametrize(("library", "package"), [(name, library.package) for name, library in LIBRARIES.items()])
def test_an_unknown_name_and_a_missing_library_are_one_line(library, package, monkeypatch):
    model, _ = made(convolutional)
    with pytest.raises(InputError, match=r"no method 'Nothing': choose from \w+, \w+") as refused:
        build_method(f"{library}:Nothing", model)
    assert "\n" not in str(refused.value)

    def missing(name, *args):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("attribution.libraries.importlib.import_module", missing)
    with pytest.raises(InputError, match=f"pip install {package}"):
        build_method(f"{library}:LayerCAM", model)


def test_the_nearest_names_are_shown():
    model, _ = made(convolutional)
    with pytest.raises(InputError, match="choose from LayerCAM"):
        build_method("pytorch_grad_cam:LayerCam", model)


@pytest.mark.parametrize("place", ["zennit:EpsilonPlusFlat", "pytorch_grad_cam:LayerCAM", "torchcam.methods:LayerCAM"])
def test_a_record_tells_the_version_of_the_library(place, monkeypatch):
    chosen = MethodSpec.of(place, None, **parameters_by_method([place], None, {})[place])
    assert chosen.code is not None
    assert MethodSpec.read(chosen.plain) == chosen
    model, inputs = made(convolutional)
    assert chosen.build(chosen.network(model)).attribute(inputs, TARGET).any()
    from common import fingerprint

    fingerprint.forget_fingerprints()
    monkeypatch.setattr(fingerprint.importlib.metadata, "version", lambda _name: "99")
    assert MethodSpec.of(place).code != chosen.code
    fingerprint.forget_fingerprints()
