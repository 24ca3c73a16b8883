"""Time of the original's 504 retrainings on this machine: `python -m benchmarks.retrainings`.

The original retrained a network for each of nine ratios of ROAR and of KAR, for 28 pairs of a network and a method. A
retraining here takes the epochs of its network's recipe and one test; the time of a step is measured, on random
images, and nothing is trained to its end.
"""

import json
from collections import Counter
from typing import Any

import torch

from benchmarks.timing import SHORT, parser_of, published
from data import DATASETS
from experiments.cost import Costs, in_words
from experiments.engine import default_jobs, threads_per_job
from models import ATTENTIONS, model_name
from reporting.accuracy import ORIGINAL
from training.config import TrainingConfig
from training.device import device_name, resolve_device
from training.recipe import recipe_for

GOALS = {"cuda": {"all": 30 * 60, "without RAN": 12 * 60}}  # seconds
LARGE = "RAN"


def network_of(name: str) -> tuple[str, str | None]:
    """The data set and the attention of one of the original's pairs, such as "simple_cnn_mnist_CBAM_GC"."""
    words = name.split("_")
    dataset = next(dataset for dataset in DATASETS if dataset in words)
    named = words[words.index(dataset) + 1 : -1]  # the last one is the method
    return dataset, named[0] if named and named[0] in ATTENTIONS else None


def main() -> None:
    parser = parser_of(__doc__, 1)
    parser.add_argument("--jobs", type=int, help="retrainings side by side (default: as a sweep does)")
    options = parser.parse_args()
    device = resolve_device(options.device)
    jobs = options.jobs or default_jobs(device)
    pairs = json.loads(ORIGINAL.read_text())["retraining"]
    runs = Counter[tuple[str, str | None]]()
    for name, curves in pairs.items():
        runs[network_of(name)] += sum(map(len, curves.values()))
    costs, rows = Costs(device, jobs), []
    facts: list[dict[str, Any]] = []
    with threads_per_job(jobs):
        for (dataset, attention), count in sorted(runs.items(), key=lambda item: (item[0][0], item[0][1] or "")):
            recipe = recipe_for(dataset, attention)
            each = costs.training_seconds(TrainingConfig(dataset, attention, 0, recipe))
            model = model_name(attention)
            rows.append(
                [f"{model}, {dataset}", f"{count}", f"{recipe.epochs}", f"{each:.1f}", in_words(count * each / jobs)]
            )
            facts.append({"dataset": dataset, "model": model, "runs": count, "seconds_each": each})
    totals = {
        "all": sum(one["runs"] * one["seconds_each"] for one in facts) / jobs,
        "without RAN": sum(one["runs"] * one["seconds_each"] for one in facts if one["model"] != LARGE) / jobs,
    }
    for words, seconds in totals.items():
        goal = GOALS.get(device.type, {}).get(words)
        aim = "" if goal is None else f" ({'below' if seconds < goal else f'{SHORT} of'} {in_words(goal)})"
        count = sum(one["runs"] for one in facts if words == "all" or one["model"] != LARGE)
        rows.append([words, f"{count}", "", "", in_words(seconds) + aim])
    beside = f"{jobs} side by side with {max(1, torch.get_num_threads() // jobs)} threads each"
    title = f"The original's retrainings, {beside}, by the measured time of a step; the original took 498 hours"
    head = ["network", "retrainings", "epochs", "seconds each", "all of them"]
    about = {
        "device": device_name(device),
        "jobs": jobs,
        "seconds": totals,
        "rows": facts,
    }
    published("retrainings", title, head, rows, about, options.output_dir)


if __name__ == "__main__":
    main()
