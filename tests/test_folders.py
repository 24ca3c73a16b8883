"""Image folders as people have them: other names of the parts, system files, and every kind of pixel."""

import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from common.errors import InputError
from data import Dataset, Split, load_dataset
from data.folders import folder_name
from data.pixels import read_picture
from evaluation.selectivity import to_uint8
from tests.run_main import run
from training.inputs import Images, Normalisation

SIZE = (8, 9)  # rows, columns
RAMP = np.arange(72).reshape(SIZE)


def noise(seed: int, channels: tuple[int, ...] = ()) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, *channels), dtype=np.uint8)


def save(path: Path, image: np.ndarray | Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


def fill(folder: Path, seed: int, classes: tuple[str, ...] = ("ant", "bee")) -> None:
    """Two images for each class."""
    for label, name in enumerate(classes):
        for place in range(2):
            save(folder / name / f"{place}.png", noise(100 * seed + 10 * label + place))


def load(folder: Path) -> Dataset:
    return load_dataset(folder_name(f"folder:{folder}", folder))


def refused(folder: Path) -> str:
    """The one line."""
    with pytest.raises(InputError) as refusal:
        load(folder)
    message = str(refusal.value)
    assert "\n" not in message
    return message


def assert_split(dataset: Dataset, train: int, test: int) -> None:
    """The images are those that `fill` made with these seeds."""
    assert dataset.classes == ("ant", "bee")
    for split, seed in ((dataset.train, train), (dataset.test, test)):
        np.testing.assert_array_equal(split.labels, [0, 0, 1, 1])
        expected = [noise(100 * seed + 10 * label + place) for label in range(2) for place in range(2)]
        np.testing.assert_array_equal(split.images[..., 0], expected)


@pytest.mark.parametrize("train", ["train", "Train", "training"])
@pytest.mark.parametrize("test", ["val", "VAL", "valid", "Validation", "test", "Testing"])
def test_a_training_part_beside_a_part_for_testing_is_a_split(train, test, tmp_path):
    fill(tmp_path / train, 1)
    fill(tmp_path / test, 2)
    (tmp_path / "labels.csv").write_text("neither this")
    fill(tmp_path / ".git", 3)
    fill(tmp_path / "__MACOSX", 4)
    assert_split(load(tmp_path), train=1, test=2)


def test_of_three_parts_test_is_the_test(tmp_path, capsys):
    for seed, part in enumerate(("TRAIN", "valid", "Test")):
        fill(tmp_path / part, seed)
    assert_split(load(tmp_path), train=0, test=2)
    (line,) = capsys.readouterr().out.splitlines()
    assert "valid is not used" in line
    load(tmp_path)
    assert not capsys.readouterr().out  # said once


def test_parts_beside_other_folders_are_classes(tmp_path, capsys):
    for name in ("train", "plane", "test"):
        save(tmp_path / name / "1.png", noise(1))
        save(tmp_path / name / "2.png", noise(2))
    assert load(tmp_path).classes == ("plane", "test", "train")
    assert "taken for classes" in capsys.readouterr().out
    fill(tmp_path / "without", 1, ("bus", "train"))
    assert load(tmp_path / "without").classes == ("bus", "train")


@pytest.mark.parametrize("names", [("train", "dev"), ("training_set", "test_set"), ("train_images", "val_images")])
def test_parts_of_other_names_are_said(names, tmp_path, capsys):
    for seed, name in enumerate(names):
        fill(tmp_path / name, seed)
    assert len(load(tmp_path).classes) == 2
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "taken for classes" in line)
    assert "ant, bee" in line


def test_subfolders_of_classes_are_no_parts(tmp_path, capsys):
    fill(tmp_path / "cat", 1, ("indoors", "outdoors"))
    fill(tmp_path / "dog", 2, ("indoors", "lawn"))
    load(tmp_path)
    assert "taken for classes" not in capsys.readouterr().out


