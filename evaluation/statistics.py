"""Curves with intervals from the accuracies of single runs, and verdicts in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import atanh, sqrt, tanh
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special  # not `stats`, which takes a second to import

from common.errors import InputError

Values = Sequence[float] | npt.NDArray[Any]

CONFIDENCE = 0.95
HIT_DIGITS = 6  # to which a number of hits is a whole number
READABLE = 0.9  # share of the accuracy above chance above which the mask explains a curve
MARGIN = 0.05  # share of the possible accuracy above chance below which a mask carries no class


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width of the interval, for "mean ± half"."""
        return (self.high - self.low) / 2


def require_images(count: int) -> None:
    """Raise `InputError` for an average over no images."""
    if count == 0:
        raise InputError("there is no image to measure on: give one or more")


def estimate(accuracies: Sequence[float], test_images: int) -> Estimate:
    """Return mean and 95 % interval: Student's t over the seeds; with one seed Wilson's over the test images.

    The latter tells nothing about the spread between networks.
    """
    if len(accuracies) == 1:
        return proportion_interval(round(accuracies[0] * test_images, HIT_DIGITS), test_images)
    return mean_interval(accuracies)


def proportion_interval(hits: float, total: int) -> Estimate:
    """Return a share with Wilson's 95 % interval (Wilson 1927); of a sum of probabilities it is on the safe side.

    Raises:
        InputError: the total is 0.
    """
    require_images(total)
    z = float(special.ndtri((1 + CONFIDENCE) / 2))
    middle = (hits + z**2 / 2) / (total + z**2)
    half = z * (hits * (total - hits) / total + z**2 / 4) ** 0.5 / (total + z**2)
    return Estimate(hits / total, max(0.0, middle - half), min(1.0, middle + half))


def mean_interval(values: Values) -> Estimate:
    """Return the mean of two or more values with Student's 95 % interval.

    Raises:
        InputError: fewer values.
    """
    if len(values) < 2:
        raise InputError(f"an interval needs two or more values, not {len(values)}: give more images or --seeds")
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * error
    return Estimate(mean, mean - half, mean + half)


def correlation_interval(correlation: float, count: int) -> Estimate:
    """Return the 95 % interval of Spearman's correlation of `count` pairs (Bonett and Wright 2000)."""
    if abs(correlation) >= 1:
        return Estimate(correlation, correlation, correlation)
    z, middle = float(special.ndtri((1 + CONFIDENCE) / 2)), atanh(correlation)
    half = z * sqrt((1 + correlation**2 / 2) / (count - 3))
    return Estimate(correlation, tanh(middle - half), tanh(middle + half))


