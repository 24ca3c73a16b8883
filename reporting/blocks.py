"""The blocks of the documents: tables and sentences from the published results. Each has the name of its function."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from attribution import CONTROLS
from data import DATASETS
from evaluation import REMOVING
from evaluation.runs import RetrainingConfig
from models import model_name
from reporting import findings, roar_findings, smoothness_findings
from reporting.accuracy import accuracy_text, load_trainings, original_accuracy
from reporting.benchmark_blocks import agreement, large, scale, speed
from reporting.gap import Gap
from reporting.labels import TITLES, classifier_line, duration, is_control, parameter_sentences, quantity
from reporting.retraining_summary import RetrainingSummary
from reporting.sanity_summary import ZEROS
from reporting.summary import Published, Summary
from reporting.tables import (
    BETTER,
    WORSE,
    cell,
    details,
    difference_cell,
    markdown_table,
    random_differences,
    small_print,
)
from training.config import checkpoint_path

SHORT_NAMES = {"insertion-deletion": "SRG"}
FEWEST_METHODS = 8  # of which a rank correlation is shown


def demo(published: Published) -> str:
    """Return the retrainings of `make demo`."""
    return "\n\n".join(
        f"{summary.table}\n{summary.verdicts}\n{small_print(f'`make demo`: {_cost(summary)}')}"
        for summary in published.retrainings.quick[:1]
    )


def retraining(published: Published) -> str:
    """Return areas of ROAR and KAR, and of the masks alone, by the default masks."""

    def without_size(summary: RetrainingSummary) -> RetrainingConfig:
        return replace(summary.config, methods=(), seeds=1, mask_seeds=1)

    largest = [without_size(summary) for summary in published.retrainings.largest]
    gaps = (gap for gap in published.retrainings.gaps if not gap.roar.mask_words)
    return "\n\n".join(_gap_block(gap) for gap in gaps if without_size(gap.roar) in largest)


def _gap_block(gap: Gap) -> str:
    head = [TITLES[gap.roar.dataset], "ROAR ↓", "its mask alone", "KAR ↑", "its mask alone", "KAR − ROAR"]
    rows = [head, *([curve.method] for curve in gap.roar.image_curves)]
    for summary in (gap.roar, gap.kar):
        for row, (image, mask) in zip(rows[1:], summary.pairs, strict=True):
            leaks = " †" * (image.method in summary.methods_read_off_masks)
            row += [cell(image.areas) + leaks, cell(mask.areas)]
    for row, roar, kar in zip(rows[1:], gap.roar.image_curves, gap.kar.image_curves, strict=True):
        row.append(difference_cell(kar.areas, roar.areas))
    seeds = gap.roar.config.seeds
    over = f"± is the 95 % interval over {quantity(seeds, 'seed')}. " if seeds > 1 else ""
    note = (
        f"Areas under the accuracy. ROAR: {_cost(gap.roar)} Unmasked: {cell(gap.roar.baseline)}. "
        f"{over}† 90 % or more of the curve above chance can be read off the mask."
    )
    return f"{markdown_table(rows)}\n{gap.random_check}\n{small_print(note)}"


def _cost(summary: RetrainingSummary) -> str:
    """Return the conditions, the number of retrainings and their time."""
    runs = summary.runs_in_order.values()
    devices = ", ".join(dict.fromkeys(result.device for result in runs))
    seconds = sum(result.seconds for result in runs)
    conditions = summary.conditions.replace("\n", " ")
    return f"{conditions[0].lower()}{conditions[1:]} {len(runs)} retrainings, {duration(seconds)} in all ({devices})."


def verdicts(published: Published) -> str:
    """Return the verdict on each curve of ROAR."""
    return "\n".join(
        f"{summary.title}: can the curves be believed?\n\n{summary.verdicts}"
        for summary in published.retrainings.largest
        if summary.evaluation == "ROAR" and not summary.mask_words
    ).rstrip()


def original(published: Published) -> str:
    """Return the original's figures beside those of its setting and of ours."""
    return "\n\n".join(published.retrainings.original_comparisons()).rstrip()


def everything(published: Published) -> str:
    """Return methods × evaluations of each data set."""
    tables = []
    for summary in published.summaries:
        note = " ".join(summary.note.replace("\n\n- ", " ").replace("\n- ", "; ").split())
        tables.append(f"{summary.title}\n\n{summary.table}\n{small_print(note)}")
    return details("All methods × all evaluations", "\n\n".join(tables))


def removing(published: Published) -> str:
    """Return removal without retraining and the sanity check, both data sets side by side."""
    columns: dict[str, Mapping[str, str]] = {}
    conditions = []
    for dataset, title in TITLES.items():
        for evaluation in REMOVING:
            summary = published.largest(evaluation, dataset)
            columns[f"{title}: {SHORT_NAMES.get(evaluation, evaluation)}"] = summary.gap_cells if summary else {}
            if summary and evaluation == REMOVING[0]:
                seeds, images = quantity(len(summary.seeds), "classifier"), f"{summary.config.limit_test:,} test images"
                conditions.append(f"{title}: {images}, {seeds}, accuracy on them {cell(summary.baseline)}")
        check = published.largest("sanity", dataset)
        columns[f"{title}: sanity ↓"] = {
            method.label: f"{cell(check.similarity(method))}{' ⁰' * check.is_zero_on_black(method)}"
            for method in (check.methods if check else ())
            if method.method not in CONTROLS  # whose maps are the same
        }
    note = (
        "Least minus most important first, the higher the better, 0 for a random order; ROAD and F-Fidelity: accuracy, "
        f"SRG (insertion-deletion): probability. {BETTER} better, {WORSE} worse than RANDOM by the 95 % interval of "
        "the difference paired by seed, not that of ±, and not corrected for the number of comparisons. Sanity: "
        "likeness of absolute maps (the mean of Spearman's rank correlation and of SSIM) over the cascade from a "
        f"random output layer to all weights random, 1 for the same map (⁰ {ZEROS}). {'; '.join(conditions)}."
    )
    names = dict.fromkeys(name for column in columns.values() for name in column)
    ordered = sorted(names, key=is_control)
    rows = ([name, *(column.get(name, "") for column in columns.values())] for name in ordered)
    rank_correlations = "\n".join(map(_rank_correlations, published.summaries))
    return f"{markdown_table([['method', *columns], *rows])}\n{rank_correlations}\n\n{small_print(note)}"


