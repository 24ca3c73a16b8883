"""Fine-tuning of a classifier on randomly masked images.

Fine-tuning of F-Fidelity (Zheng et al., ICLR 2025, arXiv 2410.02970, section 4): masks are random and never a method's,
so that no explanation leaks into the network.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError
from data import Dataset
from training.checkpoint import Checkpoint, versions
from training.classifier import restore
from training.device import device_name
from training.given import normalisation_for
from training.inputs import Images, load_labels
from training.loop import predict, seed_for, train
from training.recipe import Recipe


class RandomMaskInputs:
    """Images with a random part of each replaced, another at every call."""

    def __init__(self, images: Images, beta: float, fill: Tensor, seed: int) -> None:
        """
        Args:
            beta: largest fraction of the pixels; each image's fraction is uniform between 0 and this.
            fill: (C,) value of the replaced pixels.
        """
        self.images, self.beta, self.fill = images, beta, fill
        self.border = images.border
        self.generator = torch.Generator().manual_seed(seed)  # on the CPU: the same numbers for every device

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> Tensor:
        images = self.images.batch(index)
        n, _channels, height, width = images.shape
        order = torch.rand(n, height * width, generator=self.generator).to(images.device).argsort(dim=1)
        counts = (torch.rand(n, 1, generator=self.generator) * self.beta * height * width).round().to(images.device)
        removed = (order < counts).view(n, 1, height, width)
        return torch.where(removed, self.fill.view(-1, 1, 1), images)


def finetuning_record(
    checkpoint: Checkpoint, recipe: Recipe, beta: float, fill: str, limit_train: int | None
) -> dict[str, Any]:
    """Return all that decides on a fine-tuned network, for its record."""
    names = ("dataset", "dataset_sum", "model", "seed", "model_code", "image_shape", "built_classes", "preprocessing")
    metadata = {name: checkpoint.metadata[name] for name in names if name in checkpoint.metadata}
    settings = {"recipe": recipe.plain(), "most": beta, "fill": fill, "limit_train": limit_train}
    if fill == "mean" and metadata.get("preprocessing"):  # records without `mean_of` filled with the network's own mean
        settings["mean_of"] = "test images"
    return metadata | settings | {"classifier_sum": checkpoint.sha256}


def finetune(
    checkpoint: Checkpoint,
    dataset: Dataset,
    record: dict[str, Any],
    recipe: Recipe,
    device: torch.device,
    on_images: Callable[[int], object] = lambda images: None,
) -> Checkpoint:
    """Train a classifier further on randomly masked images.

    Args:
        dataset: whole; `record` limits its training images.
        record: see `finetuning_record`.

    Raises:
        InputError: the training diverged.
    """
    normalisation = normalisation_for(checkpoint.metadata, dataset, device)
    training = dataset.train.subset(record["limit_train"])
    seed = seed_for(record["seed"], "finetuning")
    images, labels = Images(training, normalisation, device), load_labels(training, device)
    inputs = RandomMaskInputs(images, record["most"], normalisation.fill(record["fill"]), seed)
    model = restore(checkpoint, device)
    try:
        result = train(model, inputs, labels, recipe, seed, on_step=lambda images, _: on_images(images))
    except InputError as error:
        raise InputError(f"fine-tuning for F-Fidelity: {error}") from error
    correct = predict(model, Images(dataset.test, normalisation, device)).cpu().numpy() == dataset.test.labels
    metadata = record | {
        "test_accuracy": float(correct.mean()),
        "history": result.history,
        "seconds": round(result.seconds, 2),
        "device": device_name(device),
        "versions": versions(),
    }
    return Checkpoint.from_model(model, metadata)
