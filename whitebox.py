"""White Box as a library: maps of any classifier, prepared for speed."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor


def explain(
    model: "Callable[..., Any]",
    images: "Tensor",
    target: "int | Sequence[int] | npt.NDArray[np.integer[Any]] | Tensor",
    method: str = "IG",
    ensemble: str | None = None,
    **parameters: Any,
) -> "Tensor":
    """Return the maps of `images`, by Captum's calling convention.

    For several calls on the same network, `attribution.build_method` prepares it once.

    Args:
        model: a module in evaluation mode, or another callable that returns logits; it stays as it is.
        images: (N, C, H, W) floats, as the network sees them.
        target: the class to explain: an integer for all images, or one for each.
        method: "VBP", "IB", "IG", "DeconvNet", "GB", "GC", "GB-GC", "CAM", "CO", "RANDOM", "SOBEL", a name of the field
            such as "GradCAM", or `package.module:Name`.
        ensemble: "SG", "SG-SQ" or "SG-VAR", around the method.
        parameters: of the method and the ensemble, such as `steps=`, `baseline=`, `layer=`, `samples=`, `level=`.

    Returns:
        signed, unscaled maps (N, C, H, W) or (N, 1, H, W).

    Raises:
        common.errors.InputError: unknown names or parameters, a network in training mode, images or targets that don't
            fit it, or a network whose maps would depend on chance.
    """
    from attribution import build_method  # here, so that `import whitebox` does no work

    maps: Tensor = build_method(method, model, ensemble, **parameters).attribute(images, target)  # type: ignore[arg-type]
    return maps
