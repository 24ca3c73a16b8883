"""Sanity checks: similarities, cascading randomisation, infidelity and sensitivity."""

import json

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from scipy.stats import spearmanr
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

import whitebox
from attribution import build_method
from attribution.spec import MethodSpec
from common.errors import InputError
from data import load_dataset
from evaluation.configs import SanityConfig
from evaluation.robustness import infidelity, max_sensitivity
from evaluation.sanity import randomise, randomization_cascade, similarities, with_random_labels
from evaluation.similarity import SSIM_REACH, SSIM_SIGMA, rank_correlation, rescale, structural_similarity
from experiments.checkpoints import load_checkpoint
from models import build_model
from reporting.sanity_summary import SanitySummary
from tests.run_main import run


def maps_of(seed: int, shape: tuple[int, ...] = (5, 1, 16, 16)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_rank_correlation_is_scipys_for_each_map():
    first, second = maps_of(0).round(decimals=1), maps_of(1).round(decimals=1) + maps_of(0)
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected, atol=1e-12)
    assert rank_correlation(torch.zeros(1, 1, 4, 4), maps_of(2, (1, 1, 4, 4))) == pytest.approx([0])


def test_structural_similarity_is_the_definition_window_by_window():
    x, y = (rescale(maps_of(seed, (2, 1, 14, 13))) for seed in (0, 1))
    away = np.arange(-SSIM_REACH, SSIM_REACH + 1)
    weights = np.exp(-(away[:, None] ** 2 + away**2) / (2 * SSIM_SIGMA**2))
    weights /= weights.sum()
    for n in range(2):
        values = []
        for row in range(14 - 10):
            for column in range(13 - 10):
                a, b = (one[n, 0, row : row + 11, column : column + 11].double().numpy() for one in (x, y))
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
                both = (weights * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + 1e-4)
                    * (2 * both + 9e-4)
                    / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
                )
        assert structural_similarity(x, y)[n].item() == pytest.approx(np.mean(values), abs=1e-9)


def test_a_map_is_wholly_like_itself_in_any_unit():
    maps = maps_of(0)
    for scale in (1.0, 1e-6, 1e6):
        found = similarities(maps, scale * maps)
        assert found["rank"] == pytest.approx(1)
        assert found["ssim"] == pytest.approx(1, abs=1e-4)
    assert similarities(maps, -maps)["rank"] == pytest.approx(-1)
    assert similarities(maps, -maps)["absolute_rank"] == pytest.approx(1)


def test_weights_become_random_from_the_output_down():
    model = build_model("mnist").eval()
    names = randomization_cascade(model, 12, torch.randn(1, 1, 28, 28))
    convolutions = [[f"features.{block}.0", f"features.{block}.1"] for block in (2, 1, 0)]
    assert names == [["classifier.3"], ["classifier.1"], *convolutions]
    state = torch.random.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = randomise(model, names[0], 7), randomise(model, names[0] + names[1], 7)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "a copy is changed"
    for name, value in first.state_dict().items():
        assert torch.equal(value, before[name]) == (not name.startswith("classifier.3"))
    assert torch.equal(first.state_dict()["classifier.3.weight"], second.state_dict()["classifier.3.weight"])
    assert not torch.equal(second.state_dict()["classifier.1.weight"], before["classifier.1.weight"])


def test_deep_networks_are_randomised_in_few_stages_without_leaving_a_layer_out():
    model = build_model("mnist", "WARN").eval()
    names = randomization_cascade(model, 12, torch.randn(1, 1, 28, 28))
    assert len(names) == 12
    flat = [name for group in names for name in group]
    assert len(flat) == len(set(flat))
    weighted = {name for name, one in model.named_modules() if hasattr(one, "reset_parameters")}
    assert set(flat) == {name for name in weighted if list(model.get_submodule(name).parameters(recurse=False))}


