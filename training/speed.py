"""How long training takes here: measured, not assumed."""

import statistics
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from data import dataset_info
from data.load import Split
from training.inputs import Images, Normalisation, labels_of
from training.loop import initialised, train
from training.networks import new_model
from training.recipe import Recipe

TEST_COST = 0.5  # of testing one image in float32, as a share of training on it
INTERVALS = 3
STEPS = {"cpu": 1, "cuda": 50}  # of an interval
WARM_UP = {"cpu": 2, "cuda": 3}  # steps


def step_seconds(dataset: str, attention: str | None, recipe: Recipe, device: torch.device) -> float:
    """The time of a training step of the recipe's batch, on random images; the median of a few intervals."""
    model = initialised(lambda: new_model(dataset, attention), 0, device)
    warm_up, each = WARM_UP[device.type], STEPS[device.type]
    steps = warm_up + INTERVALS * each
    random, count = np.random.default_rng(0), steps * recipe.batch_size
    channels, height, width = dataset_info(dataset).image_shape
    images = random.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    split = Split(images, np.arange(count) % len(dataset_info(dataset).classes), np.arange(count))
    normalisation = Normalisation(*(torch.full((channels,), 0.5, device=device) for _ in range(2)))
    done, times = 0, []

    def note(_images: int, _accuracy: float | None) -> None:
        nonlocal done
        done += 1
        if done >= warm_up and (done - warm_up) % each == 0:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter())

    rate = min(recipe.learning_rate, 1e-3)  # so that nothing diverges on random images
    once = replace(recipe, epochs=1, learning_rate=rate)
    train(model, Images(split, normalisation, device), labels_of(split, device), once, 0, on_step=note)
    return statistics.median(after - before for before, after in pairwise(times)) / each
