"""Sanity checks: does a map depend on what the network learned, and how steady and how faithful is it nearby?

Cascading randomisation (Adebayo et al., NeurIPS 2018, arXiv 1810.03292): the weights are drawn anew layer by layer,
from the output to the input, and each time the map is compared with that of the trained network. A map that stays alike
shows the image, not what the network learned. Beside it infidelity and maximum sensitivity (Yeh et al. 2019).
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from attribution.maps import BATCH, compute_maps
from attribution.method import Method
from attribution.spec import MethodSpec
from common.random_state import seeded
from data import Dataset
from evaluation.chance import chance_of
from evaluation.robustness import infidelity, max_sensitivity
from evaluation.similarity import between_0_and_1, rank_correlation, structural_similarity, window_size
from evaluation.statistics import require_images
from experiments.measurements import Found, Measurements, Task
from experiments.pipeline import Pipeline, classifier_line, given_by_setting, network_for
from reporting.sanity_summary import SanitySummary, Settings
from training.classifier import find_classifier, restore, train_classifier
from training.inputs import Images, labels_of
from training.loop import seed_for

STAGES = 12  # at most; deeper networks are randomised several layers at a time


@runtime_checkable
class Resettable(Protocol):
    """A layer that can draw its initial weights anew."""

    def reset_parameters(self) -> None: ...


def stages(model: nn.Module) -> list[list[str]]:
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


def randomised(model: nn.Module, names: Sequence[str], seed: int) -> nn.Module:
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


class Sanity(Measurements):
    """The checks of several methods on the classifiers of one model, a seed each."""

    def __init__(
        self, pipelines: Sequence[Pipeline], methods: Sequence[MethodSpec], settings: Settings, overwrite: bool = False
    ) -> None:
        self.settings = settings
        self._misled: dict[Pipeline, nn.Module] = {}  # trained on shuffled labels
        super().__init__("sanity", pipelines, methods, overwrite)

    def settings_of(self, task: Task) -> dict[str, Any]:
        return asdict(self.settings)

    def lines_of(self, todo: Sequence[Task]) -> list[str]:
        return [f"check   {one.method.label} seed {one.pipeline.order.seed}" for one in todo]

    def prepare(self, todo: Sequence[Task]) -> None:
        """The networks that shuffled labels misled, if asked for."""
        if self.settings.random_labels:
            self._misled = {one: misled(one) for one in dict.fromkeys(task.pipeline for task in todo)}

    @property
    def images_each(self) -> int:
        return self.settings.limit_test

    def measure(self, task: Task, on_images: Callable[[int], object]) -> Found:
        """Similarity at each stage, infidelity and sensitivity: each the mean over the images."""
        pipeline = task.pipeline
        model = restore(pipeline.checkpoint, pipeline.device)
        test = pipeline.whole.test.subset(self.settings.limit_test)
        images, labels = Images(test, pipeline.normalisation, pipeline.device), labels_of(test, pipeline.device)
        drawn = torch.Generator().manual_seed(seed_for(pipeline.order.seed, "sanity"))
        names = stages(model)
        networks = [
            randomised(model, [*chain(*names[: place + 1])], seed_for(pipeline.order.seed, "random weights"))
            for place in range(len(names))
        ]
        if self.settings.random_labels:
            networks.append(self._misled[pipeline])
        trained = network_for(task.method, model)
        method = explaining(task, trained)
        others = [explaining(task, network_for(task.method, network)) for network in networks]
        sums = dict.fromkeys(("infidelity", "sensitivity", "accuracy"), 0.0)
        alike: dict[str, list[float]] = {name: [0.0] * len(networks) for name in ("rank", "absolute_rank", "ssim")}
        for rows in torch.arange(len(test), device=pipeline.device).split(BATCH):
            batch = images.batch(rows).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                predicted = model(batch).argmax(dim=1)
            target = predicted if self.settings.explain == "prediction" else labels[rows]
            maps = compute_maps(method, batch, target)
            for place, other in enumerate(others):
                for name, value in similarities(maps, compute_maps(other, batch, target)).items():
                    alike[name][place] += value * len(rows) / len(test)
            noise, cube = perturbations(batch, self.settings, drawn)
            of_batch = (
                infidelity(trained, maps, batch, target, noise),
                max_sensitivity(method, maps, batch, target, cube),
                predicted == labels[rows],
            )
            for name, values in zip(sums, of_batch, strict=True):
                sums[name] += values.double().sum().item() / len(test)
            on_images(len(rows))
        found: Found = {"stages": names, **sums, "test_images": len(test), "chance": chance_of(test.labels)}
        found["ssim_window"] = window_size(*pipeline.whole.shape[1:])
        if self.settings.random_labels:
            found["random_labels"] = {name: values.pop() for name, values in alike.items()}
        return found | alike

    def report(self) -> str:
        return SanitySummary(self.settings, *self.facts()).write(self.folder)


def explaining(task: Task, network: nn.Module) -> Method:
    """The method of `task` for another network, as `network_for` gives it."""
    given = given_by_setting(task.method, network, task.pipeline.normalisation.black)
    return task.method.build(network, **given)


def misled(pipeline: Pipeline) -> nn.Module:
    """The same classifier trained on shuffled labels, kept in `checkpoints/random_labels`; trained now if need be."""
    folder = pipeline.folders.checkpoints / "random_labels"
    path = pipeline.order.path(folder)
    with pipeline.claims.alone(f"random_labels {path.name}"):
        kept = find_classifier(pipeline.order, pipeline.dataset_sum, folder)
        if kept is None:
            print(f"model: {path} is not there: training it on shuffled labels ...", flush=True)
            shuffled = with_random_labels(pipeline.whole, pipeline.order.seed)
            kept = train_classifier(pipeline.order, shuffled, folder, pipeline.device)
            print(classifier_line(kept.metadata, path), flush=True)
    return restore(kept, pipeline.device)


def with_random_labels(dataset: Dataset, seed: int) -> Dataset:
    """The same images and as many of each class, but the training labels shuffled."""
    labels = np.random.default_rng(seed_for(seed, "random labels")).permutation(dataset.train.labels)
    return replace(dataset, train=replace(dataset.train, labels=labels))


def similarities(maps: Tensor, others: Tensor) -> dict[str, float]:
    """Means over the images; maps summed over the channels, SSIM of their absolute values from 0 to 1."""
    require_images(len(maps))
    first, second = maps.sum(dim=1, keepdim=True), others.sum(dim=1, keepdim=True)
    scaled = between_0_and_1(first.abs()), between_0_and_1(second.abs())
    return {
        "rank": float(rank_correlation(first, second).mean()),
        "absolute_rank": float(rank_correlation(first.abs(), second.abs()).mean()),
        "ssim": float(structural_similarity(*scaled).mean()),
    }


def perturbations(batch: Tensor, settings: Settings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Normal ones for infidelity and even ones in a cube for sensitivity, (S, N, C, H, W) each; drawn on the CPU."""
    shape = (settings.samples, *batch.shape)
    noise = torch.randn(shape, generator=generator) * settings.noise
    cube = (2 * torch.rand(shape, generator=generator) - 1) * settings.radius
    return noise.to(batch.device), cube.to(batch.device)
