"""Every method that Captum has too, on SimpleCNN and real images."""

import warnings

import pytest
import torch
from torch import nn

import whitebox
from attribution import build_method
from benchmarks.captum_oracles import ORACLES
from models import build_model
from tests.samples import sample_arrays


@pytest.fixture(params=["mnist", "cifar10"], scope="module")
def explained(request):
    """A network that has seen a few batches, real images, and a class for each."""
    arrays = sample_arrays(request.param)
    images = torch.from_numpy(arrays["train_images"][:30]).float() / 255
    inputs = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    inputs, labels = (inputs - images.mean()) / images.std(), torch.from_numpy(arrays["train_labels"][:30]).long()
    torch.manual_seed(0)
    model = build_model(request.param)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval(), inputs[:6], labels[:6]


FIELD_NAMES = {
    "VBP": ("Gradient", "VGB"),
    "IB": ("InputXGradient",),
    "IG": ("IntegratedGradients",),
    "DeconvNet": ("Deconvolution",),
    "GB": ("GuidedBackprop",),
    "GC": ("GradCAM",),
    "GB-GC": ("GuidedGradCAM", "GBGC"),
    "VBP SG": ("Gradient SmoothGrad",),
    "VBP SG-SQ": ("Gradient SmoothGradSquared",),
    "VBP SG-VAR": ("Gradient VarGrad",),
}


@pytest.mark.parametrize(("name", "alias"), [(name, alias) for name in FIELD_NAMES for alias in FIELD_NAMES[name]])
def test_explain_by_the_names_of_the_field_equals_captum(name, alias, explained):
    model, inputs, target = explained
    parameters, oracle = ORACLES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = oracle(model, inputs.clone(), target).detach()
    got = whitebox.explain(model, inputs, target, *alias.split(), **parameters)
    assert (got - want).norm() < 1e-3 * want.norm()


@pytest.mark.parametrize(("is_fused", "tolerance"), [(False, 1e-4), (True, 1e-3)], ids=["plain", "fused"])
@pytest.mark.parametrize("name", ORACLES)
def test_method_equals_captum(name, is_fused, tolerance, explained):
    model, inputs, target = explained
    parameters, oracle = ORACLES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = oracle(model, inputs.clone(), target).detach()
    method, *ensemble = name.split()
    network = model if is_fused else lambda images: model(images)  # a function is explained as it is
    built = build_method(method, network, *ensemble, **parameters)
    got = built.attribute(inputs, target)
    error = ((got - want).norm() / want.norm()).item()
    print(f"{name} {'fused' if is_fused else ''} {error:.1e}")
    assert want.norm() > 0
    assert error < tolerance


@pytest.mark.filterwarnings("ignore:Input Tensor 0")
def test_a_captum_object_stands_where_a_method_does(explained):
    model, inputs, target = explained
    method = build_method("captum.attr:InputXGradient", model, "SG", level=0, samples=1)
    want = build_method("IB", model).attribute(inputs, target)
    torch.testing.assert_close(method.attribute(inputs, target), want, rtol=1e-5, atol=1e-7)
