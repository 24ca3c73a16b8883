"""The blocks of the documents on models, agreement with Captum, and speed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data import DATASETS
from models import model_name
from reporting.accuracy import (
    ORIGINAL_NAMES,
    accuracy_text,
    load_trainings,
    original_figures,
)
from reporting.labels import TITLES, classifier_line, counted, duration
from reporting.published import Published
from reporting.tables import details, markdown_rows, small_print
from training.config import checkpoint_path

RIVALS = (
    ("selectivity, MNIST", "ours", "a plain loop over images", "plain"),
    ("deletion curve, MNIST", "once", "Quantus’s pixel flipping", "quantus"),
)


def models(published: Published) -> str:
    """Test accuracy beside the original's, in short and by class."""
    rows = [["model", "parameters", "test accuracy", "seeds", "trained on", "the original"]]
    devices: dict[str, None] = {}
    for dataset, trainings in published.trainings.items():
        figures = original_figures()["accuracy"].get(dataset, {})
        for one in trainings:
            first = one.checkpoints[0]
            images = f"{first['limit_train']:,} images" if first["limit_train"] else "all images"
            published_figure = figures.get(ORIGINAL_NAMES.get(one.model))
            rows.append(
                [
                    f"{TITLES[dataset]}, {one.model}",
                    f"{first['parameters']:,}",
                    one.total,
                    str(len(one.checkpoints)),
                    f"{images}, {counted(first['recipe']['epochs'], 'epoch')}, {duration(first['seconds'])}",
                    f"{published_figure['total']:.3f}" if published_figure else "not published",
                ]
            )
            devices.update(dict.fromkeys(each["device"] for each in one.checkpoints))
    note = (
        "± is the 95 % interval: over the seeds, with one seed over the test images. Times are of one training "
        f"({'; '.join(devices)}), some while other work ran beside."
    )
    by_class = "\n\n".join(accuracy_text(dataset, found) for dataset, found in published.trainings.items())
    return f"{markdown_rows(rows)}\n{small_print(note)}\n\n{details('Accuracy by class', by_class)}"


def trained(published: Published) -> str:
    """Return the output of `--train` for two models."""
    lines = []
    for dataset, attention in (("mnist", None), ("cifar10", "CBAM")):
        name = checkpoint_path(Path("checkpoints"), dataset, model_name(attention), seed=0)
        metadata = load_trainings(published.folder, dataset).get(name.stem)
        option = f" --attention={attention}" if attention else ""
        said = [classifier_line(metadata, name)] if metadata else []
        lines += [f"$ python main.py --train --target={dataset}{option}", *said]
    return "\n".join(["```", *lines, "```"])


def agreement(published: Published) -> str:
    """Return the relative distances of our maps from Captum's."""
    found = published.json("agreement")
    groups = {
        "IG, 50 steps of one Gauss–Legendre rule": ["IG"],
        "VBP, IB, DeconvNet, GB, GC, GB-GC: largest": ["VBP", "IB", "DeconvNet", "GB", "GC", "GB-GC"],
        "SG, SG-SQ, SG-VAR of VBP: largest": ["VBP SG", "VBP SG-SQ", "VBP SG-VAR"],
    }
    kinds = {"plain": "", "folded": ", batch norm folded"}
    head = ["method", *(f"{TITLES[dataset]}{words}" for dataset in DATASETS for words in kinds.values())]
    rows = [
        [
            name,
            *(
                f"{max(found[dataset]['relative_errors'][one][kind] for one in ones):.1e}"
                for dataset in DATASETS
                for kind in kinds
            ),
        ]
        for name, ones in groups.items()
    ]
    images, version = found[DATASETS[0]]["images"], found["versions"]["captum"]
    note = f"‖ours − Captum's‖ / ‖Captum's‖, Captum {version}, {images} test images: `python -m benchmarks.agreement`."
    return f"{markdown_rows([head, *rows])}\n{small_print(note)}"


def speed(published: Published) -> str:
    """Ratios to other people's code."""
    training, explaining, one_by_one, imputation, start = (
        published.json(f"benchmarks/{name}")
        for name in ("training", "explaining", "selectivity", "imputation", "start_up")
    )
    rows = [["on two cores", "beside", "times as fast"]]
    for one in training["rows"]:
        rows.append([f"training, {TITLES[one['dataset']]}", "a plain DataLoader loop", f"{one['ratio']:.1f}"])
    for network in dict.fromkeys(one["network"] for one in explaining["rows"]):
        ones = [one for one in explaining["rows"] if one["network"] == network]
        rows.append([f"explaining, {network}", "Captum, all images in one call", _span([one["ratio"] for one in ones])])
        if any(one["to_faster"] != one["ratio"] for one in ones):
            faster = _span([one["to_faster"] for one in ones])
            rows.append([f"explaining, {network}", "the faster of that and a loop of 64 images each", faster])
    solving = [one["ratio"] for one in imputation["rows"]]
    rates = one_by_one["images_per_second"]
    rows += [
        [name, words, f"{rates[ours] / rates[key]:.1f}"]
        for name, ours, words, key in RIVALS
        if ours in rates and key in rates
    ]
    rows.append(
        [
            "imputation (ROAD)",
            "a sparse direct solve of each image",
            f"{_span(solving)}, median {np.median(solving):.1f}",
        ]
    )
    seconds = {name: float(np.median(values)) for name, values in start.items() if isinstance(values, list)}
    said = ", ".join(f"{name}: {value:.1f} s" for name, value in seconds.items())
    note = f"`make benchmark`, {training['device']}; each ratio from one run. Whole commands: {said}."
    return f"{markdown_rows(rows)}\n{small_print(note)}"


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"
