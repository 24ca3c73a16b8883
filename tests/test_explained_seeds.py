"""--explained-seeds=own: each seed of ROAR and KAR retrains on the maps of its own classifier."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch

import whitebox
from attribution.spec import MethodSpec
from data import load_dataset
from data.catalog import CATALOG
from evaluation.masking import SplitRanks, ranks_of_maps
from evaluation.options import record_of
from evaluation.retraining import Retraining
from evaluation.runs import MaskOptions, RetrainingConfig, Run
from experiments.records import write_record
from reporting.retraining_groups import AMBIGUOUS
from reporting.retraining_summary import RetrainingSummary
from reporting.retrainings import Retrainings
from tests.run_main import run
from tests.samples import sample_entry, write_sample
from tests.test_retrainings import make_config, make_result
from training.inputs import Normalisation

FACTORY = "tests.own_model:perceptron"
MODEL = "mnist_tests.own_model.perceptron"
OPTIONS = ["--target=mnist", "--quick", "--epochs=1", "--ratios=0.5", "--seeds=2", "--method=VBP"]
OPTIONS += [f"--model={FACTORY}", "--eval=ROAR,KAR"]
OWN = "--explained-seeds=own"
ENDING = f"{MODEL}_VBP-RANDOM_own-networks_quick_1-epoch_ratios-0.5_2-seeds"
SUMS = ("d" * 64, ("c" * 64, "e" * 64, "f" * 64))
VBP = MethodSpec("VBP")
CPU = torch.device("cpu")

Records = dict[str, dict[str, Any]]


def read(output: Path) -> Records:
    return {path.name: json.loads(path.read_text()) for path in (output / "results/runs").iterdir()}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Iterator[tuple[Path, Records, Records]]:
    """A folder, and the records in its `out`: of a network that all seeds share, and what another for each adds."""
    folder = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "mnist", sample_entry("mnist"))
        patch.setattr("experiments.request.default_jobs", lambda device: 1)
        write_sample("mnist", folder / "data")
        assert run(folder / "data", folder / "out", OPTIONS) == 0
        before = read(folder / "out")
        assert run(folder / "data", folder / "out", [*OPTIONS, OWN]) == 0
        after = read(folder / "out")
        assert before.items() <= after.items(), "what both share stays as it was"
        yield folder, before, {name: record for name, record in after.items() if name not in before}


def ranks_by_hand(maps: Path) -> SplitRanks:
    ranks = []
    with h5py.File(maps) as file:
        for split in ("train", "test"):
            rows = file[split]
            ranks.append(ranks_of_maps([(rows["attribution"][:], rows["index"][:])], 1, "pixel", "signed", CPU))
    (train, tied), (test, _tied) = ranks
    return SplitRanks(train, test, tied)


def test_seed_1_retrains_on_the_maps_of_classifier_1(evaluated, data_dir):
    folder, before, own = evaluated
    maps = [folder / f"out/saliency_maps/{MODEL}_{seed}VBP_quick.h5" for seed in ("", "seed1_")]
    sums = [h5py.File(path).attrs["checkpoint_sum"] for path in maps]
    assert sums[0] != sums[1]
    assert {record["configuration"]["checkpoint_sum"] for record in before.values()} == {None, sums[0]}
    assert {record["configuration"]["checkpoint_sum"] for record in own.values()} == {sums[1]}
    dataset = load_dataset("mnist", data_dir)
    by_hand = Retraining(dataset, Normalisation.from_dataset(dataset, CPU), CPU)
    for record in own.values():
        one = Run.of(record["configuration"])
        losses = [by_hand.execute(one, ranks_by_hand(path), lambda images: None).loss for path in maps]
        assert record["result"]["loss"] == losses[1] != losses[0]


def test_baselines_controls_and_seed_0_are_shared(evaluated):
    _folder, before, own = evaluated
    assert len(before) == 2 + 2 * (2 * 2 + 1)  # baselines; of each method the images of both, two seeds, and the mask
    kinds = {
        (one["method"], one["evaluation"], one["seed"]) for one in (each["configuration"] for each in own.values())
    }
    assert kinds == {("VBP", "ROAR", 1), ("VBP", "KAR", 1)}
    assert {record["configuration"]["explained_seeds"] for record in own.values()} == {"own"}
    assert not any("explained_seeds" in record["configuration"] for record in before.values())


def test_the_default_leaves_records_and_file_names_as_they_were():
    assert "explained_seeds" not in record_of(MaskOptions())
    published = Path(__file__).parents[1] / "results/published/records.jsonl"
    lines = (json.loads(line) for line in published.read_text(encoding="utf-8").splitlines())
    runs = {line["name"]: line["configuration"] for line in lines if line["name"].startswith("runs/")}
    assert runs
    assert all(str(Run.of(configuration).path(Path())) == name for name, configuration in runs.items())


def test_the_report_has_the_tables_of_both(evaluated, data_dir):
    folder, *_ = evaluated
    results = folder / "out/results"
    stored = Retrainings.load(results, data_dir=data_dir)
    assert stored.omissions == ()
    endings = ENDING, ENDING.replace("_own-networks", "")
    paths = [results / f"{name}_{ending}.md" for name in ("ROAR", "KAR", "KAR-ROAR") for ending in endings]
    texts = {path.read_text() for path in paths}
    assert len(texts) == 6
    assert {part.text for part in (*stored.summaries, *stored.gaps)} == texts
    assert run(data_dir, folder / "out", ["--report"]) == 0
    assert all(text in (results / "retraining.md").read_text() for text in texts)
    assert (results / f"ROAR_{FACTORY.replace(':', '.')}_own-networks.png").exists()


def test_the_api_gives_the_table_of_the_command_line(evaluated, data_dir, monkeypatch):
    folder, *_ = evaluated
    monkeypatch.setattr(Retraining, "execute", lambda *_: pytest.fail("a finished run is done again"))
    facts = {"quick": True, "epochs": 1, "ratios": (0.5,), "seeds": 2, "explained_seeds": "own"}
    folders = {"data_dir": data_dir, "output_dir": folder / "out"}
    summary = whitebox.evaluate(FACTORY, dataset="mnist", methods=["VBP"], evaluation="ROAR", **facts, **folders)
    assert (folder / f"out/results/ROAR_{ENDING}.md").read_text() == summary.text


def test_dry_run_counts_the_classifiers_and_maps_of_each_seed(data_dir, tmp_path, capsys):
    assert run(data_dir, tmp_path / "out", [*OPTIONS, "--eval=ROAR", OWN, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "8 retrainings, 0 finished" in printed
    for work, times in {"train ": 2, "explain": 3, "retrain": 8}.items():  # of RANDOM one file of maps
        assert sum(line.startswith(work) for line in printed.splitlines()) == times
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--eval=ROAR", "--weights=pretrained"], "--weights gives one network"),
        (["--eval=ROAR"], "give --seeds=2 or more"),
        (["--eval=ROAD", "--seeds=2"], "--explained-seeds is for --eval=ROAR,KAR"),
    ],
)
def test_networks_of_other_seeds_that_there_are_not_are_refused(data_dir, tmp_path, capsys, options, message):
    model = "--model=torchvision:resnet18" if "--weights=pretrained" in options else "--attention=none"
    assert run(data_dir, tmp_path / "out", ["--target=mnist", "--method=GC", model, OWN, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def save(folder: Path, config: RetrainingConfig, sums: tuple[str, ...] = SUMS[1]) -> None:
    """Store runs of `config`, whose seed k explains a classifier with the sum `sums[k]`."""
    for one in config.runs(SUMS[0], sums):
        write_record(one.path(folder), one.configuration(), make_result(one).plain())


OF_OWN = make_config(seeds=3, mask_seeds=2, explained_seeds="own")


def test_a_group_of_networks_survives_its_files(tmp_path):
    save(tmp_path, OF_OWN)
    *others, found = Retrainings.load(tmp_path).summaries
    assert (found.config, found.checkpoints_sha256) == (OF_OWN, SUMS[1])
    results = {one: make_result(one) for one in OF_OWN.runs(*SUMS)}
    assert found.text == RetrainingSummary(OF_OWN, *SUMS, results).text
    assert [(one.config.masks, one.config.seeds) for one in others] == [(MaskOptions(), 1)]  # those of seed 0


def test_a_network_that_is_not_finished_makes_a_smaller_table(tmp_path):
    save(tmp_path, OF_OWN)
    for path in (tmp_path / "runs").glob("*_GC_ROAR_0.5_seed2-*"):
        path.unlink()
    found = Retrainings.load(tmp_path)
    assert (found.summaries[-1].config, found.summaries[-1].checkpoints_sha256) == (
        replace(OF_OWN, seeds=2),
        SUMS[1][:2],
    )
    assert found.omissions[-1].endswith("seeds from 2")
    for path in (tmp_path / "runs").glob("*_GC_ROAR_*_seed1-*"):
        path.unlink()
    found = Retrainings.load(tmp_path)
    assert not any(summary.explains_all_seeds for summary in found.summaries), "RANDOM alone is no table of networks"


def test_networks_that_may_not_belong_together_make_no_table(tmp_path):
    save(tmp_path, OF_OWN)
    save(tmp_path, OF_OWN, (SUMS[1][0], "a" * 64, SUMS[1][2]))
    found = Retrainings.load(tmp_path)
    assert not any(summary.explains_all_seeds for summary in found.summaries)
    assert [line.endswith(AMBIGUOUS) for line in found.omissions].count(True) == 1


def test_another_network_of_seed_0_with_fewer_ratios_does_not_hide_the_table(tmp_path):
    """Seed 0 shares its runs with `same`: a second network that was measured there, at one ratio, is not of these."""
    save(tmp_path, OF_OWN)
    save(tmp_path, make_config(ratios=OF_OWN.ratios[:1]), ("a" * 64,))
    found = Retrainings.load(tmp_path)
    assert [summary.checkpoints_sha256 for summary in found.summaries if summary.explains_all_seeds] == [SUMS[1]]
    assert not any(line.endswith(AMBIGUOUS) for line in found.omissions)


def test_the_interval_says_what_it_is_over():
    texts = []
    for config, sums in ((replace(OF_OWN, masks=MaskOptions()), SUMS[1][:1]), (OF_OWN, SUMS[1])):
        results = {one: make_result(one) for one in config.runs(SUMS[0], sums)}
        texts.append(RetrainingSummary(config, SUMS[0], sums, results).text)
    assert "seeds of one explained network's retraining" in texts[0]
    assert "seeds of both the explained network and its retraining" in texts[1]
    assert "one explained network (seed 0)" in texts[0]
    assert "one explained network" not in texts[1]
