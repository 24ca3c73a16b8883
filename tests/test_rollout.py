"""Attention rollout and its gradient form, against attention matrices worked out by hand from the weights."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision.models as tv
from torch import nn

from attribution import ANY_MODEL_METHODS, build_method
from common.errors import InputError
from tests.test_gradcam_networks import NETWORKS, built
from tests.test_other_methods import facts

pytestmark = pytest.mark.filterwarnings("ignore")
TARGET = torch.tensor([0, 3, 1])


class HandAttention(nn.Module):
    """Self-attention (N, T, C) in single steps, which keeps its weights (N, heads, T, T)."""

    def __init__(self, heads, qkv, bias, project):
        super().__init__()
        self.heads, self.qkv, self.bias, self.project = heads, qkv, bias, project

    def forward(self, tokens, *_others, **_options):
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in F.linear(tokens, self.qkv, self.bias).chunk(3, dim=2)
        )
        self.weights = torch.softmax(query @ key.mT / query.shape[3] ** 0.5, dim=3)
        return self.project((self.weights @ value).transpose(1, 2).flatten(2))


class Pair(HandAttention):
    def forward(self, *args, **options):
        return super().forward(*args, **options), None


def timm_by_hand(model):
    for block in model.blocks:
        attention = block.attn
        block.attn = HandAttention(attention.num_heads, attention.qkv.weight, attention.qkv.bias, attention.proj)
    return [block.attn for block in model.blocks], model


def torchvision_by_hand(model):
    for block in model.encoder.layers:
        attention = block.self_attention
        block.self_attention = Pair(
            attention.num_heads, attention.in_proj_weight, attention.in_proj_bias, attention.out_proj
        )
    return [block.self_attention for block in model.encoder.layers], model


def of_timm(**options):
    return lambda: timm.create_model(
        "vit_tiny_patch16_224", img_size=(32, 64), depth=3, embed_dim=32, num_heads=2, num_classes=5, **options
    )


def of_torchvision():
    return tv.VisionTransformer((32), 8, 3, 2, 32, 64, num_classes=5)


class_token = torch.tensor([1.0])
CASES = {
    "timm": (of_timm(), timm_by_hand, (32, 64), class_token, (1, 2, 4)),
    "timm with registers": (of_timm(reg_tokens=4), timm_by_hand, (32, 64), class_token, (5, 2, 4)),
    "timm with average pooling": (
        of_timm(global_pool="avg", class_token=False),
        timm_by_hand,
        (32, 64),
        torch.full((8,), 1 / 8),
        (0, 2, 4),
    ),
    "torchvision": (of_torchvision, torchvision_by_hand, (32, 32), class_token, (1, 4, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_both_equal_the_products_by_hand(name):
    build, by_hand, size, reader, (prefix, height, width) = CASES[name]
    torch.manual_seed(0)
    model = build().eval()
    nn.init.normal_(model.head.weight if hasattr(model, "head") else model.heads.head.weight)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(3)  # so that attention is no mean
    images = torch.randn(3, 3, *size)
    attentions, copied = by_hand(copy.deepcopy(model))
    logits = copied(images)
    torch.testing.assert_close(logits, model(images), rtol=1e-4, atol=1e-4)
    weights = [attention.weights for attention in attentions]
    slopes = torch.autograd.grad(logits[range(3), TARGET].sum(), weights)
    identity = torch.eye(weights[0].shape[-1])

    rollout, gradient_form = identity, identity
    for layer, slope in zip(weights, slopes, strict=True):
        rollout = (0.5 * layer.mean(1) + 0.5 * identity) @ rollout
        gradient_form = gradient_form + (slope * layer).clamp(min=0).mean(1) @ gradient_form
    for method, want in (("ROLLOUT", rollout), ("GRAD-ROLLOUT", gradient_form)):
        want = torch.einsum("r,nrt->nt", reader, want[:, : len(reader)])[:, prefix:]
        want = F.interpolate(want.detach().view(3, 1, height, width), size=size, mode="bilinear")
        before = facts(model)
        got = build_method(method, model).attribute(images, TARGET)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
        assert facts(model) == before
        assert got.flatten(1).std(1).min() > 0
        torch.testing.assert_close(build_method(method, model).attribute(images[1:2], TARGET[1:2]), got[1:2])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_transformers_shows_the_same_weights_itself(implementation):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        num_labels=5, initializer_range=0.3,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    images = torch.randn(3, 3, 32, 32)
    model.set_attn_implementation("eager")
    output = model(images, output_attentions=True)
    slopes = torch.autograd.grad(output.logits[range(3), TARGET].sum(), output.attentions)
    model.set_attn_implementation(implementation)
    rollout = relevance = torch.eye(17)
    for layer, slope in zip(output.attentions, slopes, strict=True):
        rollout = (layer.mean(1) + torch.eye(17)) / 2 @ rollout
        relevance = relevance + (slope * layer).relu().mean(1) @ relevance
    for method, want in (("ROLLOUT", rollout), ("GRAD-ROLLOUT", relevance)):
        want = F.interpolate(want[:, 0, 1:].detach().view(3, 1, 4, 4), size=(32, 32), mode="bilinear")
        got = build_method(method, model).attribute(images, TARGET)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    assert model.config._attn_implementation == implementation


def test_the_gradient_form_is_of_the_class_and_rollout_is_not():
    model, images, _layer, _reshape = built("timm vit")
    for method, is_of_class in (("ROLLOUT", False), ("GRAD-ROLLOUT", True)):
        maps = build_method(method, model).attribute(images, 1), build_method(method, model).attribute(images, 2)
        assert torch.equal(*maps) != is_of_class


def test_few_images_at_a_time_are_as_good_as_all(monkeypatch):
    model, images, _layer, _reshape = built("timm vit")
    want = build_method("GRAD-ROLLOUT", model).attribute(images, TARGET)
    monkeypatch.setattr("attribution.rollout.WEIGHT_BYTES", 1)
    torch.testing.assert_close(build_method("GRAD-ROLLOUT", model).attribute(images, TARGET), want)


class Masked(nn.Module):
    """Attention with a mask over the keys, in PyTorch's own module."""

    def __init__(self):
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 8, 4, stride=4), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        mask = torch.zeros(len(images), tokens.shape[1], dtype=torch.bool)
        return self.head(self.attention(tokens, tokens, tokens, key_padding_mask=mask)[0].mean(1))


