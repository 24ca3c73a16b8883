"""Compare a small run of every evaluation at two commits: maps, accuracies, tables, names of files and messages.

`python -m benchmarks.compare_commits record CHECKOUT FOLDER` runs the commands of a checkout on small real samples and
keeps what they print and write; `python -m benchmarks.compare_commits compare FOLDER OTHER` names every difference.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import torch

from common.hashing import array_sha256

ROAD = "ROAD,F-Fidelity,insertion-deletion"
FEW = "--target=mnist --quick --limit-test=60"
QUICK = f"{FEW} --epochs=1 --limit-train=120"
COMMANDS = (
    *(f"--train --target=mnist --attention={name} --epochs=1 --limit-train=64" for name in ("none", "CAM", "CBAM")),
    "--train --target=cifar10 --attention=WARN --epochs=1 --limit-train=24 --batch-size=8 --lr=0.01 --seeds=2",
    "--train --target=mnist --attention=RAN --epochs=2 --small-epochs=1 --limit-train=32",
    f"--eval=ROAR,KAR --method=VBP,GC {QUICK} --ratios=0.3,0.9 --seeds=2 --mask-seeds=2 --jobs=2",
    f"--eval=ROAR,KAR --method=VBP,GC {QUICK} --ratios=0.3,0.9 --seeds=2 --mask-seeds=2 --dry-run",
    f"--eval=ROAR --method=all {QUICK} --ratios=0.5 --steps=2 --seeds=2",
    f"--eval=ROAR --method=GC --ensemble=all {QUICK} --ratios=0.5 --samples=2 --control=blur",
    f"--eval=ROAR --method=IG,GB --attention=CBAM --steps=2 --baseline=mean {QUICK} --rank=square --fill=linear",
    f"--eval=KAR --method=DeconvNet --attention=CBAM {QUICK} --ratios=0.5 --granularity=element --mask-split=train",
    f"--eval=KAR --method=IB --attention=CBAM {QUICK} --ratios=0.5 --explain=label --fill=black",
    f"--eval=ROAR --method=CAM --attention=CAM {QUICK} --ratios=0.5 --map-dtype=float16 --overwrite",
    f"--eval=ROAR --method=VBP --model=tests.own_model:small {QUICK} --ratios=0.5",
    f"--eval={ROAD} --target=cifar10 --quick --method=VBP,GC --limit-test=20 --seeds=2",
    f"--eval=ROAD --method=VBP {FEW} --rank=absolute --ratios=0.2,0.4",
    f"--eval=F-Fidelity --method=VBP {FEW} --alpha=0.3 --beta=0.2 --draws=2 --fill=black",
    f"--eval=sanity --method=VBP,GB,GC {FEW} --random-labels --seeds=2",
    f"--eval=selectivity --method=VBP,GC {FEW} --removals=12",
    f"--eval=selectivity --method=VBP {FEW} --removals=6 --order=least --rank=absolute --fill=black",
    f"--eval=coherence --method=VBP,GC --attention=none,CBAM {FEW} --classes=1,2",
    "--eval=ROAR,ROAD --target=planted --quick --method=evaluation.planted:TrueMap --ratios=0.5 --limit-train=200",
    "--saliency --target=cifar10 --method=VBP,GC --quick --limit-train=24 --limit-test=20",
    "--report --quick",
    "--report",
    *(
        "--eval=ROAR --ratios=0",
        "--eval=none",
        "--train --target=svhn",
        "--eval=ROAD --fill=mean",
        "--eval=ROAR --control=x",
    ),
    *(
        "--method=XX --eval=ROAR",
        "--train --depth=92",
        "--publish --train",
        "--eval=coherence --target=mnist --classes=x",
    ),
    f"--eval=selectivity --removals=9999 {FEW}",
)
UNSTEADY = ("seconds", "versions", "device")
LOCKS = (".claims", ".locks")


def record(checkout: Path, folder: Path) -> None:
    """Run every command in `checkout`, one after the other in one output folder, and keep what came of it."""
    output, data = folder.resolve() / "out", folder.resolve() / "data"
    code = "from pathlib import Path; from tests.samples import write_sample; import sys; "
    code += "[write_sample(name, Path(sys.argv[1])) for name in ('mnist', 'cifar10')]"
    python, environment = checkout.resolve() / ".venv/bin/python", os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([python, "-c", code, data], cwd=checkout, check=True)
    said: dict[str, Any] = {}
    for command in COMMANDS:
        words: list[str | Path] = [python, "-m", "tests.run_main", data, f"--output-dir={output}", *command.split()]
        done = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        errors = [line for line in done.stderr.splitlines() if line.startswith(("main.py:", "Traceback"))]
        said[command] = [done.returncode, steady(done.stdout.replace(str(output), "OUT")), errors]
        print(done.returncode, command, flush=True)
    files = {
        str(path.relative_to(output)): contents(path)
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.parent.name not in LOCKS
    }
    (folder / "found.json").write_text(json.dumps({"said": said, "files": files}, indent=1), encoding="utf-8")


def steady(text: str) -> str:
    """Leave out what changes from run to run: times."""
    return re.sub(r"\b\d[\d.]* (s|seconds|minutes|hours|days)\b|\| +\d+ (?=\| AMD|\| Intel)", "TIME", text)


def contents(path: Path) -> Any:
    """Return what must not change of a file: arrays by their sums, records and tables without times."""
    if path.suffix == ".h5":
        found: dict[str, Any] = {}
        with h5py.File(path) as file:
            found |= {name: str(value) for name, value in file.attrs.items() if name not in UNSTEADY}
            file.visititems(lambda name, x: found.update({name: array_sha256(x[:])} if hasattr(x, "shape") else {}))
        return found
    if path.suffix == ".pt":
        content = torch.load(path, weights_only=True)
        return [content["sum"], {name: one for name, one in content["metadata"].items() if name not in UNSTEADY}]
    if path.suffix == ".json":
        one = json.loads(path.read_text(encoding="utf-8"))
        return [one["configuration"], {key: value for key, value in one["result"].items() if key not in UNSTEADY}]
    if path.suffix in (".md", ".html"):
        return steady(path.read_text(encoding="utf-8"))
    if path.suffix == ".csv" and "runs" not in path.name and "accuracy" not in path.name:
        return path.read_text(encoding="utf-8")
    return "a file"


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Name the places at which two nested values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = [f"{place}: only in one: {key}" for key in one.keys() ^ other.keys()]
        return found + [
            line for key in one.keys() & other.keys() for line in differences(one[key], other[key], f"{place}/{key}")
        ]
    return [] if one == other else [f"{place}: {str(one)[:2000]!r}\n    now {str(other)[:2000]!r}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    options = parser.parse_args()
    if options.what == "record":
        record(options.first, options.second)
        return 0
    pair = [
        json.loads((folder / "found.json").read_text(encoding="utf-8")) for folder in (options.first, options.second)
    ]
    found = [differences(pair[0][part], pair[1][part], part) for part in ("files", "said")]
    print("\n".join([*found[0], "", f"{len(found[0])} files differ; messages:", *found[1]]))
    return 1 if found[0] else 0


if __name__ == "__main__":
    sys.exit(main())
