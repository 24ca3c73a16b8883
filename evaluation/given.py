"""Evaluations of a network and images that are given, in memory: nothing is trained, nothing is written."""

from collections.abc import Callable, Mapping
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
from evaluation.masking import ranks_of_maps
from evaluation.protocol import TestImages
from evaluation.registry import load_evaluation
from evaluation.tasks import Arrays, OnImages
from training.inputs import Normalisation, TensorInputs

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


class GivenArtefacts:
    """A given network, and the images on which its explanations are compared: `Artefacts`."""

    seed = 0

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        methods: Mapping[MethodSpec, Method],
        preprocessing: Preprocessing | None = None,
    ) -> None:
        """
        Args:
            images: (N, C, H, W).
            labels: (N,).
            methods: objects with an `attribute` of the caller's own, by the specification that names them.

        Raises:
            InputError: no network in evaluation mode, or images and labels that don't fit.
        """
        require_evaluation_mode(model)
        if len(images) != len(labels) or images.ndim != 4:
            raise InputError(f"images {tuple(images.shape)} and {len(labels)} labels: (N, C, H, W) and N are needed")
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
        index = torch.arange(len(images), device=self.device)
        normalisation = kind(-black, torch.ones_like(black), mean_pixel=images.mean(dim=(0, 2, 3)))
        self.test = TestImages(TensorInputs(images, black), labels.to(self.device).long(), index, normalisation)

    def network(self, name: str = "") -> nn.Module:
        if name:
            raise InputError(f"a given network has no network {name!r} beside it, which would have to be trained")
        return self.model

    def explainer(self, method: MethodSpec, model: nn.Module) -> tuple[Method, nn.Module]:
        if method in self.methods:
            return self.methods[method], model
        return method.build(model, **({"black": self.test.normalisation.black} if method.method == "IG" else {})), model

    def make_maps(self, method: MethodSpec, explain: str, rank: str) -> None:
        """Rank the pixels by the maps of `method`."""
        explainer, model = self.explainer(method, self.model)
        maps, targets = [], []
        for rows in self.test.batches():
            inputs, labels = self.test.images.batch(rows), self.test.labels[rows]
            batch = explain_batch(explainer, model, inputs, labels, explain)
            maps.append((batch.attribution, rows.cpu().numpy()))
            targets.append(batch.prediction if explain == "prediction" else labels.cpu().numpy())
        ranks, _tied = ranks_of_maps(maps, inputs.shape[1], "pixel", rank, self.device)
        self.maps = {"ranks": ranks.cpu().numpy(), "target": np.concatenate(targets)}


def measure_given(
    evaluation: str, config: Any, artefacts: GivenArtefacts, method: MethodSpec, on_images: OnImages
) -> dict[str, Any]:
    """Measure one method on a given network."""
    protocol = load_evaluation(evaluation)
    if protocol.needs_maps:
        artefacts.make_maps(method, *protocol.ranking(config))
    return protocol.measure(config, method, artefacts, on_images)
