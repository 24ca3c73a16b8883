"""A sweep of retrainings: all points of the curves of one protocol on one classifier."""

from collections.abc import Hashable
from functools import cached_property
from pathlib import Path

from attribution.spec import MethodSpec
from common.errors import InputError
from data import dataset_info
from evaluation import ORDER_OF
from evaluation.imputation import imputation_seconds
from evaluation.masking import Removal
from evaluation.retraining import retrain
from evaluation.runs import RetrainingConfig, Run, RunResult
from evaluation.tasks import Task
from experiments.engine import threads_per_job
from experiments.pipeline import Pipeline, explain_line
from experiments.records import find_run, save_run, say_other_code
from experiments.runner import Experiment
from reporting.records import load_records
from reporting.retraining_summary import RetrainingSummary
from training.speed import TEST_COST, measure_step_seconds

UNKNOWN = "not trained yet"  # in the place of the sum of weights


class Sweep(Experiment[Run]):
    """All retrainings of one protocol on one classifier."""

    title, unit = "runs", "retrainings"

    def __init__(self, protocol: RetrainingConfig, pipeline: Pipeline, overwrite: bool = False) -> None:
        """Look at what is there.

        Raises:
            InputError: a ratio that removes nothing or everything, a method that the model refuses, a damaged result.
        """
        super().__init__(overwrite)
        self.config, self.pipeline = protocol, pipeline
        self.folders, self.folder = pipeline.folders, pipeline.folders.results
        self._require_something_removed()
        if pipeline.kept:
            self.find()
        if not overwrite:
            say_other_code(load_records(self.folder, "runs"), (run.configuration() for run in self.todo))
        for method in self.methods_to_explain:
            pipeline.kept_or_checked(method)

    def configs(self) -> list[Run]:
        pipeline = self.pipeline
        return self.config.runs(
            pipeline.dataset_sum, pipeline.checkpoint.sha256 if pipeline.has_classifier else UNKNOWN
        )

    def path(self, config: Run) -> Path:
        return config.path(self.folder)

    def load(self, config: Run) -> RunResult | None:
        return find_run(config, self.folder)

    def save(self, config: Run, result: RunResult) -> RunResult:
        save_run(config, result, self.folder)
        return result

    @property
    def methods_to_explain(self) -> list[MethodSpec]:
        """The methods whose maps are needed, since some run of theirs is not finished."""
        return list(dict.fromkeys(run.method for run in self.todo if run.method))

    def _require_something_removed(self) -> None:
        channels, height, width = dataset_info(self.config.dataset).image_shape
        positions = height * width * (channels if self.config.masks.granularity == "element" else 1)
        for ratio in self.config.ratios:
            if not 0 < Removal(ORDER_OF[self.config.evaluation], ratio).count(positions) < positions:
                raise InputError(
                    f"ratio {ratio:g} leaves none or all of {positions} {self.config.masks.granularity}s in place"
                )

    def plan(self, planned: set[Hashable], jobs: int) -> str:
        """What `complete` would do, in lines.

        Args:
            planned: runs and maps of sweeps before this one, which are not done again; this one's are added.
            jobs: how many processes would do it side by side.
        """
        pipeline = self.pipeline
        runs = self.configs()
        lines = pipeline.train_lines()
        unexplained = [
            method
            for method in self.methods_to_explain
            if pipeline.map_path(method) not in planned and not pipeline.has_maps(method)
        ]
        lines += [explain_line(pipeline, method) for method in unexplained]
        left = [run for run in self.todo if run not in planned]
        lines += [f"retrain {run.name}" for run in left]
        if left:
            with threads_per_job(jobs):
                seconds = sum(self.seconds_of_a_run(run) for run in left) / jobs
            beside = "" if jobs == 1 else f", {jobs} side by side"
            lines.append(f"about {in_words(seconds)} of retraining on this device{beside}, by a step measured now")
        size = sum(pipeline.map_bytes(method) for method in unexplained)
        maps = f"maps of at most {size / 1e6:,.1f} MB to write, " if unexplained else ""
        shared = len(planned & set(runs))
        above = f"{shared} planned above, " if shared else ""
        planned |= {*left, *map(pipeline.map_path, unexplained)}
        return "\n".join(
            [*lines, f"{len(runs)} retrainings, {len(self.results)} finished, {above}{maps}nothing written"]
        )

    def seconds_of_a_run(self, run: Run) -> float:
        """Training and testing of one network, from the measured time of a step, and the imputation of its images."""
        shapes = dataset_info(run.dataset).shapes
        trained = run.limit_train or shapes["train_images"][0]
        tested = run.limit_test or shapes["test_images"][0]
        steps = (run.recipe.epochs * trained + TEST_COST * tested) / run.recipe.batch_size
        imputed = 0.0
        if run.masks.fill == "linear" and run.seed == 0:  # the other seeds see the same images
            imputed = (trained + (tested if run.masks.mask_split == "both" else 0)) * self._imputation
        return steps * self._step + imputed

    @cached_property
    def _step(self) -> float:
        protocol = self.config
        return measure_step_seconds(protocol.dataset, protocol.attention, protocol.recipe, self.pipeline.device)

    @cached_property
    def _imputation(self) -> float:
        return imputation_seconds(dataset_info(self.config.dataset).image_shape, self.pipeline.device)

    def prepare(self) -> None:
        _ = self.pipeline.checkpoint
        self.find()
        for method in self.methods_to_explain:
            self.pipeline.maps(method)

    def images(self, config: Run) -> int:
        shapes = dataset_info(config.dataset).shapes
        return config.recipe.epochs * (config.limit_train or shapes["train_images"][0])

    def task(self, config: Run) -> Task:
        pipeline, protocol = self.pipeline, self.config
        ranks = (
            pipeline.ranks(config.method, protocol.masks.granularity, protocol.masks.rank) if config.method else None
        )
        shared = (pipeline.arrays, ranks) if ranks else (pipeline.arrays,)
        arguments = config, pipeline.arrays, ranks, pipeline.device
        return Task(config.name, retrain, arguments, self.images(config), shared)

    @property
    def summary(self) -> RetrainingSummary:
        """The finished runs, for tables and figures."""
        pipeline = self.pipeline
        sums = pipeline.dataset_sum, pipeline.checkpoint.sha256
        return RetrainingSummary(self.config, *sums, self.results, pipeline.order.quick, data_dir=self.folders.data)

    def report(self) -> str:
        return self.summary.write(self.folder)


def in_words(seconds: float) -> str:
    """A time to wait, in the unit that fits."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
