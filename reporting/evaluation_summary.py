"""The one type of result that tables, CSV, figures, README blocks and the page are drawn from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution.spec import MethodSpec
from common.files import write_text


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

    @property
    def doubt(self) -> str:
        """A sentence if no method can be judged, because the network is no better than chance; else empty."""
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
        figures = [str(path) for path in self.write_files(folder) if path.suffix in (".png", ".pdf")]
        stem = folder / self.stem
        tables = f"{stem}.md" + " and .csv" * bool(self.csv) + f", each run in {stem}_runs.csv" * bool(self.runs)
        return f"\n{self.text}\ntable:  {tables}" + f"\nfigure: {' and '.join(figures)}" * bool(figures)


@dataclass(frozen=True)
class MeasurementSummary(EvaluationSummary):
    """Base of the summaries of measurements without retraining.

    Attributes:
        results: of each method and seed, the fields of the record.
    """

    settings: Any
    dataset: str
    model: str
    methods: tuple[MethodSpec, ...]
    seeds: tuple[int, ...]
    results: Mapping[tuple[MethodSpec, int], Mapping[str, Any]]
    quick: bool = False
