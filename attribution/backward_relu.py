"""Another backward pass for every ReLU of a network, for the length of a `with` block.

The rule replaces the call of the function, and is not hooked to a module. So it holds for `nn.ReLU`, `F.relu`,
`torch.relu`, `Tensor.relu`, in place or not, reused or not, and for `clamp(min=0)`, `threshold(0, 0)` and
`maximum(x, 0)`. The gradient of a skip path that leaves before a ReLU is added after the rule.

Other rectifiers (leaky, smooth or bounded ones) have no rule: the papers define theirs for ReLU alone, and so do
Captum, zennit, pytorch-grad-cam and TorchRay. They are refused, and so is a network that calls no ReLU at all, where
the rule would silently be the plain gradient. Activation modules are known by what they compute, in whatever functions
(`attribution.activation_modules`); x · sigmoid(x), written out in the network's own forward pass, counts as a gate.
Gates and saturating units (sigmoid, softmax, tanh, hardsigmoid, GLU), clamping to other bounds and max-pooling keep
their own derivative, and a user's own autograd function keeps its backward pass.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from attribution.function_calls import SCRIPTED, FunctionCalls, function_name
from common.errors import InputError

OTHER_RECTIFIERS = {
    *("leaky_relu", "prelu", "rrelu"),
    *("celu", "elu", "gelu", "mish", "selu", "silu", "softplus"),
    *("hardshrink", "hardswish", "hardtanh", "relu6", "softshrink"),
    *("rnn_relu", "rnn_relu_cell"),  # a whole recurrent layer, whose ReLUs can't be seen
}

THRESHOLD = ("threshold", "value")

Rule = type[torch.autograd.Function]


class Deconvolved(torch.autograd.Function):
    """R -> max(R, 0), whatever the sign of the activation (Zeiler and Fergus 2014)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, in_place: bool) -> Tensor:
        return positive_part(ctx, x, in_place)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        return relevance.clamp(min=0), None


class Switch:
    """On or off, as a backward pass finds it when it runs, in whatever thread."""

    on = False


class Guided(torch.autograd.Function):
    """R -> max(R, 0) · 1[x > 0] (Springenberg et al. 2015).

    It is ReLU's own derivative while a switch is off, so that one forward pass serves both.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, in_place: bool, guiding: Switch | None = None) -> Tensor:
        output = positive_part(ctx, x, in_place)
        ctx.save_for_backward(output)  # positive where x is, and saved by the next layer anyway
        ctx.guiding = guiding
        return output

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        plain = torch.ops.aten.threshold_backward(relevance, ctx.saved_tensors[0], 0)
        return plain.clamp_(min=0) if ctx.guiding is None or ctx.guiding.on else plain, None, None


def positive_part(ctx: Any, x: Tensor, in_place: bool) -> Tensor:
    """Return max(x, 0), in the place of x if `in_place`."""
    if not in_place:
        return x.clamp(min=0)
    ctx.mark_dirty(x)
    return x.clamp_(min=0)


class BackwardReLU(FunctionCalls):
    """Within `with BackwardReLU(rule):` every ReLU that is called has `rule` as its backward pass."""

    def __init__(self, rule: Rule, *settings: Switch) -> None:
        """`settings`: arguments of `rule` after the activation and whether to work in place."""
        super().__init__(self.call_with_rule)
        self.rule, self.settings, self.has_applied = rule, settings, False

    def call_with_rule(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Raises `InputError` for a rectifier that is no ReLU, and for a function that may hide one."""
        full_name = function_name(function)
        if full_name.startswith(SCRIPTED):
            raise InputError(
                f"the network calls a {full_name}, in which DeconvNet and GB see no ReLU: give the function before "
                "scripting; VBP, IB, IG, GC and CO explain it as it is"
            )
        name = full_name.strip("_")
        x = rectifier_input(name, args, kwargs)
        if x is None or not (torch.is_grad_enabled() and x.requires_grad):
            return function(*args, **kwargs)
        if name in OTHER_RECTIFIERS or (name == "threshold" and any((*args[1:3], *map(kwargs.get, THRESHOLD)))):
            refuse_rectifier(name)
        self.has_applied = True
        in_place = full_name.endswith("_") or kwargs.get("inplace") or (args and args[-1] is True)
        return self.rule.apply(x, bool(in_place), *self.settings)

    def require_applied(self) -> None:
        """Raise `InputError` if no ReLU was called, so that the backward pass is the plain one."""
        if not self.has_applied:
            raise InputError(
                "the network calls no ReLU, so that DeconvNet and GB would be the plain gradient, which VBP is; IG and "
                "GC explain it, too"
            )


def refuse_rectifier(name: str) -> NoReturn:
    """Raise `InputError` for a rectifier that is no ReLU."""
    raise InputError(
        f"the network uses {name}: DeconvNet and GB are defined for ReLU only; IG, GC and, with attention over tokens, "
        "GRAD-ROLLOUT explain it"
    )


def rectifier_input(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the tensor that a call of the function `name` rectifies; None if the call is no rectifier's."""
    first, second, third = (*args, None, None, None)[:3]
    x: Tensor = kwargs.get("input", first)
    if name == "relu" or name == "threshold" or name in OTHER_RECTIFIERS:
        return x
    if name in {"clamp", "clip", "clamp_min"}:
        low = kwargs.get("min", second)
        high = None if name == "clamp_min" else kwargs.get("max", third)
        return x if high is None and is_zero(low) else None
    if name in {"maximum", "max"} and isinstance(first, Tensor) and isinstance(second, Tensor):
        x, other = (second, first) if is_zero(first) else (first, second)
        return x if is_zero(other) and torch.broadcast_shapes(x.shape, other.shape) == x.shape else None
    return None


def is_zero(value: object) -> bool:
    """Return whether `value` is 0, or a constant tensor of zeros."""
    if isinstance(value, Tensor):
        return not value.requires_grad and value.is_floating_point() and not value.any()
    return isinstance(value, int | float) and value == 0
