"""Side by side in one run: repeats that alternate between the sides, their medians, and a record of it all."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datasets import DATA_DIR
from evaluation.tables import markdown_rows
from storage import write_text
from training.checkpoint import versions
from training.device import device_name


def parser_of(about: str | None, repeats: int) -> argparse.ArgumentParser:
    """The options that these scripts have in common.

    Args:
        about: the script's docstring.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR)
    parser.add_argument("--output-dir", type=Path, default=Path())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=repeats, help="of each side (default: %(default)s)")
    return parser


Side = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat of one side."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def alternated(sides: Mapping[str, Side], repeats: int, device: torch.device, warm_up: int = 1) -> dict[str, Timing]:
    """Time each side `repeats` times, one after the other in turn, so that what slows the machine slows all."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(warm_up + repeats):
        for name, side in sides.items():
            wait_for(device)
            started = time.perf_counter()
            side()
            wait_for(device)
            if repeat >= warm_up:
                found[name].append(time.perf_counter() - started)
    return {name: Timing(tuple(seconds)) for name, seconds in found.items()}


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def goal_cell(ratio: float, goal: float | None) -> str:
    """A ratio, and whether it reaches what was aimed at."""
    if goal is None:
        return f"{ratio:.1f}"
    digits = 1 if round(ratio, 1) != goal else 2
    return f"{ratio:.{digits}f} ({'reaches' if ratio >= goal else 'falls short of'} {goal:g})"


def published(name: str, title: str, head: Sequence[str], rows: Sequence[list[str]], facts: Any, output: Path) -> None:
    """Print a table, and keep it with its numbers in `<output>/results/benchmarks/<name>.md` and `.json`."""
    device = facts["device"] if isinstance(facts, dict) and "device" in facts else device_name(torch.device("cpu"))
    text = f"{title}\n\n{markdown_rows([list(head), *rows])}\n{device}, torch {torch.__version__}\n"
    print(text, flush=True)
    folder = output / "results" / "benchmarks"
    write_text(folder / f"{name}.md", text)
    record = {"title": title, "device": device, "versions": versions(), "found": facts}
    write_text(folder / f"{name}.json", json.dumps(record, indent=1) + "\n")
