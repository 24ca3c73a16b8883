"""Chance is the share of the most frequent class among the test images, wherever something is judged against it."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import whitebox
from attribution.spec import MethodSpec
from data import load_dataset
from data.catalog import CATALOG
from data.folders import folder_name
from evaluation.chance import chance_level, chance_of
from evaluation.statistics import Curve, Estimate, is_doubtful, share_of_mask, verdict
from experiments.checkpoints import load_metadata
from reporting.removal_summary import RemovalSummary
from reporting.retraining_summary import RetrainingSummary
from reporting.retrainings import Retrainings
from tests.run_main import run
from tests.small_network import small_network
from tests.test_own import write
from tests.test_removing import settings
from tests.test_retrainings import RATIOS, SUMS, make_config, make_summary, save_runs
from tests.test_retrainings import make_result as good_result
from tests.train_and_save import train_and_save
from training.config import TrainingConfig
from training.recipe import recipe_for


def flat(network_input: str, accuracy: float, images: int = 1000) -> Curve:
    return Curve("GC", network_input, RATIOS, ((accuracy,),) * 3, images)


def judged(image: float, mask: float, chance: float, images: int = 1000) -> str:
    return verdict(flat("image", image, images), flat("mask", mask, images), chance)


def test_chance_is_the_share_of_the_most_frequent_class():
    assert chance_of([0] * 48 + [1] * 16) == 0.75
    assert chance_of([3, 3, 3]) == 1.0, "one class"
    assert chance_of([0, 0, 2, 2]) == 0.5, "class 1 is not among them"
    assert chance_of([]) == 0.0


@pytest.mark.parametrize(("chance", "image"), [(0.75, 0.93), (0.95, 0.99), (0.1135, 0.97)])
def test_a_mask_at_chance_carries_no_class(chance, image):
    """As of 240 and 80 images, of 95 and 5 %, and of MNIST; also a mask that leads below chance."""
    for alone in (chance, chance + 0.002, chance - 0.1):
        assert "the mask carries no class" in judged(image, alone, chance)
        assert share_of_mask(flat("image", image), flat("mask", alone), chance) == 0


@pytest.mark.parametrize(("chance", "mask"), [(0.75, 0.93), (0.95, 0.995), (0.1135, 0.9)])
def test_a_mask_that_tells_the_class_is_told_from_chance(chance, mask):
    assert "explained by the mask at every ratio" in judged(mask, mask, chance)


def test_what_can_be_read_off_the_mask_is_counted_from_chance():
    """(0.80 − 0.75) / (0.95 − 0.75) = 25 %; against 1/2 it was 67 %."""
    assert "up to 25% of it above chance" in judged(0.95, 0.80, 0.75)


def test_a_few_test_images_prove_nothing():
    """One hit more than the most frequent class has among 64 images is luck."""
    assert "the mask carries no class" in judged(0.9, 49 / 64, 0.75, images=64)


@pytest.mark.parametrize("baseline", [Estimate(0.75, 0.63, 0.84), Estimate(0.70, 0.69, 0.71), Estimate(0.80, 0.7, 0.9)])
@pytest.mark.parametrize("mask", [0.5, 0.75, 0.99])
def test_a_network_at_chance_gets_no_verdict(baseline, mask):
    words = verdict(flat("image", 0.75), flat("mask", mask), 0.75, baseline=baseline)
    assert words.startswith("no verdict")
    assert "chance is 0.750" in words
    assert "speaks of the image" not in words


def test_one_class_of_test_images_gets_no_verdict():
    assert "no verdict" in verdict(flat("image", 1.0), flat("mask", 1.0), 1.0, baseline=Estimate(1.0, 0.99, 1.0))


def test_a_network_that_is_judged_as_it_is_needs_one_hit_among_images_of_one_class():
    assert not is_doubtful(Estimate(1.0, 0.9, 1.0), 1.0)
    assert is_doubtful(Estimate(0.0, 0.0, 0.1), 1.0)
    assert is_doubtful(Estimate(0.6, 0.5, 0.7), 0.5)


@pytest.mark.parametrize("evaluation", ["ROAD", "insertion-deletion", "selectivity", "sanity"])
def test_a_network_in_memory_is_judged_by_its_labels(evaluation):
    model, images = small_network(), torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    options = {"removals": 2} if evaluation == "selectivity" else {}
    predicted = model(images).argmax(1)
    wrong = (predicted + 1) % 3
    of_one_class = images[predicted == predicted[0]], predicted[predicted == predicted[0]]
    for shown, labels, is_judged in ((images, wrong, False), (images, predicted, True), (*of_one_class, True)):
        assert (whitebox.evaluate(model, shown, labels, ["VBP"], evaluation, **options).doubt == "") == is_judged


def at(chance: float | None, accuracy: float) -> RetrainingSummary:
    """Results that all have the same accuracy."""
    one = make_summary(make_config(seeds=1))
    results = {run: replace(good_result(run), accuracy=accuracy, chance=chance) for run in one.results}
    return replace(one, results=results)


def test_retrainings_are_judged_by_the_chance_of_their_results():
    assert "chance is 0.75" in at(0.75, 0.75).text
    assert "no verdict" in at(0.75, 0.75).text
    assert "no verdict" not in at(0.2, 0.75).text
    assert at(0.75, 0.75).charts[0].chance == (0.75, "chance")
    assert not at(0.75, 0.75).methods_read_off_masks


def test_older_results_of_mnist_have_its_most_frequent_class():
    """1,135 of the 10,000 test images are ones."""
    assert make_summary(make_config()).chance == 0.1135
    assert make_summary(make_config(dataset="cifar10")).chance == 0.1


def test_older_results_of_a_part_of_the_test_images_count_its_labels(data_dir):
    labels = load_dataset("mnist", data_dir).test.subset(50).labels
    level = chance_level([None], "mnist", "", 50, data_dir)
    assert level == np.bincount(labels).max() / 50
    assert chance_level([], "planted", "", None, data_dir) == 0.1
    planted = load_dataset("planted").test.labels
    assert chance_level([], "planted", "", 100, data_dir) == chance_of(load_dataset("planted").test.subset(100).labels)
    assert chance_level([], "planted", "", None, data_dir) == chance_of(planted)


def test_without_the_data_a_part_of_mnist_has_the_chance_of_the_whole(tmp_path):
    assert chance_level([None], "mnist", "", 50, tmp_path) == 0.1135
    assert not list(tmp_path.iterdir()), "a report fetches nothing"


def test_results_keep_chance_and_older_ones_stay_as_they_are(tmp_path):
    one = make_config(seeds=1)
    save_runs(tmp_path, one)
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "runs").iterdir()]
    assert not any("chance" in content["result"] for content in contents)
    assert all("chance" not in content["configuration"] for content in contents)
    (found,) = Retrainings.load(tmp_path).summaries
    assert found.text == make_summary(one).text


def removals(chance: float, accuracy: float) -> RemovalSummary:
    values = {"most": [0.3, 0.2], "least": [0.9, 0.8]}
    random = {"most": [0.5, 0.5], "least": [0.5, 0.5]}
    whole = {"whole_accuracy": accuracy, "whole_score": 0.9, "chance": chance}
    found = {
        (MethodSpec(name), seed): {"accuracy": curve, "score": curve} | whole
        for name, curve in (("GC", values), ("RANDOM", random))
        for seed in range(2)
    }
    return RemovalSummary(settings(), "planted", "SimpleCNN", (MethodSpec("GC"), MethodSpec("RANDOM")), (0, 1), found)


def test_removal_without_retraining_judges_nothing_at_chance():
    assert "better than RANDOM" in removals(0.1, 0.9).text
    assert "better than RANDOM" not in removals(0.9, 0.9).text
    assert "no verdict" in removals(0.9, 0.9).text
    assert removals(0.75, 0.9).chance_line == (0.75, "chance")


def test_a_mean_probability_has_another_level_than_accuracy():
    """The probabilities of ten classes have the mean 1/10, however frequent the classes are."""
    one = removals(0.75, 0.9)
    scores = replace(one, config=replace(one.config, evaluation="insertion-deletion"))
    assert scores.chance_line == (0.1, "1/K")


@pytest.fixture
def uneven(tmp_path, monkeypatch):
    """Noise in a folder: 60 and 20 images of two classes, of 9×10 pixels. Nothing can be learned."""
    random = np.random.default_rng(0)
    for name, count in (("many", 60), ("few", 20)):
        write(tmp_path / "data" / "noise" / name, random.integers(0, 256, (count, 9, 10), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


OPTIONS = ["--target=folder:noise", "--quick", "--epochs=1", "--method=GC", "--ratios=0.5", "--limit-test=16"]


def test_a_folder_from_dry_run_to_a_report_without_it(uneven, tmp_path, capsys):
    output, evaluations = tmp_path / "out", "--eval=ROAR,ROAD,sanity,selectivity"
    asked = [evaluations, *OPTIONS, "--removals=3"]
    assert run(uneven, output, [*asked, "--dry-run"]) == 0
    assert "nothing written" in capsys.readouterr().out
    assert not output.exists()
    assert run(uneven, output, asked) == 0
    capsys.readouterr()
    for path in (output / "results" / "runs").iterdir():
        assert json.loads(path.read_text(encoding="utf-8"))["result"]["chance"] == 12 / 16
    assert run(uneven, output, ["--report"]) == 0
    before = capsys.readouterr().out
    names = sorted(path.name for path in (output / "results").iterdir())
    for words in (
        "ROAR on noise",
        "Test accuracy on noise",
        "evaluations on noise",
    ):
        assert words in before
    for name in ("ROAR", "ROAD", "sanity", "infidelity", "sensitivity"):
        assert "at chance on whole images" in before[before.index(f"- {name}: ") :].splitlines()[0]
    shutil.move(uneven / "noise", tmp_path / "elsewhere")
    assert run(uneven, output, ["--report", "--quick"]) == 0
    after = capsys.readouterr().out
    assert "many" in after and "few" in after, "the classes, from the record of the classifier"
    assert (
        after[after.index("ROAR on noise") :].splitlines()[:4]
        == before[before.index("ROAR on noise") :].splitlines()[:4]
    )
    assert set(names) <= {path.name for path in (output / "results").iterdir()}
    assert run(uneven, output, ["--report", "--dry-run"]) == 0
    assert "ROAR on noise" in capsys.readouterr().out


def test_older_results_of_a_folder_that_is_gone_get_no_verdict(tmp_path):
    one = make_config(dataset="folder-gone", recipe=recipe_for("folder-gone"))
    save_runs(tmp_path, one)
    (found,) = Retrainings.load(tmp_path).summaries
    assert found.chance is None
    assert "chance is not known" in found.text
    assert found.charts[0].chance is None
    found.write(tmp_path)


def test_a_folder_with_other_images_is_not_that_of_the_record(uneven):
    name = folder_name("folder:noise", uneven)
    assert chance_level([], name, load_dataset(name).sha256, None, uneven) == 0.75
    assert chance_level([], name, SUMS[0], None, uneven) is None


def test_a_class_without_test_images_has_no_accuracy(tmp_path, monkeypatch):
    """No mean of nothing: no warning, and a table with an empty cell."""
    dataset = load_dataset("planted").subset(200, 100)
    test = dataset.test.take(np.flatnonzero(dataset.test.labels != 4))
    order = TrainingConfig("planted", None, 0, recipe_for("planted", epochs=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        train_and_save(order, replace(dataset, test=test), tmp_path / "checkpoints", torch.device("cpu"))
        (metadata,) = load_metadata(tmp_path / "checkpoints").values()
        assert [one is None for one in metadata["test_accuracy_per_class"]] == [n == 4 for n in range(10)]
        assert run(tmp_path / "data", tmp_path, ["--report", "--target=planted"]) == 0
    json.dumps(metadata, allow_nan=False)
    assert "planted" in CATALOG
