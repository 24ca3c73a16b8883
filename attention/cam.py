"""Class activation mapping: Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016."""

from torch import Tensor, nn


class CAMHead(nn.Module):
    """Global average pooling and a linear layer: S_c = Σ_k w_kc · mean_xy f_k(x, y), section 2 of the paper.

    M_c(x, y) = Σ_k w_kc f_k(x, y) (eq. 2) is the contribution of each position to S_c, without the bias.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, activation: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, classes)."""
        return self.linear(activation.mean(dim=(2, 3)))
