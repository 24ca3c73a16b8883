"""Evaluations for the public Python API: of a network that is given, or of one that is trained and stored here."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import count, product
from typing import Any

import torch
from torch import Tensor, nn

from attribution import CONTROLS, ENSEMBLE_PARAMETERS, ENSEMBLES, METHODS, canonical_ensemble, canonical_method
from attribution.maps import compute_maps
from attribution.method import Method
from attribution.spec import MethodSpec
from common.command import begin_command
from common.errors import InputError
from common.imports import is_user_code
from common.progress import progress_bar
from evaluation import REMOVING, RETRAINING, TRUST
from evaluation.given import GivenArtefacts, Preprocessing, as_labels, measure_given, require_images
from evaluation.options import options_of
from evaluation.registry import EVALUATIONS as MEASURED
from evaluation.registry import load_evaluation
from evaluation.runs import MaskOptions, RetrainingConfig
from experiments.arguments import (
    canonical_evaluation,
    checked_options,
    refuse_commands,
    require_methods,
)
from experiments.effort import (
    BUDGET,
    ENSEMBLES_AROUND,
    Timing,
    choose_effort,
    require_values,
    summarize_trust,
    timed_images,
)
from experiments.measurements import summary_of
from experiments.options import NONE
from experiments.plans import plan_evaluations, require_fill, usable_methods
from experiments.request import Request
from experiments.runner import Experiment, run
from experiments.usage import refuse_unused, require_options_are_used
from models import ATTENTIONS, NO_ATTENTION
from reporting.evaluation_summary import ModelSummary
from reporting.trust_summary import TrustSummary

USUAL_METHODS = ("VBP", "IG", "GC")
GIVEN = "given images"  # in the place of a data set's name
OF_GIVEN = ("ROAD", "insertion-deletion", "selectivity", "sanity", "learned")


def evaluate_given(
    model: nn.Module,
    images: Tensor,
    labels: Any,
    methods: Sequence[str | Method] | None,
    evaluation: str,
    ensemble: str | None,
    preprocessing: Preprocessing | None,
    options: Mapping[str, Any],
) -> ModelSummary | TrustSummary:
    """Evaluate methods on a network in memory, see `whitebox.evaluate`."""
    reason = "needs training images: name a model and its data set in place of a network"
    evaluation = canonical_evaluation(evaluation, (*OF_GIVEN, TRUST), reason)
    require_methods(methods, ensemble)
    require_images(images)
    if not is_user_code(evaluation):
        refuse_unused({name for name, value in options.items() if value is not None}, {evaluation})
    elif options.get("control") is not None:
        raise InputError(f"control= is for {', '.join(REMOVING)}")
    if labels is None and options.get("explain") == "label":
        raise InputError("explain='label' needs labels")
    if evaluation == TRUST:
        return _answer(model, images, labels, methods, ensemble, preprocessing, options)
    protocol = load_evaluation(evaluation)
    options = checked_options([protocol.config], options)
    of_method = set(ENSEMBLE_PARAMETERS) if ensemble else set()
    of_config = {field.name for field in fields(protocol.config)} - of_method
    given = {name: options[name] for name in options if name in of_config}
    require_fill(evaluation, given)
    limit = _require_limit(given.get("limit_test", len(images)), len(images))
    config = protocol.configure(**{"by_image": limit > 1, **given, "limit_test": limit})
    parameters = {name: value for name, value in options.items() if name not in of_config}
    forms = (False, True) if parameters.pop("control", None) else (False,)
    specs = _specs(methods or USUAL_METHODS, ensemble, parameters)
    specs = {replace(spec, blur=blur): own for spec, own in specs.items() for blur in forms}
    artefacts = GivenArtefacts(model, images, as_labels(labels), specs, preprocessing)
    artefacts = artefacts.subset(limit) if limit < len(images) else artefacts
    with progress_bar(len(specs) * protocol.images(config), protocol.name, "images") as bar:
        results = {(spec, 0): measure_given(evaluation, config, artefacts, spec, bar.update) for spec in specs}
    return summary_of(protocol)(
        config=config, dataset=GIVEN, model=type(model).__name__, methods=tuple(specs), seeds=(0,), results=results
    )


def _require_limit(limit: int, images: int) -> int:
    if limit > images:
        raise InputError(f"limit_test={limit}: {images} images are given")
    return limit


def _answer(
    model: nn.Module,
    images: Tensor,
    labels: Any,
    methods: Sequence[str | Method] | None,
    ensemble: str | None,
    preprocessing: Preprocessing | None,
    options: Mapping[str, Any],
) -> TrustSummary:
    """Answer which explanation of a network in memory can be trusted, within a budget of time."""
    kinds = [load_evaluation(evaluation).config for evaluation in OF_GIVEN]
    known = {name for kind in kinds for name in options_of(kind)}
    options = checked_options(kinds, options)
    if not options.pop("by_image", True):
        raise InputError("by_image=False: trust compares the methods image by image")
    budget = options.pop("budget", BUDGET)
    require_fill(TRUST, options)
    parameters = {name: value for name, value in options.items() if name not in known}
    specs = _specs(methods or METHODS, ensemble, parameters)
    if methods is None and ensemble is None:
        specs |= {MethodSpec.of(ENSEMBLES_AROUND, each, **parameters): None for each in ENSEMBLES}
    artefacts = GivenArtefacts(model, images, as_labels(labels), specs, preprocessing)
    few = artefacts.subset(timed_images(images[0].numel(), len(images))).test.images
    inputs = few.batch(torch.arange(len(few), device=artefacts.device))
    target = torch.zeros(1, dtype=torch.int64, device=inputs.device)

    def build(spec: MethodSpec) -> Method:
        return artefacts.explainer(spec, artefacts.model)[0]

    candidates, left_out = usable_methods(
        specs, lambda spec: compute_maps(build(spec), inputs[:1], target), methods is not None
    )
    usable = {spec: partial(build, spec) for spec in candidates}
    limit = _require_limit(options.pop("limit_test", 0), len(images))
    require_values(options, limit or len(images), images[0, 0].numel())
    timing = Timing.measure(artefacts.model, inputs, usable)
    values = {name: value for name, value in options.items() if name in known}
    effort, remarks, over = choose_effort(timing, values, len(images), 60 * budget, limit)
    left_out |= {spec.label: reason for spec, reason in over.items()}
    measured = [spec for spec in usable if spec not in over]
    configs = effort.configs(values)
    protocols = {name: load_evaluation(name) for name in configs}
    parts = {limit: artefacts.subset(limit) for limit in {config.limit_test for config in configs.values()}}
    total = len(measured) * sum(protocols[name].images(config) for name, config in configs.items())
    results: dict[str, Any] = {name: {} for name in configs}
    with progress_bar(total, TRUST, "images") as bar:
        for spec, (name, config) in product(measured, configs.items()):
            part, included = parts[config.limit_test], protocols[name].includes(config)
            is_finished = included is not None and configs.get(included[0]) == included[1]
            part.included = results[included[0]].get((spec, 0)) if included and is_finished else None
            results[name][spec, 0] = measure_given(name, config, part, spec, bar.update)
    common = {"dataset": GIVEN, "model": type(model).__name__, "methods": tuple(measured), "seeds": (0,)}
    summaries = {
        name: summary_of(protocols[name])(config=config, results=results[name], **common)
        for name, config in configs.items()
    }
    summary = summarize_trust(summaries, left_out, remarks)
    return summary if labels is not None else replace(summary, baseline=None)


def _specs(
    methods: Sequence[str | Method], ensemble: str | None, parameters: Mapping[str, Any]
) -> dict[MethodSpec, Method | None]:
    """Map the specification of each method to the caller's own object, or to None if it has a name; controls last."""
    for name, value in parameters.items():
        if not isinstance(value, Hashable):
            raise InputError(f"{name}=: a {type(value).__name__} is given; an image as a baseline is a torch.Tensor")
    around = canonical_ensemble(ensemble) if ensemble else None
    specs: dict[MethodSpec, Method | None] = {}
    for method in (*methods, *CONTROLS):
        if isinstance(method, str):
            name = canonical_method(method)
            spec = MethodSpec.of(name, None if name in CONTROLS else around, **parameters)
            if specs.setdefault(spec, None) is not None:
                raise InputError(f"two methods are called {spec.label}: give your class another name")
        else:
            name = type(method).__name__
            numbered = (MethodSpec(name if number == 1 else f"{name} {number}") for number in count(1))
            specs[next(spec for spec in numbered if spec not in specs)] = method  # two objects may be of one class
    taken = {name for spec in specs for name, _value in spec.parameters}
    if unknown := set(parameters) - taken:
        raise InputError(f"unknown options: {', '.join(sorted(unknown))}")
    return specs


