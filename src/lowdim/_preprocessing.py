"""What happens to a raw sample before a network sees it.

The geometry is that of timm's evaluation transform, written with Pillow so that it needs no torchvision; the tests compare the
two bit for bit. Networks of transformers have a processor of their own, which is run as it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from lowdim import _processor
from lowdim._pictures import MAX_PIXELS, eight_bits, require_drawable
from lowdim.errors import InputError

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How raw samples become a network's inputs.

    Attributes:
        kind: ``"image"``, ``"text"`` or ``"features"`` (passed on unchanged).
        image_size: Height and width that the network sees; None keeps each image's own size.
        crop: Share of the resized image that the central crop keeps (timm's ``crop_pct``).
        crop_mode: ``"center"`` scales the shorter edge, ``"squash"`` both, ``"border"`` the longer one and pads.
        resize: Height and width of the resized image before the crop, where it is not ``image_size / crop``.
        interpolation: Resampling filter.
        mean: Subtracted from each channel of an image in 0..1.
        std: Divides each channel afterwards.
        channels: 1 (grey) or 3 (RGB).
        processor: Settings of a transformers image processor, with the name of its class. It then makes the input, and of the
            entries above only `channels` counts; `image_size` says what it gives.
        max_length: Longest token sequence of a text; longer ones are cut.
        tokenizer: Turns a list of texts into tensors (``transformers`` convention).
    """

    kind: Literal["image", "text", "features"] = "image"
    image_size: tuple[int, int] | None = None
    crop: float = 1.0
    crop_mode: Literal["center", "squash", "border"] = "center"
    resize: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: int = 3
    processor: Mapping[str, Any] | None = None
    max_length: int | None = None
    tokenizer: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Settings also come from files: a model's configuration, a delta.
        for name, size in (("image size", self.image_size), ("size before the crop", self.resize)):
            if size is not None and (min(size) < 1 or math.prod(size) > MAX_PIXELS // 4):
                raise InputError(
                    f"The {name} must be at least 1 x 1 and at most {MAX_PIXELS // 4_000_000} million pixels, got {size[0]} x {size[1]}."
                )
        least, largest = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)  # in which networks compute
        if not all(abs(value) <= largest for value in self.mean):
            raise InputError(f"The mean of each channel must be a finite number in float32, got {_listed(self.mean)}.")
        if not all(least <= value <= largest for value in self.std):
            raise InputError(
                f"The std of each channel must be a finite number above 0 in float32, got {_listed(self.std)}."
            )
        if not 0 < self.crop < math.inf:
            raise InputError(f"The crop must be a positive share, got {self.crop}.")

    def describe(self) -> str:
        """One line for people.

        Example:
            >>> Preprocessing(image_size=(224, 224), crop=0.875).describe()
            'RGB 224 x 224 (crop 0.875, center, bilinear), mean 0 0 0, std 1 1 1'
        """
        if self.kind == "features":
            return "features as stored"
        if self.kind == "text":
            return f"text, at most {self.max_length} tokens ({type(self.tokenizer).__name__})"
        colour = "RGB" if self.channels == 3 else "grey"
        size = "own size"
        if self.processor is not None:
            shown = " x ".join(map(str, self.image_size)) if self.image_size else size
            return f"{colour} {shown}, prepared by transformers' {self.processor[_processor.CLASS]}"
        if self.image_size is not None:
            how = f"crop {self.crop:g}, {self.crop_mode}, {self.interpolation}"
            size = f"{self.image_size[0]} x {self.image_size[1]} ({how})"
        numbers = [" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std)]
        return f"{colour} {size}, mean {numbers[0]}, std {numbers[1]}"

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON values, without the tokenizer object.

        Example:
            >>> Preprocessing(kind="features").as_dict()
            {'kind': 'features'}
        """
        if self.kind == "features":
            return {"kind": "features"}
        if self.kind == "text":
            return {
                "kind": "text",
                "max_length": self.max_length,
                "tokenizer": type(self.tokenizer).__name__,
            }
        size = {"kind": "image", "image_size": list(self.image_size) if self.image_size else None}
        if self.processor is not None:
            return {**size, "channels": self.channels, "processor": dict(self.processor)}
        return {
            **size,
            "crop": self.crop,
            "crop_mode": self.crop_mode,
            "resize": list(self.resize) if self.resize else None,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
            "channels": self.channels,
        }

    def normalised(self, image: Image.Image) -> np.ndarray:
        """The network's input for one image.

        Args:
            image: Any Pillow image.

        Returns:
            float32, channels x height x width.
        """
        if self.processor is not None:
            return _processor.processed(self.processor, _colours(image, self.channels))
        return self.scaled(self.seen(image))

    @property
    def geometry(self) -> tuple[Any, ...] | None:
        """All that `seen` depends on; None where a processor does everything at once."""
        if self.processor is not None:
            return None
        return self.image_size, self.resized, self.crop_mode, self.interpolation, self.channels, self._padding()

    def seen(self, image: Image.Image) -> np.ndarray:
        """The part of an image that the network sees, in its size, before normalisation: uint8, height x width [x channels]."""
        return np.asarray(self._picture(image))

    def scaled(self, pixels: np.ndarray) -> np.ndarray:
        """The network's input for what `seen` gave."""
        pixels = pixels.astype(np.float32) / np.float32(255)
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        shape = (self.channels, 1, 1)
        mean = np.asarray(self.mean, dtype=np.float32).reshape(shape)
        return (pixels - mean) / np.asarray(self.std, dtype=np.float32).reshape(shape)

    def _picture(self, image: Image.Image) -> Image.Image:
        """The part of an image that the network sees, before normalisation."""
        image = _colours(image, self.channels)
        if self.image_size is None:
            return image
        return _center_crop(self._resized(image), self.image_size, self._padding())

    @property
    def resized(self) -> tuple[int, int] | None:
        """Height and width before the crop; None where images keep their size, or a processor decides."""
        if self.image_size is None or self.processor is not None:
            return None
        height, width = self.image_size
        return self.resize or (math.floor(height / self.crop), math.floor(width / self.crop))

    def _resized(self, image: Image.Image) -> Image.Image:
        assert self.resized is not None
        height, width = self.resized
        if self.crop_mode == "center" and height == width:
            # As torchvision's Resize: the longer edge is rounded down.
            short = min(image.size)
            scaled = [height if side == short else int(height * side / short) for side in image.size]
            size = (scaled[0], scaled[1])
        elif self.crop_mode == "squash":
            size = (width, height)
        else:
            ratios = (image.height / height, image.width / width)
            ratio = max(ratios) if self.crop_mode == "border" else min(ratios)
            size = (round(image.width / ratio), round(image.height / ratio))
        if size == image.size:
            return image
        require_drawable(image.size, size)
        return image.resize(size, Image.Resampling[self.interpolation.upper()])

    def _padding(self) -> tuple[int, ...]:
        if self.crop_mode == "border":
            return tuple(round(255 * value) for value in self.mean)
        return (0,) * self.channels


def preprocessing_with(
    preprocessing: Preprocessing,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> Preprocessing:
    """The same preprocessing with what the user asked for instead of the model's own.

    Raises:
        InputError: If the values do not fit an image of this many channels.
    """
    if mean is None and std is None and image_size is None:
        return preprocessing
    if preprocessing.kind != "image":
        raise InputError(f"mean, std and image size are for images, but this model takes {preprocessing.kind}.")
    channels = preprocessing.channels
    colours = {
        name: _per_channel(name, values, channels)
        for name, values in (("mean", mean), ("std", std))
        if values is not None
    }
    # Where it comes from a file it is a list.
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size or (0, 0)
    sized: dict[str, Any] = {} if image_size is None else {"image_size": (height, width)}
    settings = preprocessing.processor
    if settings is None:
        return replace(preprocessing, **colours, **sized, **({"resize": None} if sized else {}))
    if sized:
        settings = _processor.with_size(settings, (height, width), channels)
    if colours:
        settings = _processor.with_colours(
            settings, mean=colours.get("mean"), std=colours.get("std"), channels=channels
        )
    return replace(preprocessing, processor=settings, **sized)


def _per_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    values = tuple(float(value) for value in values)
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise InputError(f"{name} has {len(values)} values for {channels} channels.")
    if not all(math.isfinite(value) for value in values) or (name == "std" and min(values) <= 0):
        raise InputError(f"{name} must be finite{' and positive' if name == 'std' else ''}, got {values}.")
    return values


def _colours(image: Image.Image, channels: int) -> Image.Image:
    image = eight_bits(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    mode = "RGB" if channels == 3 else "L"
    return image if image.mode == mode else image.convert(mode)


def _center_crop(image: Image.Image, size: tuple[int, int], fill: tuple[int, ...]) -> Image.Image:
    height, width = size
    if width > image.width or height > image.height:
        left, top = (max(0, width - image.width) // 2, max(0, height - image.height) // 2)
        colour: tuple[int, ...] | int = fill[0] if image.mode == "L" else fill
        canvas = Image.new(image.mode, (max(width, image.width), max(height, image.height)), colour)
        canvas.paste(image, (left, top))
        image = canvas
    if image.size == (width, height):
        return image
    # Python's rounding (half to even), as in torchvision.
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
