"""SimpleCNN: three convolution blocks and two linear layers; with a CAM head, and with CBAM in each block."""

from collections import OrderedDict
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from attention.cam import CAMHead
from attention.cbam import CBAM

WIDTHS = (32, 64, 128)
HIDDEN = 1024
AUXILIARY_WEIGHT = 0.3
"""Weight of the auxiliary head in the loss (Szegedy et al. 2015, arXiv 1409.4842, section 5)."""

Shape = tuple[int, int, int]


def convolution_layer(in_channels: int, out_channels: int, cbam: bool = False) -> nn.Sequential:
    """Return 3×3 convolution, batch norm, CBAM or not (its place in the authors' residual units), ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        *([CBAM(out_channels)] if cbam else []),
        nn.ReLU(),
    )


class PooledLayer(nn.Sequential):
    """A layer, ReLU and max-pooling; training pools before the ReLU.

    Both orders give bit-identical outputs and gradients, and after pooling the ReLU has a quarter of the values. In
    evaluation mode the modules run in order, so that the ReLU's output can be explained.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H/2, W/2)."""
        if not self.training:
            return super().forward(input)
        *layer, relu, pool = self
        for module in layer:
            input = module(input)
        return relu(pool(input))


def convolution_block(in_channels: int, out_channels: int, cbam: bool = False) -> nn.Sequential:
    """Return a convolution layer and 2×2 max-pooling."""
    return PooledLayer(*convolution_layer(in_channels, out_channels, cbam), nn.MaxPool2d(2))


def linear_head(shape: Shape, classes: int) -> tuple[nn.Module, ...]:
    """Return two linear layers for the pooled features of images of `shape` (C, H, W)."""
    _channels, height, width = shape
    shrink = 2 ** len(WIDTHS)
    features = WIDTHS[-1] * (height // shrink) * (width // shrink)
    return nn.Flatten(), nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes)


class SimpleCNN(nn.Module):
    """The plain classifier of the original White Box.

    1,284,042 parameters for 1×28×28 images, 2,202,122 for 3×32×32 images.
    """

    layers = tuple(f"features.{block}.2" for block in range(len(WIDTHS)))
    attention_layers: tuple[str, ...] = ()

    def __init__(self, shape: Shape, classes: int) -> None:
        """Args: `shape` (C, H, W) of an image; `classes` number of logits."""
        super().__init__()
        self.features = nn.Sequential(*(convolution_block(*pair) for pair in pairwise((shape[0], *WIDTHS))))
        _flatten, *head = linear_head(shape, classes)  # `forward` flattens, since LRP has no rule for `nn.Flatten`
        self.classifier = nn.Sequential(OrderedDict((str(place), module) for place, module in enumerate(head, start=1)))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, classes)."""
        return self.classifier(self.features(images).flatten(1))


class TwoHeads(nn.Module):
    """SimpleCNN with a CAM head on the last ReLU, beside the max-pooling and the linear head.

    One head predicts; the other is an auxiliary classifier during training (deep supervision, Lee et al. 2015,
    arXiv 1409.5185). In the original White Box the other head was never trained, and the CAM head followed the last
    max-pooling; before it, its map is finer, and Grad-CAM of the last ReLU equals CAM up to a factor.
    """

    predicting: str
    auxiliary: str
    has_cbam: bool

    def __init__(self, shape: Shape, classes: int) -> None:
        """Args: `shape` (C, H, W) of an image; `classes` number of logits."""
        super().__init__()
        first, second, third = pairwise((shape[0], *WIDTHS))
        self.features = nn.Sequential(
            convolution_block(*first, self.has_cbam),
            convolution_block(*second, self.has_cbam),
            convolution_layer(*third, self.has_cbam),
        )
        self.cam = CAMHead(WIDTHS[-1], classes)
        self.classifier = nn.Sequential(nn.MaxPool2d(2), *linear_head(shape, classes))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, classes)."""
        return self.get_submodule(self.predicting)(self.features(images))

    def training_loss(self, images: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
        """Return the cross entropy of the predicting head + `AUXILIARY_WEIGHT` · that of the auxiliary head."""
        activation = self.features(images)

        heads = self.get_submodule(self.predicting), self.get_submodule(self.auxiliary)
        loss, auxiliary = (F.cross_entropy(head(activation), labels, label_smoothing=label_smoothing) for head in heads)
        return loss + AUXILIARY_WEIGHT * auxiliary


class SimpleCNNWithCAM(TwoHeads):
    """SimpleCNN whose CAM head predicts.

    1,285,332 parameters for 1×28×28 images, 2,203,412 for 3×32×32 images.
    """

    predicting, auxiliary, has_cbam = "cam", "classifier", False
    layers = SimpleCNN.layers
    attention_layers: tuple[str, ...] = ()


class SimpleCNNWithCBAM(TwoHeads):
    """SimpleCNN with CBAM in each block; the linear head predicts, the CAM head is auxiliary.

    1,288,561 parameters for 1×28×28 images, 2,206,641 for 3×32×32 images.
    """

    predicting, auxiliary, has_cbam = "classifier", "cam", True
    layers = tuple(f"features.{block}.3" for block in range(len(WIDTHS)))
    attention_layers = tuple(f"features.{block}.2.spatial" for block in range(len(WIDTHS)))
