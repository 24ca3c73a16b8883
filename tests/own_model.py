"""A model as a user might bring it: `--model=tests.own_model:small`."""

import random
import warnings
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torchvision.models import vgg11


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


def perceptron(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Trained in an instant where the place of a pixel tells the class."""
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 32), nn.ReLU(), nn.Linear(32, classes))


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


class Tutorial(nn.Module):
    """As tutorials write it: `view` after the convolutions."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv, self.pool, self.head = nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(4), nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(F.relu(self.conv(images)))
        logits: Tensor = self.head(features.view(features.size(0), -1))
        return logits


def tutorial(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Tutorial(shape[0], classes)


class Returning(nn.Module):
    def __init__(self, network: nn.Module, wrap: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.network, self.wrap = network, wrap

    def forward(self, images: Tensor) -> object:
        return self.wrap(self.network(images))


def with_features(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Returning(tutorial(shape, classes), lambda logits: (logits, logits[:, :, None]))


def with_names(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Returning(small(shape, classes), lambda logits: {"logits": logits, "hidden": logits.repeat(1, 2)})


def with_two_heads(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Returning(small(shape, classes), lambda logits: (logits, logits.repeat(1, 2)))


def lazy(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes))


def weight_norm(shape: tuple[int, int, int], classes: int) -> nn.Module:
    model = Small(shape[0], classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model.first)
    parametrizations.weight_norm(model.second)
    return model


def pruned(shape: tuple[int, int, int], classes: int) -> nn.Module:
    model = Small(shape[0], classes)
    prune.l1_unstructured(model.first, "weight", amount=0.5)
    return model


def bfloat16(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Small(shape[0], classes).bfloat16()


def frozen(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return Small(shape[0], classes).requires_grad_(False)


def for_other_images(shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(7, classes))


def vgg() -> nn.Module:
    """VGG-11 for ten classes with one linear layer: without its 120 million parameters, which are never drawn."""
    with torch.device("meta"):
        model = vgg11(num_classes=10)
    model.features.to_empty(device="cpu")
    for module in model.features:
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    model.classifier = nn.Linear(512 * 49, 10)
    return model


def with_one_logit(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """For two classes."""
    return Small(shape[0], 1)


def with_own_weights(shape: tuple[int, int, int], classes: int, pretrained: bool = False) -> nn.Module:
    model = Small(shape[0], 3 if pretrained else classes)
    if pretrained:
        nn.init.constant_(model.head.bias, 2.0)
    return model


class Scaled(Small):
    """With a number outside of its weights."""

    scale = 1.0

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images * self.scale)


def with_hidden_state(shape: tuple[int, int, int], classes: int, pretrained: bool = False) -> nn.Module:
    model = Scaled(shape[0], classes)
    model.scale = 3.0 if pretrained else 1.0
    return model


def with_several_labels(shape: tuple[int, int, int], classes: int) -> nn.Module:
    model = Small(shape[0], classes)
    model.config = SimpleNamespace(problem_type="multi_label_classification")
    return model
