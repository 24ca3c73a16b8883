"""The numbers of the README: written between markers, from what is published, never by hand.

`<!-- report: NAME -->` and `<!-- /report -->` stand around what `blocks` calls NAME.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from attribution.spec import MethodSpec
from common.errors import InputError
from common.files import write_text
from data import DATASETS
from evaluation import REMOVING
from evaluation.statistics import difference, mean_interval
from experiments.pipeline import classifier_line
from models import NO_ATTENTION, model_name
from reporting.accuracy import (
    ORIGINAL_NAMES,
    Trainings,
    accuracy_text,
    kept_metadata,
    kept_trainings,
    original_figures,
)
from reporting.groups import kept_checks, kept_falls, kept_removals, largest
from reporting.labels import counted, described_parameters
from reporting.removal_summary import RemovalSummary
from reporting.report import Retrainings
from reporting.retraining_summary import Gap, RetrainingSummary
from reporting.sanity_summary import SanitySummary
from reporting.selectivity import SelectivityCurve
from reporting.summary import Summary, summaries
from reporting.tables import areas_cell, cell, distance_cell, markdown_rows
from training.checkpoint import checkpoint_path

BLOCK = re.compile(r"(?P<head><!-- report: (?P<name>[\w-]+) -->\n).*?(?P<tail>\n<!-- /report -->)", re.DOTALL)
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
SHORT = {"insertion-deletion": "SRG"}
BETTER, WORSE = "▲", "▼"
HOUR, MINUTE = 3600, 60
TELLING = 8  # methods from which on a rank correlation is shown


@dataclass(frozen=True)
class Published:
    """What lies in a folder of published results."""

    folder: Path

    @cached_property
    def retrainings(self) -> Retrainings:
        return Retrainings.of(self.folder, DATASETS)

    @cached_property
    def removals(self) -> list[RemovalSummary]:
        return kept_removals(self.folder)

    @cached_property
    def checks(self) -> list[SanitySummary]:
        return kept_checks(self.folder)

    @cached_property
    def summaries(self) -> list[Summary]:
        found = summaries(self.folder, DATASETS, self.retrainings, self.removals)
        return [one for one in found if one.model == NO_ATTENTION]

    @cached_property
    def trainings(self) -> dict[str, list[Trainings]]:
        return {dataset: kept_trainings(self.folder, dataset) for dataset in DATASETS}

    def falls(self, dataset: str) -> dict[MethodSpec, SelectivityCurve]:
        return kept_falls(self.folder, dataset, NO_ATTENTION)

    def json(self, name: str) -> dict[str, Any]:
        """A record of `benchmarks/`; without the frame that only some have.

        Raises:
            InputError: it is not there.
        """
        path = self.folder / f"{name}.json"
        if not path.exists():
            raise InputError(f"{path} is not there: the README has a table of it")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content | content.get("found", {})


def demo(published: Published) -> str:
    """The retrainings of `make demo`."""
    found = published.retrainings.quick
    return "\n\n".join(f"{one.table}\n{one.verdicts}\n{_small(f'`make demo`: {_about(one)}')}" for one in found[:1])


def retraining(published: Published) -> str:
    """Areas of ROAR and KAR, and what the masks alone give."""
    return "\n\n".join(_gap(one) for one in _plain_gaps(published.retrainings))


def _plain_gaps(retrainings: Retrainings) -> Iterable[Gap]:
    """By the default protocol, the largest of each data set."""
    shown = {id(one) for one in retrainings.chosen}
    return (one for one in retrainings.gaps() if id(one.roar) in shown and not one.roar.mask_words)


def _gap(gap: Gap) -> str:
    head = [TITLES[gap.roar.protocol.dataset], "ROAR ↓", "its mask alone", "KAR ↑", "its mask alone", "KAR − ROAR"]
    rows = []
    for findings in (gap.roar, gap.kar):
        for place, (image, mask) in enumerate(zip(findings.images, findings.masks, strict=True)):
            cells = [areas_cell(image.areas) + " †" * findings.explained(image, mask), areas_cell(mask.areas)]
            rows += [[image.method, *cells]] if findings is gap.roar else []
            rows[place] += cells if findings is gap.kar else []
    for row, roar, kar in zip(rows, gap.roar.images, gap.kar.images, strict=True):
        row.append(distance_cell(kar.areas, roar.areas))
    about = (
        f"Areas under the accuracy. ROAR: {_about(gap.roar)} Unmasked: {cell(gap.roar.baseline)}. {_interval(gap.roar)}"
    )
    return f"{markdown_rows([head, *rows])}\n{gap.identity}\n{_small(about)}"


def _interval(one: RetrainingSummary) -> str:
    seeds = one.protocol.seeds
    over = f"± is the 95 % interval over {counted(seeds, 'seed')}. " if seeds > 1 else ""
    return f"{over}† 90 % or more of the curve above chance can be read off the mask."


def _about(one: RetrainingSummary) -> str:
    """How much was retrained, and how long that took."""
    runs = one.ordered.values()
    devices = ", ".join(dict.fromkeys(result.device for result in runs))
    seconds = sum(result.seconds for result in runs)
    conditions = one.conditions.replace("\n", " ")
    return f"{conditions[0].lower()}{conditions[1:]} {len(runs)} retrainings, {_time(seconds)} in all ({devices})."


def _time(seconds: float) -> str:
    if seconds >= HOUR:
        return f"{seconds / HOUR:.1f} hours"
    return f"{seconds / MINUTE:.0f} minutes" if seconds >= 2 * MINUTE else f"{seconds:.0f} s"


def verdicts(published: Published) -> str:
    """For each curve of ROAR, whether it can be believed."""
    shown = [one for one in published.retrainings.chosen if one.protocol.evaluation == "ROAR" and not one.mask_words]
    return "\n".join(f"{one.title}: can the curves be believed?\n\n{one.verdicts}" for one in shown).rstrip()


def original(published: Published) -> str:
    """The original's figures beside those of its setting and of ours."""
    return "\n\n".join(published.retrainings.directions()).rstrip()


