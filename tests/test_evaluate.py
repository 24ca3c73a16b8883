"""`whitebox.evaluate`: of a given network, and of one that is trained and stored."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision.transforms import Normalize

import whitebox
from attribution import build_method
from attribution.spec import MethodSpec
from common.errors import InputError
from common.outputs import require_logits
from data import load_dataset
from evaluation.given import OwnMethod
from evaluation.masking import gaussian_blur
from evaluation.planted import ReversedMap, TrueMap
from experiments.checkpoints import load_checkpoint
from models.adapter import adapt_model
from training.classifier import restore
from training.inputs import Images, Normalisation

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A classifier of the planted data set, made by the API, and the summary of an evaluation of it."""
    folder = tmp_path_factory.mktemp("evaluate")
    options = {"quick": True, "output_dir": folder, "data_dir": folder / "data", "jobs": 1, "limit_test": 60}
    summary = whitebox.evaluate(
        "SimpleCNN", dataset="planted", methods=["Gradient"], evaluation="insertion-deletion", fill="mean", **options
    )
    return folder, summary, options


@pytest.fixture(scope="module")
def network(stored):
    """The same network, with the images and labels that it was evaluated on."""
    folder, _summary, _options = stored
    dataset = load_dataset("planted", folder / "data")
    test = dataset.subset(0, 60).test
    images = Images(test, Normalisation.from_dataset(dataset, CPU), CPU).batch(torch.arange(60))
    model = restore(load_checkpoint(folder / "checkpoints" / "planted_SimpleCNN_seed0_quick.pt"), CPU)
    return model, images, test.labels


def test_a_given_network_is_judged_as_the_stored_one(stored, network):
    _folder, summary, _options = stored
    given = whitebox.evaluate(*network, ["VBP"], "insertion-deletion", fill="mean", ratios=summary.config.ratios)
    here, there = (evaluated.results[MethodSpec("VBP"), 0] for evaluated in (given, summary))
    assert here["whole_accuracy"] == there["whole_accuracy"]
    for order in ("most", "least"):
        np.testing.assert_allclose(here["score"][order][:8], there["score"][order][:8], atol=0.02)


def test_maps_of_known_worth_are_ranked(network):
    model, images, labels = network
    summary = whitebox.evaluate(model, images, labels, [TrueMap(model), ReversedMap(model)], "ROAD", ratios=(0.1, 0.3))
    assert summary.ranking[0] == "TrueMap"
    assert summary.ranking[-1] == "ReversedMap"
    assert {curve.method for curve in summary.curves} == {"TrueMap", "ReversedMap", "RANDOM", "SOBEL"}
    assert "| TrueMap" in summary.table
    assert summary.figure().axes[0].get_title(loc="left").startswith("ROAD on given images")


@pytest.mark.parametrize(("evaluation", "options"), [("selectivity", {"removals": 3}), ("sanity", {})])
def test_evaluations_that_explain_anew(network, evaluation, options):
    model, images, labels = network
    before = {name: value.clone() for name, value in model.state_dict().items()}
    summary = whitebox.evaluate(model, images[:12], labels[:12], ["VBP"], evaluation, **options)
    assert set(summary.ranking) == {"VBP", "RANDOM", "SOBEL"}
    assert "| VBP" in summary.table
    assert len(summary.figure().axes) > 0
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_preprocessing_and_outputs_with_names():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
            )

        def forward(self, pixel_values):
            return {"logits": self.layers(pixel_values)}

    torch.manual_seed(0)
    model, images, normalise = Named().eval(), torch.rand(6, 3, 8, 8), Normalize([0.5] * 3, [0.25] * 3)
    labels = model(normalise(images))["logits"].argmax(1)
    summary = whitebox.evaluate(
        model,
        images,
        labels,
        ["IG"],
        "insertion-deletion",
        preprocessing=normalise,
        fill="black",
        steps=3,
        ratios=(0.5,),
    )
    same = whitebox.evaluate(model, normalise(images), labels, ["IG"], "insertion-deletion", fill="blur", ratios=(0.5,))
    assert summary.config.fill == "black"
    assert same.results.keys() != summary.results.keys()  # other steps
    with pytest.raises(InputError, match="preprocessing"):
        whitebox.evaluate(model, normalise(images), labels, ["VBP"], "insertion-deletion", fill="black")


class Blurred:
    """The gradient, blurred by its own code."""

    def __init__(self, model):
        self.gradient = build_method("VBP", model)

    def attribute(self, inputs, target):
        return gaussian_blur(self.gradient.attribute(inputs, target))