class HeadFirst(nn.Module):
    """A network that registers its head first, and a layer that it never calls last."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.norm, self.first = nn.Linear(4, 3), nn.BatchNorm2d(4), nn.Conv2d(1, 4, 3)
        self.auxiliary = nn.Linear(4, 3)

    def forward(self, images):
        return self.head(self.norm(self.first(images)).mean(dim=(2, 3)))


def test_layers_become_random_in_the_order_of_their_calls():
    model = HeadFirst().eval()
    expected = [["head"], ["first", "auxiliary", "norm"]]
    assert randomization_cascade(model, 12, torch.randn(1, 1, 8, 8)) == expected
    assert not model.head._forward_pre_hooks, "a hook is left"
    compiled = torch.compile(model)
    names = randomization_cascade(compiled, 12, torch.randn(1, 1, 8, 8))
    assert names == [[f"_orig_mod.{name}" for name in group] for group in expected]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_network_can_be_made_random(backend):
    torch._dynamo.reset()
    images = torch.randn(6, 1, 8, 8)
    plain = HeadFirst().eval()
    compiled = torch.compile(plain, backend=backend)
    tables = [whitebox.evaluate(model, images, None, ["VBP"], "sanity").body for model in (plain, compiled)]
    assert tables[1].replace("_orig_mod.", "").split() == tables[0].split()


@pytest.mark.parametrize("classes", [1, 3])
def test_a_scripted_network_is_one_line(classes):
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, classes)).eval())
    with pytest.raises(InputError, match="give the module before scripting"):
        whitebox.evaluate(scripted, torch.randn(6, 1, 8, 8), None, ["VBP"], "sanity")


class Tokens(torch.nn.Module):
    """A network with weights that no layer draws: a token, the projections of an attention, a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.token = torch.nn.Parameter(torch.randn(1, 1, 8))
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, images):
        tokens = torch.cat([self.token.expand(len(images), -1, -1), images.flatten(2).transpose(1, 2)], dim=1)
        return self.head(self.attention(tokens, tokens, tokens)[0][:, 0])


def test_every_weight_becomes_random_also_tokens_and_projections():
    model = Tokens().eval()
    names = randomization_cascade(model, 12, torch.randn(1, 8, 2, 2))
    assert names == [["head"], ["attention", "attention.out_proj"], [""]]
    random = randomise(model, [name for group in names for name in group], 3)
    with torch.no_grad():
        for bias in (model.attention.out_proj.bias, model.attention.in_proj_bias):
            bias.uniform_()  # they begin as zeros, whose shuffle is the same
    random = randomise(model, [name for group in names for name in group], 3)
    for (name, before), after in zip(model.named_parameters(), random.parameters(), strict=True):
        assert not torch.equal(before, after), name
    shuffled = random.attention.in_proj_weight.flatten().sort().values
    assert torch.equal(shuffled, model.attention.in_proj_weight.flatten().sort().values)


@pytest.fixture
def explained():
    """A small network with its gradient maps: model, maps, inputs, target, perturbations."""
    torch.manual_seed(0)
    model = build_model("mnist").eval()
    inputs, target = torch.randn(6, 1, 28, 28), torch.tensor([0, 1, 2, 3, 4, 5])
    maps = build_method("VBP", model).attribute(inputs, target)
    return model, maps, inputs, target, torch.randn(8, 6, 1, 28, 28) * 0.1


@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_is_captums_on_the_same_perturbations(explained, normalize):
    model, maps, inputs, target, perturbations = explained
    drawn = perturbations.transpose(0, 1).flatten(0, 1)  # Captum repeats each image for all of its perturbations

    def perturb(images):
        return drawn, images - drawn

    expected = captum_infidelity(
        model, perturb, inputs, maps, target=target, n_perturb_samples=8, normalize=normalize
    ).detach()
    got = infidelity(model, maps, inputs, target, perturbations, normalize)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)
    if normalize:
        larger = infidelity(model, 1e4 * maps, inputs, target, perturbations)
        torch.testing.assert_close(larger, got, rtol=1e-3, atol=1e-5)


