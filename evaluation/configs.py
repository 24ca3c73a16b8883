"""Configurations of evaluations: everything that decides on a result beside network, method and seed.

This module imports no torch, so that `--help` and reports start at once.
"""

from dataclasses import dataclass
from typing import Any

from common.parsing import canonical_name, fraction, names, number, positions, positive
from data import dataset_info
from evaluation import FILLS_OF, INSERTION_RATIOS, ORDERS, RATIOS, RECORDED_ORDERS, TEST_SHARE
from evaluation.options import option
from evaluation.runs import MaskOptions, RetrainingConfig, explain_option, fill_option, rank_option, ratios_option
from training.recipe import Recipe

FEWEST_TESTED = 100  # images, where there are as many
TUNED = ("F-Fidelity",)  # the evaluations that fine-tune the network


def usual_images(dataset: str) -> int:
    """Return the default number of test images of evaluations without retraining."""
    images = int(dataset_info(dataset).shapes["test_images"][0])
    return max(round(TEST_SHARE * images), min(images, FEWEST_TESTED))


def by_image_option() -> Any:
    return option(
        False,
        "keep the values of each image, for intervals over the images instead of over the seeds",
        word="by-image",
        is_new=True,
    )


@dataclass(frozen=True)
class RemovalConfig:
    """ROAD, F-Fidelity, or insertion and deletion.

    Attributes:
        ratios: fractions removed; for F-Fidelity the share of most, or least, important pixels to remove some of.
        fill: "linear" (ROAD), "blur", "mean" or "black".
        alpha, beta, draws: for F-Fidelity; 1, 1, 1 for the others.
        tuning: the recipe of F-Fidelity's fine-tuning.
    """

    evaluation: str
    ratios: tuple[float, ...] = ratios_option()
    limit_test: int = option(0, "use N test images", parse=positive, metavar="N", word="limit_test-{}")
    explain: str = explain_option("explain-{}")
    rank: str = rank_option("rank-{}")
    fill: str = fill_option("fill-{}")
    alpha: float = option(
        0.5,
        "share of the pixels in question that is removed",
        parse=fraction,
        metavar="X",
        word="share-{}",
        users=TUNED,
    )
    beta: float = option(
        0.1,
        "share of all pixels that is removed at most, in fine-tuning too",
        parse=fraction,
        metavar="X",
        word="most-{}",
        users=TUNED,
    )
    draws: int = option(10, "random removals averaged", parse=positive, metavar="N", word="draws-{}", users=TUNED)
    tuning: Recipe | None = None
    by_image: bool = by_image_option()

    @property
    def value(self) -> str:
        """The quantity of the curves: accuracy; for insertion and deletion, and by image, the class's probability."""
        return "score" if self.by_image or self.evaluation == "insertion-deletion" else "accuracy"


@dataclass(frozen=True)
class SanityConfig:
    """Cascading randomisation, infidelity and maximum sensitivity.

    Attributes:
        noise: standard deviation of infidelity's perturbations, in units of the network's input.
        radius: half width of the cube of sensitivity's perturbations, in the same units.
        samples: perturbations of each.
    """

    limit_test: int = option(0, "use N test images", parse=positive, metavar="N", word="{}-tested")
    explain: str = explain_option()
    noise: float = 0.2
    radius: float = 0.02
    samples: int = 10
    stages: int = option(
        12,
        "steps in which the cascade makes all weights random, from the output on",
        parse=positive,
        metavar="N",
        word="{}-stages",
        is_new=True,
    )
    by_image: bool = by_image_option()
    random_labels: bool = option(
        False,
        "compare with a network trained on shuffled labels, too (which takes a training)",
        word="random-labels",
        users=("sanity",),
    )


def order_name(text: str) -> str:
    """Return "MoRF" or "LeRF", also for "most" or "least"."""
    return canonical_name("order", text, {order: (recorded,) for order, recorded in RECORDED_ORDERS.items()})


@dataclass(frozen=True)
class SelectivityConfig:
    """Selectivity: pixels removed one after the other.

    Attributes:
        limit_test: test images, drawn by a fixed seed.
        fill: the training set's mean per channel, or black.
    """

    limit_test: int = option(0, "use N test images", parse=positive, metavar="N", word="{}-tested")
    removals: int = option(50, "pixels to remove, one after the other", parse=positive, metavar="N", word="{}-removals")
    share: float = option(
        0.0,
        "share of all pixels that each removal takes, instead of a single one",
        parse=fraction,
        metavar="X",
        word="share-{}",
        usual="a single pixel",
        is_new=True,
    )
    order: str = option(
        ORDERS[0],
        "which pixel goes first, the most or the least relevant (also: most, least)",
        choices=ORDERS,
        parse=order_name,
        recorded=RECORDED_ORDERS,
    )
    rank: str = rank_option()
    fill: str = fill_option()
    explain: str = explain_option()


@dataclass(frozen=True)
class ExampleFilter:
    """The examples that coherence shows."""

    classes: tuple[str, ...] = option((), "classes to show, by name or number", parse=names, metavar="NAME,...")
    index: tuple[int, ...] = option(
        (), "test images to show, by position, instead of the first of each class", parse=positions, metavar="N,..."
    )
    correct_only: bool = option(False, "show only images that every model classifies correctly")


@dataclass(frozen=True)
class TrustOptions:
    """The options of --eval=trust."""

    budget: float = option(
        20.0,
        "minutes that it may take; it says what it thins or leaves out",
        parse=number(float, 0, low_counts=False),
        metavar="MINUTES",
    )


CONFIGS: dict[str, Any] = {
    "ROAR and KAR (ratios, rank, fill and explain: other evaluations too)": (RetrainingConfig, MaskOptions),
    "F-Fidelity": (RemovalConfig,),
    "selectivity": (SelectivityConfig,),
    "sanity": (SanityConfig,),
    "coherence": (ExampleFilter,),
    "trust": (TrustOptions,),
}


def usual_ratios(evaluation: str) -> tuple[float, ...]:
    """Return the default fractions removed; insertion and deletion go from nothing to everything."""
    return (0.0, *INSERTION_RATIOS, 1.0) if evaluation in ("insertion-deletion", "learned") else RATIOS


def usual_removal(evaluation: str) -> dict[str, Any]:
    """Return the defaults of `RemovalConfig` that depend on the evaluation."""
    others = {} if evaluation == "F-Fidelity" else {"alpha": 1.0, "beta": 1.0, "draws": 1}
    return {"ratios": usual_ratios(evaluation), "fill": FILLS_OF[evaluation][0]} | others
