"""Tables and figures of all finished retrainings, from their records."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

from attribution import CONTROLS
from attribution.spec import MethodSpec
from common.files import write_text
from data import DATA_DIR
from evaluation import RETRAINING
from evaluation.runs import RetrainingConfig, Run, RunResult
from evaluation.statistics import Curve
from models import NO_ATTENTION
from reporting.accuracy import model_order, original_figures
from reporting.evaluation_summary import Chart
from reporting.gap import Gap
from reporting.groups import NO_NETWORKS, REPLACED, CodeVersions, Networks, sort_datasets
from reporting.labels import file_name_part, quantity, readable_dataset
from reporting.records import load_runs
from reporting.retraining_groups import Results, count_points, finished_configs, group_by, group_runs
from reporting.retraining_summary import READING, RetrainingSummary, quick_images
from reporting.tables import markdown_table, runs_csv
from training.recipe import recipe_for

ORIGINAL_METHODS = {"GB-GC": "GBGC"}
ORIGINAL_MASKS = ["element", "train"]  # as `RetrainingSummary.mask_words` has it
ORIGINAL_NOTE = (
    "Areas. The original masked the training images alone and tested on whole ones: a network that learned to read "
    "masks fails there, so that maps that leak seem faithful. With both masked the same leak holds "
    "the curve up. Neither says what the map is worth; the last column says why."
)


@dataclass(frozen=True)
class Retrainings:
    """The finished runs of a results folder, sorted into what can stand in one table.

    Attributes:
        summaries: a table each; several of one data set and model may differ in options, images or recipe.
        omissions: in a line each, runs that are not shown because others of their curve are missing.
    """

    summaries: tuple[RetrainingSummary, ...]
    omissions: tuple[str, ...]

    @classmethod
    def load(
        cls,
        folder: Path,
        datasets: Sequence[str] = (),
        data_dir: Path = DATA_DIR,
        networks: Networks = NO_NETWORKS,
    ) -> "Retrainings":
        """Read the runs of a results folder.

        Args:
            datasets: of which the runs are taken; all unless some are named.
            data_dir: see `RetrainingSummary`.
            networks: the classifiers that are stored now.

        Raises:
            InputError: a damaged file.
        """
        versions = CodeVersions.load(folder, networks)
        runs: dict[Run, RunResult] = {}
        for run, result in load_runs(folder):
            method = versions.label_method(run.method) if run.method else None
            runs[replace(run, method=method)] = result
        datasets = datasets or sort_datasets(run.dataset for run in runs)
        runs = {run: result for run, result in runs.items() if run.dataset in datasets}

        def place(key: Run) -> tuple[object, ...]:
            order = RETRAINING.index(key.evaluation), datasets.index(key.dataset), model_order(key.model)
            return *order, json.dumps(key.configuration())

        summaries, omissions = [], []
        for group in sorted(group_runs(runs), key=lambda group: place(group.common)):
            key = group.common
            model = versions.label_model(key.configuration(), dict(enumerate(group.checkpoints_sha256)))
            configs, missing = finished_configs(group, runs)
            for config in configs:
                sums = key.dataset_sha256, group.checkpoints_sha256[: config.seeds]
                summaries.append(RetrainingSummary(config, *sums, runs, _is_quick(config), model, data_dir))
            omissions += [f"{key.evaluation} on {key.dataset}, {model}: {missing}"] if missing else []
        summaries.sort(key=lambda summary: len(summary.mask_words))  # the default masks first
        return cls(tuple(summaries), tuple(omissions))

    @cached_property
    def largest(self) -> list[RetrainingSummary]:
        """The summary with the most methods for each evaluation, data set, model and kind of masks; figures show it."""

        def size(summary: RetrainingSummary) -> tuple[int, ...]:
            """Return whether it is not quick, and the numbers of methods, of measurements, and of images trained on."""
            config, images = summary.config, summary.config.limit_train or 2**31
            return not summary.quick, len(config.methods), count_points(config)[0], images * config.recipe.epochs

        kinds = group_by(self.summaries, lambda one: (one.evaluation, one.dataset, one.model, *one.mask_words))
        return [max(summaries, key=size) for summaries in kinds.values()]

    @property
    def quick(self) -> list[RetrainingSummary]:
        """Those of `--quick`, whose tables and figures have names of their own."""
        return [summary for summary in self.summaries if summary.quick]

    @property
    def gaps(self) -> list[Gap]:
        """KAR − ROAR of the methods and seeds that both have: for each KAR with the ROAR that has the most."""
        gaps = []
        for kar in (summary for summary in self.summaries if summary.evaluation == "KAR"):
            pairs = [Gap(roar.common_part(kar), kar.common_part(roar)) for roar in self.summaries]
            pairs = [pair for pair in pairs if pair.roar.config.methods and pair.is_of_the_same]
            gaps += sorted(pairs, key=lambda pair: count_points(pair.roar.config), reverse=True)[:1]
        return gaps

    def write(self, folder: Path, suffix: str = "") -> list[Path]:
        """Write `retraining<suffix>.md`, `retraining_runs<suffix>.csv` and the figures; return their paths."""
        if not self.summaries:
            return []
        texts = [*(summary.text for summary in (*self.summaries, *self.gaps)), *self.original_comparisons()]
        table, runs = folder / f"retraining{suffix}.md", folder / f"retraining_runs{suffix}.csv"
        write_text(table, "\n".join(f"## {text}" for text in texts))
        write_text(runs, runs_csv(self.runs))
        return [table, runs, *self._draw(folder, suffix)]

    @property
    def runs(self) -> Results:
        """The runs of all tables."""
        return {run: result for summary in self.summaries for run, result in summary.runs_in_order.items()}

    def _draw(self, folder: Path, suffix: str) -> list[Path]:
        """Draw a figure per model, and per method that explains several models; a panel for each data set."""
        from reporting.figures import draw_curves, save_figure  # here, so that nothing else waits for matplotlib

        paths = []
        for (evaluation, *words), summaries in group_by(
            self.largest, lambda one: (one.evaluation, *one.mask_words)
        ).items():
            for model, of_model in group_by(summaries, lambda one: one.model).items():
                stem = "_".join([evaluation, *([] if model == NO_ATTENTION else [file_name_part(model)]), *words])
                charts = [chart for summary in of_model for chart in summary.charts]
                paths += save_figure(draw_curves(charts, _figure_note(of_model)), folder / f"{stem}{suffix}")
        for method in dict.fromkeys(method for summary in self.summaries for method in summary.config.methods):
            alike = group_by(self.by_model(method), lambda one: (one.evaluation, *one.mask_words))
            for (evaluation, *words), summaries in alike.items() if method.method not in CONTROLS else ():
                charts = [_chart_of(summary, method) for summary in summaries]
                stem = "_".join([evaluation, "models", method.file_stem, *words])
                paths += save_figure(draw_curves(charts, _figure_note(summaries)), folder / f"{stem}{suffix}")
        return paths

    def by_model(self, method: MethodSpec) -> list[RetrainingSummary]:
        """Return the summaries of a method on two or more models that were retrained under the same conditions."""

        def conditions(summary: RetrainingSummary) -> tuple[object, ...]:
            config = summary.config
            amounts = config.limit_train, config.limit_test, config.recipe.epochs
            return summary.evaluation, summary.dataset, config.masks, config.ratios, amounts

        def seeds(summary: RetrainingSummary) -> int:
            return summary.config.seeds

        current = [summary for summary in self.summaries if not summary.model.endswith(REPLACED)]
        of_method = [summary for summary in current if method in summary.config.methods]
        alike = []
        for group in group_by(of_method, conditions).values():
            models = group_by(group, lambda summary: summary.model).values()
            alike += [max(reversed(of_model), key=seeds) for of_model in models if len(models) > 1]
        return alike

    def original_comparisons(self) -> Iterator[str]:
        """Yield the original's areas beside those of its setting and of the default one, a table for each data set."""
        plain = [summary for summary in self.largest if summary.model == NO_ATTENTION]
        for theirs, ours in product(plain, plain):
            same = (theirs.evaluation, theirs.dataset) == (ours.evaluation, ours.dataset)
            if same and theirs.mask_words == ORIGINAL_MASKS and not ours.mask_words:
                title = f"{ours.title}: the original's setting and the default"
                yield f"{title}\n\n{ORIGINAL_NOTE}\n\n{_areas_beside_original(theirs, ours)}"

    @property
    def overview(self) -> str:
        """A line for each table, and for each omission."""
        lines = []
        for summary in self.summaries:
            counts = {"method": len(summary.config.methods), "ratio": len(summary.config.ratios)}
            words = [quantity(n, unit) for unit, n in (counts | {"seed": summary.config.seeds}).items()]
            lines.append(f"{summary.title}: {', '.join([*words, *summary.mask_words])}")
        return "\n".join([*lines, *(f"left out: {line}" for line in self.omissions)])


