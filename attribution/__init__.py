"""Attribution methods for any classifier that returns logits, and the store that keeps their maps."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from common.errors import InputError

if TYPE_CHECKING:
    from attribution.method import Method

METHODS = ("VBP", "IB", "IG", "DeconvNet", "GB", "GC", "GB-GC", "CAM", "CO", "RANDOM", "SOBEL")
ANY_MODEL_METHODS = tuple(method for method in METHODS if method != "CAM")  # CAM needs a CAM head
CONTROLS = ("RANDOM", "SOBEL")
LAYER_METHODS = ("GC", "GB-GC", "CO")
ALIASES = {"VGB": "VBP", "GBGC": "GB-GC"}
ENSEMBLES = ("SG", "SG-SQ", "SG-VAR")
ENSEMBLE_PARAMETERS = ("level", "samples", "seed")
MAP_DTYPES = ("float32", "float16")  # in which maps are kept; float16 relative to each map's largest value
STEPS = 50  # of IG: nodes of the quadrature
BASELINES = ("black", "mean")  # of IG: what its path begins at
LEVEL = 0.15  # of the ensembles: noise σ as a share of each image's range
SAMPLES = 15  # of the ensembles: noisy copies


def canonical_method(name: str) -> str:
    """The name under which a method is filed, whatever its accepted spelling; `package.module:Name` as it is.

    Raises:
        InputError: no such method.
    """
    if ":" in name:
        return name
    known = {method.upper(): method for method in METHODS} | ALIASES
    if name.upper() not in known:
        raise InputError(f"unknown method {name!r}: choose from {', '.join(METHODS)}, or give package.module:Name")
    return known[name.upper()]


def canonical_ensemble(name: str) -> str:
    """The name under which an ensemble is filed.

    Raises:
        InputError: no such ensemble.
    """
    if name.upper() not in ENSEMBLES:
        raise InputError(f"unknown ensemble {name!r}: choose from {', '.join(ENSEMBLES)}")
    return name.upper()


def build_method(name: str, model: "Callable[..., Any]", ensemble: str | None = None, **params: Any) -> "Method":
    """An attribution method for `model`, a module in evaluation mode or another callable, which returns logits.

    Args:
        name: one of `METHODS` or `ALIASES`, or the place `package.module:Name` of a class that is called with `model`.
        ensemble: one of `ENSEMBLES`, around the method.
        params: of the method, for example `layer=` of GC, or what the class or its `attribute` takes; with an
            ensemble, `level`, `samples` and `seed` are its own. `logits` says which part of the model's output the
            logits are, where that can't be found: a key, a position, or a function of the output.

    Returns:
        an object whose `attribute(inputs, target)` maps (N, C, H, W), and a class for all or for each image, to signed,
        unscaled float32 maps (N, C, H, W) or (N, 1, H, W).

    Raises:
        InputError: unknown name or parameter, a network in training mode.
    """
    from attribution.custom import load_method  # here, so that naming the methods costs no import of torch
    from attribution.network import Network, require_evaluation_mode
    from attribution.registry import CLASSES

    network = Network(model, params.pop("logits", None))
    if network.module is not None:
        require_evaluation_mode(network.module)
    method = canonical_method(name)
    of_ensemble = {key: params.pop(key) for key in ENSEMBLE_PARAMETERS if ensemble and key in params}
    try:
        if ":" not in method:
            built = CLASSES[method](network, **params)
        elif network.module is not None:
            built = load_method(method, network.module, **params)
        else:
            raise InputError(f"{method} explains a torch.nn.Module: give one in place of a function")
    except TypeError as error:
        raise InputError(f"{method} can't be built with {', '.join(params) or 'no parameters'}: {error}") from error
    return build_ensemble(ensemble, built, **of_ensemble) if ensemble else built


def build_ensemble(name: str, method: "Method", **params: Any) -> "Method":
    """One of `ENSEMBLES` around any method, for example a Captum object.

    Args:
        params: `level` (noise σ as a share of each image's range), `samples`, `seed`.

    Raises:
        InputError: unknown name or parameter.
    """
    from attribution.registry import ENSEMBLE_CLASSES

    try:
        return ENSEMBLE_CLASSES[canonical_ensemble(name)](method, **params)
    except TypeError as error:
        raise InputError(f"{name} can't be built with {', '.join(params)}: {error}") from error
