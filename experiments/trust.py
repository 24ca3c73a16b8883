"""--eval=trust: several evaluations of one network in one run, and the answer that they give together."""

import math
from collections.abc import Hashable
from dataclasses import fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attribution import ANY_MODEL_METHODS, BASELINES, CONTROLS, ENSEMBLES, METHODS
from attribution.spec import MethodSpec, methods_stem
from common.hashing import json_sha256
from data import dataset_info
from evaluation import EXPLAIN, RANKS
from experiments.effort import (
    BUDGET,
    ENSEMBLES_AROUND,
    Effort,
    Timing,
    choose_effort,
    require_values,
    summarize_trust,
    timed_images,
)
from experiments.engine import Engine, threads_per_job
from experiments.measurements import Measurements, SelectivityMeasurements
from experiments.options import NONE
from experiments.pictures import Subject
from experiments.pipeline import Pipeline
from experiments.plans import usable_methods
from experiments.records import find_result, write_record
from experiments.request import Request
from experiments.runner import run, train_missing
from reporting.answer import write_answer
from reporting.labels import parameter_words
from reporting.pictures import SCALE_NOTE, Column, draw_grid
from reporting.trust_summary import TrustSummary
from training.classifier import restore
from training.inputs import Images

SHOWN = 6  # images
CLASSES = {"selectivity": SelectivityMeasurements}  # of measurements, where they are kept in another way
OURS = MethodSpec("VBP")  # explains the network as our methods do


