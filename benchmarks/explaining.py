"""How many maps a second, beside Captum with the same steps and samples: `python -m benchmarks.explaining`.

Both get the same images and the same trained network (ResNet-18 as it is initialised: speed does not depend on what
it learned), Captum's as PyTorch makes them. This project folds the batch normalisation first and keeps the channels
last in memory; by how much the maps differ is printed. SG draws other noise than Captum's NoiseTunnel: there the
difference is to Captum's gradients of the same noisy images.

All images are given in one call, which this project cuts into chunks that fit the processor's cache. Captum does not,
and so is timed again with a loop around it, of some 64 images at a time.
"""

import argparse
import copy
import warnings

import captum.attr
import torch
import torchvision
from torch import Tensor, nn

from attribution import build_method
from attribution.folding import folded
from attribution.maps import attributions
from benchmarks.captum_oracles import ORACLES, SAMPLES, STEPS, Oracle, layer_of
from benchmarks.timing import Side, alternated, goal_cell, parser_of, published
from datasets import DATASETS
from evaluation.pipeline import LAYER_METHODS, Folders, Pipeline
from training.classifier import Order, restore
from training.device import device_name, resolve_device
from training.inputs import Images
from training.recipe import recipe_for

METHODS = ("VBP", "IB", "IG", "DeconvNet", "GB", "GC", "GB-GC", "VBP SG")
GOALS = {("SimpleCNN", "cpu"): 2.0, ("ResNet-18", "cpu"): 1.2, ("SimpleCNN", "cuda"): 3.0, ("ResNet-18", "cuda"): 1.2}
REPEATS = 5
IMAGES = {"cpu": {"SimpleCNN": 1000, "ResNet-18": 4}, "cuda": {"SimpleCNN": 2000, "ResNet-18": 64}}
SLOW = {"IG": 25, "VBP SG": 5}  # times fewer images
CUT = 64  # images that go through the network at once, each step and sample counted
COPIES = {"IG": STEPS, "VBP SG": SAMPLES}


def noise_tunnel(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """Captum's own SmoothGrad, with as many samples."""
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    maps: Tensor = tunnel.attribute(inputs, nt_samples=SAMPLES, stdevs=0.15, target=target, abs=False)
    return maps


TIMED: dict[str, Oracle] = {"VBP SG": noise_tunnel}


def subjects(options: argparse.Namespace, device: torch.device) -> dict[str, tuple[nn.Module, Tensor, Tensor]]:
    """The networks, some images for each, and the classes that it predicts."""
    found = {}
    for name in DATASETS:
        folders = Folders.below(options.output_dir, options.data_dir)
        pipeline = Pipeline(Order(name, None, 0, recipe_for(name)), folders, device)
        test = pipeline.whole.test.limited(IMAGES[device.type]["SimpleCNN"])
        images = Images(test, pipeline.normalisation, device).batch(torch.arange(len(test), device=device))
        found[f"SimpleCNN, {name}"] = (restore(pipeline.checkpoint, device), images)
    torch.manual_seed(0)
    large = torchvision.models.resnet18().to(device).eval()
    found["ResNet-18"] = (large, torch.randn(IMAGES[device.type]["ResNet-18"], 3, 224, 224, device=device))
    with torch.no_grad():
        return {name: (model, images, model(images).argmax(dim=1)) for name, (model, images) in found.items()}


def compared(
    model: nn.Module, images: Tensor, target: Tensor, name: str, device: torch.device, repeats: int
) -> dict[str, float]:
    """Maps per second of both, and how far apart the maps are."""
    count = max(2, len(images) // SLOW.get(name, 1))
    images, target = images[:count].contiguous(), target[:count]
    fast = images.contiguous(memory_format=torch.channels_last)
    parameters, oracle = ORACLES[name]
    timed = TIMED.get(name, oracle)
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    if name in LAYER_METHODS:
        parameters = {**parameters, "layer": layer_of(model)}
    method = build_method(name.split()[0], folded(model), *name.split()[1:], **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, got = oracle(model, images, target).detach(), attributions(method, fast, target)
        sides: dict[str, Side] = {
            "ours": lambda: attributions(method, fast, target),
            "captum": lambda: timed(model, images, target),
        }
        parts = torch.arange(count, device=device).split(max(1, CUT // COPIES.get(name, 1)))
        if len(parts) > 1:
            sides["captum, cut"] = lambda: [timed(model, images[part], target[part]) for part in parts]
        timings = alternated(sides, repeats, device)
    rates = {side: count / timing.median for side, timing in timings.items()}
    fastest = max(rate for side, rate in rates.items() if side != "ours")
    error = float((got - want).norm() / want.norm())
    return {**rates, "ratio": rates["ours"] / rates["captum"], "to_faster": rates["ours"] / fastest, "error": error}


def main() -> None:
    parser = parser_of(__doc__, REPEATS)
    parser.add_argument("--networks", nargs="+", help="only these (default: all)")
    options = parser.parse_args()
    device = resolve_device(options.device)
    rows, facts = [], []
    for network, (model, images, target) in subjects(options, device).items():
        if options.networks and network.split(",")[0] not in options.networks:
            continue
        for name in METHODS:
            one = compared(model, images, target, name, device, options.repeats)
            goal = GOALS[network.split(",")[0], device.type]
            cut = one.get("captum, cut")
            cells = [f"{one['ours']:,.1f}", f"{one['captum']:,.1f}", "" if cut is None else f"{cut:,.1f}"]
            ratios = [goal_cell(one["ratio"], goal), f"{one['to_faster']:.1f}"]
            rows.append([f"{network}: {name}", *cells, *ratios, f"{one['error']:.0e}"])
            facts.append({"network": network, "method": name, **one})
    about = f"IG with 50 steps, SG with 5 samples; median of {options.repeats}"
    title = f"Explaining, beside Captum {captum.__version__}: {about}"
    head = ["network and method", "ours, maps/s", "Captum", "Captum in a loop", "ratio in one call", "to the faster"]
    head.append("relative difference")
    published("explaining", title, head, rows, {"device": device_name(device), "rows": facts}, options.output_dir)


if __name__ == "__main__":
    main()