@pytest.mark.parametrize("evaluation", ["ROAD", "insertion-deletion"])
def test_blurred_maps_are_ranked_as_those_that_the_method_blurs_itself(network, evaluation):
    methods = ["VBP", Blurred(network[0])]
    summary = whitebox.evaluate(*network, methods, evaluation, control="blur", ratios=(0.2, 0.6), fill=None)
    results = {spec.label: result for (spec, _seed), result in summary.results.items()}
    names = ("VBP", "Blurred", "RANDOM", "SOBEL")
    assert set(results) == {label for name in names for label in (name, f"{name} blurred")}
    assert results["VBP blurred"]["score"]["most"] != results["VBP"]["score"]["most"]
    for order in ("most", "least"):
        np.testing.assert_allclose(
            results["VBP blurred"]["score"][order], results["Blurred"]["score"][order], rtol=1e-3
        )
    assert "| RANDOM blurred " in summary.table


def test_only_evaluations_that_remove_pixels_blur_maps(network):
    for evaluation in ("sanity", "trust", "of_mine.py:Evaluation"):
        with pytest.raises(InputError, match="control"):
            whitebox.evaluate(*network, ["VBP"], evaluation, control="blur")


def test_roar_by_name_is_found_again(stored, capsys):
    _folder, _summary, options = stored
    facts = options | {"limit_train": 200, "ratios": (0.5,), "epochs": 1}
    summary = whitebox.evaluate("SimpleCNN", dataset="planted", methods=["VBP"], evaluation="ROAR", **facts)
    assert [curve.method for curve in summary.curves][:2] == ["VBP", "VBP"]
    assert set(summary.ranking) == {"VBP", "RANDOM"}
    capsys.readouterr()
    whitebox.evaluate("SimpleCNN", dataset="planted", methods=["VBP"], evaluation="ROAR", **facts)
    assert "0 to do" in capsys.readouterr().out


def test_names_are_read_in_any_case_and_ratios_in_any_order(stored, network):
    model, images, labels = network
    facts = model, images[:6], labels[:6], ["VBP"]
    first = whitebox.evaluate(*facts, "road", ratios=[0.5, 0.1, 0.5])
    assert first.config.ratios == (0.1, 0.5)
    assert first.csv == whitebox.evaluate(*facts, "ROAD", ratios=(0.1, 0.5)).csv
    _folder, summary, options = stored
    texts = options | {name: str(options[name]) for name in ("output_dir", "data_dir")}
    again = whitebox.evaluate(
        "SimpleCNN", dataset="planted", methods=["VBP"], evaluation="INSERTION-deletion", fill="mean", **texts
    )
    assert again.text == summary.text


def test_options_are_read_as_on_the_command_line(network):
    model, images, labels = network
    methods = [TrueMap(model), ReversedMap(model)]
    facts = model, images, labels, methods, "selectivity"
    first, last = (whitebox.evaluate(*facts, order=order, limit_test=20, removals=20) for order in ("most", "least"))
    assert first.config.limit_test == len(first.curves[0].score) == 20
    assert (first.ranking[0], first.ranking[-1]) == ("TrueMap", "ReversedMap")
    assert (last.ranking[0], last.ranking[-1]) == ("TrueMap", "ReversedMap"), "the score should stay"
    assert last.title.endswith("least important first")
    with pytest.raises(InputError, match="choose from prediction, label"):
        whitebox.evaluate("SimpleCNN", dataset="planted", methods=["VBP"], evaluation="ROAD", explain="predictions")


def test_samples_are_those_of_the_ensemble_if_there_is_one(network):
    model, images, labels = network
    facts = model, images[:4], labels[:4], ["VBP"], "sanity"
    summary = whitebox.evaluate(*facts, ensemble="SG", samples=2)
    assert {dict(method.parameters).get("samples") for method in summary.methods} == {2, None}
    assert summary.config.samples == 10
    assert whitebox.evaluate(*facts, samples=2).config.samples == 2


@pytest.mark.parametrize("evaluation", ["sanity", "learned"])
def test_weights_that_no_copy_makes_random_are_refused(network, evaluation):
    model, images, labels = network
    patched = copy.deepcopy(model)
    whole = patched.forward
    patched.forward = lambda inputs: whole(inputs)  # a copy of the network still calls this one
    with pytest.raises(InputError, match="can't be made random"):
        whitebox.evaluate(patched, images[:6], labels[:6], ["VBP"], evaluation)


