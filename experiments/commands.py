"""The commands: from the options of the command line to calls of the packages."""

import argparse
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from attribution import CONTROLS, ENSEMBLES
from attribution.spec import MethodSpec, parameters_by_method
from common.errors import InputError
from common.files import free_bytes
from common.fingerprint import forget_fingerprints
from data import DATASETS, dataset_info, dataset_sha256, load_dataset
from data.folders import TARGET_PREFIX, folder_name
from evaluation import FILLS_OF, QUICK_CONTROLS, QUICK_RATIOS, RATIOS, REMOVING, RETRAINING
from evaluation.coherence import Coherence, ExampleFilter
from evaluation.retraining import Protocol
from evaluation.selectivity import Settings
from experiments.checkpoints import find_classifier, train_and_save
from experiments.cost import Costs
from experiments.engine import Local, default_jobs
from experiments.measurements import Measurements, require_selectivity_possible
from experiments.pipeline import Pipeline, classifier_line, explain_line, maps_line
from experiments.publishing import gather
from experiments.reproduction import steps
from experiments.runner import Experiment
from experiments.runner import run as run_experiments
from experiments.scalars import require_tensorboard, scalars
from experiments.store import Folders
from experiments.sweep import Sweep
from models import ATTENTIONS, OPTIONS, variant
from reporting.accuracy import kept_metadata, report_accuracy
from reporting.documents import write_documents
from reporting.evaluation_summary import EvaluationSummary
from reporting.groups import in_order, kept_checks, kept_removals, measured_pairs
from reporting.labels import usual_images
from reporting.page import write_page
from reporting.removal_summary import Settings as RemovalSettings
from reporting.removal_summary import usual_ratios
from reporting.report import Retrainings
from reporting.retraining_summary import Gap
from reporting.sanity_summary import Settings as SanitySettings
from reporting.summary import summaries
from training.checkpoint import Checkpoint
from training.config import TrainingConfig
from training.device import resolve_device
from training.recipe import Recipe, finetuning_recipe, quick_train_images, recipe_for

ROOT = Path(__file__).parents[1]
README, PUBLISHED = ROOT / "README.md", ROOT / "results" / "published"


def run(options: argparse.Namespace, costs: Costs | None = None) -> None:
    """Carry out the command that `options` ask for.

    Args:
        costs: where a dry run notes what is to be made; without it, it is said how long that takes.

    Raises:
        InputError: something that the options name can't be used.
    """
    forget_fingerprints()
    folders = Folders.below(options.output_dir, options.data_dir)
    folders.require_usable()
    options.device = resolve_device(options.device)
    if options.target is not None:
        options.target = tuple(
            folder_name(one, folders.data) if one.startswith(TARGET_PREFIX) else one for one in options.target
        )
    if options.tensorboard and not options.train:
        raise InputError("--tensorboard is for --train")
    if options.publish and not options.report:
        raise InputError("--publish is for --report")
    if options.target is None and not options.report:
        options.target = ("mnist",)
        print("target: mnist (choose another with --target)", flush=True)
    reporting = publish if options.publish else report
    command = train if options.train else write_maps if options.saliency else reporting if options.report else evaluate
    noted = costs or Costs(options.device, jobs_of(options))
    command(options, folders, noted)
    if options.dry_run and costs is None and noted.seconds:
        print(noted)


def reproduce(options: argparse.Namespace, parse: Callable[[Sequence[str]], argparse.Namespace]) -> None:
    """--reproduce: all commands that the README's tables need, one after the other.

    Args:
        parse: from the words of a command line to its options.
    """
    passed_on = [f"--data-dir={options.data_dir}", f"--output-dir={options.output_dir}", f"--device={options.device}"]
    passed_on += [f"--jobs={options.jobs}"] * bool(options.jobs) + ["--dry-run"] * options.dry_run
    device = resolve_device(options.device)
    costs = Costs(device, options.jobs or default_jobs(device))
    for words in steps(options.quick):
        print(f"\n$ python main.py {' '.join(words)}", flush=True)
        run(parse([*words, *passed_on]), costs)
    if options.dry_run:
        print(f"\n{costs}")


