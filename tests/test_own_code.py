"""Edited code of a user's own never gets an old answer; unedited code always does."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attribution.spec import MethodSpec
from common import fingerprint
from common.errors import InputError
from data import load_dataset
from evaluation.runs import MaskOptions, Run, RunResult
from experiments.checkpoints import load_checkpoint
from experiments.map_files import read_attributes
from experiments.records import write_record
from models import model_code, model_name, parse_model_name
from reporting.retrainings import Retrainings
from tests.run_main import run
from tests.train_and_save import train_and_save
from training.config import TrainingConfig
from training.recipe import recipe_for

ROOT = Path(__file__).parent.parent
SHAPE = (1, 16, 16)
METHOD = """
from beside import POWER

class Mine:
    def __init__(self, model):
        self.model = model

    def attribute(self, inputs, target):
        return inputs ** POWER
"""
MODEL = """
import json
from pathlib import Path
from torch import nn

def build(shape, classes):
    settings = json.loads(Path(__file__).with_name("settings.json").read_text())
    width = settings["width"]
    return nn.Sequential(
        nn.Conv2d(shape[0], width, 3, stride=4), nn.ReLU(), nn.Dropout(settings["dropout"]), nn.Flatten(),
        nn.Linear(width * 16, classes),
    )
"""


class Home:
    """A folder of modules that Python finds, in which files can be edited."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("beside.py", "POWER = 2\n")
        self.write("mine.py", METHOD)
        self.write("network.py", MODEL)
        self.write("settings.json", '{"width": 4, "dropout": 0.1}')

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        before = (self.folder / name).read_text()
        assert old in before
        self.write(name, before.replace(old, new))

    def new_process(self) -> None:
        """Forget what was imported from here, as another process would know nothing of it."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(self.folder)):
                del sys.modules[name]
        importlib.invalidate_caches()
        fingerprint.forget_fingerprints()

    def method(self, place: str = "mine:Mine") -> str:
        self.new_process()
        code = MethodSpec.of(place).code
        assert code is not None
        return code

    def model(self, place: str = "network:build") -> str:
        self.new_process()
        code = model_code(place, SHAPE, 2)
        assert code is not None
        return code


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files are edited faster than their time stamps tell
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "home")])
    home = Home(tmp_path / "home")
    yield home
    home.new_process()


def in_package(home: Home) -> str:
    home.write("library/__init__.py", "from .inner import Mine\n")
    home.write("library/inner/__init__.py", "from library.inner.maps import Mine\n")
    home.write("library/inner/maps.py", METHOD.replace("from beside", "from ..constants"))
    home.write("library/constants.py", "POWER = 2\n")
    return "library:Mine"


def imported_late(home: Home) -> str:
    late = METHOD.replace("from beside import POWER", "").replace(
        "        return", "        from late import POWER\n        return"
    )
    home.write("late.py", "POWER = 2\n")
    home.write("mine.py", late)
    return "mine:Mine"


def imported_by_name(home: Home) -> str:
    home.write(
        "mine.py", METHOD.replace("from beside import", "import importlib\nPOWER = importlib.import_module('beside').")
    )
    return "mine:Mine"


def partial(home: Home) -> str:
    home.write("made.py", "from functools import partial\nfrom mine import Mine\nmake = partial(Mine)\n")
    return "made:make"


def closure(home: Home) -> str:
    home.write(
        "made.py", "import mine\ndef maker(cls):\n    return lambda model: cls(model)\nmake = maker(mine.Mine)\n"
    )
    return "made:make"


def made_at_run_time(home: Home) -> str:
    home.write("made.py", "import mine\nMade = type('Made', (mine.Mine,), {})\n")
    return "made:Made"


def data_beside(home: Home) -> str:
    home.write("power.json", "2")
    read = "import json, pathlib\nPOWER = json.loads(pathlib.Path(__file__).with_name('power.json').read_text())"
    home.write("mine.py", METHOD.replace("from beside import POWER", read))
    return "mine:Mine"


def run_from_text(home: Home) -> str:
    home.write("text.txt", METHOD.replace("from beside import POWER", "POWER = 2"))
    home.write("made.py", "import pathlib\nexec(pathlib.Path(__file__).with_name('text.txt').read_text())\n")
    return "made:Mine"


def by_file(home: Home) -> str:
    return f"{home.folder / 'mine.py'}:Mine"


EDITS: dict[str, tuple[Callable[[Home], str], str, str, str]] = {
    "the class": (lambda home: "mine:Mine", "mine.py", "inputs **", "-inputs **"),
    "a module beside it": (lambda home: "mine:Mine", "beside.py", "2", "3"),
    "its package, named anew on the way": (in_package, "library/constants.py", "2", "3"),
    "the module of definition": (in_package, "library/inner/maps.py", "inputs **", "-inputs **"),
    "an import in a function": (imported_late, "late.py", "2", "3"),
    "an import by name": (imported_by_name, "beside.py", "2", "3"),
    "behind a partial": (partial, "mine.py", "inputs **", "-inputs **"),
    "behind a closure": (closure, "beside.py", "2", "3"),
    "the base of a class made at run time": (made_at_run_time, "mine.py", "inputs **", "-inputs **"),
    "data beside it": (data_beside, "power.json", "2", "3"),
    "text that is run": (run_from_text, "text.txt", "POWER = 2", "POWER = 3"),
    "a file": (by_file, "mine.py", "inputs **", "-inputs **"),
    "a module beside a file": (by_file, "beside.py", "2", "3"),
    "a comment": (lambda home: "mine:Mine", "mine.py", "class Mine", "# the best\nclass Mine"),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_gives_a_method_another_code_and_nothing_else_does(home, what):
    make, file, old, new = EDITS[what]
    place = make(home)
    before = home.method(place)
    home.write("unrelated.py", "anything\n")
    assert home.method(place) == before
    home.edit(file, old, new)
    after = home.method(place)
    assert after != before
    home.edit(file, new, old)
    assert home.method(place) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("network.py", "nn.ReLU()", "nn.Tanh()"),
        ("settings.json", '"width": 4', '"width": 5'),
        ("settings.json", '"dropout": 0.1', '"dropout": 0.5'),
    ],
)
def test_an_edit_gives_a_model_another_code(home, file, old, new):
    before = home.model()
    torch.rand(1)
    assert home.model() == before
    home.edit(file, old, new)
    assert home.model() != before


def test_weights_that_a_factory_reads_are_part_of_the_model(home):
    home.write("network.py", MODEL.replace("return nn.Sequential(", "net = nn.Sequential(") + READ_WEIGHTS)
    codes = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        torch.save({"bias": torch.randn(2)}, home.folder / "weights.pt")
        codes.append(home.model())
    assert codes[0] == codes[1] != codes[2]


READ_WEIGHTS = """
    import torch
    net[-1].bias.data = torch.load(Path(__file__).with_name("weights.pt"))["bias"]
    return net