REFUSED = {
    "timm resnet": "no attention over tokens: GC",
    "torchvision convnext": "no attention over tokens: GC",
    "timm swin": "windows",
    "torchvision swin": "windows",
    "timm maxvit": "windows",
    "torchvision maxvit": "windows",
}


@pytest.mark.parametrize("method", ["ROLLOUT", "GRAD-ROLLOUT"])
@pytest.mark.parametrize("name", REFUSED)
def test_networks_without_attention_from_tokens_to_tokens_are_refused(name, method):
    assert NETWORKS[name]
    model, images, _layer, _reshape = built(name)
    with pytest.raises(InputError, match=REFUSED[name]) as refused:
        build_method(method, model).attribute(images[:1], 0)
    assert "\n" not in str(refused.value)


def test_attention_that_is_not_followed_is_refused():
    with pytest.raises(InputError, match="masks"):
        build_method("ROLLOUT", Masked().eval()).attribute(torch.randn(1, 3, 16, 16), 0)
    pooled = timm.create_model(
        "vit_base_patch16_siglip_224", img_size=32, depth=2, embed_dim=32, num_heads=2, num_classes=5
    )
    with pytest.raises(InputError, match="pooled token"):
        build_method("ROLLOUT", pooled.eval()).attribute(torch.randn(1, 3, 32, 32), 0)


def test_they_are_no_methods_of_every_network():
    assert not {"ROLLOUT", "GRAD-ROLLOUT"} & set(ANY_MODEL_METHODS)


class Added(nn.Module):
    """The mean logits of several networks."""

    def __init__(self, *networks):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images):
        return sum(network(images) for network in self.networks) / len(self.networks)


