"""One retraining: its configuration, and the file that says it is finished; records of any measurement."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attribution.spec import MethodSpec
from common.errors import InputError
from common.files import catch_read_errors, json_sha256, write_text
from training.checkpoint import made_by_other_code
from training.recipe import Recipe

FORMAT = 1
OF_METHOD = ("ensemble", "parameters", "code")  # beside its name
OF_CODE = ("code", "model_code")
GATHERED = "records.jsonl"  # the records of many measurements in one file, for publishing


@dataclass(frozen=True)
class Run:
    """All that decides on the result of one retraining.

    Attributes:
        evaluation: "ROAR", "KAR", or "baseline" for images of which nothing is removed.
        sees: "image", or "mask" for a network that sees the 0/1 mask alone, 1 at the most important `ratio`. The mask
            of KAR is the complement of one of ROAR and tells the same: both have the same runs.
        method: None for the baseline, like every other field that only concerns masks.
        checkpoint_sum: the explained model.
        model_code: stands for the code of a user's own model; None for ours.
    """

    evaluation: str
    dataset: str
    dataset_sum: str
    model: str
    seed: int
    recipe: Recipe
    limit_train: int | None
    limit_test: int | None
    sees: str = "image"
    method: MethodSpec | None = None
    ratio: float = 0.0
    checkpoint_sum: str | None = None
    explain: str | None = None
    granularity: str | None = None
    rank: str | None = None
    fill: str | None = None
    mask_split: str | None = None
    map_dtype: str | None = None
    model_code: str | None = None

    def configuration(self) -> dict[str, Any]:
        method = self.method.plain if self.method else {"method": None, "ensemble": None, "parameters": None}
        fields = asdict(self) | {"recipe": self.recipe.plain()}
        if self.model_code is None:
            del fields["model_code"]
        return fields | method | {"blur": self.method.blur if self.method else None}

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> "Run":
        """The run of a `configuration()`."""
        choice = MethodSpec.read(configuration) if configuration["method"] else None
        given = {name: value for name, value in configuration.items() if name not in (*OF_METHOD, "blur")}
        return cls(**given | {"method": choice, "recipe": Recipe(**given["recipe"])})

    @property
    def name(self) -> str:
        words = [self.dataset, self.model, *self._method_words(), self.evaluation]
        words += [f"{self.ratio:.4g}" if self.method else None, "mask" if self.sees == "mask" else None]
        return "_".join(str(word) for word in words if word) + f"_seed{self.seed}"

    def _method_words(self) -> list[str | None]:
        if self.method is None:
            return []
        return [self.method.method_stem, self.method.ensemble, "blurred" if self.method.blur else None]

    def path(self, results: Path) -> Path:
        """`<results>/runs/<name>-<hash of the configuration>.json`."""
        return results / "runs" / f"{self.name}-{json_sha256(self.configuration())[:12]}.json"


@dataclass(frozen=True)
class Result:
    """What a finished run measured, and how.

    Attributes:
        accuracy: on the test images.
        removed_fraction: of the positions of the training images, counted.
        tied_fraction: of their positions, how many have a value that another one has too; their order is random.
        chance: on the test images, see `evaluation.chance`; None in records from before it was kept.
    """

    accuracy: float
    test_images: int
    removed_fraction: float
    tied_fraction: float
    loss: float
    seconds: float
    device: str
    versions: dict[str, str]
    chance: float | None = None

    def plain(self) -> dict[str, Any]:
        """Return the fields for a record, without what is not known."""
        return {name: value for name, value in asdict(self).items() if name != "chance" or value is not None}


def save_result(run: Run, result: Result, results: Path) -> None:
    write_record(run.path(results), run.configuration(), result.plain())


def find_result(run: Run, results: Path) -> Result | None:
    """The result of `run` if it is finished, else None.

    Raises:
        InputError: there is a file under its name that is damaged or of another configuration.
    """
    path = run.path(results)
    if not path.exists():
        return None
    with naming_damage(path):
        configuration, result = read_record(path)
        if Run.of(configuration) != run:
            raise ValueError("another configuration")
        return Result(**result)


def kept_results(results: Path) -> Iterator[tuple[Run, Result]]:
    """All finished runs of a results folder, in the order of their names.

    Raises:
        InputError: a file is damaged.
    """
    for path, configuration, result in kept_records(results, "runs"):
        with naming_damage(path):
            yield Run.of(configuration), Result(**result)


def kept_records(folder: Path, kind: str) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Path, configuration and result of each finished measurement.

    First `<folder>/<kind>/*.json` in the order of their names, then what was gathered in `<folder>/records.jsonl` under
    such a path and has no file of its own.

    Raises:
        InputError: a file is damaged.
    """
    paths = sorted((folder / kind).glob("*.json"))
    for path in paths:
        yield path, *read_record(path)
    for name, (configuration, result) in gathered_records(folder).items():
        if name.startswith(f"{kind}/") and folder / name not in paths:
            yield folder / name, configuration, result


def gathered_records(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Of `<folder>/records.jsonl`: `<kind>/<file name>` -> configuration and result.

    Raises:
        InputError: the file is damaged, or has another format.
    """
    path = folder / GATHERED
    if not path.exists():
        return {}
    with naming_damage(path):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if any(line["format"] != FORMAT for line in lines):
            raise ValueError(f"another format, this program reads {FORMAT}")
        return {line["name"]: (line["configuration"], line["result"]) for line in lines}


def gather_records(records: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]], folder: Path) -> int:
    """Put `records` into `<folder>/records.jsonl`, in the place of those of the same name; return how many are there.

    Raises:
        InputError: the file that is there is damaged.
    """
    everything = {**gathered_records(folder), **records}
    lines = [
        json.dumps(
            {"name": name, "format": FORMAT, "configuration": configuration, "result": result},
            separators=(",", ":"),
            sort_keys=True,
            allow_nan=False,
        )
        for name, (configuration, result) in sorted(everything.items())
    ]
    write_text(folder / GATHERED, "".join(f"{line}\n" for line in lines))
    return len(lines)


def say_other_code(kept: Iterable[tuple[Any, ...]], missing: Iterable[Mapping[str, Any]]) -> None:
    """Say of which of the `missing` configurations there are results that code made which was edited since.

    Args:
        kept: what is finished: of each the path, the configuration, and more.

    Raises:
        InputError: a file is damaged.
    """
    wanted = {_without_code(one): one for one in missing if any(name in one for name in OF_CODE)}
    for _path, configuration, *_result in kept if wanted else ():
        if (now := wanted.get(_without_code(configuration))) is not None:
            made_by_other_code(configuration, now)


def _without_code(configuration: Mapping[str, Any]) -> str:
    """All but the code, and the weights that came of it."""
    rest = {name: one for name, one in configuration.items() if name not in (*OF_CODE, "checkpoint_sum")}
    return json.dumps(rest, sort_keys=True)


def write_record(path: Path, configuration: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """One finished measurement as JSON: what decided on it, and what came out."""
    content = {"format": FORMAT, "configuration": configuration, "result": result}
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_record(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and result of a file that `write_record` wrote.

    Raises:
        InputError: the file is damaged, or has another format.
    """
    with naming_damage(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, this program reads {FORMAT}")
        return content["configuration"], content["result"]


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """What keeps a record from being read in the `with` block becomes an `InputError`."""
    try:
        with catch_read_errors(path, "is damaged: delete it, and the run is done again"):
            yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it, and the run is done again") from error
