"""Methods of other libraries and of users: they get the network itself, and their maps depend on nothing else."""

import json
import random
import warnings

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attribution import build_method
from attribution.gradcam import to_size_of
from attribution.spec import MethodSpec
from common.errors import InputError
from experiments.method_options import parameters_by_method
from models import build_model
from reporting.labels import parameter_sentences, parameter_words
from tests.other_methods import FORMS, WRONG_FORMS
from tests.run_main import run
from tests.small_network import small_images, small_network

MINE = "tests.other_methods"
TARGET = torch.tensor([2, 0, 1])

pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor 0", "ignore:Setting forward", "ignore:.*hook")


class Network(nn.Sequential):
    """Flattens in its forward pass: Captum's LRP knows no `nn.Flatten`."""

    def forward(self, images):
        for layer in list(self)[:-1]:
            images = layer(images)
        return self[-1](images.flatten(1))


@pytest.fixture
def model():
    return small_network(Network, nn.Dropout())


@pytest.fixture
def inputs():
    return small_images()


def gradient(model, inputs):
    return build_method("VBP", model).attribute(inputs, TARGET)


def facts(model):
    """All that other people's code might change."""
    return {
        "hooks": [len(hooks) for one in model.modules() for name, hooks in vars(one).items() if "hooks" in name],
        "flags": [one.training for one in model.modules()],
        "modules": [(name, id(one), sorted(vars(one))) for name, one in model.named_modules()],
        "requires": [one.requires_grad for one in model.parameters()],
        "grads": [None if one.grad is None else one.grad.tolist() for one in model.parameters()],
        "values": {name: one.tolist() for name, one in model.state_dict().items()},
    }


# The network itself


def by_zennit(model, inputs):
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    with Gradient(model, EpsilonPlus()) as attributor:
        return attributor(inputs, torch.eye(3)[TARGET])[1]


def by_grad_cam(model, inputs):
    library = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    method = library.GradCAM(model, [model[4]])
    maps = method(inputs, [ClassifierOutputTarget(one) for one in TARGET.tolist()])
    method.activations_and_grads.release()
    return torch.from_numpy(maps).unsqueeze(1)


BY_HAND = {
    ("captum.attr:LRP", None): lambda model, inputs: captum.attr.LRP(model).attribute(inputs, target=TARGET),
    ("captum.attr:Saliency", None): lambda model, inputs: gradient(model, inputs).abs(),
    ("captum.attr:LayerGradCam", "4"): lambda model, inputs: to_size_of(
        inputs, captum.attr.LayerGradCam(model, model[4]).attribute(inputs, TARGET)
    ),
    (f"{MINE}:epsilon_plus", None): by_zennit,
    (f"{MINE}:grad_cam", "4"): by_grad_cam,
    (f"{MINE}:HookedGradCAM", "4"): lambda model, inputs: build_method("GC", model, layer="4").attribute(
        inputs, TARGET
    ),
    (f"{MINE}:ByName", "4"): lambda model, inputs: to_size_of(
        inputs, nn.Sequential(*list(model)[:5])(inputs).mean(dim=1, keepdim=True)
    ),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("place", "layer"), BY_HAND)
def test_equals_the_library_called_by_hand(place, layer, frozen, model, inputs):
    want = BY_HAND[place, layer](model, inputs.clone()).detach()
    model.requires_grad_(not frozen).to(memory_format=torch.channels_last)
    choice = MethodSpec.of(place, None, **parameters_by_method([place], layer, {})[place])
    assert want.abs().max() > 0
    before = facts(model)
    method = choice.build(choice.network(model))
    for images in (inputs, inputs.to(memory_format=torch.channels_last)):
        got = method.attribute(images, target=TARGET)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    assert facts(model) == before


