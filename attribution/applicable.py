"""The methods that a network allows, and the reasons against the others."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from attribution import METHODS, REGISTRY, build_method, canonical_method
from attribution.network import Network
from attribution.network_state import require_evaluation_mode
from common.errors import InputError
from common.imports import import_object

IMAGES = 2
FEWEST_STEPS = {"IG": {"steps": 1}}  # that show whether a method works


def applicable_methods(
    model: Callable[..., Any], inputs: Tensor, methods: Sequence[str] = METHODS, logits: Any = None
) -> dict[str, str | None]:
    """Return for each of `methods` None, or in one line the reason why it can't explain `model`.

    Each method explains class 0 of two images once, with as little work as shows that.

    Args:
        inputs: (N, C, H, W), as the network sees them; the first two are used.
        methods: names, as `build_method` takes them.
        logits: as for `build_method`.

    Raises:
        InputError: no method can explain the network, such as one in training mode.
    """
    images = inputs[:IMAGES]
    network = Network(model, logits, fuse=True)  # a single faster copy for all of our methods
    if network.module is not None:
        require_evaluation_mode(network.module)
    with network.prepared(images):
        pass
    reasons: dict[str, str | None] = {}
    for name in methods:
        try:
            method = canonical_method(name)
            if method in REGISTRY:
                kind = import_object(REGISTRY[method].place, "a method")
                explainer: Any = kind(network, **FEWEST_STEPS.get(method, {}))
            else:
                explainer = build_method(method, model, logits=logits)
            explainer.attribute(images, 0)
        except InputError as error:
            reasons[name] = str(error)
        else:
            reasons[name] = None
    return reasons
