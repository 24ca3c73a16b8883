"""The state of a network, recorded and restored around networks and methods that change it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from common.errors import InputError


@dataclass(frozen=True)
class Change:
    """Another value or other contents of a module's attribute."""

    module: nn.Module
    name: str
    value: Any
    contents: Any

    def apply(self) -> None:
        """Make the change; entries of a dictionary, such as hooks, are added to the present ones."""
        present = vars(self.module).get(self.name)
        if isinstance(self.contents, dict) and isinstance(present, dict):
            present.update(self.contents)
        else:
            vars(self.module)[self.name] = self.value
            _refill(self.value, self.contents)


class NetworkState:
    """Hooks, flags, weights, buffers and all other attributes of a network's modules."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = [
            (module, module.__class__, {name: (value, _contents(value)) for name, value in vars(module).items()})
            for module in model.modules()
        ]
        self.tensors = [
            (tensor, tensor.data, tensor.data.clone()) for tensor in (*model.parameters(), *model.buffers())
        ]
        self.parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]

    @torch.no_grad()
    def restore(self) -> None:
        """Give the network this state."""
        for module, kind, attributes in self.modules:
            if module.__class__ is not kind:
                module.__class__ = kind
            vars(module).clear()
            for name, (value, contents) in attributes.items():
                vars(module)[name] = value
                _refill(value, contents)
        for tensor, data, values in self.tensors:
            tensor.data = data
            if not torch.equal(data, values):
                data.copy_(values)
        for parameter, requires_grad, gradient in self.parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient

    def has_other_weights(self) -> bool:
        """Return whether weights or buffers have changed since."""
        return any(not torch.equal(tensor.data, values) for tensor, _data, values in self.tensors)

    def changes_since(self, before: "NetworkState") -> list[Change]:
        """Return the attributes that `before` has not or has otherwise, of modules that both have."""
        known = {module: attributes for module, _kind, attributes in before.modules}
        return [
            Change(module, name, value, contents)
            for module, _kind, attributes in self.modules
            for name, (value, contents) in attributes.items()
            if module in known and not _same((value, contents), known[module].get(name))
        ]


class BufferState:
    """All buffers of a network; none for a callable without modules."""

    def __init__(self, model: nn.Module | None) -> None:
        self.buffers = [
            (module, name, buffer, None if buffer is None else (buffer._version, buffer.clone()))
            for module in (() if model is None else model.modules())
            for name, buffer in module._buffers.items()
        ]

    def have_changed(self) -> bool:
        """Return whether a buffer was replaced or written to."""
        return any(
            getattr(module, name, None) is not buffer  # a scripted module's dictionary has no `get`
            or (buffer is not None and copied is not None and buffer._version != copied[0])
            for module, name, buffer, copied in self.buffers
        )

    @torch.no_grad()
    def restore(self) -> None:
        """Put the same tensors with the same values back."""
        for module, name, buffer, copied in self.buffers:
            if buffer is not None and copied is not None and not torch.equal(buffer, copied[1]):
                buffer.copy_(copied[1])
            if getattr(module, name, None) is not buffer:
                module._buffers[name] = buffer


@contextmanager
def changes_undone(model: nn.Module, changes: Sequence[Change] = ()) -> Iterator[NetworkState]:
    """Make `changes` for the `with` block, and undo them and all that the block does to `model`.

    In the block the parameters require gradients and have none, so that `backward` adds to nobody's gradients.
    """
    state = NetworkState(model)
    try:
        for change in changes:
            change.apply()
        for parameter in model.parameters():
            parameter.grad = None
            parameter.requires_grad_(parameter.is_floating_point())
        yield state
    finally:
        state.restore()


def _contents(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list | set) else None


def _refill(value: Any, contents: Any) -> None:
    """Give a container the `contents`."""
    if contents is not None:
        value.clear()
        (value.extend if isinstance(value, list) else value.update)(contents)


def _same(now: tuple[Any, Any], before: tuple[Any, Any] | None) -> bool:
    """Return whether value and contents are the same objects."""
    return before is not None and now[0] is before[0] and _identities(now[1]) == _identities(before[1])


def _identities(contents: Any) -> list[Any]:
    if isinstance(contents, dict):
        return [(key, id(value)) for key, value in contents.items()]
    return sorted(map(id, contents or ())) if isinstance(contents, set) else list(map(id, contents or ()))


def require_evaluation_mode(model: nn.Module) -> None:
    """Raise `InputError` if a normalisation or dropout layer is in training mode."""
    for name, module in model.named_modules():
        has_statistics = isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
        if module.training and (has_statistics or isinstance(module, nn.modules.dropout._DropoutNd)):
            raise InputError(f"layer {name!r} is in training mode: call model.eval() before explaining")


@contextmanager
def evaluation_mode(model: nn.Module | None) -> Iterator[bool]:
    """Put all modules into evaluation mode in the `with` block, and yield whether one was in training mode."""
    training = [module for module in model.modules() if module.training] if model is not None else []
    for module in training:
        module.training = False
    try:
        yield bool(training)
    finally:
        for module in training:
            module.training = True
