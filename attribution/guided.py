"""Methods that change the backward pass of ReLU."""

from torch import Tensor, nn

from attribution.backward_relu import BackwardReLU, Deconvolved, Guided, Rule, require_visible_calls
from attribution.gradcam import GradCAM
from attribution.method import LogitGradient


class ModifiedBackprop:
    """∂f_c/∂x with `rule` in place of the derivative of ReLU; see `attribution.backward_relu` for what is a ReLU."""

    rule: Rule

    def __init__(self, model: nn.Module) -> None:
        """Raises `InputError` if the ReLUs of `model` can't be reached."""
        require_visible_calls(model)
        self.gradient = LogitGradient(model)

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W).

        Raises:
            InputError: the network has a rectifier that is no ReLU.
        """
        with BackwardReLU(self.rule):
            return self.gradient(inputs, target)


class DeconvNet(ModifiedBackprop):
    """DeconvNet of Zeiler and Fergus 2014 (arXiv 1311.2901, section 2.1), as a backward pass from the logit.

    A deconvolution network filters with transposed filters, unpools with the switches of the forward pass and
    rectifies what it reconstructs. The first two are what backpropagation does; the third is the rule for ReLU.
    """

    rule = Deconvolved


class GuidedBackprop(ModifiedBackprop):
    """GB: guided backpropagation (Springenberg et al. 2015, arXiv 1412.6806, section 3.4)."""

    rule = Guided


class GuidedGradCAM:
    """GB-GC: GB × GC (Selvaraju et al. 2017, section 3.2), GC computed with the plain gradient.

    Captum's GuidedGradCam interpolates GC to the nearest pixel; here bilinearly, as in the paper.
    """

    def __init__(self, model: nn.Module, layer: str | None = None) -> None:
        """`layer`: see GradCAM."""
        self.guided, self.gradcam = GuidedBackprop(model), GradCAM(model, layer)

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W)."""
        return self.guided.attribute(inputs, target) * self.gradcam.attribute(inputs, target)
