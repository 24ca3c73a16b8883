"""Initial weights of deep networks."""

from torch import nn


def he_initialise(model: nn.Module) -> None:
    """Initialise the convolutions as He et al. 2015 (arXiv 1502.01852, eq. 10)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
