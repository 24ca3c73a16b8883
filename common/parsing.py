"""Parsers of values on a command line."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError

ALL = "all"


def folder(text: str) -> Path:
    """Parse the path of a folder, in which ~ is the user's own.

    Raises:
        InputError: ~NAME of nobody.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{text}: there is no such user") from error


def number(kind: type, low: float, high: float = float("inf"), low_counts: bool = True) -> Callable[[str], Any]:
    """Return a parser of finite numbers from `low` (above it unless `low_counts`) to below `high`."""

    def parse(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            value = float("nan")
        if not (low < value < high or (low_counts and value == low)):
            least = f"at least {low:g}" if low_counts else f"above {low:g}"
            most = f" and below {high:g}" if high != float("inf") else ""
            noun = "whole number" if kind is int else "number"
            raise InputError(f"{text!r} is not a {noun} {least}{most}")
        return value

    return parse


positive = number(int, 1)
fraction = number(float, 0, 1, low_counts=False)


def fractions(text: str) -> tuple[float, ...]:
    """Parse fractions between 0 and 1, with commas; return each once, ascending."""
    return tuple(sorted({fraction(part) for part in text.split(",")}))


def names(text: str) -> tuple[str, ...]:
    """Parse names with commas; return each once."""
    return tuple(dict.fromkeys(text.split(",")))


def positions(text: str) -> tuple[int, ...]:
    """Parse whole numbers from 0 on, with commas; return each once."""
    return tuple(dict.fromkeys(map(number(int, 0), text.split(","))))


def one_or_more(canonical: Callable[[str], str], everything: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of `a`, `a,b` or `all`; `canonical` returns the usual spelling of each name."""

    def parse(text: str) -> tuple[str, ...]:
        if text.endswith(","):
            raise InputError(f"{text!r} ends with a comma: write several names with commas and no spaces, as in a,b")
        return tuple(everything) if text == ALL else tuple(dict.fromkeys(map(canonical, text.split(","))))

    return parse


def canonical_name(what: str, name: object, known: Mapping[str, Iterable[str]], or_else: str = "") -> str:
    """Return a name as it is written here.

    Args:
        what: is looked for, in messages.
        name: in upper or lower case.
        known: each name, with others for the same thing.
        or_else: another choice, at the end of the message.

    Raises:
        InputError: an unknown name, or no text.
    """
    for canonical, others in known.items():
        if isinstance(name, str) and name.upper() in map(str.upper, (canonical, *others)):
            return canonical
    raise InputError(f"unknown {what} {name!r}: choose from {', '.join(known)}{or_else}")


def among(what: str, known: Sequence[str]) -> Callable[[str], str]:
    """Return a parser of one of `known`, in upper or lower case."""
    return lambda text: canonical_name(what, text, dict.fromkeys(known, ()), f", {ALL}")


def json_object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"""{text!r} is no JSON object such as '{{"n_samples": 20}}'""")
    return content