@pytest.mark.parametrize(
    ("method", "reason"), [("ROLLOUT", "no chain"), ("GRAD-ROLLOUT", "no chain"), ("GC", "all paths")]
)
def test_networks_whose_logits_are_added_are_refused(method, reason):
    """The last attention is that of the last network alone."""
    first, images, _layer, _reshape = built("timm vit")
    with pytest.raises(InputError, match=reason):
        build_method(method, Added(first, copy.deepcopy(first)).eval()).attribute(images, TARGET)


class WithText(nn.Module):
    """A vision transformer, and attention behind it that no image reaches, as that of a text encoder."""

    def __init__(self, vision):
        super().__init__()
        self.vision, self.text = vision, nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.words = nn.Parameter(torch.randn(1, 4, 8))

    def forward(self, images):
        logits = self.vision(images)
        return logits * (1 + self.text(self.words).mean().tanh() / 10)


def test_attention_that_no_image_reaches_is_no_layer_of_grad_cam():
    vision, images, _layer, _reshape = built("timm vit")
    got, want = (build_method("GC", model).attribute(images, TARGET) for model in (WithText(vision).eval(), vision))
    assert want.any()
    torch.testing.assert_close(got / got.amax(), want / want.amax())


class ClassToken(nn.Module):
    """A transformer whose class token stands at `place` among the tokens of 2 × 4 patches."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 32)), nn.Parameter(torch.randn(1, 8, 32))
        layers = [nn.TransformerEncoderLayer(32, 2, 64, batch_first=True, norm_first=True) for _ in range(2)]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(32, 5)

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        token = self.token.expand(len(images), -1, -1)
        tokens = torch.cat([patches[:, : self.place], token, patches[:, self.place :]], dim=1)
        return self.head(self.layers(tokens)[:, self.place])


@pytest.mark.parametrize("method", ["GC", "ROLLOUT", "GRAD-ROLLOUT"])
@pytest.mark.parametrize("place", [3, 8])
def test_a_class_token_may_stand_behind_the_patches_or_among_them(method, place):
    torch.manual_seed(0)
    first, other = ClassToken(0).eval(), ClassToken(place).eval()
    for parameter in first.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(2)  # so that attention is no mean
    other.load_state_dict(first.state_dict())
    images = torch.randn(3, 3, 16, 32)
    want = build_method(method, first).attribute(images, TARGET)
    torch.testing.assert_close(build_method(method, other).attribute(images, TARGET), want, rtol=1e-4, atol=1e-6)
    assert want.flatten(1).std(1).min() > 0


def test_the_tokens_that_are_read_are_found_again_when_the_network_changes():
    torch.manual_seed(0)
    model = timm.models.vision_transformer.VisionTransformer(
        32, 8, num_classes=5, depth=2, embed_dim=16, num_heads=2
    ).eval()
    images, method = torch.randn(2, 3, 32, 32), build_method("ROLLOUT", model)
    of_class_token = method.attribute(images, 1)
    model.global_pool, model.norm, model.fc_norm = "avg", model.fc_norm, model.norm
    of_patches = method.attribute(images, 1)
    assert not torch.equal(of_patches, of_class_token)
    assert torch.equal(of_patches, build_method("ROLLOUT", model).attribute(images, 1))


class OverQueries(HandAttention):
    """The same attention, whose softmax is over the first axis of the transposed matrices."""

    def forward(self, tokens, *_others, **_options):
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in F.linear(tokens, self.qkv, self.bias).chunk(3, dim=2)
        )
        weights = torch.softmax(key @ query.mT / query.shape[3] ** 0.5, dim=-2).mT
        return self.project((weights @ value).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("name", ["ROLLOUT", "GRAD-ROLLOUT"])
def test_a_softmax_over_another_axis_is_refused(name):
    model = of_timm()().eval()
    for block in model.blocks:
        attention = block.attn
        block.attn = OverQueries(attention.num_heads, attention.qkv.weight, attention.qkv.bias, attention.proj)
    with pytest.raises(InputError, match="over another axis than the last"):
        build_method(name, model).attribute(torch.rand(3, 3, 32, 64), TARGET)
