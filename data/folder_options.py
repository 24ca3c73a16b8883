"""Options of an image folder: how images become arrays, which are for testing, and the classes of a network."""

import os
from dataclasses import dataclass
from math import floor
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from common.errors import InputError

INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
MIN_SIDE, MAX_SIDE = 8, 4096  # pixels: SimpleCNN halves three times
CROP_DIGITS = 6
FLOOR_TOLERANCE = 1e-3  # makes 232 of 224 / 0.965517; no network of timm has a fraction so near to 1


@dataclass(frozen=True)
class FolderOptions:
    """The options of an image folder, all of which are part of the data set's name.

    Attributes:
        image_size: (H, W) that all images get, or one number for both; None: images must have one size.
        crop: part of the resized image that the centre crop keeps, timm's `crop_pct`: the shorter side becomes
            image_size/crop, rounded down. torchvision's resize_size is image_size/crop: give 224/232 for 224 of 232.
        interpolation: one of `INTERPOLATIONS`, with antialiasing except for "nearest", as Pillow resizes.
        squash: both sides are resized to image_size/crop, without keeping their ratio (timm's crop_mode "squash").
        split: "test": all images are test images; of a folder that is divided, those of its test part.
        classes_file: text file with a class on each line; line k names output k of the network, and folders are looked
            up by name. Of a line with tabs or commas the first column counts.
        rgb: grey images get three channels too, for networks that take colours.
    """

    image_size: int | tuple[int, int] | None = None
    crop: float = 1.0
    interpolation: str = INTERPOLATIONS[0]
    squash: bool = False
    split: str | None = None
    classes_file: str | os.PathLike[str] | None = None
    rgb: bool = False

    def __post_init__(self) -> None:
        size = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
        if size is not None:
            if len(size) != 2 or not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
                text = "x".join(map(str, size))
                raise InputError(f"--image-size={text}: give {MIN_SIDE} to {MAX_SIDE} pixels, or HEIGHTxWIDTH")
        elif self.crop != 1 or self.interpolation != INTERPOLATIONS[0] or self.squash:
            raise InputError("--crop and --interpolation are for images that are resized: give --image-size too")
        if not 0 < self.crop <= 1:
            raise InputError(f"--crop={self.crop:g}: give a number above 0, up to 1")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"--interpolation={self.interpolation}: choose from {', '.join(INTERPOLATIONS)}")
        if self.split not in (None, "test"):
            raise InputError(f"--split={self.split}: choose test, or leave it out")
        object.__setattr__(self, "image_size", None if size is None else tuple(size))
        object.__setattr__(self, "crop", round(float(self.crop), CROP_DIGITS))
        if self.classes_file is not None:
            object.__setattr__(self, "classes_file", os.fspath(self.classes_file))

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) of all images, or None."""
        return self.image_size if isinstance(self.image_size, tuple) else None

    @property
    def resized_sides(self) -> tuple[int, int]:
        """Return the (H, W) that an image covers before it is cropped."""
        assert self.size is not None
        height, width = (floor(side / self.crop + FLOOR_TOLERANCE) for side in self.size)
        return height, width

    @property
    def plain(self) -> dict[str, Any]:
        """The options that decide on the pixels, for hashes."""
        return {"size": self.size, "crop": self.crop, "interpolation": self.interpolation, "squash": self.squash}

    @property
    def suffix(self) -> str:
        """The part of a data set's name, such as "@96-bicubic-crop0.95-test"; empty without options."""
        words = []
        if self.size is not None:
            height, width = self.size
            words += [f"{height}" if height == width else f"{height}x{width}"]
        if self.interpolation != INTERPOLATIONS[0]:
            words += [self.interpolation]
        if self.crop != 1:
            words += [f"crop{self.crop:g}"]
        words += [word for word, is_set in (("squash", self.squash), ("test", self.split), ("rgb", self.rgb)) if is_set]
        classes = "" if self.classes_file is None else f"@{path_to_name(self.classes_file)}"
        return f"@{'-'.join(words)}{classes}" if words or classes else ""

    @classmethod
    def parse(cls, suffix: str) -> "FolderOptions":
        """Invert `suffix`, without its first "@".

        Raises:
            InputError: the text is no such suffix.
        """
        text, _, classes = suffix.partition("@")
        options: dict[str, Any] = {"classes_file": name_to_path(classes)} if classes else {}
        try:
            for word in filter(None, text.split("-")):
                if word[0].isdigit():
                    height, _, width = word.partition("x")
                    options["image_size"] = (int(height), int(width or height))
                elif word.startswith("crop"):
                    options["crop"] = float(word.removeprefix("crop"))
                elif word == "test":
                    options["split"] = word
                elif word in ("squash", "rgb"):
                    options[word] = True
                else:
                    options["interpolation"] = word
        except ValueError as error:
            raise InputError(f"@{suffix} has no options of an image folder: {error}") from error
        parsed = cls(**options)
        if parsed.suffix != f"@{suffix}" * bool(suffix):
            raise InputError(f"@{suffix} is no name of options: write {parsed.suffix}")
        return parsed


def path_to_name(path: str | os.PathLike[str]) -> str:
    """Return a path as a part of file names."""
    return quote(os.fsencode(path)).replace("/", "+")


def name_to_path(name: str) -> str:
    """Invert `path_to_name`."""
    return os.fsdecode(unquote_to_bytes(name.replace("+", "/")))