def _is_quick(config: RetrainingConfig) -> bool:
    """Tell if the configuration is the one of `--quick`."""
    if config.recipe != recipe_for(config.dataset, config.attention, quick=True):
        return False
    images = quick_images(config.dataset, config.attention)
    return config.limit_train is not None if images is None else config.limit_train == images


def _chart_of(summary: RetrainingSummary, method: MethodSpec) -> Chart:
    """Return the curves of one method and of the controls."""
    chart = summary.charts[0]
    return replace(chart, curves=[curve for curve in chart.curves if curve.method in (method.label, *CONTROLS)])


def _figure_note(summaries: Sequence[RetrainingSummary]) -> str:
    """Return the note of a figure with panels of several data sets."""
    amounts = dict.fromkeys(summary.amounts for summary in summaries)
    if len(amounts) == 1:
        return summaries[0].figure_note
    by_dataset = group_by(summaries, lambda each: each.dataset)
    parts = []
    for dataset, alike in by_dataset.items():
        models = group_by(alike, lambda each: each.amounts)
        for words, of_amounts in models.items():
            names = f" ({', '.join(each.model for each in of_amounts)})" if len(models) > 1 else ""
            parts.append(f"{readable_dataset(dataset)}{names}: {words}")
    return f"{'; '.join(parts)}. {READING}"


