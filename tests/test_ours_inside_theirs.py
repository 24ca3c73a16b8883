"""Our methods where other libraries expect theirs: Captum's NoiseTunnel and metrics, Quantus's metrics."""

import warnings

import captum.attr
import numpy as np
import pytest
import torch
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from attribution import ANY_MODEL_METHODS, build_method

TARGET = torch.tensor([2, 0])

pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor 0")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
    ).eval()


@pytest.fixture
def inputs():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [*ANY_MODEL_METHODS, "captum.attr:Saliency"])
def test_a_tuple_of_one_tensor_is_answered_by_one(name, model, inputs):
    """As Captum's own methods do; its `sensitivity_max` counts on that."""
    method = build_method(name, model)
    want = method.attribute(inputs, target=TARGET)
    (got,) = method.attribute((inputs,), target=TARGET)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", ANY_MODEL_METHODS)
def test_noise_tunnel_without_noise_is_the_method(name, model, inputs):
    method = build_method(name, model)
    want = method.attribute(inputs, target=TARGET)
    got = captum.attr.NoiseTunnel(method).attribute(inputs, nt_samples=3, stdevs=0.0, target=TARGET)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["VBP", "IB"])
def test_noise_tunnel_of_ours_is_that_of_captums(name, model, inputs):
    theirs = {
        "VBP": lambda: captum.attr.NoiseTunnel(captum.attr.Saliency(model)).attribute(
            inputs, nt_samples=4, stdevs=0.3, target=TARGET, abs=False
        ),
        "IB": lambda: captum.attr.NoiseTunnel(captum.attr.InputXGradient(model)).attribute(
            inputs, nt_samples=4, stdevs=0.3, target=TARGET
        ),
    }
    torch.manual_seed(3)
    want = theirs[name]()
    torch.manual_seed(3)
    method = captum.attr.NoiseTunnel(build_method(name, model))
    got = method.attribute(inputs, nt_samples=4, stdevs=0.3, target=TARGET)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("target", [2, TARGET, [2, 0]])
def test_sensitivity_of_ours_is_that_of_captums(target, model, inputs):
    found = []
    saliency = captum.attr.Saliency(model)
    for attribute in (
        lambda images, target: saliency.attribute(images, target, abs=False),
        build_method("VBP", model).attribute,
    ):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        found.append(sensitivity_max(attribute, inputs, perturb_radius=0.1, n_perturb_samples=4, target=target))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)
    assert found[0].min() > 0


@pytest.mark.parametrize("name", [*ANY_MODEL_METHODS, "captum.attr:Saliency"])
def test_every_method_goes_into_captums_sensitivity(name, model, inputs):
    method = build_method(name, model)
    value = sensitivity_max(method.attribute, inputs, n_perturb_samples=2, target=TARGET)
    assert value.shape == (2,)
    assert value.isfinite().all()


def test_maps_of_ours_go_into_captums_infidelity(model, inputs):
    maps = build_method("IB", model).attribute(inputs, target=TARGET)

    def perturb(images):
        noise = 0.01 * torch.randn_like(images)
        return noise, images - noise

    assert infidelity(model, perturb, inputs, maps, target=TARGET).shape == (2,)


def explain(model, inputs, targets, name="VBP", **_others):
    """An `explain_func` of Quantus: arrays in, an array out."""
    images = torch.as_tensor(inputs, dtype=torch.float32)
    maps = build_method(name, model).attribute(images, target=targets)
    return maps.sum(dim=1, keepdim=True).numpy()


def test_targets_as_quantus_gives_them(model, inputs):
    want = build_method("VBP", model).attribute(inputs, target=TARGET).sum(dim=1, keepdim=True).numpy()
    for targets in (TARGET.numpy(), TARGET.numpy().astype(np.int32), TARGET.tolist(), TARGET):
        np.testing.assert_allclose(explain(model, inputs.numpy(), targets), want, rtol=1e-5, atol=1e-7)


def test_a_metric_of_quantus_takes_ours(model, inputs):
    quantus = pytest.importorskip("quantus")
    metric = quantus.MaxSensitivity(nr_samples=3, disable_warnings=True, normalise=False, abs=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = metric(
            model=model, x_batch=inputs.numpy(), y_batch=TARGET.numpy(), explain_func=explain, explain_func_kwargs={}
        )
    assert np.isfinite(values).all()
    assert len(values) == 2
