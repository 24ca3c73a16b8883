"""Sanity checks: does a map depend on what the network learned, and how steady and how faithful is it nearby?

Cascading randomisation (Adebayo et al., NeurIPS 2018, arXiv 1810.03292): the weights are drawn anew layer by layer,
from the output to the input, and each time the map is compared with that of the trained network. A map that stays alike
shows the image, not what the network learned. Beside it infidelity and maximum sensitivity (Yeh et al. 2019).
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class Resettable(Protocol):
    """A layer that can draw its initial weights anew."""

    def reset_parameters(self) -> None: ...


def randomization_cascade(model: nn.Module) -> list[list[str]]:
    """Names of the layers with weights, from the output to the input, in at most `STAGES` groups.

    A normalisation belongs to the layer before it.
    """
    groups: list[list[str]] = []
    for name, module in model.named_modules():
        if not list(module.parameters(recurse=False)) or not isinstance(module, Resettable):
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
    """A copy of `model` in which the layers `names` have new initial weights; the global random state stays."""
    copied = copy.deepcopy(model)
    with seeded(seed):
        for name in names:
            layer = copied.get_submodule(name)
            device = next(layer.parameters()).device
            layer.cpu()
            assert isinstance(layer, Resettable)
            layer.reset_parameters()
            layer.to(device)
    return copied.eval()


class Sanity(Evaluation):
    """Cascading randomisation, infidelity and maximum sensitivity of one method on one classifier."""

    name = "sanity"
    config = SanityConfig
    needs_maps = False
    lowest_first = True

    def networks(self, settings: SanityConfig) -> Sequence[str]:
        return ["random_labels"] if settings.random_labels else []

    def measure(
        self, settings: SanityConfig, method: MethodSpec, artefacts: Artefacts, on_images: OnImages
    ) -> dict[str, Any]:
        """Return similarity at each stage, infidelity and sensitivity: each the mean over the images."""
        model, test = artefacts.network(), artefacts.test
        total = len(test.labels)
        generator = torch.Generator().manual_seed(seed_for(artefacts.seed, "sanity"))
        names = randomization_cascade(model)
        seed = seed_for(artefacts.seed, "random weights")
        networks = [randomise(model, [*chain(*names[: place + 1])], seed) for place in range(len(names))]
        networks += [artefacts.network(name) for name in self.networks(settings)]
        explainer, trained = artefacts.explainer(method, model)
        others = [artefacts.explainer(method, network)[0] for network in networks]
        sums = dict.fromkeys(("infidelity", "sensitivity", "accuracy"), 0.0)
        alike: dict[str, list[float]] = {name: [0.0] * len(networks) for name in ("rank", "absolute_rank", "ssim")}
        for rows in torch.arange(total, device=artefacts.device).split(BATCH):
            batch = test.images.batch(rows).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                predicted = model(batch).argmax(dim=1)
            target = predicted if settings.explain == "prediction" else test.labels[rows]
            maps = compute_maps(explainer, batch, target)
            for place, other in enumerate(others):
                for name, value in similarities(maps, compute_maps(other, batch, target)).items():
                    alike[name][place] += value * len(rows) / total
            noise, cube = perturbations(batch, settings, generator)
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
        if settings.random_labels:
            result["random_labels"] = {name: values.pop() for name, values in alike.items()}
        return result | alike


def with_random_labels(dataset: Dataset, seed: int) -> Dataset:
    """The same images and as many of each class, but the training labels shuffled."""
    labels = np.random.default_rng(seed_for(seed, "random labels")).permutation(dataset.train.labels)
    return replace(dataset, train=replace(dataset.train, labels=labels))


def similarities(maps: Tensor, others: Tensor) -> dict[str, float]:
    """Means over the images; maps summed over the channels, SSIM of their absolute values from 0 to 1."""
    require_images(len(maps))
    first, second = maps.sum(dim=1, keepdim=True), others.sum(dim=1, keepdim=True)
    scaled = rescale(first.abs()), rescale(second.abs())
    return {
        "rank": float(rank_correlation(first, second).mean()),
        "absolute_rank": float(rank_correlation(first.abs(), second.abs()).mean()),
        "ssim": float(structural_similarity(*scaled).mean()),
    }


def perturbations(batch: Tensor, settings: SanityConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Normal ones for infidelity and even ones in a cube for sensitivity, (S, N, C, H, W) each; drawn on the CPU."""
    shape = (settings.samples, *batch.shape)
    noise = torch.randn(shape, generator=generator) * settings.noise
    cube = (2 * torch.rand(shape, generator=generator) - 1) * settings.radius
    return noise.to(batch.device), cube.to(batch.device)
