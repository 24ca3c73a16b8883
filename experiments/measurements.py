"""Measurements of methods on trained classifiers by one `Evaluation`."""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from attribution.spec import MethodSpec
from common.files import require_not_in_use
from common.fingerprint import source_sha256
from common.hashing import json_sha256
from common.imports import is_user_code
from data import dataset_info
from evaluation.options import record_of
from evaluation.protocol import Evaluation, StoredArtefacts, Work
from evaluation.registry import load_evaluation, measure
from evaluation.tasks import SharedArrays, Task
from experiments.jobs import Job
from experiments.networks import FineTuning, find_finetuned, finetuned_path, network_job
from experiments.pipeline import Pipeline
from experiments.records import StoredRecords, write_arrays, write_record
from experiments.runner import Experiment
from experiments.trainings import Training
from reporting.groups import MEASUREMENTS, edition_of
from reporting.measurement_summary import MeasurementSummary
from reporting.numbers_summary import NumbersSummary
from reporting.records import load_selectivity, read_result

Result = dict[str, Any]


class Measurement(NamedTuple):
    """One method on one classifier."""

    pipeline: Pipeline
    method: MethodSpec


class Measurements(Experiment[Measurement]):
    """One evaluation of several methods on the classifiers of one model, a seed each."""

    def __init__(
        self,
        evaluation: str,
        pipelines: Sequence[Pipeline],
        methods: Sequence[MethodSpec],
        config: Any,
        overwrite: bool = False,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        """Find the finished measurements.

        Args:
            config: the configuration of the evaluation.
            left_out: the reason why a method is not among `methods`, by its label.

        Raises:
            InputError: a method that the model refuses, maps of something else, a damaged result.
        """
        self.name, self.evaluation, self.config = evaluation, load_evaluation(evaluation), config
        self.title, self.needs_maps = self.evaluation.name, self.evaluation.needs_maps
        self.code = source_sha256(evaluation)[:16] if is_user_code(evaluation) else None
        self.methods, self.left_out = methods, left_out or {}
        self._networks: dict[Pipeline, dict[str, FineTuning | Training]] = {}
        self._data: dict[Pipeline, SharedArrays] = {}
        super().__init__(pipelines, overwrite)

    def points(self) -> list[Measurement]:
        return [Measurement(pipeline, method) for pipeline in self.pipelines for method in self.methods]

    def subject(self, measurement: Measurement) -> Measurement:
        return measurement

    def record(self, measurement: Measurement) -> dict[str, Any]:
        pipeline, method = measurement
        facts = {
            "evaluation": self.title,
            "dataset": pipeline.config.dataset,
            "dataset_sum": pipeline.dataset_sha256,
            "model": pipeline.model,
            "checkpoint_sum": pipeline.checkpoint_sha256,
            **pipeline.config.model_code,
            **method.plain,
            **record_of(self.config),
            "seed": pipeline.config.seed,
            "blur": method.blur,
        }
        if pipeline.config.quick:  # of another network, which a table must not mix with that of the whole recipe
            facts["quick"] = True
        if self.code:
            facts["evaluation_code"] = self.code
        return facts | ({"map_dtype": pipeline.map_dtype} if self.needs_maps else {})

    def path(self, measurement: Measurement) -> Path:
        """Return `results/<evaluation>/<dataset>_<model>_<method>_seed<k>-<hash of the record>.json`."""
        return self._path(
            measurement, measurement.method.file_stem, f"seed{measurement.pipeline.config.seed}", suffix="json"
        )

    def _path(self, measurement: Measurement, *words: str, suffix: str) -> Path:
        name = "_".join([measurement.pipeline.config.dataset, measurement.pipeline.model, *words])
        return self.folders.results / self.title / f"{name}-{json_sha256(self.record(measurement))[:12]}.{suffix}"

    def save(self, measurement: Measurement, result: Result) -> Result:
        write_record(self.path(measurement), self.record(measurement), result)
        return result

    def networks(self) -> list[Job]:
        names = self.evaluation.networks(self.config)
        for pipeline in dict.fromkeys(measurement.pipeline for measurement in self.todo):
            self._networks[pipeline] = {name: network_job(name, pipeline, self.config) for name in names}
        return [job for jobs in self._networks.values() for job in jobs.values()]

    def images(self, measurement: Measurement) -> int:
        return self.evaluation.images(self.config)

    def task(self, measurement: Measurement) -> Task:
        pipeline, method = measurement
        if pipeline not in self._data:
            self._data[pipeline] = pipeline.arrays_of(pipeline.whole.subset(0, self.config.limit_test))
        maps = pipeline.ranking.of_test(method, self.evaluation.ranking(self.config)[1]) if self.needs_maps else None
        artefacts = StoredArtefacts(
            seed=pipeline.config.seed,
            classifier=pipeline.checkpoint,
            networks={name: job.checkpoint for name, job in self._networks[pipeline].items() if job.checkpoint},
            data=self._data[pipeline],
            shared_maps=maps,
            device=pipeline.device_of_tasks,
            included=self.included(measurement),
        )
        shared = (artefacts.data, maps) if maps else (artefacts.data,)
        values = {field.name: getattr(self.config, field.name) for field in fields(self.config)}
        arguments = self.name, self.code, values, method, artefacts
        name, info = f"{method.label} seed {pipeline.config.seed}", dataset_info(pipeline.config.dataset)
        return Task(name, measure, arguments, self.images(measurement), shared, info)

    def included(self, measurement: Measurement) -> Result | None:
        """Return the stored result of what the evaluation includes; None if there is none."""
        part = self.evaluation.includes(self.config)
        if part is None or self.code:
            return None
        other = Measurements(part[0], [measurement.pipeline], [], part[1])
        return other.load(measurement)

    def work(self, measurement: Measurement) -> Work:
        """Return what one measurement computes at most, and the unfinished one that it includes."""
        work, part = self.evaluation.work(self.config), self.evaluation.includes(self.config)
        if part and self.included(measurement) is None:
            work += load_evaluation(part[0]).work(part[1])
        return work

    def plan(self, planned: set[Hashable]) -> str:
        lines = [line for pipeline in self.pipelines for line in pipeline.plan_training()]
        lines += [f"tune    {finetuned_path(pipeline)}" for pipeline in self.to_finetune()]
        lines += [pipeline.plan_maps(method) for pipeline, method in self.plan_maps(planned)]
        lines += [f"measure {method.label} seed {pipeline.config.seed}" for pipeline, method in self.todo]
        return "\n".join([*lines, f"{len(self.points())} measurements, {len(self.results)} finished, nothing written"])

    def to_finetune(self) -> list[Pipeline]:
        """Return the classifiers that have to be fine-tuned first."""
        if "finetuned" not in self.evaluation.networks(self.config):
            return []
        pipelines = dict.fromkeys(measurement.pipeline for measurement in self.todo)
        return [pipeline for pipeline in pipelines if find_finetuned(pipeline, self.config) is None]

    @property
    def summary(self) -> MeasurementSummary:
        first = self.pipelines[0]
        return summary_of(self.evaluation)(
            config=self.config,
            dataset=first.config.dataset,
            model=first.model,
            methods=tuple(self.methods),
            seeds=tuple(pipeline.config.seed for pipeline in self.pipelines),
            results={(method, pipeline.config.seed): result for (pipeline, method), result in self.results.items()},
            quick=first.config.quick,
            dataset_sha256=first.dataset_sha256,
            data_dir=self.folders.data,
            edition=edition_of(first.map_dtype if self.needs_maps else None),
            left_out=self.left_out,
        )


class SelectivityMeasurements(Measurements):
    """Selectivity of the classifier of seed 0, whose results are arrays."""

    def record(self, measurement: Measurement) -> dict[str, Any]:
        return {name: value for name, value in super().record(measurement).items() if name not in ("seed", "blur")}

    def path(self, measurement: Measurement) -> Path:
        """Return `results/selectivity/<dataset>_<model>_<method>[_<ensemble>]-<hash of the record>.h5`."""
        method = measurement.method
        return self._path(measurement, method.method_stem, *filter(None, [method.ensemble]), suffix="h5")

    def stored_records(self) -> StoredRecords:
        return load_selectivity(self.folders.results)

    def load(self, measurement: Measurement) -> Result | None:
        path = self.path(measurement)
        require_not_in_use(path)
        return read_result(path) if path.exists() else None

    def save(self, measurement: Measurement, result: Result) -> Result:
        facts = {"device": result.pop("device"), "versions": json.dumps(result.pop("versions"))}
        write_arrays(self.path(measurement), self.record(measurement), result, **facts)
        return {name: result[name] for name in ("score", "correct")}


def summary_of(evaluation: Evaluation) -> Callable[..., MeasurementSummary]:
    """Return what makes the summary of an evaluation from the fields of `MeasurementSummary`."""
    if evaluation.name in MEASUREMENTS:
        return MEASUREMENTS[evaluation.name][0]
    return partial(NumbersSummary, evaluation=evaluation.name, lowest_first=evaluation.lowest_first)
