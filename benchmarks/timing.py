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
from torch.utils.flop_counter import FlopCounterMode

from common.files import write_text
from data import DATA_DIR
from reporting.tables import markdown_table
from training.checkpoint import versions
from training.device import device_name


def parser_of(about: str | None, repeats: int | None) -> argparse.ArgumentParser:
    """The options that these scripts have in common.

    Args:
        about: the script's docstring.
        repeats: the default; None where the script has no such option.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR)
    parser.add_argument("--output-dir", type=Path, default=Path())
    parser.add_argument("--device", default="auto")
    if repeats is not None:
        parser.add_argument("--repeats", type=int, default=repeats, help="of each side (default: %(default)s)")
    return parser


LIMIT_REPEATS = 20

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


def operations(work: Side) -> float:
    """The floating-point operations of `work` in matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def largest_product_rate(device: torch.device, kind: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product."""
    size = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    return _largest_rate(lambda: a @ b, device)


def largest_convolution_rate(device: torch.device) -> float:
    """The same of a large float32 convolution, whose kernels are faster here and there than those of the product."""
    images = torch.randn(32 if device.type == "cpu" else 512, 256, 28, 28, device=device)
    weight = torch.randn(256, 256, 3, 3, device=device)
    images, weight = (one.contiguous(memory_format=torch.channels_last) for one in (images, weight))
    return _largest_rate(lambda: torch.conv2d(images, weight, padding=1), device)


def _largest_rate(work: Side, device: torch.device) -> float:
    timing = alternated({"work": work}, LIMIT_REPEATS, device, warm_up=2)["work"]
    return operations(work) / min(timing.seconds)


def goal_cell(ratio: float, goal: float | None) -> str:
    """A ratio, and whether it reaches what was aimed at."""
    if goal is None:
        return f"{ratio:.1f}"
    digits = 1 if round(ratio, 1) != goal else 2
    return f"{ratio:.{digits}f} ({'reaches' if ratio >= goal else f'{SHORT} of'} {goal:g})"


SHORT = "falls short"


def published(
    name: str,
    title: str,
    head: Sequence[str],
    rows: Sequence[list[str]],
    facts: Any,
    output: Path,
    why: str = "",
) -> None:
    """Print a table, and keep it with its numbers in `<output>/results/benchmarks/<name>.md` and `.json`.

    Args:
        why: said under the table if anything in it falls short of its aim.
    """
    device = facts["device"] if isinstance(facts, dict) and "device" in facts else device_name(torch.device("cpu"))
    short = why and any(SHORT in cell for row in rows for cell in row)
    reason = f"\nWhat falls short: {why}\n" if short else ""
    text = f"{title}\n\n{markdown_table([list(head), *rows])}{reason}\n{device}, torch {torch.__version__}\n"
    print(text, flush=True)
    folder = output / "results" / "benchmarks"
    write_text(folder / f"{name}.md", text)
    record = {"title": title, "device": device, "versions": versions(), "found": facts}
    write_text(folder / f"{name}.json", json.dumps(record, indent=1) + "\n")
