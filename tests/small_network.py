"""A small network with a batch norm, and images for it."""

import torch
from torch import Tensor, nn


def small_network(kind: type[nn.Sequential] = nn.Sequential, before_head: nn.Module | None = None) -> nn.Sequential:
    """Return a network of three classes in evaluation mode, whose batch norm has seen images.

    Args:
        before_head: the layer between the pooling and the linear head; flattens by default.
    """
    torch.manual_seed(0)
    network = kind(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), before_head or nn.Flatten()),
        nn.Linear(6, 3),
    )
    network(torch.randn(16, 3, 8, 8))
    network[8].weight.data.mul_(10)
    return network.eval()


def small_images() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
