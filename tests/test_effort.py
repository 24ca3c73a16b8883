"""The effort of an answer fits into the budget, and says what it left out."""

from collections import Counter

import pytest
import torch
from torch import nn

from attribution import CONTROLS
from attribution.spec import MethodSpec
from common.errors import InputError
from evaluation.given import GivenArtefacts, measure_given
from evaluation.protocol import Work
from evaluation.registry import EVALUATIONS
from experiments.effort import EFFORTS, Effort, Timing, choose_effort, require_values
from tests.small_network import small_network

METHODS = {MethodSpec("VBP"): 0.01, MethodSpec("IG"): 0.5, MethodSpec("RANDOM"): 0.0001, MethodSpec("SOBEL"): 0.0001}
COUNTED: Counter[str] = Counter()  # by copies of a network, too
TIMING = Timing(METHODS, forward=0.005, impute=0.002)


def seconds_of(effort: Effort, methods=METHODS) -> float:
    return sum(TIMING.seconds(spec, effort.work({}, spec.method in CONTROLS)) for spec in methods)


def test_work_by_hand():
    effort = Effort(images=10, ratios=(0.2, 0.5), images_aside=4, removals=3, samples=2)
    road = 1 + 2 * 2  # the whole image, and two fractions in two orders
    curve = 1 + 2 * 2 + 1  # and the empty one: of insertion-deletion, and in learned of the random map
    maps = 3 + 1 + 1 + 2  # of selectivity; the map, the random one, and of perturbed images
    logits = 4 + 2 + 2  # of selectivity; the class, and infidelity's of the whole image and of perturbed ones
    own = Work(maps=10, logits=10)
    assert effort.work({}) == own + Work(10 + 4 * maps, 10 * (road + 2 * curve) + 4 * logits, 10 * 4)
    assert effort.work({}, is_control=True) == effort.work({}) + Work(logits=-10 * curve)


def test_options_change_the_work():
    effort = Effort()
    assert effort.work({"removals": 30}).maps - effort.work({}).maps == 50 * 20
    assert effort.work({"ratios": (0.5,)}).imputed == 200 * 2


class Counting(nn.Module):
    """A network, and a method that calls only a layer of it, which count their images in `COUNTED`."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_network()

    def forward(self, images):
        COUNTED["logits"] += len(images)
        return self.network(images)

    def attribute(self, inputs, target):
        COUNTED["maps"] += len(inputs)
        return self.network[0](inputs)[:, :1].detach()


@pytest.mark.parametrize("name", EVALUATIONS)
def test_work_is_what_is_computed(name):
    count, images = Counting(), 12
    spec, evaluation = MethodSpec("own"), EVALUATIONS[name]
    config = evaluation.configure(limit_test=images, by_image=True, removals=5, stages=2, samples=3)
    artefacts = GivenArtefacts(count, torch.rand(images, 3, 8, 8), torch.zeros(images).long(), {spec: count}, None)
    if evaluation.needs_maps:
        artefacts.make_maps(spec, *evaluation.ranking(config))
    if part := evaluation.includes(config):
        artefacts.included = measure_given(*part, artefacts, spec, lambda _: None)
    artefacts.explainer(spec, artefacts.model)  # which tries it
    COUNTED.clear()
    evaluation.measure(config, spec, artefacts, lambda _: None)
    work = evaluation.work(config)
    trials = 3 * images  # by which a cascade is checked to change the output
    assert COUNTED["maps"] == work.maps
    assert work.logits <= COUNTED["logits"] <= work.logits + (trials if name in ("sanity", "learned") else 0)


@pytest.mark.parametrize("place", range(len(EFFORTS)))
def test_the_largest_effort_that_fits_is_taken(place):
    effort, remarks, left_out = choose_effort(TIMING, {}, 1000, seconds_of(EFFORTS[place]) + 0.1)
    assert effort == EFFORTS[place]
    assert not left_out
    assert bool(remarks) == (place > 0)


def test_efforts_become_smaller():
    costs = [seconds_of(effort) for effort in EFFORTS]
    assert costs == sorted(costs, reverse=True)


def test_the_costliest_method_is_left_out_when_nothing_else_helps():
    cheap = {spec: each for spec, each in METHODS.items() if spec.method != "IG"}
    effort, _remarks, left_out = choose_effort(TIMING, {}, 1000, seconds_of(EFFORTS[-1], cheap) + 0.1)
    assert effort == EFFORTS[-1]
    assert list(left_out) == [MethodSpec("IG")]
    _effort, _remarks, left_out = choose_effort(TIMING, {}, 1000, 0.001)
    assert list(left_out) == [MethodSpec("IG")], "one method and the controls stay"


def test_no_more_images_than_there_are():
    effort, remarks, _left_out = choose_effort(TIMING, {}, 30, 1e9)
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
        require_values({}, 9, 100)


def test_more_removals_than_pixels_are_refused():
    require_values({"removals": 20}, 10, 100)
    for wrong in ({"removals": 21}, {"removals": 2, "share": 0.6}):
        with pytest.raises(InputError, match="more than an image's 100 pixels"):
            require_values(wrong, 10, 100)
