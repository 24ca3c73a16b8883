"""The network that is explained, and the check that its maps mean something."""

import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from attribution.function_calls import is_scripted
from attribution.fusing import fuse_batchnorm, has_hooks, is_fused
from attribution.network_state import BufferState, evaluation_mode, require_evaluation_mode
from attribution.preparation import Description, Preparation, fingerprint, pool, remember
from attribution.random_state import watch_draws
from attribution.single_images import right_gradients
from common.errors import InputError
from common.outputs import LogitsChoice, find_logits
from common.random_state import seeded

Model = TypeVar("Model", bound=Callable[..., Any])

TOLERANCE = 1e-4  # relative difference of two passes of the same image


class Network:
    """Calls somebody's network without changing it.

    Attributes:
        original: the user's network, uncompiled.
        call: the network that is explained: `original`, or a faster copy of it.
        module: `call` as a module; None for another callable.
        root: the module, or the modules behind another callable, see `module_behind`.
        classes: number of logits, known after the first check.
        memo: what methods remember of `call` for images of a shape.
    """

    def __init__(self, model: Callable[..., Any], logits: LogitsChoice | None = None, fuse: bool = False) -> None:
        """Wrap `model`.

        Args:
            model: a module, a method of one such as `model.forward`, or any callable that maps images to logits.
            logits: the part of its output that holds the logits, if that is ambiguous.
            fuse: explain a copy with fused batch norms where that has the same logits, renewed when weights, buffers
                or modes have changed.
        """
        owner = getattr(model, "__self__", None)
        if isinstance(owner, nn.Module) and getattr(model, "__name__", "") in {"forward", "__call__"}:
            model = owner
        if not callable(model) or isinstance(model, type):
            kind = type(model).__name__
            raise InputError(f"a network is a torch.nn.Module or a function of images, made already, not {kind}")
        self.original: Callable[..., Any] = uncompiled(model)
        self.choice = logits
        self.classes = 0
        self._explain(self.original)
        self._fuses = fuse and self.module is not None and not is_fused(self.module)
        self._shares = self._fuses and logits is None
        self._state: tuple[object, ...] | None = None  # at the last check
        self._alive: Any = None
        self._changes_buffers = False
        self._needs_contiguous = False

    def _explain(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.memo: dict[Any, Any] = {}
        self.module = call if isinstance(call, nn.Module) else None
        self.root = self.module or module_behind(call)
        self._is_scripted = self.root is not None and is_scripted(self.root)

    def __call__(self, inputs: Tensor) -> Tensor:
        """(N, …) -> logits (N, K), computed in the precision of the network.

        The network gets a copy: it may change its input in place.
        """
        layout = torch.contiguous_format if self._needs_contiguous else torch.preserve_format
        # always a single call of `to`, since `layers` counts the calls of functions
        images = inputs.to(self.dtype or inputs.dtype, memory_format=layout, copy=True)
        if self._is_scripted and len(images) == 1:  # its norms can't be seen, see `right_gradients`
            return find_logits(self.call(torch.cat([images, images])), self.choice)[:1]
        return find_logits(self.call(images), self.choice)

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision of the parameters; None if there are none, or several."""
        if "dtype" in self.memo:
            return cast("torch.dtype | None", self.memo["dtype"])
        parameters = () if self.root is None else self.root.parameters()
        dtypes = {parameter.dtype for parameter in parameters if parameter.is_floating_point()}
        dtype = dtypes.pop() if len(dtypes) == 1 else None
        if self.call is not self.original:  # a copy, which nobody changes
            self.memo["dtype"] = dtype
        return dtype

    def modules(self) -> dict[str, nn.Module]:
        """Return the modules inside by their names, without the network itself."""
        return {} if self.root is None else {name: part for name, part in self.root.named_modules() if name}

    @contextmanager
    def prepared(self, inputs: Tensor) -> Iterator[None]:
        """Check the network with `inputs` (N, …), and show each of its calls in the `with` block.

        PyTorch compiles and fuses nothing there; afterwards all buffers are as before.

        Raises:
            InputError: see `check`.
        """
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            # otherwise PyTorch's transformer layers skip the calls of their parts where no gradient is needed
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
            stack.enter_context(nothing_compiled())
            if self._shares:
                stack.enter_context(self._shared_copy(inputs))
            else:
                self.check(inputs)
            if self._changes_buffers:
                stack.callback(BufferState(self.root).restore)
            stack.enter_context(right_gradients())
            yield

    @contextmanager
    def _shared_copy(self, inputs: Tensor) -> Iterator[None]:
        """Explain a copy that an earlier call made of the same network as it is now, or check it and make one."""
        model, images = self.original, (inputs.shape[1:], inputs.dtype, inputs.device, inputs.is_contiguous())
        assert isinstance(model, nn.Module)
        description = Description(model)
        preparation = pool.pop(model, None)  # from now on this call's alone
        if preparation is None or preparation.images != images or preparation.description != description:
            self._state = None
            self.check(inputs)
            self._shares = self.call is not model and description.is_lasting and description == Description(model)
            if not self._shares:
                yield
                return
            preparation = Preparation(images, description.frozen(), self.call, self.classes, self._needs_contiguous)
        self._explain(preparation.copy)
        self.memo, self.classes = preparation.memo, preparation.classes
        self._needs_contiguous, self._changes_buffers = preparation.needs_contiguous, False
        try:
            yield
        finally:
            remember(model, preparation)

    def check(self, inputs: Tensor, again: bool = False) -> None:
        """Check the network with the first of `inputs` (N, …), N ≥ 1: at the first call, after changes, and `again`.

        Raises:
            InputError: logits for an image that depend on chance or on the other images, or training mode.
        """
        original = self.original if isinstance(self.original, nn.Module) else module_behind(self.original)
        weights, alive = fingerprint(original) if self._fuses and original is not None else ((), None)
        modes = () if original is None else tuple(module.training for module in original.modules())
        state = inputs.shape[1:], inputs.is_contiguous(), modes, weights
        if state == self._state and not again:
            return
        self._explain(self.original)
        if self.module is not None:
            require_evaluation_mode(self.module)
        if self.root is not None and any(parameter.is_inference() for parameter in self.root.parameters()):
            raise InputError(
                "the network was made under torch.inference_mode, so that it has no gradients: make or load it outside"
            )
        buffers = BufferState(self.root)
        try:
            pair, logits = self._compare(inputs[:1].detach())
        finally:
            self._changes_buffers = buffers.have_changed()
            buffers.restore()
        if self._fuses and not self._changes_buffers:
            self._explain_fused_copy(pair, logits)
        self._state, self._alive = state, alive

    @torch.no_grad()
    def needs_contiguous(self, images: Tensor) -> bool:
        """Return whether the network can't read `images` (N, …) in their layout, but contiguous ones."""
        self._needs_contiguous = False
        self._first_call(images)
        return self._needs_contiguous

    @torch.no_grad()
    def _compare(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return two images (2, …) and their logits (2, K), which are the same in every call and batch."""
        other = 3 - 5 * image  # with another mean and other extremes
        pair = torch.cat([image, other])
        with seeded(0), watch_draws(image.device) as draws:
            logits = self._first_call(pair)
        if draws.any:
            raise InputError(
                "the network draws random numbers while it is evaluated (dropout in whatever form): its maps would "
                "depend on chance; switch that off"
            )
        self.classes = logits.shape[1]
        if logits.shape[0] != 2:
            raise InputError(f"the network returns {logits.shape[0]} rows of logits for 2 images")
        require_numbers(logits[0])
        if not near(logits, self(pair)):
            raise InputError("the network gives other logits for the same images each time: its maps would, too")
        with evaluation_mode(self.root) as is_changed:
            if is_changed and not near(logits, self(pair)):
                raise InputError("the network is in training mode, with other logits: call model.eval() first")
        if not near(logits[:1], self(image)) or not near(logits[1:], self(other)):
            raise InputError(
                "the network's logits of an image depend on the other images of the batch (a batch norm without "
                "running statistics?): its maps would, too"
            )
        return pair, logits

    def _first_call(self, images: Tensor) -> Tensor:
        """Return the logits, and note whether the network needs images that are contiguous in memory."""
        try:
            return self(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if images.is_contiguous():
                shape, reason = tuple(images.shape[1:]), str(error).splitlines()[0]
                raise InputError(f"the network fails for images of shape {shape}: {reason}") from error
        self._needs_contiguous = True  # for a network that reads its activations by `view`
        return self(images)

    @torch.no_grad()
    def _explain_fused_copy(self, pair: Tensor, logits: Tensor) -> None:
        """Explain a copy with fused batch norms if its logits of `pair` are `logits`, else the network itself."""
        module = self.module
        if module is None or any(map(has_hooks, module.modules())):  # a hook may belong to the network itself
            return
        with warnings.catch_warnings(), suppress(Exception):  # it may not be copied, or not work with channels_last
            warnings.simplefilter("ignore")
            self._explain(fuse_batchnorm(module))
            if near(logits, self(pair)):
                return
        self._explain(module)


def module_behind(call: Any) -> nn.Module | None:
    """Return `call` or its owner if that is a module, else the modules that a function refers to; None without any."""
    if isinstance(call, functools.partial):
        call = call.func
    for owner in (call, getattr(call, "__self__", None)):
        if isinstance(owner, nn.Module):
            return owner
    code = getattr(call, "__code__", None)
    if code is None:
        return None
    cells = dict(zip(code.co_freevars, call.__closure__ or (), strict=True))
    values = {name: cell.cell_contents for name, cell in cells.items() if cell != type(cell)()}
    values |= {name: call.__globals__[name] for name in code.co_names if name in call.__globals__}
    modules = [value for value in map(uncompiled, values.values()) if isinstance(value, nn.Module)]
    return nn.ModuleList(modules) if len(modules) > 1 else next(iter(modules), None)


def gradients(score: Tensor, *inputs: Tensor, retain_graph: bool = False) -> tuple[Tensor | None, ...]:
    """Return ∂score/∂input for each of `inputs`, or None; raise `InputError` for what PyTorch can't differentiate."""
    try:
        return torch.autograd.grad(score, inputs, retain_graph=retain_graph, allow_unused=True)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        if "checkpoint" in str(error):
            reason = "it computes activations anew (gradient checkpointing): switch that off"
        raise InputError(f"the network can't be differentiated: {reason}") from error


def uncompiled(model: Model) -> Model:
    """Return the module inside the result of `torch.compile`, anything else as it is."""
    return getattr(model, "_orig_mod", model)


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """Run networks as they are written in the `with` block, so that each call can be seen."""
    if "torch._dynamo" not in sys.modules:  # and so nothing is compiled
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def require_numbers(logits: Tensor) -> None:
    """Raise `InputError` for logits, or probabilities, that are no numbers."""
    if logits.isnan().any():
        raise InputError("the network's logits are not finite: its maps and scores would not be, either")


def near(first: Tensor, second: Tensor) -> bool:
    """Return whether two results of the same computation are equal up to rounding."""
    tolerance = max(TOLERANCE, 8 * torch.finfo(first.dtype).eps)
    scale = first.nan_to_num(posinf=0, neginf=0).abs().max().item()
    return bool(torch.allclose(first, second, rtol=tolerance, atol=tolerance * scale, equal_nan=True))
