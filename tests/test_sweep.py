"""ROAR from end to end on small real data, through the command line."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import main
from attribution.spec import MethodSpec
from evaluation.masking import SplitRanks
from evaluation.options import options_of
from evaluation.retraining import Retraining, removal_of
from evaluation.runs import MaskOptions, RetrainingConfig, Run
from experiments import sweep as sweep_module
from experiments.cost import in_words
from experiments.records import find_result
from tests.run_main import hear_ctrl_c
from training.inputs import Normalisation
from training.recipe import recipe_for

OPTIONS = ["--eval=ROAR", "--method=GC", "--target=mnist", "--quick", "--epochs=1", "--ratios=0.3,0.9"]
OPTIONS += ["--model=tests.own_model:small"]
MODEL = "mnist_tests.own_model.small"
STEM = f"ROAR_{MODEL}_GC-RANDOM_quick_1-epoch_ratios-0.3-0.9"
GC = MethodSpec("GC")
ROOT = Path(__file__).parent.parent


def run(data_dir: Path, output: Path, *options: str) -> int:
    return main.main([f"--data-dir={data_dir}", f"--output-dir={output}", *options])


def accuracies(output: Path) -> dict[str, float]:
    return {
        path.name: json.loads(path.read_text())["result"]["accuracy"] for path in (output / "results/runs").iterdir()
    }


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("rendered")
def test_from_nothing_to_table_and_figure_and_again_in_no_time(data_dir, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out"
    assert run(data_dir, output, *OPTIONS) == 0
    printed = capsys.readouterr().out
    stem = f"results/{STEM}"
    made = files(output)
    assert {f"{stem}{suffix}" for suffix in (".png", ".pdf", ".md", ".csv")} <= made
    assert {f"checkpoints/{MODEL}_seed0_quick.pt", f"saliency_maps/{MODEL}_GC_quick.h5"} <= made
    assert not [name for name in made if "unfinished" in name or "parts" in name]
    assert (output / f"{stem}.png").read_bytes()[:4] == b"\x89PNG"
    assert (output / f"{stem}.pdf").read_bytes()[:4] == b"%PDF"
    assert (output / f"{stem}.md").read_text() in printed
    assert printed.rstrip().endswith(f"{output / stem}.pdf")
    for row in ("| GC ", "| GC, mask alone ", "| RANDOM ", "| RANDOM, mask alone ", "- GC: ", "- RANDOM: "):
        assert row in printed
    first, table = accuracies(output), (output / f"{stem}.csv").read_bytes()
    assert len(first) == 1 + 2 * 2 * 2

    def not_again(*_arguments, **_keywords):
        raise AssertionError("a finished run is done again")

    monkeypatch.setattr(Retraining, "execute", not_again)
    assert run(data_dir, output, *OPTIONS) == 0
    assert "9 of 9 retrainings are finished, 0 to do" in capsys.readouterr().out
    assert (output / f"{stem}.csv").read_bytes() == table


def test_same_seed_gives_the_same_accuracies_and_bit_identical_maps(data_dir, tmp_path):
    outputs = [tmp_path / "first", tmp_path / "second"]
    for output in outputs:
        assert run(data_dir, output, *OPTIONS, "--ratios=0.5") == 0
    assert accuracies(outputs[0]) == accuracies(outputs[1])
    for method in ("GC", "RANDOM"):
        first, second = (output / f"saliency_maps/{MODEL}_{method}_quick.h5" for output in outputs)
        assert first.read_bytes() == second.read_bytes()


def test_side_by_side_the_results_are_the_same(data_dir, tmp_path, monkeypatch, capsys):
    """With one thread each; with other numbers of threads the last digits differ."""
    assert run(data_dir, tmp_path / "alone", *OPTIONS) == 0
    monkeypatch.setattr(Retraining, "execute", lambda *_: pytest.fail("another process does it"))
    assert run(data_dir, tmp_path / "beside", *OPTIONS, "--jobs=2") == 0
    assert accuracies(tmp_path / "beside") == accuracies(tmp_path / "alone")
    tables = [(tmp_path / name / f"results/{STEM}.csv").read_text() for name in ("alone", "beside")]
    assert tables[0] == tables[1]
    assert "waiting" not in capsys.readouterr().out


def test_dry_run_says_what_is_to_be_done_and_writes_nothing(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(data_dir, output, *OPTIONS, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "9 retrainings, 0 finished" in printed
    assert printed.count("\nretrain ") == 9
    assert "train   " in printed
    assert not output.exists()


def test_more_ratios_do_only_the_new_runs(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(data_dir, output, *OPTIONS, "--ratios=0.3") == 0
    assert run(data_dir, output, *OPTIONS) == 0
    assert "5 of 9 retrainings are finished, 4 to do" in capsys.readouterr().out


def test_damaged_run_is_named_and_refused(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(data_dir, output, *OPTIONS, "--ratios=0.3") == 0
    path = next((output / "results/runs").glob("*_GC_*"))
    path.write_text(path.read_text()[:100])
    assert run(data_dir, output, *OPTIONS, "--ratios=0.3") == 2
    assert path.name in capsys.readouterr().err


def background(data_dir: Path, output: Path, jobs: str = "--jobs=1") -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.run_main", str(data_dir), f"--output-dir={output}", *OPTIONS, jobs]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, preexec_fn=hear_ctrl_c, **pipes)


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("moment", "jobs"),
    [
        ("checkpoints/*.pt", "--jobs=1"),
        pytest.param("results/runs/*GC*0.9*.json", "--jobs=2", marks=pytest.mark.long),
    ],
)
def test_killed_in_the_middle_it_goes_on_and_the_result_is_the_same(moment, jobs, data_dir, tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert run(data_dir, unbroken, *OPTIONS, jobs) == 0
    process = background(data_dir, broken, jobs)
    wait_for(lambda: list(broken.glob(moment)), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (broken / f"results/{STEM}.csv").exists()
    assert run(data_dir, broken, *OPTIONS, jobs) == 0
    assert accuracies(broken) == accuracies(unbroken)
    for name in (f"results/{STEM}.csv", f"saliency_maps/{MODEL}_GC_quick.h5"):
        assert (broken / name).read_bytes() == (unbroken / name).read_bytes()


def test_ctrl_c_ends_cleanly(data_dir, tmp_path):
    process = background(data_dir, tmp_path / "out")
    wait_for(lambda: list((tmp_path / "out").glob("results/runs/*.json")), process)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on where it stopped" in err
    assert "Traceback" not in err
    assert not [name for name in files(tmp_path / "out") if "unfinished" in name]


def protocol(**changes) -> RetrainingConfig:
    given = {"evaluation": "ROAR", "dataset": "mnist", "attention": None, "methods": (GC,), "ratios": (0.5,)}
    masks = {name: changes.pop(name) for name in options_of(MaskOptions) if name in changes}
    return RetrainingConfig(**given | {"masks": MaskOptions(**masks), "recipe": recipe_for("mnist")} | changes)


class Prepared:
    """A `Retraining` with ranks in order of the pixel's position, to look at what networks get to see."""

    def __init__(self, dataset):
        cpu = torch.device("cpu")
        order = torch.arange(784, dtype=torch.int16).view(1, 1, 28, 28)
        ranked = SplitRanks(
            *(order.expand(len(split), 1, 28, 28) for split in (dataset.train, dataset.test)), tied=0.25
        )
        self.retraining = Retraining(dataset, Normalisation.from_dataset(dataset, cpu), cpu)
        self.ranked = ranked

    def seen(self, run: Run, split: str) -> np.ndarray:
        return self.retraining.inputs(run, self.ranked if run.method else None, split).batch(torch.arange(3)).numpy()


