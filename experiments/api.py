"""Evaluations for the public Python API: of a network that is given, or of one that is trained and stored here."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attribution import CONTROLS, canonical_ensemble, canonical_method
from attribution.method import Method
from attribution.spec import MethodSpec
from common.errors import InputError
from common.imports import is_user_code
from common.progress import progress_bar
from evaluation import RETRAINING
from evaluation.given import GivenArtefacts, Preprocessing
from evaluation.given import measure_given as measure
from evaluation.options import options_of
from evaluation.registry import EVALUATIONS as MEASURED
from evaluation.registry import load_evaluation
from evaluation.runs import MaskOptions, RetrainingConfig
from experiments.engine import Local
from experiments.measurements import summarize_measurements
from experiments.options import NONE
from experiments.plans import plan_evaluations
from experiments.request import Request
from experiments.runner import Experiment, run
from models import ATTENTIONS, NO_ATTENTION
from reporting.evaluation_summary import ModelSummary

GIVEN = "given images"  # in the place of a data set's name
OF_GIVEN = ("ROAD", "insertion-deletion", "selectivity", "sanity", "learned")


def evaluate_given(
    model: nn.Module,
    images: Tensor,
    labels: Any,
    methods: Sequence[str | Method],
    evaluation: str,
    ensemble: str | None,
    preprocessing: Preprocessing | None,
    options: Mapping[str, Any],
) -> ModelSummary | TrustSummary:
    """Evaluate methods on a network in memory, see `whitebox.evaluate`."""
    if evaluation == TRUST:
        return _answer(model, images, labels, methods, ensemble, preprocessing, dict(options))
    if evaluation not in OF_GIVEN and not is_user_code(evaluation):
        raise InputError(f"{evaluation} needs training images: name a model and its data set in place of a network")
    protocol = load_evaluation(evaluation)
    config = protocol.configure(**{"by_image": len(images) > 1, **options, "limit_test": len(images)})
    of_config = {field.name for field in fields(protocol.config)}
    specs = _specs(methods, ensemble, {name: value for name, value in options.items() if name not in of_config})
    labels = torch.as_tensor(np.asarray(labels)) if not isinstance(labels, Tensor) else labels
    own = {spec: method for spec, method in specs.items() if not isinstance(method, str)}
    artefacts = GivenArtefacts(model, images, labels, own, preprocessing)
    with progress_bar(len(specs) * protocol.images(config), protocol.name, "images") as bar:
        results = {(spec, 0): measure(evaluation, config, artefacts, spec, bar.update) for spec in specs}
    facts = config, GIVEN, type(model).__name__, tuple(specs), (0,), results
    return summarize_measurements(protocol, *facts)


def _specs(
    methods: Sequence[str | Method], ensemble: str | None, parameters: Mapping[str, Any]
) -> dict[MethodSpec, str | Method]:
    """Return the method or its name by its specification; the controls come last."""
    around = canonical_ensemble(ensemble) if ensemble else None
    specs: dict[MethodSpec, str | Method] = {}
    for method in (*methods, *CONTROLS):
        if isinstance(method, str):
            name = canonical_method(method)
            specs[MethodSpec.of(name, None if name in CONTROLS else around, **parameters)] = name
        elif hasattr(method, "attribute"):
            name = type(method).__name__
            numbered = (MethodSpec(name if number == 1 else f"{name} {number}") for number in count(1))
            specs[next(spec for spec in numbered if spec not in specs)] = method  # two objects may be of one class
        else:
            raise InputError(f"{method!r} is no method: give a name, or an object with attribute(inputs, target)")
    taken = {name for spec in specs for name, _value in spec.parameters}
    if unknown := set(parameters) - taken:
        raise InputError(f"unknown options: {', '.join(sorted(unknown))}")
    return specs


def evaluate_stored(
    model: str,
    dataset: str,
    methods: Sequence[str | Method],
    evaluation: str,
    ensemble: str | None,
    options: Mapping[str, Any],
) -> ModelSummary:
    """Evaluate methods on a classifier of this project, as the command line does; what is missing is made, and kept."""
    places = [method for method in methods if isinstance(method, str)]
    if len(places) < len(methods):
        raise InputError("a stored classifier needs methods with names: give package.module:Name for your own")
    if evaluation not in (*MEASURED, *RETRAINING) and not is_user_code(evaluation):
        raise InputError(f"unknown evaluation {evaluation!r}: choose from {', '.join((*MEASURED, *RETRAINING))}")
    kinds = (RetrainingConfig, MaskOptions) if evaluation in RETRAINING else (load_evaluation(evaluation).config,)
    known = {field.name for field in fields(Request)} | {name for kind in kinds for name in options_of(kind)}
    if unknown := set(options) - known:
        raise InputError(f"unknown options: {', '.join(sorted(unknown))}")
    facts: dict[str, Any] = {
        "eval": (evaluation,),
        "target": (dataset,),
        "method": tuple(map(canonical_method, places)),
        "ensemble": (canonical_ensemble(ensemble) if ensemble else NONE,),
    }
    if model in (NO_ATTENTION, *ATTENTIONS):
        facts["attention"] = (NONE if model == NO_ATTENTION else model,)
    else:
        facts["model"] = model
    request = Request.of({**options, **facts})
    request.folders.require_usable()
    request = request.with_known_targets()
    _pictures, measurements, sweeps = plan_evaluations(request)
    experiments: list[Experiment[Any]] = [*measurements, *sweeps]
    run(experiments, Local(request.processes))
    summary: ModelSummary = experiments[0].summary
    return summary
