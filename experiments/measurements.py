"""Measurements of methods on trained classifiers, by whatever `Evaluation`: what is finished is not done again."""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from attribution.spec import MethodSpec
from common.errors import InputError
from common.files import require_not_in_use
from common.fingerprint import source_sha256
from common.hashing import json_sha256
from common.imports import is_user_code
from evaluation import RANKS
from evaluation.configs import SelectivityConfig
from evaluation.protocol import StoredArtefacts
from evaluation.registry import load_evaluation, measure
from evaluation.tasks import SharedArrays, Task
from experiments.networks import kept_finetuned, network, path_of_finetuned
from experiments.pipeline import Pipeline, method_kwargs
from experiments.records import say_other_code, write_record
from experiments.runner import Experiment
from experiments.selectivity_files import save_result
from models import model_name
from reporting.evaluation_summary import MeasurementSummary
from reporting.groups import MEASUREMENTS
from reporting.numbers_summary import NumbersSummary
from reporting.records import load_records, load_selectivity, naming_damage, read_record, read_result
from training.checkpoint import Checkpoint, versions
from training.device import device_name

Result = dict[str, Any]


@dataclass(frozen=True)
class Measurement:
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
        settings: Any,
        overwrite: bool = False,
    ) -> None:
        """Look at what is there.

        Args:
            settings: the frozen dataclass of the evaluation.

        Raises:
            InputError: a method that the model refuses, maps of something else, a damaged result.
        """
        super().__init__(overwrite)
        self.name, self.evaluation, self.settings = evaluation, load_evaluation(evaluation), settings
        self.title = self.evaluation.name
        self.code = source_sha256(evaluation)[:16] if is_user_code(evaluation) else None
        self.pipelines, self.methods = pipelines, methods
        first = pipelines[0]
        self.folders, self.dataset, self.model = first.folders, first.order.dataset, model_name(first.order.attention)
        self.results_folder = first.folders.results
        self.has_arrays = evaluation == "selectivity"
        self._networks: dict[Pipeline, dict[str, Checkpoint]] = {}
        self._data: dict[Pipeline, SharedArrays] = {}
        for measurement in self.configs():
            result = self.load(measurement) if measurement.pipeline.kept and not overwrite else None
            if result is not None:
                self.results[measurement] = result
            elif self.evaluation.needs_maps:
                measurement.pipeline.kept_or_checked(measurement.method)
            else:
                measurement.pipeline.check(measurement.method)
        if not overwrite:
            kept = load_selectivity if self.has_arrays else lambda folder: load_records(folder, self.title)
            say_other_code(kept(self.results_folder), (self.record(config, "") for config in self.todo))

    def configs(self) -> list[Measurement]:
        return [Measurement(pipeline, method) for pipeline in self.pipelines for method in self.methods]

    def record(self, config: Measurement, checkpoint_sum: str) -> dict[str, Any]:
        """Return everything that decides on a result, as its record has it."""
        pipeline, method = config.pipeline, config.method
        facts = {
            "evaluation": self.title,
            "dataset": pipeline.order.dataset,
            "dataset_sum": pipeline.dataset_sum,
            "model": model_name(pipeline.order.attention),
            "checkpoint_sum": checkpoint_sum,
            **pipeline.order.model_code,
            **method.plain,
            **self.evaluation.record(self.settings),
        }
        if not self.has_arrays:  # the records of selectivity are of seed 0, and of no blurred map
            facts |= {"seed": pipeline.order.seed, "blur": method.blur}
        if self.code:
            facts["evaluation_code"] = self.code
        return facts | ({"map_dtype": pipeline.map_dtype} if self.evaluation.needs_maps else {})

    def path(self, config: Measurement) -> Path:
        """Return `results/<evaluation>/<dataset>_<model>_<method>_seed<k>-<hash of the record>.json`.

        Of selectivity `results/selectivity/<dataset>_<model>_<method>[_<ensemble>]-<hash of the record>.h5`.
        """
        pipeline, method = config.pipeline, config.method
        words = [self.dataset, self.model, method.file_stem, f"seed{pipeline.order.seed}"]
        if self.has_arrays:
            words = [word for word in (self.dataset, self.model, method.method_stem, method.ensemble) if word]
        record = json_sha256(self.record(config, pipeline.checkpoint.sha256))[:12]
        return self.results_folder / self.title / f"{'_'.join(words)}-{record}.{'h5' if self.has_arrays else 'json'}"

    def load(self, config: Measurement) -> Result | None:
        path = self.path(config)
        if self.has_arrays:
            require_not_in_use(path)
            return read_result(path) if path.exists() else None
        if not path.exists():
            return None
        with naming_damage(path):
            record, result = read_record(path)
            if record != self.record(config, config.pipeline.checkpoint.sha256):
                raise ValueError("another configuration")
            return result

    def save(self, config: Measurement, result: Result) -> Result:
        record, device = self.record(config, config.pipeline.checkpoint.sha256), device_name(config.pipeline.device)
        path = self.path(config)
        if self.has_arrays:
            save_result(path, record, result, device=device, versions=json.dumps(versions()))
            return {name: result[name] for name in ("score", "correct")}
        result = result | {"device": device, "versions": versions()}
        write_record(path, record, result)
        return result

    def prepare(self) -> None:
        for pipeline in self.pipelines:
            _ = pipeline.checkpoint
        self.find()
        for config in self.todo:
            pipeline = config.pipeline
            if self.evaluation.needs_maps:
                pipeline.maps(config.method)
            if pipeline not in self._networks:
                names = self.evaluation.networks(self.settings)
                self._networks[pipeline] = {name: network(name, pipeline, self.settings) for name in names}

    def images(self, config: Measurement) -> int:
        return self.evaluation.images(self.settings)

    def task(self, config: Measurement) -> Task:
        pipeline, method = config.pipeline, config.method
        if pipeline not in self._data:
            whole = pipeline.whole.subset(0, self.settings.limit_test)
            self._data[pipeline] = pipeline.arrays_of(whole)
        maps = (
            pipeline.test_maps(method, getattr(self.settings, "rank", RANKS[0])) if self.evaluation.needs_maps else None
        )
        artefacts = StoredArtefacts(
            seed=pipeline.order.seed,
            classifier=pipeline.checkpoint,
            networks=self._networks[pipeline],
            data=self._data[pipeline],
            shared_maps=maps,
            device=pipeline.device,
            method_kwargs=method_kwargs,
        )
        shared = (artefacts.data, maps) if maps else (artefacts.data,)
        name = f"{method.label} seed {pipeline.order.seed}"
        settings = {one.name: getattr(self.settings, one.name) for one in fields(self.settings)}
        arguments = self.name, self.code, settings, method, artefacts
        return Task(name, measure, arguments, self.images(config), shared)

    def plan(self, planned: set[Hashable], jobs: int) -> str:
        lines = [line for pipeline in self.pipelines for line in pipeline.train_lines()]
        lines += [f"tune    {path_of_finetuned(pipeline)}" for pipeline in self.missing_finetuned()]
        for config in self.todo:
            if self.evaluation.needs_maps and not config.pipeline.has_maps(config.method):
                lines.append(f"explain {config.pipeline.map_path(config.method)}")
        lines += [f"measure {config.method.label} seed {config.pipeline.order.seed}" for config in self.todo]
        return "\n".join([*lines, f"{len(self.configs())} measurements, {len(self.results)} finished, nothing written"])

    def missing_finetuned(self) -> list[Pipeline]:
        """Return the classifiers that have to be fine-tuned first, each once."""
        if "finetuned" not in self.evaluation.networks(self.settings):
            return []
        pipelines = dict.fromkeys(config.pipeline for config in self.todo)
        return [pipeline for pipeline in pipelines if kept_finetuned(pipeline, self.settings) is None]

    @property
    def summary(self) -> MeasurementSummary:
        """The finished measurements, for tables and figures."""
        first = self.pipelines[0]
        by_seed = {(config.method, config.pipeline.order.seed): result for config, result in self.results.items()}
        methods, seeds = tuple(self.methods), tuple(pipeline.order.seed for pipeline in self.pipelines)
        facts = self.settings, self.dataset, self.model, methods, seeds, by_seed
        facts_of_data = first.order.quick, first.dataset_sum, first.folders.data
        if self.code:
            return NumbersSummary(*facts, *facts_of_data, name=self.title, lowest_first=self.evaluation.lowest_first)
        return MEASUREMENTS[self.title][0](*facts, *facts_of_data)

    def report(self) -> str:
        return self.summary.write(self.results_folder)


def require_selectivity_possible(settings: SelectivityConfig, dataset: str, shape: tuple[int, int, int]) -> None:
    """Raise `InputError` if selectivity has more pixels to remove than there are, or too few images."""
    pixels = shape[1] * shape[2]
    if settings.removals > pixels:
        raise InputError(f"--removals={settings.removals}: an image of {dataset} has {pixels} pixels")
    if settings.limit_test < 2:
        raise InputError("--limit-test=1: selectivity needs two test images or more for its intervals")