def _areas_beside_original(theirs: RetrainingSummary, ours: RetrainingSummary) -> str:
    """Return areas by method: published, in the original's setting, in the default one, and of the mask alone."""
    rows = [["method", "the original, published", "its setting, here", "both splits masked", "the mask alone"]]
    pairs = {image.method: (image, mask) for image, mask in ours.pairs}
    for curve in (curve for curve in theirs.image_curves if curve.method in pairs):
        published = published_curve(theirs.evaluation, theirs.dataset, curve.method)
        ratios = tuple(ratio for ratio in curve.ratios if ratio in pairs[curve.method][0].ratios)
        curves = (published, curve, *pairs[curve.method])
        rows.append([curve.method, *(f"{_area_at(each, ratios):.3f}" if each else "" for each in curves)])
    return markdown_table(rows)


def _area_at(curve: Curve, ratios: tuple[float, ...]) -> float:
    """Return the area under a curve at some of its ratios."""
    accuracies = tuple(curve.accuracies[curve.ratios.index(ratio)] for ratio in ratios)
    return replace(curve, ratios=ratios, accuracies=accuracies).area


def published_curve(evaluation: str, dataset: str, method: str) -> Curve | None:
    """Return the original's curve of SimpleCNN; its KAR has the fraction kept as ratio, ours the fraction replaced."""
    figures = original_figures()
    name = f"simple_cnn_{dataset}_{ORIGINAL_METHODS.get(method, method)}"
    if name not in figures["retraining"]:
        return None
    heights = zip(figures["ratios"], figures["retraining"][name][evaluation], strict=True)
    points = sorted((ratio if evaluation == "ROAR" else round(1 - ratio, 9), (height,)) for ratio, height in heights)
    ratios, accuracies = zip(*points, strict=True)
    return Curve(method, "image", ratios, accuracies, 10_000)
