"""The experiments of a request."""

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from attribution import ANY_MODEL_METHODS, CONTROLS
from attribution.spec import MethodSpec
from common.errors import InputError
from common.imports import is_user_code
from data import dataset_info
from evaluation import FILLS_OF, OF_SEEDS, QUICK_RATIOS, RATIOS, REMOVING, RETRAINING
from evaluation.configs import ExampleFilter, SanityConfig, usual_images
from evaluation.registry import load_evaluation
from evaluation.runs import MaskOptions, RetrainingConfig
from evaluation.selectivity import pixels_removed
from experiments.measurements import Measurements, SelectivityMeasurements
from experiments.pipeline import Pipeline
from experiments.request import Request
from experiments.sweep import Sweep
from training.recipe import finetuning_recipe

if TYPE_CHECKING:
    from experiments.pictures import Coherence


def usable_methods(
    methods: Iterable[MethodSpec], attempt: Callable[[MethodSpec], object], are_chosen: bool
) -> tuple[list[MethodSpec], dict[str, str]]:
    """Return the methods that can explain a network, and the reason against each of the others by its label.

    Args:
        attempt: raises `InputError` for a method that can't.
        are_chosen: the user named the methods, so that none is left out.

    Raises:
        InputError: a chosen method can't explain the network, or none can but the controls.
    """
    usable, left_out = [], {}
    for method in methods:
        try:
            attempt(method)
            usable.append(method)
        except InputError as error:
            if are_chosen:
                raise
            left_out[method.label] = str(error)
    if left_out and all(method.method in CONTROLS for method in usable):
        raise InputError(f"no method can explain the network: {next(iter(left_out.values()))}")
    return usable, left_out


def methods_for(
    pipeline: Pipeline, request: Request, methods: Iterable[MethodSpec]
) -> tuple[list[MethodSpec], dict[str, str]]:
    """Return those of `methods` that can explain the network of `pipeline`, see `usable_methods`.

    All can explain the networks of --attention, whose own runs refuse a method that can't.
    """
    if request.model is None:
        return list(methods), {}
    return usable_methods(methods, pipeline.try_method, request.method != ANY_MODEL_METHODS)


def plan_evaluations(request: Request) -> tuple[list["Coherence"], list[Measurements], list[Sweep]]:
    """Return the experiments of --eval.

    Returns:
        coherence: the pictures of each data set, with all its networks.
        measurements: the evaluations without retraining: selectivity of seed 0, the others of all seeds.
        sweeps: ROAR and KAR, one for each data set, network and evaluation.

    Raises:
        InputError: an option without its evaluation, or one that doesn't fit; a method that a model refuses; a stored
            result or map that can't be used.
    """
    _require_options_fit(request)
    pipelines, names = list(request.pipelines()), request.eval
    overwrite = request.overwrite
    pictures, measurements = [], list[Measurements]()
    for target in request.target or () if "coherence" in names else ():
        from experiments.pictures import Coherence  # here, since other evaluations don't need it

        of_target = [pipeline for pipeline in pipelines if pipeline.config.dataset == target]
        methods, left_out = methods_for(of_target[0], request, request.methods_and_controls)
        examples = ExampleFilter(**request.options_for(ExampleFilter))
        pictures.append(Coherence(of_target, methods, examples, left_out))
    for pipeline in pipelines if "selectivity" in names else ():
        config = _selectivity_config(request, pipeline.config.dataset)
        methods, left_out = methods_for(pipeline, request, request.methods_and_controls)
        measurements.append(SelectivityMeasurements("selectivity", [pipeline], methods, config, overwrite, left_out))
    own = [name for name in names if is_user_code(name)]
    for evaluation in [*(name for name in OF_SEEDS if name in names), *own]:
        for of_seeds in request.pipelines_of_seeds():
            first = of_seeds[0]
            values = {"by_image": first.given is not None, "explain": first.explain, **request.options}
            values["limit_test"] = first.limit_test
            if evaluation == "F-Fidelity":
                values["tuning"] = finetuning_recipe(first.config.recipe)
            config = load_evaluation(evaluation).configure(**values)
            candidates = request.curves if evaluation in REMOVING else request.methods_and_controls
            methods, left_out = methods_for(first, request, candidates)
            measurements.append(Measurements(evaluation, of_seeds, methods, config, overwrite, left_out))
    sweeps = []
    retraining = [name for name in names if name in RETRAINING]
    explained = [request.explained_pipelines(pipeline) for pipeline in pipelines] if retraining else []
    for of_seeds, evaluation in product(explained, retraining):
        methods, left_out = methods_for(of_seeds[0], request, request.curves)
        protocol = _retraining_config(request, evaluation, of_seeds[0], methods)
        sweeps.append(Sweep(protocol, of_seeds, overwrite, left_out))
    return pictures, measurements, sweeps


def _require_options_fit(request: Request) -> None:
    training = [name for name in request.eval if name in (*RETRAINING, "F-Fidelity")]
    for target in request.target or () if training else ():
        if dataset_info(target).shapes["train_images"][0] == 0:
            raise InputError(f"--eval={','.join(training)} needs training images: leave out --split=test")
    if request.options.get("retrain_from") == "weights" and not request.weights:
        raise InputError("--retrain-from=weights is for a network with --weights=FILE")
    if request.options.get("explained_seeds") == "own":
        if request.weights:
            raise InputError("--explained-seeds=own trains a network for each seed: --weights gives one network")
        if request.seeds == 1:
            raise InputError("--explained-seeds=own is for several seeds: give --seeds=2 or more")
    if request.options.get("mask_seeds", 1) > request.seeds:
        raise InputError(f"--mask-seeds={request.options['mask_seeds']} is more than --seeds={request.seeds}")
    if request.weights and request.options_for(SanityConfig).get("random_labels"):
        raise InputError("--random-labels trains the network: it is not for one with --weights")
    for evaluation in request.eval:
        require_fill(evaluation, request.options)


def require_fill(evaluation: str, options: Mapping[str, Any]) -> None:
    """Raise `InputError` for a fill that the evaluation doesn't have."""
    if "fill" in options and options["fill"] not in FILLS_OF.get(evaluation, (options["fill"],)):
        choice = ", ".join(FILLS_OF[evaluation])
        raise InputError(f"--eval={evaluation} has no --fill={options['fill']}: choose from {choice}")


def _selectivity_config(request: Request, dataset: str) -> Any:
    limit = request.limit_test or usual_images(dataset)
    config = load_evaluation("selectivity").configure(**request.options, limit_test=limit)
    _channels, height, width = dataset_info(dataset).image_shape
    pixels_removed(config.removals, config.share, height * width)
    if config.limit_test < 2:
        raise InputError("--limit-test=1: selectivity needs two test images or more for its intervals")
    return config


def _retraining_config(
    request: Request, evaluation: str, pipeline: Pipeline, methods: Iterable[MethodSpec]
) -> RetrainingConfig:
    dataset, attention = pipeline.config.dataset, pipeline.config.attention
    return RetrainingConfig(
        evaluation=evaluation,
        dataset=dataset,
        attention=attention,
        methods=tuple(methods),
        recipe=request.recipe(dataset, attention),
        seeds=request.seeds,
        limit_train=pipeline.limit_train,
        limit_test=pipeline.limit_test,
        masks=MaskOptions(**request.options_for(MaskOptions)),
        **{"ratios": QUICK_RATIOS if request.quick else RATIOS} | request.options_for(RetrainingConfig),
        **pipeline.config.model_code,
    )