def train(options: argparse.Namespace, folders: Folders, costs: Costs) -> None:
    """--train: each data set, each model, each seed; what is trained already is reported from its checkpoint."""
    orders = [
        asked_order(options, target, attention, seed)
        for target in options.target
        for attention in asked_attentions(options)
        for seed in range(options.seeds)
    ]
    if options.tensorboard:
        require_tensorboard()
    kept = {} if options.overwrite else {order: kept_classifier(order, folders) for order in orders}
    for order in orders:
        path, checkpoint = order.path(folders.checkpoints), kept.get(order)
        if checkpoint is None and options.dry_run:
            print(f"train   {path}: {order.recipe}")
            costs.training(order)
            continue
        if checkpoint is None:
            checkpoint = trained_now(options, order, folders)
        print(classifier_line(checkpoint.metadata, path), flush=True)
    if options.tensorboard:
        print(f"scalars: tensorboard --logdir {folders.tensorboard}", flush=True)


def trained_now(options: argparse.Namespace, order: TrainingConfig, folders: Folders) -> Checkpoint:
    """The classifier of `order`, trained and kept."""
    dataset = load_dataset(order.dataset, folders.data)
    name = order.path(folders.checkpoints).stem
    with scalars(folders.tensorboard / name if options.tensorboard else None) as on_epoch:
        return train_and_save(order, dataset, folders.checkpoints, options.device, options.resume, on_epoch)


def publish(options: argparse.Namespace, folders: Folders, costs: Costs) -> None:
    """--report --publish: gather what is finished, and write tables, figures and README from all that is gathered."""
    if options.dry_run or options.target or options.quick:
        raise InputError("--publish writes everything: it takes no --dry-run, --target or --quick")
    print(gather(folders.checkpoints, folders.results, PUBLISHED), flush=True)
    gathered = Folders(folders.data, PUBLISHED, folders.maps, PUBLISHED)
    report(options, gathered, costs)
    pages = [README, *sorted((README.parent / "docs").glob("*.md"))]
    write_documents(pages, PUBLISHED)
    print("\n".join(f"written: {page}" for page in pages))


def report(options: argparse.Namespace, folders: Folders, _costs: Costs) -> None:
    """--report: tables from what the commands kept, for all data sets unless --target names some."""
    trained: dict[str, dict[str, Any]] = {}
    for dataset in options.target or ("",):
        trained |= kept_metadata(folders.checkpoints, dataset)
    named = [dataset for dataset, _model in measured_pairs(folders.results)]
    everything = in_order([*DATASETS, *named, *(one["dataset"] for one in trained.values())])
    datasets, suffix = list(options.target or everything), ""
    if datasets != everything:  # under a name of its own, so that it doesn't replace the whole report
        suffix = f"_{'-'.join(datasets)}"
    print(report_accuracy(datasets, trained, folders.results, suffix, options.quick, not options.dry_run))
    retrainings = Retrainings.of(folders.results, datasets, folders.data)
    print(retrainings.summary())
    removals = [one for one in kept_removals(folders.results, folders.data) if one.dataset in datasets]
    checks = [one for one in kept_checks(folders.results) if one.dataset in datasets]
    pages = summaries(folders.results, datasets, retrainings, removals)
    print("\n\n".join(page.text for page in pages))
    if not options.dry_run:
        written = retrainings.write(folders.results, suffix)
        written += [path for page in pages for path in page.write_files(folders.results)]
        own_files: list[EvaluationSummary] = [*retrainings.quick, *removals, *checks]
        for one in own_files:
            one.write(folders.results)
        if pages:
            written.append(write_page(pages, retrainings, removals, folders.results))
        print("\n".join(f"written: {path}" for path in written))


def asked_attentions(options: argparse.Namespace) -> list[str | None]:
    """The models that --attention names, each with the option that it has; or the one of --model.

    Raises:
        InputError: an option for a model that --attention doesn't name, or both.
    """
    if options.model and options.attention != ("none",):
        raise InputError("--model takes the place of --attention: give one of them")
    for attention, (option, _values) in OPTIONS.items():
        if getattr(options, option) is not None and attention not in options.attention:
            raise InputError(f"--{option} is for --attention={attention}")
    return [options.model] if options.model else [asked_variant(options, name) for name in options.attention]


