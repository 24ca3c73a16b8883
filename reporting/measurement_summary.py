"""Base class of the summaries of measurements without retraining."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attribution.spec import MethodSpec, methods_stem
from data import DATA_DIR
from evaluation.chance import chance_level, known_dataset_info
from evaluation.configs import usual_images
from evaluation.options import words_of
from evaluation.statistics import Values, is_doubtful
from evaluation.trust import ImageValues
from reporting.evaluation_summary import Column, ModelSummary, estimate_seeds
from reporting.labels import file_name_part, interval_kind, parameter_words, readable_dataset
from reporting.tables import cell, markdown_table


@dataclass(frozen=True)
class MeasurementSummary(ModelSummary):
    """Base of the summaries of measurements without retraining.

    Attributes:
        results: of each method and seed, the fields of the record.
        edition: tells the images from others under the same name, of which there are summaries, too.
        dataset_sha256, data_dir: hash and folder of the data, from which chance is counted if old records lack it.
    """

    config: Any
    dataset: str
    model: str
    methods: tuple[MethodSpec, ...]
    seeds: tuple[int, ...]
    results: Mapping[tuple[MethodSpec, int], Mapping[str, Any]]
    quick: bool = False
    dataset_sha256: str = ""
    data_dir: Path = DATA_DIR
    left_out: Mapping[str, str] = field(default_factory=dict)
    edition: str = ""

    @property
    @abstractmethod
    def evaluation(self) -> str: ...

    @cached_property
    def chance(self) -> float | None:
        recorded = (result.get("chance") for result in self.results.values())
        return chance_level(recorded, self.dataset, self.dataset_sha256, self.config.limit_test, self.data_dir)

    @property
    def doubt(self) -> str:
        is_fine = self.chance is not None and self.baseline and not is_doubtful(self.baseline, self.chance)
        return "" if is_fine else super().doubt

    @property
    def devices(self) -> list[str]:
        return [result["device"] for result in self.results.values() if "device" in result]

    @property
    def first(self) -> Mapping[str, Any]:
        """The first result, for what all have in common."""
        return self.results[self.methods[0], self.seeds[0]]

    def values_by_seed(self, method: MethodSpec, name: str) -> list[Any]:
        """Return a field of the records of a method, for each seed."""
        return [self.results[method, seed][name] for seed in self.seeds]

    @property
    def is_by_image(self) -> bool:
        """True if the intervals are over the images, not over the seeds."""
        return bool(getattr(self.config, "by_image", False))

    def values_by_image(self, method: MethodSpec, name: str) -> npt.NDArray[np.float64]:
        """Return a field of each image (N,), its mean over the seeds."""
        return np.mean(self.values_by_seed(method, name), axis=0)

    @property
    def image_values(self) -> Sequence[ImageValues]:
        """The values of each image, for comparisons that are paired by image; none if only means are stored."""
        return ()

    def compare_images(self, name: str, about: str, field: str, higher: bool, **facts: bool) -> ImageValues:
        """Return a field of each image for all methods; `facts` are attributes of `ImageValues`."""
        values = {method.label: self.values_by_image(method, field) for method in self.methods}
        return ImageValues(name, about, higher, values, **facts)

    @property
    def interval_words(self) -> str:
        """The kind of interval in a sentence, for summaries whose interval is over images or over seeds."""
        if self.is_by_image:
            return f"Student's t over the images of {'this network' if len(self.seeds) == 1 else 'these networks'}"
        return interval_kind(len(self.seeds))

    def method_table(self, head: Iterable[str], rows: Iterable[Iterable[Values]]) -> str:
        """Return a table with a row for each method: the means of some values over the seeds."""
        named = zip(self.methods, rows, strict=True)
        return markdown_table([["method", *head], *([method.label, *map(cell, row)] for method, row in named)])

    def method_column(self, name: str, about: str, values: Callable[[MethodSpec], Values], higher: bool) -> Column:
        """Return the column of a number that each method has for each seed; `higher` is better or worse."""
        return Column(name, about, higher, {each.label: estimate_seeds(values(each)) for each in self.methods})

    @property
    def title(self) -> str:
        return f"{self.evaluation} on {self.network}"

    @property
    def network(self) -> str:
        """The data set and the model, in a title."""
        words = ", ".join([*["quick"] * self.quick, *filter(None, [self.edition])])
        return f"{readable_dataset(self.dataset)}, {self.model}{f' ({words})' if words else ''}"

    @property
    def stem(self) -> str:
        words = [self.evaluation, self.dataset, file_name_part(self.model), methods_stem(self.methods)]
        words += [*self.config_words, *parameter_words(self.methods)]
        return "_".join(
            [
                *words,
                *[f"{len(self.seeds)}-seeds"] * (len(self.seeds) > 1),
                *["quick"] * self.quick,
                *filter(None, [self.edition]),
            ]
        )

    @property
    def config_words(self) -> list[str]:
        """The options that are not the default, as words of file names."""
        return words_of(self.config, {"limit_test": self.usual_images})

    @property
    def usual_images(self) -> int | None:
        """The default number of test images; None for an image folder that is not here."""
        return usual_images(self.dataset) if known_dataset_info(self.dataset) else None
