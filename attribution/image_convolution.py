"""A network's first convolution, with a faster way back to the image on a CPU.

The usual kernels work on blocks of 16 channels, of which an image has one or three. Without a stride, the gradient of
each output is spread over the kernel's places by one matrix product here, and the places are summed plane by plane.
With a stride of s, an output of the way back is a block of s×s pixels, so that there are s² times as many channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 4  # channels


class ImageConvolution(nn.Conv2d):
    """What `nn.Conv2d` is; made of one by `hasten`."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H', W')."""
        still = not any(parameter.requires_grad for parameter in self.parameters())
        if still and input.ndim == 4 and input.requires_grad and input.device.type == "cpu":
            output: Tensor = _Convolution.apply(input, self.weight, self.bias, self.stride, self.padding)
            return output
        return super().forward(input)


def hasten(model: nn.Module) -> None:
    """Give every convolution of few channels its other way back, in place; its name, weights and hooks stay."""
    for module in model.modules():
        if (
            type(module) is nn.Conv2d
            and module.in_channels <= FEW
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
        down, across = ctx.stride
        way = in_blocks if down == across > 1 else by_places
        return way(gradient, weight, ctx.shape, ctx.stride, ctx.padding), None, None, None, None


Pair = tuple[int, int]


def by_places(gradient: Tensor, weight: Tensor, shape: torch.Size, stride: Pair, padding: Pair) -> Tensor:
    """The gradient with respect to images of `shape` (N, C, H, W), of that of the output, (N, K, H', W')."""
    count, channels, height, width = shape
    kernels, _channels, down, across = weight.shape
    rows, columns = gradient.shape[2:]
    places = weight.permute(2, 3, 1, 0).reshape(-1, kernels)
    spread = (places @ gradient.permute(0, 2, 3, 1).reshape(-1, kernels).t()).view(
        down, across, channels, count, rows, columns
    )
    image = gradient.new_zeros(channels, count, height + 2 * padding[0], width + 2 * padding[1])
    for i in range(down):
        for j in range(across):
            reached = (slice(i, i + rows * stride[0], stride[0]), slice(j, j + columns * stride[1], stride[1]))
            image[:, :, *reached] += spread[i, j]
    inside = image[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
    return inside.transpose(0, 1)


def in_blocks(gradient: Tensor, weight: Tensor, shape: torch.Size, stride: Pair, padding: Pair) -> Tensor:
    """The same, for a stride s that is the same in both directions.

    The pixel s·q + a is reached from the output q + d by the kernel's place a + padding − s·d. All a of a block q look
    at the same outputs, those with d from `first` to `last`: a convolution without a stride.
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
        max(0, -d, number - 1 + most - (known - 1))
        for d, number, most, known in zip(first, blocks, last, gradient.shape[2:], strict=True)
    ]
    packed = by_block.reshape(channels * step**2, kernels, *taps).contiguous(memory_format=torch.channels_last)
    found = F.conv2d(gradient, packed, padding=(margins[0], margins[1]))
    rows, columns = (slice(m + d, m + d + n) for m, d, n in zip(margins, first, blocks, strict=True))
    return F.pixel_shuffle(found[:, :, rows, columns], step)[:, :, : sizes[0], : sizes[1]]
