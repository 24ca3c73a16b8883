"""A model as a user might bring it: `--model=tests.own_model:small`."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Small(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(F.relu(self.second(F.relu(self.first(images)))).mean(dim=(2, 3)))
        return logits


def small(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Small(shape[0], classes)


def no_module(shape: tuple[int, int, int], classes: int) -> int:
    return classes


class Drawing(Small):
    """Draws from each of the global generators: for its weights, and at each step of a training."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, classes)
        self.register_buffer("scale", torch.tensor(1 + (np.random.rand() + random.random()) / 8), persistent=False)  # noqa: NPY002
        self.dropout = nn.Dropout(0.3)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            images = images + np.random.rand() * random.random()  # noqa: NPY002
        return super().forward(self.dropout(images * self.scale))


def drawing(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Drawing(shape[0], classes)