"""


def test_a_random_method_keeps_its_code(home):
    home.edit("mine.py", "inputs ** POWER", "__import__('torch').rand_like(inputs)")
    assert home.method() == home.method()
    unseeded = "__import__('torch').from_numpy(__import__('numpy').random.default_rng().random(inputs.shape))"
    home.edit("mine.py", "__import__('torch').rand_like(inputs)", unseeded)
    assert home.method() == home.method()


def test_of_an_installed_library_the_version_counts(monkeypatch):
    pytest.importorskip("captum")
    before = MethodSpec.of("captum.attr:DeepLift").code
    assert before == MethodSpec.of("captum.attr:DeepLift").code
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99")
    fingerprint.forget_fingerprints()
    assert MethodSpec.of("captum.attr:DeepLift").code != before


def test_our_own_have_no_code(tmp_path):
    assert MethodSpec.of("GC").code is None
    assert "code" not in MethodSpec.of("GC").plain
    assert "model_code" not in TrainingConfig("mnist", "CBAM", 0, recipe_for("mnist")).plain()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert (set(fingerprint.PACKAGES), set(fingerprint.MODULES)) == (
        set(pyproject["packages"]),
        set(pyproject["modules"]),
    )


def test_in_one_process_the_code_is_the_one_that_is_loaded(home):
    loaded = home.method()
    choice = MethodSpec.of("mine:Mine")
    home.edit("mine.py", "inputs **", "-inputs **")
    fingerprint.forget_fingerprints()
    assert MethodSpec.of("mine:Mine").code == loaded
    importlib.reload(sys.modules["mine"])
    fingerprint.forget_fingerprints()
    assert MethodSpec.of("mine:Mine").code != loaded
    with pytest.raises(InputError, match="edited meanwhile"):
        choice.build(torch.nn.Identity())


def test_the_name_of_a_file_goes_both_ways(home, monkeypatch):
    monkeypatch.chdir(home.folder.parent)
    place = "home/network.py:build"
    assert "/" not in model_name(place)
    assert parse_model_name(model_name(place)) == place
    assert home.model(place)[8:] == home.model()[8:], "the same network"


def test_a_neighbour_that_another_module_hides_is_no_silent_fault(home):
    home.write("models.py", "POWER = 3\n")
    home.edit("mine.py", "from beside", "from models")
    with pytest.raises(InputError, match="models"):
        home.method(by_file(home))
    home.write("mine.py", "class Mine:\n    def oops\n")
    with pytest.raises(InputError, match=r"mine\.py"):
        home.method(by_file(home))
    with pytest.raises(InputError, match="no file"):
        home.method("nowhere/mine.py:Mine")


OPTIONS = ["--target=planted", "--quick", "--limit-test=20"]
EVALUATIONS = "--eval=ROAD,selectivity"


def evaluated(home: Home, output: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    home.new_process()
    words = [EVALUATIONS, *OPTIONS, "--ratios=0.5", "--removals=3", "--method=mine:Mine", "--model=network:build"]
    assert run(output / "data", output, [*words, *options]) == 0
    return capsys.readouterr().out


def test_everything_is_made_anew_after_an_edit_and_nothing_without(home, tmp_path, capsys):
    first = evaluated(home, tmp_path, capsys)
    assert "code of" not in first
    again = evaluated(home, tmp_path, capsys)
    assert "selectivity: 2 of 2 measurements are finished" in again
    assert "ROAD: 2 of 2 measurements are finished" in again

    home.edit("beside.py", "2", "3")
    maps = tmp_path / "saliency_maps" / "planted_network.build_mine.Mine_quick.h5"
    before = read_attributes(maps)["code"]
    dry = evaluated(home, tmp_path, capsys, "--dry-run")
    assert f"explain {maps}" in dry
    assert "train" not in dry
    edited = evaluated(home, tmp_path, capsys)
    for printed in (dry, edited):
        assert printed.count("code of mine:Mine has changed") == 1
        assert "code of network:build" not in printed
    assert "selectivity: 1 of 2 measurements are finished, 1 to do" in edited
    assert "ROAD: 1 of 2 measurements are finished, 1 to do" in edited
    assert read_attributes(maps)["code"] != before

    checkpoint = tmp_path / "checkpoints" / "planted_network.build_seed0_quick.pt"
    old = load_checkpoint(checkpoint)
    home.edit("settings.json", '"dropout": 0.1', '"dropout": 0.2')
    assert f"train   {checkpoint}" in evaluated(home, tmp_path, capsys, "--dry-run")
    edited = evaluated(home, tmp_path, capsys)
    assert edited.count("code of network:build has changed") == 1
    assert "selectivity: 0 of 2 measurements are finished, 2 to do" in edited
    assert "ROAD: 0 of 2 measurements are finished, 2 to do" in edited
    new = load_checkpoint(checkpoint)
    assert old.sha256 != new.sha256
    assert old.metadata["model_code"] != new.metadata["model_code"]
    assert "selectivity: 2 of 2 measurements are finished" in evaluated(home, tmp_path, capsys)

    assert run(tmp_path / "data", tmp_path, ["--report", "--target=planted"]) == 0
    report = capsys.readouterr().out
    for code in (old, new):
        assert f"network.build code {code.metadata['model_code']}" in report


@pytest.mark.long
def test_in_processes_of_their_own(home, tmp_path):
    """As a user does it: save, run, edit, run."""
    environment = os.environ | {"PYTHONPATH": str(home.folder), "OMP_NUM_THREADS": "1"}
    words = ["--train", "--target=planted", "--quick", "--epochs=1", "--limit-train=200", "--model=network:build"]
    command = [sys.executable, "-m", "tests.run_main", str(tmp_path / "data"), f"--output-dir={tmp_path}", *words]

    def printed() -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
        return done.stdout

    path = tmp_path / "checkpoints" / "planted_network.build_seed0_quick.pt"
    printed()
    old = load_checkpoint(path).sha256
    home.edit("network.py", "nn.ReLU()", "nn.Tanh()")
    assert "code of network:build has changed" in printed()
    assert load_checkpoint(path).sha256 != old


def test_a_half_finished_training_of_old_code_is_not_gone_on_with(home, tmp_path, monkeypatch, capsys):
    dataset = load_dataset("planted").subset(64)
    order = TrainingConfig("planted", "network:build", 0, recipe_for("planted"), None, 0.1)
    save = "experiments.checkpoints.ResumeFile.save"

    def save_and_die(file, state, save=sys.modules["experiments.checkpoints"].ResumeFile.save):
        save(file, state)
        raise KeyboardInterrupt

    home.new_process()
    with monkeypatch.context() as patch:
        patch.setattr(save, save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train_and_save(order, dataset, tmp_path, torch.device("cpu"))
    home.edit("network.py", "nn.ReLU()", "nn.Tanh()")
    home.new_process()
    epochs: list[int] = []
    device = torch.device("cpu")
    train_and_save(order, dataset, tmp_path, device, resume=True, on_epoch=lambda state: epochs.append(state.epochs))
    assert epochs == list(range(1, order.recipe.epochs + 1))
    assert "code of network:build has changed" in capsys.readouterr().out


def kept_run(folder: Path, code: str | None, ratio: float, accuracy: float) -> None:
    made = {"recipe": recipe_for("planted", quick=True), "limit_train": 2000, "limit_test": None, "seed": 0}
    common = {"dataset": "planted", "dataset_sha256": "data", "model": "SimpleCNN", **made}
    result = RunResult(accuracy, 100, ratio, 0.0, 0.1, 1.0, "cpu", {})
    masked = {"method": MethodSpec("mine:Mine", code=code), "ratio": ratio, "checkpoint_sha256": "weights"}
    for one in (
        Run("baseline", **common),
        Run("ROAR", **common, **masked, masks=MaskOptions()),
        Run("ROAR", **common, **masked, masks=MaskOptions().without("fill", "mask_split"), network_input="mask"),
    ):
        write_record(one.path(folder), one.configuration(), result.plain())


def test_a_report_never_mixes_old_and_new_code_in_one_curve(tmp_path):
    for code, accuracy in (("a" * 16, 0.9), ("b" * 16, 0.5)):
        for ratio in (0.3, 0.7):
            kept_run(tmp_path, code, ratio, accuracy)
    kept_run(tmp_path, None, 0.3, 0.1)  # from before code was recorded, and not finished
    (summary,) = Retrainings.load(tmp_path, ["planted"]).summaries
    curves = {curve.method: curve.accuracies for curve in summary.image_curves}
    assert curves == {
        f"mine:Mine code {'a' * 16}": ((0.9,), (0.9,)),
        f"mine:Mine code {'b' * 16}": ((0.5,), (0.5,)),
    }


def test_records_of_one_code_are_named_as_always(tmp_path):
    kept_run(tmp_path, "a" * 16, 0.5, 0.9)
    (summary,) = Retrainings.load(tmp_path, ["planted"]).summaries
    assert [curve.method for curve in summary.image_curves] == ["mine:Mine"]
    (path,) = (tmp_path / "runs").glob("*mask*.json")
    assert json.loads(path.read_text())["configuration"]["code"] == "a" * 16