def asked_variant(options: argparse.Namespace, name: str) -> str | None:
    if name not in OPTIONS:
        return name if name in ATTENTIONS else None
    option, (default, *_others) = OPTIONS[name]
    return variant(name, **{option: getattr(options, option) or default})


def asked_order(options: argparse.Namespace, target: str, attention: str | None, seed: int) -> TrainingConfig:
    """The classifier that --train is to make, with every option."""
    limit = train_limit(options, target, attention)
    return TrainingConfig(
        target, attention, seed, recipe(options, target, attention), limit, options.valid_rate, options.quick
    )


def kept_classifier(order: TrainingConfig, folders: Folders) -> Checkpoint | None:
    """The checkpoint that `order` asks for, if it is there.

    Raises:
        InputError: a model of another recipe stands in its place.
    """
    checkpoint = find_classifier(order, dataset_sha256(order.dataset), folders.checkpoints)
    if checkpoint is None:
        return None
    for name, value in order.plain().items():
        found = checkpoint.metadata.get(name)
        if found != value:
            path = order.path(folders.checkpoints)
            raise InputError(f"{path} was trained with {name} {found}, not {value}: --overwrite replaces it")
    return checkpoint


def recipe(options: argparse.Namespace, target: str, attention: str | None) -> Recipe:
    return recipe_for(
        target,
        attention,
        quick=options.quick,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.lr,
        small_epochs=options.small_epochs,
    )


def train_limit(options: argparse.Namespace, target: str, attention: str | None) -> int | None:
    if options.limit_train is None and options.quick:
        return quick_train_images(target, attention)
    return checked_limit(options.limit_train, target, "train")


def checked_limit(limit: int | None, target: str, split: str) -> int | None:
    """`limit` itself, or None for all images.

    Raises:
        InputError: the split has fewer images.
    """
    images = int(dataset_info(target).shapes[f"{split}_images"][0])
    if limit is not None and limit > images:
        raise InputError(f"--limit-{split}={limit}: {target} has {images:,} {split} images")
    return None if limit == images else limit


def pipelines(options: argparse.Namespace, folders: Folders) -> Iterator[Pipeline]:
    """One for each data set and model."""
    for target, attention in product(options.target, asked_attentions(options)):
        limits = train_limit(options, target, attention), checked_limit(options.limit_test, target, "test")
        yield pipeline_of(options, folders, target, attention, 0, limits)


def pipeline_of(
    options: argparse.Namespace,
    folders: Folders,
    target: str,
    attention: str | None,
    seed: int,
    limits: tuple[int | None, int | None],
) -> Pipeline:
    """For the classifier of `seed`, which is trained by the plain recipe if it is not there.

    Args:
        limits: how many training and test images are explained.
    """
    plain_recipe = recipe_for(target, attention, quick=options.quick)
    quick_limit = quick_train_images(target, attention) if options.quick else None
    return Pipeline(
        TrainingConfig(target, attention, seed, plain_recipe, quick_limit, quick=options.quick),
        folders,
        options.device,
        explain=options.explain,
        limit_train=limits[0],
        limit_test=limits[1],
        overwrite=options.overwrite,
        resume=options.resume,
        map_dtype=options.map_dtype,
    )


def chosen_methods(options: argparse.Namespace) -> list[MethodSpec]:
    """Every method with every ensemble; the controls, which explain nothing, without one."""
    known = {"steps": options.steps, "baseline": options.baseline, "level": options.level, "samples": options.samples}
    of_one = parameters_by_method(options.method, options.layer, options.method_args)
    return [
        MethodSpec.of(method, ensemble if ensemble in ENSEMBLES else None, **known, **of_one[method])
        for method in options.method
        for ensemble in ((None,) if method in CONTROLS else options.ensemble)
    ]


