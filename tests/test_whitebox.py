"""The public API, and the faster copy that it explains."""

import subprocess
import sys

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import Normalize, RandomCrop

import whitebox
from attribution import ANY_MODEL_METHODS, build_method
from attribution.fusing import fuse_batchnorm, is_fused
from attribution.spec import MethodSpec
from common.errors import InputError
from evaluation.given import GivenArtefacts
from tests.small_network import small_images, small_network

TARGET = [2, 0, 1]


class Viewing(nn.Module):
    """Reads its activations by `view`, which weights in channels_last forbid."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.features, self.head = network[:3], nn.Linear(4 * 64, 3)

    def forward(self, images):
        features = self.features(images)
        return self.head(features.view(len(features), -1))


@pytest.fixture
def model():
    return small_network()


@pytest.fixture
def inputs():
    return small_images()


def gradient(model, images):
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[range(3), TARGET].sum(), leaf)[0]


def state(model):
    return [
        *((type(module), module.training, sorted(vars(module))) for module in model.modules()),
        *((one.tolist(), one.stride(), one.requires_grad, one.grad) for one in model.parameters()),
        *((one.tolist(), one._version) for one in model.buffers()),
    ]


def test_import_does_no_work():
    code = "import sys, whitebox; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "target", [1, [1, 1, 1], np.array([1, 1, 1]), torch.tensor(1), torch.ones(3, dtype=torch.int64)]
)
def test_explain_takes_targets_as_captum_does(target, model, inputs):
    want = captum.attr.IntegratedGradients(model).attribute(inputs, target=1, n_steps=200)
    torch.testing.assert_close(whitebox.explain(model, inputs, target, steps=200), want, rtol=0.02, atol=0.02)


def test_explain_passes_method_ensemble_and_parameters_on(model, inputs):
    parameters = {"samples": 3, "level": 0.1, "seed": 4}
    got = whitebox.explain(model, inputs, TARGET, method="guidedgradcam", ensemble="VarGrad", **parameters)
    assert torch.equal(got, build_method("GB-GC", model, "SG-VAR", **parameters).attribute(inputs, target=TARGET))
    with pytest.raises(InputError, match="IG can't be built with stepps"):
        whitebox.explain(model, inputs, 0, stepps=3)


def test_preprocessing_comes_before_the_network_and_tells_it_black(model, inputs):
    images, normalise = inputs.sigmoid(), Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.1))
    network_inputs = normalise(images)
    black = normalise(torch.zeros(1, 3, 8, 8))
    want = whitebox.explain(model, network_inputs, TARGET, baseline=black)
    for baseline in ({}, {"baseline": "black"}):
        assert torch.equal(whitebox.explain(model, images, TARGET, preprocessing=normalise, **baseline), want)
    judged = GivenArtefacts(model, images, torch.as_tensor(TARGET), {}, normalise)
    explainer, _network = judged.explainer(MethodSpec("IG"), judged.model)
    torch.testing.assert_close(explainer.attribute(network_inputs, TARGET), want)
    assert torch.equal(
        whitebox.explain(model, images, TARGET, "VBP", preprocessing=normalise),
        whitebox.explain(model, network_inputs, TARGET, "VBP"),
    )
    mean = network_inputs.mean(dim=(0, 2, 3))
    judge = judged.explainer(MethodSpec.of("IG", None, baseline="mean"), judged.model)[0]
    want = whitebox.explain(model, network_inputs, TARGET, baseline=mean.view(3, 1, 1))
    torch.testing.assert_close(judge.attribute(network_inputs, TARGET), want)


@pytest.mark.parametrize("evaluation", ["explain", "ROAD"])
def test_preprocessing_leaves_the_images_and_draws_nothing(evaluation, model, inputs):
    def use(preprocessing):
        if evaluation == "explain":
            return whitebox.explain(model, images, TARGET, preprocessing=preprocessing).tolist()
        return whitebox.evaluate(model, images, TARGET, preprocessing=preprocessing, ratios=(0.3,)).text

    images, before = inputs.sigmoid(), inputs.sigmoid()
    normalise = Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.1), inplace=True)
    assert use(normalise) == use(normalise)
    assert torch.equal(images, before)
    with pytest.raises(InputError, match="the preprocessing draws random numbers"):
        use(RandomCrop(8, padding=2))


def test_black_is_a_whole_image_where_its_pixels_differ(model, inputs):
    images, mean = inputs.sigmoid(), torch.rand(1, 3, 8, 8)
    want = whitebox.explain(model, images - mean, TARGET, baseline=-mean)
    assert torch.equal(whitebox.explain(model, images, TARGET, preprocessing=lambda batch: batch - mean), want)
    judged = GivenArtefacts(model, images, torch.as_tensor(TARGET), {}, lambda batch: batch - mean)
    explainer, _network = judged.explainer(MethodSpec("IG"), judged.model)
    torch.testing.assert_close(explainer.attribute(images - mean, TARGET), want)
    with pytest.raises(InputError, match="a black pixel, wherever it is"):
        judged.test.normalisation.fill("black")


def test_a_black_image_that_is_standardised_is_no_baseline(model, inputs):
    def standardise(images):
        return images / images.amax(dim=(1, 2, 3), keepdim=True)

    with pytest.raises(InputError, match="baseline holds values that are not finite"):
        whitebox.explain(model, inputs.sigmoid(), TARGET, preprocessing=standardise)
    assert whitebox.explain(model, inputs.sigmoid(), TARGET, "VBP", preprocessing=standardise).any()


def test_a_network_in_training_mode_is_refused(model, inputs):
    with pytest.raises(InputError, match="training mode"):
        whitebox.explain(model.train(), inputs, TARGET)


@pytest.mark.parametrize("name", ANY_MODEL_METHODS)
def test_a_copy_with_fused_batch_norms_is_explained_and_the_network_left_as_it_was(name, model, inputs):
    before = state(model)
    method = build_method(name, model)
    maps = method.attribute(inputs, TARGET)
    assert state(model) == before
    by_hand = build_method(name, fuse_batchnorm(model)).attribute(inputs, TARGET)
    assert torch.equal(maps, by_hand)
    if method.network is not None:
        assert is_fused(method.network.module)
        assert isinstance(method.network.module[1], nn.Identity)
        assert method.forward_func is model


def test_a_layer_chosen_by_name_is_that_of_the_network_itself(model, inputs):
    method = build_method("CO", model, layer="0")
    want = model[0](inputs).mean(1, keepdim=True)
    torch.testing.assert_close(method.attribute(inputs, TARGET), want)
    assert method.network.module is model


@pytest.mark.parametrize("name", ["VBP", "GC"])
def test_the_copy_is_renewed_when_the_network_changes(name, model, inputs):
    method = build_method(name, model)
    before = method.attribute(inputs, TARGET)
    for change in (
        lambda: model[4].weight.data.neg_(),  # PyTorch counts no version of what changes by `data`
        lambda: nn.init.normal_(model[0].weight),
        lambda: model[1].running_var.mul_(3),
        lambda: model.__setitem__(2, nn.Tanh()),
    ):
        change()
        after = method.attribute(inputs, TARGET)
        torch.testing.assert_close(after, build_method(name, model).attribute(inputs, TARGET))
        if name == "VBP":
            torch.testing.assert_close(after, gradient(model, inputs), rtol=1e-4, atol=1e-6)
        assert is_fused(method.network.module)
        assert not torch.equal(before, after)
        before = after


def test_a_network_that_no_copy_can_stand_for_is_explained_itself(model, inputs):
    calls = []
    hooked, uncopied = fuse_batchnorm(model), nn.Sequential(*model)
    hooked = nn.Sequential(*model)
    handle = hooked.register_forward_hook(lambda *arguments: calls.append(1))
    uncopied.generator = (number for number in range(3))
    viewing = Viewing(model).eval()
    for network in (hooked, uncopied, viewing):
        method = build_method("VBP", network)
        torch.testing.assert_close(method.attribute(inputs, TARGET), gradient(network, inputs))
        assert method.network.module is network
    assert calls
    handle.remove()
    method = build_method("VBP", hooked)
    method.attribute(inputs, TARGET)
    assert is_fused(method.network.module)


@pytest.mark.parametrize("images", [torch.rand(2, 1, 8, 8), torch.rand(3, 8, 8), torch.rand(2, 3, 8, 7)])
def test_images_that_the_network_cannot_read_are_refused_in_a_sentence(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    with pytest.raises(InputError, match=r"the network fails for images of shape \("):
        whitebox.explain(model, images, 1, "VBP")
    with pytest.raises(InputError, match="tensor of floats"):
        whitebox.explain(model, images.tolist(), 1, "VBP")
