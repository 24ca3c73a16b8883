"""The effort of the evaluations behind an answer, chosen so that all of it fits into a budget of time."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attribution import CONTROLS
from attribution.maps import compute_maps
from attribution.method import Method
from attribution.spec import MethodSpec
from common.errors import InputError
from evaluation import FILLS_OF, QUICK_RATIOS, RATIOS
from evaluation.imputation import imputation_seconds
from evaluation.protocol import Work
from evaluation.registry import load_evaluation
from evaluation.selectivity import pixels_removed
from evaluation.trust import FEWEST_IMAGES
from reporting.labels import duration, parameter_sentences, quantity
from reporting.measurement_summary import MeasurementSummary
from reporting.trust_summary import TrustSummary

DECIDING, ASIDE = ("ROAD", "insertion-deletion", "learned"), ("selectivity", "sanity")
SHARE = 0.05  # of the pixels, that each removal of selectivity takes
TIMED_IMAGES, TIMED_VALUES = 16, 2**20  # the images that are timed: fewer of large ones
BUDGET = 20.0  # minutes
ENSEMBLES_AROUND = "VBP"  # unless they are chosen


@dataclass(frozen=True)
class Effort:
    """Numbers that decide on the time.

    Attributes:
        images: of the deciding evaluations.
        ratios: fractions removed.
        images_aside: of selectivity and sanity, which decide on nothing; 0 leaves them out.
        removals: of selectivity.
        samples: perturbations of sanity.
    """

    images: int = 200
    ratios: tuple[float, ...] = RATIOS
    images_aside: int = 50
    removals: int = 10
    samples: int = 10

    def configs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration of each evaluation; `values` are options that the user gives."""
        shared = {"by_image": True, "ratios": self.ratios, **values, "limit_test": self.images}
        whole = {**shared, "ratios": (0.0, *shared["ratios"], 1.0)}
        options = {name: shared if name == "ROAD" else whole for name in DECIDING}
        if self.images_aside:
            aside = {"removals": self.removals, "share": SHARE, "samples": self.samples, "stages": 1}
            aside |= {**shared, "limit_test": min(self.images, self.images_aside)}
            options |= dict.fromkeys(ASIDE, aside)
        return {name: load_evaluation(name).configure(**_without_other_fill(name, of)) for name, of in options.items()}

    def work(self, values: Mapping[str, Any], is_control: bool = False) -> Work:
        """Return what all evaluations of one method compute, with the maps that they share.

        Args:
            values: options that the user gives.
            is_control: the map does not depend on the network, and `learned` classifies nothing.
        """
        parts = {name: load_evaluation(name).work(config) for name, config in self.configs(values).items()}
        if is_control:
            parts["learned"] = replace(parts["learned"], logits=0)
        return sum(parts.values(), Work(maps=self.images, logits=self.images))


