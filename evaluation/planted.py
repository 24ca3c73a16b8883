"""Maps whose worth is known, for the data set `planted`: what an evaluation should say of them is no question.

`python main.py --eval=ROAR --target=planted --method=evaluation.planted:TrueMap,evaluation.planted:ReversedMap`
"""

import torch
from torch import Tensor, nn

from attribution.pixel_hash import pixel_hash
from data.planted import informative


class TrueMap:
    """1 at the pixels that carry the class, 0 elsewhere."""

    sign = 1.0

    def __init__(self, model: nn.Module) -> None:
        self.values = self.sign * torch.from_numpy(informative()).float()

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W)."""
        return self.values.to(inputs.device).expand(len(inputs), 1, -1, -1)


class ReversedMap(TrueMap):
    """The opposite of `TrueMap`: the worst that a map can say."""

    sign = -1.0


class LabelMap:
    """The leak at its purest: a pattern for each class, random and without any regard to the image.

    Its mask alone tells the class, so that no retraining on masked images can say anything of it.
    """

    def __init__(self, model: nn.Module) -> None:
        pass

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, 1, H, W)."""
        n, _channels, height, width = inputs.shape
        numbers = pixel_hash(target, height * width, seed=1) >> 8
        return (numbers.float() / 2**24).view(n, 1, height, width)
