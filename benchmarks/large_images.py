"""ROAD and deletion at 224 pixels, beside Quantus and pytorch-grad-cam: `python -m benchmarks.large_images`.

All get the same random images, smooth maps and networks with random weights, and remove the most important pixels first
at the same ratios. Our time is half of that of both orders. pytorch-grad-cam classifies the whole images again at each
ratio. Quantus's ROAD counts pixels over all channels but imputes planes: it gets the map in the first channel, values
below it in the others, and a third of the percentages. A second table has the imputation alone, beside a sparse direct
solve in a vectorised form (SciPy's LU factors) and Quantus's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.timing import Side, alternated, goal_cell, parser_of, published
from evaluation.imputation import BESIDE, DIAGONAL, impute
from evaluation.masking import Removal, gaussian_blur, ranks
from evaluation.protocol import TestImages
from evaluation.removal import RemovalEvaluation, measure
from training.device import device_name, resolve_device
from training.inputs import Normalisation, TensorInputs

SIZE, IMAGES, REPEATS = 224, 4, 3
ROAD_RATIOS = tuple(tenth / 10 for tenth in range(1, 10))
STEPS = 12  # of deletion: Quantus wants the pixels of a step to divide 224², and removes channels one by one
IMPUTED = 8  # images
GOALS = {"ROAD": 3.0, "deletion": 2.0, "imputation": 10.0}
Array = npt.NDArray[np.float64]


def resnet() -> nn.Module:
    from torchvision.models import resnet18

    model: nn.Module = resnet18(weights=None)
    return model.eval()


def vit() -> nn.Module:
    import timm  # only in an environment for benchmarks

    model: nn.Module = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    return model.eval()


NETWORKS: dict[str, Callable[[], nn.Module]] = {"ResNet-18": resnet, "ViT-Tiny": vit}


@dataclass(frozen=True)
class Subject:
    """A network, images as it sees them, the classes that it predicts, and a map of each image (N, 1, H, W)."""

    model: nn.Module
    images: Tensor
    target: Tensor
    maps: Tensor

    @classmethod
    def of(cls, model: nn.Module, count: int) -> "Subject":
        generator = torch.Generator().manual_seed(0)
        images = gaussian_blur(torch.randn(count, 3, SIZE, SIZE, generator=generator), 1.5)
        with torch.no_grad():
            target = model(images).argmax(dim=1)
        return cls(model, images / images.std(), target, smooth_maps(count, generator))

    def ours(self, evaluation: str, ratios: tuple[float, ...]) -> dict[str, Any]:
        index, zeros = torch.arange(len(self.images)), torch.zeros(3)
        inputs, normalisation = TensorInputs(self.images, zeros), Normalisation(zeros, torch.ones(3))
        test = TestImages(inputs, self.target, index, normalisation)
        config = RemovalEvaluation(evaluation).configure(ratios=ratios, fill="mean", by_image=True)
        return measure(self.model, test, self.target, ranks(self.maps, index), config)

    def quantus_road(self) -> object:
        import quantus

        below = self.maps.min() - 1
        maps = torch.cat([self.maps, below.expand(len(self.maps), 2, SIZE, SIZE)], dim=1)
        percentages = [100 * ratio / 3 for ratio in ROAD_RATIOS]
        metric = quantus.ROAD(percentages=percentages, normalise=False, disable_warnings=True)
        return self._quantus(metric, maps)

    def quantus_deletion(self) -> object:
        import quantus

        step = 3 * SIZE * SIZE // STEPS  # values
        options: dict[str, Any] = {"perturb_baseline": 0.0, "normalise": False, "disable_warnings": True}
        metric = quantus.PixelFlipping(features_in_step=step, **options)
        return self._quantus(metric, self.maps)

    def _quantus(self, metric: Callable[..., object], maps: Tensor) -> object:
        arrays = {"x_batch": self.images.numpy(), "y_batch": self.target.numpy(), "a_batch": maps.numpy()}
        return metric(model=self.model, **arrays, device="cpu", batch_size=len(self.images))

    def gradcam_deletion(self) -> Array:
        from pytorch_grad_cam.metrics.perturbation_confidence import (
            PerturbationConfidenceMetric,
            RemoveMostRelevantFirst,
        )
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

        targets = [ClassifierOutputSoftmaxTarget(int(category)) for category in self.target]
        maps = self.maps[:, 0].numpy()
        scores = []
        for step in range(1, STEPS + 1):
            remove = RemoveMostRelevantFirst(100 - 100 * step / STEPS, lambda image, mask: image * mask)
            metric = PerturbationConfidenceMetric(remove)
            scores.append(metric(self.images, maps, targets, self.model))
        return np.stack(scores, axis=1)


def smooth_maps(count: int, generator: torch.Generator) -> Tensor:
    """Maps (N, 1, H, W) of some patches."""
    return gaussian_blur(torch.randn(count, 1, SIZE, SIZE, generator=generator), SIZE / 28)


def sparse_direct(image: Array, removed: npt.NDArray[np.bool_]) -> Array:
    """One image (C, H, W), all of its channels by one LU factorisation; removed pixels are (H, W)."""
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    height, width = removed.shape
    number = np.full((height + 2, width + 2), -1)
    number[1:-1, 1:-1][removed] = np.arange(removed.sum())
    known = np.pad(np.where(removed, 0, image), ((0, 0), (1, 1), (1, 1)))
    inside = np.pad(np.ones((height, width)), 1)
    own, rows, columns = number[1:-1, 1:-1][removed], [], []
    values, diagonal, right = [], np.zeros(len(own)), np.zeros((len(own), len(image)))
    for down in range(3):
        for across in range(3):
            if (down, across) == (1, 1):
                continue
            there = slice(down, down + height), slice(across, across + width)
            weight = BESIDE if 1 in (down, across) else DIAGONAL
            other = number[there][removed]
            diagonal += weight * inside[there][removed]
            right += weight * known[:, there[0], there[1]][:, removed].T
            rows.append(own[other >= 0])
            columns.append(other[other >= 0])
            values.append(np.full(len(rows[-1]), -weight))
    entries = np.concatenate([*values, diagonal])
    places = np.concatenate([*rows, own]), np.concatenate([*columns, own])
    filled = image.copy()
    filled[:, removed] = splu(coo_array((entries, places)).tocsc()).solve(right).T
    return filled


def imputation_rows(repeats: int) -> tuple[list[list[str]], list[dict[str, object]]]:
    """Milliseconds of an image, at three ratios of pixels removed in patches or at random."""
    from quantus import noisy_linear_imputation  # only in an environment for benchmarks

    generator = torch.Generator().manual_seed(1)
    images = gaussian_blur(torch.randn(IMPUTED, 3, SIZE, SIZE, generator=generator), 1.5)
    maps = {
        "patches": smooth_maps(IMPUTED, generator),
        "random": torch.rand(IMPUTED, 1, SIZE, SIZE, generator=generator),
    }
    rows, facts = [], []
    for kind, values in maps.items():
        order = ranks(values, torch.arange(IMPUTED))
        for ratio in (0.1, 0.5, 0.9):
            removed = Removal("MoRF", ratio).mask(order)
            first, mask = images[0].double().numpy(), removed[0, 0].numpy()
            filled = impute(images, removed)
            error = np.abs(filled[0].numpy() - sparse_direct(first, mask)).max() / np.ptp(first)
            sides: dict[str, Side] = {
                "ours": lambda removed=removed: impute(images, removed),  # type: ignore[misc]
                "direct": lambda first=first, mask=mask: sparse_direct(first, mask),  # type: ignore[misc]
            }
            times = alternated(sides, repeats, torch.device("cpu"))
            ours, direct = 1000 * times["ours"].median / IMPUTED, 1000 * times["direct"].median
            indices: Any = np.flatnonzero(mask)
            started = time.perf_counter()
            noisy_linear_imputation(first, indices.copy(), noise=0.0)
            quantus = 1000 * (time.perf_counter() - started)
            reached = goal_cell(direct / ours, GOALS["imputation"])
            times_ms = [f"{ours:.2f}", f"{direct:.1f}", reached, f"{quantus:.0f}", f"{quantus / ours:.0f}"]
            rows.append([kind, f"{ratio:.0%}", *times_ms, f"{error:.0e}"])
            facts.append({"kind": kind, "ratio": ratio, "ours_ms": ours, "direct_ms": direct, "quantus_ms": quantus})
    return rows, facts


def evaluation_rows(subject: Subject, network: str, repeats: int) -> tuple[list[list[str]], list[dict[str, object]]]:
    steps = tuple(step / STEPS for step in range(1, STEPS + 1))
    road: dict[str, Side] = {
        "ours": lambda: subject.ours("ROAD", ROAD_RATIOS),
        "Quantus, ROAD": subject.quantus_road,
    }
    deletion: dict[str, Side] = {
        "ours": lambda: subject.ours("insertion-deletion", steps),
        "Quantus, PixelFlipping": subject.quantus_deletion,
        "pytorch-grad-cam": subject.gradcam_deletion,
    }
    theirs = np.asarray(subject.quantus_deletion()).mean(axis=0)
    apart = float(np.abs(theirs - subject.ours("insertion-deletion", steps)["score"]["most"]).max())
    rows, facts = [], []
    for name, sides in {"ROAD": road, "deletion": deletion}.items():
        times = alternated(sides, repeats, torch.device("cpu"))
        ours = times["ours"].median / 2  # both orders
        for side, timing in times.items():
            if side == "ours":
                continue
            ratio = timing.median / ours
            cells = [f"{ours / len(subject.images):.2f}", f"{timing.median / len(subject.images):.2f}"]
            rows.append([network, name, side, *cells, goal_cell(ratio, GOALS[name])])
            facts.append({"network": network, "evaluation": name, "side": side, "ours": ours, "theirs": timing.median})
    print(f"{network}: Quantus's probabilities along deletion differ by at most {apart:.1e} from ours", flush=True)
    return rows, facts


def main() -> None:
    parser = parser_of(__doc__, REPEATS)
    parser.add_argument("--images", type=int, default=IMAGES, help="of each curve (default: %(default)s)")
    options = parser.parse_args()
    resolve_device("cpu")
    device = device_name(torch.device("cpu"))
    head = ["pixels", "removed", "ours, ms", "sparse LU, ms", "ratio", "Quantus, ms", "ratio", "error / range"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows, facts = imputation_rows(options.repeats)
    torch.set_num_threads(threads)
    title = f"Imputation at {SIZE} pixels, milliseconds an image by one thread, ours {IMPUTED} images at once"
    published("large_imputation", title, head, rows, {"device": device, "rows": facts}, options.output_dir)
    rows, facts = [], []
    for network, build in NETWORKS.items():
        torch.manual_seed(0)
        more, numbers = evaluation_rows(Subject.of(build(), options.images), network, options.repeats)
        rows, facts = rows + more, facts + numbers
    head = ["network", "evaluation", "beside", "ours, s per curve", "theirs, s per curve", "ratio"]
    title = f"{SIZE} pixels, {options.images} images, {torch.get_num_threads()} threads, median of {options.repeats}"
    published("large_images", title, head, rows, {"device": device, "rows": facts}, options.output_dir)


if __name__ == "__main__":
    main()
