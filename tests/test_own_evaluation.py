"""The worked example of docs/architecture.md: an evaluation in a file of one's own."""

import csv
import re
import sys
from pathlib import Path

import pytest

from tests.run_main import run

DOCS = Path(__file__).parents[1] / "docs" / "architecture.md"
OPTIONS = ["--target=planted", "--quick", "--method=evaluation.planted:TrueMap,evaluation.planted:ReversedMap"]


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Write the example to a file."""
    text = DOCS.read_text(encoding="utf-8")
    (source,) = re.findall(r"<!-- example: average_drop.py -->\n```python\n(.*?)```", text, re.DOTALL)
    assert len(source.splitlines()) < 100
    path = tmp_path / "average_drop.py"
    path.write_text(source, encoding="utf-8")
    return path


def drops(folder: Path) -> dict[str, float]:
    (path,) = (folder / "results").glob("average-drop_*.csv")
    return {line["method"]: float(line["mean"]) for line in csv.DictReader(path.open(encoding="utf-8"))}


def test_the_example_ranks_maps_of_known_worth_and_is_made_anew_after_an_edit(example, tmp_path, capsys):
    words = [f"--eval={example}:AverageDrop", *OPTIONS, "--limit-test=60", "--jobs=2"]
    assert run(tmp_path / "data", tmp_path, [*words, "--dry-run"]) == 0
    assert "in all on this device" in capsys.readouterr().out
    assert run(tmp_path / "data", tmp_path, words) == 0
    found = drops(tmp_path)
    assert found["evaluation.planted:TrueMap"] < found["RANDOM"] - 0.1 < found["evaluation.planted:ReversedMap"]
    capsys.readouterr()
    assert run(tmp_path / "data", tmp_path, words) == 0
    assert "3 of 3 measurements are finished" in capsys.readouterr().out
    for name in [name for name in sys.modules if name.startswith("average_drop_")]:
        del sys.modules[name]  # as in a new process
    example.write_text(example.read_text(encoding="utf-8").replace("clamp(min=0)", "clamp(min=-1)"), encoding="utf-8")
    assert run(tmp_path / "data", tmp_path, words) == 0
    assert "0 of 3 measurements are finished" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["nowhere.py:AverageDrop", "evaluation.masking:Removal"])
def test_what_is_no_evaluation_costs_one_line(place, tmp_path, capsys):
    assert run(tmp_path / "data", tmp_path / "out", [f"--eval={place}", *OPTIONS]) == 2
    assert place in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_name_of_one_of_ours_is_refused(example, tmp_path, capsys):
    example.write_text(example.read_text(encoding="utf-8").replace('"average-drop"', '"ROAD"'), encoding="utf-8")
    assert run(tmp_path / "data", tmp_path / "out", [f"--eval={example}:AverageDrop", *OPTIONS]) == 2
    assert "another name" in capsys.readouterr().err
