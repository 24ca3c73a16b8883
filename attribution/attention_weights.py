"""Attention weights during a forward pass, whatever computes them.

PyTorch's fused attention and its multi-head attention are replaced by the same computation in single steps, for the
length of a `with` block: modules and their settings stay as they are. A softmax over rows is an attention already.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.function_calls import FunctionCalls, function_name
from common.errors import InputError

MHA = inspect.signature(F.multi_head_attention_forward)
UNKNOWN = ("bias_k", "bias_v", "key_padding_mask", "attn_mask", "static_k", "static_v", "q_proj_weight")


class AttentionWeights(FunctionCalls):
    """Within `with AttentionWeights(note):` each attention calls `note` with its weights, which it goes on with.

    These are (N, heads, queries, keys), or as the network has them.
    """

    def __init__(self, note: Callable[[Tensor], object]) -> None:
        super().__init__(self.call_noting)
        self.note = note

    def call_noting(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        name = function_name(function)
        if name == "scaled_dot_product_attention":
            return self.attend(*args, **kwargs)
        if name == "multi_head_attention_forward":
            return self.attend_with_heads(**MHA.bind(*args, **kwargs).arguments)
        output = function(*args, **kwargs)
        if name == "softmax" and output.ndim >= 3:
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            if axis is None or axis % output.ndim != output.ndim - 1:
                raise InputError(
                    "the network has a softmax over another axis than the last, and such attention isn't followed here"
                )
            self.note(output)
        return output

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Compute `F.scaled_dot_product_attention` of (…, T, d) by its definition."""
        if is_causal or enable_gqa:
            raise InputError("the network's attention is causal or shares keys: its weights aren't followed here")
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if attn_mask is not None:
            is_bool = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, float("-inf")) if is_bool else scores + attn_mask
        weights = scores.softmax(dim=-1)
        self.note(weights)
        return weights @ value

    def attend_with_heads(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        num_heads: int,
        in_proj_weight: Tensor,
        in_proj_bias: Tensor | None,
        out_proj_weight: Tensor,
        out_proj_bias: Tensor | None,
        need_weights: bool = True,
        average_attn_weights: bool = True,
        **more: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute `F.multi_head_attention_forward` of (T, N, E) for one weight matrix and no masks."""
        if in_proj_weight is None or more.get("add_zero_attn") or any(more.get(name) is not None for name in UNKNOWN):
            raise InputError("the network's multi-head attention has masks or added keys: its weights aren't followed")
        biases = [None] * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
        parts = zip((query, key, value), in_proj_weight.chunk(3), biases, strict=True)
        heads = [F.linear(*part).unflatten(2, (num_heads, -1)).permute(1, 2, 0, 3) for part in parts]
        weights: list[Tensor] = []
        note, self.note = self.note, weights.append
        try:
            attended = self.attend(*heads)
        finally:
            self.note = note
        note(weights[0])
        output = F.linear(attended.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias)
        shown = weights[0].mean(dim=1) if average_attn_weights else weights[0]
        return output, shown if need_weights else None
