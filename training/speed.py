"""How long training takes here: measured, not assumed."""

import statistics
import time

import torch

from datasets import entry_of
from training.device import mixed_precision
from training.loop import initialised
from training.loss import loss_of
from training.networks import new_model
from training.recipe import Recipe

TEST_COST = 0.5  # of testing one image in float32, as a share of training on it
STEPS = 3


def step_seconds(dataset: str, attention: str | None, recipe: Recipe, device: torch.device) -> float:
    """The median time of a training step of the recipe's batch, on random images."""
    model = initialised(lambda: new_model(dataset, attention), 0, device).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, nesterov=True, fused=True)
    images = torch.randn(recipe.batch_size, *entry_of(dataset).image_shape, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(recipe.batch_size, device=device) % len(entry_of(dataset).classes)
    seconds = []
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        with mixed_precision(device):
            loss = loss_of(model, images, labels, recipe)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])
