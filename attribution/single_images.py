"""Gradients of a single image through norms, which PyTorch gets wrong on the processor."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from attribution.function_calls import FunctionCalls, function_name

NORMS = {"batch_norm", "instance_norm", "native_batch_norm"}


def right_gradients() -> FunctionCalls:
    """Give single images the gradients through batch and instance norms that they have in pairs, in a `with` block.

    A map (1, C, H, W) that was made of tokens (1, H·W, C) lies in memory as if it were contiguous with channels last,
    and has another stride for the image. PyTorch (2.14, on the processor) reads it in the wrong order in the backward
    pass of a norm, if it is the norm's input or the gradient of its output, and not both.
    """
    return FunctionCalls(_call)


def _call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if function_name(function) not in NORMS:
        return function(*args, **kwargs)
    args = [_plainly_laid_out(value) for value in args]
    output = function(*args, **{name: _plainly_laid_out(value) for name, value in kwargs.items()})
    normalised = output[0] if isinstance(output, tuple) else output
    if isinstance(normalised, Tensor) and len(normalised) == 1 and normalised.requires_grad:
        normalised.register_hook(Tensor.contiguous)
    return output


def _plainly_laid_out(value: Any) -> Any:
    """Return a map of a single image contiguous in memory, and anything else as it is."""
    return value.contiguous() if isinstance(value, Tensor) and value.ndim > 2 and len(value) == 1 else value