def test_ours_keep_a_faster_copy_unless_a_layer_is_named(model):
    assert MethodSpec("captum.attr:LRP").network(model) is model
    assert MethodSpec("GC").network(model) is not model
    assert isinstance(MethodSpec("GC").network(model)[1], nn.Identity)
    assert MethodSpec("GC", parameters=(("layer", "0"),)).network(model) is model


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was(fails, model, inputs):
    model[8].requires_grad_(False)
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    model.register_forward_hook(lambda *call: None)
    given, before = inputs.clone(), facts(model)
    method = build_method(f"{MINE}:Careless", model, fails=fails)
    assert facts(model) == before
    if fails:
        with pytest.raises(InputError, match=r"RuntimeError: on purpose \(other_methods.py, line"):
            method.attribute(given, TARGET.clone())
        with pytest.raises(InputError, match="too early"):
            build_method(f"{MINE}:Careless", model, early=True)
    else:
        torch.testing.assert_close(method.attribute(given, TARGET.clone()), gradient(model, inputs))
    assert facts(model) == before
    assert torch.equal(given, inputs)


def test_attributes_that_a_factory_sets_are_there_whenever_it_explains(model, inputs):
    """LRP takes the rules of all layers away after each call."""
    flat = nn.Sequential(*list(model)[:7], nn.Flatten(), model[8])
    want, before = captum.attr.LRP(model).attribute(inputs, target=TARGET), facts(flat)
    method = build_method(f"{MINE}:lrp", flat)
    for _ in range(2):
        torch.testing.assert_close(method.attribute(inputs, TARGET), want.detach(), rtol=1e-4, atol=1e-5)
        assert facts(flat) == before


def test_lrp_explains_simple_cnn():
    torch.manual_seed(0)
    simple_cnn, images = build_model("mnist").eval(), torch.randn(3, 1, 28, 28)
    want = captum.attr.LRP(simple_cnn).attribute(images, target=TARGET).detach()
    torch.testing.assert_close(build_method("captum.attr:LRP", simple_cnn).attribute(images, TARGET), want)
    assert [name for name in simple_cnn.state_dict() if name.startswith("classifier.")] == [
        f"classifier.{place}.{part}" for place in (1, 3) for part in ("weight", "bias")
    ]


def test_new_weights_are_seen(model, inputs):
    method = build_method("captum.attr:InputXGradient", model)
    method.attribute(inputs, TARGET)
    with torch.no_grad():
        model[8].weight.mul_(-1)
    torch.testing.assert_close(method.attribute(inputs, TARGET), inputs * gradient(model, inputs))


def test_works_without_gradients_around_it(model, inputs):
    want = gradient(model, inputs)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            torch.testing.assert_close(build_method(f"{MINE}:Gradient", model).attribute(inputs, TARGET), want)


# Random numbers

RANDOM = {
    "captum.attr:KernelShap": {"n_samples": 20},
    "captum.attr:Lime": {"n_samples": 20},
    "captum.attr:ShapleyValueSampling": {"n_samples": 1, "perturbations_per_eval": 64},
    "captum.attr:GradientShap": {"baselines": [0, 1], "n_samples": 2, "stdevs": 0.5},
    f"{MINE}:noise_tunnel": {"nt_samples": 2},
    f"{MINE}:gradient_shap": {},
    f"{MINE}:Noisy": {},
    "numpy": {"source": "numpy"},
    "random": {"source": "random"},
}


@pytest.mark.parametrize("place", RANDOM)
def test_a_random_map_depends_on_the_image_alone(place, model, inputs):
    if place in ("captum.attr:KernelShap", "captum.attr:Lime"):
        pytest.importorskip("sklearn")

    def built():
        return build_method(place if ":" in place else f"{MINE}:Noisy", model, arguments=RANDOM[place])

    method = built()
    whole = method.attribute(inputs, TARGET)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    order = [2, 0]
    part = method.attribute(inputs[order], TARGET[order])
    torch.testing.assert_close(part, whole[order])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]  # noqa: NPY002
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    torch.testing.assert_close(built().attribute(inputs[1:2], TARGET[1:2]), whole[1:2])
    assert len({tuple(one.flatten().tolist()) for one in whole}) == 3


def test_equal_random_maps_in_an_ensemble(model, inputs):
    method = build_method(f"{MINE}:Noisy", model, "SG", samples=2)
    torch.testing.assert_close(method.attribute(inputs[1:], TARGET[1:]), method.attribute(inputs, TARGET)[1:])


