"""Which pixels a map removes, and what a network sees of the rest (ROAR and KAR, Hooker et al., NeurIPS 2019)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.pixel_hash import pixel_hash
from evaluation import FILLS, GRANULARITIES, RANKS
from evaluation.imputation import noisy_impute
from evaluation.statistics import require_images
from training.inputs import Images

Array = npt.NDArray[Any]

TIE_SEED = 0
IMPUTED_AT_ONCE = 500
BLUR_SIGMA = 2.0  # pixels
_TRANSFORMS = {"signed": lambda values: values, "absolute": torch.abs, "square": torch.square}


def importance(attribution: Tensor, channels: int, granularity: str = GRANULARITIES[0], rank: str = RANKS[0]) -> Tensor:
    """What pixels are ranked by.

    Args:
        attribution: (N, C|1, H, W).
        channels: C of the images.
        granularity: "pixel" sums over the channels, "element" ranks each channel's value for itself.
        rank: "signed" as it is, "absolute" or "square" of each value, before the sum.

    Returns:
        (N, 1, H, W) for pixels, (N, C, H, W) for elements.
    """
    values = _TRANSFORMS[rank](attribution.float())
    if granularity == "pixel":
        return values.sum(dim=1, keepdim=True)
    return values.expand(-1, channels, -1, -1)


def ranks(importances: Tensor, index: Tensor, seed: int = TIE_SEED) -> Tensor:
    """The place of each position in its own image's order: 0 is the most important.

    Equal values are ordered by a random permutation of each image, drawn by `seed`, so that a map with many zeros
    neither loses all of them at once nor always the same ones.

    Args:
        importances: (N, C, H, W) float32, finite.
        index: (N,) int64, the images' numbers, on which the permutations depend.

    Returns:
        (N, C, H, W) int16, a permutation of 0 … C·H·W − 1 in each image.
    """
    flat = (importances.flatten(1) + 0.0).contiguous()  # −0 becomes +0: the two are equal, their bits are not
    bits = flat.view(torch.int32).long()
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the floats
    tie = pixel_hash(index, flat.shape[1], seed)
    order = ((ordered << 32) | tie).argsort(dim=1, descending=True)
    places = torch.arange(flat.shape[1], dtype=torch.int16, device=flat.device).expand_as(order)
    return torch.empty_like(order, dtype=torch.int16).scatter_(1, order, places).view(importances.shape)


@dataclass(frozen=True)
class SplitRanks:
    """Ranks of the training and the test images, in the order of the (limited) data set.

    Attributes:
        tied: share of the training images' positions whose value another one has too.
        key: tells them from those of another method.
    """

    train: Tensor
    test: Tensor
    tied: float
    key: str = ""


def ranks_of_maps(
    maps: Iterable[tuple[Array, Array]],
    channels: int,
    granularity: str,
    rank: str,
    device: torch.device,
    blur: bool = False,
) -> tuple[Tensor, float]:
    """Return ranks of a whole split, on the device: with them the mask of any ratio is one comparison.

    Args:
        maps: some images' maps (n, C|1, H, W) and their positions in the published split (n,), part by part.
        blur: rank a blurred importance, the control of arXiv 2304.13836: smoothness alone can improve a curve.

    Returns:
        the ranks, and the share of positions whose value another position of the same image has too.
    """
    all_ranks, tied, positions = [], 0, 0
    for attribution, index in maps:
        values = importance(torch.from_numpy(attribution).to(device), channels, granularity, rank)
        if blur:
            values = gaussian_blur(values)
        all_ranks.append(ranks(values, torch.from_numpy(index).to(device)))
        tied += count_ties(values)
        positions += values.numel()
    require_images(positions)
    return torch.cat(all_ranks), tied / positions


def count_ties(importances: Tensor) -> int:
    """How many of the values (N, C, H, W) occur more than once in their image."""
    ordered = importances.flatten(1).sort(dim=1).values
    same = F.pad(ordered[:, 1:] == ordered[:, :-1], (1, 1))
    return int((same[:, 1:] | same[:, :-1]).sum())


def gaussian_blur(importances: Tensor, sigma: float = BLUR_SIGMA) -> Tensor:
    """(N, C, H, W) -> the same shape: a Gaussian over both axes, the border pixels continued."""
    reach = round(3 * sigma)
    weights = torch.exp(-(torch.arange(-reach, reach + 1, device=importances.device) ** 2) / (2 * sigma**2))
    kernel = (weights / weights.sum()).to(importances)
    n, channels, height, width = importances.shape
    planes = F.pad(importances.reshape(-1, 1, height, width), (reach, reach, reach, reach), mode="replicate")
    smooth = F.conv2d(F.conv2d(planes, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return smooth.view(n, channels, height, width)


@dataclass(frozen=True)
class Removal:
    """A fraction of the positions to replace: the most relevant first ("MoRF") or the least ("LeRF")."""

    order: str
    ratio: float

    def count(self, positions: int) -> int:
        """k = round(t·H·W), exactly as many in every image."""
        return round(self.ratio * positions)

    def mask(self, ranks: Tensor) -> Tensor:
        """True where a position is replaced; same shape as `ranks` (n, C|1, H, W)."""
        positions = ranks.shape[1:].numel()
        k = self.count(positions)
        return ranks < k if self.order == "MoRF" else ranks >= positions - k


class MaskedImages:
    """Images of which the removed positions are replaced, after normalisation and before augmentation."""

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


class ImputedImages:
    """Images whose removed positions are filled from their neighbours; all of them at once, since that takes time."""

    def __init__(self, images: Images, ranks: Tensor, removal: Removal) -> None:
        self.border = images.border
        self.imputed = torch.cat(
            [
                noisy_impute(images.batch(rows), removal.mask(ranks[rows]))
                for rows in torch.arange(len(images), device=ranks.device).split(IMPUTED_AT_ONCE)
            ]
        )

    def __len__(self) -> int:
        return len(self.imputed)

    def batch(self, index: Tensor) -> Tensor:
        return self.imputed[index]


class MaskOnlyInputs:
    """The 0/1 mask as the only input: what a network can read off it is the leak, not the image."""

    def __init__(self, images: Images, ranks: Tensor, removal: Removal) -> None:
        self.ranks, self.removal = ranks, removal
        self.border = torch.zeros_like(images.border)

    def __len__(self) -> int:
        return len(self.ranks)

    def batch(self, index: Tensor) -> Tensor:
        mask = self.removal.mask(self.ranks[index]).float()
        return mask.expand(-1, len(self.border), -1, -1)
