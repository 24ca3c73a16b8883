"""Ranks and masks of pixels, and masked images (ROAR and KAR, Hooker et al., NeurIPS 2019)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.pixel_hash import pixel_hash
from common.errors import InputError
from evaluation import FILLS, GRANULARITIES, ORDERS, RANKS
from evaluation.imputation import noisy_impute
from evaluation.statistics import require_images
from training.inputs import Images, TensorInputs

Array = npt.NDArray[Any]

TIE_SEED = 0
IMPUTED_AT_ONCE = 500
RANKED_AT_ONCE = 2**22  # positions, each of which takes some 50 bytes
BLUR_SIGMA = 2.0  # pixels


def _square(maps: Tensor) -> Tensor:
    """Square maps (N, …), each scaled by a power of two, which keeps all digits, so that small ones don't become 0."""
    largest = maps.flatten(1).abs().amax(dim=1)
    exponents = largest.frexp().exponent.clamp(-126, 126)
    return maps.ldexp(-exponents.view(-1, *[1] * (maps.ndim - 1))).square()


_TRANSFORMS = {"signed": lambda values: values, "absolute": torch.abs, "square": _square}


def importance(attribution: Tensor, channels: int, granularity: str = GRANULARITIES[0], rank: str = RANKS[0]) -> Tensor:
    """Return the values by which pixels are ranked.

    Args:
        attribution: (N, C|1, H, W).
        channels: C of the images.
        granularity: "pixel" sums over the channels, "element" ranks the value of each channel.
        rank: "signed" as it is, "absolute" or "square" of each value, before the sum.

    Returns:
        (N, 1, H, W) for pixels, (N, C, H, W) for elements.
    """
    values = _TRANSFORMS[rank](attribution.float())
    if granularity == "pixel":
        return values.sum(dim=1, keepdim=True)
    return values.expand(-1, channels, -1, -1)


def ranks(importances: Tensor, index: Tensor, seed: int = TIE_SEED) -> Tensor:
    """Return the place of each position in its own image's order: 0 is the most important.

    A random permutation of each image orders equal values, so that a map with many zeros neither loses all of them at
    once nor always the same ones.

    Args:
        importances: (N, C, H, W) float32, finite.
        index: (N,) int64, the images' numbers, on which the permutations depend.

    Returns:
        (N, C, H, W) int16, or int32 for more than 32,767 positions: a permutation of 0 … C·H·W − 1 in each image.
    """
    flat = (importances.flatten(1) + 0.0).contiguous()  # −0 becomes +0: they are equal, but their bits differ
    bits = flat.view(torch.int32).long()
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the floats
    tie = pixel_hash(index, flat.shape[1], seed)
    order = ((ordered << 32) | tie).argsort(dim=1, descending=True)
    dtype = torch.int16 if flat.shape[1] <= torch.iinfo(torch.int16).max else torch.int32
    places = torch.arange(flat.shape[1], dtype=dtype, device=flat.device).expand_as(order)
    return torch.empty_like(order, dtype=dtype).scatter_(1, order, places).view(importances.shape)


@dataclass(frozen=True)
class SplitRanks:
    """Ranks of the training and the test images, in the order of the (limited) data set.

    Attributes:
        tied: share of the training images' positions whose value another one has too.
    """

    train: Tensor
    test: Tensor
    tied: float