def test_parts_that_make_no_split_are_refused(tmp_path):
    for name, parts, words in (
        ("alone", ["train"], "no test images"),
        ("untrained", ["test", "val"], "no training images"),
        ("spellings", ["train", "training", "test"], "train, training"),
        ("tests", ["Train", "val", "validation"], "val, validation"),
    ):
        for seed, part in enumerate(parts):
            fill(tmp_path / name / part, seed)
        assert words in refused(tmp_path / name)
    fill(tmp_path / "flat" / "train", 1)
    save(tmp_path / "flat" / "val" / "1.png", noise(1))
    assert "val has no folders" in refused(tmp_path / "flat")
    fill(tmp_path / "other" / "train", 1)
    fill(tmp_path / "other" / "val", 2, ("ant", "wasp"))
    assert "bee, wasp" in refused(tmp_path / "other")
    fill(tmp_path / "nested" / "nested", 1)
    fill(tmp_path / "nested" / "__MACOSX", 1)
    assert f"perhaps {tmp_path / 'nested' / 'nested'}" in refused(tmp_path / "nested")


HIDDEN = (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", ".git", ".cache")


def test_numbers_that_are_sorted_as_letters_are_said(tmp_path, capsys):
    """A network with output k for class k would be judged as if it were wrong."""
    for count, is_said in ((10, False), (11, True)):
        folder = tmp_path / str(count)
        fill(folder, 0, tuple(map(str, range(count))))
        load(folder)
        assert ("order of letters (0, 1, 10, …)" in capsys.readouterr().out) == is_said


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_folders_are_neither_classes_nor_images(name, tmp_path):
    fill(tmp_path / "clean", 1)
    fill(tmp_path / "dirty", 1)
    for place in ("", "ant", "bee/deeper"):
        save(tmp_path / "dirty" / place / name / "copy.png", noise(9))
    assert load(tmp_path / "dirty").classes == ("ant", "bee")
    assert load(tmp_path / "dirty").sha256 == load(tmp_path / "clean").sha256


def test_system_files_are_no_images(tmp_path, capsys):
    fill(tmp_path, 1)
    before = len(load(tmp_path).train)
    for name in ("._0.png", ".hidden.jpg", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / "ant" / name).write_bytes(b"no image")
    (tmp_path / "ant" / "notes.txt").write_text("some")
    (tmp_path / "ant" / "table.h5").write_text("other")
    (tmp_path / "bee" / "loop").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    again = tmp_path.with_name(f"{tmp_path.name}-again")  # another name, so that it is read again
    again.symlink_to(tmp_path)
    assert len(load(again).train) == before
    (line,) = capsys.readouterr().out.splitlines()
    assert all(words in line for words in (".txt (1)", ".h5 (1)", "links to folders (1)"))


def test_images_of_subfolders_belong_to_the_class(tmp_path):
    for name in ("ant", "bee"):
        for place in range(3):
            save(tmp_path / name / "summer" / str(place) / "image.png", noise(place))
    assert [len(load(tmp_path).train), len(load(tmp_path).test)] == [4, 2]


def test_what_a_class_without_images_has_is_said(tmp_path):
    fill(tmp_path, 1)
    (tmp_path / "wasp").mkdir()
    (tmp_path / "wasp" / "1.npy").write_bytes(b"")
    assert "class wasp that Pillow reads, but .npy" in refused(tmp_path)


def test_the_same_image_in_both_parts_is_said_once(tmp_path, capsys):
    fill(tmp_path / "train", 1)
    fill(tmp_path / "val", 2)
    copy = save(tmp_path / "val" / "bee" / "1.png", noise(110))
    copied = copy.with_suffix(".bmp")
    copy.rename(copied)  # of other bytes or of another name: the pixels count
    save(copied, noise(110))
    dataset = load(tmp_path)
    assert (dataset.test.images[3] == dataset.train.images[2]).all()
    lines = [line for line in capsys.readouterr().out.splitlines() if "training images too" in line]
    assert len(lines) == 1
    assert f"1 of 4 test images are training images too, such as {copied}" in lines[0]


def values(path: Path) -> np.ndarray:
    return read_picture(path).values


ALL_16_BITS = np.linspace(0, 65535, 72).round().astype(np.uint16).reshape(SIZE)


def pgm(path: Path, image: np.ndarray) -> Path:
    path.write_bytes(b"P5 %d %d 65535\n" % image.shape[::-1] + image.astype(">u2").tobytes())
    return path


@pytest.mark.parametrize("name", ["16.png", "16.tif", "big.tif", "16.pgm", "16.jp2"])
def test_16_bits_are_divided_by_257(name, tmp_path):
    if name.endswith("pgm"):
        path = pgm(tmp_path / name, ALL_16_BITS)
    elif name == "big.tif":
        path = save(tmp_path / name, Image.frombytes("I;16B", SIZE[::-1], ALL_16_BITS.astype(">u2").tobytes()))
    else:
        path = save(tmp_path / name, ALL_16_BITS)
    assert values(path).dtype == np.uint8
    np.testing.assert_array_equal(values(path), np.rint(ALL_16_BITS / 257))


def test_a_folder_of_8_and_16_bits(tmp_path):
    for name in ("ant", "bee"):
        save(tmp_path / name / "1.png", (257 * RAMP).astype(np.uint16))
        save(tmp_path / name / "2.png", RAMP.astype(np.uint8))
    dataset = load(tmp_path)
    np.testing.assert_array_equal(dataset.train.images[0, ..., 0], RAMP)
    np.testing.assert_array_equal(dataset.test.images[0, ..., 0], RAMP)
    save(tmp_path / "colour" / "ant" / "1.png", (257 * RAMP).astype(np.uint16))
    save(tmp_path / "colour" / "ant" / "2.png", noise(1, (3,)))
    fill(tmp_path / "colour", 1, ("bee",))
    coloured = load(tmp_path / "colour")
    np.testing.assert_array_equal(coloured.train.images[0], np.stack([RAMP] * 3, axis=-1))
    np.testing.assert_array_equal(coloured.test.images[0], noise(1, (3,)))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_without_black_and_white_get_them_from_the_training_images(kind, tmp_path, capsys):
    ranges = {"train": ((-1000, 0), (0, 3000)), "test": ((-2000, 1000), (0, 5000))}
    expected = {}
    for part, of_classes in ranges.items():
        for name, ends in zip(("ant", "bee"), of_classes, strict=True):
            image = np.linspace(*ends, 72).reshape(SIZE).astype(kind)
            save(tmp_path / part / name / "1.tif", image)
            expected[part, name] = np.rint((np.clip(image.astype(float), -1000, 3000) + 1000) / 4000 * 255)
    dataset = load(tmp_path)
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        for row, name in enumerate(("ant", "bee")):
            np.testing.assert_array_equal(split.images[row, ..., 0], expected[part, name])
    (line,) = capsys.readouterr().out.splitlines()
    assert "-1000 is black and 3000 is white" in line
    save(tmp_path / "more" / "train" / "ant" / "1.tif", np.linspace(-1000, 0, 72).reshape(SIZE).astype(kind))
    for part, name, top in (("train", "bee", 4000), ("test", "ant", 1), ("test", "bee", 1)):
        save(tmp_path / "more" / part / name / "1.tif", np.linspace(0, top, 72).reshape(SIZE).astype(kind))
    assert load(tmp_path / "more").train.images[0].max() == 51  # another range: other arrays, so another sum


def tiff(path: Path, data: np.ndarray, sample_format: int, bits: int, photometric: int = 1) -> Path:
    """A TIFF of grey values, written by hand, since Pillow writes only some types."""
    height, width = SIZE
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags += [(279, data.nbytes), (339, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + data.nbytes) + data.tobytes() + directory)
    return path


def test_integers_keep_their_sign_and_size(tmp_path):
    signed = (RAMP - 30).astype("<i2")
    np.testing.assert_array_equal(values(tiff(tmp_path / "signed.tif", signed, 2, 16)), signed)
    large = (RAMP.astype(np.uint32) << 25).astype("<u4")
    assert large.max() > 2**31
    np.testing.assert_array_equal(values(tiff(tmp_path / "large.tif", large, 1, 32)), large)
    single = (RAMP / 7).astype("<f4")
    np.testing.assert_array_equal(values(tiff(tmp_path / "single.tif", single, 3, 32)), single)
    with pytest.raises(InputError, match=r"double\.tif can't be read"):
        values(tiff(tmp_path / "double.tif", RAMP / 7, 3, 64))


def test_12_bits_are_scaled_by_their_range(tmp_path):
    image = np.resize([0, 4095, 2048, 16], SIZE)
    rows = ["".join(f"{value:012b}" for value in row) + "0000" for row in image]  # a row ends with a whole byte
    packed = b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)
    path = tiff(tmp_path / "12.tif", np.frombuffer(packed, np.uint8), 1, 12)
    np.testing.assert_array_equal(values(path), np.rint(image * 255 / 4095))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_float_that_is_not_finite_is_refused(wrong, tmp_path):
    image = RAMP.astype(np.float32)
    image[3, 3] = wrong
    save(tmp_path / "ant" / "1.tif", image)
    save(tmp_path / "ant" / "2.tif", RAMP.astype(np.float32))
    fill(tmp_path, 1, ("bee",))
    assert "1.tif has values that are not finite" in refused(tmp_path)


