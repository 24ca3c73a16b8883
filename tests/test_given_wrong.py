"""Wrong inputs of the options of given networks: one line that names the mend, and nothing is written."""

import warnings
from pathlib import Path

import pytest
import torch

from tests.given import COLOURS, FACTORY, SIDE, plant, write_images
from tests.run_main import run

USUAL = ["--method=IB", "--ratios=0.5", "--mean=.5,.5,.5", "--std=.25,.25,.25"]
MODEL, WEIGHTS, SIZE = "--model=tiny.py:tiny", "--weights=weights.pt", f"--image-size={SIDE}"
FOLDER = ["--target=folder:pets", "--split=test"]
ROAD = ["--eval=ROAD", *USUAL, MODEL, WEIGHTS, *FOLDER, SIZE]
TRUST = [*ROAD, "--eval=trust"]

WRONG = {
    "missing file": ([*ROAD, "--weights=nope.pt"], "--weights=nope.pt: there is no such file"),
    "no network": (["--eval=ROAD", "--weights=other.pt", *FOLDER], "with --model=PLACE, or --attention=none"),
    "folder without its prefix": (["--eval=ROAD", "--target=pets"], "did you mean --target=folder:pets?"),
    "list without its prefix": (["--eval=ROAD", "--target=bad.csv"], "did you mean --target=folder:bad.csv?"),
    "damaged file": ([*ROAD, "--weights=damaged.pt"], "give a .safetensors file"),
    "damaged .safetensors": ([*ROAD, "--weights=damaged.safetensors"], "download or save it again"),
    "weights of another network": ([*ROAD, "--weights=other.pt"], "missing (2.weight"),
    "other number of classes": ([*ROAD, "--weights=seven.pt"], "give --classes-file=FILE"),
    "class that the file lacks": ([*ROAD, "--classes-file=lemon.txt"], "red, which lemon.txt lacks"),
    "no such classes file": ([*ROAD, "--classes-file=no.txt"], "--classes-file=no.txt: there is no such file"),
    "unknown name in torchvision": ([*ROAD, "--model=torchvision:resnet19"], "did you mean torchvision:resnet18"),
    "no such factory": ([*ROAD, "--model=tiny.py:huge"], "tiny.py:huge"),
    "no such file of a factory": ([*ROAD, "--model=huge.py:tiny"], "there is no file"),
    "model without a colon": ([*ROAD, "--model=resnet18"], "torchvision:name"),
    "network and --attention": ([*ROAD, "--attention=CBAM"], "give one of them"),
    "training": (["--train", MODEL, WEIGHTS, *FOLDER, SIZE], "leave out --train or --weights"),
    "several seeds": ([*ROAD, "--seeds=2"], "--seeds"),
    "training to go on with": ([*ROAD, "--resume"], "--resume is for a training"),
    "size of mnist": (["--eval=ROAD", "--target=mnist", SIZE], "--image-size is for --target=folder:PATH"),
    "split without weights": (["--eval=ROAD", *FOLDER, SIZE], "--weights=FILE"),
    "two means": ([*ROAD, "--mean=.5,.5"], "one for each channel"),
    "two of both": ([*ROAD, "--mean=.5,.5", "--std=.5,.5"], "2 channels, not for 3"),
    "no deviation": ([*ROAD, "--std=0,1,1"], "all must be positive"),
    "mean in letters": ([*ROAD, "--mean=a,b,c"], "'a' is not a number"),
    "preprocessing that nobody says": (
        ["--eval=ROAD", "--method=IB", MODEL, WEIGHTS, *FOLDER, SIZE],
        "give --mean and --std",
    ),
    "size 3": ([*ROAD, "--image-size=3"], "give 8 to 4096 pixels"),
    "half a size": ([*ROAD, "--image-size=16x"], "'' is not a whole number"),
    "size in letters": ([*ROAD, "--image-size=big"], "'big'"),
    "crop 2": ([*ROAD, "--crop=2"], "'2' is not a number"),
    "crop without size": (["--eval=ROAD", *USUAL, MODEL, WEIGHTS, *FOLDER, "--crop=.9"], "give --image-size too"),
    "unknown interpolation": ([*ROAD, "--interpolation=cubic"], "bicubic"),
    "ROAR without training images": ([*ROAD, "--eval=ROAR"], "leave out --split=test"),
    "F-Fidelity without training images": ([*ROAD, "--eval=F-Fidelity"], "leave out --split=test"),
    "random labels": ([*ROAD, "--eval=ROAD,sanity", "--random-labels"], "--random-labels trains the network"),
    "retraining from no weights": (
        ["--eval=ROAR", MODEL, "--target=folder:pets", SIZE, "--retrain-from=weights"],
        "--weights=FILE",
    ),
    "empty folder": ([*ROAD, "--target=folder:empty"], "empty has no folders"),
    "several sizes": (["--eval=ROAD", *USUAL, MODEL, WEIGHTS, *FOLDER], "give --image-size"),
    "list with a missing image": ([*ROAD, "--target=folder:bad.csv"], "bad.csv line 3"),
    "pretrained without such": ([*ROAD, "--weights=pretrained"], "give its weights as a file"),
    "network that draws numbers": (
        [*ROAD, "--model=tiny.py:noisy", "--weights=noisy.pt"],
        "draws random numbers while it is evaluated",
    ),
    "trust of a network that draws numbers": (
        [*TRUST, "--method=all", "--model=tiny.py:noisy", "--weights=noisy.pt"],
        "no method can explain the network",
    ),
    "several labels at once": ([*ROAD, "--model=tiny.py:ten_labels"], "several labels"),
    "chosen method that can't": ([*ROAD, "--model=tiny.py:linear", "--weights=linear.pt", "--method=GC"], "layer"),
    "budget 0": ([*TRUST, "--budget=0"], "'0' is not a number above 0"),
    "budget of ROAD": ([*ROAD, "--budget=3"], "--budget is for --eval=trust"),
    "fill of trust": ([*TRUST, "--fill=linear"], "--eval=trust has no --fill=linear: choose from blur, mean, black"),
    "few images of an undivided folder": (["--eval=trust", *USUAL, MODEL, WEIGHTS, SIZE, FOLDER[0]], "or --split=test"),
    "one image": ([*TRUST, "--limit-test=1"], "1 image: an answer needs 10"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with everything that the wrong inputs name."""
    folder = tmp_path_factory.mktemp("wrong")
    names: dict = {}
    exec(FACTORY, names)
    (folder / "tiny.py").write_text(FACTORY)
    write_images(folder / "pets", count=4)
    (folder / "empty").mkdir()
    (folder / "bad.csv").write_text("path,label\npets/red/0.png,red\npets/red/nope.png,blue\n")
    (folder / "lemon.txt").write_text("blue\ngreen\nlemon\n")
    torch.manual_seed(0)
    shape, outputs = (3, SIDE, SIDE), dict(enumerate(COLOURS.values()))
    networks = {
        "weights": plant(names["tiny"](shape, 3), outputs),
        "seven": plant(names["tiny"](shape, 7), outputs),
        "noisy": names["noisy"](shape, 3),
        "linear": names["linear"](shape, 3),
        "other": torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)),
    }
    for name, network in networks.items():
        torch.save(network.state_dict(), folder / f"{name}.pt")
    (folder / "damaged.pt").write_bytes((folder / "weights.pt").read_bytes()[:900])
    (folder / "damaged.safetensors").write_bytes(b"abc" * 100)
    return folder


def results(folder: Path) -> list[Path]:
    """Return all files but those of `__pycache__` and the decoded images, which a later command finds again."""
    return sorted(path for path in folder.rglob("*") if not {"__pycache__", "decoded"} & set(path.parts))


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_costs_one_line_and_nothing_is_written(name, place, monkeypatch, capsys):
    options, message = WRONG[name]
    monkeypatch.chdir(place)
    (place / "data").mkdir(exist_ok=True)
    before = results(place)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of numpy, which would be a second line
        assert run(Path("data"), Path("out"), options) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("main.py: ")
    assert message in err
    assert results(place) == before


def test_unknown_name_in_timm(place, monkeypatch, capsys):
    pytest.importorskip("timm")
    monkeypatch.chdir(place)
    assert run(Path("data"), Path("out"), [*ROAD, "--model=timm:resnet19"]) == 2
    assert "did you mean timm:resnet" in capsys.readouterr().err
