"""Residual attention: Wang et al., Residual Attention Network for Image Classification, CVPR 2017."""

from copy import deepcopy
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

PRE_AND_POST_UNITS = 1  # p of section 3
TRUNK_UNITS = 2  # t
MASK_UNITS = 1  # r

SomeModule = TypeVar("SomeModule", bound=nn.Module)


def copy_with_tied_weights(module: SomeModule) -> SomeModule:
    """Copy `module` with the same parameters and its own non-linearities, hooks and batch-norm statistics.

    Using one module twice would mix the statistics of both places, and call hooks for both.
    """
    return deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})


class ResidualUnit(nn.Module):
    """Bottleneck 1×1, 3×3, 1×1 beside a 1×1 projection: ReLU(F(x) + P(x)).

    Every unit projects (option C of He et al. 2016, arXiv 1512.03385), also where the shape stays. Like the original
    White Box, and unlike the paper, batch norms follow the convolutions, and the projection has a bias.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        inner = out_channels // 4
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.projection = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels)
        )
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        return self.relu(self.residual(inputs) + self.projection(inputs))


class SoftMaskBranch(nn.Module):
    """Pool `skips` + 1 times, upsample as often, two 1×1 convolutions, sigmoid (fig. 2).

    M(x) has a weight for each position and channel: mixed attention, f₁ of eq. 4.

    Like the original White Box, and unlike the paper, all units of the branch share their weights, and so do its two
    1×1 convolutions; each has its own statistics. Pooling is 2×2 instead of 3×3 and rounds up, so that 7 becomes 4;
    interpolation restores the size before pooling.
    """

    def __init__(self, channels: int, skips: int) -> None:
        super().__init__()
        unit, conv = ResidualUnit(channels, channels), nn.Conv2d(channels, channels, 1, bias=False)

        def units(number: int) -> nn.Sequential:
            return nn.Sequential(*(copy_with_tied_weights(unit) for _ in range(number)))

        self.pools = nn.ModuleList(nn.MaxPool2d(2, ceil_mode=True) for _ in range(skips + 1))
        self.down = nn.ModuleList(units(MASK_UNITS) for _ in range(skips))
        self.bottom = units(2 * MASK_UNITS)
        self.up = nn.ModuleList(units(MASK_UNITS) for _ in range(skips))
        self.head = nn.Sequential(copy_with_tied_weights(conv), copy_with_tied_weights(conv), nn.Sigmoid())

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, C, H, W) -> mask (N, C, H, W) in 0 … 1."""
        *pools, last_pool = self.pools
        sizes, skipped, x = [inputs.shape[2:]], [], inputs
        for pool, units in zip(pools, self.down, strict=True):
            x = units(pool(x))
            sizes.append(x.shape[2:])
            skipped.append(x)
        x = self.bottom(last_pool(x))
        for units in self.up:
            x = units(upsample(x, sizes.pop()) + skipped.pop())
        return self.head(upsample(x, sizes.pop()))


def upsample(features: Tensor, size: tuple[int, ...]) -> Tensor:
    """Interpolate bilinearly with aligned corners: (N, C, h, w) -> (N, C, *size)."""
    return F.interpolate(features, size=size, mode="bilinear", align_corners=True)


class ResidualAttention(nn.Module):
    """Attention module of fig. 2: a unit, H(x) = (1 + M(x)) · T(x) (eq. 3), a unit."""

    def __init__(self, in_channels: int, out_channels: int, skips: int) -> None:
        """Args: `skips` skip connections in the mask branch, one for each size between largest and smallest."""
        super().__init__()

        def units(number: int, channels: int = out_channels) -> nn.Sequential:
            rest = (ResidualUnit(out_channels, out_channels) for _ in range(number - 1))
            return nn.Sequential(ResidualUnit(channels, out_channels), *rest)

        self.pre = units(PRE_AND_POST_UNITS, in_channels)
        self.trunk = units(TRUNK_UNITS)
        self.mask = SoftMaskBranch(out_channels, skips)
        self.post = units(PRE_AND_POST_UNITS)

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H, W)."""
        x = self.pre(inputs)
        return self.post((1 + self.mask(x)) * self.trunk(x))
