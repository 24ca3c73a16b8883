import copy
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attribution.capture import Layer, capture
from common.errors import InputError
from data import DATASETS, Dataset
from models import (
    ATTENTIONS,
    IMAGE_SHAPES,
    OPTIONS,
    build_model,
    model_name,
    parse_model_name,
    parse_variant,
    variant_name,
)
from models.inspection import attention_layers, attention_maps, last_block, layers
from models.simple_cnn import convolution_block
from training.inputs import Images, Normalisation, load_labels
from training.loop import initialise, train
from training.recipe import recipe_for
from training.step import compute_loss

PARAMETERS = {
    ("mnist", None): 1_284_042,
    ("cifar10", None): 2_202_122,
    ("mnist", "CAM"): 1_285_332,
    ("cifar10", "CAM"): 2_203_412,
    ("mnist", "CBAM"): 1_288_561,
    ("cifar10", "CBAM"): 2_206_641,
    ("mnist", "RAN"): 27_987_466,
    ("cifar10", "RAN"): 27_990_666,
    ("mnist", "WARN"): 6_043_362,
    ("cifar10", "WARN"): 6_043_650,
    ("mnist", "WARN10"): 36_965_346,
    ("cifar10", "WARN10"): 36_965_634,
}
NAMES = (None, *ATTENTIONS)
BOTH = [(dataset, attention) for dataset in DATASETS for attention in NAMES]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = [torch.device("cpu"), pytest.param(torch.device("cuda"), marks=CUDA)]


def initial_model(dataset: str, attention: str | None) -> nn.Module:
    return initialise(lambda: build_model(dataset, attention), 0, torch.device("cpu"))


def some_images(dataset: str, number: int = 4) -> torch.Tensor:
    return torch.randn(number, *IMAGE_SHAPES[dataset], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("cbam", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_pooling_before_rectifying_is_the_same_bit_by_bit(training, cbam, bfloat16):
    """Coarse values, so that many windows hold the same value twice, or none above 0."""
    torch.manual_seed(0)
    block = convolution_block(3, 8, cbam).train(training)
    plain = nn.Sequential(*copy.deepcopy(block)).train(training)
    images = torch.randint(-2, 2, (16, 3, 9, 9)).float()
    runs = []
    for model in (block, plain):
        leaf = images.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            output = model(leaf)
        output.float().square().sum().backward()
        runs.append([output, leaf.grad, *(weight.grad for weight in model.parameters()), *model.buffers()])
    assert all(torch.equal(value, plain) for value, plain in zip(*runs, strict=True))
    assert (runs[0][0] == 0).any()
    assert (runs[0][0] > 0).any()


@pytest.mark.parametrize(("dataset", "attention"), PARAMETERS)
def test_published_size(dataset, attention):
    with torch.device("meta"):
        model = build_model(dataset, attention)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[dataset, attention]


@pytest.mark.parametrize("attention", NAMES)
def test_every_parameter_takes_part_in_the_training_loss(attention):
    """In evaluation mode: in training mode a bias before a batch norm has a gradient of rounding errors."""
    model = initial_model("mnist", attention).eval()
    compute_loss(model, some_images("mnist"), torch.arange(4), recipe_for("mnist", attention)).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize("attention", NAMES)
def test_non_linearities_are_modules_used_once_and_not_in_place(attention):
    model, calls = initial_model("mnist", attention).eval(), []
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    for relu in relus:
        relu.register_forward_hook(lambda module, *_: calls.append(module))
    logits = model(some_images("mnist"))
    assert len(calls) == len({id(relu) for relu in calls})
    assert not any(relu.inplace for relu in relus)
    graph, seen = [logits.grad_fn], set()
    while graph:
        node = graph.pop()
        if node is not None and node not in seen:
            seen.add(node)
            graph += [parent for parent, _ in node.next_functions]
    assert sum(node.name() == "ReluBackward0" for node in seen) == len(calls), "a functional ReLU"


@pytest.mark.parametrize("attention", NAMES)
def test_logits_do_not_depend_on_the_other_images_of_the_batch(attention):
    model, images = initial_model("mnist", attention), some_images("mnist")
    with torch.no_grad():
        model.train()(images)
        together = model.eval()(images)
        assert together.shape == (4, 10)
        difference = (model(images[2:3]) - together[2:3]).abs().max()
        assert difference < 1e-3 * together.abs().max()  # RAN's masks and trunks multiply rounding errors
    assert not torch.allclose(together.exp().sum(1), torch.ones(4), atol=1e-3), "these are probabilities"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("attention", NAMES)
def test_one_step_of_training_changes_every_weight(attention, device, cifar10: Dataset):
    images, labels = (
        Images(cifar10.train, Normalisation.from_dataset(cifar10, device), device),
        load_labels(cifar10.train, device),
    )
    model = initialise(lambda: build_model("cifar10", attention), 0, device)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    recipe = replace(recipe_for("cifar10", attention), epochs=1, batch_size=4)
    trained = train(model, FirstImages(images, 4), labels, recipe, 0)
    assert 0 < trained.loss < 20
    assert [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])] == []


class FirstImages:
    """The first images of a split, as a training set of their own."""

    def __init__(self, images: Images, number: int) -> None:
        self.number, self.border, self.batch = number, images.border, images.batch

    def __len__(self) -> int:
        return self.number


def layer_of(model, name):
    return Layer(name, model.get_submodule(name), 0, 1, lambda output: output)


@pytest.mark.parametrize("attention", NAMES)
def test_layers_are_feature_maps_in_order(attention):
    model = initial_model("mnist", attention).eval()
    with torch.no_grad(), ExitStack() as captures:
        captured = [captures.enter_context(capture(layer_of(model, name))) for name in layers(model)]
        model(some_images("mnist", 2))
    assert all(layer.activation.dim() == 4 for layer in captured)
    sizes = [layer.activation.shape[2] for layer in captured]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] > 1
    assert last_block(model) == layers(model)[-1]


