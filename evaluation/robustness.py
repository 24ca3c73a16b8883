"""Infidelity and maximum sensitivity (Yeh et al., NeurIPS 2019, arXiv 1901.09392), on given perturbations."""

import torch
from torch import Tensor, nn

from attribution.maps import compute_maps
from attribution.method import Method


@torch.no_grad()
def infidelity(
    model: nn.Module, maps: Tensor, inputs: Tensor, target: Tensor, perturbations: Tensor, scaled: bool = True
) -> Tensor:
    """E[(β·Iᵀφ − (f(x) − f(x − I)))²] of each image (definition 2.1): what a map says of a change, and what happens.

    Args:
        maps: φ, (N, C | 1, H, W); one channel counts for each of the image's.
        inputs: (N, C, H, W).
        target: (N,) int64; f is its logit.
        perturbations: I, (S, N, C, H, W).
        scaled: with the β that suits the map best, so that a map's unit does not matter; else β = 1.

    Returns:
        (N,).
    """

    def logit(images: Tensor) -> Tensor:
        return model(images).gather(1, target.view(-1, 1)).squeeze(1)

    whole = logit(inputs)
    said = (perturbations * maps).flatten(2).sum(dim=2)
    happened = torch.stack([whole - logit(inputs - one) for one in perturbations])
    if scaled:
        squared = (said * said).mean(dim=0)
        beta = (said * happened).mean(dim=0) / torch.where(squared > 0, squared, 1)
        said = beta * said
    return ((said - happened) ** 2).mean(dim=0)


def max_sensitivity(method: Method, maps: Tensor, inputs: Tensor, target: Tensor, perturbations: Tensor) -> Tensor:
    """max ‖φ(x + δ) − φ(x)‖ / ‖φ(x)‖ of each image (definition 3.1): how much a map changes where nothing else does.

    Args:
        maps: φ(x), (N, C | 1, H, W).
        perturbations: δ, (S, N, C, H, W).

    Returns:
        (N,); 0 for a map of zeros that stays one.
    """
    size = maps.flatten(1).norm(dim=1)
    worst = torch.zeros_like(size)
    for one in perturbations:
        changed = (compute_maps(method, inputs + one, target) - maps).flatten(1).norm(dim=1)
        worst = torch.maximum(worst, changed / torch.where(size > 0, size, 1))
    return worst