def test_max_sensitivity_is_captums_on_the_same_perturbations(explained):
    model, maps, inputs, target, perturbations = explained
    method, drawn = build_method("VBP", model), perturbations.transpose(0, 1).flatten(0, 1)

    def explain(images, target):
        return (method.attribute(images[0] if isinstance(images, tuple) else images, target),)

    expected = sensitivity_max(
        explain,
        inputs,
        perturb_func=lambda _images: inputs.repeat_interleave(8, dim=0) + drawn,
        n_perturb_samples=8,
        target=target,
    )
    got = max_sensitivity(method, maps, inputs, target, perturbations)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)


def test_a_perfect_map_of_a_linear_network_is_faithful_and_steady():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()
    inputs, target = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    maps = build_method("VBP", model).attribute(inputs, target)
    noise = torch.randn(5, 4, 1, 8, 8)
    assert infidelity(model, maps, inputs, target, noise, normalize=False).max() < 1e-10
    assert max_sensitivity(build_method("VBP", model), maps, inputs, target, noise).max() == 0
    assert infidelity(model, -maps, inputs, target, noise, normalize=False).min() > 0.1


def test_controls_stay_the_same_and_gradients_do_not(data_dir, tmp_path, capsys):
    options = ["--eval=sanity", "--target=mnist", "--quick", "--method=VBP,GB", "--limit-test=20"]
    assert run(data_dir, tmp_path, options) == 0
    printed = capsys.readouterr().out
    assert "RANDOM never looks at the network" in printed
    assert list((tmp_path / "results").glob("sanity_*.png"))
    for path in (tmp_path / "results" / "sanity").iterdir():
        content = json.loads(path.read_text())
        assert len(content["result"]["stages"]) == 5
        last = content["result"]["rank"][-1]
        if content["configuration"]["method"] == "RANDOM":
            assert content["result"]["rank"] == pytest.approx([1] * 5)
            assert content["result"]["ssim"] == pytest.approx([1] * 5)
        elif content["configuration"]["method"] == "VBP":
            assert abs(last) < 0.2
    assert run(data_dir, tmp_path, options) == 0
    assert "3 of 3 measurements are finished" in capsys.readouterr().out


def test_the_likeness_is_that_of_the_whole_cascade():
    """A map that is kept until the first layer goes, as that of guided backpropagation, is alike."""
    likeness = {"VBP": [0.1, 0.0, 0.0], "GB": [0.9, 0.8, 0.1], "IB": [0.4, 0.3, 0.2]}
    found = {
        (MethodSpec(name), 0): {"stages": [["c"], ["b"], ["a"]], "absolute_rank": values, "ssim": values}
        for name, values in likeness.items()
    }
    report = SanitySummary(
        SanityConfig(10, "prediction"), "mnist", "SimpleCNN", tuple(map(MethodSpec, likeness)), (0,), found
    )
    assert [report.similarity(MethodSpec(name)) for name in likeness] == [
        pytest.approx([sum(values) / 3]) for values in likeness.values()
    ]
    words = [report.sentence(MethodSpec(name)).split()[0] for name in likeness]
    assert words == ["0.033", "0.600", "0.300"]


def test_networks_of_shuffled_labels_learn_nothing_and_are_compared(tmp_path, capsys):
    options = ["--eval=sanity", "--target=planted", "--quick", "--method=VBP", "--limit-test=30", "--random-labels"]
    options += ["--model=tests.own_model:perceptron"]
    assert run(tmp_path / "data", tmp_path, options) == 0
    printed = capsys.readouterr().out
    assert "trained on shuffled labels" in printed
    path = tmp_path / "checkpoints" / "random_labels" / "planted_tests.own_model.perceptron_seed0_quick.pt"
    assert load_checkpoint(path).metadata["test_accuracy"] < 0.2
    assert load_checkpoint(tmp_path / "checkpoints" / path.name).metadata["test_accuracy"] > 0.8
    for record in (tmp_path / "results" / "sanity").iterdir():
        content = json.loads(record.read_text())
        likeness, method = content["result"]["random_labels"]["rank"], content["configuration"]["method"]
        assert likeness == pytest.approx(1) if method == "RANDOM" else abs(likeness) < 0.3
        assert len(content["result"]["rank"]) == 2, "one for each layer"
    assert run(tmp_path / "data", tmp_path, ["--eval=ROAD", "--target=planted", "--random-labels"]) == 2


