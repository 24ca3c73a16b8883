"""Evaluations of a network and images that are given, in memory: nothing is trained, nothing is written."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attribution.maps import as_maps, explain_batch
from attribution.method import Method
from attribution.network import Network, nothing_compiled, uncompiled
from attribution.network_state import changes_undone
from attribution.own_map import is_close, require_own_map
from attribution.preprocessing import Preprocessing, black_seen, images_seen
from attribution.random_state import seeded_by
from attribution.single_images import right_gradients
from attribution.spec import MethodSpec
from common.errors import InputError
from common.outputs import find_logits, require_logits
from data.load import subset_index
from evaluation.masking import ranks_of_maps
from evaluation.protocol import TestImages
from evaluation.registry import load_evaluation
from evaluation.tasks import Arrays, OnImages
from models.adapter import require_one_label, with_two_classes
from training.inputs import Normalisation, TensorInputs

CHANNELS_LAST = torch.channels_last


class UnknownBlack(Normalisation):
    """The normalisation of images of which nobody says what the network sees of a black pixel, the same everywhere."""

    def fill(self, name: str) -> Tensor:
        """Return (C,): the "mean" pixel.

        Raises:
            InputError: for "black".
        """
        if name == "black":
            raise InputError(
                "fill='black' needs preprocessing=, which says what the network sees of a black pixel, wherever it is"
            )
        return super().fill(name)


class Logits(nn.Module):
    """The logits (N, K) of a network in float32, K ≥ 2, whatever its precision, memory layout and output.

    It gets a copy of the images, which it may change in place.

    Attributes:
        is_binary: the network has one logit z, which stands for the logits −z/2 and z/2.
    """

    def __init__(self, model: nn.Module, layout: torch.memory_format, is_binary: bool) -> None:
        super().__init__()
        self.model, self.layout, self.is_binary = model, layout, is_binary

    def forward(self, images: Tensor) -> Tensor:
        dtype = next((weight.dtype for weight in self.model.parameters() if weight.is_floating_point()), images.dtype)
        logits = find_logits(self.model(images.to(dtype, memory_format=self.layout, copy=True))).float()
        return torch.cat([-logits / 2, logits / 2], dim=1) if self.is_binary else logits


class OwnMethod:
    """The caller's own method, of the network to which it is bound, perhaps with the weights of another for each call.

    It gets images in the network's precision, contiguous in memory, and leaves nothing behind in the network. If it
    draws random numbers, it explains image by image, with generators seeded by the image's pixels.
    """

    def __init__(self, method: Method, model: nn.Module, other: nn.Module) -> None:
        self.method, self.model, self.other, self.name = method, model, other, type(method).__name__

    def require_convention(self, image: Tensor, classes: int) -> None:
        """Try the method on images like `image` (1, C, H, W).

        Raises:
            InputError: a map depends on the images beside its own, or on the call; or the network has one logit, and
                the method explains it for both classes.
        """
        target = torch.zeros(1, dtype=torch.int64, device=image.device)
        with changes_undone(self.model):
            if isinstance(self.model, Logits) and self.model.is_binary:
                self._require_two_classes(image, target)
            require_own_map(self._seeded_maps, image, target, classes, self.name)

    def _require_two_classes(self, image: Tensor, target: Tensor) -> None:
        first, _is_random = self._seeded_maps(image, target)
        wrong = (
            f"{self.name} must explain class 0 by -z / 2 and class 1 by z / 2, of the network's one logit z: give a "
            "network that returns both, torch.cat([-z / 2, z / 2], 1), and a method of that, or a method's name"
        )
        try:
            second, _is_random = self._seeded_maps(image, target + 1)
        except Exception as error:  # anybody's code, which knows of one class only
            raise InputError(wrong) from error
        if bool((first < 0).any()) and is_close(first, second):
            raise InputError(wrong)

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        tensors, others = ((*model.parameters(), *model.buffers()) for model in (self.model, self.other))
        with changes_undone(self.model):
            if self.other is not self.model:
                with torch.no_grad():
                    for tensor, other in zip(tensors, others, strict=True):
                        tensor.copy_(other)
            maps, is_random = self._seeded_maps(inputs, target)
            if not is_random or len(inputs) == 1:
                return maps
            pairs = zip(inputs.split(1), target.split(1), strict=True)
            return torch.cat([self._seeded_maps(*pair)[0] for pair in pairs])

    def _seeded_maps(self, inputs: Tensor, target: Tensor) -> tuple[Tensor, bool]:
        """Return the maps by a call with generators seeded by the first image, and whether it drew from them."""
        images = inputs.to(Network(self.model).dtype or inputs.dtype).clone(memory_format=torch.contiguous_format)
        with seeded_by(images[:1]) as draws, nothing_compiled(), right_gradients():
            maps = as_maps(self.method.attribute(images, target=target), images, self.name)
        return maps, draws.any


class GivenArtefacts:
    """A given network, and the images on which its explanations are compared: `Artefacts`."""

    seed = 0

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor | None,
        methods: Mapping[MethodSpec, Method | None],
        preprocessing: Preprocessing | None = None,
    ) -> None:
        """
        Args:
            images: (N, C, H, W).
            labels: (N,); None for the classes that the network predicts.
            methods: objects with an `attribute` of the caller's own, by the specification that names them; None for
                others.

        Raises:
            InputError: no network in evaluation mode, or images and labels that don't fit.
        """
        require_images(images)
        if labels is not None and labels.shape != images.shape[:1]:
            raise InputError(f"labels {tuple(labels.shape)} are given for {len(images)} images: (N,) is needed")
        images = images.detach()
        kind: type[Normalisation] = UnknownBlack
        pixel, self.pixels = images.new_zeros(images.shape[1], dtype=torch.float32), {}
        if preprocessing is not None:
            self.pixels["black"] = black = black_seen(preprocessing, images)
            if black.ndim == 1:
                kind, pixel = Normalisation, black
            images = images_seen(preprocessing, images)
        if not images.is_floating_point() or not images.isfinite().all():
            raise InputError(f"images are finite floats as the network sees them, and {images.dtype} is given")
        images = images.float()
        self.model, self.classes = as_classifier(model, images)
        self.methods = methods
        if labels is not None:
            _require_classes(labels, self.classes)
        self.device = images.device
        self.maps: Arrays | None = None  # of the method that is measured next
        self.included: dict[str, Any] | None = None
        self._ranked: tuple[MethodSpec, str, str] | None = None
        self._tried: set[MethodSpec] = set()  # of the caller's own methods
        index = torch.arange(len(images), device=self.device)
        self.pixels["mean"] = images.mean(dim=(0, 2, 3))
        normalisation = kind(-pixel, torch.ones_like(pixel), mean_pixel=self.pixels["mean"])
        inputs = TensorInputs(images, pixel)
        self.test = TestImages(inputs, index if labels is None else labels.to(self.device).long(), index, normalisation)
        if labels is None:
            with torch.no_grad():
                batches = (inputs.batch(rows) for rows in self.test.batches())
                predicted = [self.model(batch.contiguous(memory_format=CHANNELS_LAST)).argmax(1) for batch in batches]
            self.test = replace(self.test, labels=torch.cat(predicted))

    def subset(self, limit: int) -> "GivenArtefacts":
        """Return the same with a random subset of `limit` images."""
        rows = torch.from_numpy(subset_index(len(self.test.labels), limit)).to(self.device)
        part, test = copy(self), self.test
        images = TensorInputs(test.images.batch(rows), test.images.border)
        part.test, part.maps = TestImages(images, test.labels[rows], test.index[rows], test.normalisation), None
        part._ranked = None
        return part

    def network(self, name: str = "") -> nn.Module:
        if name:
            raise InputError(f"a given network has no network {name!r} beside it, which would have to be trained")
        return self.model

    def explainer(self, method: MethodSpec, model: nn.Module) -> tuple[Method, nn.Module]:
        if (own := self.methods.get(method)) is not None:
            explainer = OwnMethod(own, self.model, model)
            if method not in self._tried:
                explainer.require_convention(self.test.images.batch(self.test.index[:1]), self.classes)
                self._tried.add(method)
            return explainer, model
        network = model
        if isinstance(model, Logits):  # of the network itself, so that its layers have their own names
            network = with_two_classes(uncompiled(model.model)) if model.is_binary else model.model
        return method.build(network, self.pixels), model

    def make_maps(self, method: MethodSpec, explain: str, rank: str) -> None:
        """Rank the pixels by the maps of `method`, unless that was done last."""
        if self._ranked == (method, explain, rank):
            return
        explainer, model = self.explainer(method, self.model)
        targets: list[Any] = []

        def maps() -> Iterator[tuple[Any, Any]]:
            for rows in self.test.batches():
                inputs, labels = self.test.images.batch(rows), self.test.labels[rows]
                batch = explain_batch(explainer, model, inputs, labels, explain)
                targets.append(batch.prediction if explain == "prediction" else labels.cpu().numpy())
                yield batch.attribution, rows.cpu().numpy()

        channels = len(self.test.images.border)
        ranks, _tied = ranks_of_maps(maps(), channels, "pixel", rank, self.device, method.blur)
        self.maps = {"ranks": ranks.cpu().numpy(), "target": np.concatenate(targets)}
        self._ranked = method, explain, rank


def require_images(images: Any) -> None:
    """Raise `InputError` unless images are a tensor (N, C, H, W), N above 0."""
    if not isinstance(images, Tensor) or images.ndim != 4 or len(images) == 0:
        kind = f"{tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise InputError(f"images are a tensor (N, C, H, W), N above 0, and {kind} is given")


def as_labels(labels: Any) -> Tensor | None:
    """Return labels, whole numbers in whatever form, as a tensor; None for None.

    Raises:
        InputError: other labels.
    """
    if labels is None:
        return None
    values = labels if isinstance(labels, Tensor) else np.asarray(labels)
    if isinstance(values, Tensor) or values.dtype.kind in "iufb":
        tensor = torch.as_tensor(values)
        if not tensor.is_complex() and torch.equal(tensor.long().to(tensor.dtype), tensor):
            return tensor
    raise InputError("labels are whole numbers, the class of each image, and others are given")


def as_classifier(model: nn.Module, images: Tensor) -> tuple[nn.Module, int]:
    """Return `model`, or a module around it, that takes float32 images in any layout, and the number of its logits.

    Raises:
        InputError: the network can't be explained with such images, see `Network.check`, returns probabilities, or
            finds several labels at once.
    """
    require_one_label(model, type(model).__name__)
    network = Network(model)
    with network.prepared(images), torch.enable_grad():
        is_binary = network.classes == 1
        require_logits(network(images[:2].clone().requires_grad_()))
    image = images[:1].clone(memory_format=CHANNELS_LAST)
    version = image._version
    with torch.no_grad(), suppress(RuntimeError):
        output = model(image)
        is_plain = isinstance(output, Tensor) and output.dtype == torch.float32 and not is_binary
        if is_plain and image._version == version:  # else the network changed it in place
            return model, network.classes
    layout = torch.contiguous_format if network.needs_contiguous(image) else torch.preserve_format
    return Logits(model, layout, is_binary), 2 if is_binary else network.classes


def _require_classes(labels: Tensor, classes: int) -> None:
    if not bool(((labels >= 0) & (labels < classes)).all()):
        raise InputError(f"labels from {labels.min()} to {labels.max()}: the network's classes are 0 to {classes - 1}")


def measure_given(
    evaluation: str, config: Any, artefacts: GivenArtefacts, method: MethodSpec, on_images: OnImages
) -> dict[str, Any]:
    """Measure one method on a given network."""
    protocol = load_evaluation(evaluation)
    if protocol.needs_maps:
        artefacts.make_maps(method, *protocol.ranking(config))
    return protocol.measure(config, method, artefacts, on_images)
