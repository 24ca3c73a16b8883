"""Seeing every call of PyTorch's functions, whichever module makes it."""

from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import Any

from torch import nn
from torch.jit import ScriptFunction, ScriptModule
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily

Function = Callable[..., Any]

MULTIPLYING = frozenset({"linear", "matmul", "rmatmul", "mm", "bmm", "addmm", "baddbmm", "einsum"}) | {
    f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3)
}
"""The names, without underscores around them, of the functions that multiply activations by weights."""
_scripts: Any = ScriptFunction
SCRIPTED = "scripted "  # before the name of a function whose own calls can't be seen


class FunctionCalls(TorchFunctionMode):
    """Within `with FunctionCalls(call):`, `call(function, args, kwargs)` stands for each call of a function.

    A function that `torch.jit.script` has compiled is one of them, see `SCRIPTED`.
    """

    def __init__(self, call: Callable[[Function, Sequence[Any], Mapping[str, Any]], Any]) -> None:
        super().__init__()
        self.call = call

    def __enter__(self) -> Any:
        before, thread = _scripts.__call__, get_ident()
        self._call_script = before

        def call_script(script: ScriptFunction, *args: Any, **kwargs: Any) -> Any:
            if get_ident() != thread:  # modes are of a single thread
                return before(script, *args, **kwargs)

            def function(*args: Any, **kwargs: Any) -> Any:
                return before(script, *args, **kwargs)

            function.__name__ = f"{SCRIPTED}{script.name}"
            with _pop_mode_temporarily():  # as PyTorch does for other functions
                return self.call(function, args, kwargs)

        _scripts.__call__ = call_script
        return super().__enter__()

    def __exit__(self, *error: Any) -> Any:
        _scripts.__call__ = self._call_script
        return super().__exit__(*error)

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self.call(func, args, kwargs or {})


def is_scripted(model: nn.Module) -> bool:
    """Return whether `torch.jit.script` or `trace` has compiled the model or a part of it."""
    return any(isinstance(part, ScriptModule) for part in model.modules())


def function_name(function: Function) -> str:
    """Return the name without an overload: "relu.default" is relu, as an operator."""
    return getattr(function, "__name__", "").split(".")[0]
