"""How each model is trained. One table, nothing hidden elsewhere."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from common.errors import InputError
from common.imports import is_user_code
from data import dataset_info
from data.folders import is_folder
from models import ATTENTIONS, NO_ATTENTION, family_of, model_name


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum under a one-cycle learning rate, the model's own loss (`loss_of`) with label
    smoothing, in bfloat16 where the processor multiplies it.

    Attributes:
        learning_rate: the peak of the cycle (Smith & Topin 2019, arXiv 1708.07120).
        crop: largest shift in pixels of the random crop; the border is black.
        flip: mirror half of the images left to right.
        small_epochs: how many epochs at the beginning see images at half of their size, four times as fast.
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
    small_epochs: int = 0

    def plain(self) -> dict[str, Any]:
        """Return the fields for a record; those that came later only where they differ from their default."""
        fields = asdict(self)
        if not self.small_epochs:
            del fields["small_epochs"]
        return fields


_MNIST = Recipe(epochs=4, batch_size=256, learning_rate=0.1, crop=2, flip=False)
_CIFAR10 = Recipe(epochs=40, batch_size=256, learning_rate=0.1, crop=4, flip=True)

_PLANTED = Recipe(epochs=6, batch_size=64, learning_rate=0.05, crop=0, flip=False)

RECIPES = {
    # seconds; the place of a pixel tells the class, so that nothing is shifted
    **{("planted", model): _PLANTED for model in (NO_ATTENTION, *ATTENTIONS)},
    # minutes on two CPU cores
    ("mnist", "SimpleCNN"): _MNIST,
    ("mnist", "CAM"): replace(_MNIST, epochs=12),
    ("mnist", "CBAM"): replace(_MNIST, epochs=8),
    ("cifar10", "SimpleCNN"): _CIFAR10,
    ("cifar10", "CAM"): _CIFAR10,
    ("cifar10", "CBAM"): _CIFAR10,
    # Hours on two CPU cores. The papers train on CIFAR-10 for 200 epochs in steps: RAN with batch 64, learning rate 0.1
    # and weight decay 1e-4, WARN with batch 128, 0.1 and 5e-4. One cycle needs fewer epochs, and most of them do with
    # images of half the size: see "Recipes of RAN and WARN" in `results/README.md`.
    ("mnist", "RAN"): replace(_MNIST, epochs=5, batch_size=128, learning_rate=0.05, small_epochs=2),
    ("mnist", "WARN"): replace(_MNIST, epochs=5, batch_size=128, small_epochs=2),
    ("cifar10", "RAN"): replace(_CIFAR10, epochs=16, batch_size=128, small_epochs=10),
    ("cifar10", "WARN"): replace(_CIFAR10, epochs=16, batch_size=128, small_epochs=10),
}


@dataclass(frozen=True)
class Quick:
    """What `--quick` changes: a curve within minutes on two cores instead of the figures to publish."""

    train_images: int
    epochs: int
    batch_size: int
    learning_rate: float


_SMALL_MNIST = Quick(train_images=8_000, epochs=2, batch_size=64, learning_rate=0.05)
_SMALL_CIFAR10 = Quick(train_images=10_000, epochs=6, batch_size=64, learning_rate=0.05)
_LARGE = Quick(train_images=2_000, epochs=2, batch_size=32, learning_rate=0.02)

# Of image folders, whatever is on them: neither flipped nor shifted far, since that may change what an image means.
_FOLDER = Recipe(epochs=20, batch_size=64, learning_rate=0.05, crop=2, flip=False)
_SMALL_FOLDER = Quick(train_images=8_000, epochs=6, batch_size=64, learning_rate=0.05)

_SMALL_PLANTED = Quick(train_images=2_000, epochs=4, batch_size=64, learning_rate=0.05)

QUICK = {
    **{("planted", model): _SMALL_PLANTED for model in (NO_ATTENTION, *ATTENTIONS)},
    ("mnist", "SimpleCNN"): _SMALL_MNIST,
    ("mnist", "CAM"): _SMALL_MNIST,
    ("mnist", "CBAM"): _SMALL_MNIST,
    ("mnist", "RAN"): _LARGE,
    ("mnist", "WARN"): _LARGE,
    ("cifar10", "SimpleCNN"): _SMALL_CIFAR10,
    ("cifar10", "CAM"): _SMALL_CIFAR10,
    ("cifar10", "CBAM"): _SMALL_CIFAR10,
    ("cifar10", "RAN"): _LARGE,
    ("cifar10", "WARN"): _LARGE,
}


def recipe_for(
    dataset: str,
    attention: str | None = None,
    *,
    quick: bool = False,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    small_epochs: int | None = None,
) -> Recipe:
    """The recipe of a model on `dataset` with what the caller wants otherwise.

    Another number of epochs is of images at their full size, unless `small_epochs` is given, too.

    Raises:
        InputError: unknown data set or attention, or more small epochs than epochs.
    """
    usual, small = _recipes(dataset, attention)
    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    chosen = {name: getattr(small, name) for name in given} if quick else {}
    chosen |= {name: value for name, value in given.items() if value is not None}
    if "epochs" in chosen or small_epochs is not None:
        chosen["small_epochs"] = small_epochs or 0
    recipe = replace(usual, **chosen)
    if recipe.small_epochs > recipe.epochs:
        raise InputError(f"--small-epochs={recipe.small_epochs} are more than all epochs, {recipe.epochs}")
    return recipe


def finetuning_recipe(recipe: Recipe) -> Recipe:
    """How a trained classifier gets used to missing pixels: an eighth of the epochs, a fifth of the learning rate."""
    epochs, rate = max(1, recipe.epochs // 8), recipe.learning_rate / 5
    return replace(recipe, epochs=epochs, learning_rate=rate, small_epochs=0)


def quick_train_images(dataset: str, attention: str | None = None) -> int:
    """How many training images `--quick` takes, as far as there are so many.

    Raises:
        InputError: unknown data set or attention.
    """
    return min(_recipes(dataset, attention)[1].train_images, dataset_info(dataset).shapes["train_images"][0])


def _recipes(dataset: str, attention: str | None) -> tuple[Recipe, Quick]:
    """The usual one and that of `--quick`.

    RAN and WARN have one, whatever their depth and width; a model of one's own has SimpleCNN's.
    """
    family = None if is_user_code(attention) else family_of(attention)[0]
    if is_folder(dataset):
        return _FOLDER, _SMALL_FOLDER
    pair = (dataset, model_name(family))
    if pair not in RECIPES:
        raise InputError(
            f"no recipe for data set {dataset!r}: choose from {', '.join(dict.fromkeys(name for name, _ in RECIPES))}"
        )
    return RECIPES[pair], QUICK[pair]
