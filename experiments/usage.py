"""The options that a command uses: others, which would have no effect, are refused."""

from collections.abc import Iterable, Set
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from attribution import ANY_MODEL_METHODS, ENSEMBLE_PARAMETERS, REGISTRY
from common.errors import InputError
from common.imports import is_user_code
from evaluation import OWN, REMOVING, RETRAINING, TRUST
from evaluation.configs import ExampleFilter, RemovalConfig, SanityConfig, SelectivityConfig, TrustOptions
from evaluation.options import options_of
from evaluation.registry import load_evaluation
from evaluation.runs import MaskOptions, RetrainingConfig
from experiments.options import (
    COMMANDS,
    EXPLAINING,
    NONE,
    WORKING,
    MethodOptions,
    NetworkOptions,
    RunningOptions,
    TrainingOptions,
)

if TYPE_CHECKING:
    from experiments.request import Request

USERS: dict[Any, tuple[str, ...]] = {
    MethodOptions: EXPLAINING,
    **dict.fromkeys((NetworkOptions, TrainingOptions, RunningOptions), WORKING),
    **dict.fromkeys((RetrainingConfig, MaskOptions), RETRAINING),
    RemovalConfig: (*REMOVING, "learned", TRUST),
    SelectivityConfig: ("selectivity", TRUST),
    SanityConfig: ("sanity", TRUST),
    ExampleFilter: ("coherence",),
    TrustOptions: (TRUST,),
}
"""Configurations of options -> the commands and evaluations that use all of those that name no `users`."""


def users_of(name: str) -> set[str]:
    """Return the commands and evaluations that use an option."""
    return {
        user
        for config, users in USERS.items()
        for other, about in options_of(config).items()
        if other == name
        for user in about.users or users
    }


def require_options_are_used(request: "Request") -> None:
    """Raise `InputError` if an option that is given has no effect on the command."""
    commands = [name for name in ("train", "saliency", "report", "reproduce") if getattr(request, name)]
    parts = {*commands, *(OWN if is_user_code(name) else name for name in request.eval)}
    of_own = {
        field.name for name in request.eval if is_user_code(name) for field in fields(load_evaluation(name).config)
    }
    refuse_unused(request.explicit - of_own, parts)
    if request.method != ANY_MODEL_METHODS or TRUST not in request.eval:  # which takes all methods, and ensembles
        _require_parameters_are_used(request)


def refuse_unused(names: Iterable[str], parts: Set[str]) -> None:
    """Raise `InputError` if an option is for none of the commands and evaluations `parts`."""
    for name in sorted(names):
        users = users_of(name)
        if users and not users & parts:
            raise InputError(f"--{name.replace('_', '-')} is for {_words(users)}")


def _require_parameters_are_used(request: "Request") -> None:
    """Raise `InputError` if a parameter is given that no method, and no ensemble, of the request takes."""
    for method, info in REGISTRY.items():
        if method not in request.method and (idle := request.explicit & set(info.parameters)):
            raise InputError(f"--{min(idle)} is for --method={method}")
    if set(request.ensemble) == {NONE} and (idle := request.explicit & set(ENSEMBLE_PARAMETERS)):
        raise InputError(f"--{min(idle)} is for an ensemble around the methods: give --ensemble=NAME too")


def _words(users: Iterable[str]) -> str:
    """Return commands and evaluations as they are typed."""
    evaluations = [name for name in EXPLAINING if name in users and name != "saliency"]
    words = [f"--{name}" for name in COMMANDS if name in users and name not in evaluations]
    if evaluations:
        words.append("--eval" if {*EXPLAINING} <= {*users} else f"--eval={','.join(evaluations)}")
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
