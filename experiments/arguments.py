"""Arguments of the public Python API, which no parser has seen: what makes no sense is refused in a sentence."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attribution.method import Method
from common.errors import InputError
from common.imports import is_user_code
from evaluation import EVALUATIONS, TRUST
from evaluation.configs import TrustOptions
from evaluation.options import checked
from experiments.options import COMMANDS, MethodOptions, NetworkOptions, RunningOptions, TrainingOptions

COMMAND_LINES_OWN = {*COMMANDS, "eval", "target", "method", "ensemble", "attention", "model", "publish", "dry_run"}
"""Options that the arguments of `evaluate` stand for, or that mean nothing there."""


def canonical_evaluation(name: Any, possible: Sequence[str], reason: str) -> str:
    """Return the evaluation as it is written here, or `package.module:Name` as it is.

    Args:
        possible: the evaluations that this kind of network can have.
        reason: why it can have no other.

    Raises:
        InputError: no name of an evaluation, or of one that is not possible.
    """
    if isinstance(name, str) and is_user_code(name):
        return name
    known = {known.upper(): known for known in (*EVALUATIONS, TRUST)}
    found = known.get(name.upper()) if isinstance(name, str) else None
    if found is None:
        raise InputError(f"unknown evaluation {name!r}: choose from {', '.join(possible)}, or give package.module:Name")
    if found not in possible:
        raise InputError(f"{found} {reason}")
    return found


def require_methods(methods: Any, ensemble: Any) -> None:
    """Raise `InputError` unless `methods` is None, or a list of names and of objects that can be called for maps."""
    if methods is None:
        return
    if isinstance(methods, str) or not isinstance(methods, Iterable) or len(list(methods)) == 0:
        raise InputError(f"methods={methods!r}: give a list, such as ['GC', 'IB']")
    for method in methods:
        if isinstance(method, str):
            continue
        if isinstance(method, type) or not hasattr(method, "attribute"):
            raise InputError(f"{method!r} is no method: give a name, or an object with attribute(inputs, target)")
        if not _takes_target(method):
            raise InputError(f"{type(method).__name__}.attribute takes no argument `target`: attribute(inputs, target)")
        if ensemble is not None:
            raise InputError(
                f"ensemble={ensemble!r} goes around methods with names, not around {type(method).__name__}"
            )


def _takes_target(method: Method) -> bool:
    """Return whether the method's `attribute` takes the class by its name."""
    parameters = inspect.signature(method.attribute).parameters
    return "target" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def checked_options(kinds: Iterable[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have a value, as the command line gives them.

    Args:
        kinds: the configurations of the evaluation.

    Raises:
        InputError: a value that the command line refuses.
    """
    given = {name: value for name, value in options.items() if value is not None}
    usual = {name: value for name, value in given.items() if name != "baseline"}  # which may be an image
    groups = (*kinds, TrustOptions, NetworkOptions, MethodOptions, TrainingOptions, RunningOptions)
    return given | checked(groups, usual)


def refuse_commands(options: Mapping[str, Any]) -> None:
    """Raise `InputError` for options of the command line that say what `evaluate` says by its own arguments."""
    if wrong := sorted(COMMAND_LINES_OWN & set(options)):
        raise InputError(
            f"{wrong[0]}= is no option here: model, dataset=, methods= and evaluation= say what is measured"
        )