@pytest.mark.parametrize("evaluation", ["ROAR", "KAR"])
def test_both_splits_are_masked_by_default_and_only_training_images_when_asked(mnist, evaluation):
    prepared = Prepared(mnist)
    for mask_split, masked in (("both", {"train", "test"}), ("train", {"train"})):
        chosen = protocol(evaluation=evaluation, mask_split=mask_split)
        run = chosen.run("data", "weights", GC, 0.25, 0, "image")
        for split in ("train", "test"):
            plain, got = (prepared.seen(one, split).reshape(3, 784) for one in (chosen.baseline("data", 0), run))
            removed = slice(0, 196) if evaluation == "ROAR" else slice(588, 784)
            kept = slice(196, 784) if evaluation == "ROAR" else slice(0, 588)
            np.testing.assert_array_equal(got[:, kept], plain[:, kept])
            assert (got[:, removed] == (0 if split in masked else plain[:, removed])).all()
        mask = prepared.seen(chosen.run("data", "weights", GC, 0.25, 0, "mask"), "test").reshape(3, 784)
        most, least = (removed, kept) if evaluation == "ROAR" else (kept, removed)
        assert mask[:, most].all()
        assert not mask[:, least].any()
        assert removal_of(run).mask(prepared.ranked.train).double().mean() == 0.25