def trapezoids(heights: npt.ArrayLike, places: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the mean height of curves between their first and last place, by trapezoids: (n, …) and (n,) -> (…).

    Of a single place it is the height there.
    """
    y, x = np.asarray(heights, np.float64), np.asarray(places, np.float64)
    if len(x) == 1:
        return y[0]
    between = (y[1:] + y[:-1]) / 2
    return np.tensordot(np.diff(x), between, axes=1) / (x[-1] - x[0])


@dataclass(frozen=True)
class Curve:
    """Accuracy over the fraction removed, for one method, of networks that see the image or the mask alone.

    Attributes:
        accuracies: of the networks, in the order of their seeds, for each ratio.
        test_images: their number.
        tied: share of the pixels whose order is random, see `runs.RunResult`.
        spreads: standard deviation over the images at each ratio, of values that are no hits; none: see `estimate`.
    """

    method: str
    network_input: str
    ratios: tuple[float, ...]
    accuracies: tuple[tuple[float, ...], ...]
    test_images: int
    tied: float = 0.0
    spreads: tuple[float, ...] = ()

    @cached_property
    def estimates(self) -> list[Estimate]:
        if self.spreads:
            t = float(special.stdtrit(self.test_images - 1, (1 + CONFIDENCE) / 2)) / self.test_images**0.5
            points = zip(self.means_of_seeds, self.spreads, strict=True)
            return [Estimate(mean, mean - t * spread, mean + t * spread) for mean, spread in points]
        return [estimate(of_ratio, self.test_images) for of_ratio in self.accuracies]

    @property
    def means_of_seeds(self) -> list[float]:
        return [float(np.mean(of_ratio)) for of_ratio in self.accuracies]

    @property
    def means(self) -> list[float]:
        return [estimate.mean for estimate in self.estimates]

    @cached_property
    def areas(self) -> list[float]:
        """The area under the curve of each seed, divided by its width: the mean height."""
        return [float(area) for area in trapezoids(self.accuracies, self.ratios)]

    @property
    def area(self) -> float:
        """The mean area over the seeds."""
        return float(np.mean(self.areas))


def difference(areas: Values, others: Values) -> Estimate | None:
    """Return areas − others, paired by seed, with Student's 95 % interval; None for fewer than two seeds."""
    paired = np.subtract(areas, others)
    return mean_interval(paired) if len(paired) > 1 else None


def ranking(curves: Sequence[Curve], lowest_first: bool) -> str:
    """Return the methods in the order of their areas; "≈" where the paired interval of two neighbours contains zero.

    Args:
        curves: of networks that see images, all with the same two or more seeds.
        lowest_first: the lowest area is the best, as for ROAR; not for KAR.
    """
    ordered = sorted(curves, key=lambda curve: curve.area, reverse=not lowest_first)
    words = [ordered[0].method]
    for curve, other in pairwise(ordered):
        distance = difference(other.areas, curve.areas)
        words += ["≈" if distance is None or distance.low <= 0 <= distance.high else ">", other.method]
    return " ".join(words)


def at_chance(baseline: Estimate, chance: float) -> bool:
    """Tell if the interval of an accuracy on whole images reaches chance."""
    return baseline.low <= chance


def is_doubtful(baseline: Estimate, chance: float) -> bool:
    """Tell if a network that is judged as it is may be no better than chance on whole images.

    Images of a single class have no chance to compare with: there the network must be right on one image.
    """
    return at_chance(baseline, chance if chance < 1 else 0.0)


def chance_words(baseline: Estimate, chance: float) -> str:
    """Return the words for a network that is no better than chance on whole images, see `at_chance`."""
    state = "is at" if baseline.mean <= chance else "can't be told from"
    figures = f"{baseline.mean:.3f} ± {baseline.half:.3f}; chance is {chance:.3f}"
    return f"the network itself {state} chance on whole images ({figures})"


def tells_class(accuracy: float, chance: float, test_images: int) -> bool:
    """Tell if a network is better than chance by `MARGIN`, and by more than luck with these test images."""
    low = proportion_interval(round(accuracy * test_images), test_images).low
    return accuracy - chance > MARGIN * (1 - chance) and low > chance


def share_of_mask(image: Curve, mask: Curve, chance: float) -> float:
    """Return the mask-only accuracy above chance as a share of the curve's, by mean heights.

    0 where the mask tells no class.
    """
    seen, alone = (float(np.mean(curve.means)) for curve in (image, mask))
    if seen <= chance or not tells_class(alone, chance, mask.test_images):
        return 0.0
    return (alone - chance) / (seen - chance)


def verdict(
    image: Curve, mask: Curve, chance: float | None, clean_test: bool = False, baseline: Estimate | None = None
) -> str:
    """Return in words how far `image` can be trusted, given the accuracy from the mask alone.

    Args:
        image, mask: curves of the same method over the same ratios.
        chance: see `evaluation.chance`; None if it is unknown.
        clean_test: the test images were not masked, so that a mask that tells the class lowers the curve instead of
            lifting it.
        baseline: accuracy on whole images; there is no verdict if it is at chance.
    """
    reached = f"the mask alone gives {min(mask.means):.3f} to {max(mask.means):.3f}"
    if chance is None:
        return f"no verdict, since chance is not known without the test images ({reached})"
    if baseline is not None and at_chance(baseline, chance):
        return f"no verdict, since {chance_words(baseline, chance)}"
    points = list(zip(image.ratios, image.estimates, mask.estimates, strict=True))
    telling = [
        (ratio, seen, alone) for ratio, seen, alone in points if tells_class(alone.mean, chance, mask.test_images)
    ]
    reaching = [(ratio, seen, alone) for ratio, seen, alone in telling if alone.mean >= seen.low]
    explained = [
        f"{ratio * 100:g} %"
        for ratio, seen, alone in reaching
        if alone.mean - chance >= READABLE * (seen.mean - chance)
    ]
    shares = [(alone.mean - chance) / (seen.mean - chance) for _ratio, seen, alone in telling if seen.mean > chance]
    if not telling:
        return f"the mask carries no class ({reached}; chance is {chance:.2f}): this curve speaks of the image"
    if clean_test:
        return (
            f"the network can learn from masks ({reached}), which the test images don't have: a low accuracy may be "
            "the mask's doing, and is not to be believed"
        )
    if len(explained) == len(points):
        return f"explained by the mask at every ratio ({reached}): this curve says nothing about importance"
    if len(telling) == len(points) and min(shares) >= READABLE and len(explained) == len(reaching):
        whole = f", within the interval all of it at {', '.join(explained)}" if explained else ""
        share = f"{min(shares):.0%} or more of it above chance can be read off the mask{whole}"
        return f"{share} ({reached}): not to be believed"
    if explained:
        return f"explained by the mask at {', '.join(explained)} ({reached}): not to be believed there"
    if reaching:
        return f"its interval is too wide to tell it from the mask's ({reached}): give more --seeds or test images"
    return f"up to {max(shares):.0%} of it above chance can be read off the mask ({reached}): believe it in part"
