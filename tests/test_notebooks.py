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
SHOWS = re.compile(r"^(print|grid|drawn|Picture|print_evaluations)\(|^    +print\(", re.M)
NEEDS_MORE_IMAGES = {"selectivity"}  # than the sample has
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


def test_there_are_notebooks_of_methods_attention_and_evaluations():
    names = {path.stem for path in NOTEBOOKS}
    assert {"CAM", "CBAM", "RAN", "WARN", "ROAR_KAR", "selectivity", "coherence", "model_performance"} <= names


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
def fresh_tools(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`tools` as a fresh clone imports it: sample data, nothing trained yet."""
    output = tmp_path / "output"
    output.mkdir()
    monkeypatch.setenv("WHITEBOX_DATA", str(data_dir))
    monkeypatch.setenv("WHITEBOX_OUTPUT", str(output))
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tools", raising=False)
    importlib.import_module("tools")
    yield
    sys.modules.pop("tools", None)


@pytest.mark.long
@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if path.stem not in NEEDS_MORE_IMAGES], ids=lambda path: path.stem
)
def test_a_notebook_runs_from_a_fresh_clone(path: Path, fresh_tools: None):
    names: dict[str, Any] = {"__name__": "__main__"}
    for place, cell in enumerate(code_cells(read(path)), start=1):
        exec(compile(joined(cell["source"]), f"{path.stem}, code cell {place}", "exec"), names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_that_a_notebook_prints_is_todays(path: Path, fresh_tools: None, capsys: pytest.CaptureFixture[str]):
    imports, *cells = code_cells(read(path))
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(joined(imports["source"]), names)
    for cell in cells:
        if "inspect.getsource(" in joined(cell["source"]):
            capsys.readouterr()
            exec(joined(cell["source"]), names)
            assert capsys.readouterr().out == "".join(map(text_of, cell["outputs"]))
