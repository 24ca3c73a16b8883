"""The summary page: places, marks, agreement, and the HTML file in a real browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import main
from attribution.spec import MethodSpec
from common.hashing import json_sha256
from evaluation import REMOVING
from evaluation.statistics import Estimate
from experiments.records import write_record
from reporting.groups import complete_parts, load_measurements, select_largest
from reporting.page import write_page
from reporting.retrainings import Retrainings
from reporting.summary import Column, Summary, summarize
from tests.test_retrainings import METHODS, make_config, save_runs
from training.recipe import quick_train_images, recipe_for

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def exact(**values):
    return {name: Estimate(value, value, value) for name, value in values.items()}


COLUMNS = (
    Column("ROAR", "an area", False, exact(GC=0.9, VBP=0.8, RANDOM=0.7, IG=0.8), frozenset({"GC"})),
    Column("ROAD", "a gap", True, exact(GC=0.1, VBP=0.2, RANDOM=0.0, IG=0.3)),
    Column("sanity", "likeness", False, exact(GC=0.1, VBP=0.2)),
)


def test_places_marks_and_agreement():
    one = Summary("mnist", "SimpleCNN", COLUMNS)
    assert one.methods == ["GC", "VBP", "IG", "RANDOM"]
    assert COLUMNS[0].places == {"GC": 4, "VBP": 2.5, "RANDOM": 1, "IG": 2.5}
    assert COLUMNS[1].places == {"GC": 3, "VBP": 2, "RANDOM": 4, "IG": 1}
    assert "0.900 †" in one.table
    assert "0.800 †" not in one.table
    # ranks 4, 2.5, 1, 2.5 and 3, 2, 4, 1: deviations (1.5, 0, −1.5, 0) · (0.5, −0.5, 1.5, −1.5) / √(4.5 · 5)
    assert one.correlations[0, 1] == pytest.approx(-1.5 / np.sqrt(22.5))
    assert np.isnan(one.correlations[0, 2]), "two methods are too few"
    assert one.csv.splitlines()[1] == "mnist,SimpleCNN,ROAR,GC,0.900000,0.900000,0.900000,4,True"


def test_as_many_methods_and_seeds_as_possible():
    found = {(METHODS[0], seed): {} for seed in range(3)} | {(METHODS[1], 0): {}}
    assert complete_parts(found) == [((METHODS[0],), (0, 1, 2)), (METHODS, (0,))]
    assert complete_parts(found | {(METHODS[1], 1): {}}) == [(METHODS, (0, 1))]


def test_values_are_those_of_the_files(finished):
    results = finished / "results"
    (one,) = summarize(("planted",), Retrainings.load(results, ("planted",)), load_measurements(results))
    assert [column.name for column in one.columns] == [*REMOVING, "learned"]
    *removing, learned = one.columns
    assert {value.mean for value in learned.values.values()} == {0}, "known maps don't depend on the network"
    for column in removing:
        assert column.values["evaluation.planted:TrueMap"].mean > column.values["RANDOM"].mean
        assert column.places["evaluation.planted:ReversedMap"] == len(column.values)
    assert "2 seeds" in one.note


def test_explained_by_the_mask_is_marked(tmp_path):
    for name in ("ROAR", "KAR"):
        save_runs(tmp_path, make_config(evaluation=name))
    (one,) = summarize(("mnist",), Retrainings.load(tmp_path), [])
    assert [column.name for column in one.columns] == ["ROAR", "KAR"]
    assert [column.higher_is_better for column in one.columns] == [False, True]
    assert [column.marked for column in one.columns] == [frozenset({"GC"})] * 2


@pytest.fixture
def written(tmp_path):
    for name in ("ROAR", "KAR"):
        save_runs(tmp_path / "results", make_config(evaluation=name))
    save_runs(tmp_path / "results", make_config(dataset="cifar10", seeds=1))
    assert main.main(["--report", f"--output-dir={tmp_path}"]) == 0
    return tmp_path / "results" / "report.html"


def test_the_page_stands_alone_and_has_everything(written):
    text = written.read_text()
    assert len(text) < 5e6
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text), "something is fetched"
    assert "http" not in text.replace("http-equiv", "")
    for words in (
        'id="mnist-SimpleCNN"',
        'id="cifar10-SimpleCNN"',
        "GC, mask alone",
        "recipe.epochs",
        "Do the evaluations",
    ):
        assert words in text
    runs = len(list((written.parent / "runs").iterdir()))
    assert f"{runs} runs" in text
    shared = {line for line in text.splitlines() if line.startswith("<tr><td>")}
    assert any("<td>GC</td>" in line and "<td>mask</td>" in line for line in shared)


def test_a_curve_whose_method_is_in_no_column_is_drawn(tmp_path):
    """The table has the largest summary of each kind, the page the curves of all."""
    save_runs(tmp_path, make_config(seeds=3))
    save_runs(tmp_path, make_config(methods=(MethodSpec("VBP"),), limit_train=200))
    retrainings = Retrainings.load(tmp_path)
    (one,) = summarize(("mnist",), retrainings, [])
    assert "VBP" not in one.methods
    assert 'data-method="VBP"' in write_page([one], retrainings, [], tmp_path).read_text()


def test_a_measurement_without_that_of_seed_0_is_left_out(finished, tmp_path):
    shutil.copytree(finished / "results" / "ROAD", tmp_path / "ROAD")
    assert len(load_measurements(tmp_path)) == 1
    for path in (tmp_path / "ROAD").glob("*_seed0-*"):
        path.unlink()
    assert load_measurements(tmp_path) == []


def change(path: Path, values: dict[str, float], without: str = "", **configuration: Any) -> None:
    """Write a record again beside it, with another configuration and other numbers."""
    record = json.loads(path.read_text())
    changed = {name: value for name, value in record["configuration"].items() if name != without} | configuration
    name = path.name.rpartition("-")[0]
    write_record(path.with_name(f"{name}-{json_sha256(changed)[:12]}.json"), changed, record["result"] | values)


def test_quick_measurements_stand_in_no_table_of_others(finished, tmp_path):
    """Even if there are more of them."""
    shutil.copytree(finished / "results" / "ROAD", tmp_path / "ROAD")
    (quick,) = load_measurements(tmp_path)
    paths = list((tmp_path / "ROAD").iterdir())
    for path in paths:
        if "_RANDOM_" in path.name or "_VBP_" in path.name:
            change(path, {"whole_accuracy": 0.25}, without="quick", checkpoint_sum="0" * 64)
    parts = load_measurements(tmp_path)
    full = next(part for part in parts if not part.quick)
    assert len(parts) == 2
    assert len(full.methods) < len(quick.methods)
    assert full.baseline.mean == 0.25
    assert select_largest(parts, "ROAD", full.dataset, full.model) is full
    assert next(part for part in parts if part.quick).text == quick.text
    assert quick.stem.endswith("_quick") > full.stem.endswith("_quick")
    assert ("(quick)" in quick.title) > ("(quick)" in full.title)


def test_a_network_that_was_replaced_has_a_table_of_its_own(finished, tmp_path):
    """Even if more was measured with it; nothing of either is dropped."""
    shutil.copytree(finished / "results" / "ROAD", tmp_path / "ROAD")
    for path in list((tmp_path / "ROAD").glob("*_VBP_*")) or list((tmp_path / "ROAD").glob("*_RANDOM_*")):
        change(path, {"whole_accuracy": 0.25}, checkpoint_sum="0" * 64)
    (mixed,) = load_measurements(tmp_path)
    key = mixed.dataset, mixed.model
    now = {(*key, seed): frozenset({"0" * 64}) for seed in range(5)}
    old, new = sorted(load_measurements(tmp_path, networks=now), key=lambda one: len(one.methods), reverse=True)
    assert (old.model, new.model) == (f"{mixed.model}, since replaced", mixed.model)
    assert new.baseline.mean == 0.25 != old.baseline.mean
    assert ("since replaced" in old.title) > ("since replaced" in new.title)
    assert old.stem != new.stem


def test_methods_of_fewer_seeds_have_a_table_too(finished, tmp_path):
    folder = tmp_path / "ROAD"
    shutil.copytree(finished / "results" / "ROAD", folder)
    (whole,) = load_measurements(tmp_path)
    for path in folder.glob("*ReversedMap*_seed1-*"):
        path.unlink()
    largest, broadest = load_measurements(tmp_path)
    assert len(largest.seeds) == 2 > len(broadest.seeds)
    assert set(broadest.methods) == set(whole.methods) > set(largest.methods)
    assert "- evaluation.planted:ReversedMap: finished for seed 0 alone" in largest.text
    assert "finished for" not in broadest.text
    assert largest.stem != broadest.stem


def test_maps_of_another_precision_have_names_of_their_own(finished, tmp_path):
    folder = tmp_path / "ROAD"
    shutil.copytree(finished / "results" / "ROAD", folder)
    for path in list(folder.iterdir()):
        change(path, {}, map_dtype="float16")
    first, second = sorted(load_measurements(tmp_path), key=lambda one: one.stem)
    assert second.stem == f"{first.stem}_maps-float16"
    assert "maps-float16" in second.title


def test_quick_retrainings_stand_in_no_summary_beside_full_ones(tmp_path):
    save_runs(
        tmp_path,
        make_config(seeds=3, recipe=recipe_for("mnist", None, quick=True), limit_train=quick_train_images("mnist")),
    )
    save_runs(tmp_path, make_config(seeds=1))
    retrainings = Retrainings.load(tmp_path)
    assert len(retrainings.quick) == 1
    (one,) = retrainings.largest
    assert not one.quick


def test_measurements_of_other_images_have_other_names(finished, tmp_path):
    folder = tmp_path / "ROAD"
    shutil.copytree(finished / "results" / "ROAD", folder)
    for path in list(folder.iterdir()):
        change(path, {}, dataset_sum="0" * 64, checkpoint_sum="0" * 64)
    first, second = load_measurements(tmp_path)
    assert first.stem != second.stem
    assert {first.stem.rpartition("_")[2], second.stem.rpartition("_")[2]} >= {"images-000000"}


def test_names_from_outside_stay_text(tmp_path):
    bad = '<script>alert("x")</script>'
    one = Summary("mnist", "SimpleCNN", (Column("ROAR", bad, False, {bad: Estimate(0.5, 0.4, 0.6)}),))
    text = write_page([one], Retrainings((), ()), [], tmp_path).read_text()
    assert bad not in text
    assert "&lt;script&gt;" in text


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_real_browser_shows_it(written, width, tmp_path):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900", "--dump-dom"]
    # Its own script clicks on a head, and looks whether something sticks out to the right at this width.
    inspected = tmp_path / "inspected.html"
    look = (
        f"document.documentElement.style.width = '{width}px';"
        f"document.body.dataset.wide = document.body.scrollWidth > {width};"
    )
    click = "document.querySelector('table.sorts th:nth-child(2) button').click();"
    inspected.write_text(written.read_text().replace("</body>", f"<script>{click}{look}</script></body>"))
    found = subprocess.run(
        [*command, inspected.as_uri()], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert 'data-ready="yes"' in found, "the script ran"
    assert 'aria-sort="ascending"' in found
    assert 'data-wide="false"' in found


def test_nothing_measured_makes_no_page(tmp_path, capsys):
    assert main.main(["--report", f"--output-dir={tmp_path}"]) == 0
    assert not (tmp_path / "results" / "report.html").exists()
    assert load_measurements(tmp_path / "results") == []
