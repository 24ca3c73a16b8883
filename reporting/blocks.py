"""The blocks of the documents on the evaluations: tables and sentences from the published results."""

from collections.abc import Iterable, Sequence
from itertools import combinations

from data import DATASETS
from evaluation import REMOVING
from evaluation.statistics import difference, mean_interval
from models import NO_ATTENTION
from reporting.groups import largest
from reporting.labels import TITLES, counted, described_parameters, duration
from reporting.published import Published
from reporting.removal_summary import RemovalSummary
from reporting.report import Retrainings
from reporting.retraining_summary import Gap, RetrainingSummary
from reporting.summary import Summary
from reporting.tables import areas_cell, cell, details, distance_cell, markdown_rows, small_print

SHORT = {"insertion-deletion": "SRG"}
BETTER, WORSE = "▲", "▼"
TELLING = 8  # methods from which on a rank correlation is shown


def demo(published: Published) -> str:
    """The retrainings of `make demo`."""
    found = published.retrainings.quick
    return "\n\n".join(
        f"{one.table}\n{one.verdicts}\n{small_print(f'`make demo`: {_about(one)}')}" for one in found[:1]
    )


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
    return f"{markdown_rows([head, *rows])}\n{gap.identity}\n{small_print(about)}"


def _interval(one: RetrainingSummary) -> str:
    seeds = one.protocol.seeds
    over = f"± is the 95 % interval over {counted(seeds, 'seed')}. " if seeds > 1 else ""
    return f"{over}† 90 % or more of the curve above chance can be read off the mask."


def _about(one: RetrainingSummary) -> str:
    """Return the number of retrainings and their time."""
    runs = one.ordered.values()
    devices = ", ".join(dict.fromkeys(result.device for result in runs))
    seconds = sum(result.seconds for result in runs)
    conditions = one.conditions.replace("\n", " ")
    return f"{conditions[0].lower()}{conditions[1:]} {len(runs)} retrainings, {duration(seconds)} in all ({devices})."


def verdicts(published: Published) -> str:
    """Return the verdict on each curve of ROAR."""
    shown = [one for one in published.retrainings.chosen if one.protocol.evaluation == "ROAR" and not one.mask_words]
    return "\n".join(f"{one.title}: can the curves be believed?\n\n{one.verdicts}" for one in shown).rstrip()


def original(published: Published) -> str:
    """The original's figures beside those of its setting and of ours."""
    return "\n\n".join(published.retrainings.directions()).rstrip()


def everything(published: Published) -> str:
    """Methods × evaluations of each data set."""
    tables = (f"{one.title}\n\n{one.table}\n{small_print(_flat(one.note))}" for one in published.summaries)
    return details("All methods × all evaluations", "\n\n".join(tables))


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
    return f"{markdown_rows([head, *rows])}\n{_agreement(published.summaries)}\n\n{small_print(note)}"


def _marked(one: RemovalSummary) -> dict[str, str]:
    """Return each method's gap, marked if it differs from RANDOM's."""
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
    """Return the rank correlations of the evaluations, a line for each data set."""
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
    return "\n\n".join([f"{first[0]}:\n\n{first[1]}", *(details(*part) for part in others)])


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
    return f"{markdown_rows([head, *rows])}\n{small_print(note)}"
