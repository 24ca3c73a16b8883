"""Labels of conditions, in notes and in file names."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attribution import BASELINES, LEVEL, SAMPLES, STEPS
from attribution.spec import MethodSpec
from common.hashing import json_sha256
from data import dataset_info
from evaluation import TEST_SHARE
from evaluation.chance import known_dataset_info

FEWEST_IMAGES = 100  # where there are as many
LONGEST_VALUE = 40  # letters of a parameter in file names
ONE_SEED = "Wilson's over the test images (one seed: the spread between networks is unknown)"
USUAL_PARAMETERS = {"steps": STEPS, "samples": SAMPLES, "level": LEVEL, "baseline": BASELINES[0]}

TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
HOUR, MINUTE = 3600, 60


def duration(seconds: float) -> str:
    if seconds >= HOUR:
        return f"{seconds / HOUR:.1f} hours"
    return f"{seconds / MINUTE:.0f} minutes" if seconds >= 2 * MINUTE else f"{seconds:.0f} s"


def counted(number: int, unit: str, space: str = " ") -> str:
    """A number with its unit: 1 seed, 3 seeds."""
    return f"{number}{space}{unit}{'' if number == 1 else 's'}"


def filed_words(name: str) -> str:
    """Return a name as a part of file names."""
    return name.replace(" ", "-")


def explained_class(explain: str) -> str:
    """Return the name of the explained class in a sentence."""
    return "predicted class" if explain == "prediction" else "label"


def interval_over(seeds: int) -> str:
    """Return the kind of interval of a mean over `seeds` networks."""
    return ONE_SEED if seeds == 1 else "Student's t over the seeds"


def described_parameters(methods: Iterable[MethodSpec]) -> str:
    """A sentence for each method that has parameters, with a space before it; nothing for none."""
    said = {
        f"{method.label}: {', '.join(f'{name} {value}' for name, value in method.parameters)}."
        for method in methods
        if method.parameters
    }
    return "".join(f" {sentence}" for sentence in sorted(said))


def unusual_parameters(methods: Iterable[MethodSpec]) -> list[str]:
    """The parameters that are not the default, as parts of file names: ["steps-10"]."""
    pairs = (pair for method in methods for pair in method.parameters)
    unusual = (f"{name}-{value}" for name, value in pairs if value != USUAL_PARAMETERS.get(name))
    return list(dict.fromkeys(map(filed_value, unusual)))


def filed_value(text: str) -> str:
    """`text` as a part of file names: as it is, or in letters that every file system takes with a hash of it."""
    plain = re.sub(r"[^\w.-]+", "-", text).strip("-")
    return text if plain == text and len(text) <= LONGEST_VALUE else f"{plain[:LONGEST_VALUE]}-{json_sha256(text)[:6]}"


def usual_images(dataset: str) -> int:
    """Return the default number of test images of evaluations without retraining."""
    images = int(dataset_info(dataset).shapes["test_images"][0])
    return max(round(TEST_SHARE * images), min(images, FEWEST_IMAGES))


def usual_images_if_known(dataset: str) -> int | None:
    """`usual_images`; None for an image folder that is not here."""
    return usual_images(dataset) if known_dataset_info(dataset) else None


def classifier_line(metadata: Mapping[str, Any], path: Path) -> str:
    """Return a line on a trained classifier.

    Args:
        metadata: of its checkpoint.
    """
    return (
        f"model: {metadata['dataset']} {metadata['model']} seed {metadata['seed']}, {metadata['parameters']:,} "
        f"parameters: test accuracy {metadata['test_accuracy']:.4f} after {metadata['recipe']['epochs']} epochs "
        f"in {metadata['seconds']:.0f} s -> {path}"
    )
