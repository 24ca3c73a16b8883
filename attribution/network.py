"""The network that is explained: how it is called, and whether its maps would depend on chance or on other images."""

import functools
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import InputError
from common.outputs import LogitsChoice, find_logits

Model = TypeVar("Model", bound=Callable[..., Any])

TOLERANCE = 1e-4  # relative: how far two passes of the same image may lie apart


class Network:
    """Calls somebody's network without changing it.

    Attributes:
        module: the network as a module, unwrapped where it is compiled; None for another callable.
        root: the module, or for another callable the modules behind it: its owner, or what a function refers to.
    """

    def __init__(self, model: "Callable[..., Any] | Network", logits: LogitsChoice | None = None) -> None:
        """Wrap `model`.

        Args:
            model: a module, a method of one such as `model.forward`, or any callable that maps images to logits.
            logits: which part of its output the logits are; found by itself where only one part can be.
        """
        if isinstance(model, Network):
            logits = model.choice if logits is None else logits
            model = model.call
        call: Callable[..., Any] = model
        owner = getattr(call, "__self__", None)
        if isinstance(owner, nn.Module) and getattr(call, "__name__", "") in {"forward", "__call__"}:
            call = owner
        if not callable(call) or isinstance(call, type):
            raise InputError(
                f"a network is a torch.nn.Module or a function of images, made already, not {type(call).__name__}"
            )
        self.call: Callable[..., Any] = uncompiled(call)
        self.module = self.call if isinstance(self.call, nn.Module) else None
        self.root = self.module or module_behind(self.call)
        self.choice: LogitsChoice | None = logits
        self._checked: tuple[object, ...] | None = None
        self._changing: list[tuple[nn.Module, str]] = []
        self._needs_contiguous = False
        self.classes = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        """(N, …) -> logits (N, K), computed in the precision of the network."""
        layout = torch.contiguous_format if self._needs_contiguous else torch.preserve_format
        # always one call, since calls of functions are counted (`attribution.activation`)
        return find_logits(self.call(inputs.to(self.dtype or inputs.dtype, memory_format=layout)), self.choice)

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision of the parameters; None if there are none, or several."""
        root = self.root
        found = {p.dtype for p in root.parameters() if p.is_floating_point()} if root is not None else set()
        return found.pop() if len(found) == 1 else None

    def modules(self) -> dict[str, nn.Module]:
        """The modules inside by their names, the network itself left out."""
        return {} if self.root is None else {name: part for name, part in self.root.named_modules() if name}

    @contextmanager
    def prepared(self, inputs: Tensor) -> Iterator[None]:
        """Explain `inputs` (N, …) in the `with` block.

        Nothing is compiled or fused there, so that every call is seen; afterwards all buffers are as they were.

        Raises:
            InputError: see `check`.
        """
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(unfused_attention())
            if "torch._dynamo" in sys.modules:  # otherwise nothing is compiled
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            self.check(inputs)
            before = {place: place[0]._buffers[place[1]] for place in self._changing}
            values = {place: None if held is None else held.clone() for place, held in before.items()}
            try:
                yield
            finally:
                restore_buffers(before, values)

    def check(self, inputs: Tensor) -> None:
        """Refuse a network whose output for an image depends on chance or on the other images.

        It is tried once, and again when a module of it was put into another mode.

        Args:
            inputs: (N, …), one or more.

        Raises:
            InputError: such a network, or one in training mode.
        """
        training = () if self.root is None else tuple(module.training for module in self.root.modules())
        modes = inputs.shape[1:], inputs.is_contiguous(), training
        if modes == self._checked:
            return
        if self.module is not None:
            require_evaluation_mode(self.module)
        if self.root is not None and any(parameter.is_inference() for parameter in self.root.parameters()):
            raise InputError(
                "the network was made under torch.inference_mode, so that it has no gradients: make or load it outside"
            )
        buffers = {} if self.root is None else all_buffers(self.root)
        values = {place: None if held is None else held.clone() for place, held in buffers.items()}
        versions = {place: None if held is None else held._version for place, held in buffers.items()}
        try:
            self._compare(inputs[:1].detach())
        finally:
            self._changing = [
                place
                for place, held in buffers.items()
                if place[0]._buffers.get(place[1]) is not held
                or (held is not None and held._version != versions[place])
            ]
            restore_buffers(buffers, values)
        self._checked = modes

    @torch.no_grad()
    def _compare(self, image: Tensor) -> None:
        other = 3 - 5 * image  # with other means and extremes
        pair = torch.cat([image, other])
        generators = random_generators(image.device)
        states = [read() for read, _set in generators]
        first = self._first_call(pair)
        if any(not same_state(read(), state) for (read, _set), state in zip(generators, states, strict=True)):
            for (_read, set_state), state in zip(generators, states, strict=True):
                set_state(state)
            raise InputError(
                "the network draws random numbers while it is evaluated (dropout in whatever form): its maps would "
                "depend on chance; switch that off"
            )
        self.classes = first.shape[1]
        if first.shape[0] != 2:
            raise InputError(f"the network returns {first.shape[0]} rows of logits for 2 images")
        if first[0].isnan().any():
            raise InputError("the network's logits are not finite: its maps would not be, either")
        if not near(first, self(pair.clone())):
            raise InputError("the network gives other logits for the same images each time: its maps would, too")
        if not near(first[:1], self(image.clone())) or not near(first[1:], self(other.clone())):
            raise InputError(
                "the network's logits of an image depend on the other images of the batch (a batch norm without "
                "running statistics?): its maps would, too"
            )

    def _first_call(self, images: Tensor) -> Tensor:
        """The logits, with images that lie contiguous in memory from now on if the network needs them so."""
        try:
            return self(images.clone())
        except RuntimeError:
            if images.is_contiguous():
                raise
        self._needs_contiguous = True  # for a network that reads its activations by `view`
        return self(images.clone())


def module_behind(call: Any) -> nn.Module | None:
    """The module of whose method, or the modules of which, a callable makes use; None if there are none to be seen."""
    if isinstance(call, functools.partial):
        call = call.func
    if isinstance(call, nn.Module):
        return call
    owner = getattr(call, "__self__", None)
    if isinstance(owner, nn.Module):
        return owner
    code = getattr(call, "__code__", None)
    if code is None:
        return None
    cells = dict(zip(code.co_freevars, call.__closure__ or (), strict=True))
    known = {name: cell.cell_contents for name, cell in cells.items() if cell != type(cell)()}
    known |= {name: call.__globals__[name] for name in code.co_names if name in call.__globals__}
    found = [one for one in (uncompiled(value) for value in known.values()) if isinstance(one, nn.Module)]
    return nn.ModuleList(found) if len(found) > 1 else next(iter(found), None)


def gradients(score: Tensor, *wanted: Tensor, retain_graph: bool = False) -> tuple[Tensor | None, ...]:
    """∂score/∂ each tensor, None where it doesn't depend on one.

    Raises:
        InputError: the network's operations refuse to be differentiated.
    """
    try:
        return torch.autograd.grad(score, wanted, retain_graph=retain_graph, allow_unused=True)
    except RuntimeError as error:
        words = str(error).partition("\n")[0]
        raise InputError(f"the network can't be differentiated: {words}") from error


@contextmanager
def unfused_attention() -> Iterator[None]:
    """Have PyTorch's transformer layers call their parts in the `with` block, also where no gradient is needed."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def uncompiled(model: Model) -> Model:
    """Return the module inside what `torch.compile` returned, anything else as it is."""
    inner: Model = getattr(model, "_orig_mod", model)
    return inner


