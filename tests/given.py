"""A tiny network with planted weights, and folders of PNG files of mixed sizes: a patch whose colour is the class."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

SIDE = 16  # pixels, after the resizing
COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
FACTORY = """
from torch import nn


def tiny(shape, classes):
    return nn.Sequential(
        nn.Conv2d(shape[0], 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, classes),
    )


def one_logit(shape, classes):
    return tiny(shape, 1)


def ten_labels(shape, classes):
    network = tiny(shape, classes)
    network.config = type("Config", (), {"problem_type": "multi_label_classification"})()
    return network


class Noisy(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = tiny((3, 0, 0), classes)

    def forward(self, images):
        return self.layers(nn.functional.dropout(images, 0.5, training=True))


def noisy(shape, classes):
    return Noisy(classes)


def linear(shape, classes):
    network = tiny(shape, classes)
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
"""


def patch_image(random: np.random.Generator, colour: tuple[int, int, int], height: int, width: int) -> np.ndarray:
    """Return a grey, noisy image (H, W, 3) with a patch of the colour."""
    pixels = np.repeat(random.integers(90, 160, (height, width, 1)), 3, axis=2)
    side = min(height, width) // 3
    top, left = (int(random.integers(1, size - side)) for size in (height, width))
    pixels[top : top + side, left : left + side] = colour
    return pixels.astype(np.uint8)


def write_images(folder: Path, classes: dict[str, tuple[int, int, int]] = COLOURS, count: int = 8) -> Path:
    """Write `count` PNG files of each class, of mixed sizes."""
    random = np.random.default_rng(0)
    for name, colour in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            height, width = (int(size) for size in random.integers(SIDE, 2 * SIDE, 2))
            Image.fromarray(patch_image(random, colour, height, width)).save(folder / name / f"{number}.png")
    return folder


def plant(network: nn.Module, outputs: dict[int, tuple[int, int, int]]) -> nn.Module:
    """Make `tiny` add up the pixels of a colour for each of some `outputs`; images are normalised by 0.5 and 0.25.

    Of a network with one logit output 1 speaks for the class, output 0 against it.
    """
    first, second, last = network[0], network[2], network[6]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for channel, (output, colour) in enumerate(outputs.items()):
            first.weight[channel, :, 1, 1] = (torch.tensor(colour) / 255 - 0.5).sign()
            first.bias[channel] = -4  # a pixel of the colour has 6, one of another colour or grey at most 2
            second.weight[channel, channel, 1, 1] = 1
            is_against = len(last.weight) == 1 and output == 0
            last.weight[0 if is_against else output % len(last.weight), channel] = -30 if is_against else 30
    return network.eval()