MIXING = {
    "captum.attr:FeaturePermutation": "explain each image by itself",
    f"{MINE}:ByTheBatch": "explain each image by itself",
    f"{MINE}:Shuffled": "explain each image by itself",
    f"{MINE}:FirstTarget": "explain each image by itself",
    f"{MINE}:Counting": "explain each image by itself",
    f"{MINE}:OwnNoise": "another map in each call",
}


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("place", MIXING)
def test_a_map_that_depends_on_its_neighbours_is_refused(place, images, model, inputs):
    with pytest.raises(InputError, match=MIXING[place]) as refused:
        build_method(place, model).attribute(inputs[:images], TARGET[:images])
    assert place in str(refused.value)


# What is returned


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("form", [form for form in FORMS if form not in WRONG_FORMS])
def test_maps_are_taken_in_any_form(form, images, model, inputs):
    inputs, target = inputs[:images], TARGET[:images]
    got = build_method(f"{MINE}:Returning", model, form=form).attribute(inputs, target)
    assert (got.dtype, got.requires_grad, type(got)) == (torch.float32, False, torch.Tensor)
    want = build_method("VBP", model).attribute(inputs, target)
    torch.testing.assert_close(got, want, rtol=1e-3 if form == "half" else 1e-5, atol=1e-5)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("form", WRONG_FORMS)
def test_no_maps_are_one_line(form, images, model, inputs):
    with pytest.raises(InputError, match=f"^{MINE}:Returning returned"):
        build_method(f"{MINE}:Returning", model, form=form).attribute(inputs[:images], TARGET[:images])


@pytest.mark.parametrize("arguments", [{"axes": 3}, {"axes": 4}, {"all_channels": True}])
def test_a_smaller_map_is_interpolated_like_ours(arguments, model, inputs):
    small = gradient(model, inputs)[:, :, ::2, ::2]
    small = small if "all_channels" in arguments else small.sum(dim=1, keepdim=True)
    want = F.interpolate(small, size=(8, 8), mode="bilinear", align_corners=False)
    got = build_method(f"{MINE}:Smaller", model, **arguments).attribute(inputs, TARGET)
    torch.testing.assert_close(got, want)


def test_many_channels_of_a_layer_are_left_to_the_user(model, inputs):
    with pytest.raises(InputError, match="LayerAttribution"):
        build_method("captum.attr:LayerConductance", model, layer="4").attribute(inputs, TARGET)


# Layers


@pytest.mark.parametrize("place", ["captum.attr:LayerGradCam", "captum.attr:GuidedGradCam", f"{MINE}:HookedGradCAM"])
def test_a_layer_is_a_name_or_a_module_or_the_last_block(place, model, inputs):
    def maps(layer=None):
        return build_method(place, model, layer=layer).attribute(inputs, TARGET)

    named = maps("0")
    torch.testing.assert_close(maps(model[0]), named)
    torch.testing.assert_close(maps([model[0]]), named)
    torch.testing.assert_close(maps(), maps("5"))
    assert not torch.allclose(maps(), named)
    for wrong in ("nowhere", nn.ReLU()):
        with pytest.raises(InputError, match="layer"):
            maps(wrong)


def test_layer_goes_to_those_that_take_one():
    methods = ["VBP", "GC", "captum.attr:LayerGradCam", "captum.attr:Saliency", f"{MINE}:grad_cam", f"{MINE}:ByName"]
    chosen = parameters_by_method(methods, "features.2", {})
    assert [method for method in methods if chosen[method]] == [methods[place] for place in (1, 2, 4, 5)]
    with pytest.raises(InputError, match="--layer=x"):
        parameters_by_method(["VBP", "captum.attr:Saliency"], "x", {})


def test_layer_and_arguments_are_told_apart_wherever_methods_are_named():
    one, other, none = (
        MethodSpec.of("GC", None, **parameters_by_method(["GC"], layer, {})["GC"]) for layer in ("a.1", "a.2", None)
    )
    assert len({one, other, none}) == 3
    assert none.plain == {"method": "GC", "ensemble": None, "parameters": {}}
    assert "layer a.1" in parameter_sentences([one])
    assert parameter_words([one]) == ["layer-a.1"]
    place, arguments = "captum.attr:Occlusion", {"sliding_window_shapes": [1, 4, 4], "baselines": 0.5}
    occlusion = MethodSpec.of(place, None, **parameters_by_method([place], None, arguments)[place])
    assert json.loads(occlusion.plain["parameters"]["arguments"]) == arguments
    assert MethodSpec.read(json.loads(json.dumps(occlusion.plain))) == occlusion
    (word,) = parameter_words([occlusion])
    assert set(word) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")


