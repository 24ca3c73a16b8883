"""Ensembles: running sums of any method's maps of noisy copies of the image."""

import math
from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from attribution import LEVEL, SAMPLES
from attribution.method import AttributionMethod, Method
from attribution.pixel_hash import image_number, pixel_hash
from common.errors import InputError

ROWS_AT_ONCE = 64


class NoisyEnsemble(AttributionMethod):
    """Base of the ensembles: noisy copies of the images, and a method's maps of them.

    The noise is normal with σ = level · (max − min) of each image (Smilkov et al. 2017, arXiv 1706.03825, section 3).
    It is a function of the image's pixels and the seed: the same on every device, in any batch size and order.
    """

    least_samples = 1

    def __init__(self, method: Method, level: float = LEVEL, samples: int = SAMPLES, seed: int = 0) -> None:
        """Raises `InputError` if `level` is negative, or if there are fewer `samples` than the ensemble needs."""
        if not (0 <= level < math.inf) or samples < self.least_samples or samples % 1:
            needed = f"level ≥ 0 and a whole number of samples ≥ {self.least_samples}"
            raise InputError(f"{type(self).__name__} needs {needed}, not level {level} and samples {samples}")
        super().__init__(None)
        self.method, self.level, self.samples, self.seed = method, level, int(samples), seed

    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, …), (N,) -> the shape of the method's maps."""
        return self.summary(self.noisy_maps(inputs, target))

    @abstractmethod
    def summary(self, maps: Iterator[Tensor]) -> Tensor:
        """Return the ensemble's maps from the method's, sample after sample."""

    def noisy_maps(self, inputs: Tensor, target: Tensor) -> Iterator[Tensor]:
        """Yield the method's maps of one noisy copy of all images, `samples` times."""
        images = image_number(inputs)
        has_baselines = getattr(self.method, "has_baseline_for_each", None)  # then copies can't stand side by side
        samples_at_once = 1 if has_baselines and has_baselines(inputs) else max(1, ROWS_AT_ONCE // len(inputs))
        for start in range(0, self.samples, samples_at_once):
            samples = range(start, min(start + samples_at_once, self.samples))
            noisy = torch.cat([inputs + self._noise(inputs, images, sample) for sample in samples])
            maps = self.method.attribute(noisy, target=target.repeat(len(samples))).detach()
            yield from maps.unflatten(0, (len(samples), len(inputs)))

    def _noise(self, inputs: Tensor, images: Tensor, sample: int) -> Tensor:
        values = inputs.flatten(1)
        sigma = self.level * (values.amax(dim=1) - values.amin(dim=1))
        noise = normal(images, values.shape[1], (self.seed << 16) + sample)
        return (sigma.view(-1, 1) * noise).view(inputs.shape)


class SmoothGrad(NoisyEnsemble):
    """SG: the mean of the maps (Smilkov et al. 2017, section 3)."""

    def summary(self, maps: Iterator[Tensor]) -> Tensor:
        return mean(maps)


class SmoothGradSquared(NoisyEnsemble):
    """SG-SQ: the mean of the maps' squares (Hooker et al. 2019, arXiv 1806.10758, section 4.1)."""

    def summary(self, maps: Iterator[Tensor]) -> Tensor:
        return mean(values.square() for values in maps)


class VarGrad(NoisyEnsemble):
    """SG-VAR: the variance of the maps (Adebayo et al. 2018, arXiv 1810.03307): the mean squared distance to SG."""

    least_samples = 2  # the variance of one is zero everywhere

    def summary(self, maps: Iterator[Tensor]) -> Tensor:
        return variance(maps)


def mean(maps: Iterator[Tensor]) -> Tensor:
    total, count = next(maps).clone(), 1
    for values in maps:
        total += values
        count += 1
    return total / count


def variance(maps: Iterator[Tensor]) -> Tensor:
    """Return the variance by Welford's running sums of squares, which rounding can't make negative."""
    average, count = next(maps).clone(), 1
    squares = torch.zeros_like(average)
    for values in maps:
        count += 1
        difference = values - average
        average += difference / count
        squares += difference.square() * ((count - 1) / count)
    return squares / count


def normal(images: Tensor, positions: int, seed: int) -> Tensor:
    """Return standard normal numbers, a function of image, position and seed (Box and Muller 1958).

    Args:
        images: (N,) int64, see `image_number`.

    Returns:
        (N, positions) float32.
    """
    half = (positions + 1) // 2
    uniform = ((pixel_hash(images, 2 * half, seed) >> 8).float() + 0.5) / 2**24
    radius, angle = (-2 * uniform[:, :half].log()).sqrt(), 2 * math.pi * uniform[:, half:]
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :positions]
