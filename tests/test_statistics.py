import pytest

from evaluation.statistics import Curve, Estimate, estimate, verdict
from evaluation.tables import csv_table, markdown_table


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


def test_equal_seeds_have_no_width():
    assert estimate([0.5, 0.5], 10) == Estimate(0.5, 0.5, 0.5)


def curve(*means: float, sees: str = "image", half: float = 0.002, ratios=(0.1, 0.5, 0.9)) -> Curve:
    return Curve("GC", sees, ratios, tuple(Estimate(mean, mean - half, mean + half) for mean in means))


def test_area_by_hand():
    assert curve(1.0, 0.5, 0.0).area == pytest.approx(0.5)
    assert curve(1.0, 0.0, 0.0, ratios=(0.0, 0.1, 1.0)).area == pytest.approx(0.05)
    assert curve(0.7, ratios=(0.3,)).area == 0.7


@pytest.mark.parametrize(
    ("image", "mask", "words"),
    [
        ((0.99, 0.98, 0.97), (0.99, 0.99, 0.969), "explained by the mask at every ratio"),
        ((0.99, 0.98, 0.97), (0.99, 0.90, 0.969), "explained by the mask at 10 %, 90 %"),
        ((0.99, 0.98, 0.97), (0.95, 0.97, 0.96), "96% or more of it above chance can be read off the mask"),
        ((0.80, 0.71, 0.60), (0.30, 0.43, 0.33), "up to 54% of it above chance can be read off the mask"),
        ((0.99, 0.97, 0.75), (0.114, 0.113, 0.11), "the mask carries no class"),
        ((0.12, 0.11, 0.11), (0.11, 0.11, 0.11), "the mask carries no class"),
    ],
)
def test_verdict_says_whether_a_curve_can_be_believed(image, mask, words):
    assert words in verdict(curve(*image), curve(*mask, sees="mask"), chance=0.1)


def test_tables_hold_every_point():
    curves, baseline = [curve(0.9, 0.8, 0.7), curve(0.3, 0.2, 0.1, sees="mask")], Estimate(0.95, 0.94, 0.96)
    lines = markdown_table(curves, baseline).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["method", "0 %", "10 %", "50 %", "90 %", "area"]
    assert cells[2] == ["GC", "0.950 ± 0.010", "0.900 ± 0.002", "0.800 ± 0.002", "0.700 ± 0.002", "0.800"]
    assert cells[3][:3] == ["GC, mask alone", "", "0.300 ± 0.002"]
    assert csv_table(curves, baseline).splitlines()[:3] == [
        "method,sees,ratio,accuracy,low,high",
        "baseline,image,0,0.950000,0.940000,0.960000",
        "GC,image,0.1,0.900000,0.898000,0.902000",
    ]
