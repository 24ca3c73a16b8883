"""Calls on the same network share a copy of it, as long as the network is as it was."""

import gc
import weakref
from functools import partial

import pytest
import torch
from torch import nn

import attribution.network
import whitebox
from attribution import ANY_MODEL_METHODS, build_method, preparation
from attribution.fusing import is_fused
from attribution.network import Network
from common.errors import InputError
from tests.small_network import small_images, small_network


class Scaled(nn.Module):
    """A network with attributes of many kinds, all of which its logits depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = small_network()
        self.factors, self.scale, self.shift = [2.0, {"last": 1.0}], 3, torch.ones(1)
        self.hidden = [nn.Linear(3, 3)]  # no submodule for PyTorch
        self.curve = torch.tanh

    def forward(self, images):
        logits = self.curve(self.hidden[0](self.body(images * self.scale + self.shift)))
        return logits * self.factors[0] * self.factors[1]["last"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Scaled().eval()


@pytest.fixture
def copies(monkeypatch):
    """The networks that were copied."""
    copied, fuse = [], attribution.network.fuse_batchnorm
    monkeypatch.setattr(attribution.network, "fuse_batchnorm", lambda model: copied.append(id(model)) or fuse(model))
    return copied


def gradient(model, images):
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)[0]


def explain(model, images, method="VBP"):
    return whitebox.explain(model, images, 1, method)


def set_weight(model):
    with torch.no_grad():
        model.body[0].weight.mul_(2)


def permute_data(model):
    weight = model.body[4].weight
    weight.data.copy_(weight.data.flip(0))  # no other version, and the same sum


def swap_data(model):
    model.body[8].weight.data = model.body[8].weight.data.neg()


def load(model):
    model.load_state_dict({name: 1.5 * value for name, value in model.state_dict().items()})


def set_forward(model, forward):
    model.forward = forward


def pooled_pixels(images):
    return torch.stack([images.mean((1, 2, 3)), images.square().sum((1, 2, 3)), images.amax((1, 2, 3))], 1)


CHANGES = {
    "weight in place": set_weight,
    "weight by data": permute_data,
    "other data": swap_data,
    "loaded": load,
    "other parameter": lambda model: setattr(model.body[8], "weight", nn.Parameter(-model.body[8].weight)),
    "buffer": lambda model: model.body[1].running_mean.add_(0.3),
    "other buffer": lambda model: setattr(model.body[1], "running_var", torch.full((4,), 3.0)),
    "submodule": lambda model: model.body.__setitem__(2, nn.Softplus()),
    "another class": lambda model: setattr(model.body[2], "__class__", nn.Sigmoid),
    "attribute of a module of PyTorch": lambda model: setattr(model.body[3], "stride", 1),
    "attribute": lambda model: setattr(model, "scale", 2),
    "entry of a list": lambda model: model.factors.__setitem__(0, 5.0),
    "entry of a dictionary in a list": lambda model: model.factors[1].update(last=-1.0),
    "tensor that is no buffer": lambda model: model.shift.add_(1),
    "module in a list": lambda model: model.hidden[0].weight.data.neg_(),
    "function": lambda model: setattr(model, "curve", torch.sin),
    "forward function": partial(set_forward, forward=pooled_pixels),
    "forward function with variables": lambda model: set_forward(model, lambda images: model.body(images)),
    "hook": lambda model: model.body[5].register_forward_hook(lambda _module, _images, output: 2 * output),
    "hook before": lambda model: model.body.register_forward_pre_hook(lambda _module, images: (images[0] - 1,)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_of_the_network_is_noticed(change, model):
    images = small_images()
    before = explain(model, images)
    torch.testing.assert_close(before, gradient(model, images), rtol=1e-4, atol=1e-6)
    change(model)
    after = explain(model, images)
    torch.testing.assert_close(after, gradient(model, images), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(before, after)


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = small_network()

    def forward(self, images):
        return self.body(images)


def test_another_forward_function_of_the_class_is_noticed(monkeypatch):
    """Because of it, the batch norm may not be fused any more."""
    model, images = Wrapped().eval(), small_images()
    explain(model, images)

    def forward(self, images):
        convolved = self.body[0](images)
        return self.body[1:](convolved) + convolved.square().mean((2, 3))[:, :3]

    monkeypatch.setattr(Wrapped, "forward", forward)
    torch.testing.assert_close(explain(model, images), gradient(model, images), rtol=1e-4, atol=1e-6)


def test_a_network_that_did_not_change_is_copied_once(model, copies):
    images = small_images()
    want = explain(model, images), explain(model, images, "GC")
    for _ in range(2):
        assert torch.equal(explain(model, images), want[0])
        assert torch.equal(explain(model, images, "GC"), want[1])
    assert copies == [id(model)]
    explain(model, torch.cat([images, images], dim=3))  # other images may have other layers and chunks
    explain(Scaled().eval(), images)
    assert len(copies) == 3


def test_modes_are_noticed(model):
    images = small_images()
    explain(model, images)
    model.body[1].train()
    with pytest.raises(InputError, match="training mode"):
        explain(model, images)


class Logarithms(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, images):
        return super().forward(images.log())


def test_images_without_finite_logits_are_refused_whatever_was_explained_before():
    model, images = Logarithms().eval(), small_images().abs()
    for method in ("VBP", "GC", "CAM", "CO"):
        explain(model, images, method)
        with pytest.raises(InputError, match="not finite"):
            explain(model, -images, method)


@pytest.mark.parametrize("method", ANY_MODEL_METHODS)
def test_networks_are_freed(method):
    model = small_network()
    explain(model, small_images(), method)
    references = [weakref.ref(network) for network in (model, getattr(preparation.pool.get(model), "copy", model))]
    del model
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def refer_by_forward(model):
    model.forward = lambda images: model.body(images)


def refer_by_default(model):
    model.forward = lambda images, own=model: own.body(images)


def refer_by_partial(model):
    model.forward = partial(lambda own, images: own.body(images), model)


def refer_by_class(model):
    class Own(Scaled):
        def forward(self, images):
            return model.body(images)

    model.__class__ = Own


def refer_by_hook(model):
    model.register_forward_hook(lambda _module, _images, output: output + 0 * model.scale)


@pytest.mark.parametrize("refer", [refer_by_forward, refer_by_default, refer_by_partial, refer_by_class, refer_by_hook])
def test_networks_that_refer_to_themselves_are_freed(refer, model):
    model = Scaled().eval()
    refer(model)
    torch.testing.assert_close(explain(model, small_images()), gradient(model, small_images()), rtol=1e-4, atol=1e-6)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


class Recalling(nn.Module):
    """Keeps the images of its last call."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = small_network(), torch.zeros(1)

    def forward(self, images):
        self.last = images.detach()
        return self.body(images)


