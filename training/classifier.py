"""From a data set to a trained, tested and kept classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import InputError
from common.fingerprint import require_unchanged
from common.progress import progress_bar
from data import Dataset
from models import attention_of, model_name
from training import VALIDATION_RATE
from training.checkpoint import (
    Checkpoint,
    checkpoint_path,
    load_checkpoint,
    made_by_other_code,
    save_checkpoint,
    versions,
)
from training.device import device_name
from training.inputs import Images, Normalisation, labels_of
from training.loop import initialised, predict, train
from training.networks import network_code, new_model
from training.recipe import Recipe
from training.resume import ResumeFile, TrainingState

OnEpoch = Callable[[TrainingState], object]


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


def train_classifier(
    order: TrainingConfig,
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
) -> Checkpoint:
    """Train what `order` asks for, read the test set once, and keep the result.

    After each epoch the state is kept beside the checkpoint, until that is written.

    Args:
        resume: go on with a training that was interrupted, if there is one.
        on_epoch: given the state after each epoch, which is kept by then.

    Raises:
        InputError: the training diverged, or what shall be resumed is damaged or another training.
    """
    unfinished = resume_file(order, dataset.sha256, folder)
    resumed = unfinished.load() if resume else None
    normalisation = Normalisation.of(dataset, device)
    training = dataset.train.subset(order.limit_train)
    images, labels = Images(training, normalisation, device), labels_of(training, device)
    model = initialised(lambda: new_model(order.dataset, order.attention), order.seed, device)
    kept = len(training) - round(order.validation_rate * len(training))
    description = f"train {order.dataset} {model_name(order.attention)} seed {order.seed}"
    with progress_bar(order.recipe.epochs * kept, description, "images") as bar:

        def show(trained_on: int, validation_accuracy: float | None) -> None:
            bar.update(trained_on)
            if validation_accuracy is not None:
                bar.set_postfix_str(f"validation {validation_accuracy:.4f}")

        def keep(state: TrainingState) -> None:
            unfinished.save(state)
            if on_epoch is not None:
                on_epoch(state)

        try:
            trained = train(
                *(model, images, labels, order.recipe, order.seed, order.validation_rate, show),
                resumed=resumed,
                keep=keep,
            )
        except InputError:
            unfinished.remove()  # going on would end in the same way
            raise
    correct = predict(model, Images(dataset.test, normalisation, device)).cpu().numpy() == dataset.test.labels
    per_class = [
        float(correct[of_class].mean()) if (of_class := dataset.test.labels == label).any() else None
        for label in range(len(dataset.classes))
    ]
    metadata = order.plain() | {
        "dataset_sum": dataset.sha256,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "test_accuracy": float(correct.mean()),
        "test_accuracy_per_class": per_class,
        "classes": list(dataset.classes),
        "train_images": len(dataset.train),
        "test_images": len(dataset.test),
        "validation_accuracy": trained.validation_accuracy,
        "loss": trained.loss,
        "seconds": round(trained.seconds, 2),
        "device": device_name(device),
        "versions": versions(),
    }
    checkpoint = save_checkpoint(order.path(folder), model.state_dict(), metadata)
    unfinished.remove()
    return checkpoint


def restore(checkpoint: Checkpoint, device: torch.device) -> nn.Module:
    """The model of a checkpoint, in evaluation mode.

    Raises:
        InputError: the weights don't fit the model that the checkpoint names, or its code was edited meanwhile.
    """
    known = checkpoint.metadata
    name, attention = known["model"], attention_of(known["model"])
    if attention is not None and "model_code" in known:
        require_unchanged(attention, known["model_code"])
    model = initialised(lambda: new_model(known["dataset"], attention), known["seed"], torch.device("cpu"))
    try:
        model.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise InputError(f"the checkpoint's weights don't fit {name}: delete it, and it is trained anew") from error
    return model.to(device).to(memory_format=torch.channels_last).eval()


