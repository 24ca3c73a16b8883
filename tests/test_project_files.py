"""The files about the project as a whole: citation, contributing, hooks before a commit."""

import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parent.parent


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors", "abstract"} <= set(citation), "what CFF 1.2 requires"
    assert str(citation["cff-version"]) == "1.2.0"
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]["text"]
    assert all(author["name"] for author in citation["authors"])


def test_each_hook_is_a_line_of_make_test():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(BIN)", ".venv/bin").splitlines()
    assert {hook["entry"] for hook in local["hooks"]} < {line.strip() for line in makefile}
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in local["hooks"])
