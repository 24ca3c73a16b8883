"""The first convolution of a network, with a faster gradient with respect to the image on a CPU.

PyTorch's kernels work on blocks of 16 channels, but an image has one or three. Without a stride, one matrix product
spreads the gradient of each output over the kernel's positions, which are then added plane by plane. With a stride of
s, the gradient is a convolution whose outputs are blocks of s×s pixels, and so has s² times as many channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_CHANNELS = 4

Pair = tuple[int, int]


class ImageConvolution(nn.Conv2d):
    """`nn.Conv2d` with the faster gradient; see `use_fast_input_gradient`."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H', W')."""
        is_frozen = not any(parameter.requires_grad for parameter in self.parameters())
        if is_frozen and input.ndim == 4 and input.requires_grad and input.device.type == "cpu":
            return _Convolution.apply(input, self.weight, self.bias, self.stride, self.padding)
        return super().forward(input)


def use_fast_input_gradient(model: nn.Module) -> None:
    """Change every convolution of few input channels into an `ImageConvolution`; name, weights and hooks stay."""
    for module in model.modules():
        if (
            type(module) is nn.Conv2d
            and module.in_channels <= MOST_CHANNELS
            and module.groups == 1
            and module.dilation == (1, 1)
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        ):
            module.__class__ = ImageConvolution


class _Convolution(torch.autograd.Function):
    """Differentiable with respect to the images alone, any number of times, and under `torch.func`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        images: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        return F.conv2d(images, weight, bias, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        images, weight, _bias, ctx.stride, ctx.padding = inputs
        ctx.shape = images.shape
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        image_gradient = gradient_by_blocks if ctx.stride[0] == ctx.stride[1] > 1 else gradient_by_positions
        return image_gradient(gradient, weight, ctx.shape, ctx.stride, ctx.padding), None, None, None, None


def gradient_by_positions(gradient: Tensor, weight: Tensor, shape: torch.Size, stride: Pair, padding: Pair) -> Tensor:
    """Return the gradient for images of `shape` (N, C, H, W) from the `gradient` for the output (N, K, H', W')."""
    count, channels, height, width = shape
    kernels, _channels, down, across = weight.shape
    rows, columns = gradient.shape[2:]
    positions = weight.permute(2, 3, 1, 0).reshape(-1, kernels)
    spread = (positions @ gradient.permute(0, 2, 3, 1).reshape(-1, kernels).t()).view(
        down, across, channels, count, rows, columns
    )
    image = gradient.new_zeros(channels, count, height + 2 * padding[0], width + 2 * padding[1])
    for i in range(down):
        for j in range(across):
            pixels = (slice(i, i + rows * stride[0], stride[0]), slice(j, j + columns * stride[1], stride[1]))
            image[:, :, *pixels] += spread[i, j]
    inside = image[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
    return inside.transpose(0, 1)


def gradient_by_blocks(gradient: Tensor, weight: Tensor, shape: torch.Size, stride: Pair, padding: Pair) -> Tensor:
    """Return the same as `gradient_by_positions`, for a stride s that is the same in both directions.

    The kernel's position a + padding − s·d connects the output q + d with the pixel s·q + a. All pixels a of a block q
    depend on the same outputs, those with d from `first` to `last`: a convolution without a stride.
    """
    step, sizes = stride[0], shape[2:]
    last = [-(-before // step) for before in padding]
    empty = [step * d - before for d, before in zip(last, padding, strict=True)]
    taps = [-(-(size + zeros) // step) for size, zeros in zip(weight.shape[2:], empty, strict=True)]
    first = [d - number + 1 for d, number in zip(last, taps, strict=True)]
    behind = [step * n - size - zeros for n, size, zeros in zip(taps, weight.shape[2:], empty, strict=True)]
    filled = F.pad(weight, (empty[1], behind[1], empty[0], behind[0]))
    kernels, channels = weight.shape[:2]
    by_block = filled.view(kernels, channels, taps[0], step, taps[1], step).flip(2, 4).permute(1, 3, 5, 0, 2, 4)
    blocks = [-(-size // step) for size in sizes]
    margins = [
        max(0, -low, number + high - size)
        for low, number, high, size in zip(first, blocks, last, gradient.shape[2:], strict=True)
    ]
    packed = by_block.reshape(channels * step**2, kernels, *taps).contiguous(memory_format=torch.channels_last)
    convolved = F.conv2d(gradient, packed, padding=(margins[0], margins[1]))
    rows, columns = (slice(m + d, m + d + n) for m, d, n in zip(margins, first, blocks, strict=True))
    return F.pixel_shuffle(convolved[:, :, rows, columns], step)[:, :, : sizes[0], : sizes[1]]
