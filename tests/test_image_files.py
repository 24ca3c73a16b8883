"""Image folders with options and CSV lists: sizes, crops, splits, classes, files decoded when they are used."""

import csv
import hashlib
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm.data
import torch
import torchvision
from PIL import Image
from torchvision.transforms import InterpolationMode, transforms

import data.file_sums
import data.image_files
import training.inputs
from common.command import begin_command
from common.errors import InputError
from data import Dataset, dataset_info, dataset_sha256, load_dataset
from data.folder_options import FolderOptions
from data.folders import folder_name, parse_folder_name
from data.image_files import LIMIT_VARIABLE, ImageFiles, resize_and_crop
from data.pixels import read_picture
from evaluation.tasks import SharedArrays, arrays_of, split_of
from training.inputs import Images, Normalisation, channel_statistics

SIZES = ((31, 45), (60, 33), (40, 40), (100, 37), (25, 90))  # rows, columns
CPU = torch.device("cpu")
SMALL = FolderOptions(image_size=24)


def picture(seed: int, size: tuple[int, int] = (30, 40), channels: tuple[int, ...] = (3,)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, *channels), dtype=np.uint8))


def save(path: Path, image: Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make `tmp_path` the working folder; what is remembered of folders by relative names is forgotten."""
    monkeypatch.chdir(tmp_path)
    begin_command()
    yield
    begin_command()


@pytest.fixture
def birds(tmp_path: Path, fresh: None) -> Path:
    """Three classes of five images of mixed sizes and formats; the working folder is the one above."""
    for label, name in enumerate(("auk", "crow", "owl")):
        for place, size in enumerate(SIZES):
            save(tmp_path / "birds" / name / f"{place}.{('png', 'jpg')[place % 2]}", picture(10 * label + place, size))
    return tmp_path / "birds"


def load(folder: Path, options: FolderOptions | None = None, cache: Path | None = None) -> Dataset:
    return load_dataset(folder_name(f"folder:{folder}", folder.parent, options), cache or folder.parent / "store")


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(InputError) as refusal:
        action()
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


OPTIONS = {
    "": FolderOptions(),
    "@96": FolderOptions(96),
    "@96x128-bicubic-crop0.95-test": FolderOptions((96, 128), 0.95, "bicubic", split="test"),
    "@224-crop0.965517-squash-rgb": FolderOptions(224, 224 / 232, squash=True, rgb=True),
    "@test@names+all%20of%20them.txt": FolderOptions(split="test", classes_file="names/all of them.txt"),
    "@@a%40b-c%2B.txt": FolderOptions(classes_file="a@b-c+.txt"),
}


@pytest.mark.parametrize("suffix", OPTIONS)
def test_the_name_has_the_options_and_they_come_back(suffix, birds):
    options = OPTIONS[suffix]
    assert options.suffix == suffix
    assert parse_folder_name(f"folder-a%40b+birds{suffix}") == (Path("a@b/birds"), options)
    if options.classes_file is None:
        assert folder_name("folder:birds", birds, options) == f"folder-birds{suffix}"


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("crop", [1.0, 0.875, 0.9, 0.95])
def test_images_equal_those_of_the_transforms_of_timm_and_torchvision(interpolation, crop):
    for size in (24, (20, 32)):
        for squash in (False, True):
            options = FolderOptions(size, crop, interpolation, squash=squash)
            transform = timm.data.create_transform(
                (3, *options.size),
                crop_pct=crop,
                interpolation=interpolation,
                crop_mode="squash" if squash else "center",
            )
            transform = transforms.Compose(transform.transforms[:2])
            for seed, shape in enumerate(SIZES):
                ours, theirs = resize_and_crop(picture(seed, shape), options), transform(picture(seed, shape))
                np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


@pytest.mark.parametrize("name", ["ResNet18_Weights.IMAGENET1K_V1", "ResNet50_Weights.IMAGENET1K_V2"])
def test_the_presets_of_torchvision_are_reached(name):
    preset = torchvision.models.get_weight(name).transforms()
    (size,), (resized,) = preset.crop_size, preset.resize_size
    options = FolderOptions(size, size / resized, preset.interpolation.value)
    image = picture(0, (150, 211))
    expected = transforms.Resize(resized, InterpolationMode(preset.interpolation))(image)
    ours = resize_and_crop(image, options)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(transforms.CenterCrop(size)(expected)))


def test_a_crop_that_is_a_ratio_gives_back_the_size_of_which_it_cuts():
    for size in range(64, 600, 32):
        for resized in range(size, size + 64):
            assert FolderOptions(size, size / resized).resized_sides == (resized, resized)
    for crop in (0.875, 0.9, 0.94, 0.95, 0.96, 0.965):
        for size in (160, 224, 240, 288, 384):
            assert FolderOptions(size, crop).resized_sides[0] == math.floor(size / crop)  # as in timm


def test_images_of_mixed_sizes_are_those_that_pillow_resizes(birds):
    options = FolderOptions(24, 0.9, "bicubic")
    dataset = load(birds, options)
    assert dataset.classes == ("auk", "crow", "owl")
    assert dataset.shape == (3, 24, 24)
    np.testing.assert_array_equal(dataset.train.labels, np.repeat([0, 1, 2], 4))
    np.testing.assert_array_equal(dataset.test.labels, [0, 1, 2])
    files = [birds / name / f"{place}.{('png', 'jpg')[place % 2]}" for name in dataset.classes for place in range(4)]
    expected = [np.asarray(resize_and_crop(Image.open(file).convert("RGB"), options)) for file in files]
    np.testing.assert_array_equal(dataset.train.images, expected)
    assert isinstance(dataset.train.images, np.memmap)
    assert dataset.train.images.dtype == np.uint8


def test_grey_images_stay_grey_unless_colours_are_wished(birds, tmp_path):
    for place in range(5):
        for name in "ab":
            save(tmp_path / "grey" / name / f"{place}.png", picture(place, SIZES[place], ()))
    grey, coloured = load(tmp_path / "grey", SMALL), load(tmp_path / "grey", FolderOptions(24, rgb=True))
    assert (grey.shape, coloured.shape) == ((1, 24, 24), (3, 24, 24))
    np.testing.assert_array_equal(coloured.train.images, grey.train.images.repeat(3, 3))
    assert dataset_info(grey.name).shapes["train_images"] == (8, 24, 24)
    save(tmp_path / "mixed" / "a" / "0.png", picture(0))
    for name in "ab":
        save(tmp_path / "mixed" / name / "1.png", picture(1, (24, 24), ()))
        save(tmp_path / "mixed" / name / "2.png", picture(1, (24, 24), ()))
    mixed = load(tmp_path / "mixed", SMALL)
    np.testing.assert_array_equal(mixed.train.images[-1], np.asarray(picture(1, (24, 24), ()))[..., None].repeat(3, 2))


def test_rotation_by_exif_comes_before_the_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        for place in range(2):
            path = save(tmp_path / "photos" / name / f"{place}.png", picture(place))
            picture(place).save(path, exif=exif)
    turned = Image.fromarray(read_picture(path).values)
    assert turned.size == (30, 40)
    dataset = load(tmp_path / "photos", FolderOptions((32, 24)))
    np.testing.assert_array_equal(dataset.test.images[1], np.asarray(resize_and_crop(turned, FolderOptions((32, 24)))))
    assert load(tmp_path / "photos", FolderOptions(split="test")).shape == (3, 40, 30)


def test_only_images_that_are_used_are_decoded(birds, monkeypatch):
    decoded: list[Path] = []
    read = data.image_files.decode_picture
    monkeypatch.setattr(data.image_files, "decode_picture", lambda file: (decoded.append(file), read(file))[1])
    dataset = load(birds, SMALL)
    part = dataset.subset(5, 2)
    assert part.shape == (3, 24, 24)
    assert (len(part.train), part.train.labels.max()) == (5, 2)
    assert not decoded
    images = part.train.images
    assert sorted(decoded) == sorted(dataset.train.source.files[part.train.index])
    np.testing.assert_array_equal(images, dataset.train.images[part.train.index])
    count = len(decoded)
    np.testing.assert_array_equal(load(birds, SMALL).subset(5, 2).train.images, images)
    assert len(decoded) == count  # a file on the disk by now
    rows = np.array([4, 1])  # decoded already, with all
    assert isinstance(dataset.train.take(rows).source, np.ndarray)
    np.testing.assert_array_equal(dataset.train.take(rows).images, dataset.train.images[rows])
    other = replace(dataset.train, labels=dataset.train.labels[::-1])
    np.testing.assert_array_equal(other.images, dataset.train.images)


def test_the_version_of_pillow_is_in_the_name_of_the_file_and_not_in_the_identity(birds, monkeypatch):
    dataset = load(birds, SMALL)
    path = dataset.train.source.path
    monkeypatch.setattr(Image, "__version__", "0.0")
    assert dataset.train.source.path != path
    again = birds.rename(birds.with_name("again"))
    assert load(again, SMALL).sha256 == dataset.sha256
    assert load(again, FolderOptions(25)).sha256 != dataset.sha256


@pytest.mark.parametrize("change", ["content", "name", "class", "options"])
def test_the_identity_is_of_files_names_classes_and_options(change, birds):
    def name(path: str, options: FolderOptions = SMALL) -> str:
        return folder_name(f"folder:{path}", birds.parent / "store", options)

    before, options = dataset_sha256(name("birds")), SMALL
    if change == "content":
        file = birds / "owl" / "2.png"
        status = file.stat()
        save(file, picture(99, SIZES[2]))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "name":
        (birds / "owl" / "2.png").rename(birds / "owl" / "22.png")
    elif change == "class":
        (birds / "owl").rename(birds / "puffin")
    else:
        options = FolderOptions(24, interpolation="nearest")
    Path("link").symlink_to(birds)
    assert dataset_sha256(name("link", options)) != before


def test_sums_are_computed_once(birds, monkeypatch, tmp_path):
    before = dataset_sha256(folder_name("folder:birds", tmp_path / "store", SMALL))
    monkeypatch.setattr(data.file_sums, "_sum", lambda file: pytest.fail("read again"))
    assert load(birds, SMALL).sha256 == load(birds, FolderOptions(24, split=None)).sha256 == before
    assert (
        dataset_info(folder_name("folder:birds", tmp_path / "store", FolderOptions(32))).shapes["test_images"][0] == 3
    )


def test_a_file_that_changed_is_read_again(birds):
    def of_owl() -> str:
        return data.file_sums.file_sums([birds / "owl" / "2.png"], birds, birds.parent / "store")[0].sha256

    before = of_owl()
    content = (birds / "owl" / "2.png").read_bytes() + b"\0"
    (birds / "owl" / "2.png").write_bytes(content)
    assert of_owl() == hashlib.sha256(content).hexdigest() != before
    of_auk = data.file_sums.file_sums([birds / "auk" / "2.png"], birds, birds.parent / "store")[0]
    assert (of_auk.is_grey, of_auk.sha256) == (
        False,
        hashlib.sha256((birds / "auk" / "2.png").read_bytes()).hexdigest(),
    )


def test_another_process_needs_the_name_only(birds, tmp_path):
    options = FolderOptions((24, 32), 0.9, split="test", classes_file="names.txt")
    Path("names.txt").write_text("owl\nauk\nemu\ncrow")
    name = folder_name("folder:birds", tmp_path / "store", options)
    code = (
        "import sys, data; info = data.dataset_info(sys.argv[1]); print(info.classes, data.dataset_sha256(info.name))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    printed = subprocess.run([sys.executable, "-c", code, name], env=environment, capture_output=True, text=True).stdout
    assert printed.split("\n")[-2] == f"{dataset_info(name).classes} {dataset_sha256(name)}"


def test_all_images_are_test_images(birds):
    dataset = load(birds, FolderOptions(24, split="test"))
    assert (len(dataset.train), len(dataset.test), dataset.shape) == (0, 15, (3, 24, 24))
    np.testing.assert_array_equal(dataset.test.labels, np.repeat([0, 1, 2], 5))
    assert dataset.train.images.shape == (0, 24, 24, 3)
    assert "no training images" in refused(lambda: Normalisation.from_dataset(dataset, CPU))
    (birds.parent / "whole").mkdir()
    birds.rename(birds.parent / "whole" / "val")
    alone = load(birds.parent / "whole", FolderOptions(24, split="test"))
    np.testing.assert_array_equal(alone.test.images, dataset.test.images)
    save(birds.parent / "whole" / "train" / "owl" / "1.png", picture(1))
    Path("link").symlink_to("whole")
    assert load(Path("link"), FolderOptions(24, split="test")).sha256 == alone.sha256


def test_a_classes_file_maps_folders_to_outputs(birds):
    Path("names.txt").write_text("\ufeffowl\tthe owl\nauk, or alca\r\nemu\ncrow\n\n", encoding="utf-8")
    dataset = load(birds, FolderOptions(24, split="test", classes_file="names.txt"))
    assert dataset.classes == ("owl", "auk", "emu", "crow")
    np.testing.assert_array_equal(dataset.test.labels, np.repeat([1, 3, 0], 5))
    Path("more.txt").write_text("owl\nauk\nemu\ncrow\ntit")
    assert load(birds, FolderOptions(24, split="test", classes_file="more.txt")).sha256 != dataset.sha256
    (birds / "crow").rename(birds.parent / "crow")
    (birds / "auk").rename(birds.parent / "auk")
    Path("link").symlink_to(birds)
    alone = load(Path("link"), FolderOptions(24, split="test", classes_file=Path("names.txt").absolute()))
    np.testing.assert_array_equal(alone.test.labels, [0] * 5)


def write_list(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize("header", [False, True])
def test_a_csv_list_is_the_folder_that_it_lists(header, birds):
    files = [(f"birds/{file.parent.name}/{file.name}", file.parent.name) for file in sorted(birds.rglob("*.*"))]
    listed = load(write_list(birds.parent / "all.csv", [("path", "label")] * header + files[::-1]), SMALL)
    folder = load(birds, SMALL)
    assert listed.classes == folder.classes
    assert listed.sha256 == folder.sha256
    np.testing.assert_array_equal(listed.train.images, folder.train.images)


def test_a_csv_list_has_splits_and_numbers_as_labels(birds):
    rows = [(f"birds/owl/{place}.{('png', 'jpg')[place % 2]}", f"{11 - place}") for place in range(5)]
    rows = [(*row, split) for row, split in zip(rows, ("train", "Training", "train", "val", "val"), strict=True)]
    rows += [("birds/auk/0.png", "8", "TRAIN"), ("birds/auk/1.jpg", "7", "train")]
    header = ("Split", "label", "path")
    dataset = load(write_list(Path("parts.csv").absolute(), [header, *(row[::-1] for row in rows)][:0] + rows), SMALL)
    assert dataset.classes == ("7", "8", "9", "10", "11")
    np.testing.assert_array_equal(dataset.test.labels, [0, 1])
    np.testing.assert_array_equal(dataset.train.labels, [0, 1, 2, 3, 4])
    turned = [header, *((split, label, path) for path, label, split in rows)]
    assert load(write_list(Path("turned.csv").absolute(), turned), SMALL).sha256 == dataset.sha256
    only = load(Path("parts.csv").absolute(), FolderOptions(24, split="test"))
    assert (len(only.train), len(only.test), only.classes) == (0, 2, ("7", "8"))


def test_a_list_without_options_has_images_of_one_size(birds):
    rows = [(f"birds/{name}/2.png", name) for name in ("auk", "owl")]
    rows += [(str(save(birds.parent / f"{name}.png", picture(3, SIZES[2]))), name) for name in ("auk", "owl")]
    dataset = load(write_list(birds.parent / "some.csv", rows))
    assert dataset.name == "folder-some.csv"
    assert dataset.shape == (3, *SIZES[2])
    np.testing.assert_array_equal(dataset.test.images[1], np.asarray(Image.open(birds / "owl" / "2.png")))


def test_a_thousand_classes(tmp_path):
    image = save(tmp_path / "image.png", picture(0, (10, 12)))
    for name in range(1000):
        (tmp_path / "many" / f"{name:04}").mkdir(parents=True)
        for place in range(2):
            os.link(image, tmp_path / "many" / f"{name:04}" / f"{place}.png")
    for options in (None, FolderOptions(8)):
        dataset = load(tmp_path / "many", options)
        np.testing.assert_array_equal(dataset.test.labels, np.arange(1000))
        assert len(dataset.classes) == 1000


def test_transparent_pixels_are_said_when_they_are_decoded(birds, capsys):
    for place, alpha in enumerate((255, 0)):  # an opaque image is none
        image = picture(place)
        image.putalpha(alpha)
        save(birds / "auk" / f"alpha {place}.png", image)
    dataset = load(birds, FolderOptions(image_size=24, split="test"))
    assert "transparent" not in capsys.readouterr().out
    assert len(dataset.test.images) == 17  # decoded now
    assert "1 of 17 images have transparent pixels, shown on white, such as" in capsys.readouterr().out


def test_identical_files_of_both_parts_are_said_once(birds, capsys):
    (birds / "owl" / "copy.png").write_bytes((birds / "owl" / "0.png").read_bytes())
    (birds / "owl" / "4.png").rename(birds / "owl" / "z.png")  # 0 1 2 3 copy z: the copy is the fifth
    load(birds, SMALL)
    load(birds, SMALL)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "training images too" in line]
    assert "1 of 3 test images are training images too, such as" in line


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SEVERAL = {"owl/0.png": "owl", "owl/1.jpg": "owl", "auk/0.png": "auk", "auk/1.jpg": "auk"}
WRONG_FILES: dict[str, tuple[Callable[[Path], object], FolderOptions, str]] = {
    "cut off": (lambda birds: cut(birds / "owl" / "3.jpg"), SMALL, "3.jpg can't be read"),
    "empty": (lambda birds: (birds / "owl" / "3.jpg").write_bytes(b""), SMALL, "3.jpg can't be read"),
    "text": (lambda birds: (birds / "owl" / "3.jpg").write_text("no image"), SMALL, "3.jpg can't be read"),
    "several sizes": (lambda birds: None, FolderOptions(split="test"), "--image-size"),
    "floats": (
        lambda birds: save(birds / "owl" / "0.tif", Image.fromarray(np.ones((9, 9), np.float32))),
        SMALL,
        "0.tif has floats",
    ),
    "a strip": (
        lambda birds: save(birds / "owl" / "0.png", Image.new("L", (30000, 1))),
        FolderOptions(1000),
        "0.png has 30000×1 pixels",
    ),
    "missing class": (
        lambda birds: (birds.parent / "names.txt").write_text("owl\ncrow"),
        FolderOptions(24, classes_file="names.txt"),
        "class auk, which names.txt lacks",
    ),
    "class twice": (
        lambda birds: (birds.parent / "names.txt").write_text("owl\nauk\nowl\ncrow"),
        FolderOptions(24, classes_file="names.txt"),
        "line 3: owl is in line 1",
    ),
    "empty line": (
        lambda birds: (birds.parent / "names.txt").write_text("owl\n\nauk\ncrow"),
        FolderOptions(24, classes_file="names.txt"),
        "line 2 is empty",
    ),
    "no classes file": (lambda birds: None, FolderOptions(24, classes_file="nowhere.txt"), "no such file"),
}


@pytest.mark.parametrize("what", WRONG_FILES)
def test_wrong_files_are_one_line_and_leave_no_half_file(what, birds, tmp_path):
    damage, options, words = WRONG_FILES[what]
    damage(birds)

    def use() -> None:
        dataset = load(birds, options)
        for split in (dataset.train, dataset.test):
            len(split.images)

    assert words in refused(use)
    assert not list((tmp_path / "store").rglob("*unfinished*"))


WRONG_LISTS = {
    "missing file": ("birds/owl/0.png,owl\nbirds/owl/77.png,owl", "line 2: there is no file"),
    "no label": ("path,label\nbirds/owl/0.png,owl\nbirds/owl/1.jpg", "line 3 has no label"),
    "twice": ("birds/owl/0.png,owl\nbirds/owl/0.png,auk", "line 2: birds/owl/0.png is in line 1"),
    "unknown split": ("birds/owl/0.png,owl,holdout", "unknown split 'holdout'"),
    "no training images": ("birds/owl/0.png,owl,test\nbirds/auk/0.png,auk,test", "no training images"),
    "half split": ("birds/owl/0.png,owl,test\nbirds/auk/0.png,auk,", "line 2 has no split"),
    "one class": ("birds/owl/0.png,owl\nbirds/owl/1.jpg,owl", "1 classes"),
    "other header": ("filename,class\nbirds/owl/0.png,owl", "line 1: filename is no image file"),
    "header without label": ("path,class\nbirds/owl/0.png,owl", "no column label"),
    "empty": ("", "lists no images"),
    "binary": ("\0\x01\udcff\udcfe", "can't be read as a CSV list"),
}


@pytest.mark.parametrize("what", WRONG_LISTS)
def test_wrong_lists_are_one_line(what, birds):
    text, words = WRONG_LISTS[what]
    path = birds.parent / "list.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert words in refused(lambda: load(path, SMALL))


WRONG_OPTIONS = {
    "small": ({"image_size": 4}, "--image-size=4"),
    "large": ({"image_size": (24, 9999)}, "--image-size=24x9999"),
    "no crop": ({"image_size": 24, "crop": 0.0}, "--crop=0"),
    "wide crop": ({"image_size": 24, "crop": 1.5}, "--crop=1.5"),
    "crop alone": ({"crop": 0.9}, "--image-size"),
    "filter": ({"image_size": 24, "interpolation": "lanczos"}, "--interpolation=lanczos"),
    "filter alone": ({"interpolation": "bicubic"}, "--image-size"),
    "split": ({"split": "holdout"}, "--split=holdout"),
}


@pytest.mark.parametrize("what", WRONG_OPTIONS)
def test_wrong_options_are_one_line(what):
    options, words = WRONG_OPTIONS[what]
    assert words in refused(lambda: FolderOptions(**options))


def test_a_name_with_unknown_options_is_refused(birds):
    for name in ("folder-birds@96-huge", "folder-birds@9x", "folder-birds@cropped"):
        refused(lambda name=name: load_dataset(name, birds.parent))


def test_no_more_is_decoded_than_the_limit_and_the_disk_allow(birds, monkeypatch):
    images = load(birds, SMALL).train.source
    assert isinstance(images, ImageFiles)
    assert "over the limit of 1e-06 GB" in refused(lambda: images.decode(cache_limit=1e-6))
    monkeypatch.setenv(LIMIT_VARIABLE, "1e-6")
    assert LIMIT_VARIABLE in refused(images.decode)
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    assert "much" in refused(images.decode)
    monkeypatch.delenv(LIMIT_VARIABLE)
    monkeypatch.setattr(data.image_files, "free_bytes", lambda folder: 1000)
    assert "the disk of" in refused(images.decode)
    monkeypatch.undo()
    assert not list(images.cache.glob("*.npy"))


def test_a_break_leaves_no_half_file_and_the_next_command_begins_anew(birds, monkeypatch, tmp_path):
    images = load(birds, SMALL).train.source
    (tmp_path / "store" / "decoded").mkdir(parents=True)
    leftover = images.path.with_name(f".{images.path.name}.1.unfinished")
    leftover.write_bytes(b"half")  # of a command that was killed

    def stop(file: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(data.image_files, "decode_picture", stop)
        with pytest.raises(KeyboardInterrupt):
            images.decode()
    assert {path.suffix for path in images.cache.iterdir()} == {".lock"}
    assert images.decode().shape == images.shape


def test_mapped_images_are_normalised_as_those_in_memory(birds, monkeypatch):
    dataset = load(birds, SMALL)
    normalisation = Normalisation.from_dataset(dataset, CPU)
    index = torch.tensor([7, 0, 3])
    held = Images(dataset.train, normalisation, CPU)
    monkeypatch.setattr(training.inputs, "LARGEST_COPY", {"cpu": 0})
    mapped = Images(dataset.train, normalisation, CPU)
    assert len(mapped) == len(held) == 12
    torch.testing.assert_close(mapped.batch(index), held.batch(index), rtol=0, atol=0)
    assert mapped.batch(index).is_contiguous(memory_format=torch.channels_last)
    assert not hasattr(mapped, "images")
    shared = split_of(arrays_of(dataset, normalisation), "train")
    torch.testing.assert_close(Images(shared, normalisation, CPU).batch(index), held.batch(index), rtol=0, atol=0)


def test_decoded_images_are_not_written_again_for_other_processes(birds, tmp_path):
    dataset = load(birds, SMALL).subset(12, 2)
    shared = SharedArrays(arrays_of(dataset, Normalisation.from_dataset(dataset, CPU)))
    (tmp_path / "shared").mkdir()
    shared.write(tmp_path / "shared")
    links = [path.stem for path in (tmp_path / "shared").rglob("*.npy") if path.is_symlink()]
    assert sorted(links) == ["test_images", "train_images"]
    arrays = pickle.loads(pickle.dumps(shared)).arrays()
    np.testing.assert_array_equal(arrays["test_images"], dataset.test.images)
    np.testing.assert_array_equal(arrays["test_labels"], dataset.test.labels)


def test_statistics_in_parts_are_those_of_all(monkeypatch):
    images = np.random.default_rng(0).integers(0, 200, (23, 5, 7, 3), dtype=np.uint8)
    whole = channel_statistics(images)
    monkeypatch.setattr(training.inputs, "STATISTICS_BATCH", 4)
    assert channel_statistics(images) == whole
    np.testing.assert_allclose(whole, [(images / 255).mean((0, 1, 2)), (images / 255).std((0, 1, 2))])


def test_names_and_hashes_of_folders_without_options_stay(tmp_path, fresh):
    """The sum is that of version 0.1.0, before there were options."""
    for part in ("train", "test"):
        for label, name in enumerate(("ant", "bee")):
            ramp = (np.arange(99).reshape(9, 11) + 50 * label + len(part)).astype(np.uint8)
            save(tmp_path / "insects" / part / name / "1.png", Image.fromarray(ramp))
    name = folder_name("folder:insects", tmp_path)
    assert name == "folder-insects"
    assert dataset_sha256(name) == EARLIER


EARLIER = "52833bf9904428fd3523eaab0eac0fd5863e0f7baccfb7fce2fafb20fb89e799"