def evaluate_stored(
    model: str,
    dataset: str,
    methods: Sequence[str | Method] | None,
    evaluation: str,
    ensemble: str | None,
    options: Mapping[str, Any],
) -> ModelSummary:
    """Evaluate methods on a classifier of this project, as the command line does; what is missing is made, and kept."""
    begin_command()
    require_methods(methods, None)
    methods = methods or USUAL_METHODS
    places = [method for method in methods if isinstance(method, str)]
    if len(places) < len(methods):
        raise InputError("a stored classifier needs methods with names: give package.module:Name for your own")
    reason = "of a stored classifier is for the command line: python main.py --eval=NAME"
    evaluation = canonical_evaluation(evaluation, (*MEASURED, *RETRAINING), reason)
    if not isinstance(dataset, str):
        raise InputError(f"dataset={dataset!r}: give one name, such as 'mnist' or 'folder:PATH'")
    refuse_commands(options)
    kinds = (RetrainingConfig, MaskOptions) if evaluation in RETRAINING else (load_evaluation(evaluation).config,)
    known = {field.name for field in fields(Request)} | {name for kind in kinds for name in options_of(kind)}
    if unknown := set(options) - known:
        raise InputError(f"unknown options: {', '.join(sorted(unknown))}")
    options = checked_options(kinds, options)
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
    require_options_are_used(request)
    request.folders.require_usable()
    request = request.with_known_targets()
    _pictures, measurements, sweeps = plan_evaluations(request)
    experiments: list[Experiment[Any]] = [*measurements, *sweeps]
    run(experiments, request.make_engine())
    return experiments[0].summary
