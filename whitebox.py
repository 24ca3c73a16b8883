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
    *,
    preprocessing: "Callable[[Tensor], Tensor] | None" = None,
    **parameters: Any,
) -> "Tensor":
    """Return the maps of `images`, by Captum's calling convention.

    For several calls on the same network, `attribution.build_method` prepares it once.

    Args:
        model: a module in evaluation mode, or another callable that returns logits; it stays as it is.
        images: (N, C, H, W) floats, as the network sees them, or as `preprocessing` takes them.
        target: the class to explain: an integer for all images, or one for each.
        method: "VBP", "IB", "IG", "DeconvNet", "GB", "GC", "GB-GC", "CAM", "CO", "RANDOM", "SOBEL", a name of the field
            such as "GradCAM", or `package.module:Name`.
        ensemble: "SG", "SG-SQ" or "SG-VAR", around the method.
        preprocessing: makes of images in 0 … 1 what the network sees, such as torchvision's `Normalize(mean, std)`.
        parameters: of the method and the ensemble, such as `steps=`, `baseline=`, `layer=`, `samples=`, `level=`. A
            baseline is a tensor as the network sees it, zeros by default, or "black" or "mean", which `preprocessing`
            gives a meaning.

    Returns:
        signed, unscaled maps (N, C, H, W) or (N, 1, H, W) of the images as the network sees them.

    Raises:
        common.errors.InputError: unknown names or parameters, a network in training mode, images or targets that don't
            fit it, or a network whose maps would depend on chance.
    """
    from attribution import build_method  # here, so that `import whitebox` does no work

    if preprocessing is not None:
        if isinstance(parameters.get("baseline"), str):
            parameters.setdefault("black", preprocessing(images.new_zeros(1, *images.shape[1:]))[0, :, 0, 0])
        images = preprocessing(images)
    maps: Tensor = build_method(method, model, ensemble, **parameters).attribute(images, target)  # type: ignore[arg-type]
    return maps
