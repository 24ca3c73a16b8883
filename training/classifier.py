"""Train and test a classifier, and restore it from its checkpoint."""

from collections.abc import Callable

import torch
from torch import nn

from common.errors import InputError
from common.progress import progress_bar
from data import Dataset
from models import model_name, parse_model_name, require_unchanged_model
from training.checkpoint import Checkpoint, TrainingState, versions
from training.config import TrainingConfig
from training.device import device_name
from training.inputs import Images, Normalisation, load_labels
from training.loop import initialise, predict, train
from training.networks import new_model, rebuild_model

OnEpoch = Callable[[TrainingState], object]


def train_classifier(
    config: TrainingConfig,
    dataset: Dataset,
    device: torch.device,
    resume_from: TrainingState | None = None,
    on_epoch: OnEpoch | None = None,
) -> Checkpoint:
    """Train a classifier and test it once.

    Args:
        resume_from: the last state of an interrupted training.
        on_epoch: called with the state after each epoch.

    Raises:
        InputError: the training diverged.
    """
    normalisation = Normalisation.from_dataset(dataset, device)
    training = dataset.train.subset(config.limit_train)
    images, labels = Images(training, normalisation, device), load_labels(training, device)
    model = initialise(lambda: new_model(config.dataset, config.attention), config.seed, device)
    count = len(training) - round(config.validation_rate * len(training))
    description = f"train {config.dataset} {model_name(config.attention)} seed {config.seed}"
    with progress_bar(config.recipe.epochs * count, description, "images") as bar:

        def show(images: int, validation_accuracy: float | None) -> None:
            bar.update(images)
            if validation_accuracy is not None:
                bar.set_postfix_str(f"validation {validation_accuracy:.4f}")

        result = train(
            *(model, images, labels, config.recipe, config.seed, config.validation_rate, show),
            resume_from=resume_from,
            on_epoch=on_epoch,
        )
    correct = predict(model, Images(dataset.test, normalisation, device)).cpu().numpy() == dataset.test.labels
    members = [dataset.test.labels == label for label in range(len(dataset.classes))]
    metadata = config.plain() | {
        "dataset_sum": dataset.sha256,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "test_accuracy": float(correct.mean()),
        "test_accuracy_per_class": [float(correct[mask].mean()) if mask.any() else None for mask in members],
        "classes": list(dataset.classes),
        "train_images": len(dataset.train),
        "test_images": len(dataset.test),
        "validation_accuracy": result.validation_accuracy,
        "loss": result.loss,
        "history": result.history,
        "seconds": round(result.seconds, 2),
        "device": device_name(device),
        "versions": versions(),
    }
    return Checkpoint.from_model(model, metadata)


def restore(checkpoint: Checkpoint, device: torch.device) -> nn.Module:
    """Return the model of a checkpoint, in evaluation mode.

    Raises:
        InputError: the weights don't fit the model that the checkpoint names, or its code was edited meanwhile.
    """
    metadata = checkpoint.metadata
    name = metadata["model"]
    require_unchanged_model(parse_model_name(name), metadata.get("model_code"))
    model = initialise(lambda: rebuild_model(metadata), metadata["seed"], torch.device("cpu"))
    try:
        model.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise InputError(f"the checkpoint's weights don't fit {name}: delete it, and it is trained anew") from error
    return model.to(device).to(memory_format=torch.channels_last).eval()
