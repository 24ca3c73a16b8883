"""The modified backward pass of ReLU, against networks whose ReLUs are written out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attribution import build_method
from attribution.activation_modules import is_other_rectifier
from attribution.backward_relu import BackwardReLU, Deconvolved, Guided
from common.errors import InputError
from models import build_model

RULES = {
    "DeconvNet": lambda relevance, x: torch.where(relevance > 0, relevance, 0.0),
    "GB": lambda relevance, x: torch.where((relevance > 0) & (x > 0), relevance, 0.0),
}


def handwritten(method):
    class ReLU(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.where(x > 0, x, 0.0)

        @staticmethod
        def backward(ctx, relevance):
            return RULES[method](relevance, *ctx.saved_tensors)

    return ReLU.apply


class PreActivation(nn.Module):
    """Two pre-activation residual blocks, with and without a projection, and a head.

    The first block's skip path leaves after the ReLU, the second's before it, where the gradients of two
    branches meet in front of a ReLU.
    """

    def __init__(self, relu) -> None:
        super().__init__()
        self.relu = relu
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(4))
        self.convolutions = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.projection = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        x = self.stem(images)
        x = self.relu(self.norms[0](x))
        x = self.projection(x) + self.convolutions[1](self.relu(self.norms[1](self.convolutions[0](x))))
        before = x + self.convolutions[3](self.relu(self.norms[3](self.convolutions[2](self.relu(self.norms[2](x))))))
        return self.head(self.relu(before).mean((2, 3)))


def state(model):
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        [module.training for module in model.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()],
    )


def assert_unchanged(model, before):
    weights, *rest = state(model)
    assert all(torch.equal(before[0][name], weight) for name, weight in weights.items())
    assert rest == list(before[1:])


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 4, 2])


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("relu", [lambda x: F.relu(x, inplace=True), nn.ReLU(), torch.relu_], ids=["F", "one", "_"])
def test_preactivation_network_equals_handwritten_relus(method, relu, images):
    torch.manual_seed(1)
    model, plain = PreActivation(relu).eval(), PreActivation(handwritten(method)).eval()
    plain.load_state_dict(model.state_dict())
    before, (inputs, target) = state(model), images
    got, want = (build.attribute(inputs, target) for build in (build_method(method, model), build_method("VBP", plain)))
    gradient = build_method("VBP", model).attribute(inputs, target)
    assert ((got - want).norm() / want.norm()).item() < 1e-5
    assert ((got - gradient).norm() / want.norm()).item() > 0.1, "the rule must make a difference here"
    assert_unchanged(model, before)


SPELLINGS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu in place by position": lambda x: F.relu(x, True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu by name": lambda x: torch.relu(input=x),
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
    "operator": torch.ops.aten.relu.default,
    "clamp": lambda x: x.clamp(min=0),
    "clamp_": lambda x: x.clamp_(min=0.0),
    "torch.clamp": lambda x: torch.clamp(x, 0),
    "clip": lambda x: x.clip(0),
    "clamp_min": lambda x: x.clamp_min(0),
    "torch.clamp_min": lambda x: torch.clamp_min(x, 0.0),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "nn.Threshold in place": nn.Threshold(0, 0, inplace=True),
    "maximum": lambda x: torch.maximum(x, torch.zeros(())),
    "maximum, the other way round": lambda x: torch.maximum(torch.zeros(()), x),
    "max of two": lambda x: torch.max(x, torch.zeros_like(x)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("rule", "method"), [(Deconvolved, "DeconvNet"), (Guided, "GB")])
def test_every_spelling_of_relu_has_the_rule(spelling, rule, method):
    x, relevance = torch.tensor([-2.0, -1.0, 1.0, 2.0]), torch.tensor([-1.0, 3.0, -2.0, 5.0])
    leaf = x.clone().requires_grad_()
    with BackwardReLU(rule):
        entered = leaf * 1
        output = SPELLINGS[spelling](entered)
        (got,) = torch.autograd.grad(output, leaf, relevance)
    assert output.tolist() == [0, 0, 1, 2]
    assert torch.equal(got, RULES[method](relevance, x))
    if "_" in spelling.replace("clamp_min", "") or "in place" in spelling:
        assert entered is output, "what works in place changes its input for other readers too"


@pytest.mark.parametrize(
    "function",
    [
        torch.sigmoid,
        torch.tanh,
        F.hardsigmoid,
        lambda x: x.softmax(0),
        lambda x: x.clamp(0, 1),
        lambda x: x.clamp(min=-1),
        lambda x: torch.max(x.view(2, 2), 0).values.repeat(2),
        lambda x: F.glu(x.repeat(2)),
        lambda x: torch.maximum(x, x.flip(0)),
        lambda x: F.max_pool1d(x.view(1, -1), 2).repeat(1, 2).view(-1),
    ],
)
def test_what_is_no_rectifier_keeps_its_gradient(function):
    leaf, relevance = torch.tensor([-2.0, -0.3, 0.5, 2.0]).requires_grad_(), torch.tensor([-1.0, 3.0, -2.0, 5.0])
    (want,) = torch.autograd.grad(function(leaf), leaf, relevance)
    with BackwardReLU(Guided):
        (got,) = torch.autograd.grad(function(leaf), leaf, relevance)
    assert torch.equal(got, want)


REFUSED = [nn.LeakyReLU(), nn.ELU(inplace=True), nn.GELU(), nn.SiLU(), nn.ReLU6(), nn.Hardtanh(), nn.PReLU()]
REFUSED += [nn.Softplus(), nn.Mish(), nn.SELU(), nn.CELU(), nn.Hardswish(), nn.RReLU(), nn.Threshold(0.5, 0)]


@pytest.mark.parametrize("layer", REFUSED, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("method", ["GB", "DeconvNet", "GB-GC"])
def test_other_rectifiers_are_refused_by_name(layer, method):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), layer, nn.Flatten(), nn.Linear(8, 2)).eval()
    name = {"ReLU6": "hardtanh|relu6", "LeakyReLU": "leaky_?relu"}.get(type(layer).__name__, type(layer).__name__)
    with pytest.raises(InputError, match=f"(?i)uses ({name}): DeconvNet and GB are defined for ReLU only"):
        build_method(method, model).attribute(torch.randn(2, 1, 4, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize("method", ["GB", "DeconvNet", "GB-GC"])
def test_a_network_without_relu_is_refused_instead_of_given_the_plain_gradient(method):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)).eval()
    with pytest.raises(InputError, match=r"calls no ReLU.*VBP"):
        build_method(method, model).attribute(torch.randn(2, 1, 4, 4), torch.tensor([0, 1]))


class Written(nn.Module):
    """An activation that is written out, in functions that are no rectifiers by themselves."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


