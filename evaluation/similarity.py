"""Similarity of two maps of the same image."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_SIGMA, SSIM_REACH = 1.5, 5  # of the Gaussian window, 11×11 pixels where the image has so many
K1, K2 = 0.01, 0.03


def rank_correlation(maps: Tensor, others: Tensor) -> npt.NDArray[np.float64]:
    """Return Spearman's rank correlation of each pair of maps (N, …): (N,); 0 where a map is constant."""
    from scipy.stats import rankdata  # here, since it takes a second to import

    first, second = (rankdata(values.flatten(1).cpu().numpy(), axis=1) for values in (maps, others))
    first, second = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (first, second))
    scale = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return (first * second).sum(axis=1) / np.where(scale > 0, scale, 1)


def window_size(height: int, width: int) -> int:
    """Return the side of SSIM's window: 11 pixels (Wang et al. 2004, section III.C) or the largest odd one that fits.

    A window within the image needs no padding. The Gaussian keeps its σ, so that 7×7 pixels have 97 % of its weight.
    """
    return 1 + 2 * min(SSIM_REACH, (min(height, width) - 1) // 2)


def structural_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """Return SSIM (Wang et al. 2004, equation 13) of each pair of maps (N, C, H, W) with values from 0 to 1: (N,).

    It is the mean over windows within the image, weighted by a Gaussian of σ 1.5 over `window_size` pixels each way.
    """
    channels, height, width = maps.shape[1:]
    reach = window_size(height, width) // 2
    offsets = torch.arange(-reach, reach + 1, device=maps.device, dtype=torch.float64)
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    window = torch.outer(weights, weights).expand(channels, 1, -1, -1)

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window, groups=channels)

    x, y = maps.double(), others.double()
    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + K1**2) / (mean_x**2 + mean_y**2 + K1**2)
    structure = (2 * covariance + K2**2) / (variance_x + variance_y + K2**2)
    return (luminance * structure).flatten(1).mean(dim=1)


def rescale(maps: Tensor) -> Tensor:
    """Shift and scale each map (N, C, H, W) to the range from 0 to 1; a constant map becomes 0."""
    low, high = maps.amin(dim=(1, 2, 3), keepdim=True), maps.amax(dim=(1, 2, 3), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)
