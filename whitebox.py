"""White Box as a library: maps of any classifier, and which of them can be trusted."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn

    from attribution.method import Method
    from reporting.evaluation_summary import ModelSummary
    from reporting.trust_summary import TrustSummary


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

    Later calls on the same network share what was prepared, as long as its weights, modes, hooks and attributes are the
    same and the images have the same shape.

    Args:
        model: a module in evaluation mode, or another callable that returns logits; it stays as it is.
        images: (N, C, H, W) floats, as the network sees them, or as `preprocessing` takes them.
        target: the class to explain: an integer for all images, or one for each. Of a network with one logit z it is
            0, and z is explained.
        method: "VBP", "IB", "IG", "DeconvNet", "GB", "GC", "GB-GC", "CAM", "CO", "ROLLOUT", "GRAD-ROLLOUT", "RANDOM",
            "SOBEL"; a name of the field such as "GradCAM"; a method of another library such as "captum.attr:DeepLift",
            "zennit:EpsilonPlusFlat", "pytorch_grad_cam:LayerCAM" or "torchcam.methods:LayerCAM"; or
            `package.module:Name`.
        ensemble: "SG", "SG-SQ" or "SG-VAR", around the method.
        preprocessing: makes of images in 0 … 1 what the network sees, such as torchvision's `Normalize(mean, std)`.
        parameters: of the method and the ensemble, such as `steps=`, `baseline=`, `layer=`, `samples=`, `level=`. A
            baseline is "black" (by default), or a tensor as the network sees it. Without `preprocessing` black counts
            as zero for the network.

    Returns:
        signed, unscaled maps (N, C, H, W) or (N, 1, H, W) of the images as the network sees them.

    Raises:
        common.errors.InputError: unknown names or parameters, a network in training mode, images or targets that don't
            fit it, or a network whose maps would depend on chance.
    """
    from attribution import build_method, canonical_method  # here, so that `import whitebox` does no work

    if preprocessing is not None:
        from attribution.preprocessing import black_seen, images_seen

        if canonical_method(method) == "IG" and isinstance(parameters.get("baseline", "black"), str):
            parameters.setdefault("black", black_seen(preprocessing, images))
        images = images_seen(preprocessing, images)
    explainer: Any = build_method(method, model, ensemble, **parameters)  # takes more targets than every `Method` does
    return explainer.attribute(images, target)


def evaluate(
    model: "nn.Module | str",
    images: "Tensor | None" = None,
    labels: "npt.ArrayLike | Tensor | None" = None,
    methods: "Sequence[str | Method] | None" = None,
    evaluation: str = "ROAD",
    ensemble: str | None = None,
    *,
    dataset: str | None = None,
    preprocessing: "Callable[[Tensor], Tensor] | None" = None,
    **options: Any,
) -> "ModelSummary | TrustSummary":
    """Measure which of several methods explains a network best.

    Args:
        model: your network, a module in evaluation mode, which is judged in memory on `images`; or the name of a model
            of this project or the place of a factory, with `dataset=`: it is trained, explained and retrained as on
            the command line, and everything is stored and found again.
        images: (N, C, H, W) floats, as the network sees them, or as `preprocessing` takes them.
        labels: the class of each image; None if they are not known.
        methods: names, as `explain` takes them, or objects with `attribute(inputs, target)`; the controls RANDOM and
            SOBEL stand beside them. By default VBP, IG and GC, or for "trust" all that the network allows.
        evaluation: of your network "ROAD", "insertion-deletion", "selectivity", "sanity", "learned", or "trust", which
            is all of these within `budget=20` minutes and the answer that they give together; with `dataset=` also
            "ROAR", "KAR" and "F-Fidelity".
        dataset: "mnist", "cifar10", "planted", or "folder:PATH".
        options: options of the evaluation and parameters of methods, as on the command line, such as `ratios=(0.1,
            0.5)`, `fill="mean"`, `explain="label"`, `steps=20`; with `dataset=` also `quick=True`, `seeds=3`,
            `output_dir=`, `data_dir=`, `jobs=`.

    Returns:
        the summary: `.table` (Markdown), `.curves`, `.ranking` (the best method first), `.figure()` (matplotlib),
        `.text`; of "trust" `.headline`, `.explanation`, `.recommended` and `.refusals`, too. A given network has no
        seeds: intervals are over the images.

    Raises:
        common.errors.InputError: unknown names or options, images that don't fit, a network in training mode.
    """
    from experiments.api import evaluate_given, evaluate_stored  # here, so that `import whitebox` does no work

    if isinstance(model, str):
        if dataset is None or any(given is not None for given in (images, labels, preprocessing)):
            raise TypeError("evaluate a model by its name with dataset=, and a network of yours with images and labels")
        return evaluate_stored(model, dataset, methods, evaluation, ensemble, options)
    if images is None or dataset is not None:
        raise TypeError("evaluate a network of yours with images and labels")
    return evaluate_given(model, images, labels, methods, evaluation, ensemble, preprocessing, options)
