"""The notebooks: kept with their outputs, free of anybody's paths, and run as a reader runs them."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PLACES = re.compile(r"(?<![\w.])/(tmp|home|root|work|Users)\b|\bC:\\")
SHOWS = re.compile(r"^(print|grid|drawn|Picture|print_accuracy|print_evaluations)\(|^    +print\(", re.M)
LARGE = {"RAN", "WARN"}  # networks that take minutes even with a few images
SIZE = 650_000


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def joined(text: str | list[str]) -> str:
    """Text as notebooks keep it: whole or line by line."""
    return "".join(text)


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def text_of(output: dict[str, Any]) -> str:
    """Return the text that a reader sees of an output."""
    parts = [output.get("text", ""), *(data for kind, data in output.get("data", {}).items() if kind[:4] == "text")]
    return "".join(joined(part) for part in parts)


def content(output: dict[str, Any]) -> str:
    """Return an output's picture, or its text."""
    return joined(output.get("data", {}).get("image/png", "")).strip() or text_of(output)


def test_there_are_notebooks_of_methods_attention_and_evaluations():
    names = {path.stem for path in NOTEBOOKS}
    assert {"CAM", "CBAM", "RAN", "WARN", "VBP", "IB", "IG", "DeconvNet", "GB", "GC", "GB-GC"} <= names
    assert {"ROAR_KAR", "selectivity", "coherence", "evaluations_without_retraining", "model_performance"} <= names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_its_outputs(path: Path):
    notebook = read(path)
    first, cells = notebook["cells"][0], code_cells(notebook)
    assert first["cell_type"] == "markdown"
    assert joined(first["source"]).startswith("# ")
    assert joined(cells[0]["source"]).startswith("from tools import ")
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert [
        joined(cell["source"]) for cell in cells if not cell["outputs"] and SHOWS.search(joined(cell["source"]))
    ] == []
    shown = outputs(notebook)
    assert {output["output_type"] for output in shown} <= {"stream", "display_data", "execute_result"}
    assert {output["name"] for output in shown if output["output_type"] == "stream"} <= {"stdout"}
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert path.stat().st_size < SIZE


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_nothing_of_a_machine(path: Path):
    notebook = read(path)
    seen = [joined(cell["source"]) for cell in notebook["cells"]] + [text_of(one) for one in outputs(notebook)]
    assert [text for text in seen if PLACES.search(text)] == []
    assert notebook["metadata"]["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert all("execution" not in cell["metadata"] for cell in notebook["cells"])


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`tools` can be imported, and is imported anew."""
    output = tmp_path / "output"
    output.mkdir()
    monkeypatch.setenv("WHITEBOX_OUTPUT", str(output))
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tools", raising=False)
    yield
    sys.modules.pop("tools", None)


@pytest.fixture
def fresh_tools(data_dir: Path, on_path: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tools` as a fresh clone imports it: sample data, nothing trained yet."""
    monkeypatch.setenv("WHITEBOX_DATA", str(data_dir))
    importlib.import_module("tools")


@pytest.mark.long
@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS if path.stem not in LARGE])
def test_a_notebook_runs_from_a_fresh_clone(name: str, fresh_tools: None):
    names: dict[str, Any] = {"__name__": "__main__"}
    for place, cell in enumerate(code_cells(read(FOLDER / f"{name}.ipynb")), start=1):
        exec(compile(joined(cell["source"]), f"{name}, code cell {place}", "exec"), names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_and_the_published_results_that_a_notebook_shows_are_todays(path: Path, on_path: None):
    """`python notebooks/refresh.py` brings them up to date."""
    for cell, today in importlib.import_module("refresh").todays_outputs(read(path)):
        assert list(map(content, cell["outputs"])) == list(map(content, today)), joined(cell["source"])
