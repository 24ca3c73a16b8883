import numpy as np
import pytest
import scipy.ndimage
import torch

from common.errors import InputError
from evaluation import masking
from evaluation.imputation import noisy_impute
from evaluation.masking import (
    BLUR_SIGMA,
    MaskedImages,
    MaskOnlyInputs,
    Removal,
    count_ties,
    gaussian_blur,
    importance,
    impute_images,
    ranks,
    ranks_of_maps,
)
from evaluation.tasks import arrays_of, normalisation_of
from training.inputs import Images, Normalisation

CPU = torch.device("cpu")
RATIOS = (0.1, 0.25, 0.3, 0.5, 0.7, 0.9)


def maps_with_many_ties(images: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(images, 1, 28, 28, generator=generator)
    values[:5] = values[:5].relu()  # half of each map is zero
    values[5:8] = 0.0  # nothing but ties
    values[8:12] = values[8:12].round()
    return values


def test_ranks_order_each_image_for_itself():
    values = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    values[0] *= 1000  # an image with large attributions takes nothing from the others
    got = ranks(values, torch.arange(6)).numpy().reshape(6, -1)
    for n in range(6):
        want = np.empty(784, int)
        want[np.argsort(-values[n].numpy().ravel())] = np.arange(784)
        np.testing.assert_array_equal(got[n], want)


def test_ranks_of_more_positions_than_16_bits_count():
    values = torch.arange(200 * 200.0).view(1, 1, 200, 200)
    assert torch.equal(ranks(values, torch.zeros(1, dtype=torch.int64)).long(), 39999 - values.long())


def test_ranks_by_hand():
    values = torch.tensor([[0.5, -3.0], [2.0, 1e-30]]).view(1, 1, 2, 2)
    assert ranks(values, torch.tensor([0])).tolist() == [[[[1, 3], [0, 2]]]]


def test_ranks_of_large_images_are_a_permutation_too():
    importances = torch.randn(2, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    places = ranks(importances, torch.arange(2))
    for image, order in zip(importances.flatten(1), places.flatten(1), strict=True):
        assert torch.equal(order.sort().values, torch.arange(224 * 224, dtype=order.dtype))
        assert order[image.argmax()] == 0
        assert order[image.argmin()] == 224 * 224 - 1
    assert Removal("MoRF", 0.7).mask(places).flatten(1).sum(dim=1).tolist() == [round(0.7 * 224 * 224)] * 2
    assert ranks(importances[:, :, :181, :181], torch.arange(2)).dtype == torch.int16


def test_ranks_put_larger_values_first_whatever_the_ties():
    values = maps_with_many_ties()
    got = ranks(values, torch.arange(20)).long()
    for n in range(20):
        in_order = torch.empty(784).scatter_(0, got[n].flatten(), values[n].flatten())
        assert (in_order.diff() <= 0).all()
        assert sorted(got[n].flatten().tolist()) == list(range(784))


def test_ties_are_broken_by_a_seeded_permutation_of_each_image():
    zeros = torch.zeros(300, 1, 10, 10)
    zeros[:, :, ::2] = -0.0  # equal to zero: not to be ranked below it
    got = ranks(zeros, torch.arange(300))
    assert torch.equal(got, ranks(zeros, torch.arange(300)))
    assert not torch.equal(got, ranks(zeros, torch.arange(300), seed=1))
    assert len(torch.unique(got.flatten(1), dim=0)) == 300
    mean_rank = got.float().mean(0)  # every position is equally likely at every rank: 49.5 ± 28.9/√300
    assert (mean_rank - 49.5).abs().max() < 4.5 * 28.9 / 300**0.5


def test_ties_do_not_depend_on_which_images_are_ranked_together():
    values = maps_with_many_ties()
    some = torch.tensor([3, 6, 11])
    assert torch.equal(ranks(values, torch.arange(20))[some], ranks(values[some], some))


@pytest.mark.parametrize("order", ["MoRF", "LeRF"])
@pytest.mark.parametrize("ratio", RATIOS)
def test_exactly_k_positions_are_replaced_in_every_image(order, ratio):
    mask = Removal(order, ratio).mask(ranks(maps_with_many_ties(), torch.arange(20)))
    assert mask.flatten(1).sum(1).tolist() == [round(ratio * 784)] * 20


def test_morf_takes_the_most_relevant_and_lerf_the_least():
    values = maps_with_many_ties()
    places = ranks(values, torch.arange(20))
    for ratio in RATIOS:
        most, least = (Removal(order, ratio).mask(places) for order in ("MoRF", "LeRF"))
        for n in range(20):
            assert values[n][most[n]].min() >= values[n][~most[n]].max()
            assert values[n][least[n]].max() <= values[n][~least[n]].min()
    half, other = Removal("MoRF", 0.5).mask(places), Removal("LeRF", 0.5).mask(places)
    assert torch.equal(half, ~other)


def test_importance_of_pixels_and_elements():
    values = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1)
    assert importance(values, 3).tolist() == [[[[-0.5]]]]
    assert importance(values, 3, rank="absolute").tolist() == [[[[3.5]]]]
    assert importance(values, 3, rank="square").tolist() == [[[[5.25 / 4**2]]]], "scaled by a power of two"
    assert torch.equal(importance(values, 3, "element"), values)
    assert importance(torch.ones(1, 1, 2, 2), 3, "element").shape == (1, 3, 2, 2)


def test_squares_of_small_and_large_values_keep_their_order():
    values = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    want = ranks(importance(values, 3, rank="square"), torch.arange(1))
    for exponent in (-100, 100):
        assert torch.equal(ranks(importance(values * 2.0**exponent, 3, rank="square"), torch.arange(1)), want)
    assert torch.equal(importance(torch.zeros(1, 1, 2, 2), 1, rank="square"), torch.zeros(1, 1, 2, 2))


def test_ranks_do_not_depend_on_the_pieces_in_which_they_are_computed(monkeypatch):
    maps = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(0)).round(decimals=1).numpy()
    parts = [(maps, np.arange(7))]
    whole, tied = ranks_of_maps(parts, 3, "pixel", "signed", CPU)
    monkeypatch.setattr(masking, "RANKED_AT_ONCE", 3 * 64 * 2)
    pieces, tied_in_pieces = ranks_of_maps(parts, 3, "pixel", "signed", CPU)
    assert torch.equal(pieces, whole)
    assert tied_in_pieces == tied > 0


