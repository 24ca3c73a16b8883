"""Integrated gradients, by quadrature rules whose weights sum to one."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attribution import BASELINES, STEPS
from attribution.gradient import GradientMethod, target_logits
from attribution.method import Target, checked_target
from common.errors import InputError


class IntegratedGradients(GradientMethod):
    """IG: (x − x′) · ∫₀¹ ∂f_c/∂x (x′ + α (x − x′)) dα (Sundararajan et al. 2017, arXiv 1703.01365, eq. 1)."""

    def __init__(
        self,
        model: Callable[..., Any],
        steps: int = STEPS,
        rule: str = "composite",
        baseline: str | Tensor = "black",
        black: Tensor | None = None,
        mean: Tensor | None = None,
    ) -> None:
        """Choose the quadrature and the baseline.

        Args:
            steps: nodes of the quadrature.
            rule: "composite", "gauss-legendre" (one interval, exact for polynomials of degree 2·steps − 1 along the
                path) or "midpoint". In a network of ReLUs the gradient jumps along the path, so that evenly spread
                nodes mostly help more than a high degree.
            baseline: x′: "black", "mean", or a tensor that broadcasts to (C, H, W), as the network sees it, or to
                (N, C, H, W), a baseline for each image.
            black: (C,), a black pixel as the network sees it, or (C, H, W), a black image; without it black is 0.
            mean: (C,), the mean pixel of the images as the network sees them.

        Raises:
            InputError: unknown rule or baseline, one that is not finite, steps below 1, "mean" without `mean`.
        """
        if rule not in RULES or steps < 1:
            raise InputError(f"IG integrates by {' or '.join(RULES)} with 1 or more steps, not {rule!r} with {steps}")
        super().__init__(model)
        self.nodes, self.weights = RULES[rule](steps)
        self.baseline = baseline if isinstance(baseline, Tensor) else named_baseline(baseline, black, mean)
        if not self.baseline.isfinite().all():
            raise InputError("IG's baseline holds values that are not finite: give another with baseline=")
        self.is_by_channel = not isinstance(baseline, Tensor) and self.baseline.ndim == 1

    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, …), (N,) -> (N, …).

        Raises:
            InputError: the baseline doesn't fit the inputs.
        """
        baseline = self._baseline_of(inputs)
        total = torch.zeros_like(inputs)
        nodes_at_once = max(1, self.chunks.rows(inputs) // len(inputs))
        for start in range(0, len(self.nodes), nodes_at_once):
            part = slice(start, start + nodes_at_once)
            nodes = torch.tensor(self.nodes[part], dtype=inputs.dtype, device=inputs.device)
            points = baseline + nodes.view(-1, *[1] * inputs.ndim) * (inputs - baseline)
            gradients = self.gradient(points.flatten(0, 1), target.repeat(len(nodes))).view_as(points)
            for weight, gradient in zip(self.weights[part], gradients, strict=True):
                total += weight * gradient
        return (inputs - baseline) * total

    def has_baseline_for_each(self, inputs: Tensor) -> bool:
        """Return whether each of `inputs` (N, …) has a baseline of its own."""
        return self.baseline.ndim == inputs.ndim and len(self.baseline) > 1

    @torch.no_grad()
    def completeness_gap(self, inputs: Tensor, target: Target, attributions: Tensor) -> Tensor:
        """Return |Σ attributions − (f_c(x) − f_c(x′))| / |f_c(x) − f_c(x′)|, (N,): 0 for an exact integral."""
        inputs = self._checked_inputs(inputs)
        with self.network.prepared(inputs):
            classes = checked_target(target, len(inputs), self.network.classes, inputs.device)
            difference = self._logits(inputs, classes) - self._logits(self._baseline_of(inputs), classes)
        return (attributions.flatten(1).sum(1) - difference).abs() / difference.abs()

    def _logits(self, inputs: Tensor, target: Tensor) -> Tensor:
        network, chunks = self.network, self.chunks(inputs)
        return torch.cat([target_logits(network(inputs[part]), target[part]) for part in chunks])

    def _baseline_of(self, inputs: Tensor) -> Tensor:
        baseline = self.baseline.to(inputs)
        if self.is_by_channel:
            baseline = baseline.view(-1, *[1] * (inputs.ndim - 2))
        try:
            return baseline.expand_as(inputs)
        except RuntimeError as error:
            shapes = f"{tuple(baseline.shape)} for images {tuple(inputs.shape)}"
            raise InputError(f"IG has a baseline of shape {shapes}: give one image, or one for each") from error


def named_baseline(name: str, black: Tensor | None, mean: Tensor | None) -> Tensor:
    """Return the image called `name` as the network sees it: each channel, (C or 1,), or the image (C, H, W).

    Raises:
        InputError: unknown name, or "mean" of images whose mean is not known.
    """
    if name not in BASELINES:
        raise InputError(f"unknown baseline {name!r}: choose black or mean, or give a tensor")
    if name == "mean" and mean is None:
        raise InputError("IG doesn't know the images' mean: give it with mean=, a value for each channel")
    pixel = black if name == "black" else mean
    pixel = torch.zeros(1) if pixel is None else torch.as_tensor(pixel)
    return pixel if pixel.ndim == 3 else pixel.view(-1)


@cache
def gauss_legendre(steps: int) -> tuple[list[float], list[float]]:
    """Return nodes and weights on [0, 1], exact for polynomials up to degree 2·steps − 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return ((1 + nodes) / 2).tolist(), (weights / math.fsum(weights)).tolist()


@cache
def composite(steps: int) -> tuple[list[float], list[float]]:
    """Return Gauss–Legendre with two nodes on each of equal parts of [0, 1], three on the last if `steps` is odd.

    Exact for polynomials up to degree 3, with one node up to degree 1.
    """
    counts = [2] * (steps // 2)
    if steps % 2:
        counts = [*counts[:-1], 3] if counts else [1]
    nodes, weights, start = [], [], 0
    for count in counts:
        own_nodes, own_weights = gauss_legendre(count)
        nodes += [(start + count * node) / steps for node in own_nodes]
        weights += [count * weight / steps for weight in own_weights]
        start += count
    return nodes, weights


def midpoint(steps: int) -> tuple[list[float], list[float]]:
    """Return the middles of `steps` equal parts of [0, 1], and their length."""
    return [(step + 0.5) / steps for step in range(steps)], [1 / steps] * steps


RULES: dict[str, Callable[[int], tuple[list[float], list[float]]]] = {
    "composite": composite,
    "gauss-legendre": gauss_legendre,
    "midpoint": midpoint,
}
