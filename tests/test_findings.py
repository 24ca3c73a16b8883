"""The findings: intervals, turning verdicts, one network for each seed, and figures that need no deciphering."""

import re
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from attribution import ANY_MODEL_METHODS, CONTROLS
from attribution.spec import MethodSpec
from data import DATASETS
from evaluation import REMOVING
from evaluation.runs import MaskOptions
from evaluation.statistics import Estimate, correlation_interval
from models import ATTENTIONS, NO_ATTENTION
from reporting import findings_figures
from reporting.findings import agree, evidence, fastest, halves, turning_verdicts
from reporting.groups import _one_network_a_seed
from reporting.labels import TITLES
from reporting.retraining_summary import RetrainingSummary
from reporting.roar_findings import gradcam_models
from reporting.smoothness_findings import SMOOTH, blurred, smooth
from reporting.summary import Published
from reporting.tables import mark

PUBLISHED = Published(Path(__file__).parents[1] / "results" / "published")


def test_correlations_have_intervals_that_cover_95_percent():
    """Of Spearman's correlation of 15 draws from a bivariate normal distribution; its own mean is the true value."""
    random, count, covered = np.random.default_rng(0), 15, 0
    covariance = [[1, 0.6], [0.6, 1]]
    truth = 6 / np.pi * np.arcsin(0.6 / 2)
    for _ in range(1000):
        first, second = random.multivariate_normal([0, 0], covariance, count).T
        interval = correlation_interval(float(stats.spearmanr(first, second).statistic), count)
        covered += interval.low <= truth <= interval.high
    assert 920 <= covered <= 980
    assert correlation_interval(1.0, 5) == Estimate(1.0, 1.0, 1.0)


def test_a_difference_is_marked_if_its_interval_lies_on_one_side_of_zero():
    assert [mark(Estimate(0.1, low, 0.3)) for low in (0.05, -0.05)] == ["▲", ""]
    assert mark(Estimate(-0.1, -0.2, -0.05)) == "▼"
    assert mark(None) == ""


def test_verdicts_that_turn_are_named():
    road = turning_verdicts(
        "ROAD", {"signed": {"VBP": "▼", "GC": "▲"}, "absolute": {"VBP": "▲", "GC": "▲"}}, ["VBP", "GC"]
    )
    srg = turning_verdicts("SRG", {"signed": {"GC": ""}, "absolute": {"GC": ""}}, ["GC"])
    assert "VBP (signed worse, absolute better)" in road
    assert "GC" not in road
    assert "no method" in srg


def test_a_table_never_mixes_two_networks_of_one_seed():
    """A network that was trained again has records of its own under the same method and seed."""
    old = {(MethodSpec("VBP"), 0): {"value": 1}, (MethodSpec("GC"), 0): {"value": 2}}
    new = {(MethodSpec("VBP"), 0): {"value": 3}}
    other_seed = {(MethodSpec("VBP"), 1): {"value": 4}}
    for order in ((old, new, other_seed), (other_seed, new, old)):
        assert _one_network_a_seed(dict(enumerate(map(dict, order)))) == old | other_seed


def test_roar_and_kar_agree_as_the_areas_of_their_curves_say():
    """In ROAR a low curve is good, in KAR a high one."""
    roar, kar = (
        [summary for summary in PUBLISHED.retrainings.largest if _is_default(summary, evaluation)]
        for evaluation in ("ROAR", "KAR")
    )
    line = next(line for line in agree(PUBLISHED).splitlines() if line.startswith("| ROAR and KAR"))
    for low, high, text in zip(roar, kar, line.strip("|").split("|")[1:], strict=True):
        areas = [{curve.method: np.mean(curve.areas) for curve in summary.image_curves} for summary in (low, high)]
        pairs = [(-area, areas[1][method]) for method, area in areas[0].items() if "blurred" not in method]
        expected = stats.spearmanr(*zip(*pairs, strict=True)).statistic
        assert float(text.split()[0]) == pytest.approx(expected, abs=0.005)


def _is_default(summary: RetrainingSummary, evaluation: str) -> bool:
    return (summary.evaluation, summary.model, summary.config.masks) == (evaluation, NO_ATTENTION, MaskOptions())


def test_the_two_orders_of_removal_add_up_to_the_gap():
    number = re.compile(r"[+-]\d\.\d{3}(?= ±)")
    for table, dataset in zip(halves(PUBLISHED).split("\n\n"), DATASETS, strict=True):
        _head, _line, *rows = table.strip().splitlines()
        gains = [PUBLISHED.largest(evaluation, dataset).gains for evaluation in REMOVING]
        assert len(rows) == len(gains[0]) >= 10
        for row in rows:
            name, *cells = (cell.strip() for cell in row.strip("|").split("|"))
            found = [float(number.match(cell).group()) for cell in cells]
            sums = [morf + lerf for morf, lerf in zip(found[::2], found[1::2], strict=True)]
            assert sums == pytest.approx([of_evaluation[name].mean for of_evaluation in gains], abs=0.0011)


