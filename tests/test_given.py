"""The command line of given networks, from beginning to end, with tiny networks and images."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reporting.records import load_records
from tests.given import COLOURS, FACTORY, SIDE, plant, write_images
from tests.run_main import run

NUMBERS = ["--mean=.5,.5,.5", "--std=.25,.25,.25"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with tiny factories, images and the weights of a network that tells them apart."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "tiny.py").write_text(FACTORY)
    write_images(folder / "pets")
    save_weights(folder, "tiny", "weights.pt", dict(enumerate(COLOURS.values())), len(COLOURS))
    return folder


def save_weights(folder: Path, factory: str, name: str, outputs: dict, classes: int) -> None:
    """Write the weights of a network of `tiny.py` that tells the colours of its `outputs` apart."""
    names: dict = {}
    exec(FACTORY, names)
    network = plant(names[factory]((3, SIDE, SIDE), classes), outputs)
    save = save_file if name.endswith(".safetensors") else torch.save
    save(network.state_dict(), folder / name)


def evaluate(place: Path, output: Path, *options: str, factory: str = "tiny", weights: str = "weights.pt") -> int:
    """The exit status of --eval=ROAD of the tiny network; options later in the line win."""
    usual = ["--eval=ROAD", "--method=IB", "--ratios=0.5", f"--target=folder:{place / 'pets'}", *NUMBERS]
    usual += [f"--model={place / 'tiny.py'}:{factory}", f"--image-size={SIDE}", "--split=test"]
    usual += [f"--weights={place / weights}"] if weights else []
    return run(output / "data", output, [*usual, *options])


def accuracies(results: Path, kind: str = "ROAD") -> set[float]:
    return {result["whole_accuracy"] for _path, _record, result in load_records(results / "results", kind)}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_road_of_mixed_sizes(place, tmp_path, capsys):
    assert evaluate(place, tmp_path) == 0
    out = capsys.readouterr().out
    assert "accuracy 1.0000" in out and "24 images" in out
    assert re.search(r"^\| IB .*most", out, re.MULTILINE)
    assert accuracies(tmp_path) == {1.0}
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_another_mean_is_another_network(place, tmp_path):
    assert evaluate(place, tmp_path) == 0
    first = set(files(tmp_path / "results" / "ROAD"))
    assert evaluate(place, tmp_path, "--mean=.1,.1,.1") == 0
    second = set(files(tmp_path / "results" / "ROAD")) - first
    assert len(second) == len(first) == 3
    sums = {record["checkpoint_sum"] for _path, record, _result in load_records(tmp_path / "results", "ROAD")}
    assert len(sums) == 2


def test_half_of_the_images_without_split(place, tmp_path, capsys):
    """--split=test takes all images; without it a part of them is for training."""
    whole = ["--eval=ROAD", f"--target=folder:{place / 'pets'}", f"--model={place / 'tiny.py'}:tiny", *NUMBERS]
    whole += [f"--weights={place / 'weights.pt'}", f"--image-size={SIDE}", "--method=IB", "--ratios=0.5"]
    assert run(tmp_path / "data", tmp_path, whole) == 0
    assert " on 24 images" not in capsys.readouterr().out


def test_twenty_outputs_and_folders_of_five(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [f"class {number}" for number in range(20)]
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    outputs = dict(zip((19, 3, 11, 0, 7), colours, strict=True))
    save_weights(tmp_path, "tiny", "twenty.safetensors", outputs, 20)
    Path("names.txt").write_text("\n".join(names) + "\n")
    write_images(Path("five"), {names[output]: colour for output, colour in outputs.items()}, count=4)
    options = ["--target=folder:five", f"--weights={tmp_path / 'twenty.safetensors'}"]
    assert evaluate(place, tmp_path / "out", *options, "--classes-file=names.txt") == 0
    assert accuracies(tmp_path / "out") == {1.0}, "folders are found by name, not by their order"
    capsys.readouterr()
    assert evaluate(place, tmp_path / "out", *options) == 2
    assert "--classes-file" in capsys.readouterr().err


def test_one_logit_is_two_classes(place, tmp_path):
    colours = dict(zip(("blue", "red"), (COLOURS["blue"], COLOURS["red"]), strict=True))
    save_weights(tmp_path, "one_logit", "one.pt", dict(enumerate(colours.values())), 1)
    write_images(tmp_path / "two", colours, count=5)
    options = [f"--target=folder:{tmp_path / 'two'}", f"--weights={tmp_path / 'one.pt'}"]
    assert evaluate(place, tmp_path / "out", *options, factory="one_logit") == 0
    assert accuracies(tmp_path / "out") == {1.0}


def test_csv_list(place, tmp_path):
    rows = [f"{path},{path.parent.name}" for path in sorted((place / "pets").rglob("*.png")) if int(path.stem) < 4]
    (place / "list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    assert evaluate(place, tmp_path, f"--target=folder:{place / 'list.csv'}") == 0
    assert accuracies(tmp_path) == {1.0}
    ((_path, record, _result), *_rest) = load_records(tmp_path / "results", "ROAD")
    assert record["limit_test"] == 12


@pytest.mark.parametrize("model", ["torchvision:shufflenet_v2_x0_5", "timm:test_resnet"])
def test_networks_of_libraries(model, place, tmp_path, capsys):
    from models import build_model

    if model.startswith("timm"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    network = build_model("", model, shape=(3, 32, 32), classes=3)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, tmp_path / "library.safetensors")
    options = [f"--model={model}", f"--weights={tmp_path / 'library.safetensors'}", "--image-size=32", "--crop=1"]
    options += ["--eval=ROAD", "--method=IB", "--ratios=0.5", f"--target=folder:{place / 'pets'}", "--split=test"]
    assert run(tmp_path / "data", tmp_path, options) == 0
    out = capsys.readouterr().out
    assert re.search(r"^\| IB .*most", out, re.MULTILINE)
    assert "near chance" in out, "these weights are random"


def test_maps(place, tmp_path, capsys):
    base = ["--saliency", "--method=IB,GC", f"--target=folder:{place / 'pets'}", *NUMBERS, "--split=test"]
    base += [f"--model={place / 'tiny.py'}:tiny", f"--weights={place / 'weights.pt'}", f"--image-size={SIDE}"]
    assert run(tmp_path / "data", tmp_path, base) == 0
    assert len(list((tmp_path / "saliency_maps").glob("*.h5"))) == 2
    assert capsys.readouterr().out.count("24 images") >= 2


TRUST = ("--eval=trust", "--method=IB,VBP", "--budget=0.01")


def answer(output: Path) -> str:
    (path,) = (output / "results").glob("trust_*.md")
    return path.read_text()


@pytest.fixture(scope="module")
def trusted(place, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("trust")
    assert evaluate(place, output, *TRUST) == 0
    return output


def test_trust_ends_with_an_answer_and_a_page(trusted):
    text = answer(trusted)
    assert "Use IB." in text, "the planted network adds up pixels, so that its input times gradient is right"
    assert "1.000 ± " in text and "24 images" in text
    assert (trusted / "results" / "report.html").exists()


def test_trust_by_another_rank_has_files_of_its_own(place, trusted, tmp_path):
    shutil.copytree(trusted, tmp_path, dirs_exist_ok=True)
    assert evaluate(place, tmp_path, *TRUST, "--rank=absolute") == 0
    by_sign, by_size = sorted((tmp_path / "results").glob("trust_*.md"), key=lambda path: "absolute" in path.name)
    assert by_sign.read_text() == answer(trusted), "left as it was"
    assert by_size.stem.replace("_rank-absolute", "") == by_sign.stem != by_size.stem
    assert "ranked by absolute value" in by_size.read_text()


def test_trust_with_other_parameters_has_files_of_its_own(place, trusted, tmp_path):
    shutil.copytree(trusted, tmp_path, dirs_exist_ok=True)
    for steps in (2, 3):
        assert evaluate(place, tmp_path, "--eval=trust", "--method=IG", "--overwrite", f"--steps={steps}") == 0
    for steps in (2, 3):
        (text,) = (tmp_path / "results").glob(f"trust_*_IG_steps-{steps}_*.md")
        assert f"IG: baseline black, steps {steps}." in text.read_text()


def test_a_damaged_record_of_the_effort_is_made_anew(place, trusted, tmp_path):
    shutil.copytree(trusted, tmp_path, dirs_exist_ok=True)
    (record,) = (tmp_path / "results" / "trust").glob("*.json")
    content = json.loads(record.read_text())
    content["result"]["effort"]["of an earlier version"] = 3
    record.write_text(json.dumps(content))
    assert evaluate(place, tmp_path, *TRUST) == 0


def test_trust_again_measures_nothing(place, trusted, monkeypatch, capsys):
    before = {path: path.read_bytes() for path in files(trusted / "results") if path.suffix in (".json", ".md", ".h5")}
    monkeypatch.setattr("experiments.measurements.Measurements.task", lambda *_arguments: pytest.fail("measured again"))
    assert evaluate(place, trusted, *TRUST) == 0
    assert not re.search(r"[1-9]\d* to do", capsys.readouterr().out)
    assert {path: path.read_bytes() for path in before} == before


def test_trust_of_a_network_at_chance(place, tmp_path):
    save_weights(
        tmp_path, "tiny", "turned.pt", {0: COLOURS["green"], 1: COLOURS["blue"], 2: (1, 1, 1)}, 3
    )  # blue is output 0
    assert evaluate(place, tmp_path, *TRUST, f"--weights={tmp_path / 'turned.pt'}") == 0
    text = answer(tmp_path)
    assert "None. No explanation can be judged" in text
    assert "no verdict" in text


def test_dry_run_of_trust_writes_sums_alone(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert evaluate(place, tmp_path / "out", *TRUST, "--dry-run") == 0
    out = capsys.readouterr().out
    assert re.search(r"^measure (IB|VBP) seed 0", out, re.MULTILINE)
    assert [path.name.partition("-")[0] for path in tmp_path.rglob("*") if path.is_file()] == ["sums"]


def test_trust_goes_on_after_ctrl_c(place, trusted, tmp_path, monkeypatch, capsys):
    from experiments.measurements import Measurements

    task, calls = Measurements.task, []

    def interrupted(experiment, config):
        calls.append(config)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return task(experiment, config)

    with monkeypatch.context() as patch:
        patch.setattr(Measurements, "task", interrupted)
        assert evaluate(place, tmp_path, *TRUST) == 130
    assert "the same command goes on" in capsys.readouterr().err
    finished = [path for path in files(tmp_path / "results") if path.parent.name in ("ROAD", "insertion-deletion")]
    assert len(finished) == 3
    times = [path.stat().st_mtime_ns for path in finished]
    assert evaluate(place, tmp_path, *TRUST) == 0
    assert [path.stat().st_mtime_ns for path in finished] == times
    assert "Use IB." in answer(tmp_path)


def test_default_methods_that_cannot_explain_the_network_are_left_out(place, tmp_path, capsys):
    """Grad-CAM needs a feature map, which one linear layer has not."""
    names: dict = {}
    exec(FACTORY, names)
    torch.manual_seed(0)
    torch.save(names["linear"]((3, SIDE, SIDE), 3).state_dict(), tmp_path / "linear.pt")
    usual = [f"--weights={tmp_path / 'linear.pt'}", "--method=all", "--steps=2"]
    assert evaluate(place, tmp_path / "out", *usual, "--eval=ROAD,sanity", factory="linear") == 0
    for path in ("ROAD_*.md", "sanity_*.md"):
        (table,) = (tmp_path / "out" / "results").glob(path)
        text = table.read_text()
        assert re.search(r"^- GC: the network has no feature map", text, re.MULTILINE)
        assert re.search(r"^\| VBP ", text, re.MULTILINE)
        assert not re.search(r"^\| GC ", text, re.MULTILINE)
    capsys.readouterr()
    assert evaluate(place, tmp_path / "out", *usual, "--method=VBP,GC", factory="linear") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def divided(place) -> list[str]:
    """Options of a folder with training images."""
    for part, count in (("train", 10), ("test", 5)):
        write_images(place / "divided" / part, count=count)
    base = ["--method=IB", "--ratios=0.5", f"--target=folder:{place / 'divided'}", *NUMBERS, f"--image-size={SIDE}"]
    return [*base, f"--model={place / 'tiny.py'}:tiny", f"--weights={place / 'weights.pt'}", "--epochs=1"]


def test_roar_begins_from_the_weights(divided, tmp_path):
    """With hardly any learning rate the retrained network is the given one, and new weights stay at chance."""
    accuracies = {}
    for begin in ("weights", "scratch"):
        options = [*divided, "--eval=ROAR", "--quick", "--lr=1e-9", f"--retrain-from={begin}", "--limit-train=30"]
        assert run(tmp_path / "data", tmp_path / begin, options) == 0
        results = [(record, result) for _, record, result in load_records(tmp_path / begin / "results", "runs")]
        (accuracies[begin],) = {result["accuracy"] for record, result in results if record["method"] is None}
    assert accuracies["weights"] == 1.0
    assert accuracies["scratch"] < 0.7


def test_f_fidelity_finetunes_the_given_network(divided, tmp_path, capsys):
    options = [*divided[:-1], "--eval=F-Fidelity", "--draws=2", "--quick"]
    assert run(tmp_path / "data", tmp_path, options) == 0
    assert accuracies(tmp_path, "F-Fidelity").pop() > 0.9
    assert "FFid" in capsys.readouterr().out