# Arguments


def gradient_shap_by_hand(model, inputs):
    method = captum.attr.GradientShap(model)
    return lambda image, target: method.attribute(
        image, baselines=torch.zeros(1, 3, 8, 8), n_samples=4, stdevs=0.1, target=target
    )


def occlusion_by_hand(size, step):
    def maps(model, inputs):
        windows = {"sliding_window_shapes": (1, size, size), "strides": (1, step, step)}
        return captum.attr.Occlusion(model).attribute(inputs, target=TARGET, **windows)

    return maps


def deep_lift_shap_by_hand(values):
    def maps(model, inputs):
        baselines = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
        return captum.attr.DeepLiftShap(model).attribute(inputs, baselines=baselines, target=TARGET)

    return maps


EXAMPLES = {
    "Occlusion": ("captum.attr:Occlusion", {"sliding_window_shapes": [1, 2, 2]}, occlusion_by_hand(2, 1)),
    "Occlusion of a partial": (f"{MINE}:occlusion", {"sliding_window_shapes": [1, 2, 2]}, occlusion_by_hand(2, 1)),
    "Occlusion of a factory": (f"{MINE}:occluded", {}, occlusion_by_hand(4, 4)),
    "DeepLiftShap": ("captum.attr:DeepLiftShap", {"baselines": [-1.0, 1.0]}, deep_lift_shap_by_hand([-1.0, 1.0])),
    "DeepLiftShap of a factory": (f"{MINE}:deep_lift_shap", {}, deep_lift_shap_by_hand([-1.0, 1.0])),
    "its own argument": (f"{MINE}:deep_lift_shap", {"baselines": 3}, deep_lift_shap_by_hand([-1.0, 0.0, 1.0])),
    "of a partial": (f"{MINE}:three_baselines", {}, deep_lift_shap_by_hand([-1.0, 0.0, 1.0])),
    "of the constructor": (
        "captum.attr:IntegratedGradients",
        {"multiply_by_inputs": False, "n_steps": 4, "baselines": 1},
        lambda model, inputs: captum.attr.IntegratedGradients(model, multiply_by_inputs=False).attribute(
            inputs, baselines=1, target=TARGET, n_steps=4
        ),
    ),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_arguments_reach_constructor_and_attribute(example, model, inputs):
    place, arguments, by_hand = EXAMPLES[example]
    choice = MethodSpec.of(place, None, **parameters_by_method([place], None, arguments)[place])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = choice.build(model).attribute(inputs, target=TARGET)
        want = by_hand(model, inputs)
    torch.testing.assert_close(got, want.detach().float(), rtol=1e-4, atol=1e-6)


def test_random_examples_are_of_the_number_of_samples_asked_for(model, inputs):
    """The mean map over many samples is close to the integral that both estimate."""
    want = captum.attr.IntegratedGradients(model).attribute(inputs, target=TARGET, n_steps=50)
    shap = {"baselines": 0, "n_samples": 400}
    tunnel = {"nt_samples": 3, "stdevs": 0.001}
    for place, arguments in (("captum.attr:GradientShap", shap), (f"{MINE}:noise_tunnel", tunnel)):
        got = build_method(place, model, arguments=arguments).attribute(inputs[:1], TARGET[:1])
        assert (got - want[:1]).norm() < 0.2 * want[:1].norm()


def test_arguments_go_to_those_that_take_them():
    shap, occlusion = "captum.attr:GradientShap", "captum.attr:Occlusion"
    given = {"baselines": 0, "n_samples": 3, occlusion: {"sliding_window_shapes": [1, 4, 4], "baselines": 1}}
    chosen = parameters_by_method(["VBP", shap, occlusion], None, given)
    assert chosen["VBP"] == {}
    assert json.loads(chosen[shap]["arguments"]) == {"baselines": 0, "n_samples": 3}
    assert json.loads(chosen[occlusion]["arguments"]) == given[occlusion]


WRONG_ARGUMENTS = {
    "unknown": (["captum.attr:Occlusion"], {"window": 3}, "sliding_window_shapes"),
    "unknown to one": (["captum.attr:Occlusion", "VBP"], {"captum.attr:Occlusion": {"window": 3}}, "strides"),
    "not asked for": (["captum.attr:Saliency"], {"captum.attr:Occlusion": {}}, "captum.attr:Occlusion"),
    "ours": (["VBP"], {"abs": False}, "package.module:Name"),
    "no value": (["captum.attr:Saliency"], {"abs": {"a": 1}}, "abs must be"),
    "not finite": (["captum.attr:Saliency"], {"abs": float("nan")}, "abs must be"),
    "a layer": (["captum.attr:LayerGradCam"], {"layer": "features"}, "--layer=NAME"),
}


@pytest.mark.parametrize("what", WRONG_ARGUMENTS)
def test_arguments_that_nothing_takes_are_refused(what):
    methods, arguments, words = WRONG_ARGUMENTS[what]
    with pytest.raises(InputError, match=words):
        parameters_by_method(methods, None, arguments)


UNBUILDABLE = {
    "captum.attr:Occlusion": r"--method-args='\{\"sliding_window_shapes\": VALUE\}'",
    "captum.attr:GradientShap": r"needs baselines",
    "captum.attr:NeuronConductance": r"needs neuron_selector",
    f"{MINE}:weighing": r"needs weight",
    "captum.attr:NoiseTunnel": "can't be built|needs",
    "captum.attr:LayerActivation": "no target=",
    f"{MINE}:labelled": "labels",
    f"{MINE}:explained": "called with the network alone",
    f"{MINE}:no_method": "a class, or a function",
    f"{MINE}:numbers": "a class, or a function",
    f"{MINE}:Remaking": "weights",
    "torch.nn:Sequential": "no attribute",
}


@pytest.mark.parametrize("place", UNBUILDABLE)
def test_what_is_no_method_is_refused_when_it_is_made(place, model):
    before = facts(model)
    layer = "0" if "Neuron" in place or "Layer" in place else None
    with pytest.raises(InputError, match=UNBUILDABLE[place]):
        build_method(place, model, layer=layer)
    assert facts(model) == before


def test_unknown_arguments_of_a_factory_are_refused_when_it_is_made(model):
    with pytest.raises(InputError, match="repeats"):
        build_method(f"{MINE}:weighing", model, weight=2, repeat=3)


def test_what_captum_refuses_is_one_line(model, inputs):
    class Square(nn.Module):
        def forward(self, images):
            return images.square()

    with pytest.raises(InputError, match=r"^captum.attr:LRP fails on one image: TypeError"):
        build_method("captum.attr:LRP", nn.Sequential(Square(), model)).attribute(inputs, TARGET)


# From the command line

QUICK = [
    "--quick",
    "--model=tests.own_model:small",
    "--limit-train=4",
    "--limit-test=4",
    "--target=mnist",
]


def test_from_the_command_line_to_maps(data_dir, tmp_path, capsys):
    methods = f"--method=captum.attr:Occlusion,captum.attr:LayerGradCam,{MINE}:Noisy,CO"
    arguments = ["--layer=first", '--method-args={"sliding_window_shapes": [1, 14, 14], "strides": [1, 14, 14]}']
    asked = ["--saliency", *QUICK, methods, *arguments]
    assert run(data_dir, tmp_path / "out", asked) == 0
    assert run(data_dir, tmp_path / "out", asked) == 0
    capsys.readouterr()
    assert run(data_dir, tmp_path / "out", [*asked[:-2], "--layer=second", arguments[1]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--overwrite" in line


def test_wrong_input_is_one_line_and_nothing_is_written(data_dir, tmp_path, capsys):
    for method, options, words in (
        ("captum.attr:Occlusion", [], "sliding_window_shapes"),
        ("captum.attr:Saliency", ["--method-args=3"], "JSON"),
        ("captum.attr:Saliency", ["--layer=first"], "--layer"),
        ("GC", ["--layer=nowhere"], "nowhere"),
        (f"{MINE}:ByTheBatch", [], "by itself"),
        ("captum.attr:DeepLft", [], "choose from DeepLift"),
        (f"{MINE}:ByTheBtch", [], "ByTheBtch"),
    ):
        assert run(data_dir, tmp_path / "out", ["--saliency", *QUICK, f"--method={method}", *options]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, (method, lines)
        (line,) = lines
        assert words in line
    assert not (tmp_path / "out").exists()
