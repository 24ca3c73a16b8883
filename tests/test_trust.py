"""Judgement of explanations from values of each image: Holm's correction, groups, and who is trusted."""

import numpy as np
import pytest
from scipy import stats

from common.errors import InputError
from evaluation.trust import (
    DECIDING,
    LEARNED,
    Comparison,
    ImageValues,
    compare_family,
    holm,
    judge,
    recommend,
    student_p,
)

RANDOM = np.random.default_rng(0)


def test_p_is_that_of_the_paired_t_test() -> None:
    first, second = RANDOM.normal(0.1, 1, 50), RANDOM.normal(0, 1, 50)
    assert student_p(first - second) == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-12)


def test_p_of_constant_differences() -> None:
    assert student_p(np.zeros(20)) == 1
    assert student_p(np.full(20, 0.3)) == 0
    assert student_p(np.full(20, -0.3)) == 0


def test_holm_on_the_worked_example() -> None:
    # 0.01·4, 0.02·3, 0.03·2 = 0.06 (not below the one before), 0.04·1 -> 0.06
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1, 1]
    assert holm([]) == []


def test_holm_holds_the_error_of_the_family() -> None:
    """Without any true difference at most about one family in twenty has a finding; without correction many have."""
    families = RANDOM.normal(size=(400, 10, 40))
    found = [any(c.is_different for c in compare_family(dict(enumerate(family))).values()) for family in families]
    assert np.mean(found) < 0.09
    alone = [any(student_p(values) < 0.05 for values in family) for family in families]
    assert np.mean(alone) > 0.25


def values_of(name: str, means: dict[str, float], noise: float = 0.2, higher: bool = True) -> ImageValues:
    generator = np.random.default_rng(1)
    hardness = generator.normal(0, 1, 100)  # of the images, which pairing removes
    values = {method: mean + hardness + generator.normal(0, noise, 100) for method, mean in means.items()}
    return ImageValues(name, "", higher, values)


MEANS = {"IG": 0.5, "GC": 0.48, "VBP": 0.2, "RANDOM": 0.0, "SOBEL": 0.1}
LEARNED_VALUES = {"IG": 0.3, "GC": 0.3, "VBP": 0.3}


def evaluations(**changes: dict[str, float]) -> list[ImageValues]:
    parts = [values_of(name, MEANS | changes.get(name.replace("-", "_"), {})) for name in DECIDING]
    generator = np.random.default_rng(2)
    learned = LEARNED_VALUES | changes.get("learned", {})
    values = {method: mean + generator.normal(0, 0.1, 100) for method, mean in learned.items()}
    return [*parts, ImageValues(LEARNED, "", True, values)]


def test_groups_hold_those_that_cannot_be_told_apart() -> None:
    assert values_of("ROAD", MEANS, noise=0.15).groups == [["IG", "GC"], ["VBP"], ["SOBEL"], ["RANDOM"]]


def test_lower_values_can_be_better() -> None:
    values = values_of("selectivity", {method: -mean for method, mean in MEANS.items()}, higher=False)
    assert values.ranking[0] in ("IG", "GC") and values.ranking[-1] == "RANDOM"
    assert values.against("RANDOM")["IG"].mean == pytest.approx(0.5, abs=0.1)
    assert values.against("RANDOM")["IG"].is_better


def test_a_method_that_beats_both_controls_is_trusted() -> None:
    assert recommend(evaluations()) == ["IG", "GC", "VBP"]


@pytest.mark.parametrize(
    ("changes", "trusted"),
    [
        ({"ROAD": {"VBP": -0.4}}, ["IG", "GC"]),
        ({"insertion_deletion": {"IG": 0.1}}, ["GC", "VBP"]),  # beats RANDOM, not SOBEL
        ({"learned": {"GC": 0.0}}, ["IG", "VBP"]),  # equals the map of random weights
        ({"learned": {"IG": -0.3, "GC": 0.0, "VBP": -1.0}}, []),
        ({"ROAD": dict.fromkeys(LEARNED_VALUES, 0.0)}, []),  # right for no image
    ],
)
def test_a_method_that_loses_a_comparison_is_not(changes: dict[str, dict[str, float]], trusted: list[str]) -> None:
    assert recommend(evaluations(**changes)) == trusted


def test_nobody_is_trusted_where_a_part_is_missing() -> None:
    parts = evaluations()
    assert recommend(parts[:2]) == []
    assert recommend([parts[0], parts[2]]) == []
    without = [ImageValues(p.name, "", True, {m: v for m, v in p.values.items() if m != "SOBEL"}) for p in parts]
    assert recommend(without) == []


def test_a_judgement_names_the_lost_comparisons() -> None:
    judgement = judge(evaluations(ROAD={"VBP": 0.1}))["VBP"]
    assert judgement.lost == [("ROAD", "SOBEL")]
    assert not Comparison(-0.1, -0.2, 0.0, 0.001).is_better


def test_a_network_of_ours_has_methods_left_out_too(data_dir, tmp_path):
    from experiments.request import Request
    from experiments.trust import Trust

    values = {"eval": ("trust",), "target": ("mnist",), "quick": True, "output_dir": tmp_path, "data_dir": data_dir}
    (pipeline,) = Request.of(values).pipelines()
    trust = Trust(Request.of(values), pipeline)
    assert {method.method for method in trust.methods} >= {"VBP", "IB", "GC", "RANDOM", "SOBEL"}
    assert {"CAM", "ROLLOUT"} <= set(trust.left_out)
    quick = Request.of(values | {"method": ("GC",)})
    assert {method.method for method in Trust(quick, pipeline).methods} == {"GC", "RANDOM", "SOBEL"}
    with pytest.raises(InputError, match="CAM head"):
        _ = Trust(Request.of(values | {"method": ("CAM",)}), pipeline).methods
