"""The time of planned work, estimated by timing each kind of work on a few random images."""

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
from evaluation.runs import Run
from evaluation.sanity import randomization_cascade
from experiments.engine import threads_per_job
from experiments.measurements import Measurement, Measurements
from experiments.pipeline import Pipeline, method_kwargs
from experiments.sweep import Sweep
from training.config import TrainingConfig
from training.networks import new_model
from training.recipe import Recipe
from training.speed import TEST_COST, measure_step_seconds

TIMED_IMAGES = 16
REPEATS = 3
SMALL_BATCH, LONG_STEP = 8, 0.5  # a step of the whole batch is timed unless it takes longer than this many seconds
NO_FOLDER = Path()  # file names alone tell the work apart


class Costs:
    """Collects unfinished work, each piece once however many commands need it, with the seconds that it takes.

    Work that runs in several processes is timed with the threads of one of them, and divided by their number.
    """

    def __init__(self, device: torch.device, jobs: int) -> None:
        self.device, self.jobs = device, jobs
        self.seconds: dict[Hashable, float] = {}
        self._timings: dict[Hashable, float] = {}

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def __str__(self) -> str:
        beside = "" if self.jobs == 1 else f", {self.jobs} side by side"
        return f"about {in_words(self.total)} in all on this device{beside}, by times measured now"

    def add_training(self, config: TrainingConfig) -> None:
        recipe, limit = config.recipe, config.limit_train
        self._add(
            config.path(NO_FOLDER), lambda: self.training_seconds(config.dataset, config.attention, recipe, limit)
        )

    def add_classifier(self, pipeline: Pipeline) -> None:
        """Add the training of the pipeline's classifier if it is missing."""
        if pipeline.stored_classifier is None:
            self.add_training(pipeline.config)

    def add_maps(self, pipeline: Pipeline, method: MethodSpec) -> None:
        """Add the maps if they are missing, and their classifier."""
        self.add_classifier(pipeline)
        if not pipeline.has_maps(method):
            images = pipeline.images_to_explain
            self._add(pipeline.map_path(method), lambda: images * self._map_seconds(pipeline.config, method))

    def add_sweep(self, sweep: Sweep) -> None:
        """Add the missing retrainings, and the maps and the classifier that they need."""
        for method in sweep.methods_to_explain:
            self.add_maps(sweep.pipeline, method)
        self.add_classifier(sweep.pipeline)
        for run in sweep.todo:
            self._add(run, partial(self._retraining_seconds, run, sweep.config.attention), side_by_side=True)

    def add_measurements(self, experiment: Measurements) -> None:
        """Add the missing measurements, and the maps and networks that they need."""
        for measurement in experiment.todo:
            pipeline, method = measurement.pipeline, measurement.method
            if experiment.evaluation.needs_maps:
                self.add_maps(pipeline, method)
            self.add_classifier(pipeline)
            key = (experiment.title, pipeline.config.path(NO_FOLDER), method, repr(experiment.config))
            self._add(key, partial(self._measurement_seconds, experiment, measurement), side_by_side=True)
        for pipeline in experiment.to_finetune():
            config, tuning = pipeline.config, experiment.config.tuning
            work = partial(self.training_seconds, config.dataset, config.attention, tuning, config.limit_train)
            self._add(("finetuned", config.path(NO_FOLDER), json_sha256(tuning.plain())), work)

    def _add(self, key: Hashable, seconds: Callable[[], float], side_by_side: bool = False) -> None:
        if key not in self.seconds:
            jobs = self.jobs if side_by_side else 1
            with threads_per_job(jobs):
                self.seconds[key] = seconds() / jobs

    def training_seconds(
        self,
        dataset: str,
        attention: str | None,
        recipe: Recipe,
        limit_train: int | None,
        limit_test: int | None = None,
    ) -> float:
        """Estimate the seconds of a training and its test; a limit of None means all images."""
        shapes = dataset_info(dataset).shapes
        trained = recipe.epochs * (limit_train or shapes["train_images"][0])
        images = trained + TEST_COST * (limit_test or shapes["test_images"][0])

        def seconds_per_image() -> float:
            small = replace(recipe, batch_size=min(SMALL_BATCH, recipe.batch_size))
            seconds = measure_step_seconds(dataset, attention, small, self.device) / small.batch_size
            if seconds * recipe.batch_size > LONG_STEP:
                return seconds
            return measure_step_seconds(dataset, attention, recipe, self.device) / recipe.batch_size

        return images * self._time_once(("training", dataset, attention, recipe), seconds_per_image)

    def _retraining_seconds(self, run: Run, attention: str | None) -> float:
        seconds = self.training_seconds(run.dataset, attention, run.recipe, run.limit_train, run.limit_test)
        if run.masks.fill == "linear" and run.seed == 0:  # the other seeds see the same images
            shapes = dataset_info(run.dataset).shapes
            images = run.limit_train or shapes["train_images"][0]
            if run.masks.mask_split == "both":
                images += run.limit_test or shapes["test_images"][0]
            seconds += images * self._imputation_seconds(run.dataset)
        return seconds

    def _measurement_seconds(self, experiment: Measurements, measurement: Measurement) -> float:
        of_classifier, method = measurement.pipeline.config, measurement.method
        config, forward = experiment.config, partial(self._forward_seconds, of_classifier)
        explaining = partial(self._map_seconds, of_classifier, method)
        if isinstance(config, RemovalConfig):
            imputing = self._imputation_seconds(of_classifier.dataset) if config.fill == "linear" else 0.0
            return len(ORDERS) * len(config.ratios) * config.draws * config.limit_test * (forward() + imputing)
        if isinstance(config, SanityConfig):
            stages = randomization_cascade(new_model(of_classifier.dataset, of_classifier.attention))
            maps = 1 + len(stages) + config.samples
            return config.limit_test * (maps * explaining() + config.samples * forward())
        if isinstance(config, SelectivityConfig):
            return config.limit_test * (config.removals + 1) * explaining()
        of_image = forward() if experiment.evaluation.needs_maps else forward() + explaining()
        return experiment.evaluation.images(config) * of_image

    def _map_seconds(self, config: TrainingConfig, method: MethodSpec) -> float:
        """Return the seconds for the map of one image."""

        def measure() -> float:
            model, images = self._untrained(config, TIMED_IMAGES)
            target = torch.zeros(TIMED_IMAGES, dtype=torch.int64, device=self.device)
            explainer = method.build(model, **method_kwargs(method, model, images.new_zeros(images.shape[1])))
            return _median_seconds(lambda: float(explainer.attribute(images, target).sum())) / TIMED_IMAGES

        return self._time_once(("explain", config.dataset, config.attention, method), measure)

    def _forward_seconds(self, config: TrainingConfig) -> float:
        """Return the seconds for the logits of one image."""

        def measure() -> float:
            model, images = self._untrained(config, 8 * TIMED_IMAGES)
            with torch.no_grad():
                return _median_seconds(lambda: float(model(images).sum())) / len(images)

        return self._time_once(("forward", config.dataset, config.attention), measure)

    def _imputation_seconds(self, dataset: str) -> float:
        shape = dataset_info(dataset).image_shape
        return self._time_once(("impute", shape), lambda: imputation_seconds(shape, self.device))

    def _untrained(self, config: TrainingConfig, images: int) -> tuple[torch.nn.Module, torch.Tensor]:
        """Return an untrained classifier, and random images for it."""
        model = new_model(config.dataset, config.attention).eval().to(self.device)
        return model, torch.rand(images, *dataset_info(config.dataset).image_shape, device=self.device)

    def _time_once(self, key: Hashable, measure: Callable[[], float]) -> float:
        """Return `measure()`, called once for each key and number of threads."""
        key = (key, torch.get_num_threads())
        if key not in self._timings:
            self._timings[key] = measure()
        return self._timings[key]


def _median_seconds(work: Callable[[], object]) -> float:
    """Return the median of `REPEATS` times, after one that is not counted."""
    seconds = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def in_words(seconds: float) -> str:
    """Return a duration in a fitting unit."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
