import numpy as np
import pytest
from scipy import integrate, stats

from evaluation.statistics import (
    Curve,
    Estimate,
    difference,
    estimate,
    mean_interval,
    proportion_interval,
    ranking,
    trapezoids,
    verdict,
)
from reporting.labels import spread
from reporting.tables import curves_csv, curves_table, gap_table


def test_interval_over_seeds_by_hand():
    """Mean 0.92, standard deviation 0.02, standard error 0.02/√3, t(0.975; 2) = 4.30265."""
    one = estimate([0.90, 0.92, 0.94], 10_000)
    assert one.mean == pytest.approx(0.92)
    assert one.high - one.mean == pytest.approx(4.30265 * 0.02 / 3**0.5, rel=1e-5)
    assert one.mean - one.low == pytest.approx(one.high - one.mean)


def test_interval_of_one_seed_by_hand():
    """Wilson's interval of 90 out of 100: (90 + z²/2 ± z√(9 + z²/4)) / (100 + z²), z = 1.959964."""
    one = estimate([0.9], 100)
    assert (one.low, one.high) == pytest.approx((0.825634, 0.944771), abs=1e-5)


@pytest.mark.parametrize(("hits", "total"), [(0, 7), (7, 7), (90, 100), (9911, 10_000)])
def test_interval_of_a_share_is_scipys(hits, total):
    one = proportion_interval(hits, total)
    wanted = stats.binomtest(hits, total).proportion_ci(0.95, "wilson")
    assert (one.low, one.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_interval_of_a_mean_and_areas_are_scipys(count):
    values = np.random.default_rng(count).normal(0.9, 0.01, count)
    one = mean_interval(values)
    wanted = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert (one.low, one.high) == pytest.approx(wanted, abs=1e-9)
    places = np.sort(np.random.default_rng(0).uniform(size=count))
    wanted = integrate.trapezoid(values, places) / (places[-1] - places[0])
    assert trapezoids(values, places) == pytest.approx(wanted)


def test_names_at_the_ends_of_curves_lie_apart():
    assert spread([0.2, 0.9, 0.9], 0.1, 0.0, 1.0) == pytest.approx([0.2, 0.85, 0.95])
    assert spread([0.1, 0.15, 0.15], 0.1, 0.05, 1.0) == pytest.approx([0.05, 0.15, 0.25]), "not below the bottom"
    assert spread([0.9, 1.0, 1.0], 0.1, 0.0, 1.0) == pytest.approx([0.8, 0.9, 1.0]), "not above the top"
    assert spread([0.5, 0.5, 0.5], 0.9, 0.0, 1.0) == pytest.approx([0.0, 0.5, 1.0]), "closer where they don't fit"
    assert spread([], 0.1, 0.0, 1.0) == []


def test_equal_seeds_have_no_width():
    assert estimate([0.5, 0.5], 10) == Estimate(0.5, 0.5, 0.5)


def curve(*means: float, network_input: str = "image", half: float = 0.002, ratios=(0.1, 0.5, 0.9)) -> Curve:
    made = Curve("GC", network_input, ratios, tuple((mean,) for mean in means), 1000)
    made.__dict__["estimates"] = [Estimate(mean, mean - half, mean + half) for mean in means]
    return made


def test_area_by_hand():
    assert curve(1.0, 0.5, 0.0).area == pytest.approx(0.5)
    assert curve(1.0, 0.0, 0.0, ratios=(0.0, 0.1, 1.0)).area == pytest.approx(0.05)
    assert curve(0.7, ratios=(0.3,)).area == 0.7


@pytest.mark.parametrize(
    ("image", "mask", "words"),
    [
        ((0.99, 0.98, 0.97), (0.99, 0.99, 0.969), "explained by the mask at every ratio"),
        (
            (0.99, 0.98, 0.97),
            (0.99, 0.90, 0.969),
            "91% or more of it above chance can be read off the mask, within the interval all of it at 10 %, 90 %",
        ),
        ((0.99, 0.98, 0.97), (0.99, 0.50, 0.969), "explained by the mask at 10 %, 90 %"),
        ((0.99, 0.98, 0.97), (0.95, 0.97, 0.96), "96% or more of it above chance can be read off the mask"),
        ((0.80, 0.71, 0.60), (0.30, 0.43, 0.33), "up to 54% of it above chance can be read off the mask"),
        ((0.99, 0.97, 0.75), (0.114, 0.113, 0.11), "the mask carries no class"),
        ((0.12, 0.11, 0.11), (0.11, 0.11, 0.11), "the mask carries no class"),
    ],
)
def test_verdict_says_whether_a_curve_can_be_believed(image, mask, words):
    assert words in verdict(curve(*image), curve(*mask, network_input="mask"), chance=0.1)


def test_tables_hold_every_point():
    curves, baseline = [curve(0.9, 0.8, 0.7), curve(0.3, 0.2, 0.1, network_input="mask")], Estimate(0.95, 0.94, 0.96)
    lines = curves_table(curves, baseline).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["method", "0 %", "10 %", "50 %", "90 %", "area", "area − RANDOM's", "ties"]
    assert cells[2] == ["GC", "0.950 ± 0.010", "0.900 ± 0.002", "0.800 ± 0.002", "0.700 ± 0.002", "0.800", "", "0%"]
    assert cells[3][:3] == ["GC, mask alone", "", "0.300 ± 0.002"]
    assert curves_csv(curves, baseline).splitlines()[:3] == [
        "method,sees,ratio,accuracy,low,high",
        "baseline,image,0,0.950000,0.940000,0.960000",
        "GC,image,0.1,0.900000,0.898000,0.902000",
    ]


def seeded(method: str, *by_ratio: tuple[float, ...], ratios=(0.1, 0.5, 0.9)) -> Curve:
    return Curve(method, "image", ratios, by_ratio, 1000, tied=0.5)


A = seeded("A", (0.9, 0.8), (0.7, 0.8), (0.5, 0.4))
B = seeded("B", (0.9, 0.81), (0.71, 0.8), (0.52, 0.38))
RANDOM = seeded("RANDOM", (0.9, 0.9), (0.9, 0.9), (0.9, 0.9))


def test_areas_of_each_seed_by_hand():
    """By trapezoids of width 0.4, divided by 0.8: (first + 2 · second + third) / 4."""
    assert A.areas == pytest.approx([(0.9 + 1.4 + 0.5) / 4, (0.8 + 1.6 + 0.4) / 4])
    assert A.area == pytest.approx(0.7)
    assert seeded("A", (0.3, 0.5), ratios=(0.5,)).areas == [0.3, 0.5]


def test_difference_is_paired_by_seed():
    """Differences 0.3 and 0.1: mean 0.2, standard error 0.1, t(0.975; 1) = 12.7062."""
    one = difference([0.9, 0.5], [0.6, 0.4])
    assert one.mean == pytest.approx(0.2)
    assert one.half == pytest.approx(12.7062 * 0.1, rel=1e-5)
    assert difference([0.9], [0.6]) is None


def test_ranking_says_what_cannot_be_told_apart():
    assert ranking([RANDOM, A], lowest_first=True) == "A > RANDOM"
    assert ranking([A, RANDOM], lowest_first=False) == "RANDOM > A"
    distance = difference(B.areas, A.areas)
    assert distance.low < 0 < distance.high
    assert ranking([B, RANDOM, A], lowest_first=True) == "A ≈ B > RANDOM"


def test_tables_compare_with_random_and_kar_with_roar():
    (_head, _line, row, _random) = curves_table([A, RANDOM], Estimate(0.95, 0.94, 0.96)).splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[-3:] == ["0.700 ± 0.000", "-0.200 ± 0.000", "50%"]
    row = gap_table([A, RANDOM], [RANDOM, B, seeded("A", (1.0, 0.9), (1.0, 0.9), (1.0, 0.9))]).splitlines()[2]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["A", "0.700 ± 0.000"]
    assert cells[3] == f"+0.250 ± {12.7062 * 0.05:.3f}"


def test_a_wide_interval_explains_nothing():
    image = Curve("GC", "image", (0.5,), ((0.97, 0.90),), 1000)
    mask = Curve("GC", "mask", (0.5,), ((0.50,),), 1000)
    assert image.estimates[0].low < 0.5
    assert "too wide to tell" in verdict(image, mask, chance=0.1)
    reaching = Curve("GC", "mask", (0.5,), ((0.93,),), 1000)
    assert "explained by the mask at every ratio" in verdict(image, reaching, chance=0.1)


def test_names_of_many_methods_fit_into_a_file_name():
    from attribution import ANY_MODEL_METHODS, ENSEMBLES
    from attribution.spec import MethodSpec, methods_stem

    plain = [MethodSpec(method) for method in ANY_MODEL_METHODS]
    assert methods_stem(plain) == "all"
    assert methods_stem(plain[:2]) == "VBP-IB"
    many = [*plain, *(MethodSpec(method, ensemble) for method in ANY_MODEL_METHODS for ensemble in ENSEMBLES)]
    assert len(methods_stem(many)) < 40
    assert methods_stem(many) != methods_stem(many[:-1])
