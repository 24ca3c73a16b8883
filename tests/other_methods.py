"""Methods as a user might bring them: `--method=tests.other_methods:occlusion`."""

import functools
import itertools
import random

import numpy as np
import torch
from captum.attr import LRP, DeepLiftShap, GradientShap, IntegratedGradients, NoiseTunnel, Occlusion
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import nn

occlusion = functools.partial(Occlusion)


def occluded(model):
    """A factory of a method with its arguments; large steps, since larger images than the test's are explained too."""
    method = Occlusion(model)
    return functools.partial(method.attribute, sliding_window_shapes=(1, 4, 4), strides=(1, 4, 4))


def gradient_shap(model):
    method = GradientShap(model)

    def explain(inputs, target):
        return method.attribute(inputs, baselines=torch.zeros_like(inputs[:1]), n_samples=4, stdevs=0.1, target=target)

    return explain


def deep_lift_shap(model, baselines=2):
    method, distribution = DeepLiftShap(model), torch.linspace(-1, 1, baselines).view(-1, 1, 1, 1)
    return lambda inputs, target: method.attribute(
        inputs, baselines=distribution.expand(-1, *inputs.shape[1:]), target=target
    )


three_baselines = functools.partial(deep_lift_shap, baselines=3)


def noise_tunnel(model):
    return NoiseTunnel(IntegratedGradients(model))


def lrp(model):
    """Captum's LRP with a rule for `nn.Flatten`, which it doesn't know."""
    for module in model.modules():
        if isinstance(module, nn.Flatten):
            module.rule = EpsilonRule()
    return LRP(model)


def epsilon_plus(model):
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    def explain(inputs, target):
        with Gradient(model, EpsilonPlus()) as attributor:
            logits = model(inputs)
            _output, relevance = attributor(inputs, torch.eye(logits.shape[1])[target])
        return relevance

    return explain


def grad_cam(model, target_layers):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    method = GradCAM(model, target_layers)
    return lambda inputs, target: method(inputs, [ClassifierOutputTarget(int(one)) for one in target])


class HookedGradCAM:
    """Grad-CAM as pytorch-grad-cam goes about it: hooks from the beginning, `backward`, arrays at the image's size."""

    def __init__(self, model, target_layers):
        self.model, (layer,) = model.eval(), target_layers
        layer.register_forward_hook(self.hold)

    def hold(self, _module, _inputs, output):
        self.activation = output
        output.register_hook(lambda gradient: setattr(self, "gradient", gradient))

    def attribute(self, inputs, target):
        self.model.zero_grad()
        self.model(inputs).gather(1, target.view(-1, 1)).sum().backward()
        weights = self.gradient.mean(dim=(2, 3), keepdim=True)
        return (weights * self.activation).sum(dim=1).relu().detach().numpy()


class Gradient:
    """The gradient, of which the other methods are made."""

    def __init__(self, model):
        self.model = model

    def attribute(self, inputs, target):
        images = inputs.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.model(images).gather(1, target.view(-1, 1)).sum(), images)
        return gradient


class Noisy(Gradient):
    """Noise of each of the three global generators."""

    def __init__(self, model, source="torch"):
        super().__init__(model)
        self.source = source

    def attribute(self, inputs, target):
        shape = inputs.shape
        noise = {
            "torch": lambda: torch.randn(shape),
            "numpy": lambda: torch.from_numpy(np.random.standard_normal(shape)),  # noqa: NPY002
            "random": lambda: torch.tensor([random.gauss() for _ in range(inputs.numel())]).view(shape),
        }[self.source]()
        return super().attribute(inputs + noise.float(), target)


class OwnNoise(Gradient):
    """Draws from a generator that nobody else can seed."""

    def __init__(self, model):
        super().__init__(model)
        self.generator = np.random.default_rng(0)

    def attribute(self, inputs, target):
        return super().attribute(inputs, target) * self.generator.standard_normal()


class ByTheBatch(Gradient):
    """Divides by the largest value of the batch."""

    def attribute(self, inputs, target):
        maps = super().attribute(inputs, target)
        return maps / maps.abs().max()


class Shuffled(Gradient):
    """Beside random numbers, looks at the next image."""

    def attribute(self, inputs, target):
        return super().attribute(inputs, target) * torch.rand(1) + inputs.roll(1, dims=0)


