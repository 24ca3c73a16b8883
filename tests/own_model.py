"""A model as a user might bring it: `--model=tests.own_model:small`."""

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
