"""The examples of coherence."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from data import Split
from evaluation.configs import ExampleFilter

Array = npt.NDArray[Any]


def choose_examples(
    test: Split, classes: Sequence[str], examples: ExampleFilter, correct: Sequence[Callable[[Split], Array]]
) -> Split:
    """Return the images to show: those at `examples.index`, or the first of each class.

    Args:
        correct: a function for each network: images of a split -> whether it classifies each correctly, (N,) bool.

    Raises:
        InputError: no such class or position, or no image that is classified correctly.
    """
    if examples.index:
        positions = {int(index): row for row, index in enumerate(test.index)}
        for index in examples.index:
            if index not in positions:
                raise InputError(f"--index={index}: there is no such test image (0 to {max(positions)})")
        test = test.take(np.array([positions[index] for index in examples.index]))
    labels = class_numbers(examples.classes, classes)
    candidates = test.take(np.flatnonzero(np.isin(test.labels, labels)))
    if examples.correct_only:
        for is_correct in correct:
            candidates = candidates.take(np.flatnonzero(is_correct(candidates)))
    if examples.index:
        if len(candidates) == 0:
            raise InputError("none of the images of --index has the class, or is classified correctly, as asked")
        return candidates
    rows = [np.flatnonzero(candidates.labels == label) for label in labels]
    missing = [classes[label] for label, of_class in zip(labels, rows, strict=True) if len(of_class) == 0]
    if missing:
        what = "correctly classified test image" if examples.correct_only else "test image"
        raise InputError(f"no {what} of class {', '.join(missing)}")
    return candidates.take(np.array([of_class[0] for of_class in rows]))


def class_numbers(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the numbers of classes by name or number, ascending; all for no names.

    Raises:
        InputError: there is no such class.
    """
    numbers = {name.lower(): number for number, name in enumerate(classes)} | {str(n): n for n in range(len(classes))}
    for name in names:
        if name.lower() not in numbers:
            raise InputError(f"unknown class {name!r}: choose from {', '.join(classes)}")
    return sorted({numbers[name.lower()] for name in names}) if names else list(range(len(classes)))