class FirstTarget(Gradient):
    """Explains the class of the first image, of all."""

    def attribute(self, inputs, target):
        return super().attribute(inputs, target[:1].expand(len(inputs)))


class Counting(Gradient):
    """The first image comes out otherwise than the rest."""

    def attribute(self, inputs, target):
        return super().attribute(inputs, target) * torch.arange(1, len(inputs) + 1).view(-1, 1, 1, 1)


class Careless(Gradient):
    """Leaves everything in the network behind, and fails where asked to."""

    def __init__(self, model, fails=False, early=False):
        super().__init__(model)
        self.fails = fails
        model.register_forward_hook(lambda *call: None)
        if early:
            raise RuntimeError("too early")

    def attribute(self, inputs, target):
        model, maps = self.model, super().attribute(inputs, target)
        model.train()
        model.requires_grad_(False)
        model.tag = "mine"
        model[0].register_forward_hook(lambda *call: None)
        model[0].register_full_backward_hook(lambda *call: None)
        model(inputs)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2)
                parameter.grad = torch.ones_like(parameter)
        model[2] = nn.Identity()
        inputs.zero_()
        target.zero_()
        if self.fails:
            raise RuntimeError("on purpose")
        return maps


class Returning(Gradient):
    """Its maps in the form that is asked for."""

    def __init__(self, model, form):
        super().__init__(model)
        self.form = form

    def attribute(self, inputs, target):
        maps = super().attribute(inputs, target)
        return FORMS[self.form](maps)


FORMS = {
    "array": lambda maps: maps.numpy()[::-1].copy()[::-1],
    "double": lambda maps: maps.double(),
    "half": lambda maps: maps.half(),
    "graph": lambda maps: maps.requires_grad_() * 1,
    "tuple of one": lambda maps: (maps,),
    "list of one": lambda maps: [maps],
    "list of tensors": list,
    "list of arrays": lambda maps: [one.numpy() for one in maps],
    "list of batches": lambda maps: list(maps.split(1)),
    "nested lists": lambda maps: maps.tolist(),
    "read-only": lambda maps: np.broadcast_to(maps.numpy(), maps.shape),
}
WRONG_FORMS = {
    "two things": lambda maps: (maps, maps),
    "none": lambda maps: None,
    "channels last": lambda maps: maps.permute(0, 2, 3, 1),
    "many channels": lambda maps: maps[:, :1].expand(-1, 5, -1, -1)[:, :, ::2, ::2],
    "too large": lambda maps: nn.functional.pad(maps, (1, 1, 1, 1)),
    "one value": lambda maps: maps.mean(dim=(2, 3), keepdim=True),
    "flat": lambda maps: maps.flatten(1),
    "a list too short": lambda maps: [*maps][:-1] or [maps[0, 0, 0]],
    "not finite": lambda maps: maps / 0,
    "complex": lambda maps: maps * 1j,
    "text": lambda maps: "maps",
}
FORMS |= WRONG_FORMS


class Smaller(Gradient):
    """Maps of a layer's size, of as many axes as asked for."""

    def __init__(self, model, axes=4, all_channels=False):
        super().__init__(model)
        self.axes, self.all_channels = axes, all_channels

    def attribute(self, inputs, target):
        maps = super().attribute(inputs, target)[:, :, ::2, ::2]
        maps = maps if self.all_channels else maps.sum(dim=1, keepdim=True)
        return maps[:, 0] if self.axes == 3 else maps


class ByName(Gradient):
    """Takes a layer by its name."""

    def __init__(self, model, layer: str):
        super().__init__(model)
        self.layer = layer

    def attribute(self, inputs, target):
        held = []
        handle = self.model.get_submodule(self.layer).register_forward_hook(lambda *call: held.append(call[2]))
        self.model(inputs)
        handle.remove()
        return held[0].mean(dim=1)


def labelled(model):
    return lambda inputs, labels: inputs


def explained(inputs, target):
    return inputs


def weighing(model, weight, repeats=1):
    """A factory with an argument that it must have."""
    return lambda inputs, target: weight * repeats * inputs


class Remaking:
    """Changes the weights that it is given."""

    def __init__(self, model):
        with torch.no_grad():
            next(model.parameters()).zero_()

    def attribute(self, inputs, target):
        return inputs


no_method = 3
numbers = itertools.count()