def test_floats_of_one_value_are_black_and_said(tmp_path, capsys):
    for name in ("ant", "bee"):
        for place in range(2):
            save(tmp_path / name / f"{place}.tif", np.full(SIZE, 0.5, np.float32))
    assert not load(tmp_path).train.images.any()
    assert "one colour" in capsys.readouterr().out


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    alpha = alpha.astype(float) if colour.ndim == 2 else alpha[..., None].astype(float)
    return np.rint(colour * (alpha / 255) + 255 * (1 - alpha / 255))


def test_alpha_is_composited_on_white(tmp_path, capsys):
    colour, alpha = noise(1, (3,)), noise(2)
    rgba = np.dstack([colour, alpha])
    for name in ("a.png", "a.webp", "a.tif"):
        path = save(tmp_path / name, rgba, **({"lossless": True, "exact": True} if name.endswith("webp") else {}))
        np.testing.assert_array_equal(values(path), on_white(colour, alpha))
    grey = save(tmp_path / "la.png", np.dstack([noise(3), alpha]))
    np.testing.assert_array_equal(values(grey), np.dstack([on_white(noise(3), alpha)] * 3))
    shape = np.where(RAMP % 3 == 0, 255, 0).astype(np.uint8)  # black all over: the shape is in the alpha channel
    for name in ("ant", "bee"):
        for place in range(2):
            save(tmp_path / "shapes" / name / f"{place}.png", np.dstack([np.zeros((*SIZE, 3), np.uint8), shape]))
    np.testing.assert_array_equal(load(tmp_path / "shapes").train.images[0, ..., 1], 255 - shape)
    lines = [line for line in capsys.readouterr().out.splitlines() if "on white" in line]
    assert len(lines) == 1
    assert "4 of 4 images" in lines[0]


