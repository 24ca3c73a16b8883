"""From the accuracies of single runs to curves with intervals, and to words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import integrate, stats

CONFIDENCE = 0.95
READABLE = 0.9  # share of the accuracy above chance from which on a curve counts as read off the mask
SILENT = 0.1


@dataclass(frozen=True)
class Estimate:
    """A mean accuracy with its 95 % interval."""

    mean: float
    low: float
    high: float


def estimate(accuracies: Sequence[float], test_images: int) -> Estimate:
    """Mean and 95 % interval: Student's t over the seeds; with one seed, Wilson's over the test images.

    The second says only how exactly this one network was tested, nothing of the spread between networks.
    """
    values = np.asarray(accuracies)
    mean = float(values.mean())
    if len(values) == 1:
        interval = stats.binomtest(round(mean * test_images), test_images).proportion_ci(CONFIDENCE, "wilson")
        return Estimate(mean, float(interval.low), float(interval.high))
    spread = float(stats.sem(values))
    if spread == 0:
        return Estimate(mean, mean, mean)
    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, loc=mean, scale=spread)
    return Estimate(mean, float(low), float(high))


@dataclass(frozen=True)
class Curve:
    """Accuracy over the fraction removed, for one method, of networks that see the image or the mask alone."""

    method: str
    sees: str
    ratios: tuple[float, ...]
    estimates: tuple[Estimate, ...]

    @property
    def means(self) -> list[float]:
        return [one.mean for one in self.estimates]

    @property
    def area(self) -> float:
        """Area under the curve divided by its width (trapezoids): the mean height between first and last ratio."""
        if len(self.ratios) == 1:
            return self.means[0]
        return float(integrate.trapezoid(self.means, self.ratios) / (self.ratios[-1] - self.ratios[0]))


def verdict(image: Curve, mask: Curve, chance: float) -> str:
    """In words, whether `image` can be believed, given what networks read off the mask alone."""
    explained = [
        f"{ratio:.0%}"
        for ratio, seen, alone in zip(image.ratios, image.estimates, mask.estimates, strict=True)
        if alone.mean >= seen.low and alone.low > chance * (1 + SILENT)
    ]
    shares = [
        (alone - chance) / (seen - chance) if seen > chance else 1.0
        for seen, alone in zip(image.means, mask.means, strict=True)
    ]
    least, most = min(mask.means), max(mask.means)
    reached = f"the mask alone gives {least:.3f} to {most:.3f}"
    if len(explained) == len(image.ratios):
        return f"explained by the mask at every ratio ({reached}): this curve says nothing about importance"
    if explained:
        return f"explained by the mask at {', '.join(explained)} ({reached}): not to be believed there"
    if min(shares) >= READABLE:
        return f"at least {min(shares):.0%} of it above chance can be read off the mask ({reached}): not to be believed"
    if max(shares) > SILENT:
        return f"up to {max(shares):.0%} of it above chance can be read off the mask ({reached}): believe it in part"
    return f"the mask carries no class ({reached}; chance is {chance:.2f}): this curve speaks of the image"