def write_maps(options: argparse.Namespace, folders: Folders, costs: Costs) -> None:
    """--saliency: the maps of each method for each data set and model."""
    size = 0
    for pipeline in list(pipelines(options, folders)):
        for method in chosen_methods(options):
            pipeline.kept_or_checked(method)
            if not options.dry_run:
                print(maps_line(pipeline.maps(method)), flush=True)
            elif pipeline.has_maps(method):
                print(f"finished {pipeline.map_path(method)}")
            else:
                print(explain_line(pipeline, method))
                costs.maps(pipeline, method)
                size += pipeline.map_bytes(method)
    if options.dry_run:
        print(f"at most {size / 1e6:,.1f} MB to write, {free_bytes(folders.maps) / 1e6:,.1f} MB free, nothing written")


def evaluate(options: argparse.Namespace, folders: Folders, costs: Costs) -> None:
    """--eval: one evaluation after the other, each with files of its own."""
    if options.control and not set(options.eval) & set(RETRAINING):
        raise InputError(f"--control is for --eval={','.join(RETRAINING)}")
    if options.random_labels and "sanity" not in options.eval:
        raise InputError("--random-labels is for --eval=sanity")
    for evaluation in options.eval:
        if options.fill is not None and options.fill not in FILLS_OF.get(evaluation, (options.fill,)):
            raise InputError(f"--eval={evaluation} has no --fill={options.fill}: {'|'.join(FILLS_OF[evaluation])}")
    pictures = ExampleFilter(options.classes, options.index, options.correct_only)
    if pictures != ExampleFilter() and "coherence" not in options.eval:
        raise InputError("--classes, --index and --correct-only are for --eval=coherence")
    requested = list(pipelines(options, folders))
    coherence = "coherence" in options.eval
    all_pictures = [pictures_of(options, requested, target, pictures) for target in options.target if coherence]
    measurements = [selectivity_of(options, pipeline) for pipeline in requested if "selectivity" in options.eval]
    for name in REMOVING:
        measurements += removals_of(options, folders, name) if name in options.eval else []
    measurements += sanity_of(options, folders) if "sanity" in options.eval else []
    sweeps = retraining_sweeps(options, requested)
    if options.dry_run:
        for drawn in all_pictures:
            print(drawn.plan())
        for pipeline in requested:
            costs.classifier(pipeline)
        for one in measurements:
            costs.measurements(one)
        for sweep in sweeps:
            costs.sweep(sweep)
        planned: set[Hashable] = set()
        experiments: list[Experiment[Any]] = [*measurements, *sweeps]
        print("\n".join(experiment.plan(planned, jobs_of(options)) for experiment in experiments))
        return
    for drawn in all_pictures:
        print("\n".join(f"figure: {path}" for path in drawn.draw()), flush=True)
    engine = Local(jobs_of(options))
    for one in measurements:
        run_experiments([one], engine)
        print(one.report(), flush=True)
    if sweeps:
        run_experiments(sweeps, engine)
    for sweep in sweeps:
        print(sweep.report(), flush=True)
    for roar, kar in product(sweeps, sweeps):
        if roar.pipeline is kar.pipeline and (roar.protocol.evaluation, kar.protocol.evaluation) == ("ROAR", "KAR"):
            print(Gap(roar.summary, kar.summary).write(roar.folder), flush=True)


def jobs_of(options: argparse.Namespace) -> int:
    """How many processes work side by side."""
    return options.jobs or default_jobs(options.device)


def pictures_of(options: argparse.Namespace, asked: list[Pipeline], target: str, wanted: ExampleFilter) -> Coherence:
    """--eval=coherence: the pictures of one data set, with all its models."""
    shown = [pipeline for pipeline in asked if pipeline.order.dataset == target]
    return Coherence(shown, with_controls(options), wanted)


def with_controls(options: argparse.Namespace) -> tuple[MethodSpec, ...]:
    """The methods asked for, and the controls that stand beside them."""
    controls = QUICK_CONTROLS if options.quick else CONTROLS
    return tuple(dict.fromkeys((*chosen_methods(options), *map(MethodSpec, controls))))


