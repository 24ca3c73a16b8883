"""The protocol of an evaluation that measures methods on trained classifiers; a new one is one file (`EVALUATIONS`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attribution.method import Method
from attribution.spec import MethodSpec
from evaluation.tasks import Arrays, OnImages, SharedArrays, normalisation_of, once_for_each, split_of
from training.checkpoint import Checkpoint
from training.classifier import restore
from training.inputs import Images, Normalisation, load_labels

Result = dict[str, Any]


@once_for_each(1)
def _test_images(arrays: Arrays, device: torch.device) -> "TestImages":
    split, normalisation = split_of(arrays, "test"), normalisation_of(arrays, device)
    images, index = Images(split, normalisation, device), torch.from_numpy(split.index).to(device)
    return TestImages(images, load_labels(split, device), index, normalisation)


@dataclass(frozen=True)
class TestImages:
    """The test images on a device.

    Attributes:
        labels, index: (N,) int64; the index is each image's position in the published split.
    """

    __test__ = False  # no test of pytest's

    images: Images
    labels: Tensor
    index: Tensor
    normalisation: Normalisation


@dataclass(frozen=True)
class Artefacts:
    """What one measurement is made from.

    Attributes:
        seed: of the classifier.
        classifier: the trained network that is explained.
        networks: other networks, by the names that `Evaluation.needs` gives.
        data: see `tasks.arrays_of`.
        maps: of the test images, if the evaluation needs them: `ranks` (N, 1, H, W) int16 and `target` (N,) int64.
        method_kwargs: what the method can't know by itself, for a network and what a black pixel is to it.
    """

    seed: int
    classifier: Checkpoint
    networks: Mapping[str, Checkpoint]
    data: SharedArrays
    maps: SharedArrays | None
    device: torch.device
    method_kwargs: Callable[[MethodSpec, nn.Module, Tensor], dict[str, Any]]
    network_for: Callable[[MethodSpec, nn.Module], nn.Module]

    @property
    def test(self) -> TestImages:
        return _test_images(self.data, self.device)

    def network(self, name: str = "") -> nn.Module:
        """Return the classifier, or the other network `name`, in evaluation mode."""
        return restore(self.networks[name] if name else self.classifier, self.device)

    def explainer(self, method: MethodSpec, model: nn.Module) -> tuple[Method, nn.Module]:
        """Return `method` for `model`, and the network that it looks at."""
        network = self.network_for(method, model)
        return method.build(network, **self.method_kwargs(method, network, self.test.normalisation.black)), network


class Evaluation(Protocol):
    """One evaluation of methods on trained classifiers."""

    name: str
    needs_maps: bool

    def record(self, settings: Any) -> dict[str, Any]:
        """Return the settings, a frozen dataclass with `limit_test` and `explain`, as a record has them."""
        ...

    def images(self, settings: Any) -> int:
        """Return how many images one measurement tells `on_images` of."""
        ...

    def networks(self, settings: Any) -> Sequence[str]:
        """Return the networks that are needed beside the classifier: "finetuned", "random_labels"."""
        ...

    def measure(self, settings: Any, method: MethodSpec, artefacts: Artefacts, on_images: OnImages) -> Result:
        """Measure one method on one classifier: numbers, or arrays; without side effects."""
        ...
