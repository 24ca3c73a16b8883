"""The whole table of a GPU by one call of under 8 minutes: `python -m benchmarks.gpu`.

Each script runs in a process of its own, the most telling first, and is stopped when the time is up.
"""

import importlib.util
import subprocess
import sys
import time

from benchmarks.timing import parser_of
from training.device import resolve_device

MINUTES = 7.5
SCRIPTS = (
    ("retrainings",),
    ("training", "--repeats=1"),
    ("explaining", "--repeats=2", "--networks", "SimpleCNN", "ResNet-18"),
    ("side_by_side", "--sizes", "few", "many"),
    ("training", "--to-accuracy=only"),
    ("imputation", "--repeats=3"),
    ("selectivity", "--repeats=1"),
)
NEEDED = {"explaining": "captum"}


def main() -> int:
    parser = parser_of(__doc__, None)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of it (default: %(default)s)")
    options = parser.parse_args()
    device = resolve_device(options.device)
    common = [f"--data-dir={options.data_dir}", f"--output-dir={options.output_dir}", f"--device={device}"]
    started, undone = time.monotonic(), []
    for name, *words in SCRIPTS:
        if name in NEEDED and importlib.util.find_spec(NEEDED[name]) is None:
            undone.append(f"{name}: needs {NEEDED[name]}")
            continue
        left = 60 * options.minutes - (time.monotonic() - started)
        if left <= 0:
            undone.append(f"{name}: no time left")
            continue
        print(f"\n== {name}, {60 * options.minutes - left:.0f} s after the start\n", flush=True)
        try:
            command = [sys.executable, "-m", f"benchmarks.{name}", *words, *common]
            if subprocess.run(command, timeout=left, check=False).returncode:
                undone.append(f"{name}: failed")
        except subprocess.TimeoutExpired:
            undone.append(f"{name}: not finished in time")
    print(f"\n{time.monotonic() - started:.0f} s on {device}; " + ("; ".join(undone) or "all finished"))
    return 1 if undone else 0


if __name__ == "__main__":
    sys.exit(main())
