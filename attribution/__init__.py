"""Attribution methods for any classifier that returns logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.errors import InputError
from common.imports import import_object, is_user_code
from common.parsing import canonical_name

if TYPE_CHECKING:
    from attribution.method import Method


@dataclass(frozen=True)
class MethodInfo:
    """An entry of the registry.

    Attributes:
        place: `module:Class`, imported when it is used, since the command line's help needs no torch.
        aliases: other accepted names, in any case.
        parameters: names of those that the command line passes on.
        needs_cam_head: explains only networks that end in global average pooling and a linear layer.
        needs_attention: explains only networks that attend from tokens to tokens.
    """

    place: str
    aliases: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    takes_layer: bool = False
    is_control: bool = False
    needs_cam_head: bool = False
    needs_attention: bool = False


REGISTRY = {
    "VBP": MethodInfo("attribution.gradient:VanillaBackprop", ("VGB", "Gradient")),
    "IB": MethodInfo("attribution.gradient:InputBackprop", ("InputXGradient",)),
    "IG": MethodInfo("attribution.integrated:IntegratedGradients", ("IntegratedGradients",), ("steps", "baseline")),
    "DeconvNet": MethodInfo("attribution.guided:DeconvNet", ("Deconvolution",)),
    "GB": MethodInfo("attribution.guided:GuidedBackprop", ("GuidedBackprop",)),
    "GC": MethodInfo("attribution.gradcam:GradCAM", ("GradCAM",), takes_layer=True),
    "GB-GC": MethodInfo("attribution.guided:GuidedGradCAM", ("GBGC", "GuidedGradCAM"), takes_layer=True),
    "CAM": MethodInfo("attribution.cam:CAM", needs_cam_head=True),
    "CO": MethodInfo("attribution.gradcam:ConvolutionOutput", takes_layer=True),
    "ROLLOUT": MethodInfo("attribution.rollout:AttentionRollout", ("AttentionRollout",), needs_attention=True),
    "GRAD-ROLLOUT": MethodInfo("attribution.rollout:GradientRollout", ("GradientRollout",), needs_attention=True),
    "RANDOM": MethodInfo("attribution.controls:Random", is_control=True),
    "SOBEL": MethodInfo("attribution.controls:Sobel", is_control=True),
}
"""All methods of this project. To add one, write its class (an `AttributionMethod`) and its line here."""

ENSEMBLE_REGISTRY = {
    "SG": MethodInfo("attribution.ensembles:SmoothGrad", ("SmoothGrad",)),
    "SG-SQ": MethodInfo("attribution.ensembles:SmoothGradSquared", ("SmoothGradSquared",)),
    "SG-VAR": MethodInfo("attribution.ensembles:VarGrad", ("VarGrad",)),
}

METHODS = tuple(REGISTRY)
ENSEMBLES = tuple(ENSEMBLE_REGISTRY)
ANY_MODEL_METHODS = tuple(name for name, info in REGISTRY.items() if not (info.needs_cam_head or info.needs_attention))
CONTROLS = tuple(name for name, info in REGISTRY.items() if info.is_control)
LAYER_METHODS = tuple(name for name, info in REGISTRY.items() if info.takes_layer)
ENSEMBLE_PARAMETERS = ("level", "samples", "seed")

MAP_DTYPES = ("float32", "float16")  # of stored maps; float16 is relative to each map's largest value
STEPS = 50  # nodes of IG's quadrature
BASELINES = ("black", "mean")  # of IG
LEVEL = 0.15  # noise σ of the ensembles, relative to each image's range
SAMPLES = 15  # noisy copies of the ensembles


def canonical_method(name: str) -> str:
    """Return the key of a method in `REGISTRY`, or `package.module:Name` as it is; raise `InputError` for no method."""
    if isinstance(name, str) and is_user_code(name):
        return name
    return canonical_name("method", name, _names(REGISTRY), ", or give package.module:Name")


def canonical_ensemble(name: str) -> str:
    """Return the key of an ensemble in `ENSEMBLE_REGISTRY`; raise `InputError` for no ensemble."""
    return canonical_name("ensemble", name, _names(ENSEMBLE_REGISTRY))


def _names(registry: dict[str, MethodInfo]) -> dict[str, tuple[str, ...]]:
    return {name: info.aliases for name, info in registry.items()}


def build_method(name: str, model: "Callable[..., Any]", ensemble: str | None = None, **params: Any) -> "Method":
    """Build an attribution method for `model`, a module in evaluation mode or another callable that returns logits.

    The module stays as it is. Our methods explain a faster copy with fused batch norms, and renew it when weights,
    buffers or modes change; with a `layer=`, and by other people's methods, the module itself is explained.

    Args:
        name: one of `METHODS` or an alias; a method of another library, such as "zennit:EpsilonPlusFlat" or
            "pytorch_grad_cam:LayerCAM"; or the place `package.module:Name` of a class that is called with `model`.
        ensemble: one of `ENSEMBLES`, around the method.
        params: parameters of the method, such as `layer=` of GC, or of the user's class or its `attribute`; `level`,
            `samples` and `seed` of an ensemble; and `logits`, the part of the model's output that holds the logits
            if that is ambiguous: a key, a position, or a function of the output.

    Returns:
        an object whose `attribute(inputs, target)` maps (N, C, H, W), and a class for all or for each image, to signed,
        unscaled float32 maps (N, C, H, W) or (N, 1, H, W).

    Raises:
        InputError: unknown name or parameter, a network in training mode.
    """
    from attribution.custom import ExternalMethod  # here, so that naming the methods costs no import of torch
    from attribution.network import Network
    from attribution.network_state import require_evaluation_mode

    method = canonical_method(name)
    fuse = params.get("layer") is None and not is_user_code(method)
    network = Network(model, params.pop("logits", None), fuse=fuse)
    if network.module is not None:
        require_evaluation_mode(network.module)
    ensemble_params = {key: params.pop(key) for key in ENSEMBLE_PARAMETERS if ensemble and key in params}
    try:
        if not is_user_code(method):
            result: Method = import_object(REGISTRY[method].place, "a method")(network, **params)
        elif network.module is not None:
            result = ExternalMethod(method, network, **params)
        else:
            raise InputError(f"{method} explains a torch.nn.Module: give one in place of a function")
    except TypeError as error:
        raise InputError(f"{method} can't be built with {', '.join(params) or 'no parameters'}: {error}") from error
    return build_ensemble(ensemble, result, **ensemble_params) if ensemble else result


def build_ensemble(name: str, method: "Method", **params: Any) -> "Method":
    """Build one of `ENSEMBLES` around any method, for example a Captum object.

    Args:
        params: `level` (noise σ relative to each image's range), `samples`, `seed`.

    Raises:
        InputError: unknown name or parameter.
    """
    place = ENSEMBLE_REGISTRY[canonical_ensemble(name)].place
    try:
        ensemble: Method = import_object(place, "an ensemble")(method, **params)
    except TypeError as error:
        raise InputError(f"{name} can't be built with {', '.join(params)}: {error}") from error
    return ensemble
