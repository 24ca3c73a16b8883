"""The blocks of docs/findings.md that are of ROAR: what the retrained networks say, in tables with intervals."""

from collections.abc import Iterable

from attribution import CONTROLS, ENSEMBLES
from attribution.spec import MethodSpec
from evaluation.runs import MaskOptions
from evaluation.statistics import difference, mean_interval
from models import NO_ATTENTION
from reporting.labels import TITLES, is_control
from reporting.retraining_groups import group_by
from reporting.retraining_summary import RetrainingSummary
from reporting.summary import Published
from reporting.tables import (
    BETTER,
    WORSE,
    cell,
    difference_cell,
    mark,
    markdown_table,
    random_differences,
    small_print,
)

GRAD_CAM = MethodSpec("GC")


def roar_summaries(published: Published, explained_seeds: str = "same") -> list[RetrainingSummary]:
    """Return the largest ROAR of SimpleCNN on each data set, by the default masks but for the explained networks."""
    return _roar_of_simple_cnn(published.retrainings.largest, explained_seeds)


def _roar_of_simple_cnn(
    summaries: Iterable[RetrainingSummary], explained_seeds: str = "same"
) -> list[RetrainingSummary]:
    summaries = _with_masks(summaries, MaskOptions(explained_seeds=explained_seeds))
    return [summary for summary in summaries if summary.model == NO_ATTENTION]


def _with_masks(summaries: Iterable[RetrainingSummary], masks: MaskOptions) -> list[RetrainingSummary]:
    return [summary for summary in summaries if (summary.evaluation, summary.config.masks) == ("ROAR", masks)]


def _against_random(summary: RetrainingSummary) -> dict[str, str]:
    """Return the area minus RANDOM's of each method, as cells."""
    return random_differences({curve.method: curve.areas for curve in summary.image_curves})


def masks(published: Published) -> str:
    """Return for each method of ROAR the share of its curve that can be read off the masks alone."""
    parts = []
    for summary in roar_summaries(published):
        rows = [["method", "ROAR's area", "the mask alone", "− RANDOM's", "read off the mask"]]
        against = _against_random(summary)
        shares = {method: f"{min(share, 1.0):.0%}" for method, share in summary.shares_of_masks.items()}
        for image, mask in summary.pairs:
            method = image.method
            rows.append([method, cell(image.areas), cell(mask.areas), against[method], shares.get(method, "")])
        amounts = f"{TITLES[summary.dataset]}: {summary.amounts}; whole images {cell(summary.baseline)}."
        parts.append(f"{markdown_table(rows)}\n{small_print(amounts)}")
    return "\n\n".join(parts)


def ensembles(published: Published) -> str:
    """Return whether the gradient's ensembles beat RANDOM in ROAR, as Hooker et al. found of SG-SQ and SG-VAR."""
    rows = [["method", "area − RANDOM's", "its mask alone", "RANDOM's mask alone"]]
    of_simple_cnn = _roar_of_simple_cnn(published.retrainings.summaries)
    found = [summary for summary in of_simple_cnn if any(method.ensemble for method in summary.config.methods)]
    for of_dataset in group_by(found, lambda summary: summary.dataset).values():
        summary = max(of_dataset, key=lambda each: each.config.seeds)
        pairs = {image.method: (image, mask) for image, mask in summary.pairs}
        names = [f"{ensemble} VBP" for ensemble in ENSEMBLES if f"{ensemble} VBP" in pairs]
        for name in ["VBP", *names] if names else []:
            (image, mask), (random, random_mask) = pairs[name], pairs["RANDOM"]
            gain = difference(image.areas, random.areas)
            against = difference_cell(image.areas, random.areas)
            words = {BETTER: "above", WORSE: "below", "": "not told apart"}[mark(gain)]
            cells = f"{against} ({words})", cell(mask.areas), cell(random_mask.areas)
            rows.append([f"{TITLES[summary.dataset]}, {name}", *cells])
    return markdown_table(rows) if len(rows) > 1 else ""


def networks(published: Published) -> str:
    """Return the areas of ROAR with one explained network for all seeds, beside those with a network for each."""
    rows = [["method", "one explained network", "a network for each seed", "width of the interval"]]
    for same in roar_summaries(published):
        for own in (summary for summary in roar_summaries(published, "own") if summary.dataset == same.dataset):
            curves = {curve.method: curve for curve in same.image_curves}
            for curve in (each for each in own.image_curves if each.method in curves and not is_control(each.method)):
                first, second = mean_interval(curves[curve.method].areas), mean_interval(curve.areas)
                wider = f"× {second.half / first.half:.1f}"
                rows.append([f"{TITLES[same.dataset]}, {curve.method}", cell(first), cell(second), wider])
    return markdown_table(rows) if len(rows) > 1 else ""


def imputed(published: Published) -> str:
    """Return what noisy linear imputation in the place of the mean does to the verdicts of ROAR."""
    rows = [["method", "mean: area − RANDOM's", "linear: area − RANDOM's", "linear: area", "the mask alone"]]
    for linear in _with_masks(published.retrainings.largest, MaskOptions(fill="linear")):
        for mean in (each for each in roar_summaries(published) if each.dataset == linear.dataset):
            before, after = _against_random(mean), _against_random(linear)
            for image, mask in linear.pairs:
                name, cells = image.method, (cell(image.areas), cell(mask.areas))
                rows.append([f"{TITLES[linear.dataset]}, {name}", before.get(name, ""), after[name], *cells])
    return markdown_table(rows) if len(rows) > 1 else ""


def gradcam_models(published: Published) -> str:
    """Return ROAR of Grad-CAM on several models that were retrained alike."""
    rows = [
        ["model", "whole images", "GC's area", "− RANDOM's", "GC's mask alone", "RANDOM's area", "SOBEL's mask alone"]
    ]
    for summary in _with_masks(published.retrainings.by_model(GRAD_CAM), MaskOptions()):
        pairs = {image.method: (image, mask) for image, mask in summary.pairs}
        (image, mask), (random, _), (_, edges) = (pairs[name] for name in (GRAD_CAM.label, *CONTROLS))
        cells = cell(image.areas), difference_cell(image.areas, random.areas), cell(mask.areas), cell(random.areas)
        rows.append([f"{TITLES[summary.dataset]}, {summary.model}", cell(summary.baseline), *cells, cell(edges.areas)])
    return markdown_table(rows) if len(rows) > 1 else ""


BLOCKS = (masks, ensembles, imputed, networks, gradcam_models)
