"""The answer where the truth is known: a network that looks for one bright patch, in images of 64 pixels."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whitebox

SIDE, PATCH, COUNT = 64, 12, 40


class PatchFinder(nn.Module):
    """The logit of each quadrant is its brightest window: the relevant pixels are those of one window."""

    def __init__(self) -> None:
        super().__init__()
        self.window = nn.Conv2d(1, 1, PATCH, bias=False)
        self.window.weight.data.fill_(25 / PATCH**2)

    def forward(self, images):
        return F.adaptive_max_pool2d(self.window(images), 2).flatten(1)


class Gradient:
    """The gradient, which is the window; or made wrong."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def attribute(self, inputs, target):
        inputs = inputs.detach().requires_grad_()
        logits = self.model(inputs).gather(1, target.view(-1, 1))
        return self.change(torch.autograd.grad(logits.sum(), inputs)[0])

    def change(self, maps):
        return maps


class Reversed(Gradient):
    def change(self, maps):
        return -maps


class Shifted(Gradient):
    """Right for no image: the window lies elsewhere."""

    def change(self, maps):
        return maps.roll((SIDE // 2, SIDE // 2), (2, 3))


@pytest.fixture(scope="module")
def images():
    """Noise with a bright patch in one quadrant: images (N, 1, 64, 64) and their quadrants."""
    generator = torch.Generator().manual_seed(0)
    images = 0.2 * torch.rand(COUNT, 1, SIDE, SIDE, generator=generator)
    labels = torch.arange(COUNT) % 4
    for image, label in zip(images, labels, strict=True):
        top, left = (torch.randint(0, SIDE // 2 - PATCH, (2,), generator=generator) + 1).tolist()
        top, left = top + SIDE // 2 * (label // 2), left + SIDE // 2 * (label % 2)
        image[0, top : top + PATCH, left : left + PATCH] += 0.6
    return images, labels


@pytest.fixture(scope="module")
def answer(images):
    model = PatchFinder().eval()
    methods = [Gradient(model), Reversed(model), Shifted(model)]
    return whitebox.evaluate(model, *images, methods=methods, evaluation="trust", budget=5)


def test_the_right_map_is_recommended(answer):
    assert answer.recommended == ["Gradient"]
    assert answer.headline == "Use Gradient."
    assert answer.baseline.mean == 1


@pytest.mark.parametrize("evaluation", ["ROAD", "insertion-deletion", "selectivity"])
def test_the_right_map_wins_and_the_reversed_one_loses(answer, evaluation):
    part = next(part for part in answer.evaluations if part.name == evaluation)
    assert part.ranking[0] == "Gradient"
    assert part.against("RANDOM")["Gradient"].is_better
    assert part.against("RANDOM")["Reversed"].mean < part.against("RANDOM")["Gradient"].mean
    if evaluation != "selectivity":  # its values begin at the whole image, whatever the map
        assert part.ranking[-1] == "Reversed"
        random = part.values["RANDOM"]
        assert abs(random.mean()) < 2.1 * random.std() / COUNT**0.5, "the interval of RANDOM covers 0"


def test_with_maps_that_are_right_for_no_image_the_answer_is_none(images):
    model = PatchFinder().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    answer = whitebox.evaluate(model, *images, methods=[Reversed(model), Shifted(model)], evaluation="trust", budget=5)
    assert answer.recommended == []
    assert answer.headline == "None."
    assert "ROAD" in answer.reason("Shifted")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "left as it was"
    assert "no method" in answer.text.lower()


def test_a_method_of_an_object_sees_the_random_weights(answer):
    assert answer.judgements["Gradient"].depends_on_learning
    assert not answer.judgements["Shifted"].depends_on_learning
    likeness = next(part for part in answer.evaluations if part.name == "likeness")
    assert likeness.values["Gradient"].mean() < 0.9


def test_without_labels_there_is_an_answer_but_no_accuracy(images):
    model = PatchFinder().eval()
    answer = whitebox.evaluate(model, images[0], methods=[Gradient(model)], evaluation="trust", budget=5)
    assert answer.recommended == ["Gradient"]
    assert "not known" in answer.accuracy_line
