"""Evaluations of a network and images that are given, in memory: nothing is trained, nothing is written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attribution.integrated import black_pixel
from attribution.maps import BATCH, explain_batch
from attribution.method import Method
from attribution.network import require_evaluation_mode
from attribution.spec import MethodSpec
from common.errors import InputError
from common.outputs import find_logits
from evaluation.masking import ranks_of_maps
from evaluation.protocol import TestImages
from evaluation.registry import load_evaluation
from evaluation.tasks import Arrays, OnImages

Preprocessing = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GivenFills:
    """The values of a mean and a black pixel as the network sees them.

    Attributes:
        mean_pixel: (C,), of the given images.
        black_pixel: (C,); None if it is not known.
    """

    mean_pixel: Tensor
    black_pixel: Tensor | None

    @property
    def black(self) -> Tensor:
        """(C,); zeros if it is not known."""
        return self.mean if self.black_pixel is None else self.black_pixel

    @property
    def mean(self) -> Tensor:
        """(C,) zeros: the network sees the images as they are."""
        return torch.zeros_like(self.mean_pixel)

    @property
    def std(self) -> Tensor:
        return torch.ones_like(self.mean_pixel)

    def fill(self, name: str) -> Tensor:
        """Return (C,): the "mean" or a "black" pixel.

        Raises:
            InputError: black is not known.
        """
        if name == "mean":
            return self.mean_pixel
        if self.black_pixel is None:
            raise InputError("fill='black' needs preprocessing=, which says what the network sees of a black image")
        return self.black_pixel


@dataclass(frozen=True)
class GivenImages:
    """Images as the network sees them, (N, C, H, W)."""

    images: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        return self.images[index]


class Logits(nn.Module):
    """A module that returns only the logits of the output of another."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return find_logits(self.model(images))


@dataclass
class GivenArtefacts:
    """A given network, and the images on which its explanations are compared.

    Attributes:
        methods: objects with an `attribute` of the caller's own, by the specification that names them.
        maps: of the method that is measured next, see `Artefacts`.
    """

    model: nn.Module
    test: TestImages
    methods: Mapping[MethodSpec, Method]
    maps: Arrays | None = None
    seed: int = 0

    @classmethod
    def of(
        cls,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        methods: Mapping[MethodSpec, Method],
        preprocessing: Preprocessing | None = None,
    ) -> "GivenArtefacts":
        """Return the artefacts of `model` for images (N, C, H, W) and labels (N,).

        Raises:
            InputError: no network in evaluation mode, or images and labels that don't fit.
        """
        require_evaluation_mode(model)
        if len(images) != len(labels) or images.ndim != 4:
            raise InputError(f"images {tuple(images.shape)} and {len(labels)} labels: (N, C, H, W) and N are needed")
        black = None
        if preprocessing is not None:
            black = black_pixel(preprocessing, images)
            images = preprocessing(images)
        with torch.no_grad():
            output = model(images[:1])
        index = torch.arange(len(images), device=images.device)
        fills = GivenFills(images.mean(dim=(0, 2, 3)), black)
        test = TestImages(GivenImages(images), labels.to(images.device).long(), index, fills)
        return cls(model if isinstance(output, Tensor) else Logits(model), test, methods)

    @property
    def device(self) -> torch.device:
        return self.test.labels.device

    def network(self, name: str = "") -> nn.Module:
        if name:
            raise InputError(f"a given network has no network {name!r} beside it, which would have to be trained")
        return self.model

    def explainer(self, method: MethodSpec, model: nn.Module) -> tuple[Method, nn.Module]:
        if method in self.methods:
            return self.methods[method], model
        return method.build(model, **({"black": self.test.normalisation.black} if method.method == "IG" else {})), model

    def with_maps(self, method: MethodSpec, explain: str, rank: str) -> "GivenArtefacts":
        """Return the same with the ranks of the maps of `method`, made now."""
        explainer, model = self.explainer(method, self.model)
        maps, targets = [], []
        for rows in torch.arange(len(self.test.images), device=self.device).split(BATCH):
            inputs, labels = self.test.images.batch(rows), self.test.labels[rows]
            batch = explain_batch(explainer, model, inputs, labels, explain)
            maps.append((batch.attribution, rows.cpu().numpy()))
            targets.append(batch.prediction if explain == "prediction" else labels.cpu().numpy())
        channels = self.test.images.batch(rows[:1]).shape[1]
        ranks, _tied = ranks_of_maps(maps, channels, "pixel", rank, self.device)
        return replace(self, maps={"ranks": ranks.cpu().numpy(), "target": np.concatenate(targets)})


def measure_given(
    evaluation: str, config: Any, artefacts: GivenArtefacts, method: MethodSpec, on_images: OnImages
) -> dict[str, Any]:
    """Measure one method on a given network."""
    protocol = load_evaluation(evaluation)
    if protocol.needs_maps:
        artefacts = artefacts.with_maps(method, *protocol.ranking(config))
    return protocol.measure(config, method, artefacts, on_images)
