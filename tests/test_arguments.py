"""Arguments of `whitebox.evaluate` that make no sense: each is refused in a sentence."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import whitebox
from common.errors import InputError
from evaluation.planted import TrueMap
from tests.small_network import small_network


@pytest.fixture(scope="module")
def network():
    """A network, images and labels."""
    return small_network(), torch.randn(6, 3, 8, 8), np.arange(6) % 3


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ({"evaluation": "ROAR"}, {}, "training images"),
        ({"evaluation": "F-Fidelity"}, {}, "training images"),
        ({"methods": ["no such"]}, {}, "unknown method"),
        ({"methods": [3]}, {}, "no method"),
        ({}, {"stepz": 3}, "stepz"),
        ({"labels": [0]}, {}, "labels"),
        ({}, {"ratios": (20, 50)}, "from 0 to 1"),
        ({}, {"fill": "black"}, "choose from linear"),
        ({}, {"explain": "predictions"}, "choose from prediction, label"),
        ({}, {"rank": "abs"}, "choose from signed"),
        ({"evaluation": "insertion-deletion"}, {"fill": "zeros"}, "choose from"),
        ({"evaluation": "insertion-deletion"}, {"fill": "linear"}, "choose from blur"),
        ({"evaluation": "selectivity"}, {"order": "best"}, "order"),
        ({"evaluation": "trust"}, {"fill": "zeros"}, "choose from"),
        ({"methods": ["IG"]}, {"baseline": np.zeros((1, 8, 8))}, "torch.Tensor"),
        ({"evaluation": "roda"}, {}, "unknown evaluation 'roda': choose from ROAD"),
        ({"evaluation": None}, {}, "unknown evaluation"),
        ({"evaluation": "roar"}, {}, "ROAR needs training images"),
        ({"methods": "GC"}, {}, "give a list"),
        ({"methods": []}, {}, "give a list"),
        ({"methods": [TrueMap]}, {}, "no method"),
        ({"methods": [SimpleNamespace(attribute=lambda inputs, classes: inputs)]}, {}, "no argument `target`"),
        ({"methods": [SimpleNamespace(attribute=lambda inputs, target: inputs), "IB"]}, {"ensemble": "SG"}, "around"),
        ({"ensemble": 5}, {}, "unknown ensemble 5"),
        ({"labels": ["cat"] * 6}, {}, "whole numbers"),
        ({"labels": None}, {"explain": "label"}, "needs labels"),
        ({"labels": None, "evaluation": "trust"}, {"explain": "label"}, "needs labels"),
        ({}, {"ratios": "a"}, "from 0 to 1"),
        ({}, {"alpha": 0.3}, "--alpha is for --eval=F-Fidelity"),
        ({"evaluation": "trust"}, {"draws": 3}, "--draws is for"),
        ({"evaluation": "trust"}, {"budget": 0}, "budget=0: '0' is not a number above 0"),
        ({"evaluation": "trust"}, {"budget": float("nan")}, "budget=nan"),
        ({"evaluation": "trust"}, {"by_image": False}, "image by image"),
        ({}, {"limit_test": 7}, "limit_test=7: 6 images are given"),
        ({"evaluation": "trust"}, {"limit_test": 7}, "6 images are given"),
        ({"methods": ["IG"]}, {"steps": 2.5}, "steps=2.5"),
    ],
)
def test_wrong_input_is_refused(network, arguments, options, message):
    model, images, labels = network
    facts = {"labels": labels[:6], "methods": ["VBP"], "evaluation": "ROAD"} | arguments
    with pytest.raises(InputError, match=message):
        whitebox.evaluate(model, images[:6], **facts, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dry_run": True}, "dry_run= is no option"),
        ({"attention": ("CAM",)}, "attention= is no option"),
        ({"eval": ("KAR",)}, "eval= is no option"),
        ({"engine": "spark"}, "choose from local, ray"),
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": 1.5}, "seeds=1.5"),
        ({"evaluation": "trust"}, "for the command line"),
        ({"dataset": 5}, "dataset=5"),
    ],
)
def test_options_of_the_command_line_are_checked_or_refused(tmp_path, options, message):
    facts = {"dataset": "planted", "methods": ["VBP"], "quick": True, "output_dir": tmp_path} | options
    with pytest.raises(InputError, match=message):
        whitebox.evaluate("SimpleCNN", **facts)
    with pytest.raises(TypeError, match="images and labels"):
        whitebox.evaluate("SimpleCNN", dataset="planted", labels=[0])


def test_images_are_a_tensor(network):
    model, images, labels = network
    for wrong, kind in ((images.numpy(), "ndarray"), (images[0], r"\(3, 8, 8\)"), (images[:0], r"\(0, 3, 8, 8\)")):
        with pytest.raises(InputError, match=rf"N above 0, and .*{kind}"):
            whitebox.evaluate(model, wrong, labels, ["VBP"])