def test_what_decides_on_a_run_is_in_its_name_and_what_does_not_is_shared():
    plain = protocol()
    runs = {plain.run("data", "weights", GC, 0.5, 0, "image")}
    for change in (
        {"evaluation": "KAR"},
        {"recipe": recipe_for("mnist", epochs=9)},
        {"limit_train": 10},
        {"limit_test": 10},
        {"explain": "label"},
        {"granularity": "element"},
        {"rank": "square"},
        {"fill": "black"},
        {"mask_split": "train"},
    ):
        runs.add(protocol(**change).run("data", "weights", GC, 0.5, 0, "image"))
    runs.add(plain.run("data", "weights", MethodSpec("RANDOM"), 0.5, 0, "image"))
    runs.add(plain.run("data", "weights", MethodSpec("GC", "SG"), 0.5, 0, "image"))
    runs.add(plain.run("data", "weights", MethodSpec("GC", "SG", (("samples", 5),)), 0.5, 0, "image"))
    runs.add(plain.run("data", "weights", GC, 0.6, 0, "image"))
    runs.add(plain.run("data", "weights", GC, 0.5, 1, "image"))
    runs.add(plain.run("data", "weights", GC, 0.5, 0, "mask"))
    runs.add(plain.run("data", "other weights", GC, 0.5, 0, "image"))
    assert len({run.path(Path()) for run in runs}) == 17
    black = protocol(fill="black")
    assert black.run("d", "w", GC, 0.5, 0, "mask") == plain.run("d", "w", GC, 0.5, 0, "mask")
    assert black.baseline("d", 0) == protocol(evaluation="KAR").baseline("d", 0)


def test_random_removal_leaves_more_than_chance_and_the_fraction_is_exact(data_dir, tmp_path):
    output = tmp_path / "out"
    options = [*OPTIONS, "--model=tests.own_model:perceptron", "--method=RANDOM", "--epochs=8", "--ratios=0.8"]
    assert run(data_dir, output, *options) == 0
    results = {}
    for path in (output / "results/runs").iterdir():
        content = json.loads(path.read_text())
        configuration, result = content["configuration"], content["result"]
        results[configuration["method"], configuration["sees"]] = result["accuracy"]
        if configuration["method"]:
            assert result["removed_fraction"] == pytest.approx(round(0.8 * 784) / 784, abs=1e-12)
    assert results[None, "image"] > results["RANDOM", "image"] > 0.4
    assert results["RANDOM", "mask"] < 0.25


def test_finished_run_is_found_only_under_its_own_configuration(data_dir, tmp_path):
    output = tmp_path / "out"
    assert run(data_dir, output, *OPTIONS, "--ratios=0.3") == 0
    path = next((output / "results/runs").glob("*baseline*"))
    configuration = json.loads(path.read_text())["configuration"]
    found = Run.of(configuration)
    assert found.path(output / "results") == path
    assert find_result(path, found.configuration()) is not None
    other = replace(found, seed=1)
    place = other.path(output / "results")
    assert find_result(place, other.configuration()) is None
    path.rename(place)
    with pytest.raises(Exception, match="another configuration"):
        find_result(place, other.configuration())