OTHERS = {
    "quick GELU": lambda x: x * torch.sigmoid(1.702 * x),
    "GELU by tanh": lambda x: 0.5 * x * (1 + torch.tanh(0.7979 * (x + 0.0447 * x**3))),
    "Mish": lambda x: x * torch.tanh(torch.log1p(torch.exp(-x.abs())) + x.relu()),
    "leaky": lambda x: torch.where(x > 0, x, 0.1 * x),
    "squared ReLU": lambda x: x.relu() ** 2,
    "ReLU by where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "ReLU by a mask": lambda x: x * (x > 0),
    "ReLU by filling": lambda x: x.masked_fill(x < 0, 0),
    "ReLU by its size": lambda x: (x + x.abs()) / 2,
}
ALLOWED = {
    "ReLU": torch.relu,
    "clamped": lambda x: x.clamp(min=0),
    "gate": torch.sigmoid,
    "scaled": lambda x: 2 * x + 1,
    "normalised": lambda x: x / x.norm(),
    "pooled": lambda x: F.avg_pool2d(x, 2, 1, 1)[..., 1:, 1:],
}


@pytest.mark.parametrize("method", ["GB", "DeconvNet", "GB-GC"])
@pytest.mark.parametrize("function", OTHERS.values(), ids=OTHERS)
def test_modules_that_are_other_rectifiers_are_refused_beside_a_relu(function, method):
    parts = nn.Conv2d(1, 2, 3), Written(function), nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
    with pytest.raises(InputError, match="uses Written: DeconvNet and GB are defined for ReLU only"):
        build_method(method, nn.Sequential(*parts).eval()).attribute(torch.randn(2, 1, 4, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize("function", ALLOWED.values(), ids=ALLOWED)
def test_modules_that_are_no_other_rectifiers_are_none(function):
    assert not is_other_rectifier(Written(function), torch.zeros(1, 1, 4, 4))


def test_a_rectifier_that_is_not_called_is_not_refused():
    class Spare(nn.Sequential):
        def forward(self, images):
            return self[0](images)

    parts = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)
    model = Spare(nn.Sequential(*parts), Written(OTHERS["quick GELU"])).eval()
    build_method("GB", model).attribute(torch.randn(2, 1, 4, 4), torch.tensor([0, 1]))


def test_rule_ends_with_its_block_also_after_an_exception(images):
    class Failing(nn.Module):
        def forward(self, images):
            raise RuntimeError("out of order")

    broken = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), Failing()).eval()
    before, (inputs, target) = state(broken), images
    for method in ("GB", "DeconvNet", "GB-GC", "CAM", "CO", "IG", "GC", "VBP"):
        with pytest.raises(InputError, match="out of order"):
            build_method(method, broken).attribute(inputs, target)
    assert_unchanged(broken, before)
    leaf = torch.tensor([1.0]).requires_grad_()
    assert torch.autograd.grad(F.relu(leaf), leaf, torch.tensor([-1.0]))[0].item() == -1


