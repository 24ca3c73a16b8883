import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

from evaluation import imputation
from evaluation.imputation import BESIDE, DIAGONAL, NOISE, impute, impute_by_gradients, noisy_impute
from evaluation.masking import Removal, gaussian_blur
from tests.samples import sample_arrays


def solved_directly(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """One channel (H, W) by scipy's sparse direct solver, equation by equation."""
    height, width = image.shape
    places = np.argwhere(removed)
    number = {tuple(place): i for i, place in enumerate(places)}
    matrix, right = scipy.sparse.lil_matrix((len(places), len(places))), np.zeros(len(places))
    for i, (row, column) in enumerate(places):
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                there = (row + down, column + across)
                if (down, across) == (0, 0) or not (0 <= there[0] < height and 0 <= there[1] < width):
                    continue
                weight = DIAGONAL if down and across else BESIDE
                matrix[i, i] += weight
                if there in number:
                    matrix[i, number[there]] -= weight
                else:
                    right[i] += weight * image[there]
    filled = image.astype(np.float64).copy()
    filled[removed] = scipy.sparse.linalg.spsolve(matrix.tocsr(), right)
    return filled


def images_of(name: str, count: int) -> torch.Tensor:
    images = torch.from_numpy(sample_arrays(name)["train_images"][:count]).float() / 255
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return (images - images.mean()) / images.std()


WAYS = pytest.mark.parametrize("way", [impute, impute_by_gradients])


@WAYS
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_equals_the_sparse_direct_solution(name, ratio, way):
    images = images_of(name, 4)
    random = torch.rand(len(images), 1, *images.shape[2:], generator=torch.Generator().manual_seed(0))
    blocks = torch.arange(images[0, 0].numel()).view(1, 1, *images.shape[2:]).expand_as(random)
    for order in (random.flatten(1).argsort(1).argsort(1).view_as(random), blocks):
        removed = Removal("MoRF", ratio).mask(order)
        got = way(images, removed)
        for n, channels in enumerate(images):
            for c, channel in enumerate(channels):
                want = solved_directly(channel.numpy(), removed[n, 0].numpy())
                np.testing.assert_allclose(got[n, c], want, atol=1e-4)


@WAYS
def test_known_pixels_stay_and_removed_ones_have_no_influence(way):
    images = images_of("cifar10", 3)
    removed = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.6
    before = images.clone()
    got = way(images, removed)
    assert torch.equal(images, before), "changed its argument"
    torch.testing.assert_close(got[~removed], images[~removed], rtol=0, atol=0)
    torch.testing.assert_close(way(images.masked_fill(removed, 99), removed), got)
    assert (got.amax(dim=(2, 3)) <= images.amax(dim=(2, 3)) + 1e-4).all(), "means lie between what is known"


@WAYS
def test_each_image_alone_is_the_same_as_in_a_batch(way, request):
    count = 40  # more than a thread takes at once
    if way is impute:
        request.getfixturevalue("two_threads")
    images = images_of("mnist", count)
    share = torch.linspace(0.1, 0.95, count).view(-1, 1, 1, 1)
    removed = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(2)) < share
    together = way(images, removed)
    alone = torch.cat([way(images[n : n + 1], removed[n : n + 1]) for n in range(count)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@WAYS
def test_constant_image_nothing_and_everything_removed(way):
    images = torch.full((2, 1, 8, 8), 3.0)
    removed = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(way(images, removed), images)
    removed[:, :, :7] = True
    torch.testing.assert_close(way(images, removed), images)
    removed[0] = True
    torch.testing.assert_close(
        way(images, removed)[0], torch.zeros(1, 8, 8), msg="what was removed must not shine through"
    )


@pytest.mark.parametrize("shape", [(3, 1, 5, 9), (3, 2, 9, 5), (2, 4, 1, 7), (2, 3, 7, 1), (1, 5, 12, 12)])
@pytest.mark.parametrize("shared", [True, False])
def test_the_direct_solution_equals_conjugate_gradients(shape, shared):
    pytest.importorskip("numba")
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(shape, generator=generator)
    removed = torch.rand(shape[0], 1 if shared else shape[1], *shape[2:], generator=generator) < 0.7
    torch.testing.assert_close(impute(images, removed), impute_by_gradients(images, removed), rtol=0, atol=1e-4)


def test_without_numba_by_gradients(monkeypatch):
    images = images_of("mnist", 2)
    removed = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(5)) < 0.5
    monkeypatch.setattr(imputation, "compiled_solver", lambda large: None)
    assert torch.equal(impute(images, removed), impute_by_gradients(images, removed))


def solved_together(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """All channels (C, H, W) by scipy's sparse direct solver, the matrix from those of a row and of a column."""
    paths = [scipy.sparse.diags([np.ones(size - 1)] * 2, [-1, 1], shape=(size, size)) for size in removed.shape]
    rows, columns = (scipy.sparse.csr_array(path) for path in paths)
    ones = [scipy.sparse.eye_array(size) for size in removed.shape]
    beside = scipy.sparse.kron(rows, ones[1]) + scipy.sparse.kron(ones[0], columns)
    weights = BESIDE * beside + DIAGONAL * scipy.sparse.kron(rows, columns)
    matrix = scipy.sparse.csr_array(scipy.sparse.diags_array(weights.sum(axis=1)) - weights)
    unknown = np.flatnonzero(removed)
    filled = image.reshape(len(image), -1).astype(np.float64)
    filled[:, unknown] = 0
    right = -(matrix @ filled.T)[unknown]
    filled[:, unknown] = scipy.sparse.linalg.splu(matrix[unknown][:, unknown].tocsc()).solve(right).T
    return filled.reshape(image.shape)


def large_masks(height: int, width: int) -> dict[str, torch.Tensor]:
    """Masks (H, W) on which a solver for large images may stumble."""
    random = torch.rand(height, width, generator=torch.Generator().manual_seed(6))
    smooth = gaussian_blur(random[None, None], min(height, width) / 12)[0, 0]
    islands = torch.zeros(height, width, dtype=torch.bool)
    islands[: height // 3, : width // 2] = True  # at a corner
    islands[-height // 4 :, -1] = islands[height // 2, :] = islands[height // 2 + 3 : -1, 5:9] = True
    one_left = torch.ones(height, width, dtype=torch.bool)
    one_left[height // 2, width // 3] = False
    two_left = one_left.clone()
    two_left[0, -1] = False
    at_random = {f"random {share}": random < share for share in (0.1, 0.5, 0.9, 0.99)}
    in_patches = {f"smooth {share}": smooth < smooth.flatten().quantile(share) for share in (0.1, 0.5, 0.9)}
    edges = {"islands": islands, "one left": one_left, "two left": two_left, "known columns": random[:1] < 0.9}
    whole = {"none": torch.zeros_like(islands), "all": torch.ones_like(islands)}
    return at_random | in_patches | edges | {name: mask.expand(height, width) for name, mask in whole.items()}


@pytest.fixture
def only_multigrid(monkeypatch):
    multigrid = pytest.importorskip("evaluation.multigrid")
    monkeypatch.setattr(multigrid, "DIRECT", -1)
    monkeypatch.setattr(imputation, "WIDEST", 0)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 61, 90), (3, 130, 41), (2, 3, 70), (1, 1, 50), (1, 50, 1)])
def test_multigrid_equals_the_sparse_direct_solution(shape, only_multigrid):
    images = 5 + gaussian_blur(torch.randn(1, *shape, generator=torch.Generator().manual_seed(7)), 1.5)
    masks = large_masks(*shape[1:])
    removed = torch.stack([mask.expand(shape[1:]) for mask in masks.values()]).unsqueeze(1)
    got = impute(images.expand(len(masks), -1, -1, -1), removed)  # all in one batch
    for name, filled, mask in zip(masks, got, removed[:, 0], strict=True):
        if mask.all() or not mask.any():
            want = images[0].numpy() * (not mask.any())
        else:
            want = solved_together(images[0].numpy(), mask.numpy())
        assert np.abs(filled.numpy() - want).max() < 1e-5 * np.ptp(images.numpy()), name


def test_large_images_are_the_same_in_any_batch_and_with_any_number_of_threads(two_threads):
    pytest.importorskip("numba")
    masks = torch.stack([mask.expand(60, 75) for mask in large_masks(60, 75).values()]).unsqueeze(1)
    images = torch.randn(len(masks), 3, 60, 75, generator=torch.Generator().manual_seed(8))
    together = impute(images, masks)
    alone = torch.cat([impute(image, mask) for image, mask in zip(images.split(1), masks.split(1), strict=True)])
    assert torch.equal(together, alone)
    torch.set_num_threads(1)
    assert torch.equal(together, impute(images, masks))


def test_large_images_with_few_removed_pixels_are_solved_directly(monkeypatch):
    multigrid = pytest.importorskip("evaluation.multigrid")
    images = torch.randn(2, 3, 50, 50, generator=torch.Generator().manual_seed(9))
    removed = torch.zeros(2, 1, 50, 50, dtype=torch.bool)
    removed[0, 0, 10:12], removed[1] = True, True
    removed[1, 0, 4, 5:9] = False
    want = impute(images, removed)
    with monkeypatch.context() as patch:
        patch.setattr(multigrid, "System", None)
        torch.testing.assert_close(impute(images[:1], removed[:1]), want[:1])
        with pytest.raises(TypeError):
            impute(images[1:], removed[1:])


def test_noise_has_its_deviation_and_is_fixed():
    images = images_of("cifar10", 20)
    removed = torch.rand(20, 1, 32, 32, generator=torch.Generator().manual_seed(3)) < 0.5
    got, plain = noisy_impute(images, removed), impute(images, removed)
    noise = (got - plain)[removed.expand_as(images)]
    assert noise.std().item() == pytest.approx(NOISE, rel=0.03)
    assert abs(noise.mean().item()) < NOISE / 50
    torch.testing.assert_close(noisy_impute(images, removed), got)
    assert not torch.equal(noisy_impute(images, removed, seed=1), got)


def test_noise_is_that_of_the_images_as_they_are_now():
    images = images_of("cifar10", 2)
    removed = torch.ones(2, 1, 32, 32, dtype=torch.bool)
    removed[:, :, 0] = False
    before = noisy_impute(images, removed)
    assert torch.equal(noisy_impute(images, removed), before)
    images += 1
    after = noisy_impute(images, removed)
    assert torch.equal(after, noisy_impute(images.clone(), removed))
    assert (after - before - 1).abs().max() > NOISE
    with torch.inference_mode():
        assert torch.equal(noisy_impute(images.clone(), removed), after)
