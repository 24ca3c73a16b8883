"""Captum's methods under the names of ours."""

from collections.abc import Callable
from typing import Any

import captum.attr
import torch
from torch import Tensor, nn

from attribution.ensembles import normal
from attribution.pixel_hash import image_number
from models.inspection import Inspectable, last_block

STEPS = 50
SAMPLES, SEED = 5, 3

Oracle = Callable[[nn.Module, Tensor, Tensor], Tensor]


def saliency(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    maps: Tensor = captum.attr.Saliency(model).attribute(inputs, target=target, abs=False)
    return maps


def input_x_gradient(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    maps: Tensor = captum.attr.InputXGradient(model).attribute(inputs, target=target)
    return maps


def integrated(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """By the Gauss–Legendre rule, Captum's default, from `BASELINE`."""
    baseline = torch.full_like(inputs, BASELINE)
    maps: Tensor = captum.attr.IntegratedGradients(model).attribute(inputs, baseline, target=target, n_steps=STEPS)
    return maps


def guided(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    maps: Tensor = captum.attr.GuidedBackprop(model).attribute(inputs, target=target)
    return maps


def deconvolution(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    maps: Tensor = captum.attr.Deconvolution(model).attribute(inputs, target=target)
    return maps


def layer_of(model: nn.Module) -> str:
    """The layer that Grad-CAM explains: a model's own choice, or the last stage of torchvision's ResNets."""
    return last_block(model) if isinstance(model, Inspectable) else "layer4"


def gradcam(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """With the paper's ReLU and bilinear interpolation, neither of which is Captum's default."""
    cam = captum.attr.LayerGradCam(model, model.get_submodule(layer_of(model)))
    maps = cam.attribute(inputs, target, relu_attributions=True)
    interpolated: Tensor = captum.attr.LayerAttribution.interpolate(maps, inputs.shape[2:], "bilinear")
    return interpolated


def guided_gradcam(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    return guided(model, inputs, target) * gradcam(model, inputs, target)


def smooth(summary: Callable[[Tensor], Tensor]) -> Oracle:
    """`saliency` over the same noisy images as this project's ensembles draw."""

    def ensemble(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
        sigma = 0.15 * (inputs.amax((1, 2, 3)) - inputs.amin((1, 2, 3))).view(-1, 1, 1, 1)
        maps = []
        for sample in range(SAMPLES):
            noise = normal(image_number(inputs), inputs[0].numel(), (SEED << 16) + sample).view_as(inputs)
            maps.append(saliency(model, inputs + sigma * noise, target))
        return summary(torch.stack(maps).double()).float()

    return ensemble


BASELINE = -0.4
_NOISE: dict[str, Any] = {"samples": SAMPLES, "seed": SEED}
ORACLES: dict[str, tuple[dict[str, Any], Oracle]] = {
    "VBP": ({}, saliency),
    "IB": ({}, input_x_gradient),
    "IG": ({"steps": STEPS, "rule": "gauss-legendre", "baseline": torch.tensor(BASELINE)}, integrated),
    "DeconvNet": ({}, deconvolution),
    "GB": ({}, guided),
    "GC": ({}, gradcam),
    "GB-GC": ({}, guided_gradcam),
    "VBP SG": (_NOISE, smooth(lambda maps: maps.mean(0))),
    "VBP SG-SQ": (_NOISE, smooth(lambda maps: maps.square().mean(0))),
    "VBP SG-VAR": (_NOISE, smooth(lambda maps: maps.var(0, correction=0))),
}
"""Method (and ensemble) -> the parameters that make it the same as Captum's, and Captum's maps."""
