"""Which class stands behind which name."""

from collections.abc import Callable

from attribution.controls import Random
from attribution.gradcam import GradCAM
from attribution.gradient import VanillaBackprop
from attribution.method import Method

CLASSES: dict[str, Callable[..., Method]] = {"VBP": VanillaBackprop, "GC": GradCAM, "RANDOM": Random}
