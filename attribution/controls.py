"""Controls: maps that every explanation should beat."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.method import AttributionMethod
from attribution.pixel_hash import image_number, pixel_hash
from common.errors import InputError


class Random(AttributionMethod):
    """RANDOM: uniform in [0, 1), a function of the image's pixels and the seed, whatever the batch."""

    def __init__(self, model: object, seed: int = 0) -> None:
        super().__init__(None)
        self.seed = seed

    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W); (N, F), (N,) -> (N, F)."""
        shape = (1, *inputs.shape[2:]) if inputs.ndim > 2 else inputs.shape[1:]
        numbers = pixel_hash(image_number(inputs), math.prod(shape), self.seed) >> 8  # float32 holds 24 bits exactly
        return (numbers.float() / 2**24).view(len(inputs), *shape)


class Sobel(AttributionMethod):
    """SOBEL: magnitude of the image's own gradient, per channel; repeated border pixels make the border no edge."""

    def __init__(self, model: object) -> None:
        super().__init__(None)

    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W), not negative; raises `InputError` for other inputs."""
        if inputs.ndim != 4:
            raise InputError(f"SOBEL needs images (N, C, H, W), and inputs {tuple(inputs.shape)} are given")
        channels = inputs.shape[1]
        along_width = inputs.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        filters = torch.stack([along_width, along_width.T]).unsqueeze(1).repeat(channels, 1, 1, 1)
        padded = F.pad(inputs, (1, 1, 1, 1), mode="replicate")
        slopes = F.conv2d(padded, filters, groups=channels).unflatten(1, (channels, 2))
        return slopes.square().sum(dim=2).sqrt()
