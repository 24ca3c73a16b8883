"""Reading a layer's activation during a forward pass, and finding the layer that Grad-CAM looks at.

A layer is a call: of a module, which may be used several times, or of a function such as `F.relu`, which is no module.
It gives a feature map (N, C, h, w), a map with its channels last (N, h, w, C), or a sequence of tokens (N, T, C) whose
grid is the image's, perhaps behind class and register tokens. All are brought to (N, C, h, w).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attribution.network import Network, uncompiled
from common.errors import InputError

Reshape = Callable[[Tensor], Tensor]

POOLING = {
    *("max_pool2d", "max_pool2d_with_indices", "avg_pool2d", "lp_pool2d", "fractional_max_pool2d"),
    *("adaptive_avg_pool2d", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices", "boolean_dispatch"),
    *("mean", "sum", "amax", "max", "logsumexp"),
}
MOVING = {  # the same values elsewhere
    *("__getitem__", "chunk", "clone", "contiguous", "detach", "expand", "flatten", "flip", "movedim", "narrow", "pad"),
    *("permute", "reshape", "roll", "select", "split", "squeeze", "swapaxes", "t", "to", "transpose", "type_as"),
    *("unflatten", "unfold", "unsqueeze", "view", "view_as", "float", "interpolate", "upsample", "dropout"),
}
ATTENTION = {"scaled_dot_product_attention", "multi_head_attention_forward"}
CONVOLUTIONS = {"conv2d", "_conv_forward"}
NORMALISED = ("layer_norm", "rms_norm")
LARGEST_STRETCH = 2.5  # of a grid's width to height beside the image's: strides may differ, heads × tokens do more


@dataclass(frozen=True)
class Layer:
    """One call whose output is an activation.

    Attributes:
        name: for messages.
        module: whose call it is; None for a call of a function.
        call: which call of the module, or of all functions, counted from 0.
        to_map: brings the output to (N, C, h, w).
    """

    name: str
    module: nn.Module | None
    call: int
    to_map: Reshape = field(compare=False)


class Captured:
    """Where `capture` puts the activation."""

    activation: Tensor


@contextmanager
def capture(layer: Layer, from_here: bool = False) -> Iterator[Captured]:
    """Hold the activation of `layer` during a forward pass in the `with` block.

    The network goes on with a copy, so that a following in-place operation leaves the captured tensor as it was.

    Args:
        from_here: detach the activation and make it a leaf, so that gradients stop there.
    """
    captured = Captured()

    def hold(output: Tensor) -> Tensor:
        captured.activation = output.detach().requires_grad_() if from_here else output
        return captured.activation.clone()

    if layer.module is None:
        with _FunctionHook(layer.call, hold):
            yield captured
        return
    calls = 0

    def hook(_module: nn.Module, _arguments: object, output: Any) -> Any:
        nonlocal calls
        calls += 1
        return _replaced(output, hold) if calls == layer.call + 1 else None

    handle = layer.module.register_forward_hook(hook)
    try:
        yield captured
    finally:
        handle.remove()


def _replaced(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`output` with its first tensor changed, where it is a tensor or a tuple of several things."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        parts = (change(output[0]), *output[1:])
        return type(output)(*parts) if hasattr(output, "_fields") else parts
    return None


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, tuple) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


class _FunctionHook(TorchFunctionMode):
    """Changes the output of one call among all calls of PyTorch's functions that return a tensor."""

    def __init__(self, call: int, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.left, self.change = call, change

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor):
            self.left -= 1
            return self.change(output) if self.left == -1 else output
        return output


@dataclass
class _Call:
    """What was called in a forward pass: a function, or else a module."""

    name: str
    output: Tensor
    number: int
    module: nn.Module | None = None


