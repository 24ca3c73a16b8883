"""The time of planned work, estimated by timing each kind of work on a few random images."""

import statistics
import timeit
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from attribution import BASELINES
from attribution.spec import MethodSpec
from common.hashing import json_sha256
from data import dataset_info
from evaluation.imputation import imputation_seconds
from evaluation.runs import RetrainingConfig
from experiments.engine import threads_per_job
from experiments.measurements import Measurements
from experiments.pipeline import Pipeline
from experiments.runner import Experiment
from training.config import TrainingConfig
from training.networks import new_model
from training.speed import TEST_COST, measure_step_seconds

TIMED_IMAGES = 16
REPEATS = 3
SMALL_BATCH, LONG_STEP = 8, 0.5  # a step of the whole batch is timed unless it takes longer than this many seconds


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
        self._add(config.path(Path()), partial(self.training_seconds, config))  # file names alone tell the work apart

    def add_classifier(self, pipeline: Pipeline) -> None:
        """Add the training of the pipeline's classifier if it is missing."""
        if not pipeline.has_classifier:
            self.add_training(pipeline.config)

    def add_maps(self, pipeline: Pipeline, method: MethodSpec) -> None:
        """Add the maps if they are missing, and their classifier."""
        self.add_classifier(pipeline)
        if not pipeline.has_maps(method):
            images = pipeline.images_to_explain
            self._add(pipeline.key_of_maps(method), lambda: images * self._image_seconds(pipeline.config, method))

    def add_experiment(self, experiment: Experiment[Any]) -> None:
        """Add the missing results, and the classifiers, maps and networks that they need."""
        for pipeline in experiment.pipelines:
            self.add_classifier(pipeline)
        for pipeline, method in experiment.explanations if experiment.needs_maps else ():
            self.add_maps(pipeline, method)
        for point in experiment.todo:
            self._add(experiment.path(point), partial(self._task_seconds, experiment, point), self.jobs)
        for pipeline in experiment.to_finetune() if isinstance(experiment, Measurements) else ():
            tuned = replace(pipeline.config, recipe=experiment.config.tuning)
            key = "finetuned", pipeline.path, json_sha256(tuned.recipe.plain())
            self._add(key, partial(self.training_seconds, tuned))

    def _add(self, key: Hashable, seconds: Callable[[], float], jobs: int = 1) -> None:
        if key not in self.seconds:
            with threads_per_job(jobs):
                self.seconds[key] = seconds() / jobs

    def training_seconds(self, config: TrainingConfig, limit_test: int | None = None) -> float:
        """Estimate the seconds of a training and of its test on `limit_test` images, None for all."""
        dataset, attention, recipe = config.dataset, config.attention, config.recipe
        shapes = dataset_info(dataset).shapes
        trained, tested = config.limit_train or shapes["train_images"][0], limit_test or shapes["test_images"][0]

        def seconds_per_image() -> float:
            for size in (min(SMALL_BATCH, recipe.batch_size), recipe.batch_size):
                batch = replace(recipe, batch_size=size)
                seconds = measure_step_seconds(dataset, attention, batch, self.device) / size
                if seconds * recipe.batch_size > LONG_STEP:
                    break
            return seconds

        of_image = self._time_once(("training", dataset, attention, recipe), seconds_per_image)
        return (recipe.epochs * trained + TEST_COST * tested) * of_image

    def _task_seconds(self, experiment: Experiment[Any], point: Any) -> float:
        """Estimate the seconds of one retraining or measurement."""
        (pipeline, method), config = experiment.subject(point), experiment.config
        classifier, shape = pipeline.config, dataset_info(pipeline.config.dataset).image_shape
        forward, explain = (partial(self._image_seconds, classifier, each) for each in (None, method))
        impute = partial(self._time_once, ("impute", shape), lambda: imputation_seconds(shape, self.device))
        if isinstance(config, RetrainingConfig):
            training = replace(classifier, recipe=point.recipe, limit_train=point.limit_train)
            seconds = self.training_seconds(training, point.limit_test)
            is_first = point.seed == 0 or point.masks.explained_seeds == "own"
            if point.masks.fill == "linear" and is_first:  # the other seeds see the same images
                totals = dataset_info(classifier.dataset).shapes
                images = point.limit_train or totals["train_images"][0]
                if point.masks.mask_split == "both":
                    images += point.limit_test or totals["test_images"][0]
                seconds += images * impute()
            return seconds
        assert isinstance(experiment, Measurements)
        work = experiment.work(point)
        costs = (work.maps, explain), (work.logits, forward), (work.imputed, impute)
        return sum(images * of_image() for images, of_image in costs if images)

    def _image_seconds(self, config: TrainingConfig, method: MethodSpec | None) -> float:
        """Return the seconds for the map of one image by `method`, or else for its logits."""

        def measure() -> float:
            model = new_model(config.dataset, config.attention).eval().to(self.device)
            count = TIMED_IMAGES if method else 8 * TIMED_IMAGES
            images = torch.rand(count, *dataset_info(config.dataset).image_shape, device=self.device)
            work: Callable[[], Any] = partial(model, images)
            if method:
                target = torch.zeros(count, dtype=torch.int64, device=self.device)
                built = method.build(model, dict.fromkeys(BASELINES, images.new_zeros(images.shape[1])))
                work = partial(built.attribute, images, target)
            with torch.set_grad_enabled(method is not None):
                _first, *seconds = timeit.repeat(lambda: float(work().sum()), number=1, repeat=REPEATS + 1)
            return statistics.median(seconds) / count  # the sum waits for the device

        return self._time_once((config.dataset, config.attention, method), measure)

    def _time_once(self, key: Hashable, measure: Callable[[], float]) -> float:
        """Return `measure()`, called once for each key and number of threads."""
        key = (key, torch.get_num_threads())
        if key not in self._timings:
            self._timings[key] = measure()
        return self._timings[key]


def in_words(seconds: float) -> str:
    """Return a duration in a fitting unit."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
