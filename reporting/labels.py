"""Labels of conditions, in notes and in file names, and the colours of the methods."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from attribution import BASELINES, CONTROLS, LEVEL, METHODS, SAMPLES, STEPS
from attribution.spec import MethodSpec
from common.hashing import json_sha256
from data.folders import is_folder, parse_folder_name
from models import ATTENTIONS, NO_ATTENTION, parse_model_name, split_weights

LONGEST_VALUE = 40  # letters of a parameter in file names
ONE_SEED = "Wilson's over the test images (one seed: the spread between networks is unknown)"
USUAL_PARAMETERS = {"steps": STEPS, "samples": SAMPLES, "level": LEVEL, "baseline": BASELINES[0]}
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
HOUR, MINUTE = 3600, 60

# The first six are Okabe & Ito's, which people with any kind of colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#44AA99", "#7F3C8D", "#882255")
CONTROL_COLOUR = "#444444"
BLURRED = " blurred"  # ends the label of a method whose maps are blurred
TRUSTED, NOT_TRUSTED = "#0072B2", "#8a8a8a"
DASHES = {
    "RANDOM": (5, 3),
    "SOBEL": (1, 1.5),
    "SG": (4, 1),
    "SG-SQ": (7, 1.5, 1, 1.5),
    "SG-VAR": (2, 1),
    "blurred": (5, 1.5, 1, 1.5),
}


def colours_of(methods: Sequence[str]) -> dict[str, str]:
    """Return a colour for each label of a method: the same in every figure, grey for the controls.

    An ensemble has the colour of its method, and lines of its own (`dashes_of`); methods of the user have what is left.
    """
    known = dict(zip((method for method in METHODS if method not in CONTROLS), cycle(COLOURS)))
    known |= dict.fromkeys(CONTROLS, CONTROL_COLOUR)
    names = {label: next((word for word in label.split() if word in known), label) for label in methods}
    taken = {known[name] for name in names.values() if name in known}
    others = dict.fromkeys(name for name in names.values() if name not in known)
    colours = known | dict(zip(others, cycle([colour for colour in COLOURS if colour not in taken] or COLOURS)))
    return {label: colours[name] for label, name in names.items()}


def dashes_of(label: str) -> tuple[float, ...]:
    """Return the lengths of dashes and gaps of a method's lines, in widths; none for a solid line."""
    return tuple(length for word in label.split() for length in DASHES.get(word, ()))


def is_blurred(label: str) -> bool:
    """Return whether a label is that of a method's maps blurred, which are no method of their own."""
    return label.endswith(BLURRED)


def is_control(label: str) -> bool:
    """Return whether a label is that of a control, perhaps with its maps blurred."""
    return label.removesuffix(BLURRED) in CONTROLS


def spread(places: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Return places for names: those of `places`, moved as little as possible to lie apart, from `low` to `high`.

    Args:
        places: in the order that the result has, from the lowest on.
        distance: between two names; less where they don't fit.
    """
    from scipy.optimize import isotonic_regression  # here, since only figures need it

    if not places:
        return []
    distance = min(distance, (high - low) / max(1, len(places) - 1))
    offsets = distance * np.arange(len(places))
    moved = isotonic_regression(np.asarray(places) - offsets).x
    return (np.clip(moved, low, high - offsets[-1]) + offsets).tolist()


def colours_of_models(models: Iterable[str]) -> dict[str, str]:
    """Return a colour for each model; the five of this project have the same in every figure."""
    names = dict.fromkeys((NO_ATTENTION, *ATTENTIONS, *models))
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def duration(seconds: float) -> str:
    if seconds >= HOUR:
        return f"{seconds / HOUR:.1f} hours"
    return f"{seconds / MINUTE:.0f} minutes" if seconds >= 2 * MINUTE else f"{seconds:.0f} s"


def quantity(number: int, unit: str, space: str = " ") -> str:
    """Return a number with its unit: 1 seed, 3 seeds."""
    return f"{number}{space}{unit}{'' if number == 1 else 's'}"


def joined(names: Sequence[str]) -> str:
    """Return the names as a list in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def file_name_part(name: str) -> str:
    return name.replace(" ", "-")


def explained_class(explain: str) -> str:
    """Return the name of the explained class in a sentence."""
    return "predicted class" if explain == "prediction" else "label"


def interval_kind(seeds: int) -> str:
    """Return the kind of interval of a mean over `seeds` networks."""
    return ONE_SEED if seeds == 1 else "Student's t over the seeds"


def parameter_sentences(methods: Iterable[MethodSpec]) -> str:
    """Return a sentence for each method that has parameters, with a space before it."""
    sentences = {
        f" {method.label}: {', '.join(f'{name} {value}' for name, value in method.parameters)}."
        for method in methods
        if method.parameters
    }
    return "".join(sorted(sentences))


def parameter_words(methods: Iterable[MethodSpec]) -> list[str]:
    """Return the parameters that are not the default, as parts of file names: ["steps-10"]."""
    pairs = (pair for method in methods for pair in method.parameters)
    unusual = (f"{name}-{value}" for name, value in pairs if value != USUAL_PARAMETERS.get(name))
    return list(dict.fromkeys(map(file_name_value, unusual)))


def file_name_value(text: str) -> str:
    """Return `text`, or, if a file name can't have it, its letters with a hash of it."""
    plain = re.sub(r"[^\w.-]+", "-", text).strip("-")
    return text if plain == text and len(text) <= LONGEST_VALUE else f"{plain[:LONGEST_VALUE]}-{json_sha256(text)[:6]}"


def readable_dataset(name: str) -> str:
    """Return a data set's name in a sentence: of an image folder its last part, without the options."""
    return parse_folder_name(name)[0].name if is_folder(name) else TITLES.get(name, name)


def readable_model(name: str) -> str:
    """Return a model's name in a sentence: without the sum of given weights, and the folder of a user's file."""
    place, weights = split_weights(parse_model_name(name)) if "+" in name else (None, None)
    return name if weights is None else (place or NO_ATTENTION).rpartition("/")[2]


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
