"""A faster network for explaining: the same function with batch norms fused into the convolutions before them."""

import copy
from collections import Counter
from collections.abc import Iterator
from weakref import WeakSet

import torch
from torch import nn
from torch.fx import Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

from attribution.image_convolution import use_fast_input_gradient

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

_fused: WeakSet[nn.Module] = WeakSet()


def fuse_batchnorm(model: nn.Module) -> nn.Module:
    """Return a copy of `model` for explaining: batch norms fused where that is safe, channels_last, weights frozen.

    A batch norm in evaluation mode that alone reads a convolution's output becomes a part of the convolution, and an
    identity takes its place; a network that `torch.fx` can't trace keeps its batch norms. The first convolution gets a
    faster gradient (`image_convolution`). Logits and maps are equal up to rounding, except the maps of GC and CO for a
    `layer=` that is such a convolution.
    """
    fused = copy.deepcopy(model).requires_grad_(False).to(memory_format=torch.channels_last)
    for convolution_name, norm_name in list(fusible_pairs(fused)):
        convolution, norm = fused.get_submodule(convolution_name), fused.get_submodule(norm_name)
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        fused.set_submodule(convolution_name, fuse_conv_bn_eval(convolution, norm).requires_grad_(False))
        fused.set_submodule(norm_name, nn.Identity())
    use_fast_input_gradient(fused)
    _fused.add(fused)
    return fused


def is_fused(model: nn.Module) -> bool:
    """Return whether `fuse_batchnorm` made `model`."""
    return model in _fused


def has_hooks(module: nn.Module) -> bool:
    """Return whether hooks are registered on `module` itself."""
    return any(getattr(module, hooks) for hooks in HOOKS)


def fusible_pairs(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of a convolution and of the batch norm that alone reads its output."""
    try:
        graph = symbolic_trace(model)
    except Exception:  # a user's forward pass may raise anything when its input is a proxy
        return
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    parameters = [str(node.target) for node in graph.graph.nodes if node.op == "get_attr"]
    modules = dict(model.named_modules())
    for node in graph.graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        pair = str(before.target), str(node.target)
        is_called_once = all(calls[name] == 1 for name in pair)
        is_read_elsewhere = any(name.startswith(f"{module}.") for name in parameters for module in pair)
        if is_called_once and not is_read_elsewhere and _are_plain(modules[pair[0]], modules[pair[1]]):
            yield pair


def _are_plain(convolution: nn.Module, norm: nn.Module) -> bool:
    """Return whether both are PyTorch's own classes in evaluation mode, without hooks, and with running statistics."""
    return (
        type(convolution) is nn.Conv2d
        and type(norm) is nn.BatchNorm2d
        and norm.running_mean is not None
        and not any(module.training or has_hooks(module) for module in (convolution, norm))
    )
