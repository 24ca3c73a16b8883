"""The commands: from a request to calls of the rooms."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.command import begin_command
from common.errors import InputError
from common.files import free_bytes
from data import dataset_sha256, load_dataset
from evaluation import TRUST
from experiments.checkpoints import find_classifier, load_metadata
from experiments.jobs import Job, make_large, require_success
from experiments.map_files import MapReader
from experiments.plans import methods_for, plan_evaluations
from experiments.reproduction import steps
from experiments.request import Request
from experiments.runner import Experiment, make_maps, prepare, train_missing
from experiments.runner import run as run_experiments
from experiments.scalars import require_tensorboard, scalars
from experiments.store import Folders
from experiments.trainings import Training
from experiments.usage import require_options_are_used
from reporting.evaluation_summary import left_out_lines
from reporting.gap import Gap
from reporting.labels import classifier_line
from reporting.training_curves import write_training_curves
from training.checkpoint import Checkpoint
from training.config import TrainingConfig

if TYPE_CHECKING:
    from experiments.cost import Costs
    from experiments.trust import Trust


def run(request: Request, costs: "Costs | None" = None) -> None:
    """Carry out one command.

    Args:
        costs: collects the work of a dry run; without it, a dry run prints its own time.

    Raises:
        InputError: something in the request can't be used.
    """
    begin_command()
    require_options_are_used(request)
    request.require_engine_fits()
    if not request.dry_run:
        request.folders.require_usable()
    request = request.with_known_targets()
    if request.target is None and not request.report:
        request = replace(request, target=("mnist",))
        print("target: mnist (choose another with --target)", flush=True)
    work = costs or costs_of(request)
    if request.report:
        from experiments.reports import publish, report  # here, like other modules that most commands don't need

        publish(request) if request.publish else report(request, request.folders)
    else:
        command = train if request.train else write_maps if request.saliency else evaluate
        command(request, work)
    if work and costs is None and work.seconds:
        print(work)


def costs_of(request: Request) -> "Costs | None":
    """Return what collects the work of a dry run; None if the request is no dry run.

    Raises:
        InputError: there is no such device.
    """
    device = request.torch_device
    if not request.dry_run:
        return None
    from experiments.cost import Costs

    return Costs(device, 1 if request.train or request.saliency else request.processes)


def reproduce(request: Request, parse: Callable[[Sequence[str]], Request]) -> None:
    """--reproduce: run the commands of the published tables.

    Args:
        parse: makes a request of the words of a command line.
    """
    require_options_are_used(request)
    same = {name: getattr(request, name) for name in ("data_dir", "output_dir", "device", "jobs", "dry_run")}
    costs = costs_of(request)
    for words in steps(request.quick):
        print(f"\n$ python main.py {' '.join(words)}", flush=True)
        run(replace(parse(words), **same), costs)
    if costs:
        print(f"\n{costs}")


def train(request: Request, costs: "Costs | None") -> None:
    """--train: train each data set, network and seed; report trained classifiers from their checkpoints."""
    folders = request.folders
    configs = [
        request.training_config(target, attention, seed)
        for target in request.target or ()
        for attention in request.attentions
        for seed in range(request.seeds)
    ]
    if request.tensorboard:
        require_tensorboard()
    missing: list[Job] = []
    for config in configs:
        path, checkpoint = config.path(folders.checkpoints), None
        if not request.overwrite and (checkpoint := find_trained(config, folders)):
            print(classifier_line(checkpoint.metadata, path), flush=True)
        elif costs:
            print(f"train   {path}: {config.recipe}")
            costs.add_training(config)
        else:
            missing.append(training(request, config))
    failures = make_large(missing, request.make_engine(), folders, "classifiers")
    require_success(failures.values(), len(missing), "trainings")
    if not costs:
        draw_trainings(request)
    if request.tensorboard:
        print(f"scalars: tensorboard --logdir {folders.tensorboard}", flush=True)


def draw_trainings(request: Request) -> None:
    """Draw the training curves of all stored classifiers of the request's data sets."""
    datasets, folders = request.target or (), request.folders
    try:
        parts = [load_metadata(folders.checkpoints, dataset) for dataset in datasets]
    except InputError as error:  # another checkpoint is damaged; what was trained is stored
        print(f"no figure: {error}", flush=True)
        return
    stored = {name: metadata for part in parts for name, metadata in part.items()}
    for path in write_training_curves(datasets, stored, folders.results, request.quick):
        print(f"figure: {path}", flush=True)


