"""Sanity checks: cascading randomisation, infidelity and maximum sensitivity.

Cascading randomisation (Adebayo et al., NeurIPS 2018, arXiv 1810.03292) draws the weights anew layer by layer, from
the output to the input, and compares the map with that of the trained network. How alike the map stays says how much of
it doesn't depend on the weights, not whether it is right.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain, product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.utils._pytree import tree_leaves

from attribution.function_calls import MULTIPLYING, FunctionCalls, is_scripted
from attribution.maps import compute_maps
from attribution.network import Network, nothing_compiled
from attribution.spec import MethodSpec
from common.errors import InputError
from common.random_state import seeded
from data import Dataset
from evaluation.chance import chance_of
from evaluation.configs import SanityConfig
from evaluation.protocol import Artefacts, Evaluation, Work
from evaluation.removal import DIGITS
from evaluation.robustness import infidelity, max_sensitivity
from evaluation.similarity import rank_correlation, rescale, structural_similarity, window_size
from evaluation.statistics import require_images
from evaluation.tasks import OnImages
from training.loop import seed_for

POWER_ITERATIONS = 30  # of a spectral norm of new weights
BY_IMAGE = ("absolute_rank", "infidelity", "sensitivity")  # likeness to the map of all weights random, and robustness


def randomization_cascade(model: nn.Module, stages: int, image: Tensor) -> list[list[str]]:
    """Return the names of modules with weights of their own, from the output to the input, in at most `stages` groups.

    They go by their first call for an `image` (1, C, H, W). A normalisation belongs to the layer before it, and a
    module that is not called itself, such as a projection inside attention, to the one registered before it.

    Raises:
        InputError: a scripted module, whose parts can't be drawn anew.
    """
    if is_scripted(model):
        raise InputError("the weights of a scripted module can't be made random: give the module before scripting")
    groups: list[list[str]] = []
    modules = {name: module for name, module in model.named_modules() if _weights(module)}
    for name, is_called in _by_first_call(model, modules, image):
        if groups and (not is_called or isinstance(modules[name], nn.modules.batchnorm._NormBase)):
            groups[-1].append(name)
        else:
            groups.append([name])
    groups.reverse()
    if len(groups) <= stages:
        return groups
    ends = [round(len(groups) * (place + 1) / stages) for place in range(stages)]
    starts = [0, *ends[:-1]]
    return [list(chain(*groups[start:end])) for start, end in zip(starts, ends, strict=True)]


@torch.no_grad()
def _by_first_call(model: nn.Module, modules: Mapping[str, nn.Module], image: Tensor) -> list[tuple[str, bool]]:
    """Return the names of `modules` in the order of their first calls, and whether there was one."""
    network, calls = Network(model), dict[str, int]()

    def note_call(name: str, *_: object) -> None:
        calls.setdefault(name, len(calls))

    with network.prepared(image), ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(partial(note_call, name)).remove)
        network(image)
    places, before = {}, -1
    for name in modules:
        before = places[name] = calls.get(name, before)
    return [(name, name in calls) for name in sorted(modules, key=places.__getitem__)]


@torch.no_grad()
def require_random(network: nn.Module, trained: nn.Module, images: Tensor) -> None:
    """Raise `InputError` if a network with random weights still uses trained ones for the logits of `images`.

    A buffer, or a tensor that is no parameter, may be a constant, such as a filter that blurs: it counts as trained if
    most values that linear layers and convolutions multiply are of such tensors.
    """
    random: set[int] = {id(weight) for weight in network.parameters()}
    others: list[nn.Parameter] = []
    no_parameters = [*network.buffers(), *_plain_tensors(network)]
    constants = {tensor.untyped_storage().data_ptr(): tensor for tensor in no_parameters}  # kept, so none is new
    multiplied: dict[int, int] = {}

    def watch(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        others.extend(value for value in tensors if isinstance(value, nn.Parameter) and id(value) not in random)
        if function.__name__.strip("_") in MULTIPLYING:
            sizes = {
                value.untyped_storage().data_ptr(): value.numel() for value in tensors if value.is_floating_point()
            }
            multiplied.update({place: size for place, size in sizes.items() if place in constants})
        return function(*args, **kwargs)

    with nothing_compiled():
        with FunctionCalls(watch):
            logits = network(images)
        is_same = torch.equal(logits, trained(images))
    if is_same:
        raise InputError(
            "the network's weights can't be made random: a copy with random weights gives the same logits. Perhaps its "
            "forward pass is a function that holds the network itself"
        )
    if others:
        raise InputError(
            "some of the network's weights can't be made random, since model.parameters() lacks them: keep modules in "
            "an nn.ModuleList, not in a list, and don't replace a module's forward"
        )
    if sum(multiplied.values()) > sum(weight.numel() for weight in network.parameters()):
        raise InputError(
            "most of the network's weights are buffers or plain tensors, which can't be told from constants and don't "
            "become random: make them parameters, nn.Parameter(weight, requires_grad=False)"
        )


def _plain_tensors(model: nn.Module) -> list[Tensor]:
    """Return the tensors that are attributes of modules, and neither parameters nor buffers."""
    attributes = (value for module in model.modules() for value in vars(module).values())
    return [value for value in attributes if isinstance(value, Tensor)]


def randomise(model: nn.Module, names: Sequence[str], seed: int) -> nn.Module:
    """Return a copy with random weights in the modules `names`; the global random state stays.

    A layer draws its initial weights anew. Of weights that no layer draws, such as class tokens, position embeddings,
    the projections of `nn.MultiheadAttention`, and the weights behind a weight norm or a pruned layer, the values are
    shuffled.
    """
    computed = [value for value in _plain_tensors(model) if not value.is_leaf]  # can't be copied
    copied = copy.deepcopy(model, {id(value): value.detach().clone() for value in computed})
    with seeded(seed), torch.no_grad():
        for name in names:
            layer: Any = copied.get_submodule(name)
            before = [weight.clone() for weight in _weights(layer)]
            if hasattr(layer, "reset_parameters"):
                device = before[0].device
                layer.cpu()
                layer.reset_parameters()
                layer.to(device)
            for weight, value in zip(_weights(layer), before, strict=True):
                if torch.equal(weight, value) and bool((value != value.flatten()[0]).any()):
                    order = torch.randperm(weight.numel()).to(weight.device)
                    weight.copy_(weight.flatten()[order].view_as(weight))
        _refresh_spectral_norms(copied)
    return copied.eval()


def _refresh_spectral_norms(model: nn.Module) -> None:
    """Let spectral norms find the largest singular values of new weights, which they do in training mode alone."""
    model.eval()
    for module in model.modules():
        old = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, SpectralNorm)]
        for hook, _ in product(old, range(POWER_ITERATIONS)):
            hook.compute_weight(module, do_power_iteration=True)
        for name, steps in getattr(module, "parametrizations", {}).items():
            norms = [step.train() for step in steps if isinstance(step, _SpectralNorm)]
            for _ in range(POWER_ITERATIONS if norms else 0):
                getattr(module, name)  # computes the weight


def _weights(module: nn.Module) -> list[Tensor]:
    """Return what a module itself has learned: parameters, and all tensors of a normalisation without parameters."""
    weights: list[Tensor] = list(module.parameters(recurse=False))
    buffers = dict(module.named_buffers(recurse=False))
    is_norm = buffers.get("running_mean") is not None
    return weights or [buffer for buffer in buffers.values() if is_norm and buffer.is_floating_point()]


class Sanity(Evaluation):
    """Cascading randomisation, infidelity and maximum sensitivity of one method on one classifier."""

    name = "sanity"
    config = SanityConfig
    needs_maps = False
    lowest_first = True

    def networks(self, config: SanityConfig) -> Sequence[str]:
        return ["random_labels"] if config.random_labels else []

    def work(self, config: SanityConfig) -> Work:
        maps = 1 + config.stages + config.random_labels + config.samples
        return Work(maps=config.limit_test * maps, logits=config.limit_test * (2 + config.samples))

    def measure(
        self, config: SanityConfig, method: MethodSpec, artefacts: Artefacts, on_images: OnImages
    ) -> dict[str, Any]:
        """Return similarity at each stage, infidelity and sensitivity, as means over the images."""
        model, test = artefacts.network(), artefacts.test
        total = len(test.labels)
        generator = torch.Generator().manual_seed(seed_for(artefacts.seed, "sanity"))
        names = randomization_cascade(model, config.stages, test.images.batch(test.batches()[0][:1]))
        seed = seed_for(artefacts.seed, "random weights")
        if not names:
            raise InputError("the network has no weights of its own that could be made random")
        networks = [randomise(model, [*chain(*names[: place + 1])], seed) for place in range(len(names))]
        require_random(networks[-1], model, test.images.batch(test.batches()[0]))
        networks += [artefacts.network(name) for name in self.networks(config)]
        explainer, trained = artefacts.explainer(method, model)
        others = [artefacts.explainer(method, network)[0] for network in networks]
        sums = dict.fromkeys(("infidelity", "sensitivity", "accuracy"), 0.0)
        by_image: dict[str, list[float]] = {name: [] for name in BY_IMAGE}
        alike: dict[str, list[float]] = {name: [0.0] * len(networks) for name in ("rank", "absolute_rank", "ssim")}
        for rows in test.batches():
            batch = test.images.batch(rows).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                predicted = model(batch).argmax(dim=1)
            target = predicted if config.explain == "prediction" else test.labels[rows]
            maps = compute_maps(explainer, batch, target)
            for place, other in enumerate(others):
                for name, values in similarities(maps, compute_maps(other, batch, target)).items():
                    alike[name][place] += float(values.mean()) * len(rows) / total
                    if name in by_image and place == len(names) - 1:
                        by_image[name] += values.tolist()
            noise, cube = perturbations(batch, config, generator)
            of_batch = (
                infidelity(trained, maps, batch, target, noise),
                max_sensitivity(explainer, maps, batch, target, cube),
                predicted == test.labels[rows],
            )
            for name, values in zip(sums, of_batch, strict=True):
                sums[name] += values.double().sum().item() / total
                if name in by_image:
                    by_image[name] += values.tolist()
            on_images(len(rows))
        result: dict[str, Any] = {"stages": names, **sums, "test_images": total, "chance": chance_of(test.labels.cpu())}
        result["ssim_window"] = window_size(*batch.shape[2:])
        if config.random_labels:
            result["random_labels"] = {name: values.pop() for name, values in alike.items()}
        if config.by_image:
            result |= {f"image_{name}": np.round(values, DIGITS).tolist() for name, values in by_image.items()}
        return result | alike


def with_random_labels(dataset: Dataset, seed: int) -> Dataset:
    """Return the data set with shuffled training labels."""
    labels = np.random.default_rng(seed_for(seed, "random labels")).permutation(dataset.train.labels)
    return replace(dataset, train=replace(dataset.train, labels=labels))


def similarities(maps: Tensor, others: Tensor) -> dict[str, Any]:
    """Return values (N,); maps are summed over the channels, SSIM is of their absolute values from 0 to 1."""
    require_images(len(maps))
    first, second = maps.sum(dim=1, keepdim=True), others.sum(dim=1, keepdim=True)
    images = rescale(first.abs()), rescale(second.abs())
    return {
        "rank": rank_correlation(first, second),
        "absolute_rank": rank_correlation(first.abs(), second.abs()),
        "ssim": structural_similarity(*images),
    }


def perturbations(batch: Tensor, config: SanityConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sample normal ones for infidelity, uniform ones in a cube for sensitivity: (S, N, C, H, W) each, on the CPU."""
    shape = (config.samples, *batch.shape)
    noise = torch.randn(shape, generator=generator) * config.noise
    cube = (2 * torch.rand(shape, generator=generator) - 1) * config.radius
    return noise.to(batch.device), cube.to(batch.device)
