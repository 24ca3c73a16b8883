"""Faster copies of networks, remembered for the next call on the same network as long as that is as it was."""

from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import Buffer, is_lazy

from attribution.fusing import HOOKS

MOST_BYTES = 64 * 2**20  # of weights that are remembered; preparing a larger network takes little of an explanation
WEIGHTED = 2**18  # values of a tensor: of larger ones weights for each would take much memory
MOST_NETWORKS = 8  # that are remembered, those of the latest calls
CONSTANTS = {bool, int, float, complex, str, bytes, type(None), type(...), torch.dtype, torch.device, torch.Size, slice}


class Description:
    """All that decides on what a network computes: classes, attributes, hooks and functions, and the tensors.

    Two are equal only if the two networks are.

    Attributes:
        is_lasting: it can outlive the network: nothing in it may change unnoticed, or keep the network alive.
    """

    def __init__(self, model: nn.Module, with_hooks: bool = True) -> None:
        """`with_hooks`: else it only holds which modules have hooks, for a network that is copied only without any."""
        self.is_lasting, self._with_hooks = True, with_hooks
        self.tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}  # by `id`, of what was reached before
        self._alive: list[Any] = []  # so that no `id` is given twice
        self.structure = self._describe(model)
        self.is_lasting &= sum(tensor.numel() * tensor.element_size() for tensor in self.tensors) <= MOST_BYTES

    def frozen(self) -> "Description":
        """Return this with tensors of its own, which hold today's values."""
        self.tensors = [tensor.detach().clone() for tensor in self.tensors]
        self._alive.clear()
        return self

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Description)
            and self.structure == other.structure
            and all(map(has_same_bits, self.tensors, other.tensors))
        )

    def _describe(self, value: Any) -> Any:
        kind = type(value)
        if kind in CONSTANTS:
            return kind, value
        if id(value) in self._numbers:
            return None, self._numbers[id(value)]
        self._numbers[id(value)] = len(self._numbers)
        if kind in (list, tuple, set, frozenset):
            return kind, *map(self._describe, value)
        if isinstance(value, dict):
            return kind, *map(self._describe, value), *map(self._describe, value.values())
        if isinstance(value, nn.Module):
            attributes = vars(value)
            if not self._with_hooks:
                attributes = {name: bool(part) if name in HOOKS else part for name, part in attributes.items()}
                self._alive.append(attributes)
            return self._describe(kind), self._describe(attributes)
        if isinstance(value, type):
            is_own = value.__module__.partition(".")[0] not in ("torch", "builtins")
            functions = [part for part in vars(value).values() if is_own and type(part) is FunctionType]
            return value, *map(self._describe, functions), *map(self._describe, value.__bases__)
        if kind in (Tensor, nn.Parameter, Buffer) and value.layout is torch.strided and not is_lazy(value):
            self.tensors.append(value)
            return kind, value.dtype, value.device, value.shape, value.stride()
        if kind is FunctionType and _is_lasting(value):
            return value
        if kind is BuiltinFunctionType and isinstance(value.__self__, ModuleType | None):
            return value
        self.is_lasting = False
        self._alive.append(value)
        return id(value)


def fingerprint(model: nn.Module) -> tuple[Any, ...]:
    """Return what changes with the tensors, hooks, attributes, functions or classes of `model`.

    The first part decides; the second keeps alive what the first refers to.
    """
    description = Description(model, with_hooks=False)
    sums = [value for tensor in description.tensors for value in _sums(tensor.detach())]
    return (description.structure, sums), description


def _sums(tensor: Tensor) -> list[float | complex]:
    """Return the sum of the values and others that change when values change places."""
    if tensor.layout != torch.strided or tensor.is_complex():
        return [tensor.sum().item()]
    values = tensor.flatten()
    is_small = len(values) < WEIGHTED
    sums = [values[::step].sum(dtype=torch.float32) for step in ((1,) if is_small else (1, 7, 11, 13))]
    if is_small:
        sums.append((values.float() * (torch.arange(len(values), device=values.device) % 251)).sum())
    return torch.stack(sums).tolist()


@torch.no_grad()
def has_same_bits(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors of the same kind, shape and strides are equal, those without gaps bit by bit."""
    if first.is_contiguous() and first.nbytes % 8 == first.storage_offset() == second.storage_offset() == 0:
        first, second = (tensor.detach().flatten().view(torch.int64) for tensor in (first, second))  # twice as fast
    return torch.equal(first, second)


def _is_lasting(function: FunctionType) -> bool:
    """Return whether nothing that a function carries with it may change, or refer to a network."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != type(cell)()]
    parts = (
        *cells,
        *(function.__defaults__ or ()),
        *(function.__kwdefaults__ or {}).values(),
        *vars(function).values(),
    )
    return all(type(part) in CONSTANTS or isinstance(part, type) for part in parts)


@dataclass
class Preparation:
    """A copy that was checked with images of some shape, and what is known of it.

    Attributes:
        images: shape, precision, device and layout of the images.
        description: of the network that was copied.
        memo: what methods remember of the copy.
    """

    images: tuple[Any, ...]
    description: Description
    copy: Any
    classes: int
    needs_contiguous: bool
    memo: dict[Any, Any] = field(default_factory=dict)


pool: WeakKeyDictionary[nn.Module, Preparation] = WeakKeyDictionary()
"""A preparation of each network that no call uses at the moment."""


def remember(model: nn.Module, preparation: Preparation) -> None:
    """Keep the preparation of a network for its next call, and forget those of the oldest calls."""
    pool[model] = preparation
    for old in list(pool)[:-MOST_NETWORKS]:
        pool.pop(old, None)
