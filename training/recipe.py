"""How each model is trained. One table, nothing hidden elsewhere."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from errors import InputError


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum under a one-cycle learning rate, cross entropy with label smoothing.

    Attributes:
        learning_rate: the peak of the cycle (Smith & Topin 2019, arXiv 1708.07120).
        crop: largest shift in pixels of the random crop; the border is black.
        flip: mirror half of the images left to right.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    crop: int
    flip: bool
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    warm_up: float = 0.3

    def plain(self) -> dict[str, Any]:
        return asdict(self)


RECIPES = {
    "mnist": Recipe(epochs=4, batch_size=256, learning_rate=0.1, crop=2, flip=False),
    "cifar10": Recipe(epochs=20, batch_size=256, learning_rate=0.1, crop=4, flip=True),
}


@dataclass(frozen=True)
class Quick:
    """What `--quick` changes: a curve within minutes on two cores instead of the figures to publish."""

    train_images: int
    epochs: int
    batch_size: int
    learning_rate: float


QUICK = {
    "mnist": Quick(train_images=8_000, epochs=2, batch_size=64, learning_rate=0.05),
    "cifar10": Quick(train_images=10_000, epochs=6, batch_size=64, learning_rate=0.05),
}


def recipe_for(
    dataset: str,
    *,
    quick: bool = False,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> Recipe:
    """The recipe of `dataset` with what the caller wants otherwise."""
    if dataset not in RECIPES:
        raise InputError(f"no recipe for data set {dataset!r}: choose from {', '.join(RECIPES)}")
    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    preset = {name: getattr(QUICK[dataset], name) for name in given} if quick else {}
    return replace(RECIPES[dataset], **preset | {name: value for name, value in given.items() if value is not None})
