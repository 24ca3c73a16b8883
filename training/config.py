"""The configuration of a classifier: everything that decides on its weights, and where they are kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import model_name
from training import VALIDATION_RATE
from training.recipe import Recipe


def checkpoint_path(folder: Path, dataset: str, model: str, seed: int, quick: bool = False) -> Path:
    """Return `<folder>/<dataset>_<model>_seed<k>.pt`; classifiers of `--quick` have names of their own."""
    return folder / f"{dataset}_{model}_seed{seed}{'_quick' if quick else ''}.pt"


@dataclass(frozen=True)
class TrainingConfig:
    """A classifier that is asked for: all that decides on its weights.

    Attributes:
        attention: as `build_model` takes it; a name that `models.variant` gives.
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
        """What stands for the code of a model of one's own, as a field of a record; no field for ours."""
        from training.networks import network_code  # here, since reports need no torch

        code = network_code(self.dataset, self.attention)
        return {"model_code": code} if code else {}

    def plain(self) -> dict[str, Any]:
        """What a checkpoint must say of itself to be the one that is asked for."""
        return {
            "dataset": self.dataset,
            "model": model_name(self.attention),
            "seed": self.seed,
            "recipe": self.recipe.plain(),
            "limit_train": self.limit_train,
            "validation_rate": self.validation_rate,
            **self.model_code,
        }
