"""One step of training: forward, backward, update. A GPU records it once, and plays it back.

A small network's kernels take less time than starting them one by one does. A recording (a CUDA graph) starts all of
them at once. It is used after it was seen to do what the plain step does, from the same state on the same batch; where
it can't be made, or does something else, the plain step goes on.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor, nn

from training.device import mixed_precision
from training.loss import loss_of
from training.recipe import Recipe

State = list[list[Tensor]]

Body = Callable[[], Tensor]
Recorder = Callable[[Body], Body]
"""Makes of a body that always works on the same tensors one that does the same sooner; may run it meanwhile."""

WARM_UP = 3  # before a recording, so that libraries have chosen their kernels and taken their memory
FEWEST_STEPS = 50  # for fewer a recording doesn't pay
FARTHEST = 0.1  # a recorded update from the plain one, relative to this; bfloat16's last digits are 0.004 apart


class Step:
    """Trains `model` on a batch in place."""

    def __init__(self, model: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe) -> None:
        self.model, self.optimiser, self.recipe = model, optimiser, recipe

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """(N, C, H, W) in channels_last, (N,) -> the loss before the update, a scalar without a graph."""
        with mixed_precision(images.device):
            loss = loss_of(self.model, images, labels, self.recipe)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def state(self) -> State:
        """All that a step changes: weights, running statistics, momentum."""
        momentum = [value for one in self.optimiser.state.values() for value in one.values()]
        tensors = [value for value in momentum if isinstance(value, Tensor)]
        return [list(self.model.parameters()), list(self.model.buffers()), tensors]


class RecordedStep:
    """A `Step` that is recorded at its second batch, once the optimiser has its state.

    All batches must be of one size, and the learning rate a tensor on their device: a number would be recorded too.
    """

    refused: ClassVar[set[type[nn.Module]]] = set()
    """Networks that do something which can't be recorded, to be tried once only."""

    def __init__(self, step: Step, record: Recorder) -> None:
        self.step, self.record = step, record
        self.play: Body | None = None
        self.batches = 0

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """As `Step`; the loss is overwritten by the next call."""
        self.batches += 1
        if self.batches == 2 and self._recordable(images.device):
            return self._record(images, labels)
        if self.play is None:
            return self.step(images, labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        return self.play()

    def _recordable(self, device: torch.device) -> bool:
        rates = [group["lr"] for group in self.step.optimiser.param_groups]
        return type(self.step.model) not in self.refused and all(
            isinstance(rate, Tensor) and rate.device == device for rate in rates
        )

    def _record(self, images: Tensor, labels: Tensor) -> Tensor:
        """Take the plain step, and from the same state the recorded one, which is kept if it comes to the same."""
        self.images, self.labels = torch.empty_like(images), torch.empty_like(labels)
        before = self._copied()
        loss = self.step(images, labels)
        after = self._copied()
        try:
            self.images.copy_(images.flip(0))  # another batch than the one to be played
            self.labels.copy_(labels)
            places = self._places()
            with self._other_rates(), torch.cuda.device_of(images):
                play = self.record(lambda: self.step(self.images, self.labels))
            self._restore(before)
            self.images.copy_(images)
            play()
            errors, updates = distances(self.step.state(), after), distances(before, after)
            near = all(error <= FARTHEST * update for error, update in zip(errors, updates, strict=True))
            if near and self._places() == places:
                self.play = play
        except torch.OutOfMemoryError:
            pass
        except RuntimeError:  # the network does something that can't be recorded
            self.refused.add(type(self.step.model))
        if self.play is None:
            self.step.optimiser.zero_grad(set_to_none=True)  # the gradients of a recording are its own memory
            self._restore(after)
        return loss

    @contextmanager
    def _other_rates(self) -> Iterator[None]:
        """While recording, so that a learning rate which was recorded as a number shows in the proof."""
        rates = [group["lr"] for group in self.step.optimiser.param_groups]
        values = [rate.clone() for rate in rates]
        for rate in rates:
            rate.zero_()
        try:
            yield
        finally:
            for rate, value in zip(rates, values, strict=True):
                rate.copy_(value)

    def _places(self) -> list[int]:
        """In memory: a recording writes to those that it saw."""
        return [tensor.data_ptr() for part in self.step.state() for tensor in part]

    def _copied(self) -> State:
        return [[tensor.detach().clone() for tensor in part] for part in self.step.state()]

    @torch.no_grad()
    def _restore(self, values: State) -> None:
        for part, earlier in zip(self.step.state(), values, strict=True):
            for tensor, value in zip(part, earlier, strict=True):
                tensor.copy_(value)


@torch.no_grad()
def distances(some: State, others: State) -> list[float]:
    """Euclidean, of each part."""
    return [
        math.hypot(*(float((one.double() - other.double()).norm()) for one, other in zip(*parts, strict=True)))
        for parts in zip(some, others, strict=True)
    ]


@cache
def stream_beside(device: int) -> torch.cuda.Stream:
    """One for all recordings: memory that is freed on a stream serves that stream alone."""
    return torch.cuda.Stream(device)


def as_cuda_graph(body: Body) -> Body:
    """The kernels that `body` starts, all at once.

    Raises:
        RuntimeError: it does something that no graph can, such as waiting for a result.
    """
    usual, beside = torch.cuda.current_stream(), stream_beside(torch.cuda.current_device())
    beside.wait_stream(usual)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                body()
            with torch.cuda.graph(graph, stream=beside):
                loss = body()
    finally:
        usual.wait_stream(beside)

    def play() -> Tensor:
        graph.replay()
        return loss

    return play


def learning_rate(value: float, device: torch.device) -> float | Tensor:
    """As an optimiser is given it: a tensor where steps are recorded, since a number would be recorded with them."""
    return torch.tensor(value, dtype=torch.float32, device=device) if device.type == "cuda" else value


def step_for(
    model: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe, device: torch.device, steps: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """How to take `steps` steps on `device`."""
    step = Step(model, optimiser, recipe)
    if device.type == "cuda" and steps >= FEWEST_STEPS:
        return RecordedStep(step, as_cuda_graph)
    return step
