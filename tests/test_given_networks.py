"""`whitebox.evaluate` on networks and images of every kind, compared with plain loops."""

from types import SimpleNamespace

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from torch import nn

import whitebox
from attribution.spec import MethodSpec
from common.errors import InputError
from evaluation.given import GivenArtefacts

RATIOS = (0.1, 0.4, 0.8)
REMOVE = {"evaluation": "insertion-deletion", "fill": "mean", "ratios": RATIOS}


def network(classes: int = 5) -> nn.Sequential:
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(24, classes))


class Viewing(nn.Module):
    """Reads its activations by `view`, which channels_last forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 12 * 10, 5)

    def forward(self, images):
        activation = self.first(images).relu()
        return self.last(activation.view(len(images), -1))


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, images):
        return {"loss": None, "logits": self.inner(images)}


def pruned() -> nn.Module:
    model = network()
    nn.utils.prune.l1_unstructured(model[0], "weight", 0.5)
    return model


def with_weight_norm() -> nn.Module:
    model = network()
    nn.utils.weight_norm(model[0])
    return model


NETWORKS = {
    "view": Viewing,
    "names": Named,
    "double": lambda: network().double(),
    "bfloat16": lambda: network().bfloat16(),
    "one logit": lambda: network(1),
    "two": lambda: network(2),
    "pruned": pruned,
    "weight norm": with_weight_norm,
    "frozen": lambda: network().requires_grad_(False),
    "a training flag": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(320, 5)).train(),
}


def logits_of(model: nn.Module, images):
    """The logits in float32; of one logit z they are −z/2 and z/2."""
    output = model(images.to(next(model.parameters()).dtype))
    logits = (output["logits"] if isinstance(output, dict) else output).float()
    return torch.cat([-logits, logits], 1) / 2 if logits.shape[1] == 1 else logits


def test_layers_of_a_network_with_one_logit_have_their_own_names():
    torch.manual_seed(0)
    model, images = network(1).eval(), torch.randn(4, 3, 12, 12)
    layer = next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    artefacts = GivenArtefacts(model, images, None, {})
    explainer, judged = artefacts.explainer(MethodSpec.of("GC", layer=layer), artefacts.model)
    assert judged.is_binary
    got = explainer.attribute(images, torch.ones(4, dtype=torch.int64))
    torch.testing.assert_close(2 * got, whitebox.explain(model, images, 0, "GC", layer=layer))


class Gradient:
    """The caller's own method; with `fails` it raises after it has spoilt the network."""

    def __init__(self, model: nn.Module, fails: bool = False) -> None:
        self.model, self.fails = model, fails

    def attribute(self, inputs, target):
        leaf = inputs.detach().clone().requires_grad_()
        logits_of(self.model, leaf).gather(1, target.view(-1, 1)).sum().backward()  # leaves gradients behind
        if self.fails:
            raise ZeroDivisionError
        return leaf.grad


def test_of_one_logit_a_method_must_explain_two_classes(images):
    torch.manual_seed(0)
    model = network(1).eval()
    ignoring = SimpleNamespace(attribute=lambda inputs, target: Gradient(model).attribute(inputs, 1 + 0 * target))
    for method in (captum.attr.Saliency(model), captum.attr.InputXGradient(model), ignoring):
        with pytest.raises(InputError, match="must explain class 0 by -z / 2"):
            whitebox.evaluate(model, images, None, [method], **REMOVE)
    by_name = whitebox.evaluate(model, images, None, ["IB"], **REMOVE)
    both = nn.Sequential(model, nn.Linear(1, 2, bias=False)).eval()
    both[1].weight.data = torch.tensor([[-0.5], [0.5]])
    of_both = whitebox.evaluate(both, images, None, [captum.attr.InputXGradient(both)], **REMOVE)
    gap = of_both.results[MethodSpec("InputXGradient"), 0]["image_gap"]
    np.testing.assert_allclose(by_name.results[MethodSpec("IB"), 0]["image_gap"], gap, atol=1e-5)


def among_others(inputs, target):
    return inputs - inputs.mean(0, keepdim=True)


GENERATOR = torch.Generator()


def own_generator(inputs, target):
    return torch.rand(inputs.shape, generator=GENERATOR)


@pytest.mark.parametrize(
    ("attribute", "message"), [(among_others, "when other images are explained"), (own_generator, "in each call")]
)
def test_a_method_of_ones_own_explains_each_image_by_itself(attribute, message, images):
    with pytest.raises(InputError, match=message):
        whitebox.evaluate(network().eval(), images, None, [SimpleNamespace(attribute=attribute)], **REMOVE)


