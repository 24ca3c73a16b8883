"""The base of attribution methods, and the checks of inputs and targets."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attribution.chunks import Chunks
from attribution.network import Network
from common.errors import InputError

Target: TypeAlias = int | Sequence[int] | npt.NDArray[np.integer[Any]] | Tensor
"""The class to explain: one for all images, or one for each."""


class Method(Protocol):
    """Captum's calling convention: any of its attribution objects is a `Method`.

    Pass `target` by name: the second argument of many of Captum's methods is a baseline.
    """

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W) float32, (N,) int64 -> signed, unscaled (N, C, H, W) or (N, 1, H, W) float32."""


class AttributionMethod(ABC):
    """Base of our methods: checks inputs, targets and the network before any map is made."""

    multiplies_by_inputs = False  # for Captum's NoiseTunnel, which passes it on

    def __init__(self, model: Callable[..., Any] | None) -> None:
        """`model`: a module or another callable that returns logits; None for a method that needs no network."""
        self.network = model if isinstance(model, Network | None) else Network(model)
        if self.network is not None:
            self.chunks = Chunks(self.network)

    @property
    def forward_func(self) -> Callable[..., Any] | None:
        """The network, under the name that Captum's objects give it."""
        return None if self.network is None else self.network.original

    def has_convergence_delta(self) -> bool:
        """Return False: unlike some of Captum's methods, `attribute` returns maps alone."""
        return False

    @abstractmethod
    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Attribute checked inputs, (N, …) with N ≥ 1 floats without a graph, to targets, (N,) int64."""

    @torch.inference_mode(False)  # also gives `attribute` a `__wrapped__`, which Captum's NoiseTunnel calls
    def attribute(self, inputs: Tensor | tuple[Tensor], target: Target | None = None) -> Any:
        """Return signed, unscaled attributions of the logit of `target`.

        Args:
            inputs: (N, C, H, W) floats, as the network sees them; or a tuple of one such tensor, as some callers give.
            target: the class to explain, an integer for all images, or one for each: a list, an array or a tensor.

        Returns:
            (N, C, H, W) or (N, 1, H, W), in the precision of the inputs, at least float32; a tuple if `inputs` is.

        Raises:
            InputError: inputs or targets that don't fit the network, a network whose maps would depend on chance or on
                the other images, or one that this method can't explain.
        """
        if isinstance(inputs, tuple | list) and all(isinstance(part, Tensor) for part in inputs):
            if len(inputs) != 1:
                raise InputError(f"a network with one input is explained, and {len(inputs)} inputs are given")
            return (self.attribute(inputs[0], target),)
        images = self._checked_inputs(inputs)
        if len(images) == 0:
            return self.attribute(images.new_zeros(1, *images.shape[1:]), 0)[:0]
        if self.network is None:
            return self.maps(images, checked_target(target, len(images), None, images.device)).detach()
        with self.network.prepared(images):
            targets = checked_target(target, len(images), self.network.classes, images.device)
            maps = self.maps(images, targets).detach()
            if maps[0].isnan().any():  # the network may have been checked with other images
                self.network.check(images, again=True)
            return maps

    @torch.inference_mode(False)
    def _checked_inputs(self, inputs: Any) -> Tensor:
        if not isinstance(inputs, Tensor) or inputs.ndim < 2 or not inputs.is_floating_point():
            kind = f"{inputs.dtype} {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else type(inputs).__name__
            raise InputError(f"images are explained as a tensor of floats (images, …), and {kind} is given")
        images = inputs.clone() if inputs.is_inference() else inputs.detach()
        if not torch.isfinite(images).all():
            raise InputError("the images hold values that are not finite")
        if images.ndim != 4 or not images.is_contiguous(memory_format=torch.channels_last):
            images = images.contiguous()
        return images.float() if images.dtype in (torch.float16, torch.bfloat16) else images


def checked_target(target: Target | None, images: int, classes: int | None, device: torch.device) -> Tensor:
    """Return one class for each image, (images,) int64 on `device`.

    Args:
        target: an integer, or one element, stands for all images, as in Captum.
        classes: number of classes; None if it doesn't matter.

    Raises:
        InputError: no target, another number of them than of images, one that is no integer or no class.
    """
    if target is None:
        raise InputError("no target is given: say which class to explain, an integer or one for each image")
    try:
        values = target.detach() if isinstance(target, Tensor) else torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"targets are integers, one for all images or one for each, not {target!r}") from error
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise InputError(f"targets are integers, and {values.dtype} is given")
    if values.numel() != 1 and values.shape != (images,):
        raise InputError(
            f"targets of shape {tuple(values.shape)} are given for {images} images: one for all, or one for each"
        )
    # a plain copy: under inference_mode the user's own can't be used for gradients
    labels = torch.empty(images, dtype=torch.int64, device=device).copy_(values.reshape(-1))
    if classes is not None and not bool(((labels >= 0) & (labels < classes)).all()):
        wrong = next(label for label in labels.tolist() if not 0 <= label < classes)
        raise InputError(f"target {wrong} is none of the network's {classes} classes, 0 to {classes - 1}")
    return labels
