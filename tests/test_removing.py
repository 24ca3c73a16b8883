"""Evaluations in which no network learns from a method's masks."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from attribution.spec import MethodSpec
from data import load_dataset
from evaluation import RECORDED_ORDERS, REMOVING
from evaluation.configs import RemovalConfig
from evaluation.masking import Removal, gaussian_blur, ranks
from evaluation.protocol import TestImages
from evaluation.removal import RemovalEvaluation, measure, perturb
from evaluation.statistics import mean_interval
from reporting.removal_summary import RemovalSummary
from tests.planted import OPTIONS
from tests.run_main import run
from training.finetuning import RandomMaskInputs
from training.inputs import Images, Normalisation


@pytest.fixture(scope="module")
def images():
    """Three batches and a half of small images, with their ranks by a random map."""
    dataset = load_dataset("planted").subset(10, 60)
    held = Images(dataset.test, Normalisation.from_dataset(dataset, torch.device("cpu")), torch.device("cpu"))
    index = torch.from_numpy(dataset.test.index)
    importances = torch.randn(60, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return held, torch.from_numpy(dataset.test.labels), index, ranks(importances, index)


def removed(images, rows, removal, draw=0, evaluation="insertion-deletion", pixel=0.0, **options):
    """The images of `rows`, perturbed; the mean pixel is `pixel`."""
    held, _labels, index, places = images
    config = RemovalEvaluation(evaluation).configure(**options)
    normalisation = Normalisation(torch.zeros(1), torch.ones(1), mean_pixel=torch.tensor([pixel]))
    return perturb(held.batch(rows), places[rows], index[rows], removal, draw, config, normalisation)


@pytest.mark.parametrize("order", ["MoRF", "LeRF"])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_a_random_part_lies_within_the_explanation_and_has_its_size(images, order, ratio):
    places, removal = images[3], Removal(order, ratio)
    options = {"evaluation": "F-Fidelity", "pixel": 99.0, "alpha": 0.5, "beta": 0.1}
    drawn = [removed(images, torch.arange(60), removal, draw, **options) == 99 for draw in range(3)]
    for one in drawn:
        assert (one.flatten(1).sum(dim=1) == round(min(0.5 * ratio, 0.1) * 256)).all()
        assert not (one & ~removal.mask(places)).any()
    assert not torch.equal(drawn[0], drawn[1])
    alone = removed(images, torch.tensor([7]), removal, 2, **options) == 99
    assert torch.equal(alone, drawn[2][7:8]), "no image depends on its batch"


def test_replaced_is_the_image_at_0_and_the_base_at_1(images):
    rows = torch.arange(60)
    batch = images[0].batch(rows)
    for name, base in (("blur", gaussian_blur(batch, 5.0)), ("mean", torch.full_like(batch, 0.25))):
        for order in ("MoRF", "LeRF"):
            whole, none = (removed(images, rows, Removal(order, ratio), pixel=0.25, fill=name) for ratio in (0.0, 1.0))
            assert torch.equal(whole, batch)
            torch.testing.assert_close(none, base)


def test_inserting_the_most_important_is_removing_the_least_important(images):
    """Insertion at t is read from the other end of the curve of least-important-first, at 1 − t."""
    held, _labels, _index, places = images
    batch = held.batch(torch.arange(60))
    base = gaussian_blur(batch, 5.0)
    inserted = torch.where(places < round(0.25 * 256), batch, base)
    torch.testing.assert_close(removed(images, torch.arange(60), Removal("LeRF", 0.75), fill="blur"), inserted)


def test_measure_is_the_plain_loop_over_images_orders_and_ratios(images):
    held, labels, index, places = images
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10)).eval()
    target, ratios = labels.flip(0), (0.2, 0.7)
    options = {"alpha": 0.5, "beta": 0.3}
    config = RemovalEvaluation("F-Fidelity").configure(ratios=ratios, draws=2, **options)
    got = measure(model, TestImages(held, labels, index, held.normalisation), target, places, config)
    for order, recorded in RECORDED_ORDERS.items():
        for place, ratio in enumerate(ratios):
            hits, scores = [], []
            for row in range(60):
                for draw in range(2):
                    part = Removal(order, ratio), draw, "F-Fidelity"
                    logits = model(removed(images, torch.tensor([row]), *part, **options))[0]
                    hits.append(float(logits.argmax() == labels[row]))
                    scores.append(float(logits.detach().softmax(0)[target[row]]))
            assert got["accuracy"][recorded][place] == pytest.approx(np.mean(hits), abs=1e-12)
            assert got["score"][recorded][place] == pytest.approx(np.mean(scores), abs=1e-6)
    whole = model(held.batch(torch.arange(60)))
    assert got["whole_accuracy"] == pytest.approx((whole.argmax(1) == labels).float().mean().item())


def test_values_of_images_are_their_own_curves(images):
    held, labels, index, places = images
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10)).eval()
    target = torch.arange(60) % 10
    normalisation = Normalisation(torch.zeros(1), torch.ones(1))
    config = RemovalEvaluation("insertion-deletion").configure(ratios=(0.0, 0.2, 1.0), by_image=True)

    def result_of(rows):
        class Some:
            def __len__(self):
                return len(rows)

            def batch(self, part):
                return held.batch(rows[part])

        test = TestImages(Some(), labels[rows], index[rows], normalisation)
        return measure(model, test, target[rows], places[rows], config)

    together = result_of(torch.arange(60))
    curves = [np.array(together["score"][RECORDED_ORDERS[order]]) for order in ("LeRF", "MoRF")]
    least, most = (0.1 * (c[0] + c[1]) + 0.4 * (c[1] + c[2]) for c in curves)
    assert np.mean(together["image_gap"]) == pytest.approx(least - most, abs=1e-6)
    gap = np.subtract(together["image_area"]["least"], together["image_area"]["most"])
    np.testing.assert_allclose(gap, together["image_gap"], atol=2e-7)
    assert np.mean(together["image_area"]["most"]) == pytest.approx(most, abs=1e-6)
    alone = [result_of(torch.tensor([row]))["image_gap"][0] for row in (0, 7, 59)]
    np.testing.assert_allclose(np.array(together["image_gap"])[[0, 7, 59]], alone, atol=2e-6)


def test_imputed_images_keep_what_is_not_removed(images):
    rows, removal = torch.arange(60), Removal("MoRF", 0.4)
    batch, mask = images[0].batch(rows), removal.mask(images[3])
    imputed = removed(images, rows, removal, evaluation="ROAD")
    assert torch.equal(imputed[~mask], batch[~mask])
    assert (imputed[mask] != batch[mask]).float().mean() > 0.99


def test_fine_tuning_masks_no_more_than_asked_and_another_part_each_time(images):
    held = images[0]
    masked = RandomMaskInputs(held, 0.2, torch.tensor([99.0]), seed=3)
    rows = torch.arange(60)
    shares = torch.stack([(masked.batch(rows) == 99).flatten(1).float().mean(dim=1) for _ in range(20)])
    assert shares.max() <= 0.2 + 0.5 / 256
    assert shares.mean().item() == pytest.approx(0.1, abs=0.01)
    again = RandomMaskInputs(held, 0.2, torch.tensor([99.0]), seed=3)
    assert torch.equal(again.batch(rows), RandomMaskInputs(held, 0.2, torch.tensor([99.0]), seed=3).batch(rows))


@pytest.mark.parametrize("evaluation", REMOVING)
def test_known_maps_are_ranked_in_every_seed(finished, evaluation):
    areas = {}
    for path in (finished / "results" / evaluation).iterdir():
        content = json.loads(path.read_text())
        value = "score" if evaluation == "insertion-deletion" else "accuracy"
        name = content["configuration"]["method"].rpartition(":")[2]
        curves = content["result"][value]
        areas[name, content["configuration"]["seed"]] = np.mean(curves["least"]) - np.mean(curves["most"])
    for seed in (0, 1):
        assert areas["TrueMap", seed] > areas["RANDOM", seed] + 0.05 > areas["ReversedMap", seed] + 0.1


@pytest.mark.parametrize("evaluation", REMOVING)
def test_finished_measurements_are_found_and_the_table_is_the_same(finished, evaluation, capsys):
    tables = sorted((finished / "results").glob(f"{evaluation}_*.md"))
    before = [path.read_text() for path in tables]
    draws = ["--draws=4"] if evaluation == "F-Fidelity" else []
    assert run(finished / "data", finished, [f"--eval={evaluation}", *OPTIONS, *draws]) == 0
    assert "6 of 6 measurements are finished, 0 to do" in capsys.readouterr().out
    assert [path.read_text() for path in tables] == before
    assert "- evaluation.planted:TrueMap: " in before[0]
    assert tables[0].with_suffix(".png").exists()


def test_one_fine_tuning_serves_every_method_and_ratio(finished, capsys):
    tuned = finished / "checkpoints" / "finetuned" / "planted_SimpleCNN_seed0_quick.pt"
    before = tuned.stat().st_mtime_ns
    options = [*OPTIONS, "--draws=4", "--method=VBP", "--ratios=0.3"]
    assert run(finished / "data", finished, ["--eval=F-Fidelity", *options]) == 0
    assert "fine-tuned: " not in capsys.readouterr().out
    assert tuned.stat().st_mtime_ns == before
    assert run(finished / "data", finished, ["--eval=F-Fidelity", *options, "--beta=0.3", "--dry-run"]) == 0
    assert f"tune    {tuned}" in capsys.readouterr().out


@pytest.mark.parametrize("control", [[], ["--control=blur"]])
def test_maps_of_several_evaluations_are_planned_once(control, finished, capsys):
    options = [*OPTIONS, "--method=IB", "--seeds=1", "--overwrite", "--dry-run", *control]
    for evaluations, maps in {"ROAD": 2, "ROAD,insertion-deletion": 2, "ROAR,KAR": 2, "ROAD,ROAR": 4}.items():
        assert run(finished / "data", finished, [f"--eval={evaluations}", *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("explain ") for line in lines) == maps, "ROAR's are of more images"


def test_damaged_measurement_is_named(finished, capsys):
    path = next((finished / "results" / "ROAD").iterdir())
    content = path.read_text()
    path.write_text(content[:50])
    assert run(finished / "data", finished, ["--eval=ROAD", *OPTIONS]) == 2
    assert path.name in capsys.readouterr().err
    path.write_text(content)


def test_a_fill_that_an_evaluation_does_not_have_is_refused(tmp_path, capsys):
    assert run(tmp_path, tmp_path / "out", ["--eval=ROAD", "--target=planted", "--fill=mean"]) == 2
    assert "--eval=ROAD has no --fill=mean: choose from linear" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def settings(**changes):
    facts = {"alpha": 1.0, "beta": 1.0, "draws": 1} | changes
    return RemovalConfig("ROAD", (0.1, 0.5), 100, "prediction", "signed", "linear", **facts)


def test_gap_and_verdict_are_paired_by_seed():
    methods = (MethodSpec("GC"), MethodSpec("RANDOM"))
    least = {"GC": [0.9, 0.92, 0.94], "RANDOM": [0.5, 0.6, 0.7]}
    most = {"GC": [0.3, 0.33, 0.36], "RANDOM": [0.5, 0.6, 0.7]}
    found = {
        (method, seed): {
            name: {"most": [most[method.method][seed]] * 2, "least": [least[method.method][seed]] * 2}
            for name in ("accuracy", "score")
        }
        | {"whole_accuracy": 0.99, "whole_score": 0.9}
        for method in methods
        for seed in range(3)
    }
    one = RemovalSummary(settings(), "planted", "SimpleCNN", methods, (0, 1, 2), found)
    assert one.gaps["GC"] == pytest.approx([0.6, 0.59, 0.58])
    assert one.gaps["RANDOM"] == pytest.approx([0, 0, 0])
    expected = mean_interval([0.6, 0.59, 0.58])
    assert f"- GC: better than RANDOM ({expected.mean:+.3f} ± {expected.half:.3f})" in one.text
    assert f"GC,most,0.1,accuracy,{0.33:.6f}" in one.csv
    single = replace(one, seeds=(0,))
    assert "better than" not in single.text
    assert "+0.600" in single.text


@pytest.mark.parametrize("evaluation", ["insertion-deletion", "F-Fidelity"])
def test_whole_and_empty_images_are_classified_once_for_both_orders(images, evaluation):
    held, labels, index, places = images
    torch.manual_seed(0)
    model, calls = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3)).eval(), []
    test = TestImages(held, labels, index, held.normalisation)
    config = RemovalEvaluation(evaluation).configure(ratios=(0.0, 0.5, 1.0), draws=2, fill="mean")
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    result = measure(model, test, labels % 3, places, config)
    hook.remove()
    assert len(calls) == 1 + config.draws * 3
    batch = held.batch(torch.arange(60))
    for order, name in RECORDED_ORDERS.items():
        for place, ratio in enumerate(config.ratios):
            parts = [
                perturb(batch, places, index, Removal(order, ratio), draw, config, held.normalisation)
                for draw in range(config.draws)
            ]
            scores = [model(part).softmax(1).gather(1, labels.view(-1, 1) % 3).mean().item() for part in parts]
            assert result["score"][name][place] == pytest.approx(np.mean(scores), abs=1e-6)
