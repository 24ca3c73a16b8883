"""`--reproduce`: the commands that the README's tables need, and how long they take here."""

import json
import re
from itertools import product
from pathlib import Path

import pytest
import torch

import main
from experiments.cost import Costs
from experiments.reports import PUBLISHED
from experiments.reproduction import FULL, QUICK, steps
from main import build_parser, request_of
from tests.planted import OPTIONS
from tests.run_main import run

ROOT = Path(__file__).parent.parent
PAGES = [page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("quick", [False, True])
def test_every_step_is_a_command(quick):
    parser = build_parser()
    options = [parser.parse_args(words) for words in steps(quick)]
    assert options[-1].report
    assert all(one.quick for one in options) or not quick
    assert {name for one in options for name in one.eval or ()} >= {"ROAR", "KAR", "ROAD", "sanity", "selectivity"}


def test_the_pages_name_the_commands_of_the_full_tables():
    """In their words: what stands under a table is what reproduces it."""
    text = " ".join(" ".join(PAGES).split())
    for command in FULL[1:-1]:
        if "--attention=RAN" not in command and "--attention=WARN" not in command and "coherence" not in command:
            words = [word for word in command.split() if word not in ("--target=mnist", "--target=cifar10")]
            assert all(word in text for word in words), command


def test_every_published_classifier_is_trained_by_one_of_the_commands():
    """With the same recipe and images, whose test accuracy the tables tell."""
    trained = {}
    for words in steps(quick=False):
        request = request_of(build_parser().parse_args(words))
        if request.train or request.quick:
            for dataset, attention in product(request.target or ["mnist"], request.attentions):
                for seed in range(request.seeds):
                    config = request.training_config(dataset, attention, seed)
                    trained[config.path(Path()).stem] = config.plain()
    records = [json.loads(line) for line in (PUBLISHED / "records.jsonl").read_text(encoding="utf-8").splitlines()]
    published = {Path(one["name"]).stem: one["result"] for one in records if one["name"].startswith("checkpoints/")}
    assert len(published) > 15
    for name, result in published.items():
        assert {key: result[key] for key in trained[name]} == trained[name], name


def test_a_dry_run_of_everything_writes_nothing_and_says_how_long_it_takes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.cost.measure_step_seconds", lambda *_: 0.01)
    monkeypatch.setattr("experiments.cost.REPEATS", 1)
    output = tmp_path / "out"
    assert run(tmp_path / "data", output, ["--reproduce", "--quick", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert [line[len("$ python main.py ") :] for line in printed.splitlines() if line.startswith("$")] == list(QUICK)
    assert re.fullmatch(r"about [\d.]+ (seconds|minutes|hours) in all on this device.*", printed.splitlines()[-1])
    assert not output.exists()


def test_each_step_is_run_with_the_same_folders(data_dir, tmp_path, monkeypatch, capsys):
    done = []
    monkeypatch.setattr("experiments.commands.steps", lambda quick: [["--train", "--target=mnist"], ["--report"]])
    monkeypatch.setattr("experiments.commands.run", lambda options, costs: done.append(options))
    options = [f"--data-dir={data_dir}", f"--output-dir={tmp_path}", "--device=cpu", "--jobs=1", "--reproduce"]
    assert main.main(options) == 0
    assert [(one.train, one.report) for one in done] == [(True, False), (False, True)]
    assert {(one.data_dir, one.output_dir, one.device, one.jobs) for one in done} == {(data_dir, tmp_path, "cpu", 1)}


@pytest.mark.parametrize(
    ("evaluation", "own"),
    {
        "ROAR": ["--seeds=2", "--ratios=0.1,0.5", "--limit-train=64", "--epochs=1"],
        "ROAD": ["--ratios=0.1,0.5"],
        "F-Fidelity": ["--ratios=0.1,0.5", "--draws=2"],
        "sanity": [],
        "selectivity": ["--removals=3"],
    }.items(),
)
def test_what_is_finished_costs_nothing(evaluation, own, tmp_path, capsys):
    options = [f"--eval={evaluation}", *OPTIONS[:3], "--limit-test=20", "--model=tests.own_model:perceptron", *own]
    assert run(tmp_path / "data", tmp_path, [*options, "--dry-run"]) == 0
    assert "in all on this device" in capsys.readouterr().out
    assert run(tmp_path / "data", tmp_path, options) == 0
    capsys.readouterr()
    assert run(tmp_path / "data", tmp_path, [*options, "--dry-run"]) == 0
    assert "in all on this device" not in capsys.readouterr().out


def test_what_two_commands_need_is_counted_once(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.cost.measure_step_seconds", lambda *_: 0.01)
    from experiments.commands import run as run_command

    costs = Costs(torch.device("cpu"), 1)
    words = ["--train", "--target=mnist", "--quick", "--dry-run", f"--data-dir={data_dir}", f"--output-dir={tmp_path}"]
    run_command(request_of(build_parser().parse_args(words)), costs)
    once = costs.total
    run_command(request_of(build_parser().parse_args(words)), costs)
    assert costs.total == once > 0