def everything(published: Published) -> str:
    """Methods × evaluations of each data set."""
    tables = (f"{one.title}\n\n{one.table}\n{_small(_flat(one.note))}" for one in published.summaries)
    return _folded("All methods × all evaluations", "\n\n".join(tables))


def _flat(note: str) -> str:
    return " ".join(note.replace("\n- ", " ").replace("\n", " ").split())


def removing(published: Published) -> str:
    """Removal without retraining and the sanity check: both data sets side by side."""
    head, columns = ["method"], []
    about = []
    for dataset in DATASETS:
        for evaluation in REMOVING:
            of_kind = [one for one in published.removals if one.settings.evaluation == evaluation]
            found = largest(of_kind, dataset, NO_ATTENTION)
            head.append(f"{TITLES[dataset]}: {SHORT.get(evaluation, evaluation)}")
            columns.append(_marked(found) if found else {})
            if found and evaluation == REMOVING[0]:
                about.append(f"{TITLES[dataset]}: {_tested(found)}")
        head.append(f"{TITLES[dataset]}: sanity")
        check = largest(published.checks, dataset, NO_ATTENTION)
        columns.append({method.label: check.outcome(method) for method in check.methods} if check else {})
    names = list(dict.fromkeys(name for column in columns for name in column))
    controls = [name for name in names if name in ("SOBEL", "RANDOM")]
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names if name not in controls]
    rows += [[name, *(column.get(name, "") for column in columns)] for name in controls]
    note = (
        "Least minus most important first, the higher the better, 0 for a random order; ROAD and F-Fidelity: accuracy, "
        f"SRG (insertion-deletion): probability. {BETTER} better, {WORSE} worse than RANDOM by the 95 % interval of "
        f"the difference paired by seed. {'; '.join(about)}."
    )
    return f"{markdown_rows([head, *rows])}\n{_agreement(published.summaries)}\n\n{_small(note)}"


def _marked(one: RemovalSummary) -> dict[str, str]:
    """Each method's gap, and whether it is told apart from RANDOM's."""
    random = None if one.doubt else one.gaps.get("RANDOM")
    cells = {}
    for method, gap in one.gaps.items():
        distance = None if random is None or gap is random else difference(gap, random)
        mark = "" if distance is None else BETTER if distance.low > 0 else WORSE if distance.high < 0 else ""
        cells[method] = f"{distance_cell(gap, [0.0] * len(gap))} {mark}".rstrip()
    return cells


def _tested(one: RemovalSummary) -> str:
    seeds = counted(len(one.seeds), "classifier")
    return f"{one.settings.limit_test:,} test images, {seeds}, accuracy on them {cell(one.whole('accuracy'))}"


def _agreement(pages: Sequence[Summary]) -> str:
    """How far those evaluations agree that rank methods, in a line for each data set."""
    lines = []
    for page in pages:
        names = [one.name for one in page.columns]
        shown = [name for name in ("ROAR", *REMOVING) if name in names]
        many = [name for name in shown if len(page.columns[names.index(name)].values) >= TELLING]
        words = [
            f"{one} and {other} {page.correlations[names.index(one), names.index(other)]:+.2f}"
            for one, other in combinations(many, 2)
        ]
        lines.append(f"- {TITLES[page.dataset]}, rank correlation of the methods' places: {', '.join(words)}")
    return "\n".join(lines)


def sanity(published: Published) -> str:
    """A sentence for each method and data set."""
    parts = []
    for dataset in reversed(DATASETS):
        check = largest(published.checks, dataset, NO_ATTENTION)
        if check:
            sentences = "\n".join(f"- {method.label} {check.sentence(method)}" for method in check.methods)
            parts.append((check.title, sentences))
    first, *others = parts
    return "\n\n".join([f"{first[0]}:\n\n{first[1]}", *(_folded(*part) for part in others)])


