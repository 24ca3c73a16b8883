"""Calls of a forward pass: recorded in their order, and the output of one of them captured."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from attribution.feature_maps import Reshape
from attribution.function_calls import FunctionCalls, function_name, is_scripted
from attribution.network import Network
from common.errors import InputError

ATTENTION = {"scaled_dot_product_attention", "multi_head_attention_forward"}
MOVING = {  # functions that return the same values in other places
    *("__getitem__", "chunk", "clone", "contiguous", "detach", "expand", "flatten", "flip", "movedim", "narrow", "pad"),
    *("permute", "reshape", "roll", "select", "split", "squeeze", "swapaxes", "t", "to", "transpose", "type_as"),
    *("unflatten", "unfold", "unsqueeze", "view", "view_as", "float", "interpolate", "upsample", "dropout"),
}
PERMUTING = {"permute", "movedim", "moveaxis", "transpose", "swapaxes", "swapdims"}


@dataclass(frozen=True)
class Layer:
    """A call whose output is an activation: of a module, or of a function such as `F.relu`.

    Attributes:
        name: for messages.
        module: the module that is called; None for a function.
        call: number of the call among those of the module, or of all functions, counted from 0.
        calls: how many of these there are in a forward pass.
        to_map: brings the output to (N, C, h, w).
    """

    name: str
    module: nn.Module | None
    call: int
    calls: int
    to_map: Reshape = field(compare=False)


class Captured:
    """A holder for the activation that `capture` notes: None before the call."""

    activation: Tensor | None = None


@contextmanager
def capture(layer: Layer, from_here: bool = False) -> Iterator[Captured]:
    """Hold the activation of `layer` during a forward pass in the `with` block.

    The network goes on with a copy, so that a following in-place operation leaves the captured tensor as it was.

    Args:
        from_here: detach the activation and make it a leaf, so that gradients stop there.
    """
    captured = Captured()

    def hold(output: Tensor) -> Tensor:
        activation = captured.activation = output.detach().requires_grad_() if from_here else output
        return activation.clone()

    with changed_output(layer, hold):
        yield captured


@contextmanager
def changed_output(layer: Layer, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the output of `layer` by `change(output)` in a forward pass in the `with` block.

    Raises:
        InputError: the pass has more or fewer calls than the one in which the layer was found.
    """
    calls = count()

    def call_function(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        output = function(*args, **kwargs)
        return change(output) if isinstance(output, Tensor) and next(calls) == layer.call else output

    def hook(_module: nn.Module, _arguments: object, output: Any) -> Any:
        return _with_first_tensor_changed(output, change) if next(calls) == layer.call else None

    with ExitStack() as stack:
        if layer.module is None:
            stack.enter_context(FunctionCalls(call_function))
        else:
            stack.callback(layer.module.register_forward_hook(hook).remove)
        yield
        if (number := next(calls)) != layer.calls:
            raise InputError(
                f"layer {layer.name!r} is one of {layer.calls} calls for two images, and of {number} for these, so "
                "that its place can't be told: give a module that is called once as layer="
            )


def _with_first_tensor_changed(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a tensor or a tuple with its first tensor changed; None for other outputs."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        parts = (change(output[0]), *output[1:])
        return type(output)(*parts) if hasattr(output, "_fields") else parts
    return None


@dataclass(eq=False)
class Call:
    """A call of a function, or else of a module, in a forward pass; `number` and `total` as in `Layer`.

    Attributes:
        input: the first argument.
        order: of a function that permutes the four axes of its input, the axis there of each axis of the output.
    """

    name: str
    output: Tensor
    number: int
    module: nn.Module | None = None
    input: object = None
    order: tuple[int, ...] = ()
    total: int = 0


def require_visible_calls(network: Network) -> None:
    """Raise `InputError` if the network is scripted, so that its calls of functions can't be seen."""
    if network.root is not None and is_scripted(network.root):
        raise InputError(
            "the calls in a scripted module can't be seen, which GC, CO, GB and DeconvNet need: give the module before "
            "scripting; VBP, IB and IG explain it as it is"
        )


def _order(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the `Call.order` of a call."""
    lengths = (1, 2, 3, 4)
    if args and isinstance(args[0], Tensor):
        args = args[0].new_empty(lengths, device="meta"), *args[1:]
    else:
        kwargs = {**kwargs, "input": torch.empty(lengths, device="meta")}
    return tuple(map(lengths.index, function(*args, **kwargs).shape))


def record_calls(network: Network, images: Tensor) -> list[Call]:
    """Return the calls that return a tensor in a forward pass of `images`, in their order.

    Raises:
        InputError: the network is scripted.
    """
    require_visible_calls(network)
    calls: list[Call] = []
    function_numbers = count()
    module_numbers: defaultdict[nn.Module, Iterator[int]] = defaultdict(count)

    def call_function(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        output, name = function(*args, **kwargs), function_name(function)
        if isinstance(output, Tensor):
            name, first = name if name in MOVING else name.rstrip("_"), args[0] if args else None
            order = _order(function, args, kwargs) if name in PERMUTING and output.ndim == 4 else ()
            calls.append(Call(name, output, next(function_numbers), input=first, order=order))
        elif name in ATTENTION:
            calls.append(Call(name, output[0], -1))
        return output

    def hook(module: nn.Module, arguments: Sequence[Any], output: Any) -> None:
        number = next(module_numbers[module])
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            calls.append(Call(type(module).__name__, first, number, module, arguments[0] if arguments else None))

    with ExitStack() as stack:
        for module in network.modules().values():
            stack.callback(module.register_forward_hook(hook).remove)
        stack.enter_context(FunctionCalls(call_function))
        network(images)
    totals = {None: next(function_numbers)} | {module: next(numbers) for module, numbers in module_numbers.items()}
    for call in calls:
        call.total = totals[call.module]
    return calls
