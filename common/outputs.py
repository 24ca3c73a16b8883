"""Find the logits in the output of any classifier."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError

LogitsChoice = str | int | Callable[[Any], Tensor]
"""Key, attribute or position of the logits in the output, or a function of the output."""

_MOVING = {  # operations that keep what they are given, or keep it in bounds
    f"{name}Backward"
    for name in (
        *("View", "ReshapeAlias", "UnsafeView", "Squeeze", "Unsqueeze", "T", "Transpose", "Permute", "Clone", "ToCopy"),
        *("Slice", "Select", "Index", "Expand", "Cat", "Stack", "Clamp", "ClampMin", "ClampMax"),
    )
}
_SIGMOIDS = {"SigmoidBackward", "HardsigmoidBackward"}
_REQUIREMENT = "the network must return logits, one tensor of shape (images, classes), and returns"


def find_logits(output: Any, choice: LogitsChoice | None = None) -> Tensor:
    """Return the logits (N, K) in the output of a classifier.

    A tensor is the logits itself. In a tuple, a dict or an object, they are the part called `logits`, or else the only
    matrix.

    Args:
        choice: the place of the logits, if it is known.

    Raises:
        InputError: there is no matrix, or there are several.
    """
    if choice is not None:
        try:
            if callable(choice):
                return _require_matrix(choice(output))
            if isinstance(choice, str) and not isinstance(output, Mapping):
                return _require_matrix(getattr(output, choice))
            return _require_matrix(output[choice])
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise InputError(f"the network's output ({type(output).__name__}) has no part logits={choice!r}") from error
    if isinstance(output, Tensor):
        return _require_matrix(output)
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return _require_matrix(logits)
    parts = dict(iterate_tensors(output))
    matrices = [part for part in parts.values() if part.ndim == 2 and part.is_floating_point()]
    if len(matrices) == 1:
        return matrices[0]
    shapes = ", ".join(f"{name}: {tuple(part.shape)}" for name, part in parts.items()) or type(output).__name__
    raise InputError(f"{_REQUIREMENT} {shapes}: return them alone, or say which part they are with logits= of explain")


def require_logits(output: Tensor) -> None:
    """Raise `InputError` for probabilities (N, K), of which the softmax would be taken once more.

    The last operations tell a sigmoid, also of several heads, as long as the output has a graph.
    """
    is_share = output.shape[1] > 1 and bool((output >= 0).all())
    tolerance = max(1e-3, torch.finfo(output.dtype).eps)
    if is_share and bool(((output.float().sum(dim=1) - 1).abs() < tolerance).all()):
        raise InputError("the network returns probabilities, and logits are needed: leave out its softmax")
    kinds = set(_last_operations(output.grad_fn))
    if kinds and kinds <= _SIGMOIDS:
        several = ", and only networks with one class an image are taken" if output.shape[1] > 1 else ""
        raise InputError(f"the network returns probabilities, and logits are needed: leave out its sigmoid{several}")


def _last_operations(operation: Any) -> Iterator[str]:
    """Yield the kinds of the operations behind those that keep their values: behind `operation`, of the graph."""
    kind = "" if operation is None else operation.name().rstrip("0123456789")
    if kind in _MOVING:
        for before, _place in operation.next_functions:
            yield from _last_operations(before)
    elif kind:
        yield kind


def _require_matrix(logits: Any) -> Tensor:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.is_floating_point():
        shape = f" {logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else ""
        raise InputError(f"{_REQUIREMENT} {type(logits).__name__}{shape}")
    return logits


def iterate_tensors(output: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor in nested tuples, lists and dicts with its place."""
    if isinstance(output, Tensor):
        yield prefix or "0", output
    elif isinstance(output, Mapping | Sequence) and not isinstance(output, str):
        for place, part in output.items() if isinstance(output, Mapping) else enumerate(output):
            yield from iterate_tensors(part, f"{prefix}.{place}".strip("."))
