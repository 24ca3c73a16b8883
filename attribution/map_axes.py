"""The axes of the feature maps in a forward pass: which ones are channels, height and width."""

import torch
from torch import Tensor

from attribution.capture import Call, record_calls
from attribution.feature_maps import CHANNELS_FIRST, CHANNELS_LAST, Axes, MapLayout, Reshape
from attribution.network import Network

CONVOLUTIONS = {"conv2d", "_conv_forward"}
NORMS = ("layer_norm", "rms_norm")
OF_CHANNELS_FIRST = {*CONVOLUTIONS, "batch_norm", "group_norm", "instance_norm", "max_pool2d", "avg_pool2d"}
OF_CHANNELS_LAST = {"linear", *NORMS}


def find_token_map(network: Network, images: Tensor, count: int) -> Reshape | None:
    """Return a function that brings `count` tokens (N, count, C) to (N, C, h, w); None if they lie on no grid."""
    return find_layout(record_calls(network, images), images, None).tokens_to_map(count)


def find_layout(calls: list[Call], images: Tensor, reshape: Reshape | None) -> MapLayout:
    """Return the layout of maps among the `calls` of a forward pass of two `images`."""
    of_images = [call for call in calls if call.output.ndim > 0 and len(call.output) == len(images)]
    outputs = [call.output for call in of_images if call.name in CONVOLUTIONS and call.output.ndim == 4]
    grids = [(int(output.shape[2]), int(output.shape[3])) for output in outputs]
    extra_tokens: dict[int, list[int]] = {}
    for first, second in (call.output.detach() for call in of_images if call.output.ndim == 3):
        is_extra = (first == second).all(dim=1)
        if not is_extra.all():  # otherwise these are no tokens of the images, but perhaps their positions
            extra_tokens.setdefault(len(is_extra), is_extra.nonzero().flatten().tolist())
    return MapLayout((images.shape[2], images.shape[3]), grids, extra_tokens, reshape)


def find_axes(calls: list[Call]) -> dict[Call, Axes]:
    """Return the axes of calls that return (N, …, …, …), where the calls before tell.

    A convolution's channels come first, a linear layer's last unless it reads a map with other axes; other functions
    leave the axes where they are, but for those that permute them. What can't be followed from tensor to tensor has the
    axes of the others of its shape, if these have the same.
    """
    of_tensor: dict[int, Axes] = {}  # the calls keep the tensors alive
    of_shape: dict[torch.Size, Axes | None] = {}
    found = {}
    for call in calls:
        shape, before = call.output.shape, call.input if isinstance(call.input, Tensor) else None
        if len(shape) != 4:
            continue
        followed = of_tensor.get(id(before))
        of_input = followed or (None if before is None else of_shape.get(before.shape))
        if id(call.output) in of_tensor:
            axes: Axes | None = of_tensor[id(call.output)]
        elif call.name in OF_CHANNELS_FIRST:
            axes = CHANNELS_FIRST
        elif call.name in OF_CHANNELS_LAST:
            axes = followed or CHANNELS_LAST
        elif call.order[:1] == (0,) and of_input is not None:
            channels, height, width = map(call.order.index, of_input)
            axes = channels, height, width
        else:
            axes = followed if before is not None and before.shape == shape and followed else of_shape.get(shape)
        if axes is not None:
            found[call] = of_tensor[id(call.output)] = axes
            of_shape[shape] = axes if of_shape.setdefault(shape, axes) == axes else None
    return found
