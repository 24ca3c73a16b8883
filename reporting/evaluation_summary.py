"""Base classes of summaries, from which tables, CSV, figures, README blocks and the page are drawn."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attribution.spec import MethodSpec, methods_stem
from common.files import write_text
from data import DATA_DIR
from evaluation.chance import chance_level, known_dataset_info
from evaluation.options import words_of
from evaluation.statistics import Estimate, at_chance, chance_words
from reporting.labels import file_name_part, parameter_words, usual_images


class EvaluationSummary(ABC):
    """Base of all summaries: a subclass gives the parts, `write` makes the files."""

    @property
    @abstractmethod
    def title(self) -> str: ...

    @property
    @abstractmethod
    def note(self) -> str:
        """The conditions of the measurement, for tables and figures."""

    @property
    @abstractmethod
    def body(self) -> str:
        """The tables and the sentences on each method, in Markdown."""

    @property
    @abstractmethod
    def stem(self) -> str:
        """File name of tables and figures without suffix; every option that is not the default is part of it."""

    @property
    def text(self) -> str:
        return f"{self.title}\n\n{self.note}\n\n{self.body}"

    @property
    def csv(self) -> str:
        """The numbers of the table; empty if there is no such file."""
        return ""

    @property
    def runs(self) -> str:
        """The single runs as CSV; empty if there is no such file."""
        return ""

    def draw(self, stem: Path) -> list[Path]:
        """Draw the figures; return their paths."""
        return []

    def write_files(self, folder: Path) -> list[Path]:
        """Write tables and figures; return their paths."""
        stem = folder / self.stem
        contents = {".md": self.text, ".csv": self.csv, "_runs.csv": self.runs}
        tables = {stem.with_name(stem.name + suffix): content for suffix, content in contents.items() if content}
        for path, content in tables.items():
            write_text(path, content)
        return [*tables, *self.draw(stem)]

    def write(self, folder: Path) -> str:
        """Write tables and figures; return the text and the names of the files."""
        figures = [path for path in self.write_files(folder) if path.suffix == ".png"]
        stem = folder / self.stem
        tables = f"{stem}.md" + " and .csv" * bool(self.csv) + f", each run in {stem}_runs.csv" * bool(self.runs)
        lines = [f"table:  {tables}", *(f"figure: {path} and {path.with_suffix('.pdf')}" for path in figures)]
        return "\n".join(["", self.text, *lines])


class ModelSummary(EvaluationSummary):
    """Base of the summaries of one model, which must be better than chance."""

    @property
    @abstractmethod
    def baseline(self) -> Estimate:
        """Accuracy on whole images."""

    @property
    @abstractmethod
    def chance(self) -> float | None:
        """Chance on the test images; None if it is not known."""

    @property
    def is_at_chance(self) -> bool:
        """True if the model is no better than chance on whole images, so that no method can be judged."""
        return self.chance is not None and at_chance(self.baseline, self.chance)

    @property
    def doubt(self) -> str:
        """The reason why no method can be judged, if the model is no better than chance; else empty."""
        return chance_words(self.baseline, self.chance) if self.chance is not None and self.is_at_chance else ""


@dataclass(frozen=True)
class MeasurementSummary(ModelSummary):
    """Base of the summaries of measurements without retraining.

    Attributes:
        results: of each method and seed, the fields of the record.
        dataset_sum, data_dir: hash and folder of the data, from which chance is counted if old records lack it.
    """

    config: Any
    dataset: str
    model: str
    methods: tuple[MethodSpec, ...]
    seeds: tuple[int, ...]
    results: Mapping[tuple[MethodSpec, int], Mapping[str, Any]]
    quick: bool = False
    dataset_sum: str = ""
    data_dir: Path = DATA_DIR

    @property
    @abstractmethod
    def evaluation(self) -> str: ...

    @cached_property
    def chance(self) -> float | None:
        recorded = (result.get("chance") for result in self.results.values())
        return chance_level(recorded, self.dataset, self.dataset_sum, self.config.limit_test, self.data_dir)

    def values_by_seed(self, method: MethodSpec, name: str) -> list[Any]:
        """Return one field of the records of a method, for each seed."""
        return [self.results[method, seed][name] for seed in self.seeds]

    @property
    def title(self) -> str:
        return f"{self.evaluation} on {self.dataset}, {self.model}"

    @property
    def stem(self) -> str:
        words = [self.evaluation, self.dataset, file_name_part(self.model), methods_stem(self.methods)]
        words += [*self.config_words, *parameter_words(self.methods)]
        return "_".join([*words, *[f"{len(self.seeds)}-seeds"] * (len(self.seeds) > 1), *["quick"] * self.quick])

    @property
    def config_words(self) -> list[str]:
        """The options that are not the default, as words of file names."""
        return words_of(self.config, {"limit_test": self.usual_images})

    @property
    def usual_images(self) -> int | None:
        """The default number of test images; None for an image folder that is not here."""
        return usual_images(self.dataset) if known_dataset_info(self.dataset) else None