@pytest.mark.parametrize("evaluation", ["sanity", "learned"])
@pytest.mark.parametrize("part", ["in a list", "behind a patched forward"])
def test_weights_that_stay_trained_beside_random_ones_are_refused(network, evaluation, part):
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.parts = copy.deepcopy(model), [nn.Linear(classes, classes)]

        def forward(self, images):
            return self.parts[0](self.model(images))

    model, images, labels = network
    classes = model(images[:1]).shape[1]
    whole = Listed().eval()
    if part == "behind a patched forward":
        whole.parts = nn.ModuleList(whole.parts)
        old = whole.parts[0].forward
        whole.parts[0].forward = lambda inputs: old(inputs)
    with pytest.raises(InputError, match=r"model.parameters\(\) lacks them"):
        whitebox.evaluate(whole, images[:6], labels[:6], ["VBP"], evaluation)


def test_probabilities_are_no_logits(network):
    model, images, labels = network
    soft = nn.Sequential(model, nn.Softmax(1)).eval()
    with pytest.raises(InputError, match="leave out its softmax"):
        whitebox.evaluate(soft, images[:6], labels[:6], ["VBP"])
    with pytest.raises(InputError, match="leave out its softmax"):
        adapt_model(nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Softmax(1)), (1, 4, 4), "soft")


@pytest.mark.parametrize("classes", [1, 3])
def test_a_sigmoid_gives_no_logits(classes):
    head = nn.Linear(16, classes)
    for parameter in head.parameters():
        parameter.requires_grad_(False)
    sigmoid = nn.Sequential(nn.Flatten(), head, nn.Sigmoid(), nn.Unflatten(1, (classes, 1)), nn.Flatten()).eval()
    with pytest.raises(InputError, match="leave out its sigmoid"):
        whitebox.evaluate(sigmoid, torch.randn(6, 1, 4, 4), [0] * 6, ["VBP"])
    with pytest.raises(InputError, match="leave out its sigmoid"):
        adapt_model(sigmoid, (1, 4, 4), "sigmoid")
    gated = nn.Sequential(nn.Flatten(), head, nn.Sigmoid(), nn.Linear(classes, 3)).eval()
    adapt_model(gated, (1, 4, 4), "a sigmoid before the head")


class Heads(nn.Module):
    """A head for each label, whose outputs are brought together in some way."""

    def __init__(self, join) -> None:
        super().__init__()
        self.heads, self.join = nn.ModuleList(nn.Linear(16, 1) for _ in range(3)), join

    def forward(self, images):
        return self.join([head(images.flatten(1)) for head in self.heads])


@pytest.mark.parametrize(
    "join",
    [
        lambda logits: torch.cat([logit.sigmoid() for logit in logits], 1),
        lambda logits: torch.stack([logit.sigmoid()[:, 0] for logit in logits], 1),
        lambda logits: torch.cat(logits, 1).sigmoid().clamp(1e-7, 1 - 1e-7),
        lambda logits: torch.cat(logits, 1).sigmoid()[:, :1],
        lambda logits: F.hardsigmoid(torch.cat(logits, 1)),
    ],
    ids=["cat", "stack", "clamp", "slice", "hard"],
)
def test_sigmoids_of_several_heads_are_no_logits(join):
    with pytest.raises(InputError, match="leave out its sigmoid"):
        whitebox.evaluate(Heads(join).eval(), torch.randn(6, 1, 4, 4), [0] * 6, ["VBP"])


def test_logits_of_several_heads_are_taken():
    adapt_model(Heads(lambda logits: torch.cat(logits, 1).clamp(-9, 9)), (1, 4, 4), "heads")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("classes", [3, 50, 1000])
def test_a_softmax_is_told_in_any_precision(dtype, classes):
    torch.manual_seed(0)
    for _ in range(12):
        with pytest.raises(InputError, match="leave out its softmax"):
            require_logits((10 * torch.randn(2, classes)).to(dtype).softmax(1))


def test_a_network_that_finds_several_labels_is_refused_in_memory_too(network):
    model, images, labels = network
    several = nn.Sequential(model).eval()
    several[0].config = SimpleNamespace(problem_type="multi_label_classification")
    try:
        with pytest.raises(InputError, match="several labels"):
            whitebox.evaluate(several, images[:6], labels[:6], ["VBP"])
    finally:
        del model.config


class Fragile(nn.Module):
    """A network whose logits are no numbers where the top left pixel is not that of the data."""

    def __init__(self, model, value) -> None:
        super().__init__()
        self.model, self.value = model, value

    def forward(self, images):
        known = (images[:, :1, 0, 0] - self.value).abs() < 1e-6
        return torch.where(known, self.model(images), torch.nan)


