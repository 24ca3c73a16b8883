"""A network that explains faster: the same function with batch norm folded into the convolutions."""

import copy
from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn
from torch.fx import GraphModule, Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

from attribution.image_convolution import hasten


def folded(model: nn.Module) -> nn.Module:
    """A copy of `model` for explaining: batch norm folded where it is safe, channels_last, no parameter gradients.

    A batch norm in evaluation mode that alone reads a convolution's output is folded into the convolution and
    becomes the identity; modules keep their names. What reads what is asked of `torch.fx`; a network that it can't
    trace stays unfolded. The way back through the first convolution is another one (`image_convolution`). The logits
    are the same but for rounding, and so are the maps of all methods, except those
    of GC and CO for a `layer=` that is such a convolution.
    """
    copied = copy.deepcopy(model).requires_grad_(False).to(memory_format=torch.channels_last)
    for convolution_name, norm_name in list(_foldable_pairs(copied)):
        convolution, norm = (copied.get_submodule(name) for name in (convolution_name, norm_name))
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        copied.set_submodule(convolution_name, fuse_conv_bn_eval(convolution, norm).requires_grad_(False))
        copied.set_submodule(norm_name, nn.Identity())
    hasten(copied)
    return copied


def _foldable_pairs(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of convolutions and of the batch norms that each alone read their output."""
    graph = _traced(model)
    if graph is None:
        return
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    parameters = [str(node.target) for node in graph.graph.nodes if node.op == "get_attr"]
    modules = dict(model.named_modules())
    for node in graph.graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        pair = str(before.target), str(node.target)
        used_once = all(calls[name] == 1 for name in pair)
        read_elsewhere = any(name.startswith(f"{module}.") for name in parameters for module in pair)
        if used_once and not read_elsewhere and _fit(modules[pair[0]], modules[pair[1]]):
            yield pair


def _traced(model: nn.Module) -> GraphModule | None:
    try:
        return symbolic_trace(model)
    except Exception:  # whatever a user's forward pass raises when it is given proxies
        return None


def _fit(convolution: nn.Module, norm: nn.Module) -> bool:
    """Whether the two are what they seem: no subclass, reparametrisation or hook, and statistics that stand still."""
    return (
        type(convolution) is nn.Conv2d
        and type(norm) is nn.BatchNorm2d
        and norm.running_mean is not None
        and not (convolution.training or norm.training)
        and not any(
            hooks
            for module in (convolution, norm)
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        )
    )
