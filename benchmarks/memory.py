"""Peak memory of explaining many images with many steps or samples: `python -m benchmarks.memory`.

Each row is a process of its own, whose resident memory is read from the system after the model and the images are
loaded, and at its peak.
"""

import argparse
import json
import resource
import subprocess
import sys
from typing import Any

import torch

from attribution import build_method
from models import IMAGE_SHAPES, build_model
from reporting.tables import markdown_table

CASES: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "IG, 100 steps": ("IG", None, {"steps": 100}),
    "SG of VBP, 100 samples": ("VBP", "SG", {"samples": 100}),
    "SG-VAR of GB, 100 samples": ("GB", "SG-VAR", {"samples": 100}),
    "GC": ("GC", None, {}),
}
LIMIT_MB = 500


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(case: str, images: int) -> dict[str, float]:
    """All images in one call of `attribute`; random ones, since memory does not depend on what they show."""
    name, ensemble, parameters = CASES[case]
    torch.manual_seed(0)
    model = build_model("cifar10").eval()
    inputs = torch.randn(images, *IMAGE_SHAPES["cifar10"])
    with torch.no_grad():
        target = torch.cat([model(part).argmax(dim=1) for part in inputs.split(100)])
    loaded = peak_mb()
    maps = build_method(name, model, ensemble, **parameters).attribute(inputs, target)
    return {"loaded": loaded, "peak": peak_mb(), "finite": float(maps.isfinite().all())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="CIFAR-10 images (default: %(default)s)")
    parser.add_argument("--case", choices=CASES, help="measure one case in this process, and print JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.images)))
        return
    rows = [["SimpleCNN, CIFAR-10", "loaded (MB)", "peak (MB)", "above (MB)", f"below {LIMIT_MB}"]]
    for case in CASES:
        command = [sys.executable, "-m", "benchmarks.memory", f"--images={options.images}", f"--case={case}"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        above = found["peak"] - found["loaded"]
        cells = [f"{found['loaded']:.0f}", f"{found['peak']:.0f}", f"{above:.0f}", "yes" if above < LIMIT_MB else "no"]
        rows.append([case, *cells])
    print(f"{options.images} images in one call\n\n{markdown_table(rows)}")


if __name__ == "__main__":
    main()
