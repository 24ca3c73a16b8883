"""Tables and figures of all finished retrainings, from their records."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from attribution.spec import MethodSpec
from common.files import write_text
from data import DATA_DIR
from evaluation import RETRAINING
from evaluation.runs import RetrainingConfig, Run, RunResult
from evaluation.statistics import Curve
from models import NO_ATTENTION, parse_model_name
from reporting.accuracy import order_of, original_figures
from reporting.editions import Editions
from reporting.groups import in_order, method_place
from reporting.labels import counted, filed_words
from reporting.records import load_runs
from reporting.retraining_summary import Gap, RetrainingSummary, quick_images
from reporting.tables import markdown_rows, runs_csv
from training.recipe import recipe_for

if TYPE_CHECKING:
    from reporting.figures import Panel

Results = Mapping[Run, RunResult]

ORIGINAL_METHODS = {"GB-GC": "GBGC"}
ORIGINAL_SETTING = ["element", "train"]  # as `RetrainingSummary.mask_words` has it
DIRECTION = (
    "Areas. The original masked the training images alone and tested on whole ones: a network that learned to read "
    "masks fails there, so that the map that leaks most seems the most faithful. With both masked the same leak holds "
    "the curve up. Neither says what the map is worth; the last column says why."
)


@dataclass(frozen=True)
class Retrainings:
    """The finished runs of a results folder, sorted into what can stand in one table.

    Attributes:
        summaries: a table each; several of one data set and model may differ in options, images or recipe.
        left_out: in a line each, runs that are not shown because others of their curve are missing.
    """

    summaries: tuple[RetrainingSummary, ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, datasets: Sequence[str] = (), data_dir: Path = DATA_DIR) -> "Retrainings":
        """
        Args:
            datasets: of which the runs are taken; all unless some are named.
            data_dir: see `RetrainingSummary`.

        Raises:
            InputError: a damaged file.
        """
        editions = Editions.of(folder)
        kept = {_shown(run, editions): result for run, result in load_runs(folder)}
        shown = datasets or in_order(run.dataset for run in kept)
        runs = {run: result for run, result in kept.items() if run.dataset in shown}
        summaries, left_out = [], []
        for key, of_key in sorted(_grouped(runs).items(), key=lambda item: _place(item[0], shown)):
            findings, missing = _findings(key, of_key, runs, data_dir)
            model = editions.model(key.configuration())
            summaries += [replace(findings, model=model)] if findings else []
            left_out += [f"{key.evaluation} on {key.dataset}, {model}: {missing}"] if missing else []
        summaries.sort(key=lambda one: len(one.mask_words))  # the default protocol first
        return cls(tuple(summaries), tuple(left_out))

    @cached_property
    def chosen(self) -> list[RetrainingSummary]:
        """The largest summary of each evaluation, data set, model and kind of masks; figures show these."""
        largest: dict[tuple[object, ...], RetrainingSummary] = {}
        for one in self.summaries:
            protocol = one.protocol
            kind = (protocol.evaluation, protocol.dataset, one.model, *one.mask_words)
            if kind not in largest or _size(one) > _size(largest[kind]):
                largest[kind] = one
        return list(largest.values())

    @property
    def quick(self) -> list[RetrainingSummary]:
        """Those of `--quick`, whose tables and figures have names of their own."""
        return [one for one in self.summaries if one.quick]

    def gaps(self) -> Iterator[Gap]:
        """KAR − ROAR, where both are there with the same methods, ratios and seeds."""
        for roar, kar in product(self.summaries, self.summaries):
            same = roar.protocol.evaluation == "ROAR" and roar.checkpoint_sum == kar.checkpoint_sum
            if same and replace(roar.protocol, evaluation="KAR") == kar.protocol:
                yield Gap(roar, kar)

    def write(self, folder: Path, suffix: str = "") -> list[Path]:
        """Write `retraining<suffix>.md`, `retraining_runs<suffix>.csv` and the figures; return their paths."""
        if not self.summaries:
            return []
        texts = [one.text for one in self.summaries] + [one.text for one in self.gaps()] + list(self.directions())
        table, runs = folder / f"retraining{suffix}.md", folder / f"retraining_runs{suffix}.csv"
        write_text(table, "\n".join(f"## {text}" for text in texts))
        write_text(runs, runs_csv({run: result for one in self.summaries for run, result in one.ordered.items()}))
        return [table, runs, *self._draw(folder, suffix)]

    def _draw(self, folder: Path, suffix: str) -> list[Path]:
        """A panel for each data set: one figure per model, and per method of which there are several models."""
        from reporting.figures import draw_curves  # here, so that nothing else waits for matplotlib

        written = []
        kinds: dict[tuple[str, tuple[str, ...]], list[RetrainingSummary]] = defaultdict(list)
        for one in self.chosen:
            kinds[one.protocol.evaluation, tuple(one.mask_words)].append(one)
        for (evaluation, words), findings in kinds.items():
            for model in dict.fromkeys(one.model for one in findings):
                shown = [one for one in findings if one.model == model]
                stem = "_".join([evaluation, *([] if model == NO_ATTENTION else [filed_words(model)]), *words])
                written += draw_curves([one.panel for one in shown], _notes(shown), folder / f"{stem}{suffix}")
            for method in dict.fromkeys(method for one in findings for method in one.protocol.methods):
                datasets = dict.fromkeys(one.protocol.dataset for one in findings)
                showing = [one for one in findings if method in one.protocol.methods]
                panels = [[one for one in showing if one.protocol.dataset == dataset] for dataset in datasets]
                if any(len(panel) > 1 for panel in panels):
                    shown = [one for panel in panels for one in panel]
                    stem = "_".join([evaluation, "models", method.filed, *words])
                    drawn = [_model_panel(method, panel) for panel in panels if panel]
                    written += draw_curves(drawn, _notes(shown), folder / f"{stem}{suffix}")
        return written

    def directions(self) -> Iterator[str]:
        """The original's areas beside those of its setting and of the default one, a table for each curve's kind."""
        plain = [one for one in self.chosen if one.model == NO_ATTENTION]
        for theirs, ours in product(plain, plain):
            same = (theirs.protocol.evaluation, theirs.protocol.dataset) == (
                ours.protocol.evaluation,
                ours.protocol.dataset,
            )
            if same and theirs.mask_words == ORIGINAL_SETTING and not ours.mask_words:
                title = f"{ours.title}: the original's setting and the default"
                yield f"{title}\n\n{DIRECTION}\n\n{_compared(theirs, ours)}"

    def summary(self) -> str:
        """Return a line for each table, and for what is left out."""
        lines = [
            f"{one.title}: {counted(len(one.images), 'method')}, {counted(len(one.protocol.ratios), 'ratio')}, "
            f"{counted(one.protocol.seeds, 'seed')}{''.join(f', {word}' for word in one.mask_words)}"
            for one in self.summaries
        ]
        return "\n".join([*lines, *(f"left out: {line}" for line in self.left_out)])


def _shown(run: Run, editions: Editions) -> Run:
    """The same run, whose method says its code if there are several."""
    return replace(run, method=editions.method(run.method)) if run.method else run


def _grouped(runs: Results) -> dict[Run, list[Run]]:
    """The common configuration of the points of all curves that can stand in one table -> these points."""
    groups: dict[Run, list[Run]] = defaultdict(list)
    for run in runs:
        if run.method is not None and run.sees == "image":
            groups[replace(run, method=None, ratio=0.0, seed=0)].append(run)
    return groups


def _place(key: Run, datasets: Sequence[str]) -> tuple[object, ...]:
    return (
        RETRAINING.index(key.evaluation),
        datasets.index(key.dataset),
        order_of(key.model),
        json.dumps(key.configuration()),
    )


def _findings(key: Run, of_key: Sequence[Run], runs: Results, data_dir: Path) -> tuple[RetrainingSummary | None, str]:
    """Return the summary with the most finished methods, ratios and seeds, and a line on what it leaves out."""
    methods = sorted({run.method for run in of_key if run.method}, key=method_place)
    ratios_of = {method: tuple(sorted({run.ratio for run in of_key if run.method == method})) for method in methods}
    seeds = range(1, 2 + max(run.seed for run in of_key))
    sums = key.dataset_sum, key.checkpoint_sum or ""
    best: RetrainingConfig | None = None
    for ratios, count in product(set(ratios_of.values()), seeds):
        protocol = RetrainingConfig(
            evaluation=key.evaluation,
            dataset=key.dataset,
            attention=parse_model_name(key.model),
            methods=(),
            ratios=ratios,
            recipe=key.recipe,
            seeds=count,
            limit_train=key.limit_train,
            limit_test=key.limit_test,
            masks=key.masks,
            model_code=key.model_code,
        )
        whole = [one for one in methods if _is_whole(replace(protocol, methods=(one,)), sums, runs)]
        shown = replace(protocol, methods=tuple(whole))
        if whole and (best is None or _points(shown) > _points(best)):
            best = shown
    if best is None:
        return None, f"no method is finished ({counted(len(of_key), 'run')})"
    while best.mask_seeds < best.seeds and _is_whole(more := replace(best, mask_seeds=best.mask_seeds + 1), sums, runs):
        best = more
    missing = [method.label for method in methods if method not in best.methods]
    more_ratios = {ratio for ratios in ratios_of.values() for ratio in ratios} - set(best.ratios)
    said = [f"{', '.join(missing)} not finished"] if missing else []
    said += [f"ratios {', '.join(f'{ratio:g}' for ratio in sorted(more_ratios))}"] if more_ratios else []
    said += [f"seeds from {best.seeds}"] if best.seeds < max(seeds) else []
    return RetrainingSummary(best, *sums, runs, _is_quick(best), data_dir=data_dir), "; ".join(said)


def _is_quick(protocol: RetrainingConfig) -> bool:
    """Tell if the protocol is the one of `--quick`."""
    dataset, attention = protocol.dataset, protocol.attention
    if protocol.recipe != recipe_for(dataset, attention, quick=True):
        return False
    images = quick_images(dataset, attention)
    return protocol.limit_train is not None if images is None else protocol.limit_train == images


def _is_whole(protocol: RetrainingConfig, sums: tuple[str, str], runs: Results) -> bool:
    return all(run in runs for run in protocol.runs(*sums))


def _points(protocol: RetrainingConfig) -> tuple[int, int]:
    """Return the size of a table; of equal ones more seeds win."""
    return len(protocol.methods) * len(protocol.ratios) * protocol.seeds, protocol.seeds


def _size(one: RetrainingSummary) -> tuple[int, int]:
    """Return the number of measurements, and of images trained on."""
    images = one.protocol.limit_train or 2**31
    return _points(one.protocol)[0], images * one.protocol.recipe.epochs


def _model_panel(method: MethodSpec, findings: Sequence[RetrainingSummary]) -> "Panel":
    """Return the panel of one method on several models, each curve under the model's name."""
    from reporting.figures import Panel

    first = findings[0]
    curves: list[Curve] = []
    for one in findings:
        curves += [replace(curve, method=one.model) for curve in one.curves if curve.method == method.label]
    baselines = {one.model: one.baseline for one in findings}
    title = f"{first.protocol.evaluation} of {method.label} on {first.protocol.dataset}"
    return Panel(title, curves, baselines, first.chance_line, first.removed)


