"""The answer to the question which explanation of one network can be trusted: sentences, a table and a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from attribution import CONTROLS
from evaluation import RANKS
from evaluation.statistics import Estimate, chance_words, is_doubtful, mean_interval
from evaluation.trust import (
    DECIDING,
    FEWEST_IMAGES,
    LEARNED,
    Comparison,
    ImageValues,
    Judgement,
    compare_family,
    judge,
    recommend,
)
from reporting.evaluation_summary import Chart, EvaluationSummary, left_out_lines
from reporting.labels import file_name_part, joined, readable_dataset, readable_model
from reporting.tables import cell, csv_text, markdown_table, signed_cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEARNED_ABOUT = (
    "the gap of insertion and deletion of the network's map, minus that of the map of the same network with random "
    "weights; both judged by the network"
)
RANKED = {"signed": "sign", "absolute": "absolute value", "square": "square"}
OTHER_RANK = (
    "A map can be right but for its sign, as that of a gradient may be: --rank=absolute judges the absolute values."
)
CAVEAT = (
    "Removed pixels leave the distribution that the network was trained on: a score can fall because an image looks "
    "strange, not because something relevant is gone. Comparing with RANDOM and SOBEL, which remove as many pixels, "
    "weakens this objection and does not end it."
)


@dataclass(frozen=True)
class TrustSummary(EvaluationSummary):
    """The judgement of all methods on one network.

    Attributes:
        baseline: accuracy of the network on the labelled images; None without labels.
        evaluations: values of each image; `DECIDING` and `LEARNED` are among them.
        charts: curves for the page.
        left_out: the reason why a method was not measured, by its label.
        remarks: sentences on what was thinned to stay within the budget of time.
        words: options that are not the default, for file names.
        rank: the values of the maps by which pixels are ranked.
        parameters: a sentence for each method that has some, see `labels.parameter_sentences`.
    """

    dataset: str
    model: str
    images: int
    baseline: Estimate | None
    chance: float | None
    evaluations: Sequence[ImageValues]
    charts: Sequence[Chart] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    words: Sequence[str] = ()
    rank: str = RANKS[0]
    parameters: str = ""

    @property
    def title(self) -> str:
        return f"Which explanation of {readable_model(self.model)} on {readable_dataset(self.dataset)} can be trusted?"

    @property
    def stem(self) -> str:
        return "_".join(["trust", self.dataset, file_name_part(self.model), *self.words])

    @cached_property
    def judgements(self) -> dict[str, Judgement]:
        return judge(self.evaluations)

    @property
    def doubt(self) -> str:
        """The reason why no method can be judged; empty for a network that is better than chance."""
        if self.images < FEWEST_IMAGES:
            return f"{self.images} images are too few: give {FEWEST_IMAGES} or more"
        if self.baseline is None or self.chance is None:
            return ""
        if not is_doubtful(self.baseline, self.chance):
            return ""
        words = chance_words(self.baseline, self.chance)
        return f"{words}. Preprocessing or the order of the classes may be wrong"

    @cached_property
    def recommended(self) -> list[str]:
        """The trusted methods, the best first; none if there is a doubt about the network."""
        return [] if self.doubt else recommend(self.evaluations)

    @property
    def ranking(self) -> list[str]:
        """The trusted methods first, then the others by their places in the deciding evaluations."""
        deciding = [part for part in self.evaluations if part.name in DECIDING]
        rest = [method for method in self.judgements if method not in self.recommended]
        rest.sort(key=lambda method: sum(part.ranking.index(method) for part in deciding))
        return [*self.recommended, *rest]

    @property
    def equals(self) -> list[str]:
        """The other trusted methods that no deciding evaluation tells apart from the best."""
        best, *others = self.recommended
        pairs = [
            compare_family({other: part.difference(best, other) for other in others})
            for part in self.evaluations
            if part.name in DECIDING
        ]
        return [other for other in others if not any(pair[other].is_different for pair in pairs)]

    @property
    def headline(self) -> str:
        """The answer in a few words: "Use GC." or "None."."""
        return f"Use {self.recommended[0]}." if self.recommended else "None."

    @property
    def explanation(self) -> str:
        """The reason for the headline, in sentences."""
        if self.doubt:
            return f"No explanation can be judged, since {self.doubt}."
        if not self.recommended:
            return (
                "No method beats RANDOM and SOBEL in ROAD and in insertion–deletion and shows something that the "
                "network has learned."
            )
        sentence = (
            "It beats RANDOM and SOBEL in ROAD and in insertion–deletion, and shows something that the network has "
            "learned."
        )
        if self.equals:
            sentence += f" {joined(self.equals)} can't be told apart from it."
        if others := [method for method in self.recommended[1:] if method not in self.equals]:
            sentence += f" {joined(others)} can be trusted too, and {'is' if len(others) == 1 else 'are'} behind it."
        return sentence

    def reason(self, method: str) -> str:
        """Return the reason against a method in a phrase; empty for a trusted one."""
        judgement, reasons = self.judgements[method], []
        for evaluation, control in judgement.lost:
            comparison = judgement.comparisons[evaluation, control]
            words = "worse than" if comparison.is_different else "no better than"
            reasons.append(f"{words} {control} in {evaluation} ({_difference(comparison)})")
        if not judgement.depends_on_learning:
            learned = judgement.learned
            words = "worse than" if learned and learned.is_different else "no better than"
            figure = f" ({_difference(learned)})" if learned else ""
            reasons.append(f"{words} its own map of the network with random weights{figure}")
        return "; ".join(reasons)

    @property
    def refusals(self) -> dict[str, str]:
        """The reason against each method that is not trusted, by label."""
        return {} if self.doubt else {m: self.reason(m) for m in self.ranking if m not in self.recommended}

    @property
    def accuracy_line(self) -> str:
        if self.baseline is None:
            return f"Accuracy of the network: not known, since the {self.images:,} images have no labels."
        chance = "" if self.chance is None else f"; chance is {self.chance:.3f}"
        return f"Accuracy of the network on these {self.images:,} images: {cell(self.baseline)}{chance}."

    @property
    def note(self) -> str:
        sentences = [
            f"One network, {self.images:,} images: ± is the 95 % interval over these images, and says nothing of other "
            "networks. Differences are paired by image; n.s.: not significant at 5 % after Holm's correction over the "
            "methods and the other control.",
            *map(_describe, self.evaluations),
            *[OTHER_RANK] * (self.rank == RANKS[0]),
            *self.remarks,
            *filter(None, [self.parameters.strip()]),
            CAVEAT,
        ]
        return "\n".join(f"- {sentence}" for sentence in sentences)

    @cached_property
    def rows(self) -> list[list[str]]:
        """The table: a head, and a row for each method, each control and each method that was left out."""
        head, columns = ["method"], []
        for part in self.evaluations:
            families = {control: part.against(control) for control in CONTROLS if part.is_compared}
            if part.name == LEARNED:
                families = {"": part.against_zero}
            for control, family in families.items():
                head.append(f"{part.name} − {control}" if control else part.name)
                columns.append({method: _difference(comparison) for method, comparison in family.items()})
            if not families:
                head.append(part.name)
                columns.append({method: cell(mean_interval(values)) for method, values in part.values.items()})
        controls = [control for control in CONTROLS if any(control in part.values for part in self.evaluations)]
        body = [
            [method, *(column.get(method, "") for column in columns), self._verdict(method)]
            for method in [*self.ranking, *controls]
        ]
        left_out = [[method, *[""] * len(columns), "left out"] for method in self.left_out]
        return [[*head, "verdict"], *body, *left_out]

    def _verdict(self, method: str) -> str:
        if method in CONTROLS:
            return "control"
        return "trusted" if method in self.recommended else "no verdict" if self.doubt else "not trusted"

    @property
    def table(self) -> str:
        return markdown_table(self.rows)

    @property
    def groups(self) -> list[str]:
        """A line for each evaluation: the methods in order, those that can't be told apart in brackets."""
        return [
            f"{part.name}: "
            + " > ".join(f"({' ≈ '.join(group)})" if len(group) > 1 else group[0] for group in part.groups)
            for part in self.evaluations
            if part.is_compared
        ]

    @property
    def body(self) -> str:
        against = "".join(f"- {method}: {reason}\n" for method, reason in self.refusals.items())
        parts = [
            f"{self.headline} {self.explanation}\n",
            f"Don't use, with pixels ranked by {RANKED[self.rank]}\n\n{against}" if against else "",
            left_out_lines(self.left_out).lstrip(),
            self.table,
            "The best first; ≈ joins those that can't be told apart from the first of their group\n\n"
            + "".join(f"- {line}\n" for line in self.groups),
        ]
        return "\n".join(filter(None, parts))

    @property
    def text(self) -> str:
        return f"{self.title}\n\n{self.accuracy_line}\n\n{self.body}\n{self.note}\n"

    @property
    def csv(self) -> str:
        rows: list[Sequence[object]] = [
            ["evaluation", "method", "control", "difference", "low", "high", "p_holm", "mean"]
        ]
        for part in self.evaluations:
            families = {control: part.against(control) for control in CONTROLS if part.is_compared}
            families |= {"": part.against_zero} if part.name == LEARNED else {}
            for control, family in families.items():
                for method, value in family.items():
                    numbers = value.mean, value.low, value.high, value.p, float(part.values[method].mean())
                    rows.append([part.name, method, control, *(f"{number:.6g}" for number in numbers)])
            if not families:
                for method, values in part.values.items():
                    rows.append([part.name, method, *[""] * 5, f"{values.mean():.6g}"])
        return csv_text(rows)

    def figures(self) -> "dict[str, Figure]":
        from reporting.dots import draw_differences  # here, so that nothing else waits for matplotlib

        parts = {part.name: part.against("RANDOM") for part in self.evaluations if part.is_compared}
        return {"": draw_differences(parts, self.ranking, self.recommended, f"{self.title} {self.headline}")}


def _describe(part: ImageValues) -> str:
    better = "higher" if part.higher_is_better else "lower"
    return f"{part.name} ({better} is better): {LEARNED_ABOUT if part.name == LEARNED else part.about}."


def _difference(comparison: Comparison) -> str:
    return signed_cell(comparison) + " n.s." * (not comparison.is_different)
