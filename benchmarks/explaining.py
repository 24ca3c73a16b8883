"""Maps per second, beside Captum with the same steps and samples: `python -m benchmarks.explaining`.

Both get the same images and the same trained network (ResNet-18 as it is initialised: speed does not depend on what
it learned). `whitebox.explain` fuses the batch norms of a copy in the first call, and in each later one checks that the
network is as it was; the relative difference of the maps is printed. SG draws other noise than Captum's NoiseTunnel:
there the difference is to Captum's gradients of the same noisy images.

All images are given in one call, which this project cuts into chunks of a few times the processor's cache. Captum does
not, and so is timed again with a loop around it, of some 64 images at a time.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path

import captum.attr
import torch
import torchvision
from torch import Tensor, nn

import whitebox
from benchmarks.apart import Apart, apart
from benchmarks.captum_oracles import ORACLES, SAMPLES, STEPS, Oracle
from benchmarks.timing import Side, goal_cell, largest_convolution_rate, operations, parser_of, published
from data import DATASETS
from experiments.pipeline import Pipeline
from experiments.store import Folders
from training.classifier import restore
from training.config import TrainingConfig
from training.device import device_name, disable_tf32, resolve_device, set_up_process
from training.inputs import Images
from training.recipe import recipe_for

METHODS = ("VBP", "IB", "IG", "DeconvNet", "GB", "GC", "GB-GC", "VBP SG")
GOALS = {("SimpleCNN", "cpu"): 2.0, ("ResNet-18", "cpu"): 1.2, ("SimpleCNN", "cuda"): 3.0, ("ResNet-18", "cuda"): 1.2}
REPEATS = 5
IMAGES = {"cpu": {"SimpleCNN": 1000, "ResNet-18": 16}, "cuda": {"SimpleCNN": 2000, "ResNet-18": 64}}
SLOW = {"IG": 25, "VBP SG": 5}  # times fewer images
CUT = 64  # images that go through the network at once, each step and sample counted
WHY = {
    "cpu": "on SimpleCNN half of the time, on ResNet-18 nine tenths of it go into convolutions, which both libraries "
    "leave to the same kernels, at nearly the limit; the rest of SimpleCNN's is bound by memory. GC's way back ends at "
    "the last block, so that most of it is the way forward."
}
COPIES = {"IG": STEPS, "VBP SG": SAMPLES}


def noise_tunnel(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """Captum's own SmoothGrad, with as many samples."""
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    maps: Tensor = tunnel.attribute(inputs, nt_samples=SAMPLES, stdevs=0.15, target=target, abs=False)
    return maps


TIMED: dict[str, Oracle] = {"VBP SG": noise_tunnel}


@dataclass(frozen=True)
class Subject:
    """A network, some images as it sees them, and the classes that it predicts."""

    model: nn.Module
    images: Tensor
    target: Tensor

    def taken(self, count: int) -> "Subject":
        return Subject(self.model, self.images[:count].contiguous(), self.target[:count])


