"""A sweep of retrainings, from the plan to the table and the figure; what is finished is not done again."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from attribution.choice import Choice, filed_methods
from datasets.catalog import CATALOG
from errors import InputError
from evaluation.masking import Removal
from evaluation.pipeline import Pipeline, explain_line
from evaluation.retraining import Protocol, Retraining
from evaluation.runs import Result, Run, find_result, save_result
from evaluation.statistics import Curve, Estimate, estimate, ranking, verdict
from evaluation.tables import csv_table, gap_table, markdown_table, runs_csv
from models import IMAGE_SHAPES, model_name
from storage import write_text
from training.speed import TEST_COST, step_seconds

WAIT_SECONDS = 0.5
Results = dict[Run, Result]
MASK_OPTIONS = ("granularity", "rank", "fill", "mask_split", "explain", "map_dtype")


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
        for method in self._unfinished_methods(pipeline.kept.sum if pipeline.kept else ""):
            pipeline.kept_or_checked(method)

    def _unfinished_methods(self, checkpoint_sum: str) -> list[Choice]:
        """Those of which some run is left: only their maps are needed."""
        runs = self.protocol.runs(self.pipeline.dataset_sum, checkpoint_sum)
        return list(dict.fromkeys(run.method for run in runs if run.method and run not in self.finished))

    def _require_something_removed(self) -> None:
        channels, height, width = IMAGE_SHAPES[self.protocol.dataset]
        positions = height * width * (channels if self.protocol.granularity == "element" else 1)
        for ratio in self.protocol.ratios:
            if not 0 < Removal(self.protocol.evaluation, ratio).count(positions) < positions:
                raise InputError(
                    f"ratio {ratio:g} leaves none or all of {positions} {self.protocol.granularity}s in place"
                )

    def _finished(self, checkpoint_sum: str) -> Results:
        runs = self.protocol.runs(self.pipeline.dataset_sum, checkpoint_sum)
        return {} if self.overwrite else finished_runs(runs, self.folder)

    def plan(self) -> str:
        """What `complete` would do, in lines."""
        protocol, pipeline = self.protocol, self.pipeline
        checkpoint_sum = pipeline.kept.sum if pipeline.kept else "not trained yet"
        runs = protocol.runs(pipeline.dataset_sum, checkpoint_sum)
        lines = pipeline.train_lines()
        unexplained = [one for one in self._unfinished_methods(checkpoint_sum) if not pipeline.has_maps(one)]
        lines += [explain_line(pipeline, method) for method in unexplained]
        left = [run for run in runs if run not in self.finished]
        lines += [f"retrain {run.name}" for run in left]
        if left:
            seconds = len(left) * self._seconds_of_a_run()
            lines.append(f"about {in_words(seconds)} of retraining on this device, by a step measured now")
        size = sum(pipeline.map_bytes(method) for method in unexplained)
        maps = f"maps of at most {size / 1e6:,.1f} MB to write, " if unexplained else ""
        return "\n".join([*lines, f"{len(runs)} retrainings, {len(self.finished)} finished, {maps}nothing written"])

    def _seconds_of_a_run(self) -> float:
        """Training and testing of one network, from the measured time of a step."""
        protocol, shapes = self.protocol, CATALOG[self.protocol.dataset].shapes
        trained = protocol.recipe.epochs * (protocol.limit_train or shapes["train_images"][0])
        tested = (protocol.limit_test or shapes["test_images"][0]) * TEST_COST
        step = step_seconds(protocol.dataset, protocol.attention, protocol.recipe, self.pipeline.device)
        return (trained + tested) / protocol.recipe.batch_size * step

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
        for method in self._unfinished_methods(pipeline.checkpoint.sum):
            pipeline.maps(method)

    @property
    def images_to_do(self) -> int:
        """How many images the runs that are left will be trained on."""
        return len(self.todo) * self.protocol.recipe.epochs * len(self.pipeline.dataset.train) if self.todo else 0

    def complete(self, bar: "tqdm[Any]") -> None:
        """Do the runs that are left, each kept as soon as it is done.

        Runs that another process is at are left to it; at the end this one waits for them.
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
        while self.todo:
            left = []
            for run in self.todo:
                with pipeline.claims.tried(run.path(self.folder).name) as mine:
                    if not mine:
                        left.append(run)
                        continue
                    result = None if self.overwrite else find_result(run, self.folder)
                    if result is None:
                        bar.set_postfix_str(run.name, refresh=False)
                        result = retraining.execute(run, bar.update)
                        save_result(run, result, self.folder)
                    else:
                        bar.update(images)
                self.finished[run] = result
            if left == self.todo:
                time.sleep(WAIT_SECONDS)
            self.todo = left

    def curves(self) -> tuple[list[Curve], Estimate]:
        """The curves of all methods, image and mask alone, and the unmasked baseline."""
        protocol, pipeline = self.protocol, self.pipeline
        sums = pipeline.dataset_sum, pipeline.checkpoint.sum
        baselines = [self.finished[protocol.baseline(sums[0], seed)] for seed in protocol.seeds_of("image")]
        tested = baselines[0].test_images
        curves = []
        for method, sees in product(protocol.methods, ("image", "mask")):
            seeds = protocol.seeds_of(sees)
            results = [
                [self.finished[protocol.run(*sums, method, ratio, seed, sees)] for seed in seeds]
                for ratio in protocol.ratios
            ]
            accuracies = tuple(tuple(one.accuracy for one in of_ratio) for of_ratio in results)
            curves.append(Curve(method.label, sees, protocol.ratios, accuracies, tested, results[0][0].tied_fraction))
        return curves, estimate([one.accuracy for one in baselines], tested)

    def report(self) -> str:
        """Write table and figure; return what is to be said at the end."""
        from evaluation.figures import draw_curves  # here, so that nothing else waits for matplotlib

        protocol = self.protocol
        curves, baseline = self.curves()
        chance = 1 / len(CATALOG[protocol.dataset].classes)
        table = markdown_table(curves, baseline)
        stem = self.folder / self.stem
        text = f"{self.title}\n\n{self.note}\n\n{table}\n{self.verdicts()}{self._ranking(curves[::2])}"
        write_text(stem.with_name(stem.name + ".md"), text)
        write_text(stem.with_name(stem.name + ".csv"), csv_table(curves, baseline))
        write_text(stem.with_name(stem.name + "_runs.csv"), runs_csv(self._ordered()))
        figures = draw_curves(curves, baseline, chance, self.removed, self.title, self.note, stem)
        files = f"table:  {stem}.md and .csv, each run in {stem}_runs.csv\nfigure: {' and '.join(map(str, figures))}"
        return f"\n{text}\n{files}"

    def _ordered(self) -> Results:
        """The finished runs in the order of the protocol, whoever did them and when."""
        runs = self.protocol.runs(self.pipeline.dataset_sum, self.pipeline.checkpoint.sum)
        return {run: self.finished[run] for run in runs}

    def verdicts(self) -> str:
        """For each method, in a line, whether its curve can be believed."""
        curves, _baseline = self.curves()
        chance = 1 / len(CATALOG[self.protocol.dataset].classes)
        return "".join(
            f"- {image.method}: {verdict(image, mask, chance)}\n"
            for image, mask in zip(curves[::2], curves[1::2], strict=True)
        )

    def _ranking(self, curves: Sequence[Curve]) -> str:
        protocol = self.protocol
        if protocol.seeds == 1 or len(curves) == 1:
            return ""
        best = "the lowest area first" if protocol.evaluation == "ROAR" else "the highest area first"
        order = ranking(curves, lowest_first=protocol.evaluation == "ROAR")
        return f"- {best}, ≈ where the difference paired by seed can't be told from zero (95 %, each pair): {order}\n"

    @property
    def stem(self) -> str:
        """File name of table and figure: the protocol's options that are not the default are part of it."""
        protocol, order = self.protocol, self.pipeline.order
        options = {field.name: (getattr(protocol, field.name), field.default) for field in fields(protocol)}
        special = [str(options[name][0]) for name in MASK_OPTIONS if options[name][0] != options[name][1]]
        quick = ["quick"] if order.quick else []
        words = [
            protocol.evaluation,
            protocol.dataset,
            model_name(protocol.attention),
            filed_methods(protocol.methods),
            *special,
            *quick,
        ]
        return "_".join(words)

    @property
    def title(self) -> str:
        protocol = self.protocol
        return f"{protocol.evaluation} on {protocol.dataset}, {model_name(protocol.attention)}"

    @property
    def removed(self) -> str:
        """What is replaced, in words."""
        masked = "training and test images" if self.protocol.mask_split == "both" else "training images only"
        return f"{self.protocol.granularity}s replaced in {masked}"

    @property
    def note(self) -> str:
        """The conditions of the measurement, for under the table and the figure."""
        protocol = self.protocol
        images = f"{protocol.limit_train:,}" if protocol.limit_train else "all"
        tested = f"{protocol.limit_test:,}" if protocol.limit_test else "all"
        masked = "training and test images" if protocol.mask_split == "both" else "training images only"
        wilson = "Wilson's over the test images (one seed: the spread between networks is unknown)"
        interval = wilson if protocol.seeds == 1 else "Student's t over the seeds"
        if protocol.seeds > 1 == protocol.mask_seeds:
            interval += f", of the mask alone {wilson}"
        importance = "Most" if protocol.evaluation == "ROAR" else "Least"
        seeds = "1 seed" if protocol.seeds == 1 else f"{protocol.seeds} seeds"
        return (
            f"{importance} important {protocol.granularity}s of {masked} replaced by {protocol.fill}. "
            f"{images} training images, {protocol.recipe.epochs} epochs, {tested} test images, {seeds}.\n"
            f"± is the 95 % interval, {interval}. Ties: share of the pixels whose order is random.\n"
            "Mask alone: a network that sees only which pixels are replaced."
        )


def in_words(seconds: float) -> str:
    """A time to wait, in the unit that fits."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def gap_report(roar: Sweep, kar: Sweep) -> str:
    """Write the table of KAR − ROAR for two finished sweeps that differ in nothing else; return what is to be said."""
    table = gap_table(roar.curves()[0], kar.curves()[0])
    name = roar.stem.replace("ROAR", "KAR-ROAR", 1)
    path = roar.folder / f"{name}.md"
    title = roar.title.replace("ROAR", "KAR − ROAR", 1)
    interval = (
        "± is the 95 % interval over the seeds; differences are paired by seed." if roar.protocol.seeds > 1 else ""
    )
    about = (
        f"0 for a random order of the pixels. A leaking mask lifts both areas, and can make or hide a gap. {interval}"
    )
    text = f"{title}\n\n{about}\n\n{table}\n{roar.verdicts()}"
    write_text(path, text)
    return f"\n{text}\ntable:  {path}"
