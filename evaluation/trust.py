"""Judgement of explanations of one network: which of them can be trusted, from values of each image.

All comparisons are paired by image, and Holm's correction (1979) holds the error of each family of them, which is one
comparison of all methods. This module imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import special  # not `stats`, which takes a second to import

from attribution import CONTROLS
from evaluation.statistics import CONFIDENCE, Estimate, Values, mean_interval

ERROR = 1 - CONFIDENCE
FEWEST_IMAGES = 10  # for a judgement: below, Student's t leans on the tails of the differences
DECIDING = ("ROAD", "insertion-deletion")  # in which a trusted method beats both controls
LEARNED = "learned"  # by how much the map of the trained network beats the map of the network with random weights


@dataclass(frozen=True)
class Comparison(Estimate):
    """The mean of paired differences over the images, with the interval of this comparison alone; positive is better.

    Attributes:
        p: two-sided, by Student's t, after Holm's correction over the family.
    """

    p: float

    @property
    def is_better(self) -> bool:
        return self.mean > 0 and self.p < ERROR

    @property
    def is_different(self) -> bool:
        return self.p < ERROR


def student_p(differences: Values) -> float:
    """Return the two-sided p of Student's t that the mean is 0: 1 if all are 0, 0 if all are the same other value."""
    values = np.asarray(differences, np.float64)
    mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    if error <= 1e-12 * abs(mean) or error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * special.stdtr(len(values) - 1, -abs(mean / error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6, pages 65-70).

    The k-th smallest of m is multiplied by m − k + 1, and none is smaller than one before it.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def compare_family(differences: Mapping[str, Values]) -> dict[str, Comparison]:
    """Return the comparison of each name's differences (N,), corrected over all of them."""
    adjusted = holm([student_p(values) for values in differences.values()])
    estimates = map(mean_interval, differences.values())
    return {
        name: Comparison(**vars(estimate), p=p)
        for name, estimate, p in zip(differences, estimates, adjusted, strict=True)
    }


@dataclass(frozen=True)
class ImageValues:
    """A value of each image for each method.

    Attributes:
        name: of the evaluation.
        about: the meaning of a value.
        values: (N,) by the method's label.
        is_compared: the controls have values that others can be compared with.
    """

    name: str
    about: str
    higher_is_better: bool
    values: Mapping[str, npt.NDArray[np.float64]]
    is_compared: bool = True

    @property
    def methods(self) -> list[str]:
        """The labels of the methods without the controls."""
        return [method for method in self.values if method not in CONTROLS]

    def difference(self, method: str, other: str) -> npt.NDArray[np.float64]:
        """Return (N,): by how much `method` is better than `other` on each image."""
        difference = self.values[method] - self.values[other]
        return difference if self.higher_is_better else -difference

    def against(self, control: str) -> dict[str, Comparison]:
        """Return the comparison of each method with a control; none if the control was not measured."""
        if control not in self.values:
            return {}
        return compare_family({method: self.difference(method, control) for method in self.values if method != control})

    @property
    def against_zero(self) -> dict[str, Comparison]:
        """The comparison of each method's own values with 0; not of the controls."""
        return compare_family({method: self.values[method] for method in self.methods})

    @cached_property
    def ranking(self) -> list[str]:
        """The methods and controls, the best mean first."""
        sign = -1 if self.higher_is_better else 1
        return sorted(self.values, key=lambda method: sign * float(self.values[method].mean()))

    @cached_property
    def groups(self) -> list[list[str]]:
        """The ranking in groups: the members of one can't be told apart from its first.

        Every pair is compared, corrected over all pairs.
        """
        pairs = compare_family(
            {f"{first}\0{second}": self.difference(first, second) for first, second in combinations(self.ranking, 2)}
        )
        groups: list[list[str]] = []
        for method in self.ranking:
            if groups and not pairs[f"{groups[-1][0]}\0{method}"].is_different:
                groups[-1].append(method)
            else:
                groups.append([method])
        return groups


@dataclass(frozen=True)
class Judgement:
    """The comparisons that decide whether one method is trusted.

    Attributes:
        comparisons: by evaluation and control.
        learned: see `LEARNED`; None if it was not measured.
    """

    method: str
    comparisons: Mapping[tuple[str, str], Comparison]
    learned: Comparison | None

    @property
    def lost(self) -> list[tuple[str, str]]:
        """The evaluations and controls that the method does not beat."""
        return [pair for pair, comparison in self.comparisons.items() if not comparison.is_better]

    @property
    def depends_on_learning(self) -> bool:
        return self.learned is not None and self.learned.is_better

    @property
    def is_trusted(self) -> bool:
        is_complete = len(self.comparisons) == len(DECIDING) * len(CONTROLS)
        return is_complete and not self.lost and self.depends_on_learning


def judge(evaluations: Sequence[ImageValues]) -> dict[str, Judgement]:
    """Return the judgement of each method that all deciding evaluations measured, by label.

    A method is trusted if it beats RANDOM and SOBEL in ROAD and in insertion–deletion, and if its map of the trained
    network removes better than its map of the network with random weights: otherwise it shows nothing that the network
    has learned (after Adebayo et al. 2018, without their threshold of similarity).
    """
    by_name = {evaluation.name: evaluation for evaluation in evaluations}
    deciding = [by_name[name] for name in DECIDING if name in by_name]
    families = {(part.name, control): part.against(control) for part in deciding for control in CONTROLS}
    learned = by_name[LEARNED].against_zero if LEARNED in by_name else {}
    methods = [method for method in deciding[0].methods if all(method in part.values for part in deciding)]
    return {
        method: Judgement(
            method,
            {pair: family[method] for pair, family in families.items() if method in family},
            learned.get(method),
        )
        for method in methods
    }


def recommend(evaluations: Sequence[ImageValues]) -> list[str]:
    """Return the trusted methods, the best first: by the mean of their places in the deciding evaluations."""
    trusted = [method for method, judgement in judge(evaluations).items() if judgement.is_trusted]
    deciding = [part for part in evaluations if part.name in DECIDING]
    return sorted(trusted, key=lambda method: sum(part.ranking.index(method) for part in deciding))
