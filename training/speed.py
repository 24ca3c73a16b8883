"""Time of a training step on this machine."""

import statistics
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from data import dataset_info
from data.load import Split
from training.inputs import Images, Normalisation, load_labels
from training.loop import initialise, train
from training.networks import new_model
from training.recipe import Recipe

TEST_COST = 0.5  # seconds of testing an image in float32, per second of training on it
INTERVALS = 3
STEPS = {"cpu": 1, "cuda": 50, "mps": 20}  # in an interval
WARM_UP = {"cpu": 2, "cuda": 3, "mps": 3}  # steps


def measure_step_seconds(dataset: str, attention: str | None, recipe: Recipe, device: torch.device) -> float:
    """Return the median duration of a training step with the recipe's batch, on random images."""
    model = initialise(lambda: new_model(dataset, attention), 0, device)
    warm_up, interval = WARM_UP[device.type], STEPS[device.type]
    count = (warm_up + INTERVALS * interval) * recipe.batch_size
    channels, height, width = dataset_info(dataset).image_shape
    images = np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    split = Split(images, np.arange(count) % len(dataset_info(dataset).classes), np.arange(count))
    normalisation = Normalisation(*(torch.full((channels,), 0.5, device=device) for _ in range(2)))
    step, times = 0, []

    def clock(_images: int, _accuracy: float | None) -> None:
        nonlocal step
        step += 1
        if step >= warm_up and (step - warm_up) % interval == 0:
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            times.append(time.perf_counter())

    rate = min(recipe.learning_rate, 1e-3)  # so that nothing diverges on random images
    recipe = replace(recipe, epochs=1, learning_rate=rate)
    train(model, Images(split, normalisation, device), load_labels(split, device), recipe, 0, on_step=clock)
    return statistics.median(after - before for before, after in pairwise(times)) / interval