def selectivity(published: Published) -> str:
    """Area under the class's probability, and the distance to RANDOM paired by image."""
    head, columns = ["method"], []
    for dataset in DATASETS:
        falls = {fall.method: fall for fall in published.falls(dataset).values()}
        random = falls.get("RANDOM")
        head += [f"{TITLES[dataset]}: area ↓", "− RANDOM's"]
        columns.append({name: cell(mean_interval(fall.areas)) for name, fall in falls.items()})
        others = {name: fall for name, fall in falls.items() if random is not None and fall is not random}
        columns.append({name: distance_cell(fall.areas, random.areas) for name, fall in others.items() if random})
    names = dict.fromkeys(name for column in columns for name in column)
    images = {len(fall.score) for dataset in DATASETS for fall in published.falls(dataset).values()}
    methods = dict.fromkeys(method for dataset in DATASETS for method in published.falls(dataset))
    note = (
        f"Area under the probability of the explained class; {' and '.join(f'{one:,}' for one in images)} test images, "
        f"one network (seed 0).{described_parameters(methods)} ± is the 95 % interval over the images."
    )
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    return f"{markdown_rows([head, *rows])}\n{_small(note)}"


def models(published: Published) -> str:
    """Test accuracy beside the original's, in short and by class."""
    rows = [["model", "parameters", "test accuracy", "seeds", "trained on", "the original"]]
    devices: dict[str, None] = {}
    for dataset, trainings in published.trainings.items():
        figures = original_figures()["accuracy"].get(dataset, {})
        for one in trainings:
            first = one.found[0]
            images = f"{first['limit_train']:,} images" if first["limit_train"] else "all images"
            published_figure = figures.get(ORIGINAL_NAMES.get(one.model))
            rows.append(
                [
                    f"{TITLES[dataset]}, {one.model}",
                    f"{first['parameters']:,}",
                    one.total,
                    str(len(one.found)),
                    f"{images}, {counted(first['recipe']['epochs'], 'epoch')}, {_time(first['seconds'])}",
                    f"{published_figure['total']:.3f}" if published_figure else "not published",
                ]
            )
            devices.update(dict.fromkeys(each["device"] for each in one.found))
    note = (
        "± is the 95 % interval: over the seeds, with one seed over the test images. Times are of one training "
        f"({'; '.join(devices)}), some while other work ran beside."
    )
    by_class = "\n\n".join(accuracy_text(dataset, found) for dataset, found in published.trainings.items())
    return f"{markdown_rows(rows)}\n{_small(note)}\n\n{_folded('Accuracy by class', by_class)}"


def trained(published: Published) -> str:
    """What `--train` prints of two models."""
    lines = []
    for dataset, attention in (("mnist", None), ("cifar10", "CBAM")):
        name = checkpoint_path(Path("checkpoints"), dataset, model_name(attention), seed=0)
        metadata = kept_metadata(published.folder, dataset).get(name.stem)
        option = f" --attention={attention}" if attention else ""
        said = [classifier_line(metadata, name)] if metadata else []
        lines += [f"$ python main.py --train --target={dataset}{option}", *said]
    return "\n".join(["```", *lines, "```"])


def agreement(published: Published) -> str:
    """How far our maps are from Captum's."""
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
    return f"{markdown_rows([head, *rows])}\n{_small(note)}"


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
    return f"{markdown_rows(rows)}\n{_small(note)}"


RIVALS = (
    ("selectivity, MNIST", "ours", "a plain loop over images", "plain"),
    ("deletion curve, MNIST", "once", "Quantus’s pixel flipping", "quantus"),
)


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


def _small(text: str) -> str:
    return f"<sub>{text}</sub>"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text.rstrip()}\n\n</details>"


BLOCKS: Mapping[str, Callable[[Published], str]] = {
    one.__name__: one
    for one in (
        demo,
        retraining,
        verdicts,
        original,
        everything,
        removing,
        sanity,
        selectivity,
        models,
        trained,
        agreement,
        speed,
    )
}


def written(text: str, folder: Path) -> str:
    """The README `text` with every block as the results in `folder` have it.

    Raises:
        InputError: a block that there is not.
    """
    published = Published(folder)

    def block(match: re.Match[str]) -> str:
        if match["name"] not in BLOCKS:
            raise InputError(f"the README has an unknown block {match['name']!r}: choose from {', '.join(BLOCKS)}")
        return f"{match['head']}{BLOCKS[match['name']](published).strip()}{match['tail']}"

    return BLOCK.sub(block, text)


def write_readme(path: Path, folder: Path) -> None:
    """Put the numbers of the results in `folder` into the README at `path`."""
    write_text(path, written(path.read_text(encoding="utf-8"), folder))
