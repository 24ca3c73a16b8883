"""The experiments of a request."""

from collections.abc import Sequence
from typing import Any

from common.errors import InputError
from common.imports import is_user_code
from data import dataset_info
from evaluation import FILLS_OF, QUICK_RATIOS, RATIOS, REMOVING, RETRAINING
from evaluation.configs import ExampleFilter, SanityConfig
from evaluation.registry import load_evaluation
from evaluation.runs import MaskOptions, RetrainingConfig
from experiments.measurements import Measurements, require_selectivity_possible
from experiments.pictures import Coherence
from experiments.pipeline import Pipeline
from experiments.request import Request
from experiments.sweep import Sweep
from reporting.labels import usual_images
from training.recipe import finetuning_recipe


def require_options_fit(request: Request) -> None:
    """Raise `InputError` if the request has an option without its evaluation."""
    if request.control and not set(request.eval) & set(RETRAINING):
        raise InputError(f"--control is for --eval={','.join(RETRAINING)}")
    if request.options_for(SanityConfig).get("random_labels") and "sanity" not in request.eval:
        raise InputError("--random-labels is for --eval=sanity")
    for evaluation in request.eval:
        fills = FILLS_OF.get(evaluation, ())
        if (fill := request.options.get("fill")) is not None and fills and fill not in fills:
            raise InputError(f"--eval={evaluation} has no --fill={fill}: {'|'.join(fills)}")
    if ExampleFilter(**request.options_for(ExampleFilter)) != ExampleFilter() and "coherence" not in request.eval:
        raise InputError("--classes, --index and --correct-only are for --eval=coherence")


def pictures_of(request: Request, pipelines: Sequence[Pipeline]) -> list[Coherence]:
    """Return the pictures of --eval=coherence: of each data set, with all its networks."""
    if "coherence" not in request.eval:
        return []
    examples = ExampleFilter(**request.options_for(ExampleFilter))
    by_target = {
        target: [pipeline for pipeline in pipelines if pipeline.config.dataset == target]
        for target in request.target or ()
    }
    return [Coherence(of_target, request.methods_and_controls, examples) for of_target in by_target.values()]


def measurements_of(request: Request, pipelines: Sequence[Pipeline]) -> list[Measurements]:
    """Return the evaluations without retraining: selectivity of seed 0, the others of all seeds."""
    methods, experiments = request.methods_and_controls, []
    for pipeline in pipelines if "selectivity" in request.eval else ():
        dataset = pipeline.config.dataset
        limit = request.limit_test or usual_images(dataset)
        selectivity = load_evaluation("selectivity").configure(**request.given_options, limit_test=limit)
        require_selectivity_possible(selectivity, dataset, dataset_info(dataset).image_shape)
        experiments.append(Measurements("selectivity", [pipeline], methods, selectivity, request.overwrite))
    own = [name for name in request.eval if is_user_code(name)]
    for evaluation in [*(name for name in (*REMOVING, "sanity") if name in request.eval), *own]:
        for of_seeds in request.pipelines_of_seeds():
            config = config_of(request, evaluation, of_seeds[0])
            experiments.append(Measurements(evaluation, of_seeds, methods, config, request.overwrite))
    return experiments


def config_of(request: Request, evaluation: str, pipeline: Pipeline) -> Any:
    values = {"explain": pipeline.explain, **request.given_options, "limit_test": pipeline.limit_test}
    if evaluation == "F-Fidelity":
        values["tuning"] = finetuning_recipe(pipeline.config.recipe)
    return load_evaluation(evaluation).configure(**values)


def sweeps_of(request: Request, pipelines: Sequence[Pipeline]) -> list[Sweep]:
    """Return the sweeps of --eval=ROAR,KAR: one for each data set, network and evaluation."""
    ratios = QUICK_RATIOS if request.quick else RATIOS
    return [
        Sweep(
            RetrainingConfig(
                evaluation=evaluation,
                dataset=pipeline.config.dataset,
                attention=pipeline.config.attention,
                methods=request.curves,
                recipe=request.recipe(pipeline.config.dataset, pipeline.config.attention),
                seeds=request.seeds,
                limit_train=pipeline.limit_train,
                limit_test=pipeline.limit_test,
                masks=MaskOptions(**request.options_for(MaskOptions)),
                **{"ratios": ratios} | request.options_for(RetrainingConfig),
                **pipeline.config.model_code,
            ),
            pipeline,
            request.overwrite,
        )
        for pipeline in pipelines
        for evaluation in request.eval
        if evaluation in RETRAINING
    ]
