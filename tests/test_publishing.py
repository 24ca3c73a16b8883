"""The published results agree: README and tables say the same as the records in git."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from common.errors import InputError
from evaluation import REMOVING
from experiments import reports
from experiments.reports import gather
from reporting.accuracy import TRAININGS
from reporting.blocks import BLOCKS
from reporting.documents import BLOCK, NOTHING, fill_blocks
from reporting.groups import load_measurements
from reporting.records import GATHERED
from reporting.retrainings import Retrainings
from reporting.summary import Published, summarize
from tests.run_main import run

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "results" / "published"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def test_the_pages_say_what_is_published():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert sorted(match["name"] for match in BLOCK.finditer(text)) == sorted(BLOCKS), "every block stands in one page"
    assert fill_blocks(text, Published(PUBLISHED)) == text, "python main.py --report --publish writes it"
    assert NOTHING not in text
    assert not Published(PUBLISHED).retrainings.omissions, "a table that could be shown"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_result_stands_outside_the_markers(page):
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    prose = re.sub(r"```.*?```|`[^`]*`|arXiv [\d.]+|Python 3\.\d+|95 % interval", "", prose, flags=re.DOTALL)
    assert not re.findall(r"±\s*\d|\b\d\.\d{2,}|\b\d+(?:\.\d+)? (?:%|times as)", prose)


def test_the_tables_say_what_is_published():
    published = Published(PUBLISHED)
    written = [part for part in published.measurements if part.evaluation != "selectivity"]
    for part in (*written, *published.retrainings.quick, *published.summaries):
        stem = f"summary_{part.dataset}_{part.model}" if part in published.summaries else part.stem
        assert (PUBLISHED / f"{stem}.md").read_text(encoding="utf-8") == part.text
    kept = (PUBLISHED / "retraining.md").read_text(encoding="utf-8")
    assert all(f"## {part.text}" in kept for part in (*published.retrainings.summaries, *published.retrainings.gaps))
    counts = Counter(part.evaluation for part in published.measurements)
    assert counts.keys() == {*REMOVING, "sanity", "selectivity"}
    assert min(counts.values()) == 2, "both data sets"


def test_what_was_gathered_is_reported_as_where_it_was_made(finished, tmp_path):
    gather(finished / "checkpoints", finished / "results", tmp_path)
    names = {json.loads(line)["name"] for line in (tmp_path / GATHERED).read_text().splitlines()}
    kinds, results = (*REMOVING, "learned"), finished / "results"
    files = {f"{kind}/{path.name}" for kind in kinds for path in (results / kind).glob("*.json")}
    models = {f"{TRAININGS}/{path.stem}.json" for path in (finished / "checkpoints").glob("*.pt")}
    assert names == files | models
    there, here = load_measurements(finished / "results"), load_measurements(tmp_path)
    assert [part.text for part in here] == [part.text for part in there] != []
    before = (tmp_path / GATHERED).read_bytes()
    gather(finished / "checkpoints", finished / "results", tmp_path)
    gather(tmp_path / "nothing", tmp_path / "nothing", tmp_path)
    assert (tmp_path / GATHERED).read_bytes() == before, "the same again, and nothing, change nothing"
    pages = [
        summarize(["planted"], Retrainings.load(folder), load_measurements(folder))
        for folder in (tmp_path, finished / "results")
    ]
    assert [part.text for part in pages[0]] == [part.text for part in pages[1]] != []


def test_selectivity_is_published_without_its_pictures(data_dir, tmp_path):
    options = [
        "--eval=selectivity",
        "--target=mnist",
        "--method=VBP",
        "--quick",
        "--limit-test=16",
        "--removals=5",
    ]
    assert run(data_dir, tmp_path, options) == 0
    results, published = tmp_path / "results", tmp_path / "published"
    gather(tmp_path / "checkpoints", results, published)
    (whole,), (short,) = (load_measurements(folder) for folder in (results, published))
    assert [method.label for method in short.methods] == [method.label for method in whole.methods] == ["VBP", "RANDOM"]
    for curve, short_curve in zip(whole.curves, short.curves, strict=True):
        assert abs(curve.score - short_curve.score).max() < 5e-4  # half precision
        assert (curve.correct == short_curve.correct).all()
    sizes = [sum(path.stat().st_size for path in (folder / "selectivity").iterdir()) for folder in (results, published)]
    assert sizes[1] < sizes[0]


def test_publish_writes_tables_and_readme(finished, tmp_path, monkeypatch, capsys):
    readme, page, published = tmp_path / "README.md", tmp_path / "docs" / "page.md", tmp_path / "published"
    page.parent.mkdir()
    for path in (readme, page):
        path.write_text("Before.\n\n<!-- report: everything -->\n\n<!-- /report -->\n\nAfter.\n")
    monkeypatch.setattr(reports, "README", readme)
    monkeypatch.setattr(reports, "PUBLISHED", published)
    assert run(finished / "data", finished, ["--report", "--publish"]) == 0
    assert {"accuracy.md", GATHERED} <= {path.name for path in published.iterdir()}
    text = readme.read_text()
    assert text.startswith("Before.") and text.endswith("After.\n")
    assert "All methods × all evaluations" in text
    assert page.read_text() == text
    assert run(finished / "data", finished, ["--report", "--publish", "--target=mnist"]) == 2
    assert run(finished / "data", finished, ["--eval=ROAR", "--publish"]) == 2
    assert "--publish is for --report" in capsys.readouterr().err
    assert readme.read_text() == text


def test_an_unknown_block_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown block 'weather'"):
        fill_blocks("<!-- report: weather -->\nold\n<!-- /report -->\n", Published(tmp_path))


def test_an_empty_block_is_filled_and_an_open_one_refused(tmp_path):
    first, second = (
        "<!-- report: ensembles -->\n<!-- /report -->\n",
        "<!-- report: imputed -->\nold\n<!-- /report -->\n",
    )
    filled = fill_blocks(f"{first}words between\n{second}", Published(tmp_path))
    assert "words between" in filled
    assert filled.count(NOTHING) == 2
    with pytest.raises(InputError, match="1 beginnings and 2 ends"):
        fill_blocks(f"<!-- /report -->\n{first}", Published(tmp_path))
    with pytest.raises(InputError, match="2 beginnings and 1 ends"):
        fill_blocks(f"<!-- report: imputed -->\n{first}", Published(tmp_path))
