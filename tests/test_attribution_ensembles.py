import pytest
import torch
from torch import nn

from attribution import ENSEMBLES, build_ensemble, build_method
from attribution.ensembles import variance
from common.errors import InputError
from tests.samples import sample_arrays


class Echo:
    """A method whose map is its input, so that an ensemble's noise can be seen."""

    def __init__(self, model=None) -> None:
        self.calls: list[torch.Tensor] = []

    def attribute(self, inputs, target):
        self.calls.append(inputs)
        return inputs.clone()


@pytest.fixture(scope="module")
def images():
    return torch.tensor(sample_arrays("cifar10")["test_images"][:7]).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(294, 10)).eval()


TARGET = torch.arange(7)


@pytest.mark.parametrize("method", ["VBP", "GB", "GC", "SOBEL"])
def test_the_fewest_samples_without_noise_are_the_method(method, model, images):
    plain = build_method(method, model).attribute(images, TARGET)
    fewest = {"SG": 1, "SG-SQ": 1, "SG-VAR": 2}
    one = {name: build_ensemble(name, build_method(method, model), samples=n, level=0) for name, n in fewest.items()}
    one = {name: ensemble.attribute(images, TARGET) for name, ensemble in one.items()}
    assert torch.equal(one["SG"], plain)
    assert torch.equal(one["SG-SQ"], plain**2)
    assert not one["SG-VAR"].any()


@pytest.mark.parametrize("level", [0.05, 0.15, 1.0])
def test_noise_has_the_standard_deviation_asked_for(level, images):
    stretched = images * torch.linspace(0.2, 2, 7).view(-1, 1, 1, 1)
    got = build_ensemble("SG-VAR", Echo(), level=level, samples=100).attribute(stretched, TARGET).mean((1, 2, 3)).sqrt()
    want = level * (stretched.amax((1, 2, 3)) - stretched.amin((1, 2, 3)))
    torch.testing.assert_close(got, want, rtol=0.01, atol=0)


def test_noise_is_normal_and_independent(images):
    method = Echo()
    build_ensemble("SG", method, level=1, samples=40).attribute(images[:2], TARGET[:2])
    noisy = torch.cat(method.calls).unflatten(0, (40, 2))
    noise = ((noisy - images[:2]) / (images[:2].amax((1, 2, 3)) - images[:2].amin((1, 2, 3))).view(2, 1, 1, 1)).double()
    assert noise.mean().abs() < 0.01
    assert noise.pow(3).mean().abs() < 0.03
    assert (noise.pow(4).mean() - 3).abs() < 0.05
    assert torch.corrcoef(noise.flatten(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.09
    assert (noise[..., 1:] * noise[..., :-1]).mean().abs() < 0.01
    assert (noise.flatten(2)[..., : 3072 // 2] * noise.flatten(2)[..., 3072 // 2 :]).mean().abs() < 0.01


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_ensembles_equal_the_plain_formula_and_depend_on_seed_and_samples(ensemble, model, images):
    method = Echo()
    got = build_ensemble(ensemble, method, samples=12, seed=5).attribute(images, TARGET)
    maps = torch.cat(method.calls).unflatten(0, (12, 7)).double()
    want = {"SG": maps.mean(0), "SG-SQ": (maps**2).mean(0), "SG-VAR": maps.var(0, correction=0)}[ensemble]
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-6)
    assert not torch.equal(got, build_ensemble(ensemble, Echo(), samples=12, seed=6).attribute(images, TARGET))


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_ensembles_do_not_depend_on_batch_and_order(ensemble, model, images):
    method = build_method("VBP", model, ensemble, samples=70)
    whole, order = method.attribute(images, TARGET), torch.tensor([4, 0])
    torch.testing.assert_close(method.attribute(images[order], TARGET[order]), whole[order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(method.attribute(images[6:], TARGET[6:]), whole[6:], rtol=1e-4, atol=1e-6)


def test_variance_of_large_equal_numbers_is_small_and_never_negative():
    torch.manual_seed(0)
    maps = [10000 + 0.1 * torch.randn(1000) for _ in range(30)]
    got, want = variance(iter(maps)), torch.stack(maps).double().var(0, correction=0)
    assert (got >= 0).all()
    assert ((got - want).abs() / want).max() < 0.05
    squares = torch.stack(maps).square().mean(0) - torch.stack(maps).mean(0).square()
    assert squares.min() < -0.1, "the formula that this one stands for fails here"


def test_wrong_ensembles_are_refused(model):
    for parameters in ({"samples": 0}, {"samples": 2.5}, {"level": -0.1}, {"level": float("nan")}):
        with pytest.raises(InputError, match="level ≥ 0 and a whole number of samples ≥ 1"):
            build_method("VBP", model, "SG", **parameters)
    with pytest.raises(InputError, match="samples ≥ 2"):
        build_method("VBP", model, "SG-VAR", samples=1)
    with pytest.raises(InputError, match="SG, SG-SQ, SG-VAR"):
        build_method("VBP", model, "Average")
    with pytest.raises(InputError, match="VBP can't be built with level"):
        build_method("VBP", model, level=0.1)


def test_a_users_class_is_found_by_its_place(model, images):
    method = build_method("tests.test_attribution_ensembles:Echo", model, "SG", level=0, samples=2)
    assert torch.equal(method.attribute(images, TARGET), images)
    for place in ("tests.nowhere:Echo", "tests.test_attribution_ensembles:Nobody", ":Echo", "math:"):
        with pytest.raises(InputError, match=r"package\.module:Name"):
            build_method(place, model)
    with pytest.raises(InputError, match="no attribute"):
        build_method("torch.nn:Sequential", model)
