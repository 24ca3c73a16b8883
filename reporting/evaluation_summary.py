"""Base classes of summaries, from which tables, CSV, figures, README blocks and the page are drawn."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attribution.spec import MethodSpec
from common.errors import InputError
from common.files import write_text
from evaluation.statistics import Curve, Estimate, Values, at_chance, chance_words, mean_interval
from reporting.labels import parameter_words, quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAKS = "†"
THREADS = re.compile(r", \d+ threads?$")  # at the end of a device's name


@dataclass(frozen=True)
class Chart:
    """Some curves on one set of axes, in a figure and on the page.

    Attributes:
        note: stands below it on the page.
        curves: of networks that see images, and of those that see the mask alone, which are drawn thin.
        baselines: for each method the accuracy on unmasked images, where its curve begins in a figure.
        chance: a height and its name, for a dotted line; None draws no line.
        removed: the units that are removed, in words.
        page_title: the title on the page, where there is more room for it.
    """

    title: str
    note: str
    curves: Sequence[Curve]
    baselines: Mapping[str, Estimate]
    chance: tuple[float, str] | None
    removed: str
    ylabel: str = "test accuracy after retraining"
    page_title: str = ""


@dataclass(frozen=True)
class Column:
    """The values of one evaluation, beside those of others.

    Attributes:
        about: the meaning of the number, and the number of seeds.
        values: by method label; an interval of no width where there is none.
        marked: methods whose value the mask explains.
    """

    name: str
    about: str
    higher_is_better: bool
    values: Mapping[str, Estimate]
    marked: frozenset[str] = frozenset()

    @cached_property
    def places(self) -> dict[str, float]:
        """1 for the best method; equals share their mean place."""
        from scipy.stats import rankdata  # here, since it takes a second to import

        means = np.array([value.mean for value in self.values.values()])
        ranks = rankdata(-means if self.higher_is_better else means)
        return dict(zip(self.values, map(float, ranks), strict=True))

    @property
    def head(self) -> str:
        """The evaluation, and the direction of the better values."""
        return f"{self.name} {'↑' if self.higher_is_better else '↓'}"

    def cell(self, method: str) -> str:
        if method not in self.values:
            return ""
        value, mark = self.values[method], f" {LEAKS}" if method in self.marked else ""
        interval = f" ± {value.half:.3f}" if value.half > 0 else ""
        return f"{value.mean:.3f}{interval}{mark}"


def estimate_seeds(values: Values) -> Estimate:
    """Return the mean over the seeds, with an interval if there are several."""
    return mean_interval(values) if len(values) > 1 else Estimate(values[0], values[0], values[0])


def left_out_lines(left_out: Mapping[str, str]) -> str:
    """Return a list of the methods that were not measured, by label, with the reasons; empty without any."""
    lines = "".join(f"- {method}: {reason}\n" for method, reason in left_out.items())
    return f"\nLeft out\n\n{lines}" if lines else ""


class EvaluationSummary(ABC):
    """Base of all summaries: a subclass gives the parts, `write` makes the files."""

    @property
    @abstractmethod
    def title(self) -> str: ...

    @property
    @abstractmethod
    def note(self) -> str:
        """The conditions of the measurement, for tables and the page."""

    @property
    def figure_note(self) -> str:
        """One or two lines below figures; the table beside them has all conditions."""
        return ""

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
    def table(self) -> str:
        """The table in Markdown."""
        return self.body

    def figures(self) -> "dict[str, Figure]":
        """Draw the figures; return them by the ends of their file names."""
        return {}

    def figure(self) -> "Figure":
        """Draw the first figure, a `matplotlib.figure.Figure`; raise `InputError` if there is none."""
        figures = list(self.figures().values())
        if not figures:
            raise InputError(f"{self.title} has a table and no figure")
        return figures[0]

    def write_files(self, folder: Path) -> list[Path]:
        """Write tables and figures; return their paths."""
        stem = folder / self.stem
        contents = {".md": self.text, ".csv": self.csv, "_runs.csv": self.runs}
        tables = {stem.with_name(stem.name + suffix): content for suffix, content in contents.items() if content}
        for path, content in tables.items():
            write_text(path, content)
        if figures := self.figures():
            from reporting.figures import save_figure  # here, so that nothing else waits for matplotlib

            return [*tables, *chain(*(save_figure(one, folder / f"{self.stem}{end}") for end, one in figures.items()))]
        return list(tables)

    def write(self, folder: Path) -> str:
        """Write tables and figures; return the text and the names of the files."""
        figures = [path for path in self.write_files(folder) if path.suffix == ".png"]
        stem = folder / self.stem
        tables = f"{stem}.md" + " and .csv" * bool(self.csv) + f", each run in {stem}_runs.csv" * bool(self.runs)
        lines = [f"table:  {tables}", *(f"figure: {path} and {path.with_suffix('.pdf')}" for path in figures)]
        return "\n".join(["", self.text, *lines])


class ModelSummary(EvaluationSummary):
    """Base of the summaries of one model, which must be better than chance.

    Attributes:
        left_out: the reason why a method was not measured, by its label.
    """

    left_out: Mapping[str, str]

    @property
    def curves(self) -> Sequence[Any]:
        """The curves of the methods; none if the evaluation has none."""
        return ()

    @property
    def ranking(self) -> list[str]:
        """The labels of the methods, the best first."""
        places = self.columns[0].places if self.columns else {}
        return sorted(places, key=lambda method: places[method])

    @property
    def text(self) -> str:
        return f"{super().text}{self.mixed_devices}{left_out_lines(self.left_out)}"

    @property
    def devices(self) -> Iterable[str]:
        """The device of each result, as its record has it."""
        return ()

    @property
    def mixed_devices(self) -> str:
        """A line if several kinds of processor computed the results: the last digits differ, and so may a training."""
        kinds = sorted({THREADS.sub("", device) for device in self.devices})
        return f"- computed on {len(kinds)} kinds of processor, which round differently: {'; '.join(kinds)}\n" * (
            len(kinds) > 1
        )

    @property
    @abstractmethod
    def columns(self) -> Sequence[Column]:
        """The values of the methods, beside those of other evaluations."""

    @property
    def charts(self) -> Sequence[Chart]:
        """The curves of the figure, which are those of the page."""
        return ()

    def figures(self) -> "dict[str, Figure]":
        if not self.charts:
            return {}
        from reporting.figures import draw_curves  # here, so that nothing else waits for matplotlib

        return {"": draw_curves(self.charts, self.figure_note)}

    @property
    @abstractmethod
    def baseline(self) -> Estimate | None:
        """Accuracy on whole images; None if it is not measured."""

    @property
    @abstractmethod
    def chance(self) -> float | None:
        """Chance on the test images; None if it is not known."""

    @property
    def doubt(self) -> str:
        """The reason why no method can be judged, if the model is no better than chance on whole images; else empty."""
        if self.chance is None:  # older records have no accuracy either
            return ""
        baseline = self.baseline
        return chance_words(baseline, self.chance) if baseline and at_chance(baseline, self.chance) else ""

    def describe_seeds(self, seeds: int, methods: Sequence[MethodSpec] = (), by_image: bool = False) -> str:
        """Return the number of seeds, the parameters that are not the default, and a doubt if there is one."""
        words = [quantity(seeds, "seed") + ", interval over the images" * by_image, *parameter_words(methods)]
        return ", ".join(words) + "; at chance on whole images" * bool(self.doubt)
