"""Maps that no explanation should fail to beat."""

import zlib

import torch
from torch import Tensor, nn

from attribution.pixel_hash import pixel_hash


class Random:
    """RANDOM: one fixed random map per image, uniform in [0, 1).

    The map is a function of the image's pixels and the seed, so that it is the same in any batch size and order.
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self.seed = seed

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W)."""
        n, _channels, height, width = inputs.shape
        pixels = inputs.detach().float().cpu().contiguous().numpy()
        image = torch.tensor([zlib.crc32(pixels[row].tobytes()) for row in range(n)], device=inputs.device)
        numbers = pixel_hash(image, height * width, self.seed) >> 8  # float32 holds 24 bits exactly
        return (numbers.float() / 2**24).view(n, 1, height, width)