def _without_other_fill(evaluation: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without a fill that the evaluation doesn't have, which then takes its own."""
    has_fill = options.get("fill") in FILLS_OF.get(evaluation, ())
    return {name: value for name, value in options.items() if name != "fill" or has_fill}


EFFORTS = (
    Effort(),
    Effort(images_aside=25, removals=5, samples=5),
    Effort(images=100, images_aside=20, removals=5, samples=3),
    Effort(images=100, images_aside=0),
    Effort(images=60, ratios=QUICK_RATIOS, images_aside=0),
)
"""From the full effort to the least that can tell methods apart."""


@dataclass(frozen=True)
class Timing:
    """Measured seconds of one image.

    Attributes:
        explain: of each method.
    """

    explain: Mapping[MethodSpec, float]
    forward: float
    impute: float

    def seconds(self, spec: MethodSpec, work: Work) -> float:
        """Return the seconds of some work with one of the methods."""
        return work.maps * self.explain[spec] + work.logits * self.forward + work.imputed * self.impute

    @classmethod
    def measure(
        cls, model: nn.Module, images: Tensor, explainers: Mapping[MethodSpec, Callable[[], Method]]
    ) -> "Timing":
        """Time a network and its methods on a few `images` (n, C, H, W), as the network sees them."""

        def seconds(work: Callable[[], Any]) -> float:
            work()
            start = time.perf_counter()
            work()
            return (time.perf_counter() - start) / len(images)

        target = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        with torch.no_grad():
            forward = seconds(lambda: model(images).sum().item())
        explain = {}
        for spec, build in explainers.items():
            method = build()
            explain[spec] = seconds(lambda method=method: compute_maps(method, images, target).sum().item())  # type: ignore[misc]
        return cls(
            explain, forward, imputation_seconds((images.shape[1], images.shape[2], images.shape[3]), images.device)
        )


def timed_images(values: int, available: int) -> int:
    """Return the number of images to time, each of so many values."""
    return min(available, TIMED_IMAGES, max(2, TIMED_VALUES // values))


def require_values(values: Mapping[str, Any], images: int, pixels: int, more: str = "give more images") -> None:
    """Check what no effort can change.

    Args:
        values: options that the user gives.
        images: that there are, or that the user allows.
        pixels: of an image.
        more: says how to give more images.

    Raises:
        InputError: too few images for a judgement, or more removals than pixels.
    """
    if images < FEWEST_IMAGES:
        raise InputError(f"{quantity(images, 'image')}: an answer needs {FEWEST_IMAGES} or more, {more}")
    if "removals" in values:
        pixels_removed(values["removals"], values.get("share", SHARE), pixels)


def choose_effort(
    timing: Timing, values: Mapping[str, Any], available: int, seconds: float, limit: int | None = None
) -> tuple[Effort, list[str], dict[MethodSpec, str]]:
    """Return the largest effort that fits into `seconds` of work.

    If even the least is too much, the costliest methods are left out; the controls never are.

    Args:
        values: options that the user gives, which change the work.
        available: number of images.
        limit: the images to use in place of those of `EFFORTS`.

    Returns:
        the effort, sentences on what was thinned, and the reason why a method is left out.
    """
    left_out: dict[MethodSpec, str] = {}
    efforts = [replace(effort, images=limit or effort.images) for effort in EFFORTS]
    whole = min(available, efforts[0].images)
    for effort in efforts:
        limited = replace(effort, images=min(effort.images, available))
        costs = {spec: timing.seconds(spec, limited.work(values, spec.method in CONTROLS)) for spec in timing.explain}
        if sum(costs.values()) <= seconds:
            break
    while sum(costs.values()) > seconds:
        optional = [spec for spec in costs if spec.method not in CONTROLS]
        if len(optional) <= 1:
            break
        costliest = max(optional, key=lambda spec: costs[spec])
        left_out[costliest] = f"over the budget: it would take about {duration(costs.pop(costliest))} of computing"
    remarks = []
    if limited.images < whole:
        remarks.append(f"To stay within the budget {limited.images} of {whole} images are used.")
    if not limited.images_aside:
        remarks.append("To stay within the budget selectivity and sanity are left out.")
    elif limited.images_aside < min(efforts[0].images_aside, limited.images):
        remarks.append(
            f"To stay within the budget selectivity and sanity use {limited.images_aside} images, "
            f"{quantity(limited.removals, 'removal')} and {quantity(limited.samples, 'perturbation')}."
        )
    if len(limited.ratios) < len(efforts[0].ratios):
        remarks.append(f"To stay within the budget the curves have {len(limited.ratios)} fractions removed.")
    return limited, remarks, left_out


def summarize_trust(
    summaries: Mapping[str, MeasurementSummary],
    left_out: Mapping[str, str],
    remarks: Sequence[str],
    words: Sequence[str] = (),
) -> TrustSummary:
    """Return the answer of several evaluations of one network, by name."""
    road = summaries["ROAD"]
    values = [part for summary in summaries.values() for part in summary.image_values]
    where = f" on {road.dataset}, {road.model}"  # which the answer has in its title
    charts = [
        replace(chart, page_title=chart.page_title.replace(where, ""))
        for summary in summaries.values()
        for chart in summary.charts
    ]
    return TrustSummary(
        dataset=road.dataset,
        model=road.model,
        images=road.config.limit_test,
        baseline=road.baseline,
        chance=road.chance,
        evaluations=values,
        charts=charts,
        left_out=left_out,
        remarks=remarks,
        words=words,
        rank=road.config.rank,
        parameters=parameter_sentences(road.methods),
    )