def masked_sample(cifar10, granularity="pixel", fill="mean"):
    normalisation = Normalisation.from_dataset(cifar10, CPU)
    images = Images(cifar10.train, normalisation, CPU)
    index = np.arange(len(cifar10.train))
    attribution = torch.randn(len(index), 3, 32, 32, generator=torch.Generator().manual_seed(2)).numpy()
    parts = [(attribution[s], index[s]) for s in (slice(0, 17), slice(17, None))]
    places, _tied = ranks_of_maps(parts, 3, granularity, "signed", CPU)
    removal = Removal("MoRF", 0.3)
    return (
        images,
        attribution,
        places,
        MaskedImages(images, places, removal, fill),
        MaskOnlyInputs(images, places, removal),
    )


def test_masked_pixels_become_the_mean_of_the_training_set_and_the_rest_stays(cifar10):
    images, attribution, _places, masked, alone = masked_sample(cifar10)
    order = torch.tensor([20, 3, 29])
    got, seen, mask = masked.batch(order), images.batch(order), alone.batch(order)
    k = round(0.3 * 1024)
    for row, n in enumerate(order):
        most = np.argsort(-attribution[n].sum(0).ravel(), kind="stable")[:k]
        want = torch.zeros(1024, dtype=torch.bool)
        want[most] = True
        assert torch.equal(mask[row].bool(), want.view(1, 32, 32).expand(3, -1, -1))
        assert (got[row][:, want.view(32, 32)] == 0).all()
        assert torch.equal(got[row][:, ~want.view(32, 32)], seen[row][:, ~want.view(32, 32)])
    # 0 is the mean colour: undo the normalisation and compare with the mean of all training pixels
    colour = 0 * images.normalisation.std + images.normalisation.mean
    np.testing.assert_allclose(colour, (cifar10.train.images / 255).mean((0, 1, 2)), rtol=1e-6)


