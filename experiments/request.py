"""Requests: the content of one command line, or of one call of the Python API."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

import torch

from attribution import CONTROLS, ENSEMBLES
from attribution.spec import MethodSpec
from common.errors import InputError
from data import dataset_info
from data.folders import TARGET_PREFIX, folder_name
from evaluation import QUICK_CONTROLS, TRUST
from evaluation.configs import usual_images
from evaluation.options import options_of
from experiments.engine import Engine, Local, default_jobs
from experiments.given import folder_options, load_network, require_given_options_fit
from experiments.method_options import parameters_by_method
from experiments.options import MethodOptions, NetworkOptions, RunningOptions, TrainingOptions
from experiments.pipeline import Pipeline
from experiments.store import Folders
from models import ATTENTIONS, OPTIONS, parse_model_name, variant_name
from training.config import TrainingConfig
from training.device import resolve_device
from training.recipe import Recipe, quick_train_images, recipe_for

ENGINE_OPTIONS = {  # the engine of an option, and what to give in its place with the other
    **dict.fromkeys(("address", "cpus_per_task", "gpus_per_task"), ("ray", "")),
    "device": ("local", ": give --gpus-per-task"),
    "jobs": ("local", ": give --cpus-per-task"),
    "tensorboard": ("local", ""),
}


@dataclass(frozen=True)
class Request(NetworkOptions, MethodOptions, TrainingOptions, RunningOptions):
    """Everything that one command line, or one call of the Python API, asks for.

    Attributes:
        train, saliency, report, reproduce, eval: the command, one of them; `eval` names evaluations.
        options: the options of evaluations that are given, by the fields of their configurations.
        explicit: the names of all options that are given.
    """

    train: bool = False
    saliency: bool = False
    report: bool = False
    reproduce: bool = False
    eval: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    explicit: frozenset[str] = frozenset()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Request":
        """Return the request of options by name, those of evaluations among them; None leaves one at its default."""
        names = {entry.name for entry in fields(cls)}
        given = {name: value for name, value in values.items() if value is not None}
        explicit = frozenset(given)
        options = {name: given.pop(name) for name in explicit - names}
        return cls(**given, options=options, explicit=explicit)

    @property
    def folders(self) -> Folders:
        return Folders.below(self.output_dir, self.data_dir)

    @property
    def torch_device(self) -> torch.device:
        return resolve_device(self.device)

    @property
    def processes(self) -> int:
        """Number of tasks side by side."""
        return self.jobs or default_jobs(self.torch_device)

    @property
    def task_device(self) -> torch.device:
        """The device of tasks: on a cluster as they are given GPUs or not, else that of this process."""
        if self.engine == "ray":
            return torch.device("cuda" if self.gpus_per_task else "cpu")
        return self.torch_device

    def require_engine_fits(self) -> None:
        """Raise `InputError` for options that are not for the engine."""
        for name, (engine, mend) in ENGINE_OPTIONS.items():
            if engine != self.engine and getattr(self, name) != getattr(Request, name):
                raise InputError(f"--{name.replace('_', '-')} is for --engine={engine}{mend}")

    def make_engine(self) -> Engine:
        """Return what carries out tasks.

        Raises:
            InputError: options that don't fit the engine, or Ray is not installed.
        """
        self.require_engine_fits()
        if self.engine == "local":
            return Local(self.processes)
        from experiments.cluster import Cluster  # here, since it needs Ray

        places = [place for place in (*self.method, *self.eval, self.model) if place]
        return Cluster(self.address, self.cpus_per_task, self.gpus_per_task, places)

    def with_known_targets(self) -> "Request":
        """Return the request with image folders under the names that files and tables have for them.

        Raises:
            InputError: there is no such folder.
        """
        require_given_options_fit(self)
        options = folder_options(self, self.model)
        targets = (
            folder_name(name, self.data_dir, options) if name.startswith(TARGET_PREFIX) else name
            for name in self.target or ()
        )
        return replace(self, target=None if self.target is None else tuple(targets))

    def options_for(self, config: Any) -> dict[str, Any]:
        """Return the options of the class `config`, by field."""
        names = options_of(config)
        return {name: value for name, value in self.options.items() if name in names}

    @property
    def attentions(self) -> list[str | None]:
        """The networks of `attention`, each with its option, or the one of `model`.

        Raises:
            InputError: an option of a network that `attention` doesn't name, or both `attention` and `model`.
        """
        if self.model and self.attention != ("none",):
            raise InputError("--model takes the place of --attention: give one of them")
        for attention, (name, _values) in OPTIONS.items():
            if getattr(self, name) is not None and attention not in self.attention:
                raise InputError(f"--{name} is for --attention={attention}")
        if self.model:
            return [self.model]
        variants = {
            attention: variant_name(attention, **{name: getattr(self, name) or values[0]})
            for attention, (name, values) in OPTIONS.items()
        }
        return [variants.get(name, name if name in ATTENTIONS else None) for name in self.attention]

    def recipe(self, target: str, attention: str | None) -> Recipe:
        return recipe_for(
            target,
            attention,
            quick=self.quick,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.lr,
            small_epochs=self.small_epochs,
        )

    def train_limit(self, target: str, attention: str | None) -> int | None:
        """Return the number of training images, None for all.

        Raises:
            InputError: there are fewer.
        """
        if self.limit_train is None and self.quick:
            return quick_train_images(target, attention)
        return check_limit(self.limit_train, target, "train")

    def training_config(self, target: str, attention: str | None, seed: int) -> TrainingConfig:
        """Return the configuration of a classifier that --train makes."""
        limit = self.train_limit(target, attention)
        return TrainingConfig(
            target, attention, seed, self.recipe(target, attention), limit, self.valid_rate, self.quick
        )

    @property
    def methods(self) -> list[MethodSpec]:
        """Every method with every ensemble; the controls without one."""
        shared = {name: getattr(self, name) for name in ("steps", "baseline", "level", "samples")}
        by_method = parameters_by_method(self.method, self.layer, self.method_args or {})
        return [
            MethodSpec.of(method, ensemble if ensemble in ENSEMBLES else None, **shared, **by_method[method])
            for method in self.method
            for ensemble in ((None,) if method in CONTROLS else self.ensemble)
        ]

    @property
    def methods_and_controls(self) -> tuple[MethodSpec, ...]:
        controls = QUICK_CONTROLS if self.quick and TRUST not in self.eval else CONTROLS
        return tuple(dict.fromkeys((*self.methods, *map(MethodSpec, controls))))

    @property
    def curves(self) -> tuple[MethodSpec, ...]:
        """The methods of evaluations that remove pixels, with --control=blur each also with its maps blurred."""
        forms = (False, True) if self.control else (False,)
        return tuple(replace(method, blur=blur) for method in self.methods_and_controls for blur in forms)

    def pipelines(self) -> Iterator[Pipeline]:
        """Yield the pipeline of seed 0 of each data set and network."""
        for target, attention in product(self.target or (), self.attentions):
            limits = self.train_limit(target, attention), check_limit(self.limit_test, target, "test")
            yield self._pipeline(target, attention, 0, *limits)

    def explained_pipelines(self, first: Pipeline) -> list[Pipeline]:
        """Return the pipelines of ROAR and KAR: `first`, of seed 0, and with --explained-seeds=own of all seeds."""
        others = range(1, self.seeds) if self.options.get("explained_seeds") == "own" else ()
        return [first, *(replace(first, config=replace(first.config, seed=seed)) for seed in others)]

    def pipelines_of_seeds(self) -> Iterator[list[Pipeline]]:
        """Yield the pipelines of all seeds, which explain some test images, of each data set and network."""
        for target, attention in product(self.target or (), self.attentions):
            limit = check_limit(self.limit_test, target, "test") or usual_images(target)
            yield [self._pipeline(target, attention, seed, 0, limit) for seed in range(self.seeds)]

    def _pipeline(
        self, target: str, attention: str | None, seed: int, limit_train: int | None, limit_test: int | None
    ) -> Pipeline:
        """Return the pipeline of a classifier, whose own recipe trains it if it is missing."""
        given = load_network(self, attention, target) if self.weights else None
        attention = parse_model_name(given.metadata["model"]) if given else attention
        recipe = recipe_for(target, attention, quick=self.quick)
        quick_limit = quick_train_images(target, attention) if self.quick else None
        return Pipeline(
            TrainingConfig(target, attention, seed, recipe, quick_limit, quick=self.quick),
            self.folders,
            self.torch_device,
            task_device=self.task_device,
            limit_train=limit_train,
            limit_test=limit_test,
            overwrite=self.overwrite,
            resume=self.resume,
            given=given,
            **{name: self.options[name] for name in ("explain", "map_dtype") if name in self.options},
        )


def check_limit(limit: int | None, target: str, split: str) -> int | None:
    """Return `limit`, None for all images.

    Raises:
        InputError: the split has fewer images.
    """
    images = int(dataset_info(target).shapes[f"{split}_images"][0])
    if limit is not None and limit > images:
        raise InputError(f"--limit-{split}={limit}: {target} has {images:,} {split} images")
    return None if limit == images else limit
