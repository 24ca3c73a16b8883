"""The training loop and predictions, the same for every model."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import InputError
from common.hashing import json_sha256
from common.random_state import seeded
from training.augmentation import sample_augmentation
from training.checkpoint import History, TrainingState
from training.inputs import Inputs, batch_size
from training.recipe import Recipe
from training.step import TrainingStep

OnStep = Callable[[int, float | None], object]
"""Called with the number of images of a step, and with the validation accuracy at the end of an epoch."""


@dataclass(frozen=True)
class TrainingResult:
    """Duration, mean loss of the last epoch, accuracy on held-out training images, and both by epoch."""

    seconds: float
    loss: float
    validation_accuracy: float | None
    history: History


def seed_for(seed: int, purpose: str) -> int:
    """Derive a seed for each purpose, so that more random numbers for one leave the others unchanged."""
    return int(json_sha256([seed, purpose])[:15], 16)


def initialise(build: Callable[[], nn.Module], seed: int, device: torch.device) -> nn.Module:
    """Build a model whose initial weights depend on `seed` alone; restore the global random state."""
    with seeded(seed_for(seed, "weights")):
        model = build()
    return model.to(device).to(memory_format=torch.channels_last)


def train(
    model: nn.Module,
    inputs: Inputs,
    labels: Tensor,
    recipe: Recipe,
    seed: int,
    validation_rate: float = 0.0,
    on_step: OnStep = lambda _images, _accuracy: None,
    resume_from: TrainingState | None = None,
    on_epoch: Callable[[TrainingState], object] | None = None,
) -> TrainingResult:
    """Train `model` in place by `recipe`.

    Args:
        inputs: images before augmentation.
        labels: (N,) int64 on the device of the model.
        seed: decides on the order, the augmentation, the held-out images, and the model's own random numbers.
        validation_rate: share of the images that is held out, to report accuracy after each epoch.
        on_step: called after each step and each epoch.
        resume_from: the state after an epoch of a training with the same arguments.
        on_epoch: called with the state after each epoch.

    Raises:
        InputError: no image or no parameter to train on, or the loss diverged.
    """
    start = time.perf_counter() - (resume_from.seconds if resume_from else 0)
    device = labels.device
    generator = torch.Generator().manual_seed(seed_for(seed, "order"))
    shuffled = torch.randperm(len(inputs), generator=generator)
    held_out = round(validation_rate * len(inputs))
    validation, training = shuffled[:held_out].to(device), shuffled[held_out:]
    if len(training) == 0:
        raise InputError(f"all {held_out} training images are held out: give more, or a lower --valid-rate")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("the model has no parameters to train: all are frozen, or there are none")
    batch_size = min(recipe.batch_size, len(training))
    steps = len(training) // batch_size
    if recipe.small_epochs:
        _require_half_size(model, inputs)
    optimiser, schedule = make_optimiser(model, recipe, steps * recipe.epochs)
    parts: dict[str, Any] = {"model": model, "optimiser": optimiser, "schedule": schedule}
    first_epoch, loss, accuracy = 0, math.nan, None
    history: History = []
    if resume_from is not None:
        first_epoch, loss, accuracy = resume_from.epochs, resume_from.loss, resume_from.validation_accuracy
        history.extend(resume_from.history)
        generator.set_state(resume_from.random)
        for name, part in parts.items():
            part.load_state_dict(resume_from.parts[name])
        on_step(first_epoch * steps * batch_size, accuracy)
    for epoch in range(first_epoch, recipe.epochs):
        step = TrainingStep(model, optimiser, recipe, inputs, labels, half_size=epoch < recipe.small_epochs)
        model.train()
        order = training[torch.randperm(len(training), generator=generator)].to(device)
        augmentation = sample_augmentation(recipe, len(training), generator, device)
        loss_sum = torch.zeros((), device=device)
        with seeded(seed_for(seed, f"epoch {epoch}")):  # anew, so that a resumed training draws the same
            for batch in zip(*(rows.split(batch_size)[:steps] for rows in (order, *augmentation)), strict=True):
                loss_sum += step(*batch)
                schedule.step()
                on_step(batch_size, None)
        loss = (loss_sum / steps).item()
        if not math.isfinite(loss):
            raise InputError("the training diverged (its loss is not finite): give a lower --lr")
        if held_out:
            accuracy = (predict(model, inputs, validation) == labels[validation]).float().mean().item()
            on_step(0, accuracy)
        rate = float(schedule.get_last_lr()[0])
        history.append({"epoch": epoch + 1, "loss": loss, "validation_accuracy": accuracy, "learning_rate": rate})
        if on_epoch is not None:
            states = {name: part.state_dict() for name, part in parts.items()}
            seconds = time.perf_counter() - start
            random = generator.get_state()
            on_epoch(TrainingState(epoch + 1, seconds, loss, accuracy, random, states, history.copy()))
    optimiser.zero_grad(set_to_none=True)
    return TrainingResult(time.perf_counter() - start, loss, accuracy, history)


@torch.no_grad()
def _require_half_size(model: nn.Module, inputs: Inputs) -> None:
    """Raise `InputError` if `model` can't take images of half the size."""
    images = inputs.batch(torch.zeros(2, dtype=torch.int64, device=inputs.border.device))
    try:
        model.eval()(F.avg_pool2d(images, 2))
    except RuntimeError as error:
        name = type(model).__name__
        raise InputError(
            f"{name} takes images of one size only, not of half of it: leave --small-epochs away"
        ) from error


def make_optimiser(
    model: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return SGD with Nesterov momentum and its one-cycle schedule over all `steps`."""
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=steps + 1, pct_start=recipe.warm_up, cycle_momentum=False
    )
    return optimiser, schedule


@seeded(0)
@torch.no_grad()
def predict(model: nn.Module, inputs: Inputs, index: Tensor | None = None) -> Tensor:
    """Predict the classes (n,) int64 of the inputs `index` (default all), in evaluation mode and float32."""
    model.eval()
    device = next(model.parameters()).device
    rows = torch.arange(len(inputs), device=device) if index is None else index
    size = batch_size(inputs.batch(rows[:1]).shape[1:])
    batches = (inputs.batch(part).contiguous(memory_format=torch.channels_last) for part in rows.split(size))
    return torch.cat([model(batch).argmax(dim=1) for batch in batches])
