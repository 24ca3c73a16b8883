"""The options of commands, as documented fields; those of evaluations are in `evaluation.configs`.

An option that no part of a command uses is refused, see `users_of`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution import (
    ANY_MODEL_METHODS,
    BASELINES,
    ENSEMBLES,
    LAYER_METHODS,
    LEVEL,
    METHODS,
    SAMPLES,
    STEPS,
    canonical_ensemble,
    canonical_method,
)
from common.errors import InputError
from common.imports import is_user_code
from common.parsing import ALL, among, folder, fraction, json_object, number, one_or_more, positive
from data import DATA_DIR, DATASETS, GENERATED
from data.folder_options import INTERPOLATIONS
from data.folders import TARGET_PREFIX
from evaluation import CONTROL_CURVES, EVALUATIONS, OF_SEEDS, OWN, REMOVING, RETRAINING, TRUST
from evaluation.configs import CONFIGS
from evaluation.options import option
from models import ATTENTIONS, OPTIONS
from training import VALIDATION_RATE

NONE = "none"
EXPLAINING = ("saliency", *EVALUATIONS, TRUST, OWN)  # the commands, and the evaluations, that explain networks
WORKING = ("train", *EXPLAINING)
COMMANDS = (*WORKING, "report", "reproduce")
RECIPE = ("train", *RETRAINING)
DEPTHS, WIDTHS = OPTIONS["RAN"][1], OPTIONS["WARN"][1]


def evaluation_name(text: str) -> str:
    return text if is_user_code(text) else among("evaluation", (*EVALUATIONS, TRUST))(text)


def target_name(text: str) -> str:
    names = (*DATASETS, *GENERATED)
    if text.lower().startswith(TARGET_PREFIX):
        return TARGET_PREFIX + text[len(TARGET_PREFIX) :]
    if text and text.lower() not in names and Path(text).exists():
        raise InputError(f"unknown target {text!r}: did you mean --target={TARGET_PREFIX}{text}?")
    return among("target", names)(text)


def floats(text: str) -> tuple[float, ...]:
    """Read numbers with commas, one for each channel."""
    return tuple(map(number(float, 0), text.split(",")))


def crop(text: str) -> float:
    return 1.0 if text == "1" else float(fraction(text))


def ensemble_name(text: str) -> str:
    return NONE if text.lower() == NONE else canonical_ensemble(text)


def factory_place(text: str) -> str:
    if not is_user_code(text):
        raise InputError(f"{text!r} is not torchvision:name, timm:name, package.module:factory or file.py:factory")
    return text


def image_size(text: str) -> tuple[int, int]:
    """Read "224" or "224x192" as height and width."""
    height, separator, width = text.lower().replace(",", "x").partition("x")
    return positive(height), positive(width if separator else height)


@dataclass(frozen=True)
class NetworkOptions:
    """Data sets and networks."""

    target: tuple[str, ...] | None = option(
        None,
        f"data set: {', '.join(DATASETS)}, several with commas, or {ALL} (default: mnist); or planted, a test of "
        f"evaluations; or {TARGET_PREFIX}PATH, images of your own, a folder for each class",
        parse=one_or_more(target_name, DATASETS),
        metavar="NAME",
        users=(*WORKING, "report"),
    )
    attention: tuple[str, ...] = option(
        (NONE,),
        f"model: {NONE} (SimpleCNN), {', '.join(ATTENTIONS)}, several with commas, or {ALL}",
        parse=one_or_more(among("attention", (NONE, *ATTENTIONS)), (NONE, *ATTENTIONS)),
        metavar="NAME",
        usual=NONE,
    )
    model: str | None = option(
        None,
        "a model instead of --attention: torchvision:NAME, timm:NAME, or PACKAGE.MODULE:FACTORY or FILE.py:FACTORY of "
        "your own: what FACTORY(shape, classes) returns, a torch.nn.Module that maps (N, C, H, W) to logits (N, "
        "classes)",
        parse=factory_place,
        metavar="PLACE",
    )
    weights: str | None = option(
        None,
        "weights of a trained network, which is then judged as it is: a .safetensors file, a state dict in .pt, or "
        "pretrained (those of the library); its preprocessing comes from the library where that has one",
        metavar="FILE",
    )
    image_size: tuple[int, int] | None = option(
        None,
        "resize and centre-crop the images of a folder to N or HxW pixels (default: the network's with --weights, else "
        "as they are)",
        parse=image_size,
        metavar="N",
    )
    crop: float | None = option(
        None, "part of the resized image that the centre crop keeps (default: 1)", parse=crop, metavar="X"
    )
    interpolation: str | None = option(None, "of the resizing (default: bilinear)", choices=INTERPOLATIONS)
    split: str | None = option(
        None,
        "test: all images of a folder are test images (default: those of its part test, else every fifth of a class)",
        choices=("test",),
    )
    classes_file: str | None = option(
        None, "class names, one a line: line k is output k of the network, folders are found by name", metavar="FILE"
    )
    mean: tuple[float, ...] | None = option(
        None, "subtracted from each channel (0 to 1) by the network of --weights", parse=floats, metavar="R,G,B"
    )
    std: tuple[float, ...] | None = option(None, "by which each channel is divided then", parse=floats, metavar="R,G,B")
    depth: int | None = option(None, f"depth of RAN (default: {DEPTHS[0]})", parse=positive, choices=DEPTHS)
    width: int | None = option(None, f"width of WARN (default: {WIDTHS[0]})", parse=positive, choices=WIDTHS)


@dataclass(frozen=True)
class MethodOptions:
    """Methods and their parameters."""

    method: tuple[str, ...] = option(
        ANY_MODEL_METHODS,
        f"attribution method: {', '.join(METHODS)}, several with commas, or {ALL} but CAM, ROLLOUT and GRAD-ROLLOUT; "
        "or PACKAGE.MODULE:NAME or FILE.py:NAME of your own or of another library",
        parse=one_or_more(canonical_method, ANY_MODEL_METHODS),
        metavar="NAME",
        usual=ALL,
    )
    method_args: Mapping[str, Any] | None = option(
        None,
        "arguments of PACKAGE.MODULE:NAME, of its constructor or its attribute(): a JSON object such as "
        """'{"sliding_window_shapes": [3, 4, 4]}'; of one of several methods: '{"PACKAGE.MODULE:NAME": {...}}'""",
        parse=json_object,
        metavar="JSON",
    )
    layer: str | None = option(
        None,
        f"the layer that {', '.join(LAYER_METHODS)} and other people's methods of a layer look at, by its name in "
        "named_modules() (default: the last convolution block)",
        metavar="NAME",
    )
    ensemble: tuple[str, ...] = option(
        (NONE,),
        f"around each method: {NONE}, {', '.join(ENSEMBLES)}, several with commas, or {ALL}",
        parse=one_or_more(ensemble_name, (NONE, *ENSEMBLES)),
        metavar="NAME",
        usual=NONE,
    )
    steps: int = option(STEPS, "steps of the integral of IG", parse=positive, metavar="N")
    baseline: str = option(BASELINES[0], "where the path of IG begins", choices=BASELINES)
    samples: int = option(SAMPLES, "noisy copies of an ensemble", parse=positive, metavar="N")
    level: float = option(
        LEVEL, "noise of an ensemble, as a share of each image's range", parse=number(float, 0), metavar="X"
    )
    control: str | None = option(
        None,
        "for each method another curve, of its maps blurred; of RANDOM that is a smooth random map",
        choices=CONTROL_CURVES,
        users=(*RETRAINING, *REMOVING),
    )


@dataclass(frozen=True)
class TrainingOptions:
    """The recipe where it is not the usual one, and numbers of images and seeds."""

    epochs: int | None = option(None, "passes over the training images", parse=positive, metavar="N", users=RECIPE)
    batch_size: int | None = option(None, "images per step", parse=positive, metavar="N", users=RECIPE)
    lr: float | None = option(
        None,
        "peak of the one-cycle learning rate",
        parse=number(float, 0, low_counts=False),
        metavar="X",
        users=RECIPE,
    )
    small_epochs: int | None = option(
        None,
        "the first N epochs see images at half of their size, which is four times as fast (default: the recipe's; 0 "
        "where --epochs is given)",
        parse=number(int, 0),
        metavar="N",
        users=RECIPE,
    )
    seeds: int = option(
        1, "train with the seeds 0 … N−1", parse=positive, metavar="N", users=("train", *RETRAINING, *OF_SEEDS, OWN)
    )
    valid_rate: float = option(
        VALIDATION_RATE,
        "share of the training images that --train holds out to show progress",
        parse=number(float, 0, 1),
        metavar="X",
        users=("train",),
    )
    limit_train: int | None = option(
        None, "use N training images (default: all)", parse=positive, metavar="N", users=("saliency", *RECIPE)
    )
    limit_test: int | None = option(
        None,
        "use N test images (default: all in ROAR, KAR and --saliency; elsewhere a tenth)",
        parse=positive,
        metavar="N",
        users=EXPLAINING,
    )
    quick: bool = option(
        False,
        "fewer training images and epochs, and in ROAR and KAR fewer ratios: minutes on two cores",
        users=COMMANDS,
    )
    resume: bool = option(
        False, "go on with the training of a classifier that was interrupted, from its last whole epoch"
    )
    tensorboard: bool = option(
        False, "write loss, learning rate and accuracy per epoch for TensorBoard", users=("train",)
    )


@dataclass(frozen=True)
class RunningOptions:
    """Folders, devices and processes."""

    device: str = option("auto", "auto, cpu, cuda, cuda:N, mps", metavar="NAME", users=(*WORKING, "reproduce"))
    jobs: int | None = option(
        None,
        "networks that are retrained, or methods that are measured, side by side, a process each (default: one for "
        "each core; on a GPU one)",
        parse=positive,
        metavar="N",
        users=(*EVALUATIONS, TRUST, OWN, "reproduce"),
    )
    engine: str = option(
        "local", "where tasks run: in processes of this machine, or on a Ray cluster", choices=("local", "ray")
    )
    address: str | None = option(
        None,
        "of the Ray cluster: auto, or HOST:PORT (default: RAY_ADDRESS, else a Ray is started for this command)",
        metavar="HOST:PORT",
    )
    cpus_per_task: int = option(1, "processors, and threads, of a task on a cluster", parse=positive, metavar="N")
    gpus_per_task: float = option(
        0.0, "GPUs of a task on a cluster; 0.25 lets four share one", parse=number(float, 0), metavar="X"
    )
    data_dir: Path = option(DATA_DIR, "data sets, in torchvision's layout", parse=folder, metavar="DIR", users=COMMANDS)
    output_dir: Path = option(
        Path(),
        "where checkpoints, saliency_maps and results lie",
        parse=folder,
        metavar="DIR",
        usual="here",
        users=COMMANDS,
    )
    publish: bool = option(
        False,
        "with --report: gather what is finished in results/published; write its tables and the README's numbers",
        users=("report",),
    )
    dry_run: bool = option(
        False, "say what would be done, and write nothing but the sums of image files", users=COMMANDS
    )
    overwrite: bool = option(False, "do again what is finished")


GROUPS: dict[str, tuple[type[Any], ...]] = {
    "on what": (NetworkOptions, MethodOptions),
    "training and retraining (defaults: the recipe of the data set and model)": (TrainingOptions,),
    **CONFIGS,
    "running": (RunningOptions,),
}
