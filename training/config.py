"""The configuration of a classifier: everything that decides on its weights, and the name of its file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.imports import is_user_code
from data import dataset_info
from models import model_code, model_name
from training import VALIDATION_RATE
from training.recipe import Recipe


def checkpoint_path(folder: Path, dataset: str, model: str, seed: int, quick: bool = False) -> Path:
    """Return `<folder>/<dataset>_<model>_seed<k>.pt`, with `_quick` for classifiers of `--quick`."""
    return folder / f"{dataset}_{model}_seed{seed}{'_quick' if quick else ''}.pt"


@dataclass(frozen=True)
class TrainingConfig:
    """All that decides on a classifier's weights.

    Attributes:
        attention: see `models.build_model`.
    """

    dataset: str
    attention: str | None
    seed: int
    recipe: Recipe
    limit_train: int | None = None
    validation_rate: float = VALIDATION_RATE
    quick: bool = False

    def path(self, folder: Path) -> Path:
        return checkpoint_path(folder, self.dataset, model_name(self.attention), self.seed, self.quick)

    @property
    def model_code(self) -> dict[str, Any]:
        """The fingerprint of a user's own model as a field of a record; no field for our models.

        Raises:
            InputError: unknown data set, or no such model.
        """
        if not is_user_code(self.attention):
            return {}
        info = dataset_info(self.dataset)
        return {"model_code": model_code(self.attention, info.image_shape, len(info.classes))}

    def plain(self) -> dict[str, Any]:
        """Return the metadata that a checkpoint of this configuration must have."""
        return {
            "dataset": self.dataset,
            "model": model_name(self.attention),
            "seed": self.seed,
            "recipe": self.recipe.plain(),
            "limit_train": self.limit_train,
            "validation_rate": self.validation_rate,
            **self.model_code,
        }
