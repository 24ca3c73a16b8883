"""A map that shows nothing that the network learned removes no better than that of random weights."""

import numpy as np
import pytest
import torch
from torch import nn

from attribution.spec import MethodSpec
from evaluation.given import GivenArtefacts, measure_given
from evaluation.registry import load_evaluation


class Bright(nn.Module):
    """Class 1 is the brightness of the left half, class 0 that of the right: it is learned, and known."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 2, bias=False)
        left = (torch.arange(64) % 8 < 4).float()
        self.linear.weight.data = torch.stack([1 - left, left]) * 0.2

    def forward(self, images):
        return self.linear(images.flatten(1))


class Edges:
    """A map of the image alone, whatever the network."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def attribute(self, inputs, target):
        return inputs.abs()


@pytest.fixture(scope="module")
def artefacts():
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return GivenArtefacts(Bright().eval(), images, torch.zeros(40), {})


def learned(artefacts, method):
    config = load_evaluation("learned").configure(limit_test=40, fill="mean")
    result = measure_given("learned", config, artefacts, MethodSpec(method), lambda images: None)
    return np.array(result["learned"])


def test_the_map_of_a_learned_gradient_beats_that_of_random_weights(artefacts):
    values = learned(artefacts, "IB")
    assert len(values) == 40
    assert values.mean() > 3 * values.std() / 40**0.5


def test_a_finished_curve_is_not_measured_again(artefacts):
    config = load_evaluation("learned").configure(limit_test=40, fill="mean")
    other, of_map = load_evaluation("learned").includes(config)
    finished, results, calls, told = [], [], [], []
    hook = artefacts.model.register_forward_hook(lambda *_: calls.append(1))
    try:
        for included in (None, measure_given(other, of_map, artefacts, MethodSpec("IB"), lambda images: None)):
            artefacts.included = included
            calls.clear()
            results.append(measure_given("learned", config, artefacts, MethodSpec("IB"), told.append))
            finished.append(len(calls))
    finally:
        hook.remove()
        artefacts.included = None
    assert results[0] == results[1]
    assert sum(told) == 2 * 80
    assert finished[0] - finished[1] == 2 * len(config.ratios) - 2, "whole and empty images once"


@pytest.mark.parametrize("method", ["RANDOM", "SOBEL", f"{__name__}:Edges"])
def test_maps_of_the_image_alone_do_not_depend_on_learning(artefacts, method):
    assert (learned(artefacts, method) == 0).all()