def test_copies_of_networks_that_change_themselves_or_are_large_are_not_kept(model, copies, monkeypatch):
    images, recalling = small_images(), Recalling().eval()
    for _ in range(2):
        torch.testing.assert_close(explain(recalling, images), gradient(recalling, images), rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(preparation, "MOST_BYTES", 100)
    for _ in range(2):
        explain(model, images)
    assert copies == [id(recalling)] * 2 + [id(model)] * 2


def test_no_two_calls_use_a_copy_at_the_same_time(model):
    images, (first, second, third) = small_images(), (Network(model, fuse=True) for _ in range(3))
    explain(model, images)
    with first.prepared(images), second.prepared(images):
        copies = {first.module, second.module}
        assert len(copies) == 2 and all(map(is_fused, copies))
    with third.prepared(images):
        assert third.module in copies


EDITS = {
    "the list that it reads": lambda model: model.factors.__setitem__(0, -2.0),
    "epsilon": lambda model: setattr(model.norm, "eps", 2.0),
    "stride": lambda model: setattr(model.last, "stride", (2, 2)),
    "a forward pass": lambda model: setattr(model.relu, "forward", torch.sigmoid),
}


class Edited(nn.Module):
    """A network that is too large to be shared between methods."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.last, self.factors = nn.Conv2d(4, 5, 3), [1.0]

    def forward(self, images):
        return self.last(self.relu(self.norm(self.first(images))) * self.factors[0]).mean((2, 3))


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_method_sees_edits_of_a_large_network(monkeypatch, edit):
    monkeypatch.setattr(preparation, "MOST_BYTES", 0)
    torch.manual_seed(0)
    model, images = Edited().eval(), torch.randn(2, 3, 9, 9)
    method = build_method("VBP", model)
    method.attribute(images, 1)
    edit(model)
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    torch.testing.assert_close(method.attribute(images, 1), gradient)


def test_few_networks_are_remembered():
    networks = [nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(2)).eval() for _ in range(12)]
    images = torch.randn(2, 3, 6, 6)
    for network in networks:
        network(images)
        build_method("VBP", network).attribute(images, 1)
    assert len(preparation.pool) <= preparation.MOST_NETWORKS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_change_places_are_seen_where_the_copy_is_not_shared(dtype):
    """Their sum stays the same."""
    torch.manual_seed(0)
    model = small_network().eval().to(dtype)
    model.names = partial(torch.relu)  # an attribute that forbids to share
    images = small_images()
    method = build_method("VBP", model)
    method.attribute(images, 0)
    weight = next(module for module in model.modules() if isinstance(module, nn.Conv2d)).weight
    with torch.no_grad():
        weight[[0, 1]] = weight[[1, 0]].clone()
    torch.testing.assert_close(method.attribute(images, 0), build_method("VBP", model).attribute(images, 0))
