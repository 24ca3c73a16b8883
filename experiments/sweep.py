"""A sweep of retrainings, from the plan to the last run; what is finished is not done again."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from attribution.spec import MethodSpec
from common.errors import InputError
from data import dataset_info
from evaluation.imputation import imputation_seconds
from evaluation.masking import Removal
from evaluation.retraining import Protocol, Retraining
from experiments.pipeline import Pipeline, explain_line
from experiments.runs import Result, Run, find_result, kept_records, save_result, say_other_code
from experiments.side_by_side import threads_of_one
from reporting.retraining_summary import RetrainingSummary
from training.speed import TEST_COST, step_seconds

Results = dict[Run, Result]


def finished_runs(runs: Iterable[Run], folder: Path) -> Results:
    """Those of `runs` that have a result.

    Raises:
        InputError: a damaged result.
    """
    found = ((run, find_result(run, folder)) for run in runs)
    return {run: result for run, result in found if result is not None}


class Sweep:
    """All retrainings of one protocol on one classifier.

    Creating it looks at what is there and refuses what can't be used; nothing is written before `complete`.
    """

    def __init__(self, protocol: Protocol, pipeline: Pipeline, overwrite: bool = False) -> None:
        self.protocol, self.pipeline, self.overwrite = protocol, pipeline, overwrite
        self.folder = pipeline.folders.results
        self._require_something_removed()
        self.finished = self._finished(pipeline.kept.sum) if pipeline.kept else {}
        self.todo: list[Run] = []
        if not overwrite:
            say_other_code(kept_records(self.folder, "runs"), (run.configuration() for run in self.left))
        for method in self._unfinished_methods(pipeline.kept.sum if pipeline.kept else ""):
            pipeline.kept_or_checked(method)

    def _unfinished_methods(self, checkpoint_sum: str) -> list[MethodSpec]:
        """Those of which some run is left: only their maps are needed."""
        runs = self.protocol.runs(self.pipeline.dataset_sum, checkpoint_sum)
        return list(dict.fromkeys(run.method for run in runs if run.method and run not in self.finished))

    def _require_something_removed(self) -> None:
        channels, height, width = dataset_info(self.protocol.dataset).image_shape
        positions = height * width * (channels if self.protocol.granularity == "element" else 1)
        for ratio in self.protocol.ratios:
            if not 0 < Removal(self.protocol.evaluation, ratio).count(positions) < positions:
                raise InputError(
                    f"ratio {ratio:g} leaves none or all of {positions} {self.protocol.granularity}s in place"
                )

    def _finished(self, checkpoint_sum: str) -> Results:
        runs = self.protocol.runs(self.pipeline.dataset_sum, checkpoint_sum)
        return {} if self.overwrite else finished_runs(runs, self.folder)

    @property
    def _sum(self) -> str:
        """Of the classifier, if it is there."""
        return self.pipeline.kept.sum if self.pipeline.kept else "not trained yet"

    @property
    def unfinished_methods(self) -> list[MethodSpec]:
        """Those whose maps are needed."""
        return self._unfinished_methods(self._sum)

    @property
    def left(self) -> list[Run]:
        """The runs that are not finished, as far as that can be told before anything is made."""
        runs = self.protocol.runs(self.pipeline.dataset_sum, self._sum)
        return [run for run in runs if run not in self.finished]

    def plan(self, planned: set[Run | Path], jobs: int) -> str:
        """What `complete` would do, in lines.

        Args:
            planned: runs and maps of sweeps before this one, which are not done again; this one's are added.
            jobs: how many processes would do it side by side.
        """
        protocol, pipeline = self.protocol, self.pipeline
        runs = protocol.runs(pipeline.dataset_sum, self._sum)
        lines = pipeline.train_lines()
        unexplained = [
            method
            for method in self.unfinished_methods
            if pipeline.map_path(method) not in planned and not pipeline.has_maps(method)
        ]
        lines += [explain_line(pipeline, method) for method in unexplained]
        left = [run for run in self.left if run not in planned]
        lines += [f"retrain {run.name}" for run in left]
        if left:
            with threads_of_one(jobs):
                seconds = sum(self.seconds_of_a_run(run) for run in left) / jobs
            beside = "" if jobs == 1 else f", {jobs} side by side"
            lines.append(f"about {in_words(seconds)} of retraining on this device{beside}, by a step measured now")
        size = sum(pipeline.map_bytes(method) for method in unexplained)
        maps = f"maps of at most {size / 1e6:,.1f} MB to write, " if unexplained else ""
        shared = len(planned & set(runs))
        above = f"{shared} planned above, " if shared else ""
        planned |= {*left, *map(pipeline.map_path, unexplained)}
        return "\n".join(
            [*lines, f"{len(runs)} retrainings, {len(self.finished)} finished, {above}{maps}nothing written"]
        )

    def seconds_of_a_run(self, run: Run) -> float:
        """Training and testing of one network, from the measured time of a step, and the imputation of its images."""
        shapes = dataset_info(run.dataset).shapes
        trained = run.limit_train or shapes["train_images"][0]
        tested = run.limit_test or shapes["test_images"][0]
        steps = (run.recipe.epochs * trained + TEST_COST * tested) / run.recipe.batch_size
        imputed = 0.0
        if run.fill == "linear" and run.seed == 0:  # the other seeds see the same images
            imputed = (trained + (tested if run.mask_split == "both" else 0)) * self._imputation
        return steps * self._step + imputed

    @cached_property
    def _step(self) -> float:
        protocol = self.protocol
        return step_seconds(protocol.dataset, protocol.attention, protocol.recipe, self.pipeline.device)

    @cached_property
    def _imputation(self) -> float:
        return imputation_seconds(dataset_info(self.protocol.dataset).image_shape, self.pipeline.device)

    def prepare(self) -> None:
        """Make what the runs need, the classifier and the maps, and see what is left to do."""
        pipeline = self.pipeline
        runs = self.protocol.runs(pipeline.dataset_sum, pipeline.checkpoint.sum)
        if pipeline.kept is None:
            self.finished = self._finished(pipeline.checkpoint.sum)
        self.todo = [run for run in runs if run not in self.finished]
        print(
            f"runs: {len(self.finished)} of {len(runs)} retrainings are finished, {len(self.todo)} to do",
            flush=True,
        )
        if self.overwrite:  # what is there from now on was done now, by whatever process
            for run in self.todo:
                run.path(self.folder).unlink(missing_ok=True)
        for method in self._unfinished_methods(pipeline.checkpoint.sum):
            pipeline.maps(method)

    @property
    def images_to_do(self) -> int:
        """How many images the runs that are left will be trained on."""
        return len(self.todo) * self.protocol.recipe.epochs * len(self.pipeline.dataset.train) if self.todo else 0

    def complete(self, on_images: Callable[[int], object], on_run: Callable[[str], object] = lambda name: None) -> None:
        """Do the runs that are left, each kept as soon as it is done.

        Runs that another process is at are left to it; at the end this one waits for them.

        Args:
            on_images: told how many images networks were just trained on, here or in other processes.
            on_run: told the name of each run that begins here.
        """
        protocol, pipeline = self.protocol, self.pipeline
        if not self.todo:
            return
        retraining = Retraining(
            pipeline.dataset,
            pipeline.normalisation,
            pipeline.device,
            lambda method: pipeline.ranks(method, protocol.granularity, protocol.rank),
        )
        images = self.images_to_do // len(self.todo)
        for run in pipeline.claims.shared(self.todo, lambda run: run.path(self.folder).name):
            result = find_result(run, self.folder)  # another process may have done it
            if result is None:
                on_run(run.name)
                result = retraining.execute(run, on_images)
                save_result(run, result, self.folder)
            else:
                on_images(images)
            self.finished[run] = result

    @property
    def findings(self) -> RetrainingSummary:
        """What the finished runs say."""
        pipeline = self.pipeline
        sums = pipeline.dataset_sum, pipeline.checkpoint.sum
        return RetrainingSummary(
            self.protocol, *sums, self.finished, pipeline.order.quick, data_dir=pipeline.folders.data
        )


def complete_all(
    sweeps: Sequence[Sweep], on_images: Callable[[int], object], on_run: Callable[[str], object] = lambda name: None
) -> None:
    """`Sweep.complete` of one after the other."""
    for sweep in sweeps:
        sweep.complete(on_images, on_run)


def in_words(seconds: float) -> str:
    """A time to wait, in the unit that fits."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
