"""RAN: Wang et al., Residual Attention Network for Image Classification, CVPR 2017."""

from itertools import pairwise

from torch import Tensor, nn

from attention.residual_attention import ResidualAttention, ResidualUnit
from models.initialisation import he_initialise

MODULES = {56: (1, 1, 1), 92: (1, 2, 3)}
"""Depth of the trunk -> attention modules in each of the three stages (table 2 of the paper)."""

STEM = 64
STAGES = (256, 512, 1024)
SKIPS = (2, 1, 0)
LAST = 2048
LAST_UNITS = 3


class RAN(nn.Module):
    """Stem, three stages of a residual unit and attention modules, three units of 2048 channels, mean, linear layer.

    27,987,466 parameters at depth 56 for 1×28×28 images, 27,990,666 for 3×32×32 images.

    Like the original White Box, and unlike the paper, the stem is 5×5 with stride 1, and a stage's attention modules
    have half as many channels as its first unit; see also `ResidualUnit` and `SoftMaskBranch`.
    The stages work at 14, 7, 4 (MNIST) or 16, 8, 4 (CIFAR-10) positions a side.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, depth: int) -> None:
        """Args: `shape` (C, H, W) of an image; `classes` number of logits; `depth` a key of `MODULES`."""
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(shape[0], STEM, 5, padding=2), nn.BatchNorm2d(STEM), nn.ReLU(), nn.MaxPool2d(2)
        )
        stages: list[nn.Module] = []
        ends = (STEM, *(width // 2 for width in STAGES))
        for stage, (width, (start, end)) in enumerate(zip(STAGES, pairwise(ends), strict=True)):
            unit = ResidualUnit(start, width, stride=1 if stage == 0 else 2)
            inputs = (width, *[end] * (MODULES[depth][stage] - 1))
            modules = (ResidualAttention(channels, end, SKIPS[stage]) for channels in inputs)
            stages.append(nn.Sequential(unit, *modules))
        self.stages = nn.Sequential(*stages)
        self.last = nn.Sequential(*(ResidualUnit(ends[-1] if unit == 0 else LAST, LAST) for unit in range(LAST_UNITS)))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(LAST, classes)
        he_initialise(self)

    @property
    def layers(self) -> tuple[str, ...]:
        units = [f"stages.{i}.{j}" for i, stage in enumerate(self.stages) for j, _ in enumerate(stage.children())]
        return ("stem.2", *units, *(f"last.{unit}" for unit in range(LAST_UNITS)))

    @property
    def attention_layers(self) -> tuple[str, ...]:
        """The soft masks M(x), (N, C, H, W) each."""
        return tuple(f"{name}.mask" for name in self.layers if isinstance(self.get_submodule(name), ResidualAttention))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, classes)."""
        return self.classifier(self.pool(self.last(self.stages(self.stem(images)))))
