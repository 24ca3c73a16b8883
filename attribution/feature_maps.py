"""Feature maps in whatever layout: recognised, and brought to (N, C, h, w)."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

LARGEST_STRETCH = 2.5  # of a grid's proportions relative to the image's: strides may differ, heads × tokens do more
MOST_PREFIX_TOKENS = 16  # class, distillation and register tokens

Reshape = Callable[[Tensor], Tensor]
Grid = tuple[int, int]
Axes = tuple[int, int, int]
"""The axes of a map (N, …, …, …) that hold channels, height and width."""

CHANNELS_FIRST, CHANNELS_LAST = (1, 2, 3), (3, 1, 2)


class MapLayout:
    """Recognises feature maps (N, C, h, w), maps with channels last (N, h, w, C) and tokens on a grid (N, T, C).

    Attributes:
        image_size: height and width.
        grids: sizes of the convolutions' outputs, of which one may be the tokens' grid.
        extra_tokens: by the number of tokens, the places of those that don't come from the image.
        reshape: brings outputs to (N, C, h, w) in an unusual way.
    """

    def __init__(
        self, image_size: Grid, grids: list[Grid], extra_tokens: Mapping[int, list[int]], reshape: Reshape | None
    ) -> None:
        self.image_size, self.grids, self.extra_tokens, self.reshape = image_size, grids, extra_tokens, reshape

    def to_map(self, output: Tensor, axes: Axes | None) -> Reshape | None:
        """Return a function that brings `output` to (N, C, h, w); None if it is no map.

        Args:
            axes: those of a four-dimensional output; None takes channels first if that fits the image, else last.
        """
        if self.reshape is not None:
            reshaped = self.reshape(output.detach())
            is_map = isinstance(reshaped, Tensor) and reshaped.ndim == 4 and len(reshaped) == len(output)
            return self.reshape if is_map else None
        if output.ndim == 3:
            return self.tokens_to_map(output.shape[1])
        if output.ndim != 4:
            return None
        if axes is None:
            axes = CHANNELS_FIRST if self.is_grid(*output.shape[2:]) else CHANNELS_LAST
        if not self.is_grid(output.shape[axes[1]], output.shape[axes[2]]):
            return None
        if axes != CHANNELS_FIRST:
            return lambda output: output.permute(0, *axes)
        return None if is_distribution(output) else lambda output: output

    def is_grid(self, height: int, width: int) -> bool:
        """Return whether so many positions, two or more, can lie over the image: in its proportions."""
        if height * width == 1:
            return False
        rows, columns = self.image_size
        stretch = (height / rows) / (width / columns)
        is_near = abs(height - width * rows / columns) <= 1 or 1 / LARGEST_STRETCH <= stretch <= LARGEST_STRETCH
        return is_near and height <= 2 * rows and width <= 2 * columns

    def tokens_to_map(self, tokens: int) -> Reshape | None:
        """Return the function for `tokens` tokens that lie on a grid, but for class and register tokens.

        These are the `extra_tokens`; where it is not known which ones don't come from the image, the first ones.

        The grid is the largest fitting output of a convolution, or such an output halved until it has so many tokens,
        as by the merging of patches, or without convolutions a grid in the image's proportions.
        """
        rows, columns = self.image_size
        heights = ((round((count * rows / columns) ** 0.5), count) for count in range(tokens, max(0, tokens - 9), -1))
        proportional = [(height, count // height) for height, count in heights if height and count % height == 0]
        grids = self.grids or [grid for grid in proportional if abs(grid[0] / grid[1] - rows / columns) < 0.01]
        fitting = [(h, w) for h, w in grids if h * w > 1 and 0 <= tokens - h * w <= MOST_PREFIX_TOKENS]
        of_image = tokens - len(self.extra_tokens.get(tokens, ()))
        fitting = fitting or [grid for whole in grids for grid in halvings(whole) if grid[0] * grid[1] == of_image > 1]
        if not fitting:
            return None
        height, width = max(fitting, key=lambda grid: grid[0] * grid[1])
        prefix = tokens - height * width
        extra = self.extra_tokens.get(tokens, list(range(prefix)))
        if len(extra) != prefix:
            return None
        if extra == list(range(prefix)):
            return lambda output: output[:, prefix:].transpose(1, 2).unflatten(2, (height, width))
        places = [place for place in range(tokens) if place not in extra]
        return lambda output: output[:, places].transpose(1, 2).unflatten(2, (height, width))


def halvings(grid: Grid) -> Iterator[Grid]:
    """Yield a grid with height and width halved again and again, rounded up as by padding."""
    while grid != (1, 1):
        grid = (grid[0] + 1) // 2, (grid[1] + 1) // 2
        yield grid


def is_distribution(output: Tensor) -> bool:
    """Return whether each row sums to 1, as attention weights do."""
    with torch.no_grad():
        return bool((output >= 0).all()) and bool(torch.allclose(output.sum(-1), torch.ones_like(output[..., 0])))
