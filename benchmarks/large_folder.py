"""Peak memory of commands on a folder of 50,000 images of mixed sizes: `python -m benchmarks.large_folder`.

The images are generated, in a thousand classes; torchvision's ResNet-18 has random weights. Memory is the anonymous
memory of the command and its processes together, without mapped files, looked at ten times a second. The lines that a
command prints divide its time into phases.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import published
from training.device import device_name

CLASSES, IMAGES, SIDES = 1000, 50, (100, 400)  # images of a class; the sides are between these
SECONDS_BETWEEN_LOOKS = 0.1
LIMIT_MB = 4000
NETWORK = "torchvision:resnet18"
CASES = {
    "ROAD": ["--eval=ROAD", "--method=VBP,GC", "--limit-test=200", "--ratios=0.1,0.5,0.9"],
    "trust": ["--eval=trust", "--method=VBP,GC", "--budget=5"],
    "saliency": ["--saliency", "--method=VBP", "--limit-test=2000"],
}


@dataclass(frozen=True)
class Phase:
    """The time from one line of a command's output to the next, and the largest memory in it."""

    line: str
    seconds: float
    peak_mb: float

    def __str__(self) -> str:
        return f"{self.seconds:7.1f} s {self.peak_mb:7,.0f} MB  {self.line}"


def write_class(folder: Path, number: int) -> None:
    """Write the images of one class: smooth colours, every fifth a PNG and the others JPEG."""
    from PIL import Image

    generator = np.random.default_rng(number)
    own = folder / f"class_{number:04d}"
    own.mkdir(parents=True, exist_ok=True)
    for image in range(IMAGES):
        width, height = map(int, generator.integers(SIDES[0], SIDES[1] + 1, 2))
        colours = generator.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        picture = Image.fromarray(colours).resize((width, height), Image.Resampling.BILINEAR)
        picture.save(own / f"{image:03d}.{'png' if image % 5 == 0 else 'jpg'}")


def write_weights(path: Path) -> None:
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)
    save_file(resnet18(weights=None, num_classes=CLASSES).state_dict(), path)


def tree_mb(root: int) -> float:
    """Return the anonymous memory of a process and its descendants, in MB."""
    children: dict[int, list[int]] = {}
    memory: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            facts = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:  # it has ended
            continue
        number = int(facts["Pid"])
        children.setdefault(int(facts["PPid"]), []).append(number)
        memory[number] = int(facts.get("RssAnon", "0 kB").split()[0])
    total, family = 0, [root]
    while family:
        number = family.pop()
        total += memory.get(number, 0)
        family += children.get(number, [])
    return total / 1024


def watch(command: list[str]) -> list[Phase]:
    """Run a command to its end and return its phases.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    phases: list[Phase] = []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        peak, line, start = 0.0, "start", time.perf_counter()
        lock, ended = threading.Lock(), threading.Event()

        def look() -> None:
            nonlocal peak
            while not ended.wait(SECONDS_BETWEEN_LOOKS):
                now = tree_mb(process.pid)
                with lock:
                    peak = max(peak, now)

        watcher = threading.Thread(target=look)
        watcher.start()
        assert process.stdout is not None
        for text in process.stdout:
            with lock:
                phases.append(Phase(line, time.perf_counter() - start, peak))
                peak, line, start = 0.0, text.strip(), time.perf_counter()
            print(phases[-1], flush=True)
        code = process.wait()
        ended.set()
        watcher.join()
        phases.append(Phase(line, time.perf_counter() - start, peak))
        print(phases[-1], flush=True)
        if code:
            errors.seek(0)
            raise subprocess.CalledProcessError(code, command, stderr=errors.read()[-2000:])
    return phases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="the images, made if they are missing (default: for this run)")
    parser.add_argument("--output-dir", type=Path, default=Path())
    parser.add_argument("--case", choices=CASES, action="append", help="of the table (default: all)")
    options = parser.parse_args()
    rows, facts = [], []
    with tempfile.TemporaryDirectory() as scratch:
        images, weights = options.folder or Path(scratch, "images"), Path(scratch, "resnet18.safetensors")
        if not images.exists():
            with ProcessPoolExecutor() as pool:
                list(pool.map(partial(write_class, images), range(CLASSES), chunksize=10))
        write_weights(weights)
        network = [f"--model={NETWORK}", f"--weights={weights}"]
        shared = [*network, f"--target=folder:{images}", "--split=test", f"--data-dir={scratch}/data"]
        for case in options.case or CASES:
            command = [sys.executable, "main.py", *CASES[case], *shared, f"--output-dir={scratch}/{case}", "--jobs=2"]
            phases = watch(command)
            peak, seconds = max(phase.peak_mb for phase in phases), sum(phase.seconds for phase in phases)
            reached = "yes" if peak < LIMIT_MB else "no"
            rows.append([" ".join(CASES[case]), f"{seconds:.0f}", f"{peak:,.0f}", reached])
            facts.append({"name": case, "command": CASES[case], "phases": [vars(phase) for phase in phases]})
    title = (
        f"{CLASSES * IMAGES:,} images of {SIDES[0]} to {SIDES[1]} pixels, {CLASSES:,} classes, ResNet-18 at 224 pixels"
    )
    head = ["command", "seconds", "peak, MB", f"below {LIMIT_MB:,}"]
    facts_of_all = {"device": device_name(torch.device("cpu")), "rows": facts}
    published("large_folder", title, head, rows, facts_of_all, options.output_dir)


if __name__ == "__main__":
    main()
