"""Summaries of finished retrainings: here of made-up ones, whose curves are known."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

import main
from attribution.spec import MethodSpec
from evaluation.options import options_of
from evaluation.runs import MaskOptions, RetrainingConfig, Run, RunResult
from evaluation.statistics import Curve, verdict
from experiments.records import write_record
from reporting.gap import Gap
from reporting.records import load_runs
from reporting.retraining_summary import RetrainingSummary
from reporting.retrainings import Retrainings, published_curve
from training.recipe import recipe_for

SUMS = ("d" * 64, ("c" * 64,))
RATIOS = (0.1, 0.5, 0.9)
METHODS = (MethodSpec("GC"), MethodSpec("RANDOM"))


def make_config(**changes) -> RetrainingConfig:
    given = {"evaluation": "ROAR", "dataset": "mnist", "attention": None, "methods": METHODS, "ratios": RATIOS}
    masks = {name: changes.pop(name) for name in options_of(MaskOptions) if name in changes}
    return RetrainingConfig(
        **given
        | {"masks": MaskOptions(**masks), "recipe": recipe_for("mnist"), "limit_train": 100, "seeds": 2}
        | changes
    )


def accuracy(run: Run) -> float:
    """GC's curve is read off the mask, RANDOM's falls, seeds differ a little."""
    base = 0.99 - 0.001 * run.seed
    if run.method is None:
        return base
    if run.method.method == "RANDOM":
        return 0.1 if run.network_input == "mask" else base - 0.5 * run.ratio
    return base - 0.01


def make_result(run: Run) -> RunResult:
    return RunResult(accuracy(run), 10_000, run.ratio, 0.25, 0.1, 1.0, "a processor", {"torch": "2.11"})


def save_runs(folder: Path, one: RetrainingConfig) -> None:
    for run in one.runs(*SUMS):
        write_record(run.path(folder), run.configuration(), make_result(run).plain())


def make_summary(one: RetrainingConfig) -> RetrainingSummary:
    return RetrainingSummary(one, *SUMS, {run: make_result(run) for run in one.runs(*SUMS)})


def test_a_run_survives_its_file(tmp_path):
    method = MethodSpec("VBP", "SG", (("level", 0.1), ("samples", 5)), blur=True)
    one = make_config(methods=(method,), fill="black", rank="square")
    save_runs(tmp_path, one)
    assert dict(load_runs(tmp_path)) == {run: make_result(run) for run in one.runs(*SUMS)}


def test_text_has_table_verdicts_ranking_and_conditions():
    text = make_summary(make_config()).text
    for words in (
        "ROAR on MNIST, SimpleCNN",
        "by the signed attribution of the predicted class, replaced by mean",
        "100 training images, 4 epochs, all test images, 2 seeds",
        "- GC: explained by the mask at every ratio",
        "- RANDOM: the mask carries no class",
        "the lowest area first",
        ": RANDOM > GC",
    ):
        assert words in text


def test_gap_checks_that_random_is_the_same_in_both():
    roar, kar = (make_summary(make_config(evaluation=name)) for name in ("ROAR", "KAR"))
    assert "overlapping intervals at 3 of 3 ratios; they differ by 0.000 at most" in Gap(roar, kar).text
    lower = {
        run: replace(one, accuracy=one.accuracy - 0.2) if run.evaluation == "KAR" and run.ratio == 0.5 else one
        for run, one in kar.results.items()
    }
    assert "at 2 of 3 ratios; they differ by 0.200 at most" in Gap(roar, replace(kar, results=lower)).text


@pytest.mark.parametrize(
    "change",
    [
        {"limit_train": 200},
        {"limit_test": 50},
        {"seeds": 3},
        {"mask_seeds": 2},
        {"ratios": (0.1, 0.5)},
        {"ratios": tuple(n / 40 for n in range(1, 40))},
        {"recipe": recipe_for("mnist", epochs=9)},
        {"recipe": recipe_for("mnist", batch_size=9)},
        {"recipe": recipe_for("mnist", learning_rate=0.5)},
        {"fill": "black"},
        {"mask_split": "train"},
        {"methods": (MethodSpec("GC", "SG", (("samples", 3),)), MethodSpec("RANDOM"))},
    ],
)
def test_tables_of_other_settings_have_other_names(change):
    names = [RetrainingSummary(one, *SUMS, {}).stem for one in (make_config(), make_config(**change))]
    assert names[0] != names[1]
    assert max(map(len, names)) < 200
    assert not any("/" in name for name in names)


def test_report_finds_what_is_finished_and_says_what_is_not(tmp_path):
    save_runs(tmp_path, make_config())
    save_runs(tmp_path, make_config(methods=(MethodSpec("VBP"),), seeds=1))
    save_runs(tmp_path, make_config(methods=(MethodSpec("IB"),), seeds=1))
    next((tmp_path / "runs").glob("*_IB_*_0.5_mask_*")).unlink()
    save_runs(tmp_path, make_config(attention="CBAM", seeds=1))
    (found, broader, cbam), (left_out,) = (one := Retrainings.load(tmp_path)).summaries, one.omissions
    assert found.config == make_config()
    assert [method.label for method in broader.config.methods] == ["VBP", "GC", "RANDOM"], "of the seed that all have"
    assert broader.config.seeds == 1 and broader in one.largest
    assert (cbam.model, cbam.config.seeds) == ("CBAM", 1)
    assert left_out == "ROAR on mnist, SimpleCNN: IB not finished"
    assert found.text == make_summary(make_config()).text


def test_models_stand_beside_each_other_if_they_were_retrained_alike(tmp_path):
    here = make_config()
    save_runs(tmp_path, here)
    for change in ({"recipe": replace(here.recipe, epochs=9)}, {"limit_test": 77}):
        save_runs(tmp_path, make_config(attention="CBAM", **change))
    assert Retrainings.load(tmp_path).by_model(MethodSpec("GC")) == []
    save_runs(tmp_path, make_config(attention="CBAM"))
    found = Retrainings.load(tmp_path).by_model(MethodSpec("GC"))
    assert [summary.model for summary in found] == ["SimpleCNN", "CBAM"]


def test_the_gap_is_of_the_methods_that_both_have(tmp_path):
    save_runs(tmp_path, make_config(methods=(MethodSpec("VBP"), MethodSpec("GC"), MethodSpec("RANDOM"))))
    save_runs(tmp_path, make_config(evaluation="KAR"))
    (gap,) = Retrainings.load(tmp_path).gaps
    assert [method.label for method in gap.roar.config.methods] == ["GC", "RANDOM"]
    assert gap.roar.config == replace(gap.kar.config, evaluation="ROAR")


def test_the_gap_is_of_the_seeds_that_both_have(tmp_path):
    save_runs(tmp_path, make_config(seeds=3, mask_seeds=2))
    save_runs(tmp_path, make_config(evaluation="KAR", seeds=1))
    (gap,) = Retrainings.load(tmp_path).gaps
    assert (gap.roar.config.seeds, gap.roar.config.mask_seeds) == (1, 1)
    assert gap.text == Gap(*(make_summary(make_config(evaluation=name, seeds=1)) for name in ("ROAR", "KAR"))).text


def test_report_prefers_more_seeds_when_all_have_them_and_counts_seeds_of_masks(tmp_path):
    save_runs(tmp_path, make_config(seeds=3, mask_seeds=2))
    (found,) = Retrainings.load(tmp_path).summaries
    assert (found.config.seeds, found.config.mask_seeds) == (3, 2)


def test_a_curve_without_its_mask_or_baseline_is_not_shown(tmp_path):
    one = make_config(seeds=1, methods=(MethodSpec("GC"),))
    save_runs(tmp_path, one)
    next((tmp_path / "runs").glob("*_0.5_mask_*")).unlink()
    missing = Retrainings.load(tmp_path)
    assert missing.summaries == ()
    assert missing.omissions == ("ROAR on mnist, SimpleCNN: no method is finished (3 runs)",)
    assert missing.write(tmp_path) == []


def test_report_writes_tables_runs_and_a_figure_per_kind(tmp_path):
    folder = tmp_path / "results"
    for name in ("ROAR", "KAR"):
        save_runs(folder, make_config(evaluation=name))
        save_runs(folder, make_config(evaluation=name, mask_split="train", granularity="element", seeds=1))
    save_runs(folder, make_config(attention="CBAM", seeds=1))
    save_runs(folder, make_config(dataset="cifar10", recipe=recipe_for("cifar10"), seeds=1))
    assert main.main(["--report", f"--output-dir={tmp_path}"]) == 0
    made = {path.name for path in folder.iterdir() if path.suffix == ".png" and not path.name.startswith("summary")}
    assert made == {
        "ROAR.png",
        "KAR.png",
        "ROAR_element_train.png",
        "KAR_element_train.png",
        "ROAR_CBAM.png",
        "ROAR_models_GC.png",
    }
    text = (folder / "retraining.md").read_text()
    for title in ("ROAR on CIFAR-10, SimpleCNN", "ROAR on MNIST, CBAM", "KAR − ROAR on MNIST, SimpleCNN"):
        assert f"## {title}\n" in text
    with (folder / "retraining_runs.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["recipe.epochs"] for line in lines} == {"4", "40"}
    assert {line["mask_split"] for line in lines} == {"both", "train", ""}
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".pdf"}
    assert main.main(["--report", f"--output-dir={tmp_path}"]) == 0
    assert before == {path: path.read_bytes() for path in before}, "the report of the same runs is the same"


def test_report_sets_the_originals_figures_beside_its_own_setting(tmp_path):
    save_runs(tmp_path, make_config(seeds=1))
    save_runs(tmp_path, make_config(seeds=1, mask_split="train", granularity="element"))
    (text,) = Retrainings.load(tmp_path).original_comparisons()
    (row,) = (line for line in text.splitlines() if line.startswith("| GC"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    published = (0.4 * (0.9761 + 0.8786) / 2 + 0.4 * (0.8786 + 0.3884) / 2) / 0.8  # trapezoids over 10, 50 and 90 %
    assert cells == ["GC", f"{published:.3f}", "0.980", "0.980", "0.980"]


def test_the_originals_kar_is_turned_to_the_fraction_replaced():
    curve = published_curve("KAR", "mnist", "GC")
    assert curve is not None
    assert curve.ratios[0] == 0.1
    assert curve.accuracies[0] == (0.9839,)  # 90 % kept
    assert published_curve("ROAR", "mnist", "SOBEL") is None


def test_masked_training_images_alone_have_a_verdict_of_their_own():
    image = Curve("GC", "image", RATIOS, ((0.3,), (0.2,), (0.1,)), 10_000)
    mask = Curve("GC", "mask", RATIOS, ((0.9,), (0.9,), (0.9,)), 10_000)
    assert "not to be believed" in verdict(image, mask, 0.1, clean_test=True)
    assert "which the test images don't have" in verdict(image, mask, 0.1, clean_test=True)
    silent = Curve("GC", "mask", RATIOS, ((0.1,), (0.1,), (0.1,)), 10_000)
    assert "carries no class" in verdict(image, silent, 0.1, clean_test=True)


def test_dry_run_counts_shared_runs_once(data_dir, tmp_path, capsys):
    options = ["--eval=ROAR,KAR", "--method=GC", "--quick", "--epochs=1", "--ratios=0.3,0.7", "--dry-run"]
    assert main.main([*options, "--target=mnist", f"--data-dir={data_dir}", f"--output-dir={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    # the baseline; images of both, two methods, two ratios; the masks of two methods at 30 and 70 %
    assert printed.count("\nretrain ") == 1 + 2 * 2 * 2 + 2 * 2
    assert "9 retrainings, 0 finished, 5 planned above" in printed
    assert printed.count("\nexplain ") == 2
