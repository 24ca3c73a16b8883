"""A sweep of retrainings: all points of the curves of one protocol."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attribution.spec import MethodSpec
from common.errors import InputError
from data import dataset_info
from evaluation import ORDER_OF
from evaluation.masking import Removal
from evaluation.retraining import retrain
from evaluation.runs import RetrainingConfig, Run, RunResult
from evaluation.tasks import Task
from experiments.pipeline import Pipeline
from experiments.records import write_record
from experiments.runner import Experiment
from reporting.records import naming_damage
from reporting.retraining_summary import RetrainingSummary


class Sweep(Experiment[Run]):
    """All retrainings of one protocol on the maps of one classifier, or of a classifier for each seed."""

    title, unit = "runs", "retrainings"

    def __init__(
        self,
        protocol: RetrainingConfig,
        pipelines: Sequence[Pipeline],
        overwrite: bool = False,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        """Find the finished runs.

        Args:
            pipelines: of the classifier of seed 0, with `explained_seeds="own"` of all seeds.
            left_out: the reason why a method is not among those of `protocol`, by its label.

        Raises:
            InputError: a ratio that removes nothing or everything, a method that the model refuses, a damaged result.
        """
        self.config, self.pipeline, self.left_out = protocol, pipelines[0], left_out or {}
        channels, height, width = dataset_info(protocol.dataset).image_shape
        positions = height * width * (channels if protocol.masks.granularity == "element" else 1)
        for ratio in protocol.ratios:
            if not 0 < Removal(ORDER_OF[protocol.evaluation], ratio).count(positions) < positions:
                raise InputError(
                    f"ratio {ratio:g} leaves none or all of {positions} {protocol.masks.granularity}s in place"
                )
        super().__init__(pipelines, overwrite)

    @property
    def sums(self) -> tuple[str, tuple[str, ...]]:
        """The SHA-256 of the data set, and of each explained classifier."""
        return self.pipeline.dataset_sha256, tuple(pipeline.checkpoint_sha256 for pipeline in self.pipelines)

    def points(self) -> list[Run]:
        return self.config.runs(*self.sums)

    def subject(self, run: Run) -> tuple[Pipeline, MethodSpec | None]:
        explained = self.config.explained_seed(run.method, run.seed) if run.method else 0
        return self.pipelines[explained], run.method

    def record(self, run: Run) -> dict[str, Any]:
        return run.configuration()

    def path(self, run: Run) -> Path:
        return run.path(self.folders.results)

    def load(self, run: Run) -> RunResult | None:
        result = super().load(run)
        with naming_damage(self.path(run)):
            return None if result is None else RunResult(**result)

    def save(self, run: Run, result: RunResult) -> RunResult:
        write_record(self.path(run), self.record(run), result.plain())
        return result

    def plan(self, planned: set[Hashable]) -> str:
        runs = self.points()
        to_explain = self.plan_maps(planned)
        to_retrain = [run for run in self.todo if run not in planned]
        lines = [line for pipeline in self.pipelines for line in pipeline.plan_training()]
        lines += [pipeline.plan_maps(method) for pipeline, method in to_explain]
        lines += [f"retrain {run.name}" for run in to_retrain]
        counts = [f"{len(runs)} retrainings, {len(self.results)} finished"]
        if shared := len(planned & set(runs)):
            counts.append(f"{shared} planned above")
        if to_explain:
            size = sum(pipeline.map_bytes(method) for pipeline, method in to_explain)
            counts.append(f"maps of at most {size / 1e6:,.1f} MB to write")
        planned |= {*to_retrain}
        return "\n".join([*lines, ", ".join([*counts, "nothing written"])])

    def images(self, run: Run) -> int:
        return run.recipe.epochs * (run.limit_train or dataset_info(run.dataset).shapes["train_images"][0])

    def task(self, run: Run) -> Task:
        pipeline, masks = self.pipeline, self.config.masks
        explained, method = self.subject(run)
        ranks = explained.ranking.of_splits(method, masks.granularity, masks.rank) if method else None
        shared = (pipeline.arrays, ranks) if ranks else (pipeline.arrays,)
        weights = pipeline.checkpoint.weights if run.masks.retrain_from == "weights" else None
        arguments = run, pipeline.arrays, ranks, pipeline.device_of_tasks, weights
        info = dataset_info(pipeline.config.dataset)
        return Task(run.name, retrain, arguments, self.images(run), shared, info)

    @property
    def summary(self) -> RetrainingSummary:
        dataset_sha256, checkpoints_sha256 = self.sums
        return RetrainingSummary(
            self.config,
            dataset_sha256,
            checkpoints_sha256,
            self.results,
            quick=self.pipeline.config.quick,
            data_dir=self.folders.data,
            left_out=self.left_out,
        )
