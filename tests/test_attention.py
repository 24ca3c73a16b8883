"""Each attention module against a plain, slow reading of its formula."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attention.attend_and_rectify import AttendAndRectify, OutputGates, mask_overlap
from attention.cam import CAMHead
from attention.cbam import CBAM, ChannelGate, SpatialGate
from attention.residual_attention import (
    ResidualAttention,
    ResidualUnit,
    SoftMaskBranch,
    copy_with_tied_weights,
    upsample,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randomise_norms(module: nn.Module, images: torch.Tensor) -> nn.Module:
    """Return `module` in evaluation mode with random batch-norm weights and realistic statistics."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    with torch.no_grad():
        for _ in range(5):
            module.train()(images)
    return module.eval()


def plain_norm(x: torch.Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> torch.Tensor:
    shape = (1, -1, *[1] * (x.dim() - 2))
    mean, var, weight, bias = (v.view(shape) for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    return (x - mean) / torch.sqrt(var + norm.eps) * weight + bias


def test_channel_gate():
    features, gate = torch.randn(3, 32, 5, 7), ChannelGate(32)
    first, _relu, last = gate.mlp
    assert first.out_features == 2
    actual = gate(features)
    assert actual.shape == (3, 32, 1, 1)
    for n in range(3):
        total = torch.zeros(32)
        for pooled in (features[n].flatten(1).mean(1), features[n].flatten(1).max(1).values):
            hidden = (first.weight @ pooled + first.bias).clamp(min=0)
            total += last.weight @ hidden + last.bias
        torch.testing.assert_close(actual[n, :, 0, 0], 1 / (1 + torch.exp(-total)))


def test_spatial_gate():
    features = torch.randn(2, 6, 9, 8)
    gate = randomise_norms(SpatialGate(), features)
    pooled = torch.stack((features.mean(1), features.max(1).values), dim=1)
    bordered = F.pad(pooled, (3, 3, 3, 3))
    expected = torch.empty(2, 1, 9, 8)
    for row in range(9):
        for column in range(8):
            window = bordered[:, :, row : row + 7, column : column + 7]
            expected[:, 0, row, column] = (window * gate.conv.weight[0]).sum((1, 2, 3)) + gate.conv.bias
    torch.testing.assert_close(gate(features), 1 / (1 + torch.exp(-plain_norm(expected, gate.norm))))


def test_cbam_gates_channels_first_and_positions_of_the_result():
    features = torch.randn(2, 32, 6, 6)
    block = randomise_norms(CBAM(32), features)
    by_channel = features * block.channel(features)
    torch.testing.assert_close(block(features), by_channel * block.spatial(by_channel))


def test_cam_head_is_the_mean_of_its_maps():
    activation, head = torch.randn(2, 8, 5, 4), CAMHead(8, 10)
    maps = torch.einsum("ck,nkxy->ncxy", head.linear.weight, activation)
    torch.testing.assert_close(head(activation), maps.mean((2, 3)) + head.linear.bias)


def test_residual_unit_uses_its_projection_even_where_the_shape_stays():
    x = torch.randn(2, 8, 5, 5)
    unit = randomise_norms(ResidualUnit(8, 8), x)
    projection, norm = unit.projection
    expected = F.relu(unit.residual(x) + plain_norm(F.conv2d(x, projection.weight, projection.bias), norm))
    torch.testing.assert_close(unit(x), expected)
    assert ResidualUnit(8, 16, stride=2)(x).shape == (2, 16, 3, 3)


@pytest.mark.parametrize(("low", "size"), [((4, 4), (7, 7)), ((7, 7), (14, 14)), ((3, 5), (5, 9))])
def test_interpolation_is_bilinear_and_keeps_the_corners(low, size):
    x = torch.randn(1, 1, *low)
    actual = upsample(x, size)[0, 0]
    for row in range(size[0]):
        for column in range(size[1]):
            y, z = row * (low[0] - 1) / (size[0] - 1), column * (low[1] - 1) / (size[1] - 1)
            top, left = min(math.floor(y), low[0] - 2), min(math.floor(z), low[1] - 2)
            down, right = y - top, z - left
            a, b, c, d = x[0, 0, top : top + 2, left : left + 2].flatten()
            expected = (1 - down) * ((1 - right) * a + right * b) + down * ((1 - right) * c + right * d)
            torch.testing.assert_close(actual[row, column], expected, atol=1e-5, rtol=1e-4)


def ceiling_pool(x: torch.Tensor) -> torch.Tensor:
    height, width = (math.ceil(size / 2) for size in x.shape[2:])
    cells = [x[:, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].amax((2, 3)) for r in range(height) for c in range(width)]
    return torch.stack(cells, dim=2).view(*x.shape[:2], height, width)


@pytest.mark.parametrize(("skips", "size"), [(0, (4, 4)), (1, (7, 7)), (2, (14, 14)), (2, (16, 13))])
def test_soft_mask(skips, size):
    x = torch.randn(4, 8, *size)
    branch = randomise_norms(SoftMaskBranch(8, skips), x)
    level, skipped = x, []
    for step in range(skips):
        level = branch.down[step](ceiling_pool(level))
        skipped.append(level)
    level = branch.bottom[1](branch.bottom[0](ceiling_pool(level)))
    for step, skip in enumerate(reversed(skipped)):
        level = F.interpolate(level, skip.shape[2:], mode="bilinear", align_corners=True) + skip
        level = branch.up[step](level)
    level = F.interpolate(level, size, mode="bilinear", align_corners=True)
    matrix = branch.head[0].weight[:, :, 0, 0]
    expected = torch.sigmoid(torch.einsum("ij,njxy->nixy", matrix @ matrix, level))
    assert expected.shape == x.shape
    torch.testing.assert_close(branch(x), expected)


def test_places_that_share_weights_have_statistics_and_non_linearities_of_their_own():
    branch = SoftMaskBranch(8, 2)
    units = [module for module in branch.modules() if isinstance(module, ResidualUnit)]
    assert len(units) == 6
    assert len({id(unit.residual[0].weight) for unit in units}) == 1
    assert len({id(unit.relu) for unit in units}) == 6
    assert len({unit.residual[1].running_mean.data_ptr() for unit in units}) == 6
    moved = copy_with_tied_weights(branch).double()
    assert len({id(parameter) for parameter in moved.parameters()}) == len(list(moved.parameters())) == 14


def test_residual_attention_adds_to_the_trunk_what_the_mask_lets_through():
    x = torch.randn(2, 16, 7, 7)
    module = randomise_norms(ResidualAttention(16, 8, skips=1), x)
    inside = module.pre(x)
    trunk = module.trunk[1](module.trunk[0](inside))
    torch.testing.assert_close(module(x), module.post(trunk + module.mask(inside) * trunk))


def test_attend_and_rectify():
    features, module = torch.randn(2, 6, 5, 4), AttendAndRectify(6, 3, heads=4)
    opinion, masks = module(features)
    scores = F.conv2d(features, module.heads.conv.weight, padding=1)
    per_head = F.conv2d(features, module.opinions.weight, padding=1)
    gate_scores = F.conv2d(features, module.gates.conv.weight, padding=1)
    for n in range(2):
        heads, gates = [], []
        for k in range(4):
            mask = torch.exp(scores[n, k]) / torch.exp(scores[n, k]).sum()
            torch.testing.assert_close(masks[n, k], mask)
            heads.append(torch.stack([(per_head[n, 3 * k + c] * mask).sum() for c in range(3)]))
            gates.append(torch.exp(torch.tanh((gate_scores[n, k] * mask).sum())))
        expected = sum(gate / sum(gates) * head for gate, head in zip(gates, heads, strict=True))
        torch.testing.assert_close(opinion[n], expected)


def test_gates_sum_to_one():
    features, module = torch.randn(5, 6, 5, 4), AttendAndRectify(6, 3, heads=4)
    masks = module.heads(features)
    torch.testing.assert_close(masks.sum((2, 3)), torch.ones(5, 4))
    torch.testing.assert_close(module.gates(features, masks).sum(1), torch.ones(5))
    pooled = torch.randn(5, 6)
    gates = randomise_norms(OutputGates(6, 4), pooled)
    torch.testing.assert_close(gates(pooled).sum(1), torch.ones(5))
    score = torch.tanh(plain_norm(pooled @ gates[0].weight.T, gates[1]))
    torch.testing.assert_close(gates(pooled), torch.exp(score) / torch.exp(score).sum(1, keepdim=True))


def test_mask_overlap_is_zero_for_disjoint_masks_and_counts_each_pair():
    disjoint = torch.zeros(2, 3, 4, 4)
    disjoint[:, 0, :2], disjoint[:, 1, 2], disjoint[:, 2, 3] = 1 / 8, 1 / 4, 1 / 4
    assert mask_overlap(disjoint) == 0
    masks = torch.rand(2, 3, 4, 4)
    squares = [
        (masks[n, a] * masks[n, b]).sum() ** 2 if a != b else torch.zeros(())
        for n in range(2)
        for a in range(3)
        for b in range(3)
    ]
    torch.testing.assert_close(mask_overlap(masks), torch.stack(squares).mean())
