"""WARN: a wide residual network (Zagoruyko & Komodakis 2016, arXiv 1605.07146) that attends and rectifies
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


def rectified(channels: int) -> tuple[nn.Module, nn.Module]:
    """Batch norm and ReLU: what stands before a convolution in a pre-activation network."""
    return nn.BatchNorm2d(channels), nn.ReLU()


def residual(in_channels: int, out_channels: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """Convolution, batch norm, ReLU, convolution."""
    return (
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        *rectified(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
    )


class WideningBlock(nn.Module):
    """First block of a group: other channels, perhaps half the size; its inputs are rectified already."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*residual(in_channels, out_channels, stride))
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.residual(inputs) + self.shortcut(inputs)
        return outputs


class Block(nn.Module):
    """Pre-activation residual block of one width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*rectified(channels), *residual(channels, channels))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.residual(inputs) + inputs
        return outputs


def group(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """The blocks of one width, and the rectification of their sum: the features Z that attention sees."""
    blocks = (DEPTH - 4) // 6
    return nn.Sequential(
        WideningBlock(in_channels, out_channels, stride),
        *(Block(out_channels) for _ in range(blocks - 1)),
        *rectified(out_channels),
    )


class WARN(nn.Module):
    """WRN-28 with attention after each of its three groups, four heads each, gated.

    Width 4: 6,043,362 parameters for 1×28×28 images, 6,043,650 for 3×32×32 images. Width 10: 36,965,346 and 36,965,634.
    The original White Box is 4 wide where the paper's best network on CIFAR-10 is 10 wide. The published
    counts have the authors' first convolution rectified twice, by the stem and by the first block.
    """

    layers = ("stem", *(f"groups.{index}" for index in range(len(GROUPS))))
    attention_layers = (
        *(f"attention.{index}.{part}" for index in range(len(GROUPS)) for part in ("heads", "gates")),
        "output_gates",
    )

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int) -> None:
        """Args: `shape` (C, H, W) of an image; `classes` number of logits; `width` times as many channels as ResNet."""
        super().__init__()
        widths = [width * channels for channels in GROUPS]
        self.stem = nn.Sequential(
            nn.Conv2d(shape[0], STEM, 3, padding=1, bias=False), *rectified(STEM), *rectified(STEM)
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
        """(N, C, H, W) -> gated log-probabilities (N, classes), which stand for logits."""
        return self.gated(images)[0]

    def gated(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Σ_l g_l · log p_l over the three opinions and the network's own (eq. 8), and the masks of each depth.

        As in the authors' code the opinions are made log-probabilities before they are gated.
        """
        features, opinions, masks = self.stem(images), [], []
        for group, attention in zip(self.groups, self.attention, strict=True):
            features = group(features)
            opinion, attended = attention(features)
            opinions.append(opinion)
            masks.append(attended)
        pooled = self.pool(features)
        opinions.append(self.classifier(pooled))
        log_probabilities = self.log_softmax(torch.stack([opinion.float() for opinion in opinions], dim=1))
        return (log_probabilities * self.output_gates(pooled).unsqueeze(2)).sum(dim=1), masks

    def training_loss(self, images: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """Negative log likelihood of the gated log-probabilities + `OVERLAP_WEIGHT` · mean overlap of the masks.

        Raises:
            InputError: a single image, of which the gates' batch norm can't take statistics.
        """
        if self.training and len(images) == 1:
            raise InputError("WARN can't be trained on one image a step: give a larger --batch-size")
        log_probabilities, masks = self.gated(images)
        of_label, of_any = F.nll_loss(log_probabilities, labels), -log_probabilities.mean()
        likelihood = (1 - label_smoothing) * of_label + label_smoothing * of_any
        overlap = torch.stack([mask_overlap(attended) for attended in masks]).mean()
        return likelihood + OVERLAP_WEIGHT * overlap
