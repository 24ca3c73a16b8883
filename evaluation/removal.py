"""Evaluations that remove pixels without retraining: ROAD, F-Fidelity, insertion and deletion."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attribution.pixel_hash import pixel_hash
from attribution.spec import MethodSpec
from evaluation import ORDERS, RECORDED_ORDERS
from evaluation.chance import chance_of
from evaluation.configs import RemovalConfig, usual_removal
from evaluation.imputation import noisy_impute
from evaluation.masking import Removal, gaussian_blur
from evaluation.protocol import Artefacts, Evaluation, Fills, ImageBatches
from evaluation.statistics import require_images
from evaluation.tasks import OnImages
from training.loop import TEST_BATCH

DRAW_SEED = 1
PIXELS_AT_ONCE = TEST_BATCH * 96 * 96  # batches of larger images are smaller, so that their activations fit in memory


class Perturbation(Protocol):
    """Removes a part of each image, `draws` times where the removal is random."""

    @property
    def draws(self) -> int: ...

    def __call__(self, images: Tensor, ranks: Tensor, index: Tensor, removal: Removal, draw: int) -> Tensor:
        """Return perturbed images.

        Args:
            images: (n, C, H, W) as the network sees them.
            ranks: (n, 1, H, W), the place of each pixel in its image's order.
            index: (n,) int64, the images' numbers, on which random draws depend.
            draw: 0 … draws − 1.
        """
        ...


@dataclass(frozen=True)
class NoisyImputation:
    """ROAD: noisy linear imputation of removed pixels (Rong et al., ICML 2022, arXiv 2202.00449)."""

    draws: int = 1

    def __call__(self, images: Tensor, ranks: Tensor, index: Tensor, removal: Removal, draw: int) -> Tensor:
        return noisy_impute(images, removal.mask(ranks))


@dataclass(frozen=True)
class Replacement:
    """Insertion and deletion (Petsiuk et al. 2018, arXiv 1806.07421): a fixed value or the blurred image.

    Attributes:
        fill: (C,), or None for the blurred image.
        sigma: width of the Gaussian in pixels.
    """

    fill: Tensor | None
    sigma: float = 5.0
    draws: int = 1

    def __call__(self, images: Tensor, ranks: Tensor, index: Tensor, removal: Removal, draw: int) -> Tensor:
        base = gaussian_blur(images, self.sigma) if self.fill is None else self.fill.view(-1, 1, 1)
        return torch.where(removal.mask(ranks), base, images)


@dataclass(frozen=True)
class RandomSubset:
    """F-Fidelity: a random part of the explanation (Zheng et al., ICLR 2025, arXiv 2410.02970).

    Of an explanation that covers the fraction s of the image, the share α is removed, but no more than the fraction β
    of the image: round(min(α·s, β)·H·W) pixels.

    Attributes:
        fill: (C,).
    """

    fill: Tensor
    alpha: float
    beta: float
    draws: int

    def count(self, removal: Removal, positions: int) -> int:
        return round(min(self.alpha * removal.ratio, self.beta) * positions)

    def __call__(self, images: Tensor, ranks: Tensor, index: Tensor, removal: Removal, draw: int) -> Tensor:
        candidates = removal.mask(ranks).flatten(1)
        keys = pixel_hash(index, candidates.shape[1], DRAW_SEED + draw).masked_fill(~candidates, -1)
        k = self.count(removal, candidates.shape[1])
        removed = torch.zeros_like(candidates).scatter_(1, keys.topk(k, dim=1).indices, True)
        return torch.where(removed.view_as(ranks), self.fill.view(-1, 1, 1), images)


@dataclass(frozen=True)
class RemovalScores:
    """Accuracy and score of a network on perturbed images.

    Attributes:
        accuracy, score: share of right predictions, and mean probability of the explained class, over images and
            draws: by order ("most", "least") a value for each ratio.
        whole_accuracy, whole_score: the same on whole images.
    """

    accuracy: dict[str, list[float]]
    score: dict[str, list[float]]
    whole_accuracy: float
    whole_score: float


@torch.no_grad()
def measure(
    model: nn.Module,
    images: ImageBatches,
    labels: Tensor,
    target: Tensor,
    index: Tensor,
    ranks: Tensor,
    ratios: Sequence[float],
    perturb: Perturbation,
    on_images: Callable[[int], object] = lambda images: None,
) -> RemovalScores:
    """Classify all images with each fraction of their most and least important pixels perturbed.

    Args:
        model: in evaluation mode.
        labels, target, index: (N,) int64: the class, the class explained, the images' numbers.
        ranks: (N, 1, H, W).
        on_images: called with the size of each batch after its perturbations.

    Raises:
        InputError: there is no image.
    """
    require_images(len(labels))
    points = {order: [Removal(order, ratio) for ratio in ratios] for order in ORDERS}
    sums = {order: torch.zeros(2, len(ratios), dtype=torch.float64) for order in ORDERS}
    whole = torch.zeros(2, dtype=torch.float64)

    def hits_and_score(batch: Tensor, rows: Tensor) -> Tensor:
        logits = model(batch.contiguous(memory_format=torch.channels_last))
        score = logits.softmax(dim=1).gather(1, target[rows].view(-1, 1)).double().sum()
        return torch.stack([(logits.argmax(dim=1) == labels[rows]).double().sum(), score]).cpu()

    at_once = min(TEST_BATCH, max(1, PIXELS_AT_ONCE // ranks.shape[2:].numel()))
    for rows in torch.arange(len(labels), device=labels.device).split(at_once):
        batch = images.batch(rows)
        whole += hits_and_score(batch, rows)
        for order, removals in points.items():
            for place, removal in enumerate(removals):
                for draw in range(perturb.draws):
                    perturbed = perturb(batch, ranks[rows], index[rows], removal, draw)
                    sums[order][:, place] += hits_and_score(perturbed, rows) / perturb.draws
        on_images(len(rows))
    total = len(labels)
    accuracy, score = (
        {RECORDED_ORDERS[order]: (values[row] / total).tolist() for order, values in sums.items()} for row in (0, 1)
    )
    return RemovalScores(accuracy, score, *(whole / total).tolist())


def build_perturbation(config: RemovalConfig, fills: Fills) -> Perturbation:
    if config.evaluation == "ROAD":
        return NoisyImputation()
    if config.evaluation == "F-Fidelity":
        return RandomSubset(fills.fill(config.fill), config.alpha, config.beta, config.draws)
    return Replacement(None if config.fill == "blur" else fills.fill(config.fill))


class RemovalEvaluation(Evaluation):
    """ROAD, F-Fidelity, or insertion and deletion, judged by a network that never saw a map's mask."""

    config = RemovalConfig

    def __init__(self, name: str) -> None:
        self.name = name

    def configure(self, **values: Any) -> RemovalConfig:
        usual = usual_removal(self.name)
        fixed = {} if self.name == "F-Fidelity" else {name: usual[name] for name in ("alpha", "beta", "draws")}
        config: RemovalConfig = super().configure(**usual | values | fixed | {"evaluation": self.name})
        return config

    def networks(self, config: RemovalConfig) -> Sequence[str]:
        return ["finetuned"] if config.tuning else []

    def measure(
        self, config: RemovalConfig, method: MethodSpec, artefacts: Artefacts, on_images: OnImages
    ) -> dict[str, Any]:
        """Return accuracy and probability at each ratio, in both orders."""
        test = artefacts.test
        assert artefacts.maps is not None
        target, ranks = (torch.from_numpy(artefacts.maps[name]).to(artefacts.device) for name in ("target", "ranks"))
        judge = artefacts.network("finetuned" if config.tuning else "")
        perturbation = build_perturbation(config, test.normalisation)
        scores = measure(
            *(judge, test.images, test.labels, target, test.index, ranks, config.ratios, perturbation, on_images)
        )
        return asdict(scores) | {"test_images": len(test.labels), "chance": chance_of(test.labels.cpu())}