@pytest.mark.parametrize("attention", ["CAM", "RAN"])
def test_the_last_block_is_what_the_predicting_head_averages(attention):
    model = initial_model("mnist", attention).eval()
    with torch.no_grad(), capture(layer_of(model, last_block(model))) as captured:
        logits = model(some_images("mnist"))
    linear = model.cam.linear if attention == "CAM" else model.classifier
    torch.testing.assert_close(linear(captured.activation.mean((2, 3))), logits)


MAPS = {
    "CBAM": [(2, 1, 28, 28), (2, 1, 14, 14), (2, 1, 7, 7)],
    "RAN": [(2, 128, 14, 14), (2, 256, 7, 7), (2, 512, 4, 4)],
    "WARN": [(2, 4, 28, 28), (2, 4), (2, 4, 14, 14), (2, 4), (2, 4, 7, 7), (2, 4), (2, 4)],
}


@pytest.mark.parametrize("attention", NAMES)
def test_attention_maps(attention):
    model = initial_model("mnist", attention).eval()
    maps = attention_maps(model, some_images("mnist", 2))
    assert list(maps) == attention_layers(model)
    assert [tuple(each.shape) for each in maps.values()] == MAPS.get(attention or "", [])
    assert all(each.min() >= 0 and each.max() <= 1 for each in maps.values())
    with pytest.raises(RuntimeError):
        attention_maps(model, torch.randn(2, 7, 28, 28))
    assert not any(module._forward_hooks for module in model.modules()), "a hook was left behind"


def test_other_peoples_models_are_told_apart_and_trained_on_cross_entropy():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    model.loss = F.mse_loss  # a name that others use for other things
    assert layers(model) == attention_layers(model) == []
    with pytest.raises(InputError, match="give the layer"):
        last_block(model)
    images, labels, recipe = some_images("mnist"), torch.arange(4), recipe_for("mnist")
    expected = F.cross_entropy(model(images), labels, label_smoothing=recipe.label_smoothing)
    torch.testing.assert_close(compute_loss(model, images, labels, recipe), expected)


@pytest.mark.parametrize(("attention", "predicting"), [("CAM", "cam"), ("CBAM", "classifier")])
def test_the_other_head_is_an_auxiliary_classifier(attention, predicting):
    model, images, labels = initial_model("mnist", attention).eval(), some_images("mnist"), torch.arange(4)
    activation = model.features(images)
    heads = {"cam": model.cam(activation), "classifier": model.classifier(activation)}
    torch.testing.assert_close(model(images), heads[predicting])
    (other,) = set(heads) - {predicting}
    expected = F.cross_entropy(heads[predicting], labels) + 0.3 * F.cross_entropy(heads[other], labels)
    torch.testing.assert_close(model.training_loss(images, labels, 0.0), expected)


def test_warn_is_trained_on_gated_log_probabilities_and_the_overlap_of_its_masks(monkeypatch):
    monkeypatch.setattr("models.warn.OVERLAP_WEIGHT", 1000)  # 0.001 of a small overlap would be lost in the likelihood
    model, images, labels = initial_model("mnist", "WARN").eval(), some_images("mnist"), torch.arange(4)
    features, opinions, overlaps = model.stem(images), [], []
    for group, attention in zip(model.groups, model.attention, strict=True):
        features = group(features)
        opinion, masks = attention(features)
        opinions.append(opinion)
        products = torch.einsum("naxy,nbxy->nab", masks, masks)
        overlaps.append((products - torch.diag_embed(products.diagonal(dim1=1, dim2=2))).pow(2).mean())
    pooled = features.mean((2, 3))
    opinions.append(model.classifier(pooled))
    gates = model.output_gates(pooled)
    expected = sum(gates[:, i : i + 1] * F.log_softmax(opinion, dim=1) for i, opinion in enumerate(opinions))
    torch.testing.assert_close(model(images), expected)
    likelihood = -(0.9 * expected[torch.arange(4), labels] + 0.1 * expected.mean(1)).mean()
    actual = model.training_loss(images, labels, 0.1)
    torch.testing.assert_close(actual, likelihood + 1000 * sum(overlaps) / 3)
    with pytest.raises(InputError, match="larger --batch-size"):
        model.train().training_loss(images[:1], labels[:1], 0.1)


def test_names_of_variants_do_not_collide():
    names = [variant_name(attention, **{option: v}) for attention, (option, vs) in OPTIONS.items() for v in vs]
    assert names == ["RAN", "RAN92", "WARN", "WARN10"]
    for name in (*NAMES, *names):
        assert parse_model_name(model_name(name)) == name
    assert parse_variant("RAN92") == ("RAN", {"depth": 92})
    assert parse_variant("WARN") == ("WARN", {"width": 4})
    with torch.device("meta"):
        deep = build_model("mnist", "RAN", depth=92)
        assert deep.state_dict().keys() == build_model("mnist", "RAN92").state_dict().keys()
    assert len(attention_layers(deep)) == 6


@pytest.mark.parametrize(
    ("dataset", "attention", "options"),
    [
        ("imagenet", None, {}),
        ("mnist", "SE", {}),
        ("mnist", "RAN56", {}),
        ("mnist", None, {"depth": 92}),
        ("mnist", "WARN", {"depth": 92}),
        ("mnist", "RAN", {"depth": 57}),
    ],
)
def test_unknown_names_are_refused(dataset, attention, options):
    with pytest.raises(InputError, match=r"unknown|has no depth|choose from 56, 92"):
        build_model(dataset, attention, **options)
