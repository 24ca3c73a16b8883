"""Which class stands behind which name."""

from collections.abc import Callable

from attribution.cam import CAM
from attribution.controls import Random, Sobel
from attribution.ensembles import NoisyEnsemble, SmoothGrad, SmoothGradSquared, VarGrad
from attribution.gradcam import ConvolutionOutput, GradCAM
from attribution.gradient import InputBackprop, VanillaBackprop
from attribution.guided import DeconvNet, GuidedBackprop, GuidedGradCAM
from attribution.integrated import IntegratedGradients
from attribution.method import Method

CLASSES: dict[str, Callable[..., Method]] = {
    "VBP": VanillaBackprop,
    "IB": InputBackprop,
    "IG": IntegratedGradients,
    "DeconvNet": DeconvNet,
    "GB": GuidedBackprop,
    "GC": GradCAM,
    "GB-GC": GuidedGradCAM,
    "CAM": CAM,
    "CO": ConvolutionOutput,
    "RANDOM": Random,
    "SOBEL": Sobel,
}

ENSEMBLE_CLASSES: dict[str, type[NoisyEnsemble]] = {"SG": SmoothGrad, "SG-SQ": SmoothGradSquared, "SG-VAR": VarGrad}
