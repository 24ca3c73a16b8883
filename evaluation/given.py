"""Evaluations of a network and images that are given, in memory: nothing is trained, nothing is written."""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attribution.integrated import black_pixel
from attribution.maps import explain_batch
from attribution.method import Method
from attribution.network import require_evaluation_mode
from attribution.spec import MethodSpec
from common.errors import InputError
from common.outputs import find_logits
from data.load import subset_index
from evaluation.masking import ranks_of_maps
from evaluation.protocol import TestImages
from evaluation.registry import load_evaluation
from evaluation.tasks import Arrays, OnImages
from training.inputs import Normalisation, TensorInputs
from training.loop import predict

Preprocessing = Callable[[Tensor], Tensor]


class UnknownBlack(Normalisation):
    """The normalisation of images of which nobody says what the network sees of a black one."""

    def fill(self, name: str) -> Tensor:
        """Return (C,): the "mean" pixel.

        Raises:
            InputError: for "black".
        """
        if name == "black":
            raise InputError("fill='black' needs preprocessing=, which says what the network sees of a black image")
        return super().fill(name)


class Logits(nn.Module):
    """A module that returns only the logits of the output of another."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return find_logits(self.model(images))


class OfOtherWeights:
    """The caller's own method, of the network to which it is bound with the weights of another for each call."""

    def __init__(self, method: Method, model: nn.Module, other: nn.Module) -> None:
        self.method, self.model, self.other = method, model, other

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.other.state_dict())
        try:
            return self.method.attribute(inputs, target)
        finally:
            self.model.load_state_dict(own)


class GivenArtefacts:
    """A given network, and the images on which its explanations are compared: `Artefacts`."""

    seed = 0

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor | None,
        methods: Mapping[MethodSpec, Method],
        preprocessing: Preprocessing | None = None,
    ) -> None:
        """
        Args:
            images: (N, C, H, W).
            labels: (N,); None for the classes that the network predicts.
            methods: objects with an `attribute` of the caller's own, by the specification that names them.

        Raises:
            InputError: no network in evaluation mode, or images and labels that don't fit.
        """
        require_evaluation_mode(model)
        count = len(images) if labels is None else len(labels)
        if len(images) != count or images.ndim != 4:
            raise InputError(f"images {tuple(images.shape)} and {count} labels: (N, C, H, W) and N are needed")
        kind: type[Normalisation] = UnknownBlack
        black = images.new_zeros(images.shape[1])
        if preprocessing is not None:
            kind, black = Normalisation, black_pixel(preprocessing, images)
            images = preprocessing(images)
        with torch.no_grad():
            output = model(images[:1])
        self.model, self.methods = model if isinstance(output, Tensor) else Logits(model), methods
        self.device = images.device
        self.maps: Arrays | None = None  # of the method that is measured next
        self.included: dict[str, Any] | None = None
        self._ranked: tuple[MethodSpec, str, str] | None = None
        index = torch.arange(len(images), device=self.device)
        normalisation = kind(-black, torch.ones_like(black), mean_pixel=images.mean(dim=(0, 2, 3)))
        inputs = TensorInputs(images, black)
        numbers = predict(self.model, inputs) if labels is None else labels.to(self.device).long()
        self.test = TestImages(inputs, numbers, index, normalisation)

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
        if method in self.methods:
            own = self.methods[method]
            return (own if model is self.model else OfOtherWeights(own, self.model, model)), model
        return method.build(model, **({"black": self.test.normalisation.black} if method.method == "IG" else {})), model

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
        ranks, _tied = ranks_of_maps(maps(), channels, "pixel", rank, self.device)
        self.maps = {"ranks": ranks.cpu().numpy(), "target": np.concatenate(targets)}
        self._ranked = method, explain, rank


def measure_given(
    evaluation: str, config: Any, artefacts: GivenArtefacts, method: MethodSpec, on_images: OnImages
) -> dict[str, Any]:
    """Measure one method on a given network."""
    protocol = load_evaluation(evaluation)
    if protocol.needs_maps:
        artefacts.make_maps(method, *protocol.ranking(config))
    return protocol.measure(config, method, artefacts, on_images)
