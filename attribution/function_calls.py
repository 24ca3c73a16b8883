"""Seeing every call of PyTorch's functions, whichever module makes it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]


class FunctionCalls(TorchFunctionMode):
    """Within `with FunctionCalls(call):`, `call(function, args, kwargs)` stands for each call of a function."""

    def __init__(self, call: Callable[[Function, Sequence[Any], Mapping[str, Any]], Any]) -> None:
        super().__init__()
        self.call = call

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self.call(func, args, kwargs or {})


def function_name(function: Function) -> str:
    """Return the name without an overload: "relu.default" is relu, as an operator."""
    return getattr(function, "__name__", "").split(".")[0]
