"""Images that are decoded when they are used: resized and cropped, in parallel, into a file that is memory-mapped."""

import multiprocessing
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from common.errors import InputError
from common.files import atomic_write, free_bytes, require_writable
from common.hashing import file_sha256, json_sha256
from common.progress import progress_bar
from data.file_sums import workers
from data.folder_options import FolderOptions
from data.formats import Pixels
from data.pixels import Picture, decode_picture, pillow_warnings, remark_notes

if TYPE_CHECKING:
    from PIL.Image import Image

CACHE_FOLDER = "decoded"  # in the data folder
CACHE_LIMIT = 50.0  # GB of decoded images
LIMIT_VARIABLE = "WHITEBOX_CACHE_LIMIT"  # GB, in place of CACHE_LIMIT
BATCH = 256
LARGEST_RESIZED = 89_478_485  # pixels, Pillow's limit for files


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Files of images, in order, that become one array when it is needed.

    Attributes:
        sums: the SHA-256 of each file.
        shape_of_image: (H, W, C), C = 1 or 3.
        options: resizing and cropping; without a size all images must have that of `shape_of_image`.
        cache: folder of the decoded images.
    """

    files: npt.NDArray[np.object_]
    sums: npt.NDArray[np.str_]
    shape_of_image: tuple[int, int, int]
    options: FolderOptions
    cache: Path

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> "ImageFiles":
        return replace(self, files=self.files[rows], sums=self.sums[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.shape_of_image)

    @property
    def bytes(self) -> int:
        return prod(self.shape)

    @property
    def path(self) -> Path:
        """The file of the decoded images, named by the files' contents, the options and the version of the decoder."""
        from PIL import Image, features

        decoder = [Image.__version__, features.version("jpg"), features.version("libjpeg_turbo")]
        key = [self.sums.tolist(), self.shape_of_image, self.options.plain, decoder]
        return self.cache / f"{json_sha256(key)[:24]}.npy"

    def decode(self, cache_limit: float | None = None) -> Pixels:
        """Return (N, H, W, C) uint8, mapped from the file at `path`, which is made if it is missing.

        Args:
            cache_limit: GB that all decoded images may take; default: the variable `LIMIT_VARIABLE`, or `CACHE_LIMIT`.

        Raises:
            InputError: an image can't be decoded, or there is no room.
        """
        if not len(self):
            return np.empty(self.shape, np.uint8)
        path = self.path
        if not path.exists():
            require_writable(self.cache)
            self.cache.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.cache / f".{path.stem}.lock")
            try:
                lock.acquire(timeout=0.5)
            except Timeout:
                print(f"waiting: another command is decoding {len(self):,} images", flush=True)
                lock.acquire()
            try:
                if not path.exists():
                    self._write(path, cache_limit)
            finally:
                lock.release()
        return np.load(path, mmap_mode="r")

    def _write(self, path: Path, cache_limit: float | None) -> None:
        for leftover in self.cache.glob(f".{path.name}.*.unfinished"):  # of a command that was killed
            leftover.unlink(missing_ok=True)
        self._require_room(_limit() if cache_limit is None else cache_limit)
        height, width, channels = self.shape_of_image
        if multiprocessing.parent_process() is None:
            amount = f"{len(self):,} images to {height}×{width}×{channels}: {_amount(self.bytes)}"
            print(f"data: decoding {amount} in {self.cache}", flush=True)
        paths: defaultdict[str, list[Path]] = defaultdict(list)
        header = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            with workers() as pool, pillow_warnings(), progress_bar(len(self), "decoding", "images") as bar:
                for start in range(0, len(self), BATCH):
                    part = slice(start, start + BATCH)
                    for picture, pixels in pool.map(self._read, self.files[part], self.sums[part].tolist()):
                        file.write(pixels.data)
                        bar.update()
                        for remark in picture.remarks:
                            paths[remark].append(picture.path)
        if multiprocessing.parent_process() is None:
            for note in remark_notes(paths, len(self)):
                print(f"data: {note}", flush=True)

    def _require_room(self, limit: float) -> None:
        used, free = sum(path.stat().st_size for path in self.cache.glob("*.npy")), free_bytes(self.cache)
        amount, fewer = f"{len(self):,} decoded images take {_amount(self.bytes)}", "use fewer (--limit-test)"
        if self.bytes + used > limit * 1e9:
            beside = f" beside {_amount(used)} of others" if used else ""
            mend = f"{fewer}, delete {self.cache}, or set {LIMIT_VARIABLE} to more GB"
            raise InputError(f"{amount}{beside}, over the limit of {limit:g} GB: {mend}")
        if self.bytes > free:
            raise InputError(f"{amount}, but the disk of {self.cache} has {_amount(free)}: {fewer}, or make room")

    def _read(self, file: Path, sha256: str) -> tuple[Picture, Pixels]:
        """Return the contents of one file, without their values, and its (H, W, C) pixels.

        Raises:
            InputError: the file has changed since its SHA-256 was taken, or its image doesn't fit.
        """
        from PIL import Image

        if file_sha256(file) != sha256:
            raise InputError(f"{file} has changed since this command began: give the command again")
        picture = decode_picture(file)
        if picture.needs_range:
            raise InputError(f"{file} has floats or large integers, without a black and a white: save it with 8 bits")
        values, (height, width, channels) = picture.values, self.shape_of_image
        picture = replace(picture, values=np.empty(0, np.uint8))
        if self.options.size is not None:
            values = np.asarray(resize_and_crop(Image.fromarray(values), self.options, file))
        elif values.shape[:2] != (height, width):
            sizes = f"{values.shape[1]}×{values.shape[0]} pixels, others {width}×{height}"
            raise InputError(f"{file} has {sizes}: bring all to one size, or give --image-size")
        if values.ndim == 2:
            return picture, np.repeat(values[..., None], channels, 2)
        if channels == 1:
            raise InputError(f"{file} has colours, which its header doesn't say: save it in another format")
        return picture, np.ascontiguousarray(values)


def resize_and_crop(image: "Image", options: FolderOptions, file: Path | None = None) -> "Image":
    """Resize the shorter side and cut out the middle, as the evaluation transforms of timm and torchvision do.

    Raises:
        InputError: the resized image would be too large, since the image is a narrow strip.
    """
    from PIL import Image

    assert options.size is not None
    target_height, target_width = options.resized_sides
    if options.squash:
        height, width = target_height, target_width
    elif target_height == target_width:
        short, long = sorted(image.size)
        longer = int(target_height * long / short)
        height, width = (longer, target_width) if image.width <= image.height else (target_height, longer)
    else:
        ratio = min(image.height / target_height, image.width / target_width)
        height, width = round(image.height / ratio), round(image.width / ratio)
    if height * width > LARGEST_RESIZED:
        raise InputError(f"{file} has {image.width}×{image.height} pixels, a strip that can't be resized: cut it")
    filters = {name: getattr(Image.Resampling, name.upper()) for name in ("bilinear", "bicubic", "nearest")}
    resized = image.resize((width, height), filters[options.interpolation])
    top, left = (round((side - size) / 2) for side, size in zip((height, width), options.size, strict=True))
    return resized.crop((left, top, left + options.size[1], top + options.size[0]))


def _amount(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _limit() -> float:
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        return float(text) if text else CACHE_LIMIT
    except ValueError as error:
        raise InputError(f"{LIMIT_VARIABLE}={text}: give a number of GB") from error
