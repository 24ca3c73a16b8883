"""Decode an image file by Pillow to grey levels, to colours, or to values without a known black and white."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

WITHOUT_PIXELS = {"BUFR", "GRIB", "HDF5", "WMF", "EPS", "MPEG"}  # formats that Pillow doesn't decode to pixels
INTEGERS_OF_16_BITS = {"PNG", "PPM"}  # formats whose 16 bits some versions of Pillow put into 32
SEQUENCES = {"GIF", "PNG", "WEBP", "TIFF", "AVIF"}  # formats with frames or pages
BITS_PER_SAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, UNSIGNED = 0, 1  # values of the last two


@dataclass(frozen=True)
class Picture:
    """The contents of an image file.

    Attributes:
        values: uint8, (H, W) of a grey image, (H, W, 3) of any other; (H, W) of another type if `needs_range`.
        is_transparent: some pixels show white.
        has_more: the file has more pictures (frames, pages); this is the first.
    """

    path: Path
    values: npt.NDArray[Any]
    is_transparent: bool = False
    has_more: bool = False

    @property
    def remarks(self) -> list[str]:
        """Properties that a user may not expect, for `remark_notes`."""
        remarks = {"transparent pixels, shown on white": self.is_transparent}
        remarks["several pictures, of which the first is used"] = self.has_more
        return [remark for remark, is_true in remarks.items() if is_true]

    @property
    def needs_range(self) -> bool:
        """True for floats and signed or 32-bit integers: the file doesn't define their black and white."""
        return bool(self.values.dtype != np.uint8)

    def scale(self, low: float, high: float) -> "Picture":
        """Return the picture with `low` as black and `high` as white if it needs a range; clip values beyond them."""
        if not self.needs_range:
            return self
        fractions = (np.clip(self.values.astype(np.float64), low, high) - low) / ((high - low) or 1)
        return replace(self, values=np.rint(fractions * 255).astype(np.uint8))


@cache
def extensions() -> dict[str, str]:
    """Return extension (".png") -> format, of all formats that Pillow decodes to pixels."""
    from PIL import Image

    formats = Image.registered_extensions().items()
    return {extension: name for extension, name in formats if name in Image.OPEN and name not in WITHOUT_PIXELS}


@cache
def readable_formats() -> list[str]:
    """Return the formats that Pillow decodes to pixels, in the order in which it tries them."""
    from PIL import Image

    formats = set(extensions().values())
    return [name for name in Image.ID if name in formats]


@contextlib.contextmanager
def pillow_warnings() -> Iterator[None]:
    """Make Pillow's warning of suspiciously many pixels an error, and silence its others, in all threads."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_picture(path: Path) -> Picture:
    """Read the first image of a file, rotated by its EXIF data, on white where it is transparent.

    16-bit levels are divided by 257; 12-bit levels are scaled to 0 … 255.

    Raises:
        InputError: the file can't be decoded, has suspiciously many pixels, or values that are not finite.
    """
    with pillow_warnings():
        return decode_picture(path)


def decode_picture(path: Path) -> Picture:
    """Read an image as `read_picture` does, for threads: the caller holds `pillow_warnings`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=readable_formats()) as image:
            has_more = image.format in SEQUENCES and getattr(image, "n_frames", 1) > 1
            image.load()
            with contextlib.suppress(Exception):  # damaged EXIF data
                ImageOps.exif_transpose(image, in_place=True)
            picture = replace(_decode(path, image), has_more=has_more)
    except Exception as error:  # Pillow's readers raise any kind on damaged files
        raise reading_error(path, error) from error
    if picture.needs_range and not np.isfinite(picture.values).all():
        raise InputError(f"{path} has values that are not finite: replace them")
    return picture


def remark_notes(paths: Mapping[str, Sequence[Path]], total: int) -> list[str]:
    """Return a note for each remark on some of `total` pictures, by the paths of these pictures."""
    return [f"{len(those):,} of {total:,} images have {remark}, such as {those[0]}" for remark, those in paths.items()]


def reading_error(path: Path, error: Exception) -> InputError:
    """Return the error of the user about an error of Pillow's."""
    from PIL import UnidentifiedImageError

    is_unknown = isinstance(error, UnidentifiedImageError)
    reason = "Pillow knows no such type" if is_unknown else " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path} can't be read as an image: {reason}")


def is_grey_mode(mode: str) -> bool:
    """Return whether an image of this mode of Pillow's becomes one channel."""
    return mode in ("1", "L", "F") or mode.startswith("I")


def _decode(path: Path, image: "Image") -> Picture:
    from PIL import Image

    raw = _values_without_range(image)
    if raw is not None:
        return Picture(path, raw)
    visible = _to_grey_or_rgb(image)
    if not image.has_transparency_data:
        return Picture(path, np.asarray(visible))
    if image.mode.startswith("I"):  # here Pillow compares only 8 bits with the transparent value
        is_opaque = np.asarray(image) != image.info["transparency"]
        alpha = Image.fromarray(is_opaque.astype(np.uint8) * 255)
    else:
        alpha = image.convert("RGBA").getchannel("A")
    on_white = Image.composite(visible, Image.new(visible.mode, visible.size, "white"), alpha)
    return Picture(path, np.asarray(on_white), is_transparent=alpha.getextrema() != (255, 255))


def _values_without_range(image: "Image") -> npt.NDArray[Any] | None:
    """Return the raw values (H, W) of a type without a convention for black and white, else None."""
    if image.format == "FITS" and image.mode == "I;16":
        return np.asarray(image).view(np.int16)  # FITS integers are signed, which Pillow ignores
    if image.mode not in ("I", "F") or (image.format in INTEGERS_OF_16_BITS and image.mode == "I"):
        return None
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    sample = tags.get(BITS_PER_SAMPLE), tags.get(SAMPLE_FORMAT, (1,))
    return values.view(np.uint32) if image.mode == "I" and sample == ((32,), (UNSIGNED,)) else values


def _to_grey_or_rgb(image: "Image") -> "Image":
    """Return the image in mode "L" or "RGB", without transparency."""
    from PIL import Image

    if image.mode.startswith("I"):
        tags = getattr(image, "tag_v2", {})
        (bits,) = tags.get(BITS_PER_SAMPLE, (16,))  # some TIFFs have 12
        levels = np.rint(np.asarray(image).astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8)
        is_inverted = tags.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO  # Pillow inverts 8 bits and less alone
        return Image.fromarray(255 - levels if is_inverted else levels)
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB").convert("RGB")
