"""Grad-CAM with its layer and reshape found, against pytorch-grad-cam with both given by hand."""

import pytest
import timm
import torch
import torchvision.models as tv
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from attribution import build_method
from attribution.layers import find_layer
from attribution.network import Network

CLASSES = 5


def tokens(prefix, height, width):
    return lambda output: output[:, prefix:].transpose(1, 2).reshape(len(output), -1, height, width)


def channels_last(output):
    return output.permute(0, 3, 1, 2)


def from_timm(name, **options):
    return lambda: timm.create_model(name, num_classes=CLASSES, **options)


def from_transformers(name, **options):
    def build():
        transformers = pytest.importorskip("transformers")
        config = getattr(transformers, f"{name}Config")(num_labels=CLASSES, **options)
        return getattr(transformers, f"{name}ForImageClassification")(config)

    return build


class Logits(nn.Module):
    """Another library needs the logits as a tensor."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        output = self.model(images)
        return output if isinstance(output, torch.Tensor) else output.logits


VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SMALL_SWIN = {"embed_dim": 24, "depths": (1, 1, 2), "num_heads": (1, 2, 2)}
NETWORKS = {
    # name: network, size of the images, layer, reshape
    "timm vit": (
        from_timm("vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=32, num_heads=2),
        (64, 64),
        "blocks.1.norm1",
        tokens(1, 4, 4),
    ),
    "timm vit with registers, not square": (
        from_timm("vit_tiny_patch16_224", img_size=(32, 64), depth=2, embed_dim=32, num_heads=2, reg_tokens=4),
        (32, 64),
        "blocks.1.norm1",
        tokens(5, 2, 4),
    ),
    "timm deit with a distillation token": (
        from_timm("deit_tiny_distilled_patch16_224", img_size=64, depth=2, embed_dim=32, num_heads=2),
        (64, 64),
        "blocks.1.norm1",
        tokens(2, 4, 4),
    ),
    "timm swin": (
        from_timm("swin_tiny_patch4_window7_224", img_size=64, window_size=2, **SMALL_SWIN),
        (64, 64),
        "layers.2.blocks.1.norm1",
        channels_last,
    ),
    "timm swin v2": (from_timm("swinv2_tiny_window8_256", img_size=64, **SMALL_SWIN), (64, 64), "norm", channels_last),
    "timm convnext": (
        from_timm("convnext_atto", depths=(1, 1, 2, 1), dims=(8, 16, 16, 24)),
        (64, 64),
        "stages.3",
        None,
    ),
    "timm maxvit": (
        from_timm("maxvit_rmlp_pico_rw_256", img_size=64, embed_dim=(32, 64), depths=(1, 1), stem_width=8),
        (64, 64),
        "stages.1.blocks.0.attn_grid.norm1",
        channels_last,
    ),
    "timm resnet": (from_timm("resnet10t"), (64, 64), "layer4", None),
    "timm efficientnet": (from_timm("efficientnet_lite0"), (64, 64), "bn2", None),
    "torchvision vit": (
        lambda: tv.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=CLASSES),
        (32, 32),
        "encoder.layers.encoder_layer_1.ln_1",
        tokens(1, 4, 4),
    ),
    "torchvision swin": (
        lambda: tv.SwinTransformer([4, 4], 24, [1, 2], [2, 2], [2, 2], num_classes=CLASSES),
        (64, 64),
        "features.3.1.norm1",
        channels_last,
    ),
    "torchvision convnext": (
        lambda: tv.ConvNeXt(
            [tv.convnext.CNBlockConfig(8, 16, 1), tv.convnext.CNBlockConfig(16, None, 1)], num_classes=CLASSES
        ),
        (64, 64),
        "features",
        None,
    ),
    "torchvision maxvit": (
        lambda: tv.MaxVit((64, 64), 8, 2, [16, 32], [1, 1], 8, 0.0, num_classes=CLASSES),
        (64, 64),
        "blocks.1",
        None,
    ),
    "transformers vit": (
        from_transformers("ViT", image_size=32, patch_size=8, **VIT),
        (32, 32),
        "vit.layers.1.layernorm_before",
        tokens(1, 4, 4),
    ),
    "transformers swin, whose tokens are merged": (
        from_transformers("Swin", image_size=64, embed_dim=16, depths=[1, 2], num_heads=[2, 2], window_size=4),
        (64, 64),
        "swin.encoder.layers.1.blocks.1.layernorm_before",
        tokens(0, 8, 8),
    ),
    "timm levit, whose norms are batch norms": (from_timm("levit_conv_128s"), (224, 224), "stages", None),
    "timm shvit, whose attention reads a part of the channels": (from_timm("shvit_s1"), (224, 224), "stages", None),
}


def built(name):
    build, size, layer, reshape = NETWORKS[name]
    torch.manual_seed(1)
    model = build().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # heads that begin with zeros
            nn.init.normal_(parameter, std=0.1)
    return model, torch.randn(3, 3, *size), layer, reshape


def rescaled(maps):
    """Scale each map to 0 … 1, as pytorch-grad-cam does."""
    maps = maps - maps.amin((1, 2, 3), keepdim=True)
    return maps / maps.amax((1, 2, 3), keepdim=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_layer_and_reshape_are_those_of_pytorch_grad_cam(name):
    model, images, layer, reshape = built(name)
    whole = Logits(model)
    target = whole(images).argsort(1)[:, -1]
    got = build_method("GC", model).attribute(images, target)
    with GradCAM(whole, [model.get_submodule(layer)], reshape) as library:
        want = torch.from_numpy(library(images, [ClassifierOutputTarget(label) for label in target.tolist()]))
    want = want.unsqueeze(1)
    has_map = want.flatten(1).any(1)
    assert has_map.any()
    torch.testing.assert_close(rescaled(got[has_map]), want[has_map], rtol=1e-3, atol=1e-3)
    assert not got[~has_map].any()


class ChannelsLast(nn.Module):
    """A map whose channels come last, in which height and width, or width and channels, may be a grid."""

    def __init__(self, channels):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, channels, 4, 4), nn.LayerNorm(channels)
        self.mix, self.head = nn.Linear(channels, channels), nn.Linear(channels, CLASSES)
        self.block = nn.Identity()

    def forward(self, images):
        maps = self.stem(images).permute(0, 2, 3, 1)
        return self.head(self.block(maps + torch.relu(self.mix(self.norm(maps)))).mean((1, 2)))


@pytest.mark.parametrize("layer", [None, "block", "mix"])
@pytest.mark.parametrize("channels", [8, 16, 32, 48])
def test_channels_that_come_last_are_known_by_the_layers_before(channels, layer):
    torch.manual_seed(0)
    model, images = ChannelsLast(channels).eval(), torch.randn(3, 3, 64, 64)
    target = model(images).argmax(1)
    got = build_method("GC", model, layer=layer).attribute(images, target)
    with GradCAM(model, [model.get_submodule(layer or "block")], channels_last) as library:
        want = torch.from_numpy(library(images, [ClassifierOutputTarget(label) for label in target.tolist()]))
    torch.testing.assert_close(rescaled(got), want.unsqueeze(1), rtol=1e-3, atol=1e-3)


def test_channels_that_were_moved_to_the_front_again_come_first():
    torch.manual_seed(0)

    class Back(ChannelsLast):
        def forward(self, images):
            maps = self.mix(self.norm(self.stem(images).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            return self.head(self.block(torch.relu(maps)).mean((2, 3)))

    model, images = Back(16).eval(), torch.randn(3, 3, 64, 64)
    target = model(images).argmax(1)
    got = build_method("GC", model).attribute(images, target)
    with GradCAM(model, [model.block]) as library:
        want = torch.from_numpy(library(images, [ClassifierOutputTarget(label) for label in target.tolist()]))
    torch.testing.assert_close(rescaled(got), want.unsqueeze(1), rtol=1e-3, atol=1e-3)


class ChannelAttention(nn.Module):
    def forward(self, maps):
        channels = maps.flatten(2)
        weights = (channels @ channels.transpose(1, 2)).softmax(-1)
        return maps + (weights @ channels).view_as(maps)


class PixelAttention(nn.Module):
    def forward(self, maps):
        pixels = maps.flatten(2).transpose(1, 2)
        return maps + nn.functional.scaled_dot_product_attention(pixels, pixels, pixels).transpose(1, 2).view_as(maps)


@pytest.mark.parametrize("attention", [ChannelAttention, PixelAttention])
def test_attention_in_an_early_stage_is_not_explained(attention):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), attention(), nn.ReLU(), nn.MaxPool2d(2)
    layers += nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)).eval()
    images = torch.randn(3, 3, 16, 16)
    want = build_method("GC", model, layer="6").attribute(images, 1)
    torch.testing.assert_close(build_method("GC", model).attribute(images, 1), want, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("move", [lambda maps: maps.transpose(1, 3), lambda maps: maps.swapaxes(3, 1)])
@pytest.mark.parametrize("method", ["GC", "CO", "captum.attr:LayerGradCam"])
@pytest.mark.parametrize("is_moved_back", [True, False])
def test_height_and_width_stay_where_channels_are_swapped_with_width(move, method, is_moved_back):
    class Swapped(nn.Module):
        def __init__(self, move) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.norm, self.head = nn.Conv2d(3, 12, 3, padding=1), nn.LayerNorm(12), nn.Linear(12, CLASSES)
            self.move = move

        def forward(self, images):
            maps = self.norm(self.move(nn.functional.gelu(self.stem(images))))
            return self.head(self.move(maps).mean((2, 3)) if is_moved_back else maps.mean((1, 2)))

    class Permuted(Swapped):
        def forward(self, images):
            maps = self.norm(nn.functional.gelu(self.stem(images)).permute(0, 2, 3, 1))
            return self.head(maps.permute(0, 3, 1, 2).mean((2, 3)) if is_moved_back else maps.mean((1, 2)))

    images = torch.randn(3, 3, 16, 16)
    got, want = (build_method(method, kind(move).eval()).attribute(images, 1) for kind in (Swapped, Permuted))
    torch.testing.assert_close(got, want)


def test_a_residual_branch_is_not_taken_for_what_the_attention_reads():
    """With norms after the attention, the norm before the last attention is a summand alone."""
    torch.manual_seed(0)
    model = timm.models.vision_transformer.VisionTransformer(
        64, 16, num_classes=CLASSES, depth=2, embed_dim=32, num_heads=2,
        block_fn=timm.models.vision_transformer.ResPostBlock,
    ).eval()  # fmt: skip
    layer = find_layer(Network(model), torch.randn(1, 3, 64, 64))
    assert layer.name == "blocks.0"
    assert layer.to_map(torch.zeros(2, 17, 32)).shape == (2, 32, 4, 4)
