"""An image that is explained alone has the map that it has beside others, behind norms whose output becomes tokens."""

import pytest
import timm
import torch
from torch import nn

import whitebox
from common.errors import InputError


class Tokens(nn.Module):
    """A patch embedding with a norm, and tokens behind it."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 6, 4, 4), norm
        self.of_token, self.head = nn.LayerNorm(6), nn.Linear(6, 5)

    def forward(self, images):
        tokens = self.norm(self.patches(images)).flatten(2).transpose(1, 2)
        return self.head(self.of_token(tokens).square().mean(1))


def batch_norm() -> nn.Module:
    norm = nn.BatchNorm2d(6)
    norm.running_mean.normal_()
    return norm


@pytest.mark.parametrize("norm", [batch_norm, lambda: nn.InstanceNorm2d(6)], ids=["batch", "instance"])
@pytest.mark.parametrize("has_hook", [False, True])
@pytest.mark.parametrize("method", ["VBP", "IG", "captum.attr:InputXGradient"])
def test_alone_and_beside_another(norm, has_hook, method):
    torch.manual_seed(0)
    model = Tokens(norm()).eval()
    if has_hook:  # so that it is explained itself, not a copy with the norm fused
        model.register_forward_hook(lambda _module, _args, logits: logits)
    images = torch.rand(2, 3, 16, 16)
    together = whitebox.explain(model, images, [1, 2], method)
    alone = torch.cat([whitebox.explain(model, images[:1], 1, method), whitebox.explain(model, images[1:], 2, method)])
    torch.testing.assert_close(alone, together)


class FunctionalNorm(nn.Module):
    """A batch norm that is no module of PyTorch's, and has another name."""

    def forward(self, values):
        mean = torch.linspace(-1, 1, values.shape[1])
        return nn.functional.batch_norm(values, mean, mean.square() + 1)


class MapOfTokens(nn.Module):
    """A norm whose input was made of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mix, self.norm = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 6), batch_norm()
        self.of_token, self.head = nn.LayerNorm(6), nn.Linear(6, 5)

    def forward(self, images):
        tokens = self.mix(self.patches(images).flatten(2).transpose(1, 2))
        tokens = self.norm(tokens.transpose(1, 2).reshape(len(images), 6, 4, 4)).flatten(2).transpose(1, 2)
        return self.head(self.of_token(tokens).square().mean(1))


NETWORKS = {
    "a norm between tokens": MapOfTokens,
    "a norm by a function": lambda: Tokens(FunctionalNorm()),
    "scripted": lambda: torch.jit.script(Tokens(batch_norm()).eval()),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, "VBP") for name in NETWORKS),
        *((name, "captum.attr:InputXGradient") for name in NETWORKS if name != "scripted"),
    ],
)
def test_whatever_the_norm_reads_or_is(name, method):
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    images = torch.rand(2, 3, 16, 16)
    together = whitebox.explain(model, images, [1, 2], method)
    torch.testing.assert_close(whitebox.explain(model, images[:1], 1, method), together[:1])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_another_library_on_a_scripted_network_is_refused():
    """It calls the network itself, and the norms in it can't be seen: its maps would be wrong."""
    torch.manual_seed(0)
    with pytest.raises(InputError, match="another map"):
        whitebox.explain(NETWORKS["scripted"](), torch.rand(2, 3, 16, 16), 1, "captum.attr:InputXGradient")


def test_levit_by_another_library():
    torch.manual_seed(0)
    model = timm.create_model("levit_128s", num_classes=5).eval()
    images = torch.rand(2, 3, 224, 224)
    maps = whitebox.explain(model, images, 1, "captum.attr:InputXGradient")
    torch.testing.assert_close(maps[:1], whitebox.explain(model, images[:1], 1, "captum.attr:InputXGradient"))