def test_other_ways_to_be_transparent(tmp_path):
    level, clear = (RAMP % 4).astype(np.uint8), RAMP % 4 == 1
    palette = Image.frombytes("P", SIZE[::-1], level.tobytes())
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]], np.uint8)
    palette.putpalette(colours.ravel().tolist())
    shown = np.where(clear[..., None], 255, colours[level])
    for name in ("p.png", "p.gif"):
        np.testing.assert_array_equal(values(save(tmp_path / name, palette, transparency=1)), shown)
    shares = bytes([255, 0, 128, 255])
    partly = values(save(tmp_path / "partly.png", palette, transparency=shares))
    np.testing.assert_array_equal(partly, on_white(colours[level], np.frombuffer(shares, np.uint8)[level]))
    np.testing.assert_array_equal(values(save(tmp_path / "l.png", level, transparency=1)), np.where(clear, 255, level))
    np.testing.assert_array_equal(values(save(tmp_path / "rgb.png", colours[level], transparency=(40, 50, 60))), shown)
    deep = (1000 * RAMP).astype(np.uint16)
    path = save(tmp_path / "deep.png", deep, transparency=5000)
    np.testing.assert_array_equal(values(path), np.where(deep == 5000, 255, np.rint(deep / 257)))
    alpha = noise(2) | 1
    premultiplied = np.rint(np.dstack([noise(1, (3,)) * (alpha[..., None] / 255), alpha])).astype(np.uint8)
    path = save(tmp_path / "premultiplied.tif", premultiplied)
    straight, associated = (struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1))  # the tag of extra samples
    assert straight in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(straight, associated))
    expected = premultiplied[..., :3].astype(int) + 255 - alpha[..., None]
    assert np.abs(values(path) - expected).max() <= 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_rotation_by_exif_is_applied_and_all_have_one_size(tmp_path):
    turned = {1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 6: lambda x: np.rot90(x, -1)}
    turned |= {8: np.rot90, 4: np.flipud, 5: lambda x: x.transpose(1, 0, 2)}
    image = noise(1, (3,))
    for orientation, turn in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix in ("png", "tif", "webp"):
            options = {"lossless": True} if suffix == "webp" else {}
            path = save(tmp_path / f"{orientation}.{suffix}", image, exif=exif, **options)
            np.testing.assert_array_equal(values(path), turn(image))
    exif[0x0112] = 6
    for name in ("ant", "bee"):
        save(tmp_path / "photos" / name / "1.jpg", image, exif=exif)
        save(tmp_path / "photos" / name / "2.jpg", np.rot90(image, -1))
    assert load(tmp_path / "photos").shape == (3, 9, 8)
    broken = save(tmp_path / "broken.jpg", image, exif=b"Exif\0\0MM\0*rubbish that is no directory")
    np.testing.assert_array_equal(values(broken), np.asarray(Image.open(broken)))


