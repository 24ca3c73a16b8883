"""SimpleCNN: three convolution blocks and two linear layers."""

from itertools import pairwise

from torch import Tensor, nn

WIDTHS = (32, 64, 128)
HIDDEN = 1024


def convolution_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """3×3 convolution, batch norm, ReLU, 2×2 max-pooling: halves height and width."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class SimpleCNN(nn.Module):
    """The plain classifier of the original White Box.

    1,284,042 parameters for 1×28×28 images, 2,202,122 for 3×32×32 images.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        """Args: `shape` (C, H, W) of an image; `classes` number of logits."""
        super().__init__()
        channels, height, width = shape
        widths = (channels, *WIDTHS)
        self.features = nn.Sequential(*(convolution_block(*pair) for pair in pairwise(widths)))
        shrink = 2 ** len(WIDTHS)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(WIDTHS[-1] * (height // shrink) * (width // shrink), HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, classes)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
