"""How long takes here what is not finished yet: each kind of work is timed on a few random images, nothing assumed."""

import statistics
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from attribution.spec import MethodSpec
from common.hashing import json_sha256
from data import dataset_info
from evaluation import ORDERS
from evaluation.configs import RemovalConfig, SanityConfig, SelectivityConfig
from evaluation.imputation import imputation_seconds
from evaluation.sanity import randomization_cascade
from experiments.engine import threads_per_job
from experiments.measurements import Measurements
from experiments.pipeline import Pipeline, method_kwargs
from experiments.sweep import Sweep, in_words
from training.config import TrainingConfig
from training.networks import new_model
from training.recipe import Recipe
from training.speed import TEST_COST, measure_step_seconds

TIMED = 16  # images
REPEATS = 3
FEW, LONG = 8, 0.5  # images of a first step, and seconds of a step from which on it is the only one
PLACE = Path()  # files are told apart by their names


class Costs:
    """What is to be made, each thing once however many commands need it, and the seconds that it takes.

    What several processes do side by side is timed with the threads that one of them has, and divided among them.
    """

    def __init__(self, device: torch.device, jobs: int) -> None:
        self.device, self.jobs = device, jobs
        self.seconds: dict[Hashable, float] = {}
        self._measured: dict[Hashable, float] = {}

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def __str__(self) -> str:
        beside = "" if self.jobs == 1 else f", {self.jobs} side by side"
        return f"about {in_words(self.total)} in all on this device{beside}, by times measured now"

    def training(self, order: TrainingConfig) -> None:
        """A classifier that is not there."""
        work = partial(self.training_seconds, order.dataset, order.attention, order.recipe, order.limit_train)
        self._add(order.path(PLACE), work)

    def classifier(self, pipeline: Pipeline) -> None:
        """The classifier of `pipeline`, if it is not there."""
        if pipeline.kept is None:
            self.training(pipeline.order)

    def maps(self, pipeline: Pipeline, method: MethodSpec) -> None:
        """Maps, as far as they are not there, and the classifier that they are of."""
        self.classifier(pipeline)
        if not pipeline.has_maps(method):
            work = partial(self._explaining, pipeline, method, pipeline.images_to_explain)
            self._add(pipeline.map_path(method), work)

    def sweep(self, sweep: Sweep) -> None:
        """Retrainings that are left, and what they need."""
        for method in sweep.methods_to_explain:
            self.maps(sweep.pipeline, method)
        self.classifier(sweep.pipeline)
        for run in sweep.todo:
            self._add(run, partial(sweep.seconds_of_a_run, run), side_by_side=True)

    def measurements(self, experiment: Measurements) -> None:
        """Note what is left of an evaluation of trained classifiers, and what it needs."""
        settings = experiment.settings
        for task in experiment.todo:
            pipeline, order = task.pipeline, task.pipeline.order
            if experiment.evaluation.needs_maps:
                self.maps(pipeline, task.method)
            self.classifier(pipeline)
            seconds: Callable[..., float] = self._removing
            if not experiment.evaluation.needs_maps:
                seconds = self._checking if experiment.title == "sanity" else self._one_by_one
            key = (experiment.title, order.path(PLACE), task.method, repr(settings))
            self._add(key, partial(seconds, pipeline, task.method, settings), side_by_side=True)
        for pipeline in experiment.missing_finetuned():
            order, tuning = pipeline.order, settings.tuning
            work = partial(self.training_seconds, order.dataset, order.attention, tuning, order.limit_train)
            self._add(("finetuned", order.path(PLACE), json_sha256(tuning.plain())), work)

    def _removing(self, pipeline: Pipeline, _method: MethodSpec, settings: RemovalConfig) -> float:
        removals = len(ORDERS) * len(settings.ratios) * settings.draws * settings.limit_test
        imputed = self._imputing(pipeline) if settings.fill == "linear" else 0.0
        return removals * (self._forward(pipeline) + imputed)

    def _checking(self, pipeline: Pipeline, method: MethodSpec, settings: SanityConfig) -> float:
        order = pipeline.order
        maps = 1 + len(randomization_cascade(new_model(order.dataset, order.attention))) + settings.samples
        of_image = maps * self._explaining(pipeline, method) + settings.samples * self._forward(pipeline)
        return settings.limit_test * of_image

    def _one_by_one(self, pipeline: Pipeline, method: MethodSpec, settings: SelectivityConfig) -> float:
        return self._explaining(pipeline, method, settings.limit_test * (settings.removals + 1))

    def _add(self, key: Hashable, seconds: Callable[[], float], side_by_side: bool = False) -> None:
        if key not in self.seconds:
            with threads_per_job(self.jobs if side_by_side else 1):
                self.seconds[key] = seconds() / (self.jobs if side_by_side else 1)

    def training_seconds(self, dataset: str, attention: str | None, recipe: Recipe, limit: int | None) -> float:
        """Seconds of a training of `limit` images (None: all), and of testing on all test images."""
        shapes = dataset_info(dataset).shapes
        images = recipe.epochs * (limit or shapes["train_images"][0]) + TEST_COST * shapes["test_images"][0]
        key = ("training", dataset, attention, recipe)
        return images * self._once(key, partial(self._training_on_one, dataset, attention, recipe))

    def _training_on_one(self, dataset: str, attention: str | None, recipe: Recipe) -> float:
        """Seconds for an image: of a step of the recipe's batch, or of a few images where that would take long."""
        few = replace(recipe, batch_size=min(FEW, recipe.batch_size))
        of_one = measure_step_seconds(dataset, attention, few, self.device) / few.batch_size
        if of_one * recipe.batch_size > LONG:
            return of_one
        return measure_step_seconds(dataset, attention, recipe, self.device) / recipe.batch_size

    def _explaining(self, pipeline: Pipeline, method: MethodSpec, images: int = 1) -> float:
        """Seconds for the maps of `images` images."""
        order = pipeline.order

        def measured() -> float:
            model = new_model(order.dataset, order.attention).eval().to(self.device)
            images = torch.rand(TIMED, *dataset_info(order.dataset).image_shape, device=self.device)
            target = torch.zeros(TIMED, dtype=torch.int64, device=self.device)
            explainer = method.build(model, **method_kwargs(method, model, images.new_zeros(images.shape[1])))
            return _median_seconds(lambda: float(explainer.attribute(images, target).sum())) / TIMED

        return images * self._once(("explain", order.dataset, order.attention, method), measured)

    def _forward(self, pipeline: Pipeline) -> float:
        """Seconds for the logits of one image."""
        order = pipeline.order

        def measured() -> float:
            model = new_model(order.dataset, order.attention).eval().to(self.device)
            images = torch.rand(8 * TIMED, *dataset_info(order.dataset).image_shape, device=self.device)
            with torch.no_grad():
                return _median_seconds(lambda: float(model(images).sum())) / len(images)

        return self._once(("forward", order.dataset, order.attention), measured)

    def _imputing(self, pipeline: Pipeline) -> float:
        shape = dataset_info(pipeline.order.dataset).image_shape
        return self._once(("impute", shape), lambda: imputation_seconds(shape, self.device))

    def _once(self, key: Hashable, measure: Callable[[], float]) -> float:
        """With as many threads as there are now."""
        key = (key, torch.get_num_threads())
        if key not in self._measured:
            self._measured[key] = measure()
        return self._measured[key]


def _median_seconds(work: Callable[[], object]) -> float:
    """Of some repeats after a first one, which is not counted."""
    seconds = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])
