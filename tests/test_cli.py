import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import pytest

import main
from data.catalog import CATALOG
from experiments.engine import Local
from experiments.jobs import make_large
from experiments.store import Folders
from tests.run_main import run, written
from tests.samples import sample_entry, write_sample
from tests.test_engine import Nothing

ROOT = Path(__file__).parent.parent
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; import main; sys.exit(main.main())"
ROAR = ["--eval=ROAR", "--method=GC", "--quick", "--epochs=1", "--ratios=0.5"]


WRONG = {
    "no command": ([], "required"),
    "two commands": (["--train", "--eval=ROAR"], "not allowed with"),
    "unknown evaluation": (["--eval=ROAD2"], "ROAR, KAR"),
    "unknown target": (["--train", "--target=imagenet"], "mnist, cifar10"),
    "one of several targets unknown": (["--train", "--target=mnist,svhn"], "svhn"),
    "empty target": (["--train", "--target="], "unknown target"),
    "unknown method": (["--eval=ROAR", "--method=LIME"], "VBP, IB, IG"),
    "method that is nowhere": (["--eval=ROAR", "--method=nowhere:Method"], "package.module:Name"),
    "method that is none": (["--eval=ROAR", "--method=json:dumps"], "json:dumps"),
    "method that needs another model": (["--eval=ROAR", "--method=CAM"], "CAM"),
    "unknown ensemble": (["--saliency", "--method=GC", "--ensemble=SG2"], "SG, SG-SQ, SG-VAR"),
    "no samples": (["--saliency", "--method=GC", "--samples=0"], "'0'"),
    "unknown device": ([*ROAR, "--device=tpu"], "auto, cpu, cuda"),
    "device that is not there": ([*ROAR, "--device=cuda:77"], "--device=cpu"),
    "ratio 0": (["--eval=ROAR", "--ratios=0"], "'0' is not a number above 0"),
    "ratio 1.5": (["--eval=ROAR", "--ratios=0.5,1.5"], "'1.5' is not a number above 0 and below 1"),
    "ratio in letters": (["--eval=ROAR", "--ratios=abc"], "'abc'"),
    "ratio not a number": (["--eval=ROAR", "--ratios=nan"], "'nan'"),
    "ratio of no pixel": ([*ROAR, "--ratios=0.0001"], "none or all of 784 pixels"),
    "unknown attention": (["--train", "--attention=SE"], "none, CAM, CBAM, RAN, WARN, all"),
    "depth of another model": (["--train", "--attention=WARN", "--depth=92"], "--depth is for --attention=RAN"),
    "width of no model": (["--train", "--width=4"], "--width is for --attention=WARN"),
    "depth that there is not": (["--train", "--attention=RAN", "--depth=57"], "choose from 56, 92"),
    "one image a step": (["--train", "--quick", "--attention=WARN", "--batch-size=1"], "larger --batch-size"),
    "negative epochs": (["--train", "--epochs=-3"], "'-3' is not a whole number at least 1"),
    "zero epochs": (["--train", "--epochs=0"], "'0'"),
    "half an epoch": (["--train", "--epochs=0.5"], "whole number"),
    "batch size in letters": (["--train", "--batch-size=big"], "'big'"),
    "learning rate zero": (["--train", "--lr=0"], "'0' is not a number above 0"),
    "infinite learning rate": (["--train", "--lr=inf"], "'inf'"),
    "learning rate that diverges": (["--train", "--quick", "--lr=1e12"], "lower --lr"),
    "no seeds": (["--eval=ROAR", "--seeds=0"], "'0'"),
    "everything held out": (["--train", "--valid-rate=1"], "below 1"),
    "more images than there are": ([*ROAR, "--limit-train=60001"], "has 600 train images"),
    "more test images than there are": ([*ROAR, "--limit-test=10001"], "has 200 test images"),
    "unknown fill": ([*ROAR, "--fill=pink"], "pink"),
    "unknown option": (["--train", "--epoch=3"], "--epoch=3"),
    "a space for a comma": (["--eval=ROAD", "--method=VBP", "GC"], "arguments: GC: several values have commas"),
    "a space behind a comma": (["--eval=ROAD", "--method=VBP,", "GC"], "commas and no spaces"),
    "output folder below a file": ([*ROAR, "--output-dir=/dev/null/here"], "/dev/null is a file"),
    "output folder that nobody can write to": ([*ROAR, "--output-dir=/proc/1"], "/proc/1"),
    "data folder that is a file": ([*ROAR, "--data-dir=/dev/null"], "/dev/null is a file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_costs_one_line_and_nothing_is_written(name, data_dir, tmp_path, capsys):
    options, message = WRONG[name]
    output = tmp_path / "out"
    before = written(tmp_path)
    assert run(data_dir, output, options) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("main.py: ")
    assert message in err
    assert written(tmp_path) == before


@pytest.mark.parametrize("start", [["-S", "main.py"], ["-c", WITHOUT_TORCH]])
def test_a_python_without_the_requirements_says_how_to_install_them(start):
    done = subprocess.run([sys.executable, *start, "--report"], cwd=ROOT, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert "is not installed: type `make .venv/run`" in line
    assert done.returncode == 2


def test_names_of_the_field_and_of_the_original_are_accepted():
    names = "Gradient,InputXGradient,IntegratedGradients,Deconvolution,GuidedBackprop,GradCAM,guidedgradcam,VGB,GBGC"
    ensembles = "none,SmoothGrad,SmoothGradSquared,vargrad"
    options = main.build_parser().parse_args(["--saliency", f"--method={names}", f"--ensemble={ensembles}"])
    assert options.method == ("VBP", "IB", "IG", "DeconvNet", "GB", "GC", "GB-GC")
    assert options.ensemble == ("none", "SG", "SG-SQ", "SG-VAR")


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


def other_method(output: Path) -> None:
    with h5py.File(output / "saliency_maps/mnist_SimpleCNN_GC_quick.h5", "a") as file:
        file.attrs["method"] = "VBP"


def other_model(output: Path) -> None:
    with h5py.File(output / "saliency_maps/mnist_SimpleCNN_GC_quick.h5", "a") as file:
        file.attrs["checkpoint_sum"] = "that of another model"


STATES = {
    "damaged checkpoint": (lambda out, data: damage(out / "checkpoints/mnist_SimpleCNN_seed0_quick.pt"), "is damaged"),
    "empty checkpoint": (
        lambda out, data: (out / "checkpoints/mnist_SimpleCNN_seed0_quick.pt").write_bytes(b""),
        "is damaged",
    ),
    "maps of another model": (lambda out, data: other_model(out), "holds maps of checkpoint_sum"),
    "maps of another method": (lambda out, data: other_method(out), "holds maps of method"),
    "maps that are no HDF5": (
        lambda out, data: (out / "saliency_maps/mnist_SimpleCNN_GC_quick.h5").write_text("maps"),
        "no HDF5",
    ),
    "damaged data": (lambda out, data: damage(data / "MNIST/raw/t10k-images-idx3-ubyte"), "t10k-images-idx3-ubyte"),
    "data file that is a folder": (
        lambda out, data: (
            (data / "MNIST/raw/t10k-images-idx3-ubyte").unlink(),
            (data / "MNIST/raw/t10k-images-idx3-ubyte").mkdir(),
        ),
        "t10k-images-idx3-ubyte",
    ),
}


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a small classifier and its maps."""
    folder = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "mnist", sample_entry("mnist"))
        write_sample("mnist", folder / "data")
        assert run(folder / "data", folder / "out", ["--saliency", "--method=GC", "--quick"]) == 0
    return folder / "out"


@pytest.mark.parametrize("name", STATES)
def test_files_that_can_not_be_used_cost_one_line_and_nothing_is_written(name, explained, data_dir, tmp_path, capsys):
    change, message = STATES[name]
    output = tmp_path / "out"
    shutil.copytree(explained, output)
    change(output, data_dir)
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run(data_dir, output, ROAR) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert message in err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("end", [0, 3000, None])
def test_damaged_maps_are_named_and_deleting_them_mends_it(end, explained, data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(explained, output)
    maps = output / "saliency_maps/mnist_SimpleCNN_GC_quick.h5"
    damage(maps) if end is None else maps.write_bytes(maps.read_bytes()[:end])
    assert run(data_dir, output, ROAR) == 2
    assert f"{maps} is damaged or no HDF5 file: delete it" in capsys.readouterr().err.splitlines()[-1]
    maps.unlink()
    assert run(data_dir, output, ROAR) == 0


def test_two_commands_train_a_model_once(data_dir, tmp_path, capsys, monkeypatch):
    train = ["--train", "--quick", "--epochs=1"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(data_dir, first, train) == 0
    monkeypatch.setattr("experiments.trainings.train_classifier", lambda *_: pytest.fail("trained again"))
    name = "mnist_SimpleCNN_seed0_quick.pt"
    has_begun = threading.Event()

    def other_command() -> None:
        with Folders.below(second, data_dir).lock(f"checkpoints {name}"):
            has_begun.set()
            time.sleep(1.5)
            (second / "checkpoints").mkdir()
            shutil.copy(first / "checkpoints" / name, second / "checkpoints")

    thread = threading.Thread(target=other_command)
    thread.start()
    assert has_begun.wait(10)
    assert run(data_dir, second, train) == 0
    thread.join()
    assert "waiting: another command is making" in capsys.readouterr().out


def test_what_another_command_trains_comes_last(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("experiments.jobs.make", lambda jobs, *_: made.extend(job.name for job in jobs) or {})
    folders = Folders.below(tmp_path, tmp_path)
    with folders.lock("a"):
        make_large([Nothing("a"), Nothing("b"), Nothing("c")], Local(1), folders, "things")
    assert made == ["b", "c", "a"]


def test_another_recipe_replaces_a_trained_model_only_when_asked(data_dir, tmp_path, capsys):
    train = ["--train", "--epochs=1", "--batch_size=100", "--valid_rate=0.1"]
    assert run(data_dir, tmp_path / "out", train) == 0
    first = capsys.readouterr()
    assert first.out.startswith("target: mnist")
    assert "test accuracy" in first.out
    assert run(data_dir, tmp_path / "out", train) == 0
    assert capsys.readouterr().out == first.out, "a trained model is reported, not trained again"
    assert run(data_dir, tmp_path / "out", ["--train", "--epochs=2"]) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert run(data_dir, tmp_path / "out", ["--train", "--epochs=2", "--overwrite"]) == 0
    assert "after 2 epochs" in capsys.readouterr().out


def test_training_takes_several_targets_and_seeds(data_dir, tmp_path, capsys):
    assert run(data_dir, tmp_path / "out", ["--train", "--target=all", "--quick", "--epochs=1", "--seeds=2"]) == 0
    assert "target: mnist (" not in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out/checkpoints").iterdir()) == [
        f"{dataset}_SimpleCNN_seed{seed}_quick.pt" for dataset in ("cifar10", "mnist") for seed in (0, 1)
    ]


def test_attention_takes_several_names_in_any_case(data_dir, tmp_path, capsys):
    train = ["--train", "--quick", "--epochs=1", "--attention=cam,NONE,Cbam"]
    assert run(data_dir, tmp_path / "out", train) == 0
    assert sorted(path.name for path in (tmp_path / "out/checkpoints").iterdir()) == [
        f"mnist_{model}_seed0_quick.pt" for model in ("CAM", "CBAM", "SimpleCNN")
    ]
    options = ["--saliency", "--quick", "--attention=CBAM", "--method=GC", "--limit-train=20", "--limit-test=20"]
    assert run(data_dir, tmp_path / "out", options) == 0
    assert (tmp_path / "out/saliency_maps/mnist_CBAM_GC_quick.h5").exists()


def test_depth_and_width_are_part_of_the_name(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("experiments.cost.measure_step_seconds", lambda *_: 1.0)
    plan = ["--train", "--dry-run", "--target=all", "--attention=all", "--depth=92", "--width=10"]
    assert run(data_dir, tmp_path / "out", plan) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert re.fullmatch(r"about [\d.]+ \w+ in all on this device.*", lines.pop())
    for model in ("SimpleCNN", "CAM", "CBAM", "RAN92", "WARN10"):
        assert sum(f"_{model}_seed0.pt" in line for line in lines) == 2


def test_overwrite_makes_maps_and_runs_anew(data_dir, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(data_dir, output, ROAR) == 0
    other_model(output)
    assert run(data_dir, output, [*ROAR, "--overwrite"]) == 0
    assert capsys.readouterr().out.count("0 of 5 retrainings are finished") == 2
    assert run(data_dir, output, ROAR) == 0


def test_help_is_grouped_and_shows_the_defaults(capsys):
    with pytest.raises(SystemExit):
        main.main(["--help"])
    text = capsys.readouterr().out
    for word in ("what to do", "on what", "training and retraining", "ROAR and KAR", "running", "(default: 1)"):
        assert word in text


def test_every_line_of_a_long_work_says_how_long_it_takes(monkeypatch, capsys):
    from common import progress

    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.02)
    with progress.progress_bar(5, "work", "steps") as bar:
        for _ in range(5):
            time.sleep(0.03)
            bar.update(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("work: ") and "<" in line for line in lines)


def test_without_ray_its_engine_names_the_install_command(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    options = ["--eval=ROAR", "--method=GC", "--quick", "--engine=ray"]
    assert run(data_dir, tmp_path / "output", options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install -r requirements-cluster.txt" in line
    assert not (tmp_path / "output").exists()
