"""Options of evaluations: a field of a frozen configuration that is written once.

Its flag and help on the command line, its field in records, its word in file names and its sentence under tables come
from the field.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from common.errors import InputError
from training.recipe import Recipe

RECORD_NAMES = {
    "alpha": "share",
    "beta": "most",
    "checkpoint_sha256": "checkpoint_sum",
    "dataset_sha256": "dataset_sum",
    "network_input": "sees",
}
"""Fields of configurations -> their names in records of format 1, where those differ."""


@dataclass(frozen=True)
class Option:
    """The description of one option.

    Attributes:
        help: a phrase for `--help`, to which the default is added.
        choices: the allowed values; none if `parse` checks them.
        parse: text -> value; raises InputError.
        metavar: stands for the value in `--help`.
        usual: the default in words, where it is not the field's.
        recorded: values -> their form in records and file names, where it is another one.
        word: the value in file names, a format; "" if it is not part of them.
        note: a sentence under tables where the value is not the default, a format; "" if the table's own note has it.
        is_new: the field came after the first records, which lack it: a record has it only where it isn't the default.
        users: the commands and evaluations that use it, where they are not all of its configuration's.
    """

    help: str
    choices: tuple[str, ...] = ()
    parse: Callable[[str], Any] | None = None
    metavar: str | None = None
    usual: str = ""
    recorded: Mapping[Any, Any] = field(default_factory=dict)
    word: str = "{}"
    note: str = ""
    is_new: bool = False
    users: tuple[str, ...] = ()


def option(default: Any, help: str, **facts: Any) -> Any:
    """Return a dataclass field with a default that is an option; `facts` are attributes of `Option`."""
    return field(default=default, metadata={"option": Option(help, **facts)})


def options_of(config: Any) -> dict[str, Option]:
    """Return the options of a configuration, or of its class, by the names of their fields."""
    return {entry.name: entry.metadata["option"] for entry in fields(config) if "option" in entry.metadata}


def defaults_of(config: Any) -> dict[str, Any]:
    return {entry.name: entry.default for entry in fields(config) if "option" in entry.metadata}


def checked(kinds: Iterable[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of options that come from Python: checked, and in the form that the command line gives them.

    Args:
        kinds: configurations, or their classes, that have the options; values of other names are returned as they are.

    Raises:
        InputError: a value that the command line refuses, too.
    """
    result = dict(values)
    for name, about in (pair for kind in kinds for pair in options_of(kind).items() if pair[0] in values):
        value = result[name]
        if name == "ratios":
            value = _ratios(value)
        elif about.parse is not None:
            try:
                value = about.parse(_as_text(value))
            except InputError as error:
                raise InputError(f"{name}={result[name]!r}: {error}") from error
        if about.choices and value not in about.choices:
            raise InputError(f"{name}={value!r}: choose from {', '.join(about.choices)}")
        result[name] = value
    return result


def _ratios(value: Any) -> tuple[float, ...]:
    """Return fractions, each once, ascending; 0 and 1 are among the default ones of insertion–deletion."""
    try:
        ratios = sorted(set(map(float, _as_text(value).split(","))))
    except ValueError:
        ratios = []
    if not ratios or not all(0 <= ratio <= 1 for ratio in ratios):
        raise InputError(f"ratios={value!r}: give fractions from 0 to 1, as (0.1, 0.5)")
    return tuple(ratios)


def _as_text(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if isinstance(value, Mapping):
        return json.dumps(value)
    return ",".join(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)


def record_of(config: Any) -> dict[str, Any]:
    """Return the fields as records have them; tuples become lists, a recipe its own plain form."""
    options, record = options_of(config), {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if option := options.get(entry.name):
            if option.is_new and value == entry.default:
                continue
            value = option.recorded.get(value, value) if option.recorded else value
        value = value.plain() if isinstance(value, Recipe) else value
        record[RECORD_NAMES.get(entry.name, entry.name)] = list(value) if isinstance(value, tuple) else value
    return record


def from_record(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return those fields of a record that the configuration `kind` has, as it has them, by their names there."""
    names = {entry.name: RECORD_NAMES.get(entry.name, entry.name) for entry in fields(kind)}
    values = {name: record[recorded] for name, recorded in names.items() if recorded in record}
    for name, option in options_of(kind).items():
        for value, recorded in option.recorded.items():
            if values.get(name) == recorded:
                values[name] = value
    return {name: _as_configured(value) for name, value in values.items()}


def _as_configured(value: Any) -> Any:
    """Return a value of a record as a configuration has it: a tuple instead of a list, a recipe."""
    if isinstance(value, list):
        return tuple(value)
    return Recipe(**value) if isinstance(value, dict) else value


def words_of(config: Any, usual: Mapping[str, Any] | None = None) -> list[str]:
    """Return the options that are not the usual ones, as words of file names.

    Args:
        usual: values that are the usual ones in place of the defaults, by field.
    """
    expected = defaults_of(config) | dict(usual or {})
    return [
        about.word.format(about.recorded.get(value, value) if about.recorded else value)
        for name, about in options_of(config).items()
        if about.word and (value := getattr(config, name)) != expected[name]
    ]


def notes_of(config: Any) -> str:
    """Return the sentences on options that are not the default, each with a space before it."""
    defaults = defaults_of(config)
    return "".join(
        f" {about.note.format(value)}"
        for name, about in options_of(config).items()
        if about.note and (value := getattr(config, name)) != defaults[name]
    )