def test_shuffled_labels_are_the_same_ones_in_another_order():
    dataset = load_dataset("planted").subset(500, 10)
    shuffled = with_random_labels(dataset, 3)
    assert (np.bincount(shuffled.train.labels) == np.bincount(dataset.train.labels)).all()
    assert (shuffled.train.labels != dataset.train.labels).mean() > 0.8
    assert shuffled.test is dataset.test
    assert (with_random_labels(dataset, 3).train.labels == shuffled.train.labels).all()


def with_hidden_weights(kind: str) -> nn.Module:
    """A network whose first convolution computes its weights from others, or has its norm's in buffers."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)
    )
    if kind == "weight norm":
        nn.utils.weight_norm(model[0])
    elif kind == "spectral norm":
        nn.utils.spectral_norm(model[0])
    elif kind == "new spectral norm":
        nn.utils.parametrizations.spectral_norm(model[0])
    elif kind == "pruned":
        nn.utils.prune.l1_unstructured(model[0], "weight", 0.3)
    else:
        model[1] = FrozenBatchNorm2d(6)
        model[1].weight.copy_(torch.rand(6))
    for statistics in (model[1].running_mean, model[1].running_var):
        statistics.copy_(torch.rand(6) + 0.5)
    return model.eval()


@pytest.mark.parametrize("kind", ["spectral norm", "new spectral norm"])
def test_random_weights_have_the_spectral_norm_that_the_trained_ones_have(kind):
    model = with_hidden_weights(kind)
    copied = randomise(model, ["0", "0.parametrizations.weight"] if kind.startswith("new") else ["0"], 0)
    copied(torch.randn(1, 3, 6, 6))
    assert torch.linalg.matrix_norm(copied[0].weight.flatten(1), 2).item() == pytest.approx(1, rel=0.02)
    assert not any(module.training for module in copied.modules())


@pytest.mark.parametrize("kind", ["weight norm", "spectral norm", "new spectral norm", "pruned", "frozen norm"])
def test_weights_behind_others_become_random(kind):
    model = with_hidden_weights(kind)
    model(torch.randn(2, 3, 6, 6))  # which leaves computed weights with a graph
    (names,) = randomization_cascade(model, 1, torch.randn(1, 3, 6, 6))
    copied = randomise(model, names, 0)
    same = [name for name, weight in model.named_parameters() if torch.equal(weight, copied.get_parameter(name))]
    assert same == []
    assert not torch.equal(model[1].running_var, copied[1].running_var)
    copied(torch.zeros(1, 3, 6, 6))
    assert not torch.equal(model[0].weight, copied[0].weight), "as it is computed"


class Constant(nn.Module):
    """A convolution by a tensor that is no parameter."""

    def __init__(self, weight: torch.Tensor, is_buffer: bool) -> None:
        super().__init__()
        if is_buffer:
            self.register_buffer("weight", weight)
        else:
            self.weight = weight

    def forward(self, images):
        return nn.functional.conv2d(images, self.weight, padding=1)


@pytest.mark.parametrize("evaluation", ["sanity", "learned"])
@pytest.mark.parametrize("is_buffer", [True, False])
def test_weights_that_are_no_parameters_are_refused_and_constants_are_not(is_buffer, evaluation):
    torch.manual_seed(0)
    images, blur = torch.rand(4, 3, 8, 8), torch.full((3, 3, 3, 3), 1 / 27)
    rest = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    frozen = nn.Sequential(Constant(torch.randn(8, 3, 3, 3), is_buffer), *rest).eval()
    with pytest.raises(InputError, match="most of the network's weights are buffers or plain tensors"):
        whitebox.evaluate(frozen, images, None, ["GC"], evaluation)
    blurring = nn.Sequential(Constant(blur, is_buffer), nn.Conv2d(3, 8, 3), *rest).eval()
    assert "GC" in whitebox.evaluate(blurring, images, None, ["GC"], evaluation).ranking
