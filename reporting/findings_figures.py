"""The figures of docs/findings.md: each has its finding as a title, which the published results decide."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure

from data import DATASETS
from evaluation import RANKS, REMOVING
from evaluation.statistics import READABLE, difference, mean_interval
from reporting.dots import Dot, Panel, draw_dots
from reporting.evaluation_summary import estimate_seeds
from reporting.figures import save_figure
from reporting.findings import RANKED, common_methods, variants
from reporting.labels import TITLES, colours_of, is_control, joined, quantity
from reporting.removal_summary import RemovalSummary
from reporting.roar_findings import roar_summaries
from reporting.smoothness_findings import gaps_and_blurred, with_blurred_maps
from reporting.summary import Published
from reporting.tables import BETTER, mark

MASK_COLOUR = "#D55E00"
IMAGE_COLOUR = "#0072B2"
GAINS = "least minus most important first, minus RANDOM's; hollow: not told apart"


def write_findings(published: Published) -> list[Path]:
    """Write the figures into the folder of the results; return their paths."""
    drawings = (masks, removal, ranks, blur)
    figures = {draw.__name__: draw(published) for draw in drawings}
    paths = (save_figure(figure, published.folder / f"finding_{name}") for name, figure in figures.items() if figure)
    return [path for of_figure in paths for path in of_figure]


def masks(published: Published) -> Figure | None:
    """Draw the area of ROAR of each method, and that of networks that see its masks alone."""
    panels, counts = {}, []
    for summary in roar_summaries(published):
        named = "IG"  # far apart there
        panels[f"{TITLES[summary.dataset]} ({quantity(summary.config.seeds, 'seed')})"] = {
            image.method: [
                Dot(estimate_seeds(mask.areas), MASK_COLOUR, False, "mask alone" * (image.method == named)),
                Dot(estimate_seeds(image.areas), IMAGE_COLOUR, True, "what is left" * (image.method == named)),
            ]
            for image, mask in summary.pairs
        }
        methods = {image.method for image in summary.image_curves if not is_control(image.method)}
        read = methods & summary.methods_read_off_masks
        counts.append(f"{len(read)} of {len(methods)} methods on {TITLES[summary.dataset]}")
    if not panels:
        return None
    title = f"How much of ROAR is the mask? {READABLE:.0%} or more for {joined(counts)}"
    return draw_dots(panels, title, "area under the accuracy after retraining", None, 3.4)


def removal(published: Published) -> Figure | None:
    """Draw how much better than RANDOM each method is without retraining."""
    panels: dict[str, Panel] = {}
    best: list[set[str]] = []
    for dataset in DATASETS:
        for evaluation in REMOVING:
            summary = published.largest(evaluation, dataset)
            if summary and not summary.doubt:
                panels[f"{evaluation}\n{TITLES[dataset]}"] = _gain_panel(summary, summary.gains)
                best.append({name for name, text in summary.marks.items() if text == BETTER and not is_control(name)})
    if not panels:
        return None
    names = [name for name in next(iter(panels.values())) if all(name in of for of in best)]
    title = f"Better than RANDOM in all {len(panels)}: {joined(names) if names else 'no method'}"
    return draw_dots(panels, title, GAINS, 0.0, 1.8)


def ranks(published: Published) -> Figure | None:
    """Draw how much better than RANDOM each method is, ranked by the signed, the absolute and the squared map."""
    evaluation, title = RANKED[0], ""
    panels: dict[str, Panel] = {}
    for dataset in DATASETS:
        by_rank = variants(published, evaluation, dataset, "rank")
        if len(by_rank) < len(RANKS):
            continue
        common = common_methods([summary.gaps for summary in by_rank.values()])
        names = [name for name in common if not is_control(name)]
        shown = [name for name in common if name != "RANDOM"]
        panels |= {f"{TITLES[dataset]}\n{rank}": _gain_panel(by_rank[rank], shown) for rank in RANKS}
        better = [f"{sum(by_rank[rank].marks[name] == BETTER for name in names)} ranked {rank}" for rank in RANKS]
        title = f"Better than RANDOM in {evaluation} on {TITLES[dataset]}, of {len(names)} methods: {joined(better)}"
    if not panels:
        return None
    return draw_dots(panels, title, GAINS, 0.0, 1.8)


def blur(published: Published) -> Figure | None:
    """Draw the gap of each method beside that of its maps blurred."""
    panels: dict[str, Panel] = {}
    better: list[set[str]] = []
    for dataset, summaries in with_blurred_maps(published).items():
        for summary in summaries:
            pairs, named = gaps_and_blurred(summary), "" if panels else "IB"  # once, where they are far apart
            panels[f"{summary.evaluation}\n{TITLES[dataset]}"] = {
                name: [
                    Dot(mean_interval(own), MASK_COLOUR, False, "as it is" * (name == named)),
                    Dot(mean_interval(after), IMAGE_COLOUR, True, "blurred" * (name == named)),
                ]
                for name, (own, after) in pairs.items()
            }
            better.append({name for name, (own, after) in pairs.items() if mark(difference(after, own)) == BETTER})
    if not panels:
        return None
    names = [name for name in next(iter(panels.values())) if all(name in of for of in better)]
    title = f"Better blurred in all {len(panels)}: {joined(names) if names else 'no map'}"
    return draw_dots(panels, title, "least minus most important first, the higher the better", 0.0, 2.2)


def _gain_panel(summary: RemovalSummary, names: Iterable[str]) -> Panel:
    """Return a dot for the difference of each method from RANDOM, hollow if it can't be told apart."""
    gains, marks = summary.gains, summary.marks
    return {name: [Dot(gains[name], colours_of([name])[name], bool(marks[name]))] for name in names}
