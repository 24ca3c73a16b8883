"""Attend and rectify: Rodríguez et al., Attend and Rectify: a Gated Attention Mechanism for Fine-Grained Recovery,
ECCV 2018 (arXiv 1807.07320). Convolutions are 3×3, as in the authors' code."""

import torch
from torch import Tensor, nn


class AttentionHeads(nn.Module):
    """H = spatial_softmax(W_H ∗ Z), eq. 1: K masks, each of which sums to 1 over the positions."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, heads, 3, padding=1, bias=False)
        self.softmax = nn.Softmax(dim=2)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H, W), float32 also under autocast."""
        scores = self.conv(features).float()
        masks: Tensor = self.softmax(scores.flatten(2))
        return masks.view_as(scores)


class HeadGates(nn.Module):
    """g_H = softmax(tanh(Σ_xy (W_g ∗ Z) ⊙ H)), eq. 5: the weight of each head."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, heads, 3, padding=1, bias=False)
        self.tanh = nn.Tanh()
        self.softmax = nn.Softmax(dim=1)

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """(N, C, H, W) and masks (N, K, H, W) -> (N, K), each row sums to 1."""
        return self.softmax(self.tanh((self.conv(features) * masks).sum(dim=(2, 3))))


class AttendAndRectify(nn.Module):
    """Class scores from the features of a depth: o = Σ_k g_k Σ_xy H_k ⊙ O_k, eq. 3 and 4."""

    def __init__(self, channels: int, classes: int, heads: int) -> None:
        super().__init__()
        self.heads = AttentionHeads(channels, heads)
        self.opinions = nn.Conv2d(channels, heads * classes, 3, padding=1, bias=False)  # W_O of eq. 2, all heads
        self.gates = HeadGates(channels, heads)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> scores (N, classes) and masks (N, K, H, W)."""
        masks = self.heads(features)
        opinions = self.opinions(features).unflatten(1, (masks.shape[1], -1))
        per_head = (opinions * masks.unsqueeze(2)).sum(dim=(3, 4))
        gates = self.gates(features, masks)
        return (per_head * gates.unsqueeze(2)).sum(dim=1), masks


class OutputGates(nn.Sequential):
    """g = softmax(tanh(W_G Z)), eq. 6 and 7: the weight of each depth in the output.

    (N, C) of the pooled last features -> (N, gates), each row sums to 1. Like the authors' code, and unlike the paper,
    a batch norm precedes the tanh.
    """

    def __init__(self, channels: int, gates: int) -> None:
        super().__init__(nn.Linear(channels, gates, bias=False), nn.BatchNorm1d(gates), nn.Tanh(), nn.Softmax(dim=1))


def mask_overlap(masks: Tensor) -> Tensor:
    """Return the inter-mask regulariser of section 3.2, a scalar: mean square of the off-diagonal of H Hᵀ.

    The authors' code pools the masks 2×2 first, which penalises neighbours that don't overlap; this does not.

    Args:
        masks: (N, K, H, W).
    """
    flat = masks.flatten(2)
    overlap = (flat.unsqueeze(1) * flat.unsqueeze(2)).sum(dim=3)  # no matrix product: autocast would round it
    return (overlap * (1 - torch.eye(flat.shape[1], device=flat.device))).square().mean()
