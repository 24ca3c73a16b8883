"""Images smaller than a window, and none at all: a value that is right, or one clear line."""

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import InputError
from evaluation import REMOVING
from evaluation.configs import SelectivityConfig
from evaluation.imputation import noisy_impute
from evaluation.masking import Removal, gaussian_blur, ranks_of_maps
from evaluation.protocol import TestImages
from evaluation.removal import RemovalEvaluation, measure
from evaluation.robustness import infidelity, max_sensitivity
from evaluation.sanity import similarities
from evaluation.selectivity import remove_one_by_one
from evaluation.similarity import rank_correlation, rescale, structural_similarity, window_size
from evaluation.statistics import estimate, mean_interval, proportion_interval
from tests.run_main import run
from tests.test_own import write
from training.inputs import Normalisation, TensorInputs


def by_hand(x: np.ndarray, y: np.ndarray, window: int) -> float:
    """SSIM of two images, one window after the other (Wang et al. 2004, equation 13)."""
    away = np.arange(window) - window // 2
    weights = np.exp(-(away[:, None] ** 2 + away**2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for row in range(x.shape[0] - window + 1):
        for column in range(x.shape[1] - window + 1):
            a, b = (one[row : row + window, column : column + window] for one in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            values.append(luminance * (2 * both + 9e-4) / (var_a + var_b + 9e-4))
    return float(np.mean(values))


@pytest.mark.parametrize(
    ("shape", "window"),
    [((8, 8), 7), ((9, 9), 9), ((10, 10), 9), ((8, 40), 7), ((40, 9), 9), ((11, 11), 11), ((12, 30), 11), ((1, 5), 1)],
)
def test_the_window_of_ssim_is_the_largest_odd_one_that_fits(shape, window):
    assert window_size(*shape) == window
    random = np.random.default_rng(sum(shape))
    x, y = random.random(shape), random.random(shape)
    pair = (torch.from_numpy(one)[None, None] for one in (x, y))
    assert structural_similarity(*pair).item() == pytest.approx(by_hand(x, y, window), abs=1e-12)


@pytest.mark.parametrize("shape", [(8, 10), (9, 9)])
def test_sanity_of_small_images(shape, tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        write(tmp_path / f"small{window_size(*shape)}" / name, random.integers(0, 256, (10, *shape), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    asked = ["--eval=sanity", f"--target=folder:small{window_size(*shape)}", "--quick", "--method=VBP"]
    assert run(tmp_path, tmp_path / "out", asked) == 0
    window = window_size(*shape)
    assert f"SSIM over windows of {window}×{window} pixels" in capsys.readouterr().out


NONE, NO_CLASS = torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)


class Identity:
    def attribute(self, inputs, target):
        return inputs


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3)).eval()


def test_of_no_images_there_is_nothing(network):
    drawn = torch.zeros(3, *NONE.shape)
    for values in (
        structural_similarity(NONE, NONE),
        rank_correlation(NONE, NONE),
        rescale(NONE),
        infidelity(network, NONE, NONE, NO_CLASS, drawn),
        max_sensitivity(Identity(), NONE, NONE, NO_CLASS, drawn),
        noisy_impute(NONE, NONE > 0),
        Removal("MoRF", 0.5).mask(NONE),
        gaussian_blur(NONE),
    ):
        assert len(values) == 0
    score, correct, pixel, _kept, _maps = remove_one_by_one(
        Identity(), network, NONE, NO_CLASS, NO_CLASS, torch.zeros(1), SelectivityConfig(0, removals=3)
    )
    assert (score.shape, correct.shape, pixel.shape) == ((0, 4), (0, 4), (0, 3))


@pytest.mark.parametrize("evaluation", REMOVING)
def test_no_images_have_no_accuracy_under_removal(evaluation, network):
    normalisation = Normalisation(torch.zeros(1), torch.ones(1))
    test = TestImages(TensorInputs(NONE, torch.zeros(1)), NO_CLASS, NO_CLASS, normalisation)
    with pytest.raises(InputError, match="no image"):
        measure(network, test, NO_CLASS, NONE, RemovalEvaluation(evaluation).configure(ratios=(0.5,)))


@pytest.mark.parametrize(
    "mean",
    [
        lambda: proportion_interval(0, 0),
        lambda: estimate([0.0], 0),
        lambda: similarities(NONE, NONE),
        lambda: ranks_of_maps([], 1, "pixel", "signed", torch.device("cpu")),
        lambda: mean_interval([]),
        lambda: mean_interval([0.5]),
    ],
)
def test_a_mean_over_nothing_is_one_line(mean):
    with pytest.raises(InputError) as error:
        mean()
    assert "\n" not in str(error.value)