class Trust:
    """The evaluations of one network that need no retraining.

    Attributes:
        left_out: the reason why a method is not measured, by its label.
    """

    def __init__(self, request: Request, pipeline: Pipeline) -> None:
        """Check what can be checked before the network is timed.

        Raises:
            InputError: see `require_values`.
        """
        self.request, self.pipeline = request, pipeline
        self.budget = float(request.options.get("budget", BUDGET))
        self.left_out: dict[str, str] = {}
        self.remarks: list[str] = []
        self.experiments: dict[str, Measurements] = {}
        _channels, height, width = dataset_info(pipeline.config.dataset).image_shape
        images = min(self.images, request.limit_test or self.images)
        require_values(self.values, images, height * width, self.more)

    @property
    def candidates(self) -> list[MethodSpec]:
        """The methods of the request; without a choice all, and the ensembles around the gradient."""
        request = self.request
        if request.method != ANY_MODEL_METHODS:
            return list(request.methods_and_controls)
        methods = replace(request, method=METHODS).methods
        if request.ensemble == (NONE,):
            methods += replace(request, method=(ENSEMBLES_AROUND,), ensemble=ENSEMBLES).methods
        return list(dict.fromkeys((*methods, *map(MethodSpec, CONTROLS))))

    @cached_property
    def methods(self) -> list[MethodSpec]:
        """The candidates that can explain the network."""
        are_chosen = self.request.method != ANY_MODEL_METHODS
        methods, left_out = usable_methods(self.candidates, self.pipeline.try_method, are_chosen)
        self.left_out |= left_out
        return methods

    @property
    def values(self) -> dict[str, Any]:
        """The options that the user gives."""
        return {"explain": self.pipeline.explain, **self.request.options}

    @property
    def record(self) -> dict[str, Any]:
        """Everything that decides on the effort, but the time that was measured."""
        pipeline, request = self.pipeline, self.request
        return {
            "dataset": pipeline.config.dataset,
            "dataset_sum": pipeline.dataset_sha256,
            "model": pipeline.model,
            "checkpoint_sum": pipeline.checkpoint_sha256,
            "methods": [method.plain for method in self.methods],
            "budget": self.budget,
            "limit_test": request.limit_test,
            "options": {name: str(value) for name, value in sorted(request.options.items())},
        }

    def choose(self) -> tuple[Effort, list[str], dict[str, str]]:
        """Return effort, remarks and methods left out: those of the first run, so that a later one goes on with it."""
        name = f"{self.pipeline.config.dataset}_{self.pipeline.model}-{json_sha256(self.record)[:12]}.json"
        path = self.pipeline.folders.results / "trust" / name
        stored = None if self.request.overwrite else find_result(path, self.record)
        if stored is None or set(stored["effort"]) != {field.name for field in fields(Effort)}:
            limit, seconds = self.request.limit_test, self.budget * 60 * self.request.processes
            effort, remarks, left_out = choose_effort(self.timing(), self.values, self.images, seconds, limit)
            labels = {method.label: reason for method, reason in left_out.items()}
            stored = {"effort": vars(effort), "remarks": remarks, "left_out": labels}
            if not self.request.dry_run:
                write_record(path, self.record, stored)
        effort = Effort(**stored["effort"] | {"ratios": tuple(stored["effort"]["ratios"])})
        return effort, stored["remarks"], stored["left_out"]

    @property
    def images(self) -> int:
        """The number of test images."""
        return int(dataset_info(self.pipeline.config.dataset).shapes["test_images"][0])

    @property
    def more(self) -> str:
        """The advice where these are too few."""
        has_training_images = dataset_info(self.pipeline.config.dataset).shapes["train_images"][0] > 0
        may_split = self.pipeline.given is not None and has_training_images
        return f"give more test images{', or --split=test for a folder without train and test' * may_split}"

    def timing(self) -> Timing:
        """Time the network and its methods on some images, as in a process of the run; a dry run makes them up."""
        pipeline = self.pipeline
        shape = dataset_info(pipeline.config.dataset).image_shape
        count = timed_images(math.prod(shape), self.images)
        networks = {
            itself: spec.network(restore(pipeline.checkpoint, pipeline.device))
            for itself, spec in {spec.explains_network_itself: spec for spec in (*self.methods, OURS)}.items()
        }
        if self.request.dry_run:  # decoding the images would write them
            inputs = torch.rand(count, *shape, device=pipeline.device)
            pixels = dict.fromkeys(BASELINES, torch.zeros(shape[0]))
        else:
            few = replace(pipeline, limit_train=0, limit_test=count)  # so that no other images are decoded
            images = Images(few.dataset.test, few.normalisation, pipeline.device)
            inputs, pixels = images.batch(torch.arange(count, device=pipeline.device)), few.normalisation.pixels
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        explainers = {}
        for method in self.methods:
            network = networks[method.explains_network_itself]
            explainers[method] = partial(method.build, network, pixels)
        with threads_per_job(self.request.processes):
            return Timing.measure(networks[OURS.explains_network_itself], inputs, explainers)

    def prepare(self) -> None:
        """Choose the effort and the methods, and find the finished measurements."""
        effort, self.remarks, left_out = self.choose()
        self.left_out |= left_out
        methods = [method for method in self.methods if method.label not in left_out]
        pipeline = replace(self.pipeline, limit_train=0, limit_test=effort.images)
        self.experiments = {
            name: CLASSES.get(name, Measurements)(name, [pipeline], methods, config, self.request.overwrite)
            for name, config in effort.configs(self.values).items()
        }
        self.pipeline = pipeline

    def run(self, engine: Engine) -> None:
        train_missing([self.pipeline], engine)
        self.prepare()
        for label, reason in self.left_out.items():
            print(f"left out: {label}: {reason}", flush=True)
        print("".join(f"{remark}\n" for remark in self.remarks), end="", flush=True)
        run(list(self.experiments.values()), engine)

    def plan(self) -> str:
        """Return the lines of a dry run."""
        if not self.pipeline.has_classifier:
            return "\n".join([*self.pipeline.plan_training(), "choose the effort by timing the network"])
        self.prepare()
        left_out = [f"left out: {label}: {reason}" for label, reason in self.left_out.items()]
        planned: set[Hashable] = set()
        return "\n".join([*left_out, *self.remarks, *(part.plan(planned) for part in self.experiments.values())])

    @property
    def summary(self) -> TrustSummary:
        summaries = {name: experiment.summary for name, experiment in self.experiments.items()}
        return summarize_trust(summaries, self.left_out, self.remarks, self.words)

    @property
    def words(self) -> list[str]:
        """The choices that are not the default, as words of file names."""
        request, usual = self.request, {"budget": BUDGET, "explain": EXPLAIN[0], "rank": RANKS[0]}
        options = {name: value for name, value in request.options.items() if value != usual.get(name)}
        is_chosen = request.method != ANY_MODEL_METHODS or request.ensemble != (NONE,)
        words = [methods_stem(request.methods)] if is_chosen else []
        words += parameter_words(request.methods)
        for name, value in sorted(options.items()):
            words.append(f"{name}-{json_sha256(value)[:6] if isinstance(value, tuple) else value}")
        words += [f"{request.limit_test}-images"] * bool(request.limit_test)
        return [*words, *["quick"] * self.pipeline.config.quick]

    def report(self) -> str:
        """Write the answer, its picture and its page; return what to print."""
        summary, results = self.summary, self.pipeline.folders.results
        text = summary.write(results)
        pictures = self.draw(results / f"{summary.stem}_maps")
        page = write_answer(summary, pictures[0], results)
        return f"{text}\npage:   {page}"

    def draw(self, path: Path) -> list[Path]:
        """Draw the maps of all methods for some images, beside each other."""
        subject, test = Subject(self.pipeline), self.pipeline.dataset.test
        _labels, first = np.unique(test.labels, return_index=True)
        subject.examples = test.take(np.sort(first)[:SHOWN])
        columns = [Column("image", list(subject.examples.images), subject.captions())]
        columns += [
            Column(method.label, subject.maps(method)) for method in next(iter(self.experiments.values())).methods
        ]
        names = [self.pipeline.whole.classes[label] for label in subject.examples.labels]
        title = f"Maps on {subject.words}"
        return draw_grid(names, columns, title, f"Below an image: prediction and probability. {SCALE_NOTE}", path)
