"""Preparation of the images that a network was trained with: resize, crop, normalise."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from common.errors import InputError
from models import split_weights
from models.zoo import is_zoo_model, require_zoo_model

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class Preprocessing:
    """Resize to size / crop, cut the centre of the size out, scale to 0 … 1, subtract the mean, divide by std.

    Attributes:
        mean, std: for each channel; None if they are not known.
        size: height and width of the network's images; None if they are not known.
        crop: size of the cut, divided by the size before it, in (0, 1].
        squash: both sides are resized, without keeping their ratio (timm's crop_mode "squash").
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    crop: float = 1.0
    interpolation: str = "bilinear"
    squash: bool = False

    def __post_init__(self) -> None:
        if len(self.mean or ()) != len(self.std or ()):
            raise InputError(
                f"{len(self.mean or ())} means and {len(self.std or ())} standard deviations: give one for each channel"
            )
        if self.std is not None and not all(value > 0 for value in self.std):
            raise InputError(f"standard deviations {', '.join(map(str, self.std))}: all must be positive")
        if not 0 < self.crop <= 1:
            raise InputError(f"crop {self.crop:g}: give a fraction above 0, at most 1")
        if self.size is not None and min(self.size) < 1:
            raise InputError(f"image size {self.size}: give positive numbers")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"unknown interpolation {self.interpolation!r}: choose from {', '.join(INTERPOLATIONS)}")

    def override(self, **changes: Any) -> "Preprocessing":
        """Return a copy with those `changes` that are not None; a change of the size alone keeps the crop."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def plain(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        values = asdict(self).items()
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values if name != "squash" or v}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "Preprocessing":
        """Invert `plain`."""
        values: dict[str, Any] = {field.name: plain[field.name] for field in fields(cls) if field.name in plain}
        for name, value in values.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


def preprocessing_of(place: str | None, model: Any = None) -> Preprocessing:
    """Return the preparation that a network's own configuration says.

    torchvision: of its newest weights. timm: of the weights in the name. Other networks: `pretrained_cfg` as timm has
    it, or `config.image_size` as transformers has it; nothing is known of the rest.

    Args:
        place: name of the network, see `models.build_model`.
        model: the network; not needed for a library's name.

    Raises:
        InputError: no such library or network.
    """
    place, _weights = split_weights(place)
    timm_config = getattr(model, "pretrained_cfg", None)
    if place is not None and is_zoo_model(place):
        zoo, name = require_zoo_model(place)
        if zoo == "torchvision":
            return _of_torchvision(name)
        import timm

        known = timm.get_pretrained_cfg(name)
        timm_config = known.to_dict() if known else None
    if isinstance(timm_config, Mapping):
        from timm.data import resolve_data_config

        config = resolve_data_config(pretrained_cfg=dict(timm_config))
        return Preprocessing(
            mean=tuple(map(float, config["mean"])),
            std=tuple(map(float, config["std"])),
            size=(config["input_size"][1], config["input_size"][2]),
            crop=float(config["crop_pct"]),
            interpolation=config["interpolation"],
            squash=config["crop_mode"] == "squash",
        )
    size = getattr(getattr(model, "config", None), "image_size", None)
    if isinstance(size, int):
        return Preprocessing(size=(size, size))
    return Preprocessing(size=(size[0], size[1])) if isinstance(size, list | tuple) else Preprocessing()


def _of_torchvision(name: str) -> Preprocessing:
    from torchvision.models import get_model_weights

    transforms: Any = get_model_weights(name).DEFAULT.transforms()
    (size,), (resized,) = transforms.crop_size, transforms.resize_size
    return Preprocessing(
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        size=(size, size),
        crop=size / resized,
        interpolation=transforms.interpolation.value,
    )
