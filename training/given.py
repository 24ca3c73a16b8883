"""Networks with weights that are not trained here, as checkpoints."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from common.errors import InputError
from common.hashing import file_sha256, json_sha256
from common.random_state import seeded
from data import Dataset
from models import build_model, model_code, model_name, with_weights
from models.preprocessing import Preprocessing, preprocessing_of
from models.weights import build_with_weights, read_weights
from training.checkpoint import Checkpoint, versions
from training.inputs import Normalisation

PRETRAINED = "pretrained"
USUAL_CLASSES = 1000  # tried first


def load_given(
    place: str | None,
    weights: str | Path,
    shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
    **preprocessing: Any,
) -> Checkpoint:
    """Load a network with given weights; `training.classifier.restore` builds it again in any process.

    Args:
        place: see `models.build_model`.
        weights: a file, see `models.weights`, or "pretrained" for the library's or the factory's own.
        shape: (C, H, W) of an image; by default three channels of the network's own size.
        classes: number of classes to try first; the weights decide.
        preprocessing: fields of `Preprocessing` that override the network's own configuration.

    Returns:
        Weights, their SHA-256 with that of mean and std, and metadata. `model` names the network and this sum, see
        `models.with_weights`. `image_shape` is `shape`; `outputs` counts the logits; `built_classes` is the factory's
        number (1 for a network with one logit, which has two outputs). `preprocessing` is plain. `weights` has the
        file's name and its SHA-256.

    Raises:
        InputError: no such network, file or download, or they don't fit.
    """
    is_pretrained = str(weights) == PRETRAINED
    shape = shape or _usual_shape(place, preprocessing.get("size"))
    if place is not None and place.startswith("torchvision:") and shape[0] == 1:
        raise InputError(f"{place} has weights for images of 3 channels, these have 1: give colour images")
    first = classes or USUAL_CLASSES
    source: dict[str, str | None]
    if is_pretrained:
        with seeded(0):
            original = build_model("", place, shape=shape, classes=first, pretrained=True).eval()
        state, source = original.state_dict(), {"file": PRETRAINED, "sha256": None}
    else:
        path = Path(weights).expanduser()
        state, source = read_weights(path), {"file": path.name, "sha256": file_sha256(path)}
    with seeded(0):
        model, built_classes = build_with_weights(place, shape, state, first, str(weights))
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(images)
        if is_pretrained and not torch.allclose(original(images), logits, rtol=1e-3, atol=1e-4):
            raise InputError(f"{place} with pretrained=True differs in more than its weights: give them as a file")
    prepared = preprocessing_of(place, model).override(**preprocessing)
    if prepared.mean is not None and len(prepared.mean) != shape[0]:
        raise InputError(f"{place} has mean and std for {len(prepared.mean)} channels, not for {shape[0]}: give others")
    own_code = model_code(place, shape, built_classes)
    metadata = {
        "seed": 0,
        "image_shape": list(shape),
        "built_classes": built_classes,
        "outputs": logits.shape[1],
        "preprocessing": prepared.plain(),
        "weights": source,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": versions(),
        **({"model_code": own_code} if own_code else {}),
    }
    checkpoint = Checkpoint.from_model(model, metadata)
    identity = json_sha256([checkpoint.sha256, prepared.plain()["mean"], prepared.plain()["std"]])
    metadata["model"] = model_name(with_weights(place, identity))
    return replace(checkpoint, sha256=identity)


def normalisation_for(metadata: Mapping[str, Any], dataset: Dataset, device: torch.device) -> Normalisation:
    """Return the normalisation with which a checkpoint's network was trained: its own, else the training images'.

    With its own, the mean pixel is that of the test images of `dataset`.
    """
    preprocessing = Preprocessing.read(metadata["preprocessing"]) if "preprocessing" in metadata else Preprocessing()
    if preprocessing.mean is None:
        return Normalisation.from_dataset(dataset, device)
    assert preprocessing.std is not None
    return Normalisation.of_network(preprocessing.mean, preprocessing.std, dataset.test.images, device)


def _usual_shape(place: str | None, size: tuple[int, int] | None) -> tuple[int, int, int]:
    size = size or preprocessing_of(place).size
    if size is None:
        raise InputError(f"{place or 'SimpleCNN'} doesn't say the size of its images: give it with --image-size")
    return 3, *size