def _rank_correlations(summary: Summary) -> str:
    """Return a line with the rank correlations of the evaluations that have enough methods."""
    columns = enumerate(summary.columns)
    places = {column.name: place for place, column in columns if len(column.values) >= FEWEST_METHODS}
    pairs = combinations((name for name in ("ROAR", *REMOVING) if name in places), 2)
    words = [
        f"{first} and {second} {summary.correlations[places[first], places[second]]:+.2f}" for first, second in pairs
    ]
    return f"- {TITLES[summary.dataset]}, rank correlation of the methods' places: {', '.join(words)}"


def sanity(published: Published) -> str:
    """Return a sentence for each method and data set."""
    parts = []
    for check in filter(None, (published.largest("sanity", dataset) for dataset in reversed(DATASETS))):
        sentences = (f"- {method.label} {check.sentence(method)}" for method in check.methods)
        parts.append((check.title, "\n".join(sentences)))
    title, text = parts[0]
    return "\n\n".join([f"{title}:\n\n{text}", *(details(*part) for part in parts[1:])])


def selectivity(published: Published) -> str:
    """Return the area under the class's probability, and the distance to RANDOM paired by image."""
    summaries = [summary for dataset in DATASETS if (summary := published.largest("selectivity", dataset))]
    names = dict.fromkeys(curve.method for summary in summaries for curve in summary.curves)
    rows = {"method": ["method"]} | {name: [name] for name in names}
    for summary in summaries:
        rows["method"] += [f"{TITLES[summary.dataset]}: area ↓", "− RANDOM's"]
        areas = {curve.method: curve.areas for curve in summary.curves}
        against = random_differences(areas)
        for name in names:
            rows[name] += [cell(areas[name]), against[name]] if name in areas else ["", ""]
    images = dict.fromkeys(f"{len(summary.curves[0].score):,}" for summary in summaries)
    methods = dict.fromkeys(method for summary in summaries for method in summary.methods)
    note = (
        f"Area under the probability of the explained class; {' and '.join(images)} test images, "
        f"one network (seed 0).{parameter_sentences(methods)} ± is the 95 % interval over the images."
    )
    return f"{markdown_table(list(rows.values()))}\n{small_print(note)}"


def models(published: Published) -> str:
    """Return test accuracy beside the original's, in short and by class."""
    rows = [["model", "parameters", "test accuracy", "seeds", "trained on", "the original"]]
    devices: dict[str, None] = {}
    for dataset, trainings in published.trainings.items():
        for training in trainings:
            first, figures = training.first, original_accuracy(dataset, training.model)
            images = f"{first['limit_train']:,} images" if first["limit_train"] else "all images"
            rows.append(
                [
                    f"{TITLES[dataset]}, {training.model}",
                    f"{first['parameters']:,}",
                    training.accuracy,
                    str(len(training.checkpoints)),
                    f"{images}, {quantity(first['recipe']['epochs'], 'epoch')}, {duration(first['seconds'])}",
                    f"{figures['total']:.3f}" if figures else "not published",
                ]
            )
            devices.update(dict.fromkeys(checkpoint["device"] for checkpoint in training.checkpoints))
    note = (
        "± is the 95 % interval: over the seeds, with one seed over the test images. Times are of one training "
        f"({'; '.join(devices)}), some while other work ran beside."
    )
    by_class = "\n\n".join(accuracy_text(dataset, trainings) for dataset, trainings in published.trainings.items())
    return f"{markdown_table(rows)}\n{small_print(note)}\n\n{details('Accuracy by class', by_class)}"


def trained(published: Published) -> str:
    """Return the output of `--train` for two models."""
    lines = []
    for dataset, attention in (("mnist", None), ("cifar10", "CBAM")):
        path = checkpoint_path(Path("checkpoints"), dataset, model_name(attention), seed=0)
        metadata = load_trainings(published.folder, dataset).get(path.stem)
        lines.append(f"$ python main.py --train --target={dataset}{f' --attention={attention}' if attention else ''}")
        lines += [classifier_line(metadata, path)] if metadata else []
    return "\n".join(["```", *lines, "```"])


_BLOCKS = (demo, retraining, verdicts, original, everything, removing, sanity, selectivity)
BLOCKS: Mapping[str, Callable[[Published], str]] = {
    block.__name__: block
    for block in (
        *_BLOCKS,
        models,
        trained,
        agreement,
        speed,
        large,
        scale,
        *findings.BLOCKS,
        *roar_findings.BLOCKS,
        *smoothness_findings.BLOCKS,
    )
}
