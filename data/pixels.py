"""One image file, decoded by Pillow to grey levels, to colours, or to values that still lack black and white."""

import contextlib
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

WITHOUT_PIXELS = {"BUFR", "GRIB", "HDF5", "WMF", "EPS", "MPEG"}  # drawings and containers that Pillow doesn't decode
INTEGERS_OF_16_BITS = {"PNG", "PPM"}  # formats whose 16 bits some versions of Pillow put into 32
SEQUENCES = {"GIF", "PNG", "WEBP", "TIFF", "AVIF"}  # formats whose further pictures are frames or pages
BITS_PER_SAMPLE, SAMPLE_FORMAT, UNSIGNED = 258, 339, 1  # of a TIFF


@dataclass(frozen=True)
class Picture:
    """The contents of an image file.

    Attributes:
        values: (H, W) of a grey image, (H, W, 3) of any other, uint8; (H, W) of another type if `measured`.
        transparent: whether white shows through somewhere.
        several: whether the file has more pictures (frames, pages), of which this is the first.
    """

    path: Path
    values: npt.NDArray[Any]
    transparent: bool = False
    several: bool = False

    @property
    def measured(self) -> bool:
        """Whether black and white are not known from the file: floats, and integers that are signed or of 32 bits."""
        return bool(self.values.dtype != np.uint8)

    def of_range(self, low: float, high: float) -> "Picture":
        """The same with `low` as black and `high` as white, if it is measured; values beyond them are clipped."""
        if not self.measured:
            return self
        shares = (np.clip(self.values.astype(np.float64), low, high) - low) / ((high - low) or 1)
        return replace(self, values=np.rint(shares * 255).astype(np.uint8))


@cache
def extensions() -> dict[str, str]:
    """Extension (".png") -> format, of all formats that Pillow decodes to pixels."""
    from PIL import Image

    known = Image.registered_extensions()
    return {extension: name for extension, name in known.items() if name in Image.OPEN and name not in WITHOUT_PIXELS}


def read_picture(path: Path) -> Picture:
    """The first image of a file, turned as its EXIF data says, on white where it is transparent.

    16-bit levels are divided by 257, those of 12 bits by as much as brings them to 255.

    Raises:
        InputError: the file can't be decoded, has suspiciously many pixels, or values that are not finite.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    known = set(extensions().values())
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=[name for name in Image.ID if name in known]) as picture:
                several = picture.format in SEQUENCES and getattr(picture, "n_frames", 1) > 1
                picture.load()
                with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):  # damaged EXIF data
                    ImageOps.exif_transpose(picture, in_place=True)
                found = replace(_decoded(path, picture), several=several)
        except Exception as error:  # Pillow's readers raise whatever they meet in a damaged file
            unknown = isinstance(error, UnidentifiedImageError)
            reason = "Pillow knows no such type" if unknown else " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{path} can't be read as an image: {reason}") from error
    if found.measured and not np.isfinite(found.values).all():
        raise InputError(f"{path} has values that are not finite: replace them")
    return found


def _decoded(path: Path, picture: "Image") -> Picture:
    from PIL import Image

    measured = _measured(picture)
    if measured is not None:
        return Picture(path, measured)
    shown = _shown(picture)
    if not picture.has_transparency_data:
        return Picture(path, np.asarray(shown))
    alpha = _alpha(picture)
    on_white = Image.composite(shown, Image.new(shown.mode, shown.size, "white"), alpha)
    return Picture(path, np.asarray(on_white), transparent=alpha.getextrema() != (255, 255))


def _alpha(picture: "Image") -> "Image":
    """In mode "L"; 255 is opaque."""
    from PIL import Image

    if picture.mode.startswith("I"):  # for which Pillow compares only 8 bits with the value that is transparent
        opaque = np.asarray(picture) != picture.info["transparency"]
        return Image.fromarray(opaque.astype(np.uint8) * 255)
    return picture.convert("RGBA").getchannel("A")


def _measured(picture: "Image") -> npt.NDArray[Any] | None:
    """(H, W) values as they are, if they are of a type whose black and white nobody has agreed on."""
    if picture.format == "FITS" and picture.mode == "I;16":
        return np.asarray(picture).view(np.int16)  # a FITS file has signed ones, which Pillow takes for unsigned ones
    if picture.mode not in ("I", "F") or (picture.format in INTEGERS_OF_16_BITS and picture.mode == "I"):
        return None
    values = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    large = picture.mode == "I" and (tags.get(BITS_PER_SAMPLE), tags.get(SAMPLE_FORMAT, (1,))) == ((32,), (UNSIGNED,))
    return values.view(np.uint32) if large else values


def _shown(picture: "Image") -> "Image":
    """In mode "L" or "RGB", whatever lies below transparent pixels."""
    from PIL import Image

    if picture.mode.startswith("I"):
        (bits,) = getattr(picture, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))  # 12 of some TIFFs
        levels = np.asarray(picture).astype(np.float64) * (255 / (2**bits - 1))
        return Image.fromarray(np.rint(levels).astype(np.uint8))
    if picture.mode in ("1", "L"):
        return picture.convert("L")
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB").convert("RGB")