def ranks_of_maps(
    maps: Iterable[tuple[Array, Array]],
    channels: int,
    granularity: str,
    rank: str,
    device: torch.device,
    blur: bool = False,
) -> tuple[Tensor, float]:
    """Return the ranks of a whole split, on the device: the mask of any ratio is then one comparison.

    Args:
        maps: some images' maps (n, C|1, H, W) and their positions in the published split (n,), part by part.
        blur: rank a blurred importance, a control: smoothness alone can improve a curve (arXiv 2304.13836).

    Returns:
        the ranks, and the share of positions whose value another position of the same image has too.
    """
    all_ranks, tied, positions = [], 0, 0
    for attribution, index in maps:
        at_once = max(1, RANKED_AT_ONCE // (channels * math.prod(attribution.shape[2:])))
        for start in range(0, len(index), at_once):
            part = slice(start, start + at_once)
            values = importance(torch.from_numpy(attribution[part]).to(device), channels, granularity, rank)
            if blur:
                values = gaussian_blur(values)
            all_ranks.append(ranks(values, torch.from_numpy(index[part]).to(device)))
            tied += count_ties(values)
            positions += values.numel()
    require_images(positions)
    return torch.cat(all_ranks), tied / positions


def count_ties(importances: Tensor) -> int:
    """Return the number of values (N, C, H, W) that occur more than once in their image."""
    ordered = importances.flatten(1).sort(dim=1).values
    same = F.pad(ordered[:, 1:] == ordered[:, :-1], (1, 1))
    return int((same[:, 1:] | same[:, :-1]).sum())


def gaussian_blur(images: Tensor, sigma: float = BLUR_SIGMA) -> Tensor:
    """Convolve (N, C, H, W) with a Gaussian over both axes; border pixels continue."""
    reach = round(3 * sigma)
    weights = torch.exp(-(torch.arange(-reach, reach + 1, device=images.device) ** 2) / (2 * sigma**2))
    kernel = (weights / weights.sum()).to(images)
    n, channels, height, width = images.shape
    planes = F.pad(images.reshape(-1, 1, height, width), (reach, reach, reach, reach), mode="replicate")
    smoothed = F.conv2d(F.conv2d(planes, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return smoothed.view(n, channels, height, width)


@dataclass(frozen=True)
class Removal:
    """A fraction of the positions to replace: the most relevant first ("MoRF") or the least ("LeRF")."""

    order: str
    ratio: float

    def __post_init__(self) -> None:
        if self.order not in ORDERS or not 0 <= self.ratio <= 1:
            orders = " or ".join(ORDERS)
            raise InputError(f"{self.order!r}, {self.ratio}: an order of removal is {orders}, a ratio from 0 to 1")

    def count(self, positions: int) -> int:
        """Return k = round(t·H·W), the same in every image."""
        return round(self.ratio * positions)

    def mask(self, ranks: Tensor) -> Tensor:
        """Return True where a position is replaced, in the shape of `ranks` (n, C|1, H, W)."""
        positions = ranks.shape[1:].numel()
        k = self.count(positions)
        return ranks < k if self.order == "MoRF" else ranks >= positions - k


class MaskedImages:
    """Images whose removed positions are replaced, after normalisation and before augmentation."""

    def __init__(self, images: Images, ranks: Tensor, removal: Removal, fill: str = FILLS[0]) -> None:
        """`fill`: "mean" or "black", one value per channel."""
        self.images, self.ranks, self.removal = images, ranks, removal
        self.border = images.border
        self.fill = images.normalisation.fill(fill)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        removed = self.removal.mask(self.ranks[index])
        return torch.where(removed, self.fill.view(-1, 1, 1), self.images.batch(index))


def impute_images(images: Images, ranks: Tensor, removal: Removal) -> TensorInputs:
    """Return images whose removed positions are imputed from their neighbours, once for all batches."""
    parts = [
        noisy_impute(images.batch(rows), removal.mask(ranks[rows]))
        for rows in torch.arange(len(images), device=ranks.device).split(IMPUTED_AT_ONCE)
    ]
    return TensorInputs(torch.cat(parts), images.border)


class MaskOnlyInputs:
    """The 0/1 mask as the only input: whatever a network learns from it is the leak."""

    def __init__(self, images: Images, ranks: Tensor, removal: Removal) -> None:
        self.ranks, self.removal = ranks, removal
        self.border = torch.zeros_like(images.border)

    def __len__(self) -> int:
        return len(self.ranks)

    def batch(self, index: Tensor) -> Tensor:
        mask = self.removal.mask(self.ranks[index]).float()
        return mask.expand(-1, len(self.border), -1, -1)
