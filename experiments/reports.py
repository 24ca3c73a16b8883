"""Reports of finished results, and the published ones: few and small files in `results/published` that go into git."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from common.errors import InputError
from common.files import atomic_write, write_text
from data import DATASETS
from experiments.checkpoints import load_metadata, stored_networks
from experiments.request import Request
from experiments.store import Folders
from reporting.accuracy import TRAININGS, report_accuracy
from reporting.documents import write_documents
from reporting.evaluation_summary import EvaluationSummary
from reporting.groups import KINDS, list_datasets, load_measurements, sort_datasets
from reporting.page import write_page
from reporting.records import FORMAT, GATHERED, load_gathered, load_records, naming_damage
from reporting.retrainings import Retrainings
from reporting.summary import Published, summarize
from reporting.training_curves import write_training_curves

ROOT = Path(__file__).parents[1]
README, PUBLISHED = ROOT / "README.md", ROOT / "results" / "published"


def publish(request: Request) -> None:
    """--report --publish: gather finished results, and write tables, figures and pages from all that is gathered."""
    from reporting.findings_figures import write_findings  # here, so that nothing else waits for matplotlib

    if request.dry_run or request.target or request.quick:
        raise InputError("--publish writes everything: it takes no --dry-run, --target or --quick")
    folders = request.folders
    print(gather(folders.checkpoints, folders.results, PUBLISHED), flush=True)
    report(request, Folders(folders.data, PUBLISHED, folders.maps, PUBLISHED))
    published = Published(PUBLISHED)
    print("\n".join(f"written: {path}" for path in write_findings(published)))
    pages = [README, *sorted((README.parent / "docs").glob("*.md"))]
    write_documents(pages, published)
    print("\n".join(f"written: {page}" for page in pages))


def report(request: Request, folders: Folders) -> None:
    """--report: write tables of finished results, of the data sets of the request or of all."""
    trained: dict[str, dict[str, Any]] = {}
    for dataset in request.target or ("",):
        trained |= load_metadata(folders.checkpoints, dataset)
    names = list_datasets(folders.results)
    everything = sort_datasets([*DATASETS, *names, *(metadata["dataset"] for metadata in trained.values())])
    datasets = list(request.target or everything)
    suffix = "" if datasets == everything else f"_{'-'.join(datasets)}"  # never replaces the whole report
    print(report_accuracy(datasets, trained, folders.results, suffix, request.quick, not request.dry_run))
    networks = stored_networks(folders.checkpoints)
    retrainings = Retrainings.load(folders.results, datasets, folders.data, networks)
    print(retrainings.overview)
    measured = load_measurements(folders.results, folders.data, networks)
    measurements = [part for part in measured if part.dataset in datasets]
    pages = summarize(datasets, retrainings, measurements)
    print("\n\n".join(page.text for page in pages))
    if not request.dry_run:
        written = write_training_curves(datasets, trained, folders.results, request.quick)
        written += retrainings.write(folders.results, suffix)
        written += [path for page in pages for path in page.write_files(folders.results)]
        parts: list[EvaluationSummary] = [*retrainings.quick]
        parts += [part for part in measurements if part.evaluation != "selectivity"]  # its evaluation writes them
        for part in parts:
            part.write(folders.results)
        if pages or any(folders.results.glob("trust_*.html")):
            written.append(write_page(pages, retrainings, measurements, folders.results, suffix))
        print("\n".join(f"written: {path}" for path in written))


def write_whole_page(folders: Folders) -> Path:
    """Write the page of everything that is finished; return its path."""
    datasets, networks = sort_datasets(list_datasets(folders.results)), stored_networks(folders.checkpoints)
    retrainings = Retrainings.load(folders.results, datasets, folders.data, networks)
    measurements = load_measurements(folders.results, folders.data, networks)
    return write_page(summarize(datasets, retrainings, measurements), retrainings, measurements, folders.results)


def gather(checkpoints: Path, results: Path, published: Path) -> str:
    """Add everything that is finished to the published results; return a line to print.

    Retrainings, measurements and the metadata of classifiers become lines of `records.jsonl`, replacing those of the
    same name; selectivity's scores become small HDF5 files. All that reports need is in them: they read `published` as
    they read `results`.

    Raises:
        InputError: a damaged file.
    """
    records: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for kind in KINDS:
        for path, configuration, result in load_records(results, kind):
            records[f"{kind}/{path.name}"] = configuration, result
    for name, metadata in load_metadata(checkpoints).items():
        records[f"{TRAININGS}/{name}.json"] = {}, metadata
    files = sorted((results / "selectivity").glob("*.h5"))
    for path in files:
        if not (to := published / "selectivity" / path.name).exists():
            _write_short(path, to)
    everything = {**load_gathered(published), **records}
    contents = (
        {"name": name, "format": FORMAT, "configuration": configuration, "result": result}
        for name, (configuration, result) in sorted(everything.items())
    )
    style: dict[str, Any] = {"separators": (",", ":"), "sort_keys": True, "allow_nan": False}
    write_text(published / GATHERED, "".join(f"{json.dumps(content, **style)}\n" for content in contents))
    counts = f"{len(records)} records and {len(files)} methods of selectivity"
    return f"published: {counts} -> {published}, which has {len(everything)} records"


def _write_short(path: Path, to: Path) -> None:
    """Write only the scores, in half precision, and the hits of a finished method."""
    with naming_damage(path), h5py.File(path, "r") as file:
        arrays = {"score": file["score"][:].astype(np.float16), "correct": file["correct"][:]}
        facts = dict(file.attrs)
    with atomic_write(to) as unfinished, h5py.File(unfinished, "w") as short:
        for name, values in arrays.items():
            short.create_dataset(name, data=values, compression="gzip", compression_opts=9, shuffle=True)
        short.attrs.update(facts)
