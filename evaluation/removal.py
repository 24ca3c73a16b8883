"""Evaluations that remove pixels without retraining: ROAD, F-Fidelity, insertion and deletion."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attribution.network import require_numbers
from attribution.pixel_hash import pixel_hash
from attribution.spec import MethodSpec
from evaluation import ORDERS, RECORDED_ORDERS
from evaluation.chance import chance_of
from evaluation.configs import RemovalConfig, usual_removal
from evaluation.imputation import noisy_impute
from evaluation.masking import Removal, gaussian_blur
from evaluation.protocol import Artefacts, Evaluation, TestImages, Work
from evaluation.statistics import trapezoids
from evaluation.tasks import OnImages
from training.inputs import Normalisation

DRAW_SEED = 1
SIGMA = 5.0  # pixels, of the blurred image
DIGITS = 7  # of values of single images in records


def perturb(
    images: Tensor,
    ranks: Tensor,
    index: Tensor,
    removal: Removal,
    draw: int,
    config: RemovalConfig,
    normalisation: Normalisation,
    base: Tensor | None = None,
) -> Tensor:
    """Return images of which a part is removed.

    - ROAD imputes it with noise (Rong et al., ICML 2022, arXiv 2202.00449).
    - Insertion and deletion put a fixed value or the blurred image there (Petsiuk et al. 2018, arXiv 1806.07421).
    - F-Fidelity does so with a random part of them (Zheng et al., ICLR 2025, arXiv 2410.02970): of the fraction s of
      the image the share α, but no more than the fraction β of the image: exactly round(min(α·s, β)·H·W) pixels,
      where the authors' code draws each pixel by itself.

    Args:
        images: (n, C, H, W) as the network sees them.
        ranks: (n, 1, H, W), the place of each pixel in its image's order.
        index: (n,) int64, the images' numbers, on which random draws depend.
        draw: 0 … `config.draws` − 1.
        base: the `replacement` of these images, if it is known.
    """
    removed = removal.mask(ranks)
    if config.evaluation == "ROAD":
        return noisy_impute(images, removed)
    if config.evaluation == "F-Fidelity":
        candidates = removed.flatten(1)
        keys = pixel_hash(index, candidates.shape[1], DRAW_SEED + draw).masked_fill(~candidates, -1)
        k = round(min(config.alpha * removal.ratio, config.beta) * candidates.shape[1])
        removed = torch.zeros_like(candidates).scatter_(1, keys.topk(k, dim=1).indices, True).view_as(ranks)
    return torch.where(removed, replacement(images, config, normalisation) if base is None else base, images)


def replacement(images: Tensor, config: RemovalConfig, normalisation: Normalisation) -> Tensor:
    """Return the values that replace removed pixels, broadcastable to `images`: the blurred image or a fixed pixel."""
    return gaussian_blur(images, SIGMA) if config.fill == "blur" else normalisation.fill(config.fill).view(-1, 1, 1)


@torch.no_grad()
def measure(
    model: nn.Module,
    test: TestImages,
    target: Tensor,
    ranks: Tensor,
    config: RemovalConfig,
    on_images: OnImages = lambda images: None,
) -> dict[str, Any]:
    """Classify all images with each fraction of their most and least important pixels removed.

    Args:
        model: in evaluation mode.
        target: (N,) int64, the class explained.
        ranks: (N, 1, H, W).
        on_images: called with the size of each batch after its perturbations.

    Returns:
        `accuracy` and `score`, the share of right predictions and the mean probability of the explained class over
        images and draws: by order ("most", "least") a value for each ratio; both on whole images; and by image the
        `image_area`, by order the area under the probability, the `image_gap`, that with the least relevant pixels
        removed first minus that with the most relevant first, and the `image_spread`, the standard deviation of the
        probability over the images.

    Raises:
        InputError: there is no image, or the network gives no numbers for a changed one.
    """
    total = len(test.labels)
    points = {order: [Removal(order, ratio) for ratio in config.ratios] for order in ORDERS}
    sums = {order: torch.zeros(2, len(config.ratios), dtype=torch.float64) for order in ORDERS}
    scores = {order: torch.zeros(len(config.ratios), total, dtype=torch.float64) for order in ORDERS}
    whole = torch.zeros(2, dtype=torch.float64)

    def hits_and_score(batch: Tensor, rows: Tensor) -> Tensor:
        """Return (2, n): hits, and the probability of the explained class."""
        logits = model(batch.contiguous(memory_format=torch.channels_last))
        score = logits.softmax(dim=1).gather(1, target[rows].view(-1, 1)).squeeze(1)
        require_numbers(score)
        return torch.stack([logits.argmax(dim=1) == test.labels[rows], score]).double().cpu()

    for rows in test.batches():
        batch = test.images.batch(rows)
        unchanged = hits_and_score(batch, rows)
        whole += unchanged.sum(dim=1)
        positions = ranks.shape[1:].numel()
        equal = {(0, draw): unchanged for draw in range(config.draws)}  # in both orders, by pixels removed and draw
        base = None if config.evaluation == "ROAD" else replacement(batch, config, test.normalisation)
        for order, removals in points.items():
            for place, removal in enumerate(removals):
                count = removal.count(positions)
                for draw in range(config.draws):
                    values = equal.get((count, draw))
                    if values is None:
                        part = ranks[rows], test.index[rows], removal, draw
                        perturbed = perturb(batch, *part, config, test.normalisation, base)
                        values = hits_and_score(perturbed, rows)
                    if count == positions:
                        equal[count, draw] = values
                    sums[order][:, place] += values.sum(dim=1) / config.draws
                    scores[order][place, rows.cpu()] += values[1] / config.draws
        on_images(len(rows))
    accuracy, score = (
        {RECORDED_ORDERS[order]: (values[row] / total).tolist() for order, values in sums.items()} for row in (0, 1)
    )
    whole_accuracy, whole_score = (whole / total).tolist()
    result = {"accuracy": accuracy, "score": score, "whole_accuracy": whole_accuracy, "whole_score": whole_score}
    if config.by_image:
        morf, lerf = (trapezoids(scores[order], config.ratios) for order in ORDERS)
        areas = {RECORDED_ORDERS["MoRF"]: morf, RECORDED_ORDERS["LeRF"]: lerf}
        result["image_area"] = {order: values.round(DIGITS).tolist() for order, values in areas.items()}
        result["image_gap"] = (lerf - morf).round(DIGITS).tolist()
        if total > 1:
            spreads = {RECORDED_ORDERS[order]: values.std(dim=1).tolist() for order, values in scores.items()}
            result["image_spread"] = spreads
    return result


class RemovalEvaluation(Evaluation):
    """ROAD, F-Fidelity, or insertion and deletion, judged by a network that never saw a map's mask."""

    config = RemovalConfig

    def __init__(self, name: str) -> None:
        self.name = name

    def configure(self, **values: Any) -> RemovalConfig:
        usual = usual_removal(self.name)
        fixed = {} if self.name == "F-Fidelity" else {name: usual[name] for name in ("alpha", "beta", "draws")}
        return super().configure(**usual | values | fixed | {"evaluation": self.name})

    def work(self, config: RemovalConfig) -> Work:
        ratios = set(config.ratios) - {0}
        removals = len(ORDERS) * len(ratios) - (1 in ratios)  # nothing is left in either order
        changed = config.limit_test * removals * config.draws
        return Work(logits=config.limit_test + changed, imputed=changed if config.fill == "linear" else 0)

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
        scores = measure(judge, test, target, ranks, config, on_images)
        return scores | {"test_images": len(test.labels), "chance": chance_of(test.labels.cpu())}