def test_beside_a_smooth_random_map_the_intervals_are_those_of_the_images():
    """By scipy, of the values of images in the records."""
    for table, dataset in zip(smooth(PUBLISHED).split("\n\n"), DATASETS, strict=True):
        head, _line, *rows = (
            [cell.strip() for cell in row.strip("|").split("|")] for row in table.strip().splitlines()
        )
        of_evaluation = {
            summary.evaluation: summary
            for summary in PUBLISHED.measurements
            if summary.dataset == dataset and SMOOTH in getattr(summary, "methods", ())
        }
        assert {name for name, *_cells in rows} >= {"VBP", "IB", "GC", "CO", "RANDOM", "SOBEL"}
        assert not [name for name, *_cells in rows if "blurred" in name]
        for name, *cells in rows:
            for title, text in zip(head[1:], cells, strict=True):
                evaluation, order, _falls, word = title.replace(",", "").split()
                results, key = of_evaluation[evaluation].results, {"MoRF": "most", "LeRF": "least"}[order]
                own, control = (results[spec, 0]["image_area"][key] for spec in (MethodSpec(name), SMOOTH))
                values = np.subtract(own, control) * (1 if word == "slower" else -1)
                half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
                assert text.split(" ")[:3] == [f"{values.mean():+.3f}", "±", f"{half:.3f}"]
                is_told_apart = abs(values.mean()) > half
                assert text.endswith(("▲", "▼")) == is_told_apart


def test_gaps_of_blurred_maps_stand_beside_their_own():
    head, _line, *rows = (
        [cell.strip() for cell in row.strip("|").split("|")] for row in blurred(PUBLISHED).splitlines()
    )
    assert head[1:3] == ["MNIST: ROAD", "MNIST: ROAD, blurred"]
    results = next(
        summary.results
        for summary in PUBLISHED.measurements
        if (summary.dataset, summary.evaluation) == ("mnist", "ROAD") and SMOOTH in summary.methods
    )
    for name, own, after, *_others in rows:
        first, second = (np.array(results[MethodSpec(name, blur=blur), 0]["image_gap"]) for blur in (False, True))
        assert [own.split()[0], after.split()[0]] == [f"{first.mean():.3f}", f"{second.mean():.3f}"]
        low, high = stats.ttest_rel(second, first).confidence_interval()
        assert after.split()[3:] == (["▲"] if low > 0 else ["▼"] if high < 0 else [])


def test_evidence_counts_what_holms_correction_leaves():
    """Beside p values of scipy, sorted and multiplied by hand."""
    gaps = {key: PUBLISHED.largest(*key).gaps for key in product(REMOVING, DATASETS)}
    for place, control in enumerate(CONTROLS, start=1):
        p = {}
        for key, of_key in gaps.items():
            for name in of_key.keys() - CONTROLS:
                result = stats.ttest_rel(of_key[name], of_key[control])
                p[name, key] = result.pvalue, result.statistic > 0
        left, survivors = len(p), Counter()
        for (name, _key), (value, is_better) in sorted(p.items(), key=lambda item: item[1][0]):
            if value * left >= 0.05:
                break
            survivors[name, is_better] += 1
            left -= 1
        for row in evidence(PUBLISHED).splitlines()[2 : 2 + len({name for name, _key in p})]:
            name, *cells = (cell.strip() for cell in row.strip("|").split("|"))
            better, worse = re.findall(r"\((\d+)\)", cells[place - 1])
            assert (int(better), int(worse)) == (survivors[name, True], survivors[name, False]), (name, control)
        assert survivors


def test_the_originals_three_have_their_places():
    for dataset, line in zip(DATASETS, fastest(PUBLISHED).splitlines(), strict=True):
        summary = PUBLISHED.largest("selectivity", dataset)
        areas = {curve.method: curve.areas.mean() for curve in summary.curves if curve.method not in CONTROLS}
        places = ", ".join(f"{name} {sorted(areas, key=areas.get).index(name) + 1}" for name in ("IB", "GB", "GB-GC"))
        assert line.endswith(f"of {len(areas)}: {places}.")


@pytest.mark.parametrize("name", ["masks", "removal", "ranks"])
def test_figures_of_findings_name_every_method(name):
    figure = getattr(findings_figures, name)(PUBLISHED)
    labels = {label.get_text() for label in figure.axes[0].get_yticklabels()}  # of the other panels, too
    assert {*ANY_MODEL_METHODS} - {"RANDOM"} <= labels
    assert len({len(axes.get_yticklabels()) for axes in figure.axes}) == 1
    assert figure.get_suptitle()


def test_models_are_compared_in_their_usual_order():
    names = [row.split("|")[1].strip() for row in gradcam_models(PUBLISHED).splitlines()[2:]]
    expected = [f"{TITLES[dataset]}, {model}" for dataset, model in product(DATASETS, (NO_ATTENTION, *ATTENTIONS))]
    assert names == [name for name in expected if name in names] != []


def test_notes_of_figures_have_two_lines_at_most():
    summaries = [*PUBLISHED.retrainings.summaries, *PUBLISHED.measurements, *PUBLISHED.summaries]
    assert len(summaries) > 10
    for summary in summaries:
        for figure in summary.figures().values():
            assert figure.texts[-1].get_text().count("\n") <= 1, summary.title