def training(request: Request, config: TrainingConfig) -> Training:
    """Return the training of one classifier as --train does it."""
    folders = request.folders
    scalars_folder = folders.tensorboard / config.path(Path()).stem if request.tensorboard else None
    return Training(
        *(config, lambda: load_dataset(config.dataset, folders.data), folders.checkpoints, request.torch_device),
        look_up=lambda: None if request.overwrite else find_trained(config, folders),
        resume=request.resume,
        watch=lambda: scalars(scalars_folder),
    )


def find_trained(config: TrainingConfig, folders: Folders) -> Checkpoint | None:
    """Return the checkpoint of `config`; None if there is none.

    Raises:
        InputError: a classifier of another recipe has its place.
    """
    checkpoint = find_classifier(config, dataset_sha256(config.dataset), folders.checkpoints)
    if checkpoint is None:
        return None
    for name, value in config.plain().items():
        other = checkpoint.metadata.get(name)
        if other != value:
            path = config.path(folders.checkpoints)
            raise InputError(f"{path} was trained with {name} {other}, not {value}: --overwrite replaces it")
    return checkpoint


def write_maps(request: Request, costs: "Costs | None") -> None:
    """--saliency: make the maps of each method for each data set and network."""
    size, engine = 0, request.make_engine()
    for pipeline in list(request.pipelines()):
        methods, left_out = methods_for(pipeline, request, request.methods)
        print(left_out_lines(left_out), end="", flush=True)
        for method in methods:
            if pipeline.find_maps(method) is None:
                pipeline.try_method(method)
        if not (costs or engine.large.is_here):
            prepare([pipeline], engine)
            failures = make_maps([(pipeline, method) for method in methods], engine, request.folders)
            require_success(failures.values(), len(methods), "files of maps")
        for method in methods:
            if not costs:
                print(describe_maps(pipeline.maps(method)), flush=True)
            elif pipeline.has_maps(method):
                print(f"finished {pipeline.map_path(method)}")
            else:
                print(pipeline.plan_maps(method))
                costs.add_maps(pipeline, method)
                size += pipeline.map_bytes(method)
    if costs:
        free = free_bytes(request.folders.maps)
        print(f"at most {size / 1e6:,.1f} MB to write, {free / 1e6:,.1f} MB free, nothing written")


def describe_maps(reader: MapReader) -> str:
    """Return a line on a file of maps."""
    line, gaps = f"maps: {reader.path}, {reader.path.stat().st_size / 1e6:,.1f} MB", reader.gaps()
    if gaps is None:
        return line
    median, most = np.nanpercentile(gaps, [50, 95])
    return f"{line}; completeness gap: median {median:.2%}, 95 % of the images below {most:.2%}"


def plan_trust(request: Request) -> "list[Trust]":
    """Return the answers of --eval=trust, of each data set and network."""
    if TRUST not in request.eval:
        return []
    from experiments.trust import Trust  # here, since other evaluations don't need it

    return [Trust(request, pipeline) for pipeline in request.pipelines()]


def evaluate(request: Request, costs: "Costs | None") -> None:
    """--eval: run one evaluation after the other, each with its own files."""
    trusts = plan_trust(request)
    pictures, measurements, sweeps = plan_evaluations(request)
    experiments: list[Experiment[Any]] = [*measurements, *sweeps]
    if costs:
        for coherence in pictures:
            print(coherence.plan())
            for pipeline in coherence.pipelines:
                costs.add_classifier(pipeline)
            print(left_out_lines(coherence.left_out), end="")
        for experiment in experiments:
            costs.add_experiment(experiment)
            print(left_out_lines(experiment.left_out), end="")
        planned: set[Hashable] = set()
        print("\n".join([*(trust.plan() for trust in trusts), *(each.plan(planned) for each in experiments)]))
        return
    engine = request.make_engine()
    for coherence in pictures:
        coherence.choose()  # says what is wrong before the trainings
    for coherence in pictures:
        train_missing(coherence.pipelines, engine)
        print("\n".join(f"figure: {path}" for path in coherence.draw()), flush=True)
        print(left_out_lines(coherence.left_out), end="", flush=True)
    for trust in trusts:
        trust.run(engine)
        print(trust.report(), flush=True)
    if trusts:
        from experiments.reports import write_whole_page  # here, like other modules that most commands don't need

        print(f"report: {write_whole_page(request.folders)}", flush=True)
    for experiment in measurements:
        run_experiments([experiment], engine)
        print(experiment.report(), flush=True)
    if sweeps:
        run_experiments(sweeps, engine)
    for sweep in sweeps:
        print(sweep.report(), flush=True)
    for roar, kar in product(sweeps, sweeps):
        if roar.pipeline is kar.pipeline and (roar.config.evaluation, kar.config.evaluation) == ("ROAR", "KAR"):
            print(Gap(roar.summary, kar.summary).write(roar.folders.results), flush=True)