def _notes(findings: Sequence[RetrainingSummary]) -> str:
    """Return the note of a figure of several panels, with the data set of each condition."""
    if len({one.protocol.dataset for one in findings}) == 1:
        return "\n".join([*dict.fromkeys(one.conditions for one in findings), findings[0].about])
    conditions = [f"{one.protocol.dataset}: " + one.conditions.replace("\n", " ") for one in findings]
    about: dict[str, list[str]] = defaultdict(list)
    for one in findings:
        about[one.about].append(one.protocol.dataset)
    meant = [text if len(about) == 1 else f"{' and '.join(names)}: {text}" for text, names in about.items()]
    return "\n".join(dict.fromkeys([*conditions, *meant]))


def _compared(theirs: RetrainingSummary, ours: RetrainingSummary) -> str:
    """Areas by method: published, in the original's setting, in the default one, and of the mask alone."""
    rows = [["method", "the original, published", "its setting, here", "both splits masked", "the mask alone"]]
    by_name = {image.method: (image, mask) for image, mask in zip(ours.images, ours.masks, strict=True)}
    for curve in (curve for curve in theirs.images if curve.method in by_name):
        published = published_curve(theirs.protocol.evaluation, theirs.protocol.dataset, curve.method)
        pair = by_name[curve.method]
        common = [ratio for ratio in curve.ratios if ratio in pair[0].ratios]
        areas = [f"{_at(one, common).area:.3f}" for one in (curve, *pair)]
        rows.append([curve.method, f"{_at(published, common).area:.3f}" if published else "", *areas])
    return markdown_rows(rows)


def published_curve(evaluation: str, dataset: str, method: str) -> Curve | None:
    """Return the original's curve of SimpleCNN; its KAR has the fraction kept as ratio, ours the fraction replaced."""
    figures = original_figures()
    name = f"simple_cnn_{dataset}_{ORIGINAL_METHODS.get(method, method)}"
    if name not in figures["retraining"]:
        return None
    heights = figures["retraining"][name][evaluation]
    points = zip(figures["ratios"], heights, strict=True)
    replaced = sorted((ratio if evaluation == "ROAR" else round(1 - ratio, 9), height) for ratio, height in points)
    return Curve(method, "image", tuple(one for one, _ in replaced), tuple((height,) for _, height in replaced), 10_000)


def _at(curve: Curve, ratios: Sequence[float]) -> Curve:
    """The same curve at some of its ratios."""
    places = [curve.ratios.index(ratio) for ratio in ratios]
    return replace(curve, ratios=tuple(ratios), accuracies=tuple(curve.accuracies[place] for place in places))
