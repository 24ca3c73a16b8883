"""One step of training: a batch, forward, backward, update. A GPU records it once, and plays it back.

A small network's kernels take less time than starting them one by one does. A recording (a CUDA graph) starts all of
them at once. It is used after it was seen to do what the plain step does, from the same state on the same batch; where
it can't be made, or does something else, the plain step goes on.
"""

import math
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.user_code import seeded
from training.augmentation import augmented
from training.device import mixed_precision
from training.inputs import Inputs
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
    """Trains `model` on a batch of `inputs` and `labels` in place."""

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        recipe: Recipe,
        inputs: Inputs,
        labels: Tensor,
        small: bool = False,
    ) -> None:
        """`small`: the model sees the images at half of their size."""
        self.model, self.optimiser, self.recipe = model, optimiser, recipe
        self.inputs, self.labels, self.small = inputs, labels, small

    def __call__(self, index: Tensor, *draws: Tensor) -> Tensor:
        """Which inputs (n,) int64, and what was `drawn` for them -> the loss before the update, without a graph."""
        return self.on(*self.batch(index, *draws))

    def batch(self, index: Tensor, *draws: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented images (n, C, H, W) in channels_last, and their labels (n,)."""
        images = augmented(self.inputs.batch(index), self.inputs.border, self.recipe.crop, *draws)
        if self.small:
            images = F.avg_pool2d(images, 2)
        return images.contiguous(memory_format=torch.channels_last), self.labels[index]

    def on(self, images: Tensor, labels: Tensor) -> Tensor:
        """The part that follows the batch."""
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
    """A `Step`, or its part that follows the batch, recorded at its second call, once the optimiser has its state.

    All batches must be of one size, and the learning rate a tensor on their device: a number would be recorded too.
    What is recorded must do the same with the same tensors.
    """

    refused: ClassVar[set[type[nn.Module]]] = set()
    """Networks that do something which can't be recorded, to be tried once only."""

    fates: ClassVar[Counter[str]] = Counter()
    """What came of the recordings of this process, for benchmarks: who trains needs no word of it."""

    def __init__(self, step: Step, part: Callable[..., Tensor], record: Recorder) -> None:
        """
        Args:
            part: `step` or `step.on`.
        """
        self.step, self.part, self.record = step, part, record
        self.held: list[Tensor] = []
        self.play: Body | None = None
        self.calls = 0

    def __call__(self, *given: Tensor) -> Tensor:
        """As `part`; the loss is overwritten by the next call."""
        self.calls += 1
        if self.calls == 2 and self._recordable(given[0].device):
            return self._record(given)
        if self.play is None:
            return self.part(*given)
        self._hold(given)
        return self.play()

    def _recordable(self, device: torch.device) -> bool:
        rates = [group["lr"] for group in self.step.optimiser.param_groups]
        return type(self.step.model) not in self.refused and all(
            isinstance(rate, Tensor) and rate.device == device for rate in rates
        )

    def _hold(self, given: Iterable[Tensor]) -> None:
        for held, tensor in zip(self.held, given, strict=True):
            held.copy_(tensor)

    def _record(self, given: tuple[Tensor, ...]) -> Tensor:
        """Take the plain step, and from the same state the recorded one, which is kept if it comes to the same."""
        self.held = [torch.empty_like(tensor) for tensor in given]
        before = self._copied()
        loss = self.part(*given)
        after = self._copied()
        try:
            self._hold(tensor[:1] for tensor in given)  # another batch than the one to be played: one image, many times
            places = self._places()
            with seeded(0):  # the trial takes no random number from the training
                drawn_before = host_generators()
                with self._other_rates(), torch.cuda.device_of(given[0]):
                    play = self.record(lambda: self.part(*self.held))
                draws = host_generators() != drawn_before  # what is played back would draw the same for ever
                self._restore(before)
                self._hold(given)
                play()
            errors, updates = distances(self.step.state(), after), distances(before, after)
            near = all(error <= FARTHEST * update for error, update in zip(errors, updates, strict=True))
            fate = "something else than the plain step"
            if near and not draws and self._places() == places:
                self.play, fate = play, "used"
        except torch.OutOfMemoryError:
            fate = "no memory left for it"
        except RuntimeError as error:  # the network does something that can't be recorded
            self.refused.add(type(self.step.model))
            fate = f"refused: {first_line(error)}"
        self.fates[fate] += 1
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


def host_generators() -> bytes:
    """The state of all global generators that draw on the processor."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()  # noqa: NPY002
    return pickle.dumps(states)


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


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


@contextmanager
def waiting_refused() -> Iterator[None]:
    """A body that waits for a result fails in here already: a recording that breaks off leaves PyTorch 2.11's memory
    as if it were still going on.
    """
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


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
            for _ in range(WARM_UP - 1):
                body()
            with waiting_refused():
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


def step_for(step: Step, steps: int) -> Callable[..., Tensor]:
    """How to take `steps` steps: as `step`, or as a recording of as much of it as does the same every time."""
    if step.labels.device.type == "cuda" and steps >= FEWEST_STEPS:
        return recorded(step, as_cuda_graph)
    return step


def recorded(step: Step, record: Recorder) -> Callable[..., Tensor]:
    """`step`, recorded with its batch where that is fixed, otherwise without."""
    if step.inputs.fixed:
        return RecordedStep(step, step, record)
    after_batch = RecordedStep(step, step.on, record)
    return lambda index, *draws: after_batch(*step.batch(index, *draws))
