"""CAM, CO, SOBEL; folding; memory."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet18
from torchvision.transforms import Normalize

import attribution.chunks
from attribution import ANY_MODEL_METHODS, build_method
from attribution.chunks import FEWEST_ROWS, Chunks, activation_bytes
from attribution.feature_maps import MapLayout
from attribution.fusing import fuse_batchnorm
from attribution.image_convolution import ImageConvolution, use_fast_input_gradient
from attribution.network import Network
from common.errors import InputError
from models import build_model
from tests.own_model import vgg


class Pooled(nn.Module):
    """Two convolutions, and a head of global average pooling and a linear layer; another linear layer beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
        self.aside, self.head = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, images):
        features = F.relu(self.last(F.relu(self.first(images))))
        self.aside(features.mean(dim=(2, 3)))
        return self.head(features.mean(dim=(2, 3)))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def lively(model, *shape):
    """`model` in evaluation mode, with batch norm statistics and parameters that are not the initial ones."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    with torch.no_grad():
        model.train()(torch.randn(8, *shape))
    return model.eval()


def test_cam_is_the_weighted_sum_of_the_pooled_feature_map():
    model, inputs, target = Pooled().eval(), torch.randn(5, 3, 9, 9), torch.tensor([0, 3, 1, 2, 2])
    activation = F.relu(model.last(F.relu(model.first(inputs))))
    want = torch.stack(
        [(w.view(8, 1, 1) * a).sum(0) for w, a in zip(model.head.weight[target], activation, strict=True)]
    )
    want = F.interpolate(want.unsqueeze(1), size=(9, 9), mode="bilinear")
    torch.testing.assert_close(build_method("CAM", model).attribute(inputs, target), want, rtol=1e-4, atol=1e-6)


def test_grad_cam_of_a_pooled_network_is_the_positive_part_of_cam():
    model, inputs, target = lively(resnet18(num_classes=10), 3, 64, 64), torch.randn(2, 3, 64, 64), torch.tensor([3, 1])
    with torch.no_grad():
        model.avgpool = nn.Identity()
        features = nn.Sequential(*list(model.children())[:-2])(inputs)
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        cam = torch.einsum("nk,nkhw->nhw", model.fc.weight[target], features).unsqueeze(1)
    want = F.interpolate(cam.relu() / 4, size=(64, 64), mode="bilinear")
    torch.testing.assert_close(build_method("GC", model).attribute(inputs, target), want, rtol=1e-3, atol=1e-6)
    want = F.interpolate(cam, size=(64, 64), mode="bilinear")
    torch.testing.assert_close(build_method("CAM", model).attribute(inputs, target), want, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", [build_model("cifar10"), nn.Conv2d(3, 5, 32)])
def test_cam_refuses_a_network_without_its_head(model):
    with pytest.raises(InputError, match=r"CAM head|logits"):
        build_method("CAM", model.eval()).attribute(torch.randn(1, 3, 32, 32), torch.tensor([0]))


def test_co_is_the_mean_over_channels():
    model, inputs = Pooled().eval(), torch.randn(2, 3, 9, 9)
    got = build_method("CO", model, layer="first").attribute(inputs, torch.tensor([0, 1]))
    want = F.interpolate(model.first(inputs).mean(1, keepdim=True), size=(9, 9), mode="bilinear")
    torch.testing.assert_close(got, want.detach())


@pytest.mark.parametrize("method", ["GC", "CO"])
def test_layers_without_feature_map_are_refused(method):
    with pytest.raises(InputError, match="'head' gives no feature map"):
        build_method(method, Pooled(), layer="head").attribute(torch.randn(1, 3, 9, 9), torch.tensor([0]))


@pytest.mark.parametrize("method", ["GC", "GB-GC"])
def test_layer_that_decides_nothing_is_refused(method):
    class Aside(Pooled):
        def forward(self, images):
            self.last(F.relu(self.first(images)))
            return self.head(torch.cat([images, images, images], 1).mean((2, 3))[:, :8])

    with pytest.raises(InputError, match="don't depend on layer 'last'"):
        build_method(method, Aside(), layer="last").attribute(torch.randn(1, 3, 9, 9), torch.tensor([0]))


def test_sobel_worked_out_by_hand():
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 5, 5)
    image = torch.cat([ramp, 2 * ramp.mT, 3 * ramp + 4 * ramp.mT], dim=1)
    got = build_method("SOBEL", nn.Identity()).attribute(image, torch.tensor([0]))
    assert torch.equal(got[0, :, 1:-1, 1:-1], torch.tensor([8.0, 16, 40]).view(3, 1, 1).expand(3, 3, 3))
    assert got[0, 0, :, 0].tolist() == [4.0] * 5, "the border continues the image"
    assert not build_method("SOBEL", nn.Identity()).attribute(torch.ones(1, 2, 4, 4), torch.tensor([0])).any()


@pytest.mark.parametrize("method", ANY_MODEL_METHODS)
@pytest.mark.parametrize("network", ["ResNet-18", "VGG-11"])
def test_methods_explain_other_peoples_networks(method, network, others):
    inputs, parameters = torch.randn(2, 3, 32, 32), {"steps": 2} if method == "IG" else {}
    got = build_method(method, others[network], **parameters).attribute(inputs, torch.tensor([1, 7]))
    assert got.shape in {(2, 3, 32, 32), (2, 1, 32, 32)}
    assert got.isfinite().all()
    assert got.std() > 0


@pytest.fixture(scope="module")
def others():
    return {"ResNet-18": lively(resnet18(num_classes=10), 3, 32, 32), "VGG-11": vgg().eval()}


@pytest.mark.parametrize("method", ["VBP", "IG", "GB", "GC", "CAM", "CO", "captum.attr:InputXGradient"])
def test_a_network_may_change_its_input_in_place(method):
    model, inputs, target = Pooled().eval(), torch.randn(4, 3, 9, 9), torch.arange(4)
    untouched = inputs.clone()
    want = build_method(method, nn.Sequential(nn.ReLU(), model)).attribute(inputs, target)
    got = build_method(method, nn.Sequential(nn.ReLU(inplace=True), model)).attribute(inputs, target)
    torch.testing.assert_close(got, want)
    assert torch.equal(inputs, untouched)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.Dropout(0.1)])
def test_a_network_in_training_mode_is_refused(layer):
    model = nn.Sequential(layer, Pooled()).eval()
    build_method("VBP", model)
    layer.train()
    with pytest.raises(InputError, match=r"layer '0' is in training mode: call model\.eval\(\)"):
        build_method("VBP", model)


class Neighbours(nn.Module):
    """Convolutions with batch norm: foldable, or `odd` in a way that forbids it."""

    def __init__(self, odd: str | None = None) -> None:
        super().__init__()
        self.odd = odd
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        if self.odd == "untraceable" and images.sum() > 1e9:
            return images
        x = self.conv(images)
        y = self.bn(x)
        if self.odd == "output read elsewhere":
            y = y + x
        if self.odd == "convolution called twice":
            y = y + self.conv(images.flip(3))
        if self.odd == "norm called twice":
            y = self.bn(y)
        if self.odd == "weight read elsewhere":
            y = y + F.conv2d(images, self.conv.weight)
        return self.head(y.relu().mean((2, 3)))


@pytest.mark.parametrize(
    "build",
    [lambda: build_model("cifar10"), lambda: resnet18(num_classes=10), Neighbours],
    ids=["SimpleCNN", "ResNet-18", "named"],
)
def test_folded_network_has_the_same_logits_and_no_batch_norm(build):
    model = lively(build(), 3, 32, 32)
    state, inputs = {name: value.clone() for name, value in model.state_dict().items()}, torch.randn(6, 3, 32, 32)
    fast = fuse_batchnorm(model)
    assert (fast(inputs) - model(inputs)).abs().max() < 1e-4 * model(inputs).abs().max().clamp(min=1)
    assert type(fast) is type(model)
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "odd",
    [
        *("output read elsewhere", "convolution called twice", "norm called twice", "weight read elsewhere"),
        *("untraceable", "hooked", "training"),
    ],
)
def test_what_can_not_be_folded_safely_is_left_alone(odd):
    model, inputs = lively(Neighbours(odd), 3, 8, 8), torch.randn(4, 3, 8, 8)
    if odd == "hooked":
        model.conv.register_forward_hook(lambda module, arguments, output: 2 * output)
    if odd == "training":
        model.bn.train()
    fast = fuse_batchnorm(model)
    assert isinstance(fast.bn, nn.BatchNorm2d)
    torch.testing.assert_close(fast(inputs), model(inputs))


def test_activations_are_counted_without_parameters():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 64, 5))
    kept = activation_bytes(Network(model), torch.randn(1, 3, 8, 8))
    assert kept == 4 * (3 * 64 + 4 * 64)  # the image, and tanh's output, which is the linear layer's input too


def test_chunks_are_as_small_as_the_memory_and_change_nothing(monkeypatch):
    model, inputs, target = Pooled().eval(), torch.randn(19, 3, 9, 9), torch.arange(19) % 4
    methods = ("VBP", "GB", "GC", "CO", "IG", "GB-GC")
    quick = {"IG": {"steps": 4}}
    whole = [build_method(name, model, **quick.get(name, {})).attribute(inputs, target) for name in methods]
    monkeypatch.setitem(attribution.chunks.ACTIVATION_BYTES, "cpu", 10 * activation_bytes(Network(model), inputs[:1]))
    assert [len(inputs[part]) for part in Chunks(Network(model))(inputs)] == [10, 9]
    monkeypatch.setitem(attribution.chunks.ACTIVATION_BYTES, "cpu", 1)
    assert [len(inputs[part]) for part in Chunks(Network(model))(inputs)] == [7, 7, 5]
    assert [len(inputs[:9][part]) for part in Chunks(Network(model))(inputs[:9])] == [5, 4]
    seen = []
    model.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    for name, want in zip(methods, whole, strict=True):
        got = build_method(name, model, **quick.get(name, {})).attribute(inputs, target)
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)
    assert max(seen) <= FEWEST_ROWS


CONVOLUTIONS = [
    {"in_channels": 1, "kernel_size": 3, "padding": 1},
    {"in_channels": 3, "kernel_size": 7, "padding": 3, "stride": 2, "bias": False},
    {"in_channels": 3, "kernel_size": (2, 5), "padding": (0, 3), "stride": (3, 1)},
    {"in_channels": 4, "kernel_size": 1},
    {"in_channels": 3, "kernel_size": 3, "stride": 2},
    {"in_channels": 1, "kernel_size": (4, 3), "padding": (1, 2), "stride": 3},
    {"in_channels": 2, "kernel_size": 1, "padding": 3, "stride": 2},
    {"in_channels": 3, "kernel_size": 4, "stride": 4},
    {"in_channels": 2, "kernel_size": 2, "padding": (0, 1), "stride": 5},
    {"in_channels": 1, "kernel_size": 7, "padding": 5, "stride": 4},
]


@pytest.mark.parametrize("options", CONVOLUTIONS)
def test_the_first_convolution_has_the_same_gradient(options):
    torch.manual_seed(0)
    plain = nn.Conv2d(out_channels=6, **options).requires_grad_(False)
    fast = copy.deepcopy(plain)
    use_fast_input_gradient(fast)
    assert type(fast) is ImageConvolution
    images = torch.randn(3, options["in_channels"], 15, 13, requires_grad=True)
    output = plain(images)
    assert torch.equal(fast(images), output)
    weight = torch.randn_like(output)

    def gradient(network):
        return torch.autograd.grad((weight * network(images)).sum(), images)[0]

    torch.testing.assert_close(gradient(fast), gradient(plain))
    small = images[:1, :, :7, :7].detach().double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: fast.double()(x) ** 2, small)


def test_the_first_convolution_under_torch_func_and_with_learning_weights():
    torch.manual_seed(0)
    plain = nn.Conv2d(1, 6, 3, padding=1).requires_grad_(False)
    fast = copy.deepcopy(plain)
    use_fast_input_gradient(fast)
    images = torch.randn(4, 1, 8, 8)

    def each(network):
        return torch.func.vmap(torch.func.grad(lambda one: network(one.unsqueeze(0)).square().sum()))(images)

    torch.testing.assert_close(each(fast), each(plain))
    for network in (plain, fast):
        network.requires_grad_(True)
        network(images.requires_grad_()).square().sum().backward()
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad)


def test_other_convolutions_keep_their_way_back():
    left = nn.Sequential(
        nn.Conv2d(5, 4, 3),
        nn.Conv2d(2, 4, 3, groups=2),
        nn.Conv2d(3, 4, 3, dilation=2),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    )
    use_fast_input_gradient(left)
    assert all(type(module) is nn.Conv2d for module in left)


class ImageByImage(nn.Module):
    """Divides each image by its maximum, one by one: the number of calls depends on that of the images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)

    def forward(self, images):
        images = torch.stack([image / image.amax() for image in images])
        return self.head(self.second(self.first(images).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize("method", ["GC", "CO", "captum.attr:LayerGradCam"])
def test_a_call_whose_number_depends_on_the_batch_is_refused(method):
    model, images = ImageByImage().eval(), torch.rand(4, 3, 9, 9)
    with pytest.raises(InputError, match="calls for two images, and of"):
        build_method(method, model).attribute(images, 1)
    whole = images / images.amax(dim=(1, 2, 3), keepdim=True)
    layers = nn.Sequential(model.first, nn.ReLU(), model.second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    want = build_method(method, nn.Sequential(*layers, model.head), layer="2").attribute(whole, 1)
    got = build_method(method, model, layer="second").attribute(images, 1)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


class Unbound(nn.Module):
    """Calls functions in place, and goes on with what they changed or with what they returned."""

    def __init__(self, relu, is_bound: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)
        self.relu, self.is_bound = relu, is_bound

    def forward(self, images):
        maps = self.second(self.first(images).relu())
        changed = self.relu(maps)
        return self.head((changed if self.is_bound else maps).mean((2, 3)))


@pytest.mark.parametrize("relu", [torch.relu_, nn.ReLU(inplace=True), lambda maps: maps.add_(1).relu_()])
def test_a_change_in_place_that_can_not_be_followed_is_refused(relu):
    images = torch.randn(3, 3, 9, 9)
    with pytest.raises(InputError, match="goes on with the input of"):
        build_method("GC", Unbound(relu, False).eval()).attribute(images, 1)
    want = build_method("GC", Unbound(lambda maps: relu(maps.clone()), True).eval()).attribute(images, 1)
    torch.testing.assert_close(build_method("GC", Unbound(relu, True).eval()).attribute(images, 1), want)


@pytest.mark.parametrize("method", ["VBP", "GC", "GB"])
def test_gradient_checkpointing_that_hides_the_gradient_is_one_line(method):
    class Checkpointed(Unbound):
        def forward(self, images):
            maps = checkpoint(nn.Sequential(self.second, nn.ReLU()), self.first(images).relu(), use_reentrant=True)
            return self.head(maps.mean((2, 3)))

    with pytest.raises(InputError, match=r"gradient checkpointing\): switch that off"):
        build_method(method, Checkpointed(None, True).eval()).attribute(torch.randn(2, 3, 9, 9), 1)


def test_a_constant_logit_is_no_obstacle():
    class Padded(Unbound):
        def forward(self, images):
            logits = self.head(self.second(self.first(images).relu()).relu().mean((2, 3)))
            return torch.cat([torch.zeros(len(images), 3), logits], 1)

    assert build_method("GC", Padded(None, True).eval()).attribute(torch.randn(2, 3, 9, 9), 4).shape == (2, 1, 9, 9)


class Patched(nn.Module):
    """Patches of four pixels, a change that a subclass makes, and a linear head on the mean over the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.width, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(8, 8), nn.Linear(16, 5)

    def forward(self, images):
        return self.head(F.gelu(self.changed(self.patches(images))).mean((2, 3)))


class WithTransposedBranch(Patched):
    def changed(self, features):
        gate = features.transpose(2, 3).softmax(-1).mean((2, 3))
        return features * gate[:, :, None, None]


class WithLinearOverWidth(Patched):
    def changed(self, features):
        return features + self.width(features)


@pytest.mark.parametrize("kind", [WithTransposedBranch, WithLinearOverWidth])
def test_height_and_width_of_a_square_map_are_not_mistaken(kind):
    model, inputs = kind().eval(), torch.rand(2, 3, 32, 32)
    features = model.patches(inputs)
    want = F.interpolate(F.gelu(model.changed(features)).mean(1, keepdim=True), size=(32, 32), mode="bilinear")
    torch.testing.assert_close(build_method("CO", model).attribute(inputs, torch.tensor([0, 1])), want)


class Attending(nn.Module):
    """Convolutions with self-attention between their positions, normalised by batch norms alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, images):
        features = self.norm(self.first(images)).relu()
        query, key, value = self.qkv(features.flatten(2).transpose(1, 2)).chunk(3, dim=2)
        attended = torch.softmax(query @ key.mT, dim=-1) @ value
        return self.head((features + attended.transpose(1, 2).unflatten(2, features.shape[2:])).mean((2, 3)))


class Averaged(nn.Module):
    """The mean logits of two networks that read the same normalised images."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList([Pooled(), Pooled()])

    def forward(self, images):
        images = (images - 0.45) / 0.225
        return sum(network(images) for network in self.networks) / 2


def test_normalised_images_are_no_feature_map():
    model, inputs, target = Attending().eval(), torch.rand(2, 3, 16, 16), torch.tensor([0, 3])
    normalise = Normalize([0.5] * 3, [0.25] * 3)
    for method in ("GC", "CO"):
        want = build_method(method, model).attribute(normalise(inputs), target)
        torch.testing.assert_close(
            build_method(method, nn.Sequential(normalise, model)).attribute(inputs, target), want
        )
        with pytest.raises(InputError, match="no feature map that all paths"):
            build_method(method, Averaged().eval()).attribute(inputs, target)


@pytest.mark.parametrize("centred", [lambda y: y.log_softmax(1), lambda y: y - y.mean(1, keepdim=True)])
def test_class_scores_are_no_feature_map_however_they_are_centred(centred):
    class Scoring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.scores = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1)

        def forward(self, images):
            return centred(self.scores(self.features(images).relu()).mean((2, 3)))

    model, inputs, target = Scoring().eval(), torch.rand(2, 3, 16, 16), torch.tensor([0, 3])
    features = model.features(inputs).relu().mean(1, keepdim=True)
    want = F.interpolate(features, size=(16, 16), mode="bilinear")
    torch.testing.assert_close(build_method("CO", model).attribute(inputs, target), want)


def test_tokens_lie_on_a_grid_that_all_of_them_fill_but_those_that_are_not_of_the_image():
    """33 tokens of patches of 4 × 8 pixels lie on no grid of 5 × 5 behind eight others."""
    one_extra = MapLayout((32, 32), [], {33: [0]}, None)
    assert one_extra.tokens_to_map(33) is None
    assert one_extra.tokens_to_map(17) is not None, "not known: the first token is dropped"
    merged = MapLayout((32, 32), [(8, 8)], {17: [0]}, None).tokens_to_map(17)
    assert merged(torch.arange(17.0).view(1, 17, 1)).flatten().tolist() == [*range(1, 17)], "half of a convolution's"
    tokens = torch.arange(17.0).view(1, 17, 1)
    to_map = MapLayout((32, 32), [], {17: [16]}, None).tokens_to_map(17)
    assert to_map(tokens).flatten().tolist() == [*range(16)]