def require_evaluation_mode(model: nn.Module) -> None:
    """Raise `InputError` if a normalisation or dropout layer is in training mode."""
    for name, module in model.named_modules():
        statistics = isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
        if module.training and (statistics or isinstance(module, nn.modules.dropout._DropoutNd)):
            raise InputError(f"layer {name!r} is in training mode: call model.eval() before explaining")


def near(some: Tensor, others: Tensor) -> bool:
    """Whether two results of the same computation agree but for rounding."""
    tolerance = max(TOLERANCE, 8 * torch.finfo(some.dtype).eps)
    scale = some.nan_to_num(posinf=0, neginf=0).abs().max().item()
    return bool(torch.allclose(some, others, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def all_buffers(model: nn.Module) -> dict[tuple[nn.Module, str], Tensor | None]:
    return {(module, name): held for module in model.modules() for name, held in module._buffers.items()}


@torch.no_grad()
def restore_buffers(
    buffers: dict[tuple[nn.Module, str], Tensor | None], values: dict[tuple[nn.Module, str], Tensor | None]
) -> None:
    """Put the same tensors with the same values back in their places."""
    for (module, name), held in buffers.items():
        value = values[module, name]
        if held is not None and value is not None and not torch.equal(held, value):
            held.copy_(value)
        module._buffers[name] = held


def random_generators(device: torch.device) -> list[tuple[Callable[[], Any], Callable[[Any], object]]]:
    """Return how to read and to set the state of each global generator that a network on `device` may use."""
    found: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
        (torch.get_rng_state, torch.set_rng_state),
        (np.random.get_state, np.random.set_state),
        (random.getstate, random.setstate),
    ]
    if device.type == "cuda":
        found.append((lambda: torch.cuda.get_rng_state(device), lambda state: torch.cuda.set_rng_state(state, device)))
    return found


def same_state(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(map(same_state, one, other))
    return bool(np.array_equal(one, other))