def test_scripted_modules_are_refused():
    with pytest.warns(Warning):
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()))
    with pytest.raises(InputError, match="scripted"):
        build_method("GB", nn.Sequential(scripted, nn.Flatten()).eval()).attribute(torch.randn(1, 1, 4, 4), 0)


@torch.jit.script
def scripted_relu(values: torch.Tensor) -> torch.Tensor:
    return torch.relu(values)


@pytest.mark.parametrize("method", ["GC", "CO", "captum.attr:LayerGradCam", "GB", "GB-GC", "zennit:EpsilonPlusFlat"])
def test_a_scripted_function_is_one_call(method):
    class Model(nn.Module):
        def __init__(self, relu) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)
            self.relu = relu

        def forward(self, images):
            return self.head(self.relu(self.second(F.relu(self.first(images)))).mean((2, 3)))

    images = torch.randn(3, 3, 9, 9)
    if method in ("GB", "GB-GC", "zennit:EpsilonPlusFlat"):
        with pytest.raises(InputError, match=r"scripted scripted_relu.* before\s+scripting"):
            build_method(method, Model(scripted_relu).eval()).attribute(images, 1)
        return
    want = build_method(method, Model(F.relu).eval()).attribute(images, 1)
    torch.testing.assert_close(build_method(method, Model(scripted_relu).eval()).attribute(images, 1), want)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [torch.jit.script, lambda model: torch.jit.trace(model, torch.zeros(2, 1, 4, 4))])
def test_scripted_networks_are_explained_where_no_call_has_to_be_seen(make):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).eval()
    scripted, images = make(model), torch.randn(3, 1, 4, 4)
    for method in ("VBP", "IB", "IG"):
        want = build_method(method, model).attribute(images, 1)
        torch.testing.assert_close(build_method(method, scripted).attribute(images, 1), want)
    for method in ("GC", "CO"):
        with pytest.raises(InputError, match="scripted module can't be seen"):
            build_method(method, scripted).attribute(images, 1)


def test_deconvnet_equals_an_explicit_deconvolution_network():
    """Transposed filters, unpooling with the forward switches, rectification: Zeiler and Fergus, figure 1."""
    torch.manual_seed(0)
    model = build_model("cifar10")
    model(torch.randn(16, 3, 32, 32))
    model.eval()
    inputs, target = torch.randn(3, 3, 32, 32), torch.tensor([2, 7, 0])
    switches, hidden = [], inputs
    for convolution, norm, _relu, _pool in model.features:
        hidden = norm(convolution(hidden)).relu()
        size = hidden.shape
        hidden, switch = F.max_pool2d(hidden, 2, return_indices=True)
        switches.append((switch, size))
    first, _relu, last = model.classifier
    reconstruction = last.weight[target].relu() @ first.weight
    reconstruction = reconstruction.view_as(hidden)
    for (convolution, norm, _relu, _pool), (switch, size) in zip(
        reversed(list(model.features)), reversed(switches), strict=True
    ):
        rectified = F.max_unpool2d(reconstruction, switch, 2, output_size=size).relu()
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        reconstruction = F.conv_transpose2d(rectified * scale.view(-1, 1, 1), convolution.weight, padding=1)
    got = build_method("DeconvNet", model).attribute(inputs, target)
    assert ((got - reconstruction).norm() / reconstruction.norm()).item() < 1e-5
