"""Finding the layer whose activation Grad-CAM explains."""

from typing import cast

import torch
from torch import Tensor, nn

from attribution.capture import ATTENTION, MOVING, Call, Layer, capture, record_calls
from attribution.feature_maps import Reshape
from attribution.function_calls import MULTIPLYING
from attribution.map_axes import CONVOLUTIONS, NORMS, find_axes, find_layout
from attribution.network import Network, gradients, uncompiled
from common.errors import InputError

ROUNDING = 1e-4  # relative to the largest gradient
NO_NORMS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)
POOLING = {
    *("max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "lp_pool2d", "fractional_max_pool2d"),
    *("adaptive_avg_pool2d", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices", "boolean_dispatch"),
    *("mean", "sum", "amax", "max", "logsumexp"),
}


@torch.enable_grad()
def find_layer(
    network: Network, inputs: Tensor, layer: str | nn.Module | None = None, reshape: Reshape | None = None
) -> Layer:
    """Return the call in `network` whose activation Grad-CAM explains.

    By default this is the last of the network's own `layers`, where it names them; with self-attention in the last
    stage, the norm before the last attention, if that reads nothing else; and otherwise the last feature map before any
    pooling on which alone the logits depend, from which they read more than a class token, and which is no map of the
    class scores.

    Args:
        inputs: (N, C, H, W); one image is enough.
        layer: a module or its name, to take the last of its calls that returns a map.
        reshape: brings the layer's output to (N, C, h, w) in an unusual way.

    Raises:
        InputError: no such module, one that returns no map, or a network without such a layer.
    """
    if inputs.ndim != 4:
        raise InputError(f"a layer's map needs images (N, C, H, W), and inputs {tuple(inputs.shape)} are given")
    key, is_usual = ("layer", inputs.shape[1:]), layer is None and reshape is None
    if is_usual and key in network.memo:
        return cast(Layer, network.memo[key])
    search = _Search(network, torch.cat([inputs[:1], 1 - inputs[:1]]).detach(), reshape)
    layers = getattr(network.module, "layers", None)
    if layer is None and isinstance(layers, tuple) and layers and all(isinstance(name, str) for name in layers):
        layer = layers[-1]
    result = search.default() if layer is None else search.of_module(layer)
    if is_usual:
        network.memo[key] = result
    return result


def find_module(network: Network, name: str) -> nn.Module:
    """Return the module called `name` in the network; raise `InputError` if there is none."""
    modules = network.modules()
    if name not in modules:
        raise InputError(f"the network has no layer {name!r}: choose from {', '.join(modules)}")
    return uncompiled(modules[name])


class _Search:
    """The search among the calls of one forward pass of two images."""

    def __init__(self, network: Network, pair: Tensor, reshape: Reshape | None) -> None:
        self.network, self.pair = network, pair
        self.names = {module: name for name, module in network.modules().items()}
        self.calls = record_calls(network, pair.clone().requires_grad_())
        self.layout, self.axes = find_layout(self.calls, pair, reshape), find_axes(self.calls)
        weighted = (place for place, call in enumerate(self.calls) if call.name.strip("_") in MULTIPLYING)
        first = next(weighted, len(self.calls))
        self.learned = self.calls[first:]  # before, there are the images, normalised perhaps

    def to_map(self, call: Call) -> Reshape | None:
        is_of_images = call.output.is_floating_point() and len(call.output) == len(self.pair)
        return self.layout.to_map(call.output, self.axes.get(call)) if is_of_images else None

    def of_module(self, layer: str | nn.Module) -> Layer:
        """Return the last call of a module that returns a map."""
        module = find_module(self.network, layer) if isinstance(layer, str) else uncompiled(layer)
        if module not in self.names:
            raise InputError(f"layer {type(layer).__name__} is no module of the network: give one of it, or its name")
        name = self.names[module]
        calls = [call for call in self.calls if call.module is module]
        if not calls:
            raise InputError(f"layer {name!r} is not called in a forward pass, or returns no tensor: choose another")
        for call in reversed(calls):
            to_map = self.to_map(call)
            if to_map is not None:
                result = Layer(name, module, call.number, call.total, to_map)
                self.require_gradient(result)
                return result
        raise InputError(
            f"layer {name!r} gives no feature map (images, channels, height, width) and no tokens on a grid: its "
            f"output for 2 images is {tuple(calls[-1].output.shape)}; choose another layer, or give reshape="
        )

    def default(self) -> Layer:
        layer = self.before_last_attention() or self.bottleneck()
        if layer is None:
            raise InputError(
                "the network has no feature map that all paths from the image to the logits go through, so that no "
                "layer is Grad-CAM's by itself: give layer="
            )
        return layer

    def before_last_attention(self) -> Layer | None:
        attention = [place for place, call in enumerate(self.calls) if is_attention(call) and call.output.requires_grad]
        before = self.calls[: attention[-1] if attention else 0]
        norms = [call for call in before if is_norm(call) and call in self.learned]
        tokens = {call.output.shape[1] for call in norms if call.output.ndim == 3}
        for call in reversed(norms):
            is_of_heads = call.output.ndim == 4 and call.output.shape[2] in tokens  # (N, heads, T, d)
            to_map = None if is_of_heads else self.to_map(call)
            if to_map is not None:
                layer, rest = self.layer_of(call, to_map), self.calls[attention[-1] :]
                if any(is_smaller_map(later, to_map(call.output)) for later in rest):
                    return None  # the attention is in an earlier stage
                return layer if self.is_read_alone(layer, rest[0]) and self.is_on_all_paths(call) else None
        return None

    def bottleneck(self) -> Layer | None:
        moved: tuple[Call, Reshape] | None = None  # a map that was moved from what is none, such as windows
        for call in reversed(self.learned):
            if call.module is not None:
                continue
            to_map = None if call.name in POOLING else self.to_map(call)
            if call.name in MOVING:
                moved = moved or (None if to_map is None else (call, to_map))
                continue
            candidate = moved if to_map is None else (call, to_map)
            moved = None
            if candidate is None or call.name in POOLING:
                continue
            layer = self.layer_of(*candidate)
            if self.is_bottleneck(layer) and not self.is_class_scores(layer):
                return layer
            if call.output is call.input:
                self.require_read(layer, call)
        return None

    def layer_of(self, call: Call, to_map: Reshape) -> Layer:
        """Return the call of the outermost module that returns the same tensor, or else `call` itself."""
        for other in self.calls[self.calls.index(call) + 1 :]:
            if other.module is None or other.output is not call.output:
                break
            call = other
        name = self.names.get(call.module) if call.module is not None else None
        name = name or f"call {call.number} of a function, {call.name}"
        return Layer(name, call.module, call.number, call.total, to_map)

    def captured(self, layer: Layer, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the activation of `layer`, a leaf, or None if it was not called, and the logits."""
        with capture(layer, from_here=True) as captured:
            logits = self.network(images)
        return captured.activation, logits

    def is_read_alone(self, layer: Layer, attention: Call) -> bool:
        """Return whether the call `attention` depends on the image through this activation alone."""
        leaf = self.pair.clone().requires_grad_()
        with capture(layer, from_here=True):
            calls = record_calls(self.network, leaf)
        number = list(filter(is_attention, self.calls)).index(attention)
        output = list(filter(is_attention, calls))[number].output
        return not output.requires_grad or gradients(output.sum(), leaf)[0] is None

    def is_on_all_paths(self, norm: Call) -> bool:
        """Return whether the logits depend on the image only through what the norm reads, as far as a call returned it.

        Of two networks whose logits are added, each has a last attention, and neither explains both.
        """
        before = reversed(self.calls[: self.calls.index(norm)])
        source = next((call for call in before if call.output is norm.input), None)
        if source is None:  # a view, perhaps of some of the channels, beside which the others go another way
            tensor = norm.input
            return not isinstance(tensor, Tensor) or tensor._base is None or tensor._base.numel() == tensor.numel()
        leaf = self.pair.clone().requires_grad_()
        _activation, logits = self.captured(self.layer_of(source, lambda tokens: tokens), leaf)
        return not logits.requires_grad or gradients(weighted_sum(logits), leaf)[0] is None

    def is_bottleneck(self, layer: Layer) -> bool:
        """Return whether the logits depend on the image through this activation alone, and not on a class token."""
        leaf = self.pair.clone().requires_grad_()
        activation, logits = self.captured(layer, leaf)
        if not logits.requires_grad or activation is None:
            return False
        of_leaf, of_activation = gradients(weighted_sum(logits), leaf, activation)
        if of_leaf is not None or of_activation is None:
            return False
        return bool(layer.to_map(of_activation).any()) or not of_activation.any()

    def require_read(self, layer: Layer, call: Call) -> None:
        """Refuse a call in place with whose input the network goes on, where what it returns can't be followed."""
        before = reversed(self.calls[: self.calls.index(call)])
        source = next((other for other in before if other.output is call.input), None)
        if source is None:
            return
        for place in (layer, self.layer_of(source, lambda tokens: tokens)):
            activation, logits = self.captured(place, self.pair)
            is_read = False
            if activation is not None and logits.requires_grad:
                is_read = gradients(weighted_sum(logits), activation)[0] is not None
            if is_read == (place is layer):
                return
        raise InputError(
            f"the network goes on with the input of {layer.name}, which changed it in place, and not with what it "
            "returned: write x = relu(x) in the place of relu(x), or give layer="
        )

    def is_class_scores(self, layer: Layer) -> bool:
        """Return whether each logit depends on its own channel alone, as behind a 1×1 convolution with pooling."""
        activation, logits = self.captured(layer, self.pair)
        assert activation is not None
        if layer.to_map(activation).shape[1] != logits.shape[1]:
            return False

        def channels_used(score: Tensor) -> set[int]:
            (gradient,) = gradients(score.sum(), activation, retain_graph=True)
            if gradient is None:  # a constant logit
                return set()
            strength = layer.to_map(gradient).abs().amax(dim=(0, 2, 3))
            return set((strength > ROUNDING * strength.max()).nonzero().flatten().tolist())

        last = logits.shape[1] - 1
        if all(channels_used(logits[:, label]) <= {label} for label in (0, last)):
            return True
        pairs = ((0, last), (1, last)) if last > 1 else ()  # a log-softmax shifts all logits alike
        return bool(pairs) and all(channels_used(logits[:, a] - logits[:, b]) == {a, b} for a, b in pairs)

    def require_gradient(self, layer: Layer) -> None:
        """Refuse tokens of which the logits read the class token alone: their map would be empty."""
        activation, logits = self.captured(layer, self.pair)
        if not logits.requires_grad or activation is None:
            return
        (gradient,) = gradients(weighted_sum(logits), activation)
        if gradient is not None and gradient.any() and not layer.to_map(gradient).any():
            raise InputError(
                f"after layer {layer.name!r} the logits read the class token alone, so that its map would be empty: "
                "choose an earlier one, such as the norm before the last attention"
            )


def weighted_sum(logits: Tensor) -> Tensor:
    """Return a sum of all logits in which classes don't cancel, as they may behind a centred head."""
    return (logits * torch.linspace(1, 2, logits.shape[1], dtype=logits.dtype, device=logits.device)).sum()


def is_attention(call: Call) -> bool:
    """Return whether a call attends from tokens to tokens: PyTorch's own, or a softmax of square matrices' rows."""
    if call.name in ATTENTION:
        return True
    shape = call.output.shape
    return call.module is None and call.name == "softmax" and call.output.ndim >= 3 and shape[-1] == shape[-2] > 1


def is_smaller_map(call: Call, of_attention: Tensor) -> bool:
    """Return whether a convolution returns a map of fewer positions than one (N, C, h, w), and of more than one."""
    size, output = of_attention.shape[2:].numel(), call.output
    return call.name in CONVOLUTIONS and output.ndim == 4 and 1 < output.shape[2:].numel() < size


def is_norm(call: Call) -> bool:
    """Return whether a call normalises and does nothing else; batch norms, which may be fused away, don't count."""
    if call.module is None or "norm" not in call.name.lower():
        return call.name in NORMS
    return not any(isinstance(part, NO_NORMS) for part in call.module.modules())
