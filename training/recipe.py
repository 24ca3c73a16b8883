"""The recipe by which each model is trained."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from common.errors import InputError
from common.imports import is_user_code
from data import dataset_info
from data.folders import is_folder
from models import ATTENTIONS, NO_ATTENTION, model_name, parse_variant, split_weights


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum and a one-cycle learning rate, label smoothing, bfloat16 where hardware has it.

    Attributes:
        learning_rate: the peak of the cycle (Smith & Topin 2019, arXiv 1708.07120).
        crop: largest shift in pixels of the random crop; the border is black.
        flip: mirror half of the images left to right.
        small_epochs: number of first epochs on images of half the height and width, four times as fast.
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
        """Return the fields for a record, without `small_epochs` of 0, which older records lack."""
        fields = asdict(self)
        if not self.small_epochs:
            del fields["small_epochs"]
        return fields


_MNIST = Recipe(epochs=4, batch_size=256, learning_rate=0.1, crop=2, flip=False)
_CIFAR10 = Recipe(epochs=40, batch_size=256, learning_rate=0.1, crop=4, flip=True)
_PLANTED = Recipe(epochs=6, batch_size=64, learning_rate=0.05, crop=0, flip=False)  # a pixel's place tells the class
_FOLDER = Recipe(epochs=20, batch_size=64, learning_rate=0.05, crop=2, flip=False)  # a flip may change the class

RECIPES = {
    # seconds
    **{("planted", model): _PLANTED for model in (NO_ATTENTION, *ATTENTIONS)},
    # minutes on two CPU cores
    ("mnist", "SimpleCNN"): _MNIST,
    ("mnist", "CAM"): replace(_MNIST, epochs=12),
    ("mnist", "CBAM"): replace(_MNIST, epochs=8),
    **{("cifar10", model): _CIFAR10 for model in ("SimpleCNN", "CAM", "CBAM")},
    # Hours on two CPU cores. The papers train on CIFAR-10 for 200 epochs in steps: RAN with batch 64, learning rate 0.1
    # and weight decay 1e-4, WARN with batch 128, 0.1 and 5e-4. One cycle needs fewer epochs, most of them with images
    # of half the size: see "Recipes of RAN and WARN" in `results/README.md`.
    ("mnist", "RAN"): replace(_MNIST, epochs=5, batch_size=128, learning_rate=0.05, small_epochs=2),
    ("mnist", "WARN"): replace(_MNIST, epochs=5, batch_size=128, small_epochs=2),
    **{("cifar10", model): replace(_CIFAR10, epochs=16, batch_size=128, small_epochs=10) for model in ("RAN", "WARN")},
}


@dataclass(frozen=True)
class QuickRecipe:
    """The changes of `--quick`: a curve within minutes on two cores."""

    train_images: int
    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.05


_QUICK_LARGE = QuickRecipe(train_images=2_000, epochs=2, batch_size=32, learning_rate=0.02)
_QUICK = {
    "mnist": QuickRecipe(train_images=8_000, epochs=2),
    "cifar10": QuickRecipe(train_images=10_000, epochs=6),
    "planted": QuickRecipe(train_images=2_000, epochs=4),
    "folder": QuickRecipe(train_images=8_000, epochs=6),
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
    """Return the recipe of a model on `dataset`, with the given changes.

    With another number of epochs all images have their full size, unless `small_epochs` is given, too.

    Raises:
        InputError: unknown data set or attention, or more small epochs than epochs.
    """
    recipe, quick_recipe = _recipes(dataset, attention)
    options = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    changes = {name: getattr(quick_recipe, name) for name in options} if quick else {}
    changes |= {name: value for name, value in options.items() if value is not None}
    if "epochs" in changes or small_epochs is not None:
        changes["small_epochs"] = small_epochs or 0
    recipe = replace(recipe, **changes)
    if recipe.small_epochs > recipe.epochs:
        raise InputError(f"--small-epochs={recipe.small_epochs} are more than all epochs, {recipe.epochs}")
    return recipe


def finetuning_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe of fine-tuning on masked images: an eighth of the epochs, a fifth of the learning rate."""
    epochs, rate = max(1, recipe.epochs // 8), recipe.learning_rate / 5
    return replace(recipe, epochs=epochs, learning_rate=rate, small_epochs=0)


def quick_train_images(dataset: str, attention: str | None = None) -> int:
    """Return the number of training images that `--quick` takes.

    Raises:
        InputError: unknown data set or attention.
    """
    return min(_recipes(dataset, attention)[1].train_images, dataset_info(dataset).shapes["train_images"][0])


def _recipes(dataset: str, attention: str | None) -> tuple[Recipe, QuickRecipe]:
    """Return the recipe and the changes of `--quick`; a user's own model has SimpleCNN's."""
    attention, _weights = split_weights(attention)
    family = None if is_user_code(attention) else parse_variant(attention)[0]
    if is_folder(dataset):
        return _FOLDER, _QUICK["folder"]
    key = (dataset, model_name(family))
    if key not in RECIPES:
        datasets = ", ".join(dict.fromkeys(name for name, _ in RECIPES))
        raise InputError(f"no recipe for data set {dataset!r}: choose from {datasets}")
    is_large = dataset != "planted" and family in ("RAN", "WARN")
    return RECIPES[key], _QUICK_LARGE if is_large else _QUICK[dataset]
