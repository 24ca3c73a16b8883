"""Infidelity and maximum sensitivity (Yeh et al., NeurIPS 2019, arXiv 1901.09392)."""

import torch
from torch import Tensor, nn

from attribution.maps import compute_maps
from attribution.method import Method
from attribution.network import require_numbers


@torch.no_grad()
def infidelity(
    model: nn.Module, maps: Tensor, inputs: Tensor, target: Tensor, perturbations: Tensor, normalize: bool = True
) -> Tensor:
    """Return E[(β·Iᵀφ − (f(x) − f(x − I)))²] of each image, the error of its map's prediction.

    Definition 2.1 has β = 1; the fitted β is Captum's.

    Args:
        maps: φ, (N, C | 1, H, W); one channel counts for each of the image's.
        inputs: (N, C, H, W).
        target: (N,) int64; f is its logit.
        perturbations: I, (S, N, C, H, W).
        normalize: use the β that fits the map best, so that its unit does not matter; else β = 1.

    Returns:
        (N,).
    """

    def logit(images: Tensor) -> Tensor:
        logits = model(images).gather(1, target.view(-1, 1)).squeeze(1)
        require_numbers(logits)
        return logits

    whole = logit(inputs)
    predicted = (perturbations * maps).flatten(2).sum(dim=2)
    actual = torch.stack([whole - logit(inputs - perturbation) for perturbation in perturbations])
    if normalize:
        squared = (predicted * predicted).mean(dim=0)
        beta = (predicted * actual).mean(dim=0) / torch.where(squared > 0, squared, 1)
        predicted = beta * predicted
    return ((predicted - actual) ** 2).mean(dim=0)


def max_sensitivity(method: Method, maps: Tensor, inputs: Tensor, target: Tensor, perturbations: Tensor) -> Tensor:
    """Return max ‖φ(x + δ) − φ(x)‖ / ‖φ(x)‖ of each image, the relative change of its map.

    It is the maximum sensitivity (definition 3.1), divided by the size of the map as Captum does.

    Args:
        maps: φ(x), (N, C | 1, H, W).
        perturbations: δ, (S, N, C, H, W).

    Returns:
        (N,); 0 for a map that stays zero.
    """
    size = maps.flatten(1).norm(dim=1)
    worst = torch.zeros_like(size)
    for perturbation in perturbations:
        change = (compute_maps(method, inputs + perturbation, target) - maps).flatten(1).norm(dim=1)
        worst = torch.maximum(worst, change / torch.where(size > 0, size, 1))
    return worst
