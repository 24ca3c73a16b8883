"""Bring a notebook's cells that only show source code or published results up to date; all other outputs stay.

Run after a change of the code or of `results/published/`: .venv/bin/python notebooks/refresh.py
"""

import base64
import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

PRINTED = re.compile(r'inspect\.getsource\(|^print_(accuracy|evaluations)\(|ROOT / "results" / "published"', re.M)
PICTURE = re.compile(r"^Picture\(ROOT / .*\)$")

Cell = dict[str, Any]


def todays_outputs(notebook: dict[str, Any]) -> Iterator[tuple[Cell, list[Cell]]]:
    """Yield each cell that shows source code or published results, with the outputs that it has today."""
    imports, *cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("".join(imports["source"]), names)
    for cell in cells:
        source = "".join(cell["source"])
        if PICTURE.match(source):
            yield cell, [_picture(eval(source, names).content, cell["execution_count"])]
        elif PRINTED.search(source):
            with redirect_stdout(io.StringIO()) as printed:
                exec(source, names)
            text = printed.getvalue().splitlines(keepends=True)
            yield cell, [{"name": "stdout", "output_type": "stream", "text": text}]


def _picture(content: bytes, count: int) -> Cell:
    data = {"image/png": base64.b64encode(content).decode()}
    return {"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"}


def refresh(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell, outputs in todays_outputs(notebook):
        cell["outputs"] = outputs
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("*.ipynb")):
        refresh(path)
