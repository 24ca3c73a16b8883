"""Everything that the README and the pages in docs/ promise works as they say; their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from evaluation.sanity import Sanity
from experiments.usage import require_options_are_used
from main import build_parser, request_of
from tests.run_main import run
from tests.samples import sample_arrays

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [
    *PAGES,
    ROOT / "CONTRIBUTING.md",
    *(ROOT / room / "README.md" for room in ("results", "benchmarks", "saliency_maps", "checkpoints")),
]
README = PAGES[0].read_text(encoding="utf-8")
TEXT = "\n\n".join(page.read_text(encoding="utf-8") for page in PAGES)
EXAMPLES = re.findall(
    r"Save this as `(\S+)`[^`]*`main.py`:\n\n```python\n(.+?)```\n\nand `python main.py (.+?)`", TEXT, re.S
)
OWN_IMAGES = re.findall(r"`python main.py (--eval=ROAR [^`]*--target=folder:birds[^`]*)`", TEXT)


def test_there_is_an_example_of_a_method_and_of_a_model():
    assert sorted(name for name, _code, _command in EXAMPLES) == ["border.py", "strided.py"]


@pytest.mark.parametrize(("name", "code", "command"), EXAMPLES)
def test_own_code_reaches_a_curve(name, code, command, data_dir, tmp_path, monkeypatch, capsys):
    (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert run(data_dir, tmp_path / "out", [*command.split(), "--target=mnist", "--epochs=1", "--ratios=0.5"]) == 0
    assert "\n- RANDOM: " in capsys.readouterr().out
    assert list((tmp_path / "out" / "results").glob("ROAR_mnist_*.png"))


def test_own_images_reach_a_curve(tmp_path, monkeypatch, capsys):
    arrays = sample_arrays("mnist")
    for label, name in ((0, "owl"), (1, "tit")):
        folder = tmp_path / "birds" / name
        folder.mkdir(parents=True)
        for place, image in enumerate(arrays["train_images"][arrays["train_labels"] == label]):
            Image.fromarray(image).save(folder / f"{place}.png")
    monkeypatch.chdir(tmp_path)
    (command,) = {" ".join(sorted(command.split())) for command in OWN_IMAGES}
    assert run(tmp_path / "data", tmp_path / "out", [*command.split(), "--epochs=1", "--ratios=0.5"]) == 0
    assert "ROAR on birds, SimpleCNN" in capsys.readouterr().out


def test_every_command_is_one_that_there_is(monkeypatch):
    """In code spans and blocks; what follows a line's end within a span belongs to it."""
    commands = re.findall(r"python main\.py ([^`#]+?)(?:`|\n\n|\n\$|\n```|\nmodel:)", TEXT)
    assert len(commands) > 25
    monkeypatch.setattr("experiments.usage.load_evaluation", lambda name: Sanity())  # of the reader's own
    for command in set(commands) - {"--help"}:
        require_options_are_used(request_of(build_parser().parse_args(shlex.split(command))))


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


def test_the_python_of_the_readme_explains_a_network(monkeypatch):
    def small(num_classes: int) -> nn.Module:
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(8, num_classes))

    monkeypatch.setattr(torchvision.models, "resnet18", small)  # which takes half a minute
    (code,) = re.findall(r"```python\n(.+?)```", README, re.S)
    names = {}
    exec(code, names)
    assert names["maps"].shape == (20, 1, 64, 64)
    assert set(names["answer"].ranking) == {"IB", "GC"}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert links
    for link in links:
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
