"""Gradients of a single image through norms, which PyTorch gets wrong on the processor."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from attribution.function_calls import FunctionCalls, function_name

NORMS = {"batch_norm", "instance_norm"}


@contextmanager
def right_gradients(model: nn.Module | None) -> Iterator[None]:
    """Give single images the gradients through batch and instance norms that they have in pairs, in the `with` block.

    PyTorch (2.14, on the processor) reads the gradient of a map (1, C, H, W) that comes from its tokens (1, H·W, C) in
    the wrong order.
    """
    if model is None or any("norm" in type(module).__name__.lower() for module in model.modules()):
        with FunctionCalls(_call):
            yield
    else:
        yield


def _call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    output = function(*args, **kwargs)
    if function_name(function) in NORMS and len(output) == 1 and output.requires_grad:
        output.register_hook(Tensor.contiguous)
    return output