@pytest.mark.parametrize(
    ("evaluation", "options"),
    [
        ("ROAD", {}),
        ("insertion-deletion", {}),
        ("learned", {}),
        ("selectivity", {"share": 0.5, "removals": 1}),
        ("sanity", {}),
    ],
)
def test_a_network_that_fails_on_changed_images_is_not_ranked(network, evaluation, options):
    model, images, labels = network
    images = images[:6].clone()
    images[:, :, 0, 0] = 0.25
    with pytest.raises(InputError, match="not finite"):
        whitebox.evaluate(Fragile(model, 0.25).eval(), images, labels[:6], ["SOBEL"], evaluation, **options)


class Drawing:
    """VBP with noise from the global generator, as a method that samples."""

    def __init__(self, model) -> None:
        self.method = build_method("VBP", model)

    def attribute(self, inputs, target):
        return self.method.attribute(inputs + 0.1 * torch.randn_like(inputs), target)


def test_a_method_that_draws_random_numbers_gives_the_same_maps_again(network):
    model, images, labels = network
    facts = model, images[:12], labels[:12], [Drawing(model)], "insertion-deletion"
    torch.manual_seed(1)
    first = whitebox.evaluate(*facts)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = whitebox.evaluate(*facts)
    spec = MethodSpec("Drawing"), 0
    assert first.results[spec] == again.results[spec]
    assert torch.equal(torch.get_rng_state(), state)
    own = OwnMethod(Drawing(model), model, model)
    target = torch.as_tensor(labels[:12]).long()
    together = own.attribute(images[:12], target)
    torch.testing.assert_close(own.attribute(images[5:6], target[5:6]), together[5:6])


def test_a_class_with_a_methods_name_is_told_apart_from_it(network):
    model, images, labels = network
    own = type("VBP", (TrueMap,), {})(model)
    with pytest.raises(InputError, match="two methods are called VBP"):
        whitebox.evaluate(model, images[:6], labels[:6], [own, "VBP"], "ROAD")


def test_a_network_in_training_mode_is_refused(network):
    model, images, labels = network
    model.train()
    try:
        with pytest.raises(InputError, match="mode"):
            whitebox.evaluate(model, images[:6], labels[:6], ["VBP"])
    finally:
        model.eval()


def test_a_name_needs_a_data_set_and_a_network_images(network):
    with pytest.raises(TypeError):
        whitebox.evaluate("SimpleCNN", methods=["VBP"])
    with pytest.raises(TypeError):
        whitebox.evaluate(network[0], methods=["VBP"])
    with pytest.raises(InputError, match="unknown options: ratioz"):
        whitebox.evaluate("SimpleCNN", dataset="planted", methods=["VBP"], evaluation="ROAR", ratioz=(0.5,))


def test_objects_of_one_class_are_told_apart(network):
    model, images, labels = network
    methods = [TrueMap(model), TrueMap(model), "VBP"]
    summary = whitebox.evaluate(model, images[:12], labels[:12], methods, "ROAD", ratios=(0.3,))
    assert set(summary.ranking) == {"TrueMap", "TrueMap 2", "VBP", "RANDOM", "SOBEL"}
    first, second = (summary.results[MethodSpec(name), 0] for name in ("TrueMap", "TrueMap 2"))
    assert first == second


def test_objects_for_a_stored_classifier_are_refused(stored):
    _folder, _summary, options = stored
    with pytest.raises(InputError, match="with names"):
        whitebox.evaluate("SimpleCNN", dataset="planted", methods=[TrueMap(None)], evaluation="ROAD", **options)


def test_images_of_a_given_network_are_kept_as_they_are(network):
    model, _images, labels = network
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    summary = whitebox.evaluate(model, images, labels[:4], ["VBP"], "selectivity", removals=1)
    kept = summary.results[MethodSpec("VBP"), 0]["images"][:, 0]
    np.testing.assert_array_equal(kept, (images * 255).round().to(torch.uint8).numpy())


def test_a_folder_of_images_by_name(stored, tmp_path):
    _folder, _summary, options = stored
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for label in ("cat", "dog"):
            place = tmp_path / "pets" / split / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    facts = options | {"limit_test": 4, "ratios": (0.5,)}
    summary = whitebox.evaluate(
        "SimpleCNN", dataset=f"folder:{tmp_path / 'pets'}", methods=["VBP"], evaluation="ROAD", **facts
    )
    assert "VBP" in summary.ranking
