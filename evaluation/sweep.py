"""A sweep of retrainings, from the plan to the table and the figure; what is finished is not done again."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from attribution import ANY_MODEL_METHODS
from datasets.catalog import CATALOG
from errors import InputError
from evaluation.masking import Removal
from evaluation.pipeline import Pipeline, explain_line
from evaluation.retraining import Protocol, Retraining
from evaluation.runs import Result, Run, find_result, save_result
from evaluation.statistics import Curve, Estimate, estimate, verdict
from evaluation.tables import csv_table, markdown_table
from models import IMAGE_SHAPES, model_name
from progress import progress_bar
from storage import write_text

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
        for method in protocol.methods:
            pipeline.kept_or_checked(method)
        self.finished = self._finished(pipeline.kept.sum) if pipeline.kept else {}

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
        lines = []
        if pipeline.kept is None:
            lines.append(f"train   {pipeline.order.path(pipeline.folders.checkpoints)}")
        unexplained = [method for method in protocol.methods if not pipeline.kept_maps(method)]
        lines += [explain_line(pipeline, method) for method in unexplained]
        lines += [f"retrain {run.name}" for run in runs if run not in self.finished]
        size = sum(pipeline.map_bytes(method) for method in unexplained)
        maps = f"maps of at most {size / 1e6:,.1f} MB to write, " if unexplained else ""
        return "\n".join([*lines, f"{len(runs)} retrainings, {len(self.finished)} finished, {maps}nothing written"])

    def complete(self) -> Results:
        """Do the runs that are not finished, each kept as soon as it is done."""
        pipeline = self.pipeline
        runs = self.protocol.runs(pipeline.dataset_sum, pipeline.checkpoint.sum)
        if pipeline.kept is None:
            self.finished = self._finished(pipeline.checkpoint.sum)
        todo = [run for run in runs if run not in self.finished]
        print(
            f"runs: {len(self.finished)} of {len(runs)} retrainings are finished, {len(todo)} to do",
            flush=True,
        )
        if todo:
            self._do(todo)
        return self.finished

    def _do(self, todo: list[Run]) -> None:
        protocol, pipeline = self.protocol, self.pipeline
        for method in protocol.methods:
            pipeline.maps(method)
        retraining = Retraining(
            pipeline.dataset,
            pipeline.normalisation,
            pipeline.device,
            lambda method: pipeline.ranks(method, protocol.granularity, protocol.rank),
        )
        images = len(todo) * protocol.recipe.epochs * len(pipeline.dataset.train)
        with progress_bar(images, protocol.evaluation, "images") as bar:
            for run in todo:
                bar.set_postfix_str(run.name, refresh=False)
                result = retraining.execute(run, bar.update)
                save_result(run, result, self.folder)
                self.finished[run] = result

    def curves(self) -> tuple[list[Curve], Estimate]:
        """The curves of all methods, image and mask alone, and the unmasked baseline."""
        protocol, pipeline = self.protocol, self.pipeline
        sums = pipeline.dataset_sum, pipeline.checkpoint.sum
        seeds = range(protocol.seeds)

        def over_seeds(runs: list[Run]) -> Estimate:
            results = [self.finished[run] for run in runs]
            return estimate([result.accuracy for result in results], results[0].test_images)

        curves = [
            Curve(
                method.label,
                sees,
                protocol.ratios,
                tuple(
                    over_seeds([protocol.run(*sums, method, ratio, seed, sees) for seed in seeds])
                    for ratio in protocol.ratios
                ),
            )
            for method in protocol.methods
            for sees in ("image", "mask")
        ]
        return curves, over_seeds([protocol.baseline(sums[0], seed) for seed in seeds])

    def report(self) -> str:
        """Write table and figure; return what is to be said at the end."""
        from evaluation.figures import draw_curves  # here, so that nothing else waits for matplotlib

        protocol = self.protocol
        curves, baseline = self.curves()
        chance = 1 / len(CATALOG[protocol.dataset].classes)
        table = markdown_table(curves, baseline)
        verdicts = "".join(
            f"- {image.method}: {verdict(image, mask, chance)}\n"
            for image, mask in zip(curves[::2], curves[1::2], strict=True)
        )
        stem = self.folder / self.stem
        text = f"{self.title}\n\n{self.note}\n\n{table}\n{verdicts}"
        write_text(stem.with_name(stem.name + ".md"), text)
        write_text(stem.with_name(stem.name + ".csv"), csv_table(curves, baseline))
        figures = draw_curves(curves, baseline, chance, self.title, self.note, stem)
        return f"\n{text}\ntable:  {stem}.md and .csv\nfigure: {' and '.join(map(str, figures))}"

    @property
    def stem(self) -> str:
        """File name of table and figure: the protocol's options that are not the default are part of it."""
        protocol, order = self.protocol, self.pipeline.order
        names = [choice.label.replace(" ", "-").replace(":", ".") for choice in protocol.methods]
        plain = {choice.method for choice in protocol.methods if choice.ensemble is None}
        methods = "all" if plain >= set(ANY_MODEL_METHODS) and len(plain) == len(names) else "-".join(names)
        options = {field.name: (getattr(protocol, field.name), field.default) for field in fields(protocol)}
        special = [str(options[name][0]) for name in MASK_OPTIONS if options[name][0] != options[name][1]]
        quick = ["quick"] if order.quick else []
        words = [
            protocol.evaluation,
            protocol.dataset,
            model_name(protocol.attention),
            methods,
            *special,
            *quick,
        ]
        return "_".join(words)

    @property
    def title(self) -> str:
        protocol = self.protocol
        return f"{protocol.evaluation} on {protocol.dataset}, {model_name(protocol.attention)}"

    @property
    def note(self) -> str:
        """The conditions of the measurement, for under the table and the figure."""
        protocol = self.protocol
        images = f"{protocol.limit_train:,}" if protocol.limit_train else "all"
        tested = f"{protocol.limit_test:,}" if protocol.limit_test else "all"
        masked = "training and test images" if protocol.mask_split == "both" else "training images only"
        interval = "Student's t over the seeds"
        if protocol.seeds == 1:
            interval = "Wilson's over the test images (one seed: the spread between networks is unknown)"
        importance = "Most" if protocol.evaluation == "ROAR" else "Least"
        seeds = "1 seed" if protocol.seeds == 1 else f"{protocol.seeds} seeds"
        return (
            f"{importance} important {protocol.granularity}s of {masked} replaced by {protocol.fill}. "
            f"{images} training images, {protocol.recipe.epochs} epochs, {tested} test images, {seeds}.\n"
            f"± is the 95 % interval, {interval}."
        )
