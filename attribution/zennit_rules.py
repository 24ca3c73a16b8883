"""zennit's rules for what networks compute by functions: zennit itself sees modules alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attribution.function_calls import function_name
from common.errors import InputError

NORMS_OF_IMAGES = {"layer_norm", "rms_norm", "group_norm", "instance_norm"}
POOLED = {"mean", "sum", "avg_pool2d", "adaptive_avg_pool2d"}
QUOTIENTS = {"div", "truediv", "itruediv"}
RECIPROCALS = {"reciprocal", "rdiv", "rtruediv"}
MULTIPLES = {"mul", "imul", "rmul", "neg", *QUOTIENTS}
OF_TWO = {
    **dict.fromkeys(("mul", "imul", "rmul"), "products"),
    **dict.fromkeys(QUOTIENTS, "quotients"),
    **dict.fromkeys(("sub", "isub", "rsub"), "differences"),
    **dict.fromkeys(("add", "iadd"), "weighted sums"),
}
"""Functions without a rule where both arguments are activations -> what they compute."""


def share_relevance(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a function; its relevance goes to activations by zennit's rules for modules that compute the same.

    The relevance of a sum, of two activations or over some axes, and of an average is shared in proportion to what is
    added; that of a multiple by constants or weights is the activation's.

    Raises:
        InputError: there is no such rule: the product or quotient of two activations, such as a gate, a difference or
            a weighted sum of two, or a norm whose statistics are of each image.
    """
    name = function_name(function).strip("_")
    if name in NORMS_OF_IMAGES:
        raise InputError(f"zennit has no rule for {name}: GC and IG explain the network")
    places = [place for place, value in enumerate(args) if isinstance(value, Tensor) and value.grad_fn is not None]
    if name in POOLED and places[:1] == [0]:
        return _Pooled.apply(args[0], lambda values: function(values, *args[1:], **kwargs))
    if len(places) == 2 and name in ("add", "iadd") and not kwargs:
        return _Sum.apply(*args)
    if len(places) == 2 and name in OF_TWO:
        raise InputError(f"zennit has no rule for {OF_TWO[name]} of activations: GC and IG explain the network")
    if places and (name in RECIPROCALS or (name in QUOTIENTS and places == [1])):
        raise InputError("zennit has no rule for a quotient by an activation: GC and IG explain the network")
    if len(places) == 1 and name in MULTIPLES and not kwargs:
        return _Multiple.apply(
            args[places[0]], lambda value: function(*args[: places[0]], value, *args[places[0] + 1 :])
        )
    return function(*args, **kwargs)


class _Sum(torch.autograd.Function):
    """The sum of two tensors with zennit's rule `Norm` in the place of its gradient."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return first + second

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor]:
        from zennit.core import Stabilizer

        first, second = ctx.saved_tensors
        share = relevance / Stabilizer(1e-6)(first + second)
        return (first * share).sum_to_size(first.shape), (second * share).sum_to_size(second.shape)


class _Pooled(torch.autograd.Function):
    """A sum or an average over some axes with zennit's rule `Norm` in the place of its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.pool = pool
        ctx.save_for_backward(values)
        return pool(values)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        from zennit.core import Stabilizer

        (values,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = values.detach().requires_grad_()
            pooled = ctx.pool(leaf)
        (share,) = torch.autograd.grad(pooled, leaf, relevance / Stabilizer(1e-6)(pooled.detach()))
        return values * share, None


class _Multiple(torch.autograd.Function):
    """A multiple of an activation with zennit's rule `Pass` in the place of its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, multiply: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.shape = values.shape
        return multiply(values)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        return relevance.sum_to_size(ctx.shape), None
