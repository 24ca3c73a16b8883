"""Differences from Captum's methods on trained networks, and completeness of IG: `python -m benchmarks.agreement`.

The classifiers are the kept ones of `--output-dir`; one that is not there is trained first.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum
import torch
from torch import Tensor, nn

from attribution import build_method
from attribution.fusing import fuse_batchnorm
from attribution.integrated import IntegratedGradients
from benchmarks.captum_oracles import ORACLES
from common.files import write_text
from data import DATA_DIR, DATASETS
from experiments.pipeline import Pipeline
from experiments.store import Folders
from reporting.tables import markdown_table
from training.checkpoint import versions
from training.classifier import restore
from training.config import TrainingConfig
from training.device import device_name, resolve_device
from training.inputs import Images
from training.recipe import recipe_for

LIMITS = {"plain": 1e-4, "folded": 1e-3}
GAP_LIMIT = 0.01


def explained_images(pipeline: Pipeline, images: int) -> tuple[nn.Module, Tensor, Tensor]:
    """The trained classifier, test images as it sees them, and the classes that it predicts."""
    model = restore(pipeline.checkpoint, pipeline.device)
    test = pipeline.whole.test.subset(images)
    rows = torch.arange(len(test), device=pipeline.device)
    inputs = Images(test, pipeline.normalisation, pipeline.device).batch(rows)
    with torch.no_grad():
        return model, inputs, model(inputs).argmax(dim=1)


def relative_errors(model: nn.Module, inputs: Tensor, target: Tensor) -> dict[str, dict[str, float]]:
    """‖ours − Captum's‖ / ‖Captum's‖ over all images, for the network as it is and with fused batch norms."""
    networks: dict[str, Callable[..., Tensor]] = {
        "plain": lambda images: model(images),  # a function is explained as it is
        "folded": model,
    }
    errors = {}
    for name, (parameters, oracle) in ORACLES.items():
        method, *ensemble = name.split()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = oracle(model, inputs.clone(), target).detach()
        errors[name] = {
            kind: float(
                (build_method(method, network, *ensemble, **parameters).attribute(inputs, target) - want).norm()
            )
            / float(want.norm())
            for kind, network in networks.items()
        }
    return errors


def completeness(pipeline: Pipeline, images: int) -> dict[str, float]:
    """Median and 95 % quantile of IG's relative gap at the default steps, from black."""
    model, inputs, target = explained_images(pipeline, images)
    method = IntegratedGradients(fuse_batchnorm(model), black=pipeline.normalisation.black)
    gaps = torch.cat(
        [
            method.completeness_gap(part, classes, method.attribute(part, classes))
            for part, classes in zip(inputs.split(50), target.split(50), strict=True)
        ]
    )
    return {"images": len(gaps), "median": float(gaps.median()), "95 %": float(gaps.quantile(0.95))}


def measure(pipeline: Pipeline, images: int, complete_images: int) -> dict[str, Any]:
    explained = explained_images(pipeline, images)
    return {
        "images": images,
        "relative_errors": relative_errors(*explained),
        "completeness_gap": completeness(pipeline, complete_images),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR)
    parser.add_argument("--output-dir", type=Path, default=Path())
    parser.add_argument("--images", type=int, default=50, help="compared with Captum (default: %(default)s)")
    parser.add_argument("--complete-images", type=int, default=500, help="for IG's gap (default: %(default)s)")
    options = parser.parse_args()
    device = resolve_device("auto")
    folders = Folders.below(options.output_dir, options.data_dir)
    found = {
        name: measure(
            Pipeline(TrainingConfig(name, None, 0, recipe_for(name)), folders, device),
            options.images,
            options.complete_images,
        )
        for name in DATASETS
    }
    kinds = [(name, kind) for name in found for kind in LIMITS]
    rows = [["method", *(f"{name}, {kind}" for name, kind in kinds)]]
    for method in ORACLES:
        errors = [found[name]["relative_errors"][method][kind] for name, kind in kinds]
        rows.append(
            [
                method,
                *(f"{e:.1e}{'' if e <= LIMITS[kind] else ' (!)'}" for e, (_n, kind) in zip(errors, kinds, strict=True)),
            ]
        )
    print(f"relative error to Captum {captum.__version__}; (!) above {LIMITS}\n\n{markdown_table(rows)}")
    for name, one in found.items():
        gap = one["completeness_gap"]
        said = "" if gap["median"] <= GAP_LIMIT else f", above {GAP_LIMIT:.0%}"
        print(f"IG on {name}: completeness gap {gap['median']:.3%} in the median of {gap['images']} images{said}")
    path = folders.results / "agreement.json"
    about = {"device": device_name(device), "versions": versions() | {"captum": captum.__version__}}
    write_text(path, json.dumps(about | found, indent=1) + "\n")
    print(f"\n{path}")


if __name__ == "__main__":
    main()
