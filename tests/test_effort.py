"""The effort of an answer fits into the budget, and says what it left out."""

import pytest

from attribution import CONTROLS
from attribution.spec import MethodSpec
from common.errors import InputError
from experiments.effort import EFFORTS, Effort, Timing, choose_effort

METHODS = {MethodSpec("VBP"): 0.01, MethodSpec("IG"): 0.5, MethodSpec("RANDOM"): 0.0001, MethodSpec("SOBEL"): 0.0001}
TIMING = Timing(METHODS, forward=0.005, impute=0.002)


def seconds_of(effort: Effort, methods=METHODS) -> float:
    facts = TIMING.forward, TIMING.impute
    return sum(effort.seconds(each, *facts, spec.method in CONTROLS) for spec, each in methods.items())


def test_seconds_by_hand():
    effort = Effort(images=10, ratios=(0.2, 0.5), images_aside=4, removals=3, samples=2)
    maps, road = 2 * 1.0 + 0.1, 5 * 0.1 + 4 * 0.01  # the map's class; the whole image, and two ratios in two orders
    curves = 2 * 6 * 0.1  # insertion-deletion, and learned for the random map: whole, empty, and two ratios
    aside = (3 + 1 + 1 + 1 + 2) * 1.0  # selectivity's maps; the map, the random one, perturbed ones
    passes = (3 + 1 + 2 + 2) * 0.1  # selectivity's; the class, and infidelity's whole image and perturbed ones
    assert effort.seconds(1.0, 0.1, 0.01) == pytest.approx(10 * (maps + road + curves) + 4 * (aside + passes))
    assert effort.seconds(1.0, 0.1, 0.01, is_control=True) == pytest.approx(
        10 * (maps + road + curves / 2) + 4 * (aside + passes)
    )


@pytest.mark.parametrize("place", range(len(EFFORTS)))
def test_the_largest_effort_that_fits_is_taken(place):
    effort, remarks, left_out = choose_effort(TIMING, 1000, seconds_of(EFFORTS[place]) + 0.1)
    assert effort == EFFORTS[place]
    assert not left_out
    assert bool(remarks) == (place > 0)


def test_efforts_become_smaller():
    costs = [seconds_of(effort) for effort in EFFORTS]
    assert costs == sorted(costs, reverse=True)


def test_the_costliest_method_is_left_out_when_nothing_else_helps():
    cheap = {spec: each for spec, each in METHODS.items() if spec.method != "IG"}
    effort, _remarks, left_out = choose_effort(TIMING, 1000, seconds_of(EFFORTS[-1], cheap) + 0.1)
    assert effort == EFFORTS[-1]
    assert list(left_out) == [MethodSpec("IG")]
    _effort, _remarks, left_out = choose_effort(TIMING, 1000, 0.001)
    assert list(left_out) == [MethodSpec("IG")], "one method and the controls stay"


def test_no_more_images_than_there_are():
    effort, remarks, _left_out = choose_effort(TIMING, 30, 1e9)
    assert effort.images == 30
    assert not remarks
    configs = effort.configs({"fill": "blur"})
    assert configs["ROAD"].limit_test == 30
    assert configs["sanity"].limit_test == 30
    assert configs["insertion-deletion"].ratios[0] == 0
    assert configs["ROAD"].by_image


def test_a_fill_goes_only_where_an_evaluation_has_it():
    configs = Effort().configs({"fill": "blur"})
    fills = {name: config.fill for name, config in configs.items() if hasattr(config, "fill")}
    assert fills["ROAD"] == "linear"
    assert fills["insertion-deletion"] == fills["learned"] == "blur"
    assert fills["selectivity"] == Effort().configs({})["selectivity"].fill
    assert Effort().configs({"fill": "black"})["selectivity"].fill == "black"


def test_too_few_images_are_refused():
    with pytest.raises(InputError, match="9 images: an answer needs 10"):
        choose_effort(TIMING, 9, 1e9)