def test_black_fill(cifar10):
    images, _attribution, _places, masked, alone = masked_sample(cifar10, fill="black")
    order = torch.arange(4)
    colour = masked.batch(order) * images.normalisation.std.view(-1, 1, 1) + images.normalisation.mean.view(-1, 1, 1)
    assert colour[alone.batch(order).bool()].abs().max() < 1e-6


def test_elements_are_replaced_channel_by_channel(cifar10):
    _images, attribution, places, masked, _alone = masked_sample(cifar10, "element")
    assert places.shape == (30, 3, 32, 32)
    removed = masked.removal.mask(places)
    assert removed.flatten(1).sum(1).tolist() == [round(0.3 * 3072)] * 30
    assert attribution[0][removed[0]].min() >= attribution[0][~removed[0]].max()
    assert (removed.sum(1) % 3 != 0).any()


def test_tied_positions_by_hand():
    values = torch.tensor([[1.0, 2, 2, 3], [0, 0, 0, 0], [1, 2, 3, 4], [5, 5, 7, 7]]).view(4, 1, 2, 2)
    assert [count_ties(values[n : n + 1]) for n in range(4)] == [2, 4, 0, 4]
    assert count_ties(values) == 10


def test_blur_equals_scipy():
    values = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    got = gaussian_blur(values)
    for n in range(2):
        for c in range(3):
            want = scipy.ndimage.gaussian_filter(values[n, c].double(), BLUR_SIGMA, mode="nearest", radius=6)
            np.testing.assert_allclose(got[n, c], want, atol=1e-5)
    assert gaussian_blur(torch.ones(1, 1, 9, 9)).allclose(torch.ones(1, 1, 9, 9))


def test_removed_pixels_are_imputed_from_their_neighbours(mnist):
    images = Images(mnist.test.subset(20), Normalisation.from_dataset(mnist, CPU), CPU)
    order = torch.arange(784, dtype=torch.int16).view(1, 1, 28, 28).expand(len(images), 1, 28, 28)
    removal = Removal("MoRF", 0.5)
    inputs = impute_images(images, order, removal)
    rows = torch.arange(len(images))
    plain, removed = images.batch(rows), removal.mask(order)
    torch.testing.assert_close(inputs.batch(rows), noisy_impute(plain, removed), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.batch(rows[3:5])[~removed[3:5]], plain[3:5][~removed[3:5]])


@pytest.mark.parametrize("mean_pixel", [None, torch.tensor([0.5])])
def test_a_normalisation_reaches_other_processes_with_its_mean_pixel(mnist, mean_pixel):
    sent = Normalisation(torch.tensor([0.2]), torch.tensor([0.4]), mean_pixel)
    got = normalisation_of(arrays_of(mnist.subset(1, 1), sent), CPU)
    assert got.fill("black") == sent.fill("black") == -0.2 / 0.4
    assert got.fill("mean") == sent.fill("mean") == (0 if mean_pixel is None else 0.5)


@pytest.mark.parametrize(("order", "ratio"), [("ROAR", 0.5), ("most", 0.5), ("MoRF", 50), ("LeRF", -0.1)])
def test_an_unknown_order_of_removal_is_refused(order, ratio):
    with pytest.raises(InputError, match="MoRF or LeRF"):
        Removal(order, ratio)
