"""The methods that a network allows."""

import pytest
import torch
from torch import nn

from attribution import METHODS, build_method
from attribution.applicable import applicable_methods
from common.errors import InputError
from tests.small_network import small_images, small_network
from tests.test_gradcam_networks import built
from tests.test_other_methods import facts

pytestmark = pytest.mark.filterwarnings("ignore")
LIBRARIES = ["zennit:EpsilonPlusFlat", "pytorch_grad_cam:LayerCAM", "torchcam.methods:LayerCAM", "captum.attr:Saliency"]


def refused(reasons):
    return {name for name, reason in reasons.items() if reason}


def test_a_convolutional_network_allows_all_but_rollout():
    model, images = small_network(), small_images()
    before = facts(model)
    reasons = applicable_methods(model, images, [*METHODS, *LIBRARIES])
    assert list(reasons) == [*METHODS, *LIBRARIES]
    assert refused(reasons) == {"ROLLOUT", "GRAD-ROLLOUT"}
    assert facts(model) == before


@pytest.mark.parametrize("name", ["timm vit", "transformers vit", "torchvision vit", "timm swin"])
def test_the_reasons_are_those_of_the_methods(name):
    model, images, _layer, _reshape = built(name)
    reasons = applicable_methods(model, images, [*METHODS, *LIBRARIES])
    windows = {"ROLLOUT", "GRAD-ROLLOUT"} if "swin" in name else set()
    assert refused(reasons) == {"GB", "DeconvNet", "GB-GC", "CAM", "zennit:EpsilonPlusFlat"} | windows
    for method, reason in reasons.items():
        if reason:
            assert "\n" not in reason
            with pytest.raises(InputError) as error:
                build_method(method, model).attribute(images[:2], 0)
            assert str(error.value) == reason


def test_a_network_that_nothing_can_explain_is_refused_at_once():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, 3))
    with pytest.raises(InputError, match=r"model\.eval"):
        applicable_methods(model, torch.randn(2, 3, 8, 8))


def test_an_unknown_name_has_a_reason_too():
    reasons = applicable_methods(small_network(), small_images(), ["VBP", "VPB", "zennit:Epsilon"])
    assert refused(reasons) == {"VPB", "zennit:Epsilon"}
