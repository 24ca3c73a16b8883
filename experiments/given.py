"""Networks with given weights, and the image folders that fit them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from common.command import cached_for_command
from common.errors import InputError
from data import Split, dataset_info
from data.folder_options import FolderOptions
from data.folders import TARGET_PREFIX, is_folder
from evaluation.chance import chance_of
from evaluation.statistics import is_doubtful, proportion_interval
from models.preprocessing import preprocessing_of
from models.zoo import is_zoo_model
from training.checkpoint import Checkpoint
from training.classifier import restore
from training.given import PRETRAINED, load_given
from training.inputs import Images, Normalisation
from training.loop import predict

if TYPE_CHECKING:
    from experiments.request import Request

SIZES = ("image_size", "crop", "interpolation")
OF_FOLDERS = (*SIZES, "split", "classes_file")
OF_WEIGHTS = ("split", "classes_file", "mean", "std")


def require_given_options_fit(request: "Request") -> None:
    """Raise `InputError` if an option of image folders or of given weights has nothing to act on."""
    targets = request.target or ()
    for name in OF_FOLDERS:
        if getattr(request, name) is not None and not all(map(is_own_folder, targets)):
            raise InputError(f"--{name.replace('_', '-')} is for --target={TARGET_PREFIX}PATH")
    for name in OF_WEIGHTS if request.weights is None else ():
        if getattr(request, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} is for a network with --weights=FILE")
    if request.weights is not None:
        if request.train:
            raise InputError("--weights is for a network that is trained already: leave out --train or --weights")
        if request.resume:
            raise InputError("--resume is for a training that was stopped: --weights gives a trained network")
        if request.seeds > 1:
            raise InputError("--seeds is for networks that are trained here: --weights gives one network")
        if request.weights != PRETRAINED and not Path(request.weights).expanduser().exists():
            raise InputError(f"--weights={request.weights}: there is no such file")
        if request.model is None and "attention" not in request.explicit and any(map(is_own_folder, targets)):
            raise InputError(
                f"--weights={request.weights}: give the network that has these weights with --model=PLACE, or "
                "--attention=none for SimpleCNN"
            )
        if len(request.attentions) > 1:
            raise InputError("--weights is for one network: give one --attention, or --model")


def is_own_folder(target: str) -> bool:
    """Return whether a target is an image folder, as it is given or by the name of its data set."""
    return target.startswith(TARGET_PREFIX) or is_folder(target)


def folder_options(request: "Request", place: str | None) -> FolderOptions:
    """Return the options of the request's image folders: its own, else those of the network `place` with weights."""
    sizes = {name: getattr(request, name) for name in SIZES if getattr(request, name) is not None}
    others = {name: getattr(request, name) for name in OF_FOLDERS if name not in SIZES}
    if request.weights is not None:
        usual = preprocessing_of(place) if is_zoo_model(place) else None
        if usual is not None and usual.size is not None:
            own = {"image_size": usual.size, "crop": usual.crop, "interpolation": usual.interpolation}
            sizes = {**own, "squash": usual.squash, **sizes}
        others["rgb"] = is_zoo_model(place)
    return FolderOptions(**sizes, **others)


def load_network(request: "Request", place: str | None, target: str) -> Checkpoint:
    """Return the network of --weights for the images of `target`, a data set by its name.

    Raises:
        InputError: no such network or file, weights that don't fit, or images of other classes; it is not known how
            the network's images are normalised.
    """
    assert request.weights is not None
    info = dataset_info(target)
    checkpoint = _load(place, request.weights, info.image_shape, len(info.classes), request.mean, request.std)
    if checkpoint.metadata["preprocessing"]["mean"] is None:
        raise InputError(
            f"{place or 'SimpleCNN'} doesn't say how its images are normalised: give --mean and --std, one number for "
            "each channel (--mean=0,0,0 --std=1,1,1 for images from 0 to 1)"
        )
    if checkpoint.metadata["outputs"] != len(info.classes):
        outputs = checkpoint.metadata["outputs"]
        choose = "give --classes-file=FILE with a class on each line, line k for output k"
        mend = choose if outputs > len(info.classes) else "it doesn't know them all"
        raise InputError(
            f"{target} has {len(info.classes)} classes, {place or 'the network'} {outputs} outputs: {mend}"
        )
    return checkpoint


@cached_for_command
def _load(
    place: str | None, weights: str, shape: tuple[int, int, int], classes: int, mean: Any, std: Any
) -> Checkpoint:
    return load_given(place, weights, shape, classes, mean=mean, std=std)


def describe_given(network: Checkpoint, test: Split, normalisation: Normalisation, device: torch.device) -> str:
    """Return a line on the accuracy of a given network on the test images, and a doubt if it is near chance."""
    hits = predict(restore(network, device), Images(test, normalisation, device)).cpu().numpy() == test.labels
    accuracy, chance = proportion_interval(int(hits.sum()), len(hits)), chance_of(torch.from_numpy(test.labels))
    line = f"model: {network.metadata['model']}, {network.metadata['parameters']:,} parameters: accuracy "
    line += f"{accuracy.mean:.4f} ± {accuracy.half:.4f} on {len(hits):,} images, chance {chance:.4f}"
    doubt = "; it is near chance: preprocessing or the order of the classes may be wrong"
    return line + doubt * is_doubtful(accuracy, chance)
