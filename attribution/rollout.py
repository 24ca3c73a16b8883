"""Attention rollout, and its form that is weighted by gradients, for networks that attend from tokens to tokens."""

from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from attribution.attention_weights import AttentionWeights
from attribution.feature_maps import Reshape
from attribution.gradcam import to_size_of
from attribution.gradient import target_logits
from attribution.layers import weighted_sum
from attribution.map_axes import find_token_map
from attribution.method import AttributionMethod
from attribution.network import Network, gradients, near
from common.errors import InputError

WEIGHT_BYTES = 2**28  # of all attention weights of a chunk, with their gradients


@dataclass(frozen=True)
class Readout:
    """The part of the relevance between tokens that belongs to the logits and the patches.

    Attributes:
        tokens: (T,), which sum to 1: the share of each token that the logits read.
        to_map: brings tokens (N, T, C) to (N, C, h, w).
        rows: number of images whose weights fit into memory.
    """

    tokens: Tensor
    to_map: Reshape
    rows: int

    def __call__(self, relevance: Tensor) -> Tensor:
        """Return the maps (N, 1, h, w) of the relevance (N, T, T) of each token for each token."""
        return self.to_map((self.tokens.to(relevance) @ relevance).unsqueeze(2))


class AttentionMethod(AttributionMethod):
    """Base of the methods that follow attention from the patches to the tokens that the logits read.

    These are the tokens through which the logits depend on the last attention: the class token, a distillation token
    beside it, or all patches behind average pooling. Their rows of the relevance are averaged.
    """

    network: Network

    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W).

        Raises:
            InputError: the network has no attention from tokens to tokens, or it isn't followed here.
        """
        memo, key, maps = self.network.memo, ("readout", inputs.shape[1:]), []
        if key not in memo:
            memo[key] = self.readout(torch.cat([inputs[:1], 1 - inputs[:1]]))
        readout: Readout = memo[key]
        for part in torch.arange(len(inputs), device=inputs.device).split(min(readout.rows, self.chunks.rows(inputs))):
            maps.append(readout(self.relevance(inputs[part], target[part])).detach())
        return to_size_of(inputs, torch.cat(maps))

    @abstractmethod
    def relevance(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return the relevance (N, T, T) of each token for each token."""

    def attend(self, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the attention weights (N, heads, T, T) of all layers, and the logits."""
        weights: list[Tensor] = []
        with AttentionWeights(weights.append):
            logits = self.network(inputs)
        return weights, logits

    @torch.enable_grad()
    def readout(self, pair: Tensor) -> Readout:
        if pair.ndim != 4:
            raise InputError(f"attention rollout needs images (N, C, H, W), and inputs {tuple(pair.shape)} are given")
        weights, logits = self.attend(pair.detach().requires_grad_())
        if not weights:
            raise InputError("the network has no attention over tokens: GC explains networks without")
        count = weights[0].shape[-1]
        for layer in weights:
            if layer.shape[0] != len(pair) or layer.ndim != 4 or layer.shape[2:] != (count, count):
                raise InputError(
                    "the network's attention is within windows, at several resolutions or into a pooled token, which "
                    "attention rollout is not defined for: GC explains it"
                )
        for before, layer in pairwise(weights):
            if layer.requires_grad and gradients(layer.sum(), before, retain_graph=True)[0] is None:
                raise InputError(
                    "the network's attention is no chain: one layer doesn't read the layer before it, as where the "
                    "logits of two networks are added, and attention rollout is not defined for it: IG explains it"
                )
        if not near(logits, self.network(pair)):
            raise InputError("the network's attention can't be followed: in single steps it gives other logits")
        (gradient,) = gradients(weighted_sum(logits), weights[-1]) if logits.requires_grad else (None,)
        is_read = torch.zeros(count) if gradient is None else gradient.abs().sum(dim=(0, 1, 3)) > 0
        if not is_read.any():
            raise InputError("the logits don't depend on the network's last attention: GC explains it")
        to_map = find_token_map(self.network, pair, count)
        if to_map is None:
            raise InputError(f"the network's {count} tokens lie on no grid over the image: IG explains it")
        rows = WEIGHT_BYTES // (2 * sum(layer[0].nbytes for layer in weights))
        return Readout(is_read.float() / is_read.sum(), to_map, max(1, rows))


class AttentionRollout(AttentionMethod):
    """ROLLOUT: the product of (A + 1)/2 over all layers, A averaged over heads, whatever the class.

    Abnar and Zuidema 2020 (arXiv 2005.00928, section 3): rows of A sum to 1, and half of each token is its residual.
    """

    @torch.no_grad()
    def relevance(self, inputs: Tensor, target: Tensor) -> Tensor:
        layers, _logits = self.attend(inputs)
        relevance = identity_like(layers[0][:, 0])
        for weights in layers:
            relevance = (weights.mean(dim=1) + identity_like(relevance)) / 2 @ relevance
        return relevance


class GradientRollout(AttentionMethod):
    """GRAD-ROLLOUT: R ← R + mean over heads of (∇A · A)⁺ R, from R = 1, with the gradient of the logit.

    Chefer et al. 2021 (arXiv 2103.15679, eqs. 5 and 6) for self-attention.
    """

    @torch.enable_grad()
    def relevance(self, inputs: Tensor, target: Tensor) -> Tensor:
        weights, logits = self.attend(inputs.detach().requires_grad_())
        slopes = gradients(target_logits(logits, target).sum(), *weights)
        relevance = identity_like(weights[0][:, 0])
        for layer, slope in zip(weights, slopes, strict=True):
            if slope is not None:
                relevance = relevance + (slope * layer.detach()).relu().mean(dim=1) @ relevance
        return relevance


def identity_like(weights: Tensor) -> Tensor:
    """Return the identity for each of weights (N, T, T)."""
    return torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device).expand_as(weights)
