"""Tables of what the benchmarks measured, for the documentation."""

from collections.abc import Iterable, Sequence

import numpy as np

from data import DATASETS
from reporting.labels import TITLES
from reporting.summary import Published
from reporting.tables import markdown_table, small_print

OTHER_PROGRAMS = (
    ("selectivity, MNIST", "ours", "a plain loop over images", "plain"),
    ("deletion curve, MNIST", "once", "Quantus’s pixel flipping", "quantus"),
)


def agreement(published: Published) -> str:
    """Return the relative distances of our maps from Captum's."""
    record = published.json("agreement")
    groups = {
        "IG, 50 steps of one Gauss–Legendre rule": ["IG"],
        "VBP, IB, DeconvNet, GB, GC, GB-GC: largest": ["VBP", "IB", "DeconvNet", "GB", "GC", "GB-GC"],
        "SG, SG-SQ, SG-VAR of VBP: largest": ["VBP SG", "VBP SG-SQ", "VBP SG-VAR"],
    }
    kinds = {"plain": "", "folded": ", batch norm folded"}
    rows = [["method", *(f"{TITLES[dataset]}{words}" for dataset in DATASETS for words in kinds.values())]]
    for name, methods in groups.items():
        errors = [record[dataset]["relative_errors"] for dataset in DATASETS]
        largest = (max(of_dataset[method][kind] for method in methods) for of_dataset in errors for kind in kinds)
        rows.append([name, *(f"{error:.1e}" for error in largest)])
    images, version = record[DATASETS[0]]["images"], record["versions"]["captum"]
    note = f"‖ours − Captum's‖ / ‖Captum's‖, Captum {version}, {images} test images: `python -m benchmarks.agreement`."
    return f"{markdown_table(rows)}\n{small_print(note)}"


def speed(published: Published) -> str:
    """Return ratios to other people's code."""
    training, explaining, one_by_one, imputation, start = (
        published.json(f"benchmarks/{name}")
        for name in ("training", "explaining", "selectivity", "imputation", "start_up")
    )
    rows = [["on two cores", "beside", "times as fast"]]
    for row in training["rows"]:
        rows.append([f"training, {TITLES[row['dataset']]}", "a plain DataLoader loop", f"{row['ratio']:.1f}"])
    for network in dict.fromkeys(row["network"] for row in explaining["rows"]):
        of_network, name = [row for row in explaining["rows"] if row["network"] == network], f"explaining, {network}"
        rows.append([name, "Captum, all images in one call", _span(row["ratio"] for row in of_network)])
        if any(row["to_faster"] != row["ratio"] for row in of_network):
            faster = _span(row["to_faster"] for row in of_network)
            rows.append([name, "the faster of that and a loop of 64 images each", faster])
    rates = one_by_one["images_per_second"]
    for name, ours, words, other in OTHER_PROGRAMS:
        if ours in rates and other in rates:
            rows.append([name, words, f"{rates[ours] / rates[other]:.1f}"])
    ratios = [row["ratio"] for row in imputation["rows"]]
    solves = f"{_span(ratios)}, median {np.median(ratios):.1f}"
    rows.append(["imputation (ROAD)", "a sparse direct solve of each image", solves])
    seconds = (f"{name}: {np.median(values):.1f} s" for name, values in start.items() if isinstance(values, list))
    note = f"`make benchmark`, {training['device']}; each ratio from one run. Whole commands: {', '.join(seconds)}."
    return f"{markdown_table(rows)}\n{small_print(note)}"


def large(published: Published) -> str:
    """Return ratios to other people's code at 224 pixels, and the memory that many images take."""
    curves, solves, folder = (
        published.json(f"benchmarks/{name}") for name in ("large_images", "large_imputation", "large_folder")
    )
    rows = [["at 224 pixels, on two cores", "beside", "times as fast"]]
    for row in curves["rows"]:
        name = f"{row['evaluation']} curve, {row['network']}"
        rows.append([name, row["side"], f"{row['theirs'] / row['ours']:.1f}"])
    for side, words in (("direct_ms", "a sparse direct solve of each image"), ("quantus_ms", "Quantus")):
        rows.append(["imputation", words, _span(row[side] / row["ours_ms"] for row in solves["rows"])])
    peaks = {row["name"]: max(phase["peak_mb"] for phase in row["phases"]) for row in folder["rows"]}
    memory = ", ".join(f"{name} {peak / 1000:.1f} GB" for name, peak in peaks.items())
    note = (
        f"`python -m benchmarks.large_images`, {curves['device']}; ratios of medians of one run. Anonymous memory "
        f"of all processes on a folder of 50,000 images (`python -m benchmarks.large_folder`), at most: {memory}."
    )
    return f"{markdown_table(rows)}\n{small_print(note)}"


def scale(published: Published) -> str:
    """Return what an engine adds to the work, and what a second node brings."""
    found = published.json("benchmarks/scale")
    each, head = found["seconds_each"], ["", "empty tasks a second", "seconds for 10,000", "added to a retraining"]
    rows, alone = [[*head, "speed-up"]], dict[str, float]()
    for engine in found["engines"]:
        empty = {int(count): seconds for count, seconds in engine["empty_seconds"].items()}
        of_one = alone.setdefault(engine["kind"], engine["seconds"])
        rates = f"{1000 / empty[1000]:,.0f}", f"{empty[10_000]:.1f}", f"{engine['cost'] / each - 1:+.1%}"
        rows.append([engine["name"], *rates, f"{of_one / engine['seconds']:.2f}"])
    note = (
        f"`python -m benchmarks.scale`, {found['device']}: {each:.1f} s a retraining on one thread without an engine; "
        f"shared by all {found['bytes']['shared once'] / 1e6:.0f} MB, which are shipped once; each task "
        f"{found['bytes']['each task'] / 1000:.1f} kB. With two, both cores compute, and share caches and memory."
    )
    return f"{markdown_table(rows)}\n{small_print(note)}"


def _span(ratios: Iterable[float]) -> str:
    values: Sequence[float] = list(ratios)
    return f"{min(values):.1f} to {max(values):.1f}"