def test_maps_are_made_for_the_images_that_are_asked_for(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(data_dir, output, "--saliency", "--method=VBP", "--quick", "--limit-train=50", "--limit-test=20") == 0
    assert run(data_dir, output, "--saliency", "--method=VBP", "--quick", "--limit-train=30") == 0
    printed = capsys.readouterr().out
    assert printed.count("maps: VBP of 70 images") == 1
    assert printed.count("maps: VBP of 180 images") == 1, "200 test images were asked for, 20 were there"
    path = output / "saliency_maps/mnist_SimpleCNN_VBP_quick.h5"
    with h5py.File(path) as file:
        assert len(file["train/index"]) == 50, "which nobody has to make again"
        assert len(file["test/index"]) == 200


def test_an_ensemble_goes_all_the_way_with_its_parameters(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    options = [*OPTIONS, "--method=VBP", "--ensemble=none,SG-SQ", "--samples=3", "--ratios=0.9"]
    assert run(data_dir, output, *options) == 0
    printed = capsys.readouterr().out
    for row in ("| VBP ", "| SG-SQ VBP ", "| SG-SQ VBP, mask alone ", "| RANDOM "):
        assert row in printed
    with h5py.File(output / f"saliency_maps/{MODEL}_VBP_SG-SQ_quick.h5") as file:
        assert json.loads(file.attrs["parameters"]) == {"level": 0.15, "samples": 3}
        assert file.attrs["ensemble"] == "SG-SQ"
        assert (file["train/attribution"][:] >= 0).all()
    (path,) = (output / "results/runs").glob(f"{MODEL}_VBP_SG-SQ_ROAR_0.9_seed0*")
    assert json.loads(path.read_text())["configuration"]["parameters"] == {"level": 0.15, "samples": 3}
    assert run(data_dir, output, *options) == 0
    assert "7 of 7 retrainings are finished" in capsys.readouterr().out


class BorderFirst:
    """A user's method: what lies near the border is important. It stands here to be called by its place."""

    def __init__(self, model):
        self.model = model

    def attribute(self, inputs, target):
        rows, columns = (torch.linspace(-1, 1, size).abs() for size in inputs.shape[2:])
        return torch.maximum(rows.view(-1, 1), columns).expand(len(inputs), 1, -1, -1)


def test_a_method_of_the_users_own_goes_all_the_way_to_a_curve(data_dir, tmp_path, capsys):
    assert run(data_dir, tmp_path / "out", *OPTIONS, "--method=tests.test_sweep:BorderFirst", "--ratios=0.5") == 0
    assert "| tests.test_sweep:BorderFirst, mask alone " in capsys.readouterr().out


def test_captum_goes_all_the_way_to_a_curve(data_dir, tmp_path, capsys):
    assert run(data_dir, tmp_path / "out", *OPTIONS, "--method=captum.attr:InputXGradient", "--ratios=0.5") == 0
    assert "| captum.attr:InputXGradient " in capsys.readouterr().out


@pytest.mark.long
def test_two_processes_share_a_sweep(data_dir, tmp_path):
    """Neither does a run of the other, and both end with the whole table."""
    output = tmp_path / "out"
    options = [*OPTIONS, "--ratios=0.1,0.3,0.5,0.7,0.9", "--jobs=1"]
    command = [sys.executable, "-m", "tests.run_main", str(data_dir), f"--output-dir={output}", *options]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _process in range(2)
    ]
    printed = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    table = (output / f"results/ROAR_{MODEL}_GC-RANDOM_quick_1-epoch.md").read_text()
    assert all(table in out for out, _err in printed)
    assert len(accuracies(output)) == 1 + 2 * 2 * 5
    alone = tmp_path / "alone"
    assert run(data_dir, alone, *options) == 0
    assert accuracies(alone) == accuracies(output)


def test_kar_and_roar_share_the_masks_and_the_gap_is_reported(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    options = [*OPTIONS, "--eval=ROAR,KAR", "--ratios=0.3,0.7", "--seeds=2"]
    assert run(data_dir, output, *options) == 0
    names = list(accuracies(output))
    assert len(names) == 2 + 2 * (2 * 2 * 2) + 2 * 2  # baselines; images of both, each method, ratio, seed; masks once
    assert not [name for name in names if "KAR" in name and "mask" in name]
    printed = capsys.readouterr().out
    assert "KAR − ROAR on MNIST" in printed
    assert "the lowest area first" in printed
    assert "the highest area first" in printed
    ending = f"{MODEL}_GC-RANDOM_quick_1-epoch_ratios-0.3-0.7_2-seeds"
    stem = output / f"results/ROAR_{ending}"
    assert (output / f"results/KAR-ROAR_{ending}.md").read_text() in printed
    with Path(f"{stem}_runs.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 + 2 * 2 * 2 + 2 * 2
    assert {line["recipe.epochs"] for line in lines} == {"1"}
    mask = [line for line in lines if line["sees"] == "mask" and line["method"] == "GC"]
    assert [(line["ratio"], line["seed"]) for line in mask] == [("0.3", "0"), ("0.7", "0")]


def test_blurred_maps_and_linear_fill_are_curves_of_their_own(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    options = [*OPTIONS, "--ratios=0.5", "--control=blur", "--fill=linear"]
    assert run(data_dir, output, *options) == 0
    printed = capsys.readouterr().out
    for row in ("| GC ", "| GC blurred ", "| GC blurred, mask alone ", "| RANDOM ", "| RANDOM blurred "):
        assert row in printed
    assert "replaced by linear" in printed
    assert (output / f"results/ROAR_{MODEL}_GC-RANDOM-and-blurred_linear_quick_1-epoch_ratios-0.5.md").exists()
    assert len(list((output / "saliency_maps").glob("*.h5"))) == 2
    by_name = {name.rpartition("-")[0]: accuracy for name, accuracy in accuracies(output).items()}
    assert f"{MODEL}_GC_blurred_ROAR_0.5_seed0" in by_name


def test_dry_run_estimates_time_and_space(data_dir, tmp_path, capsys):
    assert run(data_dir, tmp_path / "out", *OPTIONS, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "in all on this device, by times measured now" in printed
    assert "maps of at most" in printed
    assert [in_words(seconds) for seconds in (30, 150, 9000, 400_000)] == [
        "30 seconds",
        "2.5 minutes",
        "2.5 hours",
        "4.6 days",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--eval=coherence", "--control=blur"], "--control is for --eval=ROAR,KAR,ROAD,F-Fidelity,insertion-deletion"),
        (["--eval=selectivity", "--fill=linear"], "--eval=selectivity has no --fill=linear: choose from mean, black"),
    ],
)
def test_options_of_other_evaluations_are_refused(data_dir, tmp_path, capsys, options, message):
    assert run(data_dir, tmp_path / "out", "--target=mnist", *options) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, and a way to give it another size in MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting needs the rights for it")
    yield folder, lambda size: subprocess.run(["mount", "-o", f"remount,size={size}m", str(folder)], check=True)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.long
def test_a_full_disk_is_a_clear_line_and_finished_work_stays(tmp_path, small_disk, capsys):
    folder, resize = small_disk
    options = ["--eval=ROAR", "--target=planted", "--quick", "--limit-train=300", "--epochs=1", "--method=VBP,GC"]
    options += ["--ratios=0.3,0.7"]
    assert run(tmp_path, tmp_path / "unbroken", *options) == 0
    for size in (1, 4, 7, 10, 12):
        resize(size)
        capsys.readouterr()
        assert run(tmp_path, folder, *options) == 2
        err = capsys.readouterr().err
        assert "No space left on device" in err.splitlines()[-1]
        assert err.splitlines()[-1].startswith("main.py: ")
        assert not list((folder / "results").glob("*.md"))
    resize(40)
    assert run(tmp_path, folder, *options) == 0
    assert accuracies(folder) == accuracies(tmp_path / "unbroken")


def test_results_that_cannot_be_written_any_more_are_a_clear_line(data_dir, tmp_path, capsys, monkeypatch):
    """A folder whose rights change in the middle; root may write anywhere, so that the refusal is made here."""
    output, save = tmp_path / "out", sweep_module.write_record
    saved = []

    def refuse_after_three(path, record, result):
        if len(saved) == 3:
            raise PermissionError(errno.EACCES, "Permission denied", str(output / "results"))
        saved.append(save(path, record, result))

    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "write_record", refuse_after_three)
        assert run(data_dir, output, *OPTIONS) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("results: Permission denied")
    assert len(accuracies(output)) == 3
    assert run(data_dir, output, *OPTIONS) == 0
    assert "3 of 9 retrainings are finished, 6 to do" in capsys.readouterr().out


def test_a_finished_sweep_needs_its_maps_no_more(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    options = [*OPTIONS, "--ratios=0.3"]
    assert run(data_dir, output, *options) == 0
    label = [
        "--saliency",
        *(word for word in OPTIONS if not word.startswith(("--eval", "--ratios", "--epochs"))),
        "--explain=label",
    ]
    assert run(data_dir, output, *label, "--overwrite") == 0
    capsys.readouterr()
    assert run(data_dir, output, *options) == 0
    assert "5 of 5 retrainings are finished" in capsys.readouterr().out
    assert run(data_dir, output, *OPTIONS) == 2
    assert "holds maps of explain 'label'" in capsys.readouterr().err


def test_maps_of_fewer_images_are_not_finished(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    options = ["--saliency", "--target=mnist", "--quick", "--method=VBP"]
    assert run(data_dir, output, *options, "--limit-train=50") == 0
    capsys.readouterr()
    assert run(data_dir, output, *options, "--limit-train=40", "--dry-run") == 0
    assert "finished " in capsys.readouterr().out
    assert run(data_dir, output, *options, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "explain " in printed
    assert "at most 0.0 MB" not in printed
