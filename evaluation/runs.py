"""One retraining of ROAR or KAR: everything that decides on it, and what it measures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attribution.spec import MethodSpec
from common.files import json_sha256
from training.recipe import Recipe

OF_METHOD = ("ensemble", "parameters", "code")  # beside its name


@dataclass(frozen=True)
class Run:
    """All that decides on the result of one retraining.

    Attributes:
        evaluation: "ROAR", "KAR", or "baseline" for images of which nothing is removed.
        sees: "image", or "mask" for a network that sees the 0/1 mask alone, 1 at the most important `ratio`. The mask
            of KAR is the complement of one of ROAR and tells the same: both have the same runs.
        method: None for the baseline, like every other field that only concerns masks.
        checkpoint_sum: the explained model.
        model_code: stands for the code of a user's own model; None for ours.
    """

    evaluation: str
    dataset: str
    dataset_sum: str
    model: str
    seed: int
    recipe: Recipe
    limit_train: int | None
    limit_test: int | None
    sees: str = "image"
    method: MethodSpec | None = None
    ratio: float = 0.0
    checkpoint_sum: str | None = None
    explain: str | None = None
    granularity: str | None = None
    rank: str | None = None
    fill: str | None = None
    mask_split: str | None = None
    map_dtype: str | None = None
    model_code: str | None = None

    def configuration(self) -> dict[str, Any]:
        method = self.method.plain if self.method else {"method": None, "ensemble": None, "parameters": None}
        fields = asdict(self) | {"recipe": self.recipe.plain()}
        if self.model_code is None:
            del fields["model_code"]
        return fields | method | {"blur": self.method.blur if self.method else None}

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> "Run":
        """The run of a `configuration()`."""
        choice = MethodSpec.read(configuration) if configuration["method"] else None
        given = {name: value for name, value in configuration.items() if name not in (*OF_METHOD, "blur")}
        return cls(**given | {"method": choice, "recipe": Recipe(**given["recipe"])})

    @property
    def name(self) -> str:
        words = [self.dataset, self.model, *self._method_words(), self.evaluation]
        words += [f"{self.ratio:.4g}" if self.method else None, "mask" if self.sees == "mask" else None]
        return "_".join(str(word) for word in words if word) + f"_seed{self.seed}"

    def _method_words(self) -> list[str | None]:
        if self.method is None:
            return []
        return [self.method.filed_method, self.method.ensemble, "blurred" if self.method.blur else None]

    def path(self, results: Path) -> Path:
        """`<results>/runs/<name>-<hash of the configuration>.json`."""
        return results / "runs" / f"{self.name}-{json_sha256(self.configuration())[:12]}.json"


@dataclass(frozen=True)
class RunResult:
    """What a finished run measured, and how.

    Attributes:
        accuracy: on the test images.
        removed_fraction: of the positions of the training images, counted.
        tied_fraction: of their positions, how many have a value that another one has too; their order is random.
        chance: on the test images, see `evaluation.chance`; None in records from before it was kept.
    """

    accuracy: float
    test_images: int
    removed_fraction: float
    tied_fraction: float
    loss: float
    seconds: float
    device: str
    versions: dict[str, str]
    chance: float | None = None

    def plain(self) -> dict[str, Any]:
        """Return the fields for a record, without what is not known."""
        return {name: value for name, value in asdict(self).items() if name != "chance" or value is not None}
