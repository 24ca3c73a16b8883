"""Every method that Captum has too, on SimpleCNN and real images."""

import warnings

import captum.attr
import pytest
import torch
from torch import nn

from attribution import build_method
from attribution.ensembles import normal
from attribution.folding import folded
from attribution.pixel_hash import image_number
from models import build_model
from tests.samples import sample_arrays

STEPS = 7


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


def gradcam(model, inputs, target):
    cam = captum.attr.LayerGradCam(model, model.features[2][2]).attribute(inputs, target, relu_attributions=True)
    return captum.attr.LayerAttribution.interpolate(cam, inputs.shape[2:], "bilinear")


def guided(model, inputs, target):
    return captum.attr.GuidedBackprop(model).attribute(inputs, target=target)


def integrated(model, inputs, target):
    baseline = torch.full_like(inputs, -0.4)
    return captum.attr.IntegratedGradients(model).attribute(inputs, baseline, target=target, n_steps=STEPS)


def smooth(summary):
    def ensemble(model, inputs, target):
        sigma = 0.15 * (inputs.amax((1, 2, 3)) - inputs.amin((1, 2, 3))).view(-1, 1, 1, 1)
        maps = []
        for sample in range(5):
            noise = normal(image_number(inputs), inputs[0].numel(), (3 << 16) + sample).view_as(inputs)
            maps.append(captum.attr.Saliency(model).attribute(inputs + sigma * noise, target=target, abs=False))
        return summary(torch.stack(maps).double()).float()

    return ensemble


NOISE = {"samples": 5, "seed": 3}
ORACLES = {
    "VBP": (
        {},
        lambda model, inputs, target: captum.attr.Saliency(model).attribute(inputs, target=target, abs=False),
    ),
    "IB": ({}, lambda model, inputs, target: captum.attr.InputXGradient(model).attribute(inputs, target=target)),
    "IG": ({"steps": STEPS, "baseline": torch.tensor(-0.4)}, integrated),
    "GB": ({}, guided),
    "DeconvNet": (
        {},
        lambda model, inputs, target: captum.attr.Deconvolution(model).attribute(inputs, target=target),
    ),
    "GC": ({}, gradcam),
    "GB-GC": ({}, lambda *explained: guided(*explained) * gradcam(*explained)),
    "VBP SG": (NOISE, smooth(lambda maps: maps.mean(0))),
    "VBP SG-SQ": (NOISE, smooth(lambda maps: maps.square().mean(0))),
    "VBP SG-VAR": (NOISE, smooth(lambda maps: maps.var(0, correction=0))),
}


@pytest.mark.parametrize(("fold", "tolerance"), [(False, 1e-4), (True, 1e-3)], ids=["plain", "folded"])
@pytest.mark.parametrize("name", ORACLES)
def test_method_equals_captum(name, fold, tolerance, explained):
    model, inputs, target = explained
    parameters, oracle = ORACLES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = oracle(model, inputs.clone(), target).detach()
    method, *ensemble = name.split()
    built = build_method(method, folded(model) if fold else model, *ensemble, **parameters)
    got = built.attribute(inputs, target)
    error = ((got - want).norm() / want.norm()).item()
    print(f"{name} {'folded' if fold else ''} {error:.1e}")
    assert want.norm() > 0
    assert error < tolerance


@pytest.mark.filterwarnings("ignore:Input Tensor 0")
def test_a_captum_object_stands_where_a_method_does(explained):
    model, inputs, target = explained
    method = build_method("captum.attr:InputXGradient", model, "SG", level=0, samples=1)
    want = build_method("IB", model).attribute(inputs, target)
    torch.testing.assert_close(method.attribute(inputs, target), want, rtol=1e-5, atol=1e-7)
