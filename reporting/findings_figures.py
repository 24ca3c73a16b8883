"""The figures of docs/findings.md: each has its finding as a title, which the published results decide."""

from pathlib import Path

from matplotlib.figure import Figure

from attribution import CONTROLS
from data import DATASETS
from evaluation import REMOVING
from evaluation.statistics import READABLE, Estimate, mean_interval, share_of_mask
from reporting.dots import Dot, Panel, draw_dots
from reporting.figures import save_figure
from reporting.findings import RANKED, RANKS, roar_summaries, variants
from reporting.labels import TITLES, colours_of, joined
from reporting.removal_summary import RemovalSummary
from reporting.summary import Published

MASK_COLOUR = "#D55E00"
IMAGE_COLOUR = "#0072B2"


def write_findings(published: Published) -> list[Path]:
    """Write the figures into the folder of the results; return their paths."""
    figures = {"masks": masks(published), "removal": removal(published), "ranks": ranks(published)}
    paths = (save_figure(figure, published.folder / f"finding_{name}") for name, figure in figures.items() if figure)
    return [path for of_figure in paths for path in of_figure]


def _interval(values: list[float]) -> Estimate:
    return mean_interval(values) if len(values) > 1 else Estimate(values[0], values[0], values[0])


def masks(published: Published) -> Figure | None:
    """Draw the area of ROAR of each method, and that of networks that see its masks alone."""
    panels, counts = {}, []
    for summary in roar_summaries(published):
        named = "RANDOM"  # far apart there
        panels[f"{TITLES[summary.dataset]} ({summary.config.seeds} seeds)".replace("1 seeds", "1 seed")] = {
            image.method: [
                Dot(_interval(mask.areas), MASK_COLOUR, False, "the mask alone" * (image.method == named)),
                Dot(_interval(image.areas), IMAGE_COLOUR, True, "what is left" * (image.method == named)),
            ]
            for image, mask in summary.pairs
        }
        methods = [pair for pair in summary.pairs if pair[0].method not in CONTROLS]
        read = sum(share_of_mask(*pair, summary.chance or 0.0) >= READABLE for pair in methods)
        counts.append(f"{read} of {len(methods)} methods on {TITLES[summary.dataset]}")
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
                gains = _gains(summary)
                panels[f"{evaluation}\n{TITLES[dataset]}"] = {name: [_gain_dot(name, gains[name])] for name in gains}
                best.append({name for name, gain in gains.items() if gain.low > 0 and name not in CONTROLS})
    if not panels:
        return None
    names = [name for name in next(iter(panels.values())) if all(name in of for of in best)]
    title = f"Better than RANDOM in all {len(panels)}: {joined(names) if names else 'no method'}"
    return draw_dots(
        panels, title, "least minus most important first, minus RANDOM's; hollow: not told apart", 0.0, 1.8
    )


def ranks(published: Published) -> Figure | None:
    """Draw how much better than RANDOM each method is, ranked by the signed, the absolute and the squared map."""
    panels: dict[str, Panel] = {}
    for dataset in DATASETS:
        by_rank = variants(published, RANKED[0], dataset, "rank")
        for rank in RANKS if len(by_rank) == len(RANKS) else ():
            common = set.intersection(*(set(summary.gaps) for summary in by_rank.values()))
            gains = {name: gain for name, gain in _gains(by_rank[rank]).items() if name in common - {"SOBEL"}}
            panels[f"{TITLES[dataset]}\n{rank}"] = {name: [_gain_dot(name, gain)] for name, gain in gains.items()}
    if not panels:
        return None
    better = [
        f"{sum(dot.value.low > 0 for (dot,) in panel.values())} ranked {name.splitlines()[1]}"
        for name, panel in panels.items()
        if name.startswith(TITLES[DATASETS[-1]])
    ]
    title = f"Better than RANDOM in {RANKED[0]} on {TITLES[DATASETS[-1]]}, of {len(gains)} methods: {joined(better)}"
    return draw_dots(
        panels, title, "least minus most important first, minus RANDOM's; hollow: not told apart", 0.0, 1.8
    )


def _gains(summary: RemovalSummary) -> dict[str, Estimate]:
    gains = {name: summary.difference_from_random(name) for name in summary.gaps}
    return {name: gain for name, gain in gains.items() if gain is not None}


def _gain_dot(name: str, gain: Estimate) -> Dot:
    return Dot(gain, colours_of([name])[name], not gain.low <= 0 <= gain.high)