def gaps(model, images, maps, target):
    """The area under the probability, least relevant first, minus most relevant first, pixel by pixel."""
    values, count = maps.sum(1).flatten(1), images[0, 0].numel()
    curves = {}
    for descending in (False, True):
        heights = []
        for ratio in RATIOS:
            rest = images.clone()
            for image, of_image in zip(rest, values, strict=True):
                for pixel in of_image.argsort(descending=descending)[: round(ratio * count)].tolist():
                    image[:, pixel // images.shape[3], pixel % images.shape[3]] = images.mean((0, 2, 3))
            with torch.no_grad():
                heights.append(logits_of(model, rest).softmax(1).gather(1, target.view(-1, 1))[:, 0].numpy())
        curves[descending] = np.trapezoid(heights, RATIOS, axis=0) / (RATIOS[-1] - RATIOS[0])
    return curves[False] - curves[True]


def state_of(model: nn.Module):
    tensors = [*model.parameters(), *model.buffers()]
    flags = [(module.training, len(module._forward_hooks)) for module in model.modules()]
    return (
        [tensor.detach().clone() for tensor in tensors],
        [(tensor.data_ptr(), tensor.requires_grad, tensor.grad) for tensor in tensors],
        flags,
    )


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def model(request):
    torch.manual_seed(0)
    model = request.param()
    if not model.training or len(list(model.modules())) > 4:
        model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


@pytest.fixture
def images():
    return torch.randn(5, 3, 12, 10, generator=torch.Generator().manual_seed(1))


def test_every_network_is_judged_as_by_a_plain_loop(model, images):
    before = state_of(model)
    with torch.no_grad():
        target = logits_of(model, images).argmax(1)
    own = Gradient(model)
    summary = whitebox.evaluate(model, images, None, ["VBP", own], **REMOVE)
    leaf = images.clone().requires_grad_()
    (maps,) = torch.autograd.grad(logits_of(model, leaf).gather(1, target.view(-1, 1)).sum(), leaf)
    is_coarse = next(model.parameters()).dtype == torch.bfloat16  # near ties are ordered otherwise
    for name in ("VBP", "Gradient"):
        result = summary.results[MethodSpec(name), 0]
        assert result["whole_accuracy"] == 1
        np.testing.assert_allclose(
            result["image_gap"], gaps(model, images, maps, target), atol=0.1 if is_coarse else 1e-5
        )
    assert equal(state_of(model), before)


@pytest.mark.parametrize("evaluation", ["learned", "sanity", "selectivity", "ROAD"])
def test_every_network_is_left_as_it_was(model, images, evaluation):
    before = state_of(model)
    options = {"removals": 2, "share": 0.1} if evaluation == "selectivity" else {}
    whitebox.evaluate(model, images, None, ["VBP", Gradient(model)], evaluation, **options)
    with pytest.raises(ZeroDivisionError):
        whitebox.evaluate(model, images, None, [Gradient(model, fails=True)], evaluation, **options)
    assert equal(state_of(model), before)


class Calling:
    """The caller's own method, which calls the network with the images that it gets."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def attribute(self, inputs, target):
        maps = inputs.clone()
        self.model(inputs)
        return maps


class Standardising(nn.Module):
    """Standardises its images, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place, self.inner = in_place, network()

    def forward(self, images):
        if self.in_place:
            images -= 0.5
            images /= 0.25
        else:
            images = (images - 0.5) / 0.25
        return self.inner(images)


@pytest.mark.parametrize("evaluation", ["ROAD", "insertion-deletion", "learned", "selectivity"])
def test_a_network_may_change_its_images_in_place(images, evaluation):
    options = {"removals": 2, "share": 0.1} if evaluation == "selectivity" else {"ratios": RATIOS}
    tables, before = [], images.clone()
    for in_place in (True, False):
        torch.manual_seed(0)
        model = Standardising(in_place).eval()
        methods = ["IB", "captum.attr:Saliency", Calling(model)]
        tables.append(whitebox.evaluate(model, images, None, methods, evaluation, **options))
    assert tables[0].text == tables[1].text
    assert torch.equal(images, before)


def equal(first, second) -> bool:
    same = all(torch.equal(*pair) for pair in zip(first[0], second[0], strict=True))
    return same and first[1:] == second[1:]


def test_layers_keep_their_names_in_a_network_that_is_wrapped(images):
    torch.manual_seed(0)
    summary = whitebox.evaluate(Named().eval(), images, None, ["GC"], layer="inner.2", **REMOVE)
    assert "GC" in summary.ranking


def test_dropout_is_refused_with_a_method_of_ones_own(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(320, 5)).eval()
    model.register_forward_hook(lambda _module, _inputs, output: F.dropout(output, 0.5, training=True))
    with pytest.raises(InputError, match="random"):
        whitebox.evaluate(model, images, None, [Gradient(model)], **REMOVE)


@pytest.mark.parametrize(
    ("change", "labels", "message"),
    [
        (lambda x: x, [0, 1, 2, 3, 5], "0 to 4"),
        (lambda x: x, [0, 1, 2, 3, -1], "0 to 4"),
        (lambda x: x, [0.5] * 5, "whole numbers"),
        (lambda x: x, np.eye(5), "labels"),
        (lambda x: x[:0], [], "above 0"),
        (lambda x: (255 * x).byte(), None, "floats"),
        (lambda x: x / 0, None, "finite"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_one_line(images, change, labels, message):
    with pytest.raises(InputError, match=message):
        whitebox.evaluate(network().eval(), change(images), labels, ["VBP"], **REMOVE)


@pytest.mark.parametrize("evaluation", ["ROAD", "trust"])
def test_images_of_other_precision_are_taken(images, evaluation):
    torch.manual_seed(0)
    model = network().eval()
    twelve = torch.cat([images, images, images])[:12]  # enough for an answer
    for given in (twelve.double(), twelve.clone().requires_grad_()):
        whitebox.evaluate(model, given, None, ["VBP"], evaluation)


@pytest.mark.parametrize("count", [1, 5])
def test_few_images_get_no_answer(images, count):
    model = network().eval()
    with pytest.raises(InputError, match="10 or more"):
        whitebox.evaluate(model, images[:count], None, ["VBP"], "trust")


def test_images_of_one_class_are_no_sign_of_wrong_preprocessing():
    torch.manual_seed(0)
    model, images = network().eval(), torch.randn(12, 3, 8, 8)
    label = int(model(images).argmax(1).mode().values)
    answer = whitebox.evaluate(model, images, [label] * 12, ["VBP"], "trust")
    assert answer.doubt == ""
    wrong = next(other for other in range(5) if other not in model(images).argmax(1))
    assert whitebox.evaluate(model, images, [wrong] * 12, ["VBP"], "trust").doubt
