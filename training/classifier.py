"""From a data set to a trained, tested and kept classifier."""

from collections.abc import Callable

import torch
from torch import nn

from common.errors import InputError
from common.fingerprint import require_unchanged
from common.progress import progress_bar
from data import Dataset
from models import attention_of, model_name
from training.checkpoint import Checkpoint, versions
from training.config import TrainingConfig
from training.device import device_name
from training.inputs import Images, Normalisation, labels_of
from training.loop import initialised, predict, train
from training.networks import new_model
from training.state import TrainingState

OnEpoch = Callable[[TrainingState], object]


def train_classifier(
    config: TrainingConfig,
    dataset: Dataset,
    device: torch.device,
    resumed: TrainingState | None = None,
    on_epoch: OnEpoch | None = None,
) -> Checkpoint:
    """Train a classifier and read the test set once.

    Args:
        resumed: the state from which an interrupted training goes on.
        on_epoch: called with the state after each epoch.

    Raises:
        InputError: the training diverged.
    """
    normalisation = Normalisation.of(dataset, device)
    training = dataset.train.subset(config.limit_train)
    images, labels = Images(training, normalisation, device), labels_of(training, device)
    model = initialised(lambda: new_model(config.dataset, config.attention), config.seed, device)
    trained_on = len(training) - round(config.validation_rate * len(training))
    description = f"train {config.dataset} {model_name(config.attention)} seed {config.seed}"
    with progress_bar(config.recipe.epochs * trained_on, description, "images") as bar:

        def show(images: int, validation_accuracy: float | None) -> None:
            bar.update(images)
            if validation_accuracy is not None:
                bar.set_postfix_str(f"validation {validation_accuracy:.4f}")

        trained = train(
            *(model, images, labels, config.recipe, config.seed, config.validation_rate, show),
            resumed=resumed,
            keep=on_epoch,
        )
    correct = predict(model, Images(dataset.test, normalisation, device)).cpu().numpy() == dataset.test.labels
    per_class = [
        float(correct[of_class].mean()) if (of_class := dataset.test.labels == label).any() else None
        for label in range(len(dataset.classes))
    ]
    metadata = config.plain() | {
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
    return Checkpoint.of(model, metadata)


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
