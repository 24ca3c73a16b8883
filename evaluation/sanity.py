"""Sanity checks: cascading randomisation, infidelity and maximum sensitivity.

Cascading randomisation (Adebayo et al., NeurIPS 2018, arXiv 1810.03292) draws the weights anew layer by layer, from
the output to the input, and compares the map with that of the trained network. A map that stays alike shows the image,
not what the network learned.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attribution.maps import BATCH, compute_maps
from attribution.spec import MethodSpec
from common.random_state import seeded
from data import Dataset
from evaluation.chance import chance_of
from evaluation.configs import SanityConfig
from evaluation.protocol import Artefacts, Evaluation
from evaluation.robustness import infidelity, max_sensitivity
from evaluation.similarity import rank_correlation, rescale, structural_similarity, window_size
from evaluation.statistics import require_images
from evaluation.tasks import OnImages
from training.loop import seed_for

STAGES = 12  # at most; deeper networks are randomise several layers at a time


def randomization_cascade(model: nn.Module) -> list[list[str]]:
    """Return the names of layers with weights, from the output to the input, in at most `STAGES` groups.

    A normalisation belongs to the layer before it.
    """
    groups: list[list[str]] = []
    for name, module in model.named_modules():
        if not list(module.parameters(recurse=False)) or not hasattr(module, "reset_parameters"):
            continue
        if isinstance(module, nn.modules.batchnorm._NormBase) and groups:
            groups[-1].append(name)
        else:
            groups.append([name])
    groups.reverse()
    if len(groups) <= STAGES:
        return groups
    ends = [round(len(groups) * (place + 1) / STAGES) for place in range(STAGES)]
    starts = [0, *ends[:-1]]
    return [list(chain(*groups[start:end])) for start, end in zip(starts, ends, strict=True)]


def randomise(model: nn.Module, names: Sequence[str], seed: int) -> nn.Module:
    """Return a copy with new initial weights in the layers `names`; the global random state stays."""
    copied = copy.deepcopy(model)
    with seeded(seed):
        for name in names:
            layer: Any = copied.get_submodule(name)
            device = next(layer.parameters()).device
            layer.cpu()
            layer.reset_parameters()
            layer.to(device)
    return copied.eval()


class Sanity(Evaluation):
    """Cascading randomisation, infidelity and maximum sensitivity of one method on one classifier."""

    name = "sanity"
    config = SanityConfig
    needs_maps = False
    lowest_first = True

    def networks(self, config: SanityConfig) -> Sequence[str]:
        return ["random_labels"] if config.random_labels else []

    def measure(
        self, config: SanityConfig, method: MethodSpec, artefacts: Artefacts, on_images: OnImages
    ) -> dict[str, Any]:
        """Return similarity at each stage, infidelity and sensitivity, as means over the images."""
        model, test = artefacts.network(), artefacts.test
        total = len(test.labels)
        generator = torch.Generator().manual_seed(seed_for(artefacts.seed, "sanity"))
        names = randomization_cascade(model)
        seed = seed_for(artefacts.seed, "random weights")
        networks = [randomise(model, [*chain(*names[: place + 1])], seed) for place in range(len(names))]
        networks += [artefacts.network(name) for name in self.networks(config)]
        explainer, trained = artefacts.explainer(method, model)
        others = [artefacts.explainer(method, network)[0] for network in networks]
        sums = dict.fromkeys(("infidelity", "sensitivity", "accuracy"), 0.0)
        alike: dict[str, list[float]] = {name: [0.0] * len(networks) for name in ("rank", "absolute_rank", "ssim")}
        for rows in torch.arange(total, device=artefacts.device).split(BATCH):
            batch = test.images.batch(rows).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                predicted = model(batch).argmax(dim=1)
            target = predicted if config.explain == "prediction" else test.labels[rows]
            maps = compute_maps(explainer, batch, target)
            for place, other in enumerate(others):
                for name, value in similarities(maps, compute_maps(other, batch, target)).items():
                    alike[name][place] += value * len(rows) / total
            noise, cube = perturbations(batch, config, generator)
            of_batch = (
                infidelity(trained, maps, batch, target, noise),
                max_sensitivity(explainer, maps, batch, target, cube),
                predicted == test.labels[rows],
            )
            for name, values in zip(sums, of_batch, strict=True):
                sums[name] += values.double().sum().item() / total
            on_images(len(rows))
        result: dict[str, Any] = {"stages": names, **sums, "test_images": total, "chance": chance_of(test.labels.cpu())}
        result["ssim_window"] = window_size(*batch.shape[2:])
        if config.random_labels:
            result["random_labels"] = {name: values.pop() for name, values in alike.items()}
        return result | alike


def with_random_labels(dataset: Dataset, seed: int) -> Dataset:
    """Return the data set with shuffled training labels."""
    labels = np.random.default_rng(seed_for(seed, "random labels")).permutation(dataset.train.labels)
    return replace(dataset, train=replace(dataset.train, labels=labels))


def similarities(maps: Tensor, others: Tensor) -> dict[str, float]:
    """Return means over the images; maps are summed over the channels, SSIM is of their absolute values from 0 to 1."""
    require_images(len(maps))
    first, second = maps.sum(dim=1, keepdim=True), others.sum(dim=1, keepdim=True)
    images = rescale(first.abs()), rescale(second.abs())
    return {
        "rank": float(rank_correlation(first, second).mean()),
        "absolute_rank": float(rank_correlation(first.abs(), second.abs()).mean()),
        "ssim": float(structural_similarity(*images).mean()),
    }


def perturbations(batch: Tensor, config: SanityConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample normal ones for infidelity, uniform ones in a cube for sensitivity: (S, N, C, H, W) each, on the CPU."""
    shape = (config.samples, *batch.shape)
    noise = torch.randn(shape, generator=generator) * config.noise
    cube = (2 * torch.rand(shape, generator=generator) - 1) * config.radius
    return noise.to(batch.device), cube.to(batch.device)