def test_images_that_were_read_rightly_are_read_as_before(tmp_path):
    grey, colour, opaque = noise(1), noise(2, (3,)), np.full(SIZE, 255, np.uint8)
    for name, image in {
        "l.png": grey,
        "l.jpg": grey,
        "bilevel.png": Image.fromarray(grey > 99),
        "rgb.jpg": colour,
        "rgb.bmp": colour,
        "rgb.ppm": colour,
        "rgba.png": np.dstack([colour, opaque]),
        "la.png": np.dstack([grey, opaque]),
        "palette.png": Image.fromarray(colour).quantize(16),
        "cmyk.jpg": Image.fromarray(colour).convert("CMYK"),
    }.items():
        path = save(tmp_path / name, image)
        with Image.open(path) as picture:
            before = np.asarray(picture.convert("L" if picture.mode in {"1", "L"} else "RGB"))
        np.testing.assert_array_equal(values(path), before)
        assert not read_picture(path).is_transparent


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "apng", "tiff"])
def test_of_several_images_in_a_file_the_first_counts(suffix, tmp_path):
    frames = [Image.fromarray(np.full((*SIZE, 3), level, np.uint8)) for level in (50, 100, 200)]
    path = save(tmp_path / f"film.{suffix}", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    assert (values(path) == 50).all()


def test_further_frames_and_other_ranges_are_said(tmp_path, capsys):
    fill(tmp_path, 1)
    frames = [Image.fromarray(noise(place)) for place in range(2)]
    frames[0].save(tmp_path / "ant" / "2.gif", save_all=True, append_images=frames[1:])
    save(tmp_path / "bee" / "00.tif", noise(5).astype(np.float32) / 255)
    load(tmp_path)
    output = capsys.readouterr().out
    assert f"1 of 6 images have several pictures, of which the first is used, such as {tmp_path}/ant/2.gif" in output
    assert "3 training images of 8 or 16 bits are not of that range" in output


@pytest.mark.parametrize("suffix", ["gif", "tga", "jp2", "ico", "pcx", "PNG"])
def test_every_format_that_pillow_reads_counts(suffix, tmp_path):
    image = np.asarray(Image.fromarray(noise(1, (3,))).resize((16, 16)))
    for name in ("ant", "bee"):
        for place in range(2):
            save(tmp_path / name / f"{place}.{suffix}", image)
    dataset = load(tmp_path)
    assert len(dataset.train) == 2
    expected = np.asarray(Image.open(tmp_path / "ant" / f"0.{suffix}").convert("RGB"))
    np.testing.assert_array_equal(dataset.train.images[0], expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_white_may_be_zero(bits, tmp_path):
    top = 2**bits - 1
    image = np.linspace(0, top, 72).round().astype(f"<u{bits // 8}").reshape(SIZE)
    path = tiff(tmp_path / "white is zero.tif", image, 1, bits, photometric=0)
    np.testing.assert_array_equal(values(path), 255 - np.rint(image * (255 / top)))


def test_colour_spaces(tmp_path):
    inks = Image.frombytes("CMYK", SIZE[::-1], bytes([0, 255, 255, 0]) * 72)
    assert (values(save(tmp_path / "inks.tif", inks)) == (255, 0, 0)).all()
    lab = Image.new("LAB", SIZE[::-1], (138, 209, 198))  # L* = 54.3, a* = 80.8, b* = 69.9 under D50: red
    assert np.abs(values(save(tmp_path / "lab.tif", lab)) - np.array([255, 0, 0])).max() <= 6
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    brown = ImageCms.profileToProfile(Image.new("RGB", SIZE[::-1], (180, 120, 90)), *profiles, outputMode="LAB")
    assert np.abs(values(save(tmp_path / "brown.tif", brown)) - np.array([180, 120, 90])).max() <= 3
    brightness = Image.new("YCbCr", SIZE[::-1], (100, 128, 128))
    assert np.abs(values(save(tmp_path / "grey.tif", brightness)).astype(int) - 100).max() <= 1


def rows_of_png(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


UNREADABLE = {
    "bomb": lambda whole: rows_of_png(60_000, 60_000),
    "small bomb": lambda whole: rows_of_png(10_000, 10_000),
    "cut off": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "text": lambda whole: b"no image",
    "drawing": lambda whole: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 8\n%%EndComments\n",
    "wrong sum": lambda whole: whole[:29] + b"0000" + whole[33:],
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_file_that_cannot_be_decoded_is_one_line_with_its_name(what, tmp_path, capsys):
    fill(tmp_path / "folder", 1)
    path = tmp_path / "folder" / "bee" / "1.png"
    path.write_bytes(UNREADABLE[what](path.read_bytes()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing else is printed
        assert run(tmp_path, tmp_path / "out", ["--train", f"--target=folder:{tmp_path / 'folder'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path} can't be read" in line
    assert not (tmp_path / "out").exists()


def test_image_folders_cost_no_import_of_torch_before_they_are_read():
    code = "import sys, data.folders; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_constant_channel_becomes_zero_and_everything_stays_finite():
    images = np.dstack([np.full(SIZE, 200, np.uint8), noise(1), np.zeros(SIZE, np.uint8)])[None].repeat(4, axis=0)
    split = Split(images, np.zeros(4, np.int64), np.arange(4))
    other = Split(images.copy(), split.labels, split.index)
    other.images[..., 0] = 251
    normalisation = Normalisation.from_dataset(Dataset("any", split, other, ("a", "b"), "sum"), torch.device("cpu"))
    every = torch.arange(4)
    train, test = (Images(one, normalisation, torch.device("cpu")).batch(every) for one in (split, other))
    assert train.isfinite().all()
    torch.testing.assert_close(train[:, [0, 2]], torch.zeros(4, 2, *SIZE), atol=1e-6, rtol=0)
    torch.testing.assert_close(train[:, 1].std(correction=0), torch.tensor(1.0))
    torch.testing.assert_close(test[:, 0], torch.full((4, *SIZE), 51 / 255))
    torch.testing.assert_close(normalisation.black[[0, 2]], torch.tensor([-200 / 255, 0.0]))
    look_up = normalisation.look_up(torch.from_numpy(images).permute(0, 3, 1, 2))
    torch.testing.assert_close(look_up, train)
    np.testing.assert_array_equal(to_uint8([test], normalisation)[:, 0], other.images.transpose(0, 3, 1, 2))