def with_blurred(methods: tuple[MethodSpec, ...]) -> tuple[MethodSpec, ...]:
    """Beside each method the same with blurred maps, the controls in the end."""
    attributed = [one for one in methods if one.method not in CONTROLS]
    pairs = [form for one in attributed for form in (one, replace(one, blur=True))]
    return (*pairs, *(one for one in methods if one.method in CONTROLS))


def selectivity_of(options: argparse.Namespace, pipeline: Pipeline) -> Measurements:
    """--eval=selectivity of one data set and model."""
    limit = options.limit_test or usual_images(pipeline.order.dataset)
    settings = Settings(
        limit, options.removals, options.order, options.rank, fill_of(options, "selectivity"), options.explain
    )
    require_selectivity_possible(settings, pipeline.order.dataset, dataset_info(pipeline.order.dataset).image_shape)
    return Measurements("selectivity", [pipeline], with_controls(options), settings, options.overwrite)


def fill_of(options: argparse.Namespace, evaluation: str) -> str:
    return options.fill or FILLS_OF[evaluation][0]


def classifiers(options: argparse.Namespace, folders: Folders) -> Iterator[list[Pipeline]]:
    """For each data set and model the classifiers of all seeds, of which some test images are explained."""
    for target, attention in product(options.target, asked_attentions(options)):
        limit = checked_limit(options.limit_test, target, "test") or usual_images(target)
        yield [pipeline_of(options, folders, target, attention, seed, (0, limit)) for seed in range(options.seeds)]


def removals_of(options: argparse.Namespace, folders: Folders, evaluation: str) -> Iterator[Measurements]:
    """--eval=ROAD, F-Fidelity, insertion-deletion: one for each data set and model, with all its seeds."""
    for pipelines_of_seeds in classifiers(options, folders):
        first = pipelines_of_seeds[0]
        assert first.limit_test is not None
        settings = RemovalSettings(
            evaluation,
            options.ratios or usual_ratios(evaluation),
            first.limit_test,
            options.explain,
            options.rank,
            fill_of(options, evaluation),
        )
        if evaluation == "F-Fidelity":
            tuning = finetuning_recipe(first.order.recipe)
            settings = replace(settings, share=options.alpha, most=options.beta, draws=options.draws, tuning=tuning)
        yield Measurements(evaluation, pipelines_of_seeds, with_controls(options), settings, options.overwrite)


def sanity_of(options: argparse.Namespace, folders: Folders) -> Iterator[Measurements]:
    """--eval=sanity: one for each data set and model, with all its seeds."""
    for pipelines_of_seeds in classifiers(options, folders):
        limit = pipelines_of_seeds[0].limit_test
        assert limit is not None
        settings = SanitySettings(limit, options.explain, random_labels=options.random_labels)
        yield Measurements("sanity", pipelines_of_seeds, with_controls(options), settings, options.overwrite)


def retraining_sweeps(options: argparse.Namespace, asked: list[Pipeline]) -> list[Sweep]:
    """--eval=ROAR, KAR: each data set, model and evaluation is a sweep with a table and a figure of its own."""
    ratios = options.ratios or (QUICK_RATIOS if options.quick else RATIOS)
    return [
        Sweep(
            Protocol(
                evaluation=evaluation,
                dataset=pipeline.order.dataset,
                attention=pipeline.order.attention,
                methods=with_blurred(with_controls(options)) if options.control else with_controls(options),
                ratios=ratios,
                recipe=recipe(options, pipeline.order.dataset, pipeline.order.attention),
                seeds=options.seeds,
                mask_seeds=options.mask_seeds,
                limit_train=pipeline.limit_train,
                limit_test=pipeline.limit_test,
                explain=options.explain,
                granularity=options.granularity,
                rank=options.rank,
                fill=fill_of(options, evaluation),
                mask_split=options.mask_split,
                map_dtype=options.map_dtype,
                **pipeline.order.model_code,
            ),
            pipeline,
            options.overwrite,
        )
        for pipeline in asked
        for evaluation in options.eval
        if evaluation in RETRAINING
    ]
