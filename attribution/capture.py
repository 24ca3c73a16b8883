"""Calls of a forward pass: recorded in their order, and the output of one of them captured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attribution.feature_maps import Reshape
from attribution.network import Network

ATTENTION = {"scaled_dot_product_attention", "multi_head_attention_forward"}
MOVING = {  # functions that return the same values in other places
    *("__getitem__", "chunk", "clone", "contiguous", "detach", "expand", "flatten", "flip", "movedim", "narrow", "pad"),
    *("permute", "reshape", "roll", "select", "split", "squeeze", "swapaxes", "t", "to", "transpose", "type_as"),
    *("unflatten", "unfold", "unsqueeze", "view", "view_as", "float", "interpolate", "upsample", "dropout"),
}


@dataclass(frozen=True)
class Layer:
    """A call whose output is an activation: of a module, or of a function such as `F.relu`.

    Attributes:
        name: for messages.
        module: the module that is called; None for a function.
        call: number of the call among those of the module, or of all functions, counted from 0.
        to_map: brings the output to (N, C, h, w).
    """

    name: str
    module: nn.Module | None
    call: int
    to_map: Reshape = field(compare=False)


class Captured:
    """Where `capture` puts the activation."""

    activation: Tensor


@contextmanager
def capture(layer: Layer, from_here: bool = False) -> Iterator[Captured]:
    """Hold the activation of `layer` during a forward pass in the `with` block.

    The network goes on with a copy, so that a following in-place operation leaves the captured tensor as it was.

    Args:
        from_here: detach the activation and make it a leaf, so that gradients stop there.
    """
    captured = Captured()

    def hold(output: Tensor) -> Tensor:
        captured.activation = output.detach().requires_grad_() if from_here else output
        return captured.activation.clone()

    if layer.module is None:
        with _FunctionHook(layer.call, hold):
            yield captured
        return
    calls = 0

    def hook(_module: nn.Module, _arguments: object, output: Any) -> Any:
        nonlocal calls
        calls += 1
        return _with_first_tensor_changed(output, hold) if calls == layer.call + 1 else None

    handle = layer.module.register_forward_hook(hook)
    try:
        yield captured
    finally:
        handle.remove()


def _with_first_tensor_changed(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a tensor or a tuple with its first tensor changed; None for other outputs."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        parts = (change(output[0]), *output[1:])
        return type(output)(*parts) if hasattr(output, "_fields") else parts
    return None


class _FunctionHook(TorchFunctionMode):
    """Changes the output of one call among all calls of PyTorch's functions that return a tensor."""

    def __init__(self, call: int, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.calls_before, self.change = call, change

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor):
            self.calls_before -= 1
            return self.change(output) if self.calls_before == -1 else output
        return output


@dataclass
class Call:
    """A call of a function, or else of a module, in a forward pass; `number` as in `Layer.call`."""

    name: str
    output: Tensor
    number: int
    module: nn.Module | None = None


def record_calls(network: Network, images: Tensor) -> list[Call]:
    """Return the calls that return a tensor in a forward pass of `images`, in their order."""
    recorder = _Recorder()
    numbers: dict[nn.Module, int] = {}

    def record(module: nn.Module, _arguments: object, output: Any) -> None:
        number = numbers[module] = numbers.get(module, -1) + 1
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            recorder.calls.append(Call(type(module).__name__, first, number, module))

    with ExitStack() as hooks:
        for module in network.modules().values():
            hooks.callback(module.register_forward_hook(record).remove)
        with recorder:
            network(images)
    return recorder.calls


class _Recorder(TorchFunctionMode):
    """Records the calls of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.functions = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").split(".")[0]
        if isinstance(output, Tensor):
            self.calls.append(Call(name if name in MOVING else name.rstrip("_"), output, self.functions))
            self.functions += 1
        elif name in ATTENTION:
            self.calls.append(Call(name, output[0], self.functions))
        return output
