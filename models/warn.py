"""WARN: a wide residual network (Zagoruyko & Komodakis 2016, arXiv 1605.07146) with attend-and-rectify attention
(Rodríguez et al. 2018, arXiv 1807.07320)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention.attend_and_rectify import AttendAndRectify, OutputGates, mask_overlap
from common.errors import InputError
from models.initialisation import he_initialise

DEPTH = 28
HEADS = 4
STEM = 16
GROUPS = (16, 32, 64)
OVERLAP_WEIGHT = 0.001
"""Weight of the mask-overlap penalty in the loss, as in the authors' code."""


def norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    """Return batch norm and ReLU, which precede each convolution of a pre-activation network."""
    return nn.BatchNorm2d(channels), nn.ReLU()


def residual_branch(in_channels: int, out_channels: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """Return convolution, batch norm, ReLU, convolution."""
    return (
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        *norm_relu(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
    )


class WideningBlock(nn.Module):
    """First block of a group, which changes channels and size; its inputs are normalised and rectified."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*residual_branch(in_channels, out_channels, stride))
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.residual(inputs) + self.shortcut(inputs)


class Block(nn.Module):
    """Pre-activation residual block of one width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*norm_relu(channels), *residual_branch(channels, channels))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.residual(inputs) + inputs


def group(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return the blocks of a width, batch norm and ReLU; their output is the features Z of the attention."""
    blocks = (DEPTH - 4) // 6
    return nn.Sequential(
        WideningBlock(in_channels, out_channels, stride),
        *(Block(out_channels) for _ in range(blocks - 1)),
        *norm_relu(out_channels),
    )


class WARN(nn.Module):
    """WRN-28 with gated attention of four heads after each of its three groups.

    Width 4: 6,043,362 parameters for 1×28×28 images, 6,043,650 for 3×32×32 images. Width 10: 36,965,346 and 36,965,634.
    The original White Box has width 4, the paper's best network on CIFAR-10 width 10. The published counts include
    batch norm and ReLU twice after the first convolution, in the stem and in the first block.
    """

    layers = ("stem", *(f"groups.{index}" for index in range(len(GROUPS))))
    attention_layers = (
        *(f"attention.{index}.{part}" for index in range(len(GROUPS)) for part in ("heads", "gates")),
        "output_gates",
    )

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int) -> None:
        """Args: `shape` (C, H, W) of an image; `classes` number of logits; `width` factor of the channels."""
        super().__init__()
        widths = [width * channels for channels in GROUPS]
        self.stem = nn.Sequential(
            nn.Conv2d(shape[0], STEM, 3, padding=1, bias=False), *norm_relu(STEM), *norm_relu(STEM)
        )
        self.groups = nn.ModuleList(
            group(*pair, stride=1 if index == 0 else 2) for index, pair in enumerate(pairwise((STEM, *widths)))
        )
        self.attention = nn.ModuleList(AttendAndRectify(channels, classes, HEADS) for channels in widths)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(widths[-1], classes)
        self.output_gates = OutputGates(widths[-1], len(GROUPS) + 1)
        self.log_softmax = nn.LogSoftmax(dim=2)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> gated log-probabilities (N, classes), used as logits."""
        return self.forward_with_masks(images)[0]

    def forward_with_masks(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return Σ_l g_l · log p_l over the scores of three depths and of the network (eq. 8), and all masks.

        The gates weigh log-probabilities, as in the authors' code.
        """
        features, scores, masks = self.stem(images), [], []
        for group, attention in zip(self.groups, self.attention, strict=True):
            features = group(features)
            depth_scores, depth_masks = attention(features)
            scores.append(depth_scores)
            masks.append(depth_masks)
        pooled = self.pool(features)
        scores.append(self.classifier(pooled))
        log_probabilities = self.log_softmax(torch.stack([logits.float() for logits in scores], dim=1))
        return (log_probabilities * self.output_gates(pooled).unsqueeze(2)).sum(dim=1), masks

    def training_loss(self, images: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """Return the negative log likelihood of the gated log-probabilities + `OVERLAP_WEIGHT` · mean mask overlap.

        Raises:
            InputError: a batch of one image, which has no batch-norm statistics.
        """
        if self.training and len(images) == 1:
            raise InputError("WARN can't be trained on one image a step: give a larger --batch-size")
        log_probabilities, masks = self.forward_with_masks(images)
        label_loss, uniform_loss = F.nll_loss(log_probabilities, labels), -log_probabilities.mean()
        loss = (1 - label_smoothing) * label_loss + label_smoothing * uniform_loss
        overlap = torch.stack([mask_overlap(depth_masks) for depth_masks in masks]).mean()
        return loss + OVERLAP_WEIGHT * overlap