@dataclass(frozen=True)
class Sides:
    """Any side of any row, made ready in the process that is to do it."""

    data_dir: Path
    output_dir: Path
    device: torch.device
    count: int | None = None  # of images for SimpleCNN

    def subject(self, network: str, method: str) -> Subject:
        """With as many images as `method` is timed with."""
        whole = self._subjects[network] if network in self._subjects else self._made(network)
        return whole.taken(max(2, len(whole.images) // SLOW.get(method, 1)))

    @cached_property
    def _subjects(self) -> dict[str, Subject]:
        return {}

    def _made(self, network: str) -> Subject:
        name, _, dataset = network.partition(", ")
        if dataset:
            folders = Folders.below(self.output_dir, self.data_dir)
            pipeline = Pipeline(TrainingConfig(dataset, None, 0, recipe_for(dataset)), folders, self.device)
            test = pipeline.whole.test.subset(self.count or IMAGES[self.device.type][name])
            rows = torch.arange(len(test), device=self.device)
            images = Images(test, pipeline.normalisation, self.device).batch(rows)
            model = restore(pipeline.checkpoint, self.device)
        else:
            torch.manual_seed(0)
            model = torchvision.models.resnet18().to(self.device).eval()
            images = torch.randn(IMAGES[self.device.type][name], 3, 224, 224, device=self.device)
        with torch.no_grad():
            self._subjects[network] = Subject(model, images, model(images).argmax(dim=1))
        return self._subjects[network]

    def maps(self, side: str, network: str, name: str) -> Callable[[], Tensor]:
        """Return the function that makes the maps of the method `name`; the third side in parts of `CUT` passes."""
        one, (parameters, oracle) = self.subject(network, name), ORACLES[name]
        model = copy.deepcopy(one.model).to(memory_format=torch.contiguous_format)
        if side == "ours":
            return lambda: whitebox.explain(model, one.images, one.target, *name.split(), **parameters)
        timed, parts = TIMED.get(name, oracle), [torch.arange(len(one.images), device=self.device)]
        if side == SIDES[2]:
            parts = self.parts(network, name)
        return lambda: torch.cat([timed(model, one.images[part], one.target[part]).detach() for part in parts])

    def parts(self, network: str, name: str) -> list[Tensor]:
        index = torch.arange(len(self.subject(network, name).images), device=self.device)
        return list(index.split(max(1, CUT // COPIES.get(name, 1))))

    def error(self, network: str, name: str) -> float:
        """Return the difference of our maps from Captum's, relative to these."""
        one = self.subject(network, name)
        want = ORACLES[name][1](one.model, one.images, one.target).detach()
        return float((self.maps("ours", network, name)() - want).norm() / want.norm())

    def __call__(self, side: str, network: str, name: str) -> Side:
        warnings.simplefilter("ignore")
        disable_tf32()
        if side == "ours":
            set_up_process()
        return self.maps(side, network, name)


SIDES = ("ours", "captum", "captum, cut")


def compared(sides: Sides, processes: Apart, network: str, name: str, repeats: int) -> dict[str, float]:
    """Maps per second of all sides, and how far apart the maps are."""
    cut = len(sides.parts(network, name)) > 1
    timings = processes.alternated(repeats, network, name, sides=SIDES if cut else SIDES[:2])
    count = len(sides.subject(network, name).images)
    rates = {side: count / timing.median for side, timing in timings.items()}
    fastest = max(rate for side, rate in rates.items() if side != "ours")
    ratios = {"ratio": rates["ours"] / rates["captum"], "to_faster": rates["ours"] / fastest}
    needed = operations(sides.maps("ours", network, name)) / count
    return {**rates, **ratios, "error": sides.error(network, name), "operations_per_map": needed}


def main() -> None:
    parser = parser_of(__doc__, REPEATS)
    parser.add_argument("--networks", nargs="+", help="only these (default: all)")
    parser.add_argument("--images", type=int, help="of SimpleCNN in one call (default: 1000, on a GPU 2000)")
    options = parser.parse_args()
    device = resolve_device(options.device)
    sides, rows, facts = Sides(options.data_dir, options.output_dir, device, options.images), [], []
    limit = largest_convolution_rate(device)
    networks = [*(f"SimpleCNN, {name}" for name in DATASETS), "ResNet-18"]
    chosen = [one for one in networks if not options.networks or one.split(",")[0] in options.networks]
    warnings.simplefilter("ignore")
    for network in chosen:
        sides.subject(network, METHODS[0])  # trained here, where it is not, before the others look for it
    with apart({side: partial(sides, side) for side in SIDES}, device) as processes:
        for network, name in product(chosen, METHODS):
            one = compared(sides, processes, network, name, options.repeats)
            goal = GOALS[network.split(",")[0], device.type]
            cut = one.get(SIDES[2])
            cells = [f"{one['ours']:,.1f}", f"{one['captum']:,.1f}", "" if cut is None else f"{cut:,.1f}"]
            ratios = [goal_cell(one["ratio"], goal), f"{one['to_faster']:.1f}"]
            ratios.append(f"{one['ours'] * one['operations_per_map'] / limit:.0%}")
            rows.append([f"{network}: {name}", *cells, *ratios, f"{one['error']:.0e}"])
            facts.append({"network": network, "method": name, **one})
    settings = f"IG with 50 steps, SG with 5 samples; median of {options.repeats}"
    bound = f"limit: a large convolution, {limit / 1e12:.2f} · 10¹² operations/s"
    title = f"Explaining, beside Captum {captum.__version__}: {settings}; {bound}"
    head = ["network and method", "ours, maps/s", "Captum", "Captum in a loop", "ratio in one call", "to the faster"]
    head += ["of the limit", "relative difference"]
    about = {"device": device_name(device), "limit": limit, "rows": facts}
    published("explaining", title, head, rows, about, options.output_dir, WHY.get(device.type, ""))


if __name__ == "__main__":
    main()
