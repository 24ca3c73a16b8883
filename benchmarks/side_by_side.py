"""A sweep of retrainings by one process and by several side by side: `python -m benchmarks.side_by_side`.

Each measurement is a fresh sweep of ROAR on MNIST, its classifier and maps made beforehand. The time is that of all
retrainings, the start of the other processes included; the accuracies must not depend on how many there are.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import torch

from attribution.spec import MethodSpec
from benchmarks.timing import published
from data import DATA_DIR
from evaluation.runs import RetrainingConfig
from experiments.engine import Local
from experiments.pipeline import Pipeline
from experiments.runner import run
from experiments.store import Folders
from experiments.sweep import Sweep
from training.config import TrainingConfig
from training.device import device_name, resolve_device
from training.recipe import quick_train_images, recipe_for

JOBS = {"cpu": (1, 2), "cuda": (1, 2, 4, 8, 16)}
RATIOS = {"few": (0.5,), "more": (0.3, 0.5, 0.7), "many": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)}
METHODS = (MethodSpec("VBP"), MethodSpec("RANDOM"))


def timed(pipeline: Pipeline, ratios: tuple[float, ...], jobs: int) -> tuple[int, float, list[float]]:
    """Return the number of runs, their seconds and their accuracies."""
    shutil.rmtree(pipeline.folders.results / "runs", ignore_errors=True)
    protocol = RetrainingConfig(
        "ROAR", "mnist", None, METHODS, pipeline.config.recipe, ratios, limit_train=pipeline.config.limit_train
    )
    sweep = Sweep(protocol, [pipeline])
    runs, started = len(sweep.todo), time.perf_counter()
    run([sweep], Local(jobs))
    seconds = time.perf_counter() - started
    return runs, seconds, [result.accuracy for result in sweep.summary.runs_in_order.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(DATA_DIR))
    parser.add_argument("--output-dir", type=Path, default=Path())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sizes", nargs="+", choices=RATIOS, default=list(RATIOS))
    options = parser.parse_args()
    device = resolve_device(options.device)
    limit = quick_train_images("mnist")
    with tempfile.TemporaryDirectory() as folder:
        order = TrainingConfig("mnist", None, 0, recipe_for("mnist", quick=True), limit, quick=True)
        pipeline = Pipeline(order, Folders.below(Path(folder), options.data_dir), device, limit_train=limit)
        for method in METHODS:
            pipeline.maps(method)
        rows, facts, apart = [], [], 0.0
        for size in options.sizes:
            found = {jobs: timed(pipeline, RATIOS[size], jobs) for jobs in JOBS[device.type]}
            first = found[JOBS[device.type][0]]
            for jobs, (runs, seconds, accuracies) in found.items():
                widest = max(abs(one - other) for one, other in zip(accuracies, first[2], strict=True))
                apart = max(apart, widest)
                facts.append({"runs": runs, "jobs": jobs, "seconds": seconds, "accuracies": accuracies})
                rows.append(
                    [
                        f"{runs}",
                        f"{jobs} × {max(1, torch.get_num_threads() // jobs)}",
                        f"{seconds:.1f}",
                        f"{60 * runs / seconds:.1f}",
                        f"{first[1] / seconds:.2f}",
                        f"{widest:.4f}",
                    ]
                )
    title = f"ROAR on MNIST, SimpleCNN: retrainings of {limit:,} images, {order.recipe.epochs} epochs, and their test"
    head = ["retrainings", "processes × threads", "seconds", "retrainings/min", "times as fast", "accuracies differ by"]
    about = {"device": device_name(device), "threads": torch.get_num_threads(), "rows": facts}
    published("side_by_side", title, head, rows, about, options.output_dir)


if __name__ == "__main__":
    main()
