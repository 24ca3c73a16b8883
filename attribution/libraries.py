"""Methods by the names that other libraries give them: `zennit:EpsilonPlusFlat`, `pytorch_grad_cam:LayerCAM`, …

An adapter makes of a library's class a function that is called with a network, and returns a function of inputs and
target that calls the library as its own documentation does. `attribution.custom` finds the layers, and leaves the
network as it was.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, redirect_stderr
from dataclasses import dataclass, replace
from inspect import Parameter
from io import StringIO
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attribution.backward_relu import OTHER_RECTIFIERS
from attribution.capture import Call, record_calls
from attribution.function_calls import SCRIPTED, FunctionCalls
from attribution.fusing import fusible_pairs
from attribution.layers import is_attention
from attribution.network import Network, near
from attribution.signature import MethodSignature, Signature
from attribution.zennit_rules import share_relevance
from common.errors import InputError

Attribute = Callable[..., Any]
Construction = tuple[Callable[..., Any], MethodSignature]

SHOWN = 8  # names in a message
# Explained image by image: those that need much memory, scale maps over the batch, or take an eigenvector, whose sign
# may turn by rounding.
SINGLE = {
    "AblationCAM",
    "EigenCAM",
    "EigenGradCAM",
    "FullGrad",
    "ISCAM",
    "KPCA_CAM",
    "SSCAM",
    "ScoreCAM",
    "SegEigenCAM",
}
OF_RELU_MODULES = {  # methods with rules for nn.ReLU alone, and ours in their place
    "DeconvNet": "DeconvNet",
    "Deconvolution": "DeconvNet",
    "GuidedBackprop": "GB",
    "GuidedGradCam": "GB-GC",
    "DeepLift": "IG",
    "DeepLiftShap": "IG",
}


def of_zennit(place: str, kind: Any) -> Construction:
    """Propagate a relevance of 1 for the target and 0 for the other classes by one of zennit's composites.

    The composite's `canonizers` are by default those that merge batch norms where that is safe. Its rules for sums and
    averages hold where functions compute them, too, see `share_relevance`: zennit sees modules alone.
    """

    def build(model: nn.Module, canonizers: Sequence[Any] | None = None, **arguments: Any) -> Attribute:
        from zennit.canonizers import NamedMergeBatchNorm
        from zennit.layer import Sum

        pairs = [([convolution], norm) for convolution, norm in fusible_pairs(model)]
        used = [NamedMergeBatchNorm(pairs)] if canonizers is None else list(canonizers)
        checked: list[bool] = []

        def attribute(inputs: Tensor, target: Tensor) -> Tensor:
            logits = None if checked else require_rules(place, model, inputs[:1])
            composite, leaf = kind(canonizers=used, **arguments), inputs.detach().requires_grad_()
            kinds = [kind for kind, _rule in getattr(composite, "layer_map", ())]
            has_rule_for_sums = any(Sum in (kind if isinstance(kind, tuple) else (kind,)) for kind in kinds)
            with composite.context(model) as network:
                with FunctionCalls(share_relevance) if has_rule_for_sums else nullcontext():
                    output = network(leaf)
                score = F.one_hot(target, output.shape[1]).to(output)
                (relevance,) = torch.autograd.grad(output, leaf, score)
            if logits is not None and not near(output[:1].detach(), logits):
                raise InputError(f"{place} can't be used: zennit's canonizers change the logits of this network")
            checked.append(True)
            return relevance

        return attribute

    return build, MethodSignature(place, Signature.of(kind, leave_out=0), None)


@torch.no_grad()
def require_relu_modules(place: str, network: Network, image: Tensor) -> None:
    """Raise `InputError` for a method with rules for nn.ReLU alone if the network calls ReLU as a function, too."""
    library, _, name = place.rpartition(":")
    if library not in ("captum.attr", "zennit") or name not in OF_RELU_MODULES:
        return
    calls = record_calls(network, image)
    _refuse_scripts(place, calls)
    functions = sum(call.module is None and call.name == "relu" for call in calls)
    modules = sum(isinstance(call.module, nn.ReLU) for call in calls)
    if functions > modules or not modules:
        raise InputError(
            f"{place} has rules for nn.ReLU alone, and the network calls ReLU as a function or not at all: "
            f"try {OF_RELU_MODULES[name]}"
        )


@torch.no_grad()
def require_rules(place: str, model: nn.Module, image: Tensor) -> Tensor:
    """Return the logits; raise `InputError` if zennit has no rules for the network's attention or rectifiers.

    ReLU needs none where it is a function: the rules of the layers behind it give no relevance to what is off.
    """
    from zennit.types import Activation

    calls = record_calls(Network(model), image)
    _refuse_scripts(place, calls)
    if any(map(is_attention, calls)):
        raise InputError(f"{place} has no rule for attention: GRAD-ROLLOUT, GC and IG explain networks with attention")
    rectifiers = [call.name for call in calls if call.module is None and call.name in OTHER_RECTIFIERS]
    if len(rectifiers) > sum(isinstance(call.module, Activation) and call.name != "ReLU" for call in calls):
        raise InputError(
            f"{place} sees no {rectifiers[0]} that is no module of torch.nn: GC and IG explain the network"
        )
    return model(image)


def _refuse_scripts(place: str, calls: Sequence[Call]) -> None:
    for call in calls:
        if call.name.startswith(SCRIPTED):
            raise InputError(f"{place} has no rule for a {call.name}: give the function before scripting")


def of_grad_cam(place: str, kind: Any) -> Construction:
    """Attribute by a class of pytorch-grad-cam, which scales each map to 0 … 1."""

    def build(model: nn.Module, target_layers: Sequence[nn.Module] = (), **arguments: Any) -> Attribute:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        def attribute(inputs: Tensor, target: Tensor, aug_smooth: bool = False, eigen_smooth: bool = False) -> Tensor:
            options = {"aug_smooth": aug_smooth, "eigen_smooth": eigen_smooth}
            options = {name: value for name, value in options.items() if value}  # not every class takes both
            with redirect_stderr(StringIO()), ExitStack() as stack:  # without progress bars
                method = kind(model, list(target_layers), **arguments)
                if hasattr(method, "__exit__"):
                    stack.callback(method.__exit__, None, None, None)  # not by `with`, which hides an IndexError
                maps = [
                    torch.from_numpy(method(images, [ClassifierOutputTarget(label) for label in labels], **options))
                    for images, labels in batches(kind, inputs, target, eigen_smooth)
                ]
            return torch.cat(maps)

        return attribute

    signature = Signature.of(kind)
    if kind.__name__ == "FullGrad":  # takes all layers with a bias
        signature = replace(
            signature, by_name={key: signature.by_name[key] for key in signature.by_name.keys() - LAYERS}
        )
    return build, MethodSignature(place, signature, Signature(SMOOTHING, False))


def of_torchcam(place: str, kind: Any) -> Construction:
    """Attribute by a class of torchcam, which scales each map to 0 … 1, and fuses the maps of several layers."""

    def build(model: nn.Module, target_layer: Any, **arguments: Any) -> Attribute:
        def attribute(inputs: Tensor, target: Tensor) -> Tensor:
            with kind(model, target_layer=target_layer, **arguments) as method:
                maps = [
                    method.fuse_cams(method(class_idx=labels, scores=model(images)))
                    for images, labels in batches(kind, inputs, target)
                ]
            return torch.cat(maps)

        return attribute

    signature = Signature.of(kind)
    layer = signature.by_name["target_layer"].replace(default=Parameter.empty)  # found here, not by torchcam
    return build, MethodSignature(place, replace(signature, by_name={**signature.by_name, "target_layer": layer}), None)


def batches(kind: Any, inputs: Tensor, target: Tensor, is_single: bool = False) -> list[tuple[Tensor, list[int]]]:
    """Cut images and classes into as many as the method `kind` can explain at once."""
    rows = 1 if is_single or kind.__name__ in SINGLE else len(inputs)
    return [(images, labels.tolist()) for images, labels in zip(inputs.split(rows), target.split(rows), strict=True)]


@dataclass(frozen=True)
class Library:
    """A library whose methods are known by name.

    Attributes:
        package: its name for pip.
        module: where its methods lie.
        adapt: returns for the class at a place what `attribution.custom.construction` returns.
        parameter: of the constructor, which tells methods from other classes; None for an `attribute`.
    """

    package: str
    module: str
    adapt: Callable[[str, Any], Construction]
    parameter: str | None = None

    def methods(self) -> dict[str, Any]:
        """Return the classes of all methods by name; raise `ImportError` without the library."""
        parts = vars(importlib.import_module(self.module)).items()
        classes = {name: kind for name, kind in parts if inspect.isclass(kind) and not name.startswith("_")}
        if self.parameter is None:
            return {name: kind for name, kind in classes.items() if hasattr(kind, "attribute")}
        return {name: kind for name, kind in classes.items() if self.parameter in inspect.signature(kind).parameters}


LAYERS = {"target_layers"}
SMOOTHING = {name: Parameter(name, Parameter.KEYWORD_ONLY, default=False) for name in ("aug_smooth", "eigen_smooth")}
LIBRARIES = {
    "captum.attr": Library("captum", "captum.attr", lambda place, kind: (kind, MethodSignature.of(place, kind))),
    "zennit": Library("zennit", "zennit.composites", of_zennit, "canonizers"),
    "pytorch_grad_cam": Library("grad-cam", "pytorch_grad_cam", of_grad_cam, "target_layers"),
    "torchcam.methods": Library("torchcam", "torchcam.methods", of_torchcam, "target_layer"),
}
"""The libraries that are known, by the part of a method's name before the colon."""


def library_of(place: str) -> Library | None:
    """Return the library whose prefix begins the name of a method; None for anything else."""
    return LIBRARIES.get(place.rpartition(":")[0])


def source_place(place: str) -> str:
    """Return the place where the code behind the name of a method lies."""
    library = library_of(place)
    return place if library is None else f"{library.module}:{place.rpartition(':')[2]}"


def library_construction(place: str, library: Library) -> Construction:
    """Return the function that makes the method at `place`, and its signature.

    Raises:
        InputError: the library isn't installed, or has no method of this name.
    """
    name = place.rpartition(":")[2]
    try:
        methods = library.methods()
    except ImportError as error:
        raise InputError(f"{place} needs {library.package}: pip install {library.package} ({error})") from error
    if name not in methods:
        some = (difflib.get_close_matches(name, methods, SHOWN, 0.6) or sorted(methods))[:SHOWN]
        raise InputError(f"{library.module} has no method {name!r}: choose from {', '.join(some)}, …")
    return library.adapt(place, methods[name])
