import numpy as np
import pytest
import torch
from torch import nn

from attribution import build_method
from attribution.integrated import composite, gauss_legendre, midpoint
from common.errors import InputError


class Power(nn.Module):
    """f_0 = Σ x^p, f_1 = 0."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power

    def forward(self, images):
        powers = images.flatten(1).pow(self.power).sum(1, keepdim=True)
        return torch.cat([powers, 0 * powers], dim=1)


@pytest.mark.parametrize("steps", [3, 4, 5, 50])
@pytest.mark.parametrize("rule", [{}, {"rule": "gauss-legendre"}], ids=["default", "gauss-legendre"])
def test_cubes_are_integrated_exactly(steps, rule):
    inputs, target = torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]]).double(), torch.tensor([0])
    got = build_method("IG", Power(3), steps=steps, **rule).attribute(inputs, target)
    torch.testing.assert_close(got, inputs**3, rtol=1e-12, atol=1e-12)  # x · ∫ 3 α² x² dα


def test_midpoint_equals_its_sum():
    inputs = torch.tensor([[[[1.0, -2.0], [0.5, 3.0]]]]).double()
    got = build_method("IG", Power(3), steps=2, rule="midpoint").attribute(inputs, torch.tensor([0]))
    torch.testing.assert_close(got, inputs**3 * 3 * (0.25**2 + 0.75**2) / 2)


@pytest.mark.parametrize("rule", [composite, gauss_legendre, midpoint])
@pytest.mark.parametrize("steps", [1, 2, 17, 100])
def test_weights_sum_to_one_inside_the_path(rule, steps):
    nodes, weights = rule(steps)
    assert len(nodes) == len(weights) == steps
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    assert all(0 < node < 1 for node in nodes)


@pytest.mark.parametrize("steps", [2, 7, 50])
def test_composite_rule_is_exact_up_to_the_third_degree_and_its_nodes_lie_evenly(steps):
    nodes, weights = (np.array(values) for values in composite(steps))
    for degree in range(4):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), abs=1e-12)
    assert np.diff([0, *nodes, 1]).max() < 1.2 / steps


@pytest.mark.parametrize(
    ("parameters", "baseline"),
    [
        ({}, [0, 0]),
        ({"black": torch.tensor([-0.5, -2])}, [-0.5, -2]),
        ({"baseline": "mean", "mean": torch.tensor([-0.5, -2])}, [-0.5, -2]),
        ({"baseline": torch.tensor([1.0, 2]).view(2, 1, 1), "black": torch.tensor([-0.5, -2])}, [1, 2]),
    ],
    ids=["unnormalised", "black", "mean", "given"],
)
def test_completeness_from_each_baseline(parameters, baseline):
    inputs, target = torch.rand(3, 2, 4, 4).double(), torch.tensor([0, 0, 0])
    model, start = Power(3), torch.tensor(baseline).double().view(1, 2, 1, 1).expand_as(inputs)
    method = build_method("IG", model, steps=3, **parameters)
    got = method.attribute(inputs, target)
    difference = model(inputs)[:, 0] - model(start)[:, 0]
    torch.testing.assert_close(got.sum((1, 2, 3)), difference)
    torch.testing.assert_close(method.completeness_gap(inputs, target, got), torch.zeros(3).double())
    torch.testing.assert_close(method.completeness_gap(inputs, target, 1.5 * got), torch.full((3,), 0.5).double())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rule": "trapezoid"}, "composite or gauss-legendre or midpoint"),
        ({"steps": 0}, "1 or more steps"),
        ({"baseline": "white"}, "unknown baseline 'white'"),
        ({"baseline": "mean", "black": torch.zeros(3)}, "give it with mean="),
    ],
)
def test_what_can_not_be_integrated_is_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        build_method("IG", Power(3), **parameters)
