"""Coherence: the examples on which maps are looked at."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import InputError
from data import Split
from evaluation.configs import ExampleFilter

Array = npt.NDArray[Any]


def choose_examples(
    test: Split, classes: Sequence[str], wanted: ExampleFilter, correct: Sequence[Callable[[Split], Array]]
) -> Split:
    """Return the images to show: those at `wanted.index`, or the first of each class.

    Args:
        correct: for each network a function that tells which images of a split it classifies correctly: (N,) bool.

    Raises:
        InputError: no such class or position, or no image that is classified correctly.
    """
    if wanted.index:
        positions = {int(index): row for row, index in enumerate(test.index)}
        for index in wanted.index:
            if index not in positions:
                raise InputError(f"--index={index}: there is no such test image (0 to {max(positions)})")
        test = test.take(np.array([positions[index] for index in wanted.index]))
    labels = class_numbers(wanted.classes, classes)
    candidates = test.take(np.flatnonzero(np.isin(test.labels, labels)))
    if wanted.correct_only:
        for is_correct in correct:
            candidates = candidates.take(np.flatnonzero(is_correct(candidates)))
    if wanted.index:
        if len(candidates) == 0:
            raise InputError("none of the images of --index has the class, or is classified correctly, as asked")
        return candidates
    rows = [np.flatnonzero(candidates.labels == label) for label in labels]
    missing = [classes[label] for label, found in zip(labels, rows, strict=True) if len(found) == 0]
    if missing:
        what = "correctly classified test image" if wanted.correct_only else "test image"
        raise InputError(f"no {what} of class {', '.join(missing)}")
    return candidates.take(np.array([found[0] for found in rows]))


def class_numbers(wanted: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Class names or numbers -> numbers, in ascending order; none means all.

    Raises:
        InputError: there is no such class.
    """
    known = {name.lower(): number for number, name in enumerate(classes)} | {str(n): n for n in range(len(classes))}
    for name in wanted:
        if name.lower() not in known:
            raise InputError(f"unknown class {name!r}: choose from {', '.join(classes)}")
    return sorted({known[name.lower()] for name in wanted}) if wanted else list(range(len(classes)))
