"""The base class of evaluations of methods on trained classifiers, and the artefacts that they measure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attribution.method import Method
from attribution.spec import MethodSpec
from evaluation import EXPLAIN, RANKS
from evaluation.statistics import require_images
from evaluation.tasks import Arrays, OnImages, SharedArrays, normalisation_of, split_of
from training.checkpoint import Checkpoint
from training.classifier import restore
from training.inputs import Images, Inputs, Normalisation, batch_size, load_labels

Result = dict[str, Any]


@dataclass(frozen=True)
class TestImages:
    """The test images on a device.

    Attributes:
        labels, index: (N,) int64; the index is the position in the published split.
    """

    __test__ = False  # by pytest

    images: Inputs
    labels: Tensor
    index: Tensor
    normalisation: Normalisation

    def batches(self) -> tuple[Tensor, ...]:
        """Return the rows of the images in batches that fit into memory, one or more."""
        require_images(len(self.labels))
        rows = torch.arange(len(self.labels), device=self.labels.device)
        return rows.split(batch_size(self.images.batch(rows[:1]).shape[1:]))


class Artefacts(Protocol):
    """The material of one measurement.

    Attributes:
        seed: of the classifier.
        maps: of the test images, if the evaluation needs them: `ranks` (N, 1, H, W) and `target` (N,) int64.
        included: the finished result of what `Evaluation.includes` returns; None if there is none.
    """

    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def maps(self) -> Arrays | None: ...
    @property
    def included(self) -> Result | None: ...
    @property
    def test(self) -> TestImages: ...

    def network(self, name: str = "") -> nn.Module:
        """Return the classifier, or the other network that `Evaluation.networks` calls `name`, in evaluation mode."""

    def explainer(self, method: MethodSpec, model: nn.Module) -> tuple[Method, nn.Module]:
        """Return `method` for `model`, and the network that it explains."""


@dataclass(frozen=True)
class StoredArtefacts:
    """The artefacts of a classifier of ours; processes share its images and maps.

    Attributes:
        networks: other networks, by the names that `Evaluation.networks` gives.
        data: see `tasks.arrays_of`.
    """

    seed: int
    classifier: Checkpoint
    networks: Mapping[str, Checkpoint]
    data: SharedArrays
    shared_maps: SharedArrays | None
    device: torch.device
    included: Result | None = None

    @property
    def maps(self) -> Arrays | None:
        return self.shared_maps.arrays() if self.shared_maps else None

    @property
    def test(self) -> TestImages:
        return _test_images(self.data, self.device)

    def network(self, name: str = "") -> nn.Module:
        return restore(self.networks[name] if name else self.classifier, self.device)

    def explainer(self, method: MethodSpec, model: nn.Module) -> tuple[Method, nn.Module]:
        network = method.network(model)
        return method.build(network, self.test.normalisation.pixels), network


@lru_cache(1)
def _test_images(data: SharedArrays, device: torch.device) -> TestImages:
    arrays = data.arrays()
    split, normalisation = split_of(arrays, "test"), normalisation_of(arrays, device)
    images, index = Images(split, normalisation, device), torch.from_numpy(split.index).to(device)
    return TestImages(images, load_labels(split, device), index, normalisation)


@dataclass(frozen=True)
class Work:
    """The numbers of images that a measurement explains, classifies and imputes.

    Attributes:
        maps: maps that the evaluation makes itself.
        logits: images that it classifies.
        imputed: images that it imputes.
    """

    maps: int = 0
    logits: int = 0
    imputed: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.maps + other.maps, self.logits + other.logits, self.imputed + other.imputed)


class Evaluation(ABC):
    """One evaluation of methods on trained classifiers: subclass it, and write its configuration.

    Attributes:
        name: in tables, records and file names.
        config: the frozen dataclass of everything that decides on a result beside network, method and seed; it has
            `limit_test: int`, and `explain: str` if the predicted class or the label is explained.
        needs_maps: stored maps rank the test images; otherwise the evaluation makes its own maps.
        lowest_first: lower values are better.
    """

    name: str
    config: type[Any]
    needs_maps = True
    lowest_first = False

    @abstractmethod
    def measure(self, config: Any, method: MethodSpec, artefacts: Artefacts, on_images: OnImages) -> Result:
        """Measure one method on one classifier, without side effects.

        Args:
            on_images: called with numbers of images that are done, `images(config)` in all.

        Returns:
            numbers by name, of which the first ranks the methods; or whatever the summary of the evaluation takes.
        """

    def configure(self, **values: Any) -> Any:
        """Return the configuration with some fields given, and the others usual; values of other names are ignored."""
        names = {field.name for field in fields(self.config)}
        return self.config(**{name: value for name, value in values.items() if name in names})

    def images(self, config: Any) -> int:
        """Return the number of images that one measurement counts."""
        return int(config.limit_test)

    def work(self, config: Any) -> Work:
        """Return what one measurement computes at most, without the stored maps and what it `includes`."""
        images = self.images(config)
        return Work(logits=images) if self.needs_maps else Work(maps=images)

    def ranking(self, config: Any) -> tuple[str, str]:
        """Return the class that stored maps explain, and the values of theirs that rank the pixels."""
        return getattr(config, "explain", EXPLAIN[0]), getattr(config, "rank", RANKS[0])

    def includes(self, config: Any) -> tuple[str, Any] | None:
        """Return the evaluation, with its configuration, that measuring repeats unless it is finished; None if none."""
        return None

    def networks(self, config: Any) -> Sequence[str]:
        """Return the names of the other networks that it needs: "finetuned", "random_labels"."""
        return ()