class _Recorder(TorchFunctionMode):
    """Notes the calls of functions and modules that return a tensor, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.functions = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").split(".")[0]
        if isinstance(output, Tensor):
            self.calls.append(_Call(name if name in MOVING else name.rstrip("_"), output, self.functions))
            self.functions += 1
        elif name in ATTENTION:
            self.calls.append(_Call(name, output[0], self.functions))
        return output

    @contextmanager
    def recording(self, network: Network) -> Iterator[None]:
        numbers: dict[nn.Module, int] = {}

        def note(module: nn.Module, _arguments: object, output: Any) -> None:
            number = numbers[module] = numbers.get(module, -1) + 1
            tensor = _first_tensor(output)
            if tensor is not None:
                self.calls.append(_Call(type(module).__name__, tensor, number, module))

        with ExitStack() as hooks:
            for module in network.modules().values():
                hooks.callback(module.register_forward_hook(note).remove)
            with self:
                yield


@torch.enable_grad()
def find_layer(
    network: Network, inputs: Tensor, layer: str | nn.Module | None = None, reshape: Reshape | None = None
) -> Layer:
    """Return the call whose activation Grad-CAM looks at in `network`.

    By default this is, of a network that names its own `layers`, the last of them; of one with self-attention, the
    layer norm before the last attention; and of any other the last feature map before any pooling through which all
    that the logits know of the image goes, and that is no map of the class scores themselves.

    Args:
        inputs: (N, C, H, W); one image is enough.
        layer: the name of a module, or the module, instead. Of several calls the last one that gives a map.
        reshape: brings the layer's output to (N, C, h, w) in an unusual way.

    Raises:
        InputError: no such module, one that gives no map, or a network without a layer that could be explained.
    """
    pair = torch.cat([inputs[:1], 1 - inputs[:1]]).detach()
    if inputs.ndim != 4:
        raise InputError(f"a layer's map is laid over images (N, C, H, W), and inputs {tuple(inputs.shape)} are given")
    recorder, images = _Recorder(), pair.clone().requires_grad_().clone()  # no leaf: a network may change it in place
    with recorder.recording(network):
        network(images)
    search = _Search(network, pair, recorder.calls, reshape)
    declared = getattr(network.module, "layers", None) if layer is None else None
    if isinstance(declared, tuple) and declared and all(isinstance(name, str) for name in declared):
        layer = declared[-1]
    return search.default() if layer is None else search.of_module(layer)


class _Search:
    """The calls of one forward pass of two images, and which of them gives a map."""

    def __init__(self, network: Network, pair: Tensor, calls: list[_Call], reshape: Reshape | None) -> None:
        self.network, self.pair, self.calls, self.reshape = network, pair, calls, reshape
        self.names = {part: name for name, part in network.modules().items()}
        self.image_size = (pair.shape[2], pair.shape[3])
        self.grids = [
            (int(call.output.shape[2]), int(call.output.shape[3]))
            for call in calls
            if call.name in CONVOLUTIONS and call.output.ndim == 4 and len(call.output) == 2
        ]

    def of_module(self, layer: str | nn.Module) -> Layer:
        """The last call of a module that gives a map."""
        module = layer_named(self.network, layer) if isinstance(layer, str) else uncompiled(layer)
        if module not in self.names:
            raise InputError(f"layer {type(layer).__name__} is no module of the network: give one of it, or its name")
        name = self.names[module]
        called = [call for call in self.calls if call.module is module]
        if not called:
            raise InputError(f"layer {name!r} is not called in a forward pass, or returns no tensor: choose another")
        for call in reversed(called):
            to_map = self.to_map(call)
            if to_map is not None:
                found = Layer(name, module, call.number, to_map)
                self.require_gradient(found)
                return found
        shape = tuple(called[-1].output.shape)
        raise InputError(
            f"layer {name!r} gives no feature map (images, channels, height, width) and no tokens on a grid: its "
            f"output for 2 images is {shape}; choose another layer, or give reshape="
        )

    def default(self) -> Layer:
        found = self.before_last_attention() or self.bottleneck()
        if found is None:
            raise InputError(
                "the network has no feature map that all paths from the image to the logits go through, so that no "
                "layer is Grad-CAM's by itself: give layer="
            )
        return found

    def before_last_attention(self) -> Layer | None:
        attention = [place for place, call in enumerate(self.calls) if is_attention(call)]
        if not attention:
            return None
        norms = [call for call in self.calls[: attention[-1]] if is_norm(call)]
        tokens = {call.output.shape[1] for call in norms if call.output.ndim == 3}
        for call in reversed(norms):
            of_heads = call.output.ndim == 4 and call.output.shape[2] in tokens  # (N, heads, T, d)
            to_map = None if of_heads else self.to_map(call, channels_last=True)
            if to_map is not None:
                return self.layer_of(call, to_map)
        return None

    def bottleneck(self) -> Layer | None:
        for call in reversed(self.calls):
            if call.module is not None or call.name in POOLING or call.name in MOVING:
                continue
            to_map = self.to_map(call)
            if to_map is None:
                continue
            found = self.layer_of(call, to_map)
            if self.is_bottleneck(found) and not self.is_class_scores(found):
                return found
        return None

    def layer_of(self, call: _Call, to_map: Reshape) -> Layer:
        """As a call of the outermost module that returns the very output, where there is one: it has a name."""
        place = next(place for place, other in enumerate(self.calls) if other is call)
        for other in self.calls[place + 1 :]:
            if other.module is None or other.output is not call.output:
                break
            call = other
        name = self.names.get(call.module) if call.module is not None else None
        return Layer(name or f"call {call.number} of a function, {call.name}", call.module, call.number, to_map)

    def to_map(self, call: _Call, channels_last: bool = False) -> Reshape | None:
        """How to bring the output of `call` to (N, C, h, w); None if it is no map.

        Args:
            channels_last: take a four-dimensional output for (N, h, w, C).
        """
        output = call.output
        if not output.is_floating_point() or len(output) != len(self.pair):
            return None
        if self.reshape is not None:
            reshaped = self.reshape(output.detach())
            fits = isinstance(reshaped, Tensor) and reshaped.ndim == 4 and len(reshaped) == len(output)
            return self.reshape if fits else None
        if output.ndim == 4:
            first, second, third = output.shape[1:]
            if (
                first * second > 1
                and self.is_grid(first, second)
                and (channels_last or not self.is_grid(second, third))
            ):
                return lambda one: one.permute(0, 3, 1, 2)
            is_map = not channels_last and second * third > 1 and self.is_grid(second, third)
            return (lambda one: one) if is_map and not is_distribution(output) else None
        return self.tokens_to_map(output.shape[1]) if output.ndim == 3 else None

    def is_grid(self, height: int, width: int) -> bool:
        """Whether positions of that number can lie over the image: no more than its pixels, and of its proportions."""
        rows, columns = self.image_size
        stretch = (height / rows) / (width / columns)
        near = abs(height - width * rows / columns) <= 1 or 1 / LARGEST_STRETCH <= stretch <= LARGEST_STRETCH
        return near and height <= 2 * rows and width <= 2 * columns

    def tokens_to_map(self, tokens: int) -> Reshape | None:
        """The grid of the patches is that of a convolution before, else the image's proportions; behind it in number,
        and before it in place, are class and register tokens.
        """
        rows, columns = self.image_size
        by_proportion = (
            (round((left * rows / columns) ** 0.5), left) for left in range(tokens, max(0, tokens - 9), -1)
        )
        squares = [(height, left // height) for height, left in by_proportion if height and left % height == 0]
        known = self.grids or [grid for grid in squares if abs(grid[0] / grid[1] - rows / columns) < 0.01]
        fitting = [(h, w) for h, w in known if h * w > 1 and 0 <= tokens - h * w <= MOST_PREFIX_TOKENS]
        if not fitting:
            return None
        height, width = max(fitting, key=lambda grid: grid[0] * grid[1])
        prefix = tokens - height * width
        return lambda one: one[:, prefix:].transpose(1, 2).unflatten(2, (height, width))

    def is_bottleneck(self, layer: Layer) -> bool:
        """Whether the logits know of the image through this activation alone."""
        leaf = self.pair.clone().requires_grad_()
        images = leaf.clone()
        with capture(layer, from_here=True) as captured:
            logits = self.network(images)
        if not logits.requires_grad or not hasattr(captured, "activation"):
            return False
        wanted = (leaf, captured.activation)
        of_leaf, of_activation = torch.autograd.grad(logits.sum(), wanted, allow_unused=True)
        return of_leaf is None and of_activation is not None

    def is_class_scores(self, layer: Layer) -> bool:
        """Whether each logit depends on a channel of its own: a 1×1 convolution with pooling as the head."""
        images = self.pair.clone()
        with capture(layer, from_here=True) as captured:
            logits = self.network(images)
        if layer.to_map(captured.activation).shape[1] != logits.shape[1]:
            return False
        own = []
        for label in {0, logits.shape[1] - 1}:
            (gradient,) = torch.autograd.grad(logits[:, label].sum(), captured.activation, retain_graph=True)
            used = layer.to_map(gradient).abs().amax(dim=(0, 2, 3)) > 0
            own.append(not used.any() or (bool(used[label]) and int(used.sum()) == 1))
        return all(own)

    def require_gradient(self, layer: Layer) -> None:
        """Refuse tokens of which the logits read the class token alone: their map would be empty."""
        images = self.pair.clone()
        with capture(layer, from_here=True) as captured:
            logits = self.network(images)
        weights = torch.linspace(1, 2, logits.shape[1], dtype=logits.dtype, device=logits.device)
        if not logits.requires_grad or not hasattr(captured, "activation"):
            return
        (gradient,) = torch.autograd.grad((logits * weights).sum(), captured.activation, allow_unused=True)
        if gradient is not None and gradient.any() and not layer.to_map(gradient).any():
            raise InputError(
                f"after layer {layer.name!r} the logits read the class token alone, so that its map would be empty: "
                "choose an earlier one, such as the norm before the last attention"
            )


MOST_PREFIX_TOKENS = 16  # class, distillation and register tokens


def is_attention(call: _Call) -> bool:
    """A call that attends from tokens to tokens: PyTorch's own, or a softmax over the rows of a square matrix."""
    if call.name in ATTENTION:
        return True
    shape = call.output.shape
    return call.module is None and call.name == "softmax" and call.output.ndim >= 3 and shape[-1] == shape[-2] > 1


def is_norm(call: _Call) -> bool:
    return call.name in NORMALISED or (call.module is not None and "norm" in call.name.lower())


def is_distribution(output: Tensor) -> bool:
    """Whether each row sums to 1, as attention weights do."""
    with torch.no_grad():
        return bool((output >= 0).all()) and bool(torch.allclose(output.sum(-1), torch.ones_like(output[..., 0])))


def layer_named(network: Network, name: str) -> nn.Module:
    """The module called `name` in the network.

    Raises:
        InputError: there is none.
    """
    known = network.modules()
    if name not in known:
        raise InputError(f"the network has no layer {name!r}: choose from {', '.join(known)}")
    return uncompiled(known[name])
