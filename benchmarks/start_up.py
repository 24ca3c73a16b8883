"""Time until the help appears, and the table of a finished sweep: `python -m benchmarks.start_up`."""

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.timing import alternated, published
from data import DATA_DIR

GOALS = {"--help": 0.3, "a finished sweep of ROAR": 4.0}
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path(DATA_DIR))
    parser.add_argument("--output-dir", type=Path, default=Path())
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sweep = ["--eval=ROAR", "--target=planted", "--method=VBP", "--quick", f"--output-dir={folder}"]
        commands = dict(zip(GOALS, (["--help"], sweep), strict=True))

        def run(name: str) -> None:
            subprocess.run([sys.executable, "main.py", *commands[name]], check=True, capture_output=True)

        for name in commands:
            run(name)
        timings = alternated(
            {name: partial(run, name) for name in commands}, options.repeats, torch.device("cpu"), warm_up=0
        )
    rows = [
        [name, f"{timing.median:.2f}", f"{GOALS[name]:g}", "yes" if timing.median < GOALS[name] else "no"]
        for name, timing in timings.items()
    ]
    facts = {name: list(timing.seconds) for name, timing in timings.items()}
    title = f"Start-up: whole commands, median of {options.repeats}"
    published("start_up", title, ["command", "seconds", "aimed at", "below"], rows, facts, options.output_dir)


if __name__ == "__main__":
    main()
