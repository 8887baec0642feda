"""Reading pictures that nobody has vouched for."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from lowdim.data._dataset import Split
from lowdim.errors import InputError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_PIXELS = 64_000_000
"""A picture with more is refused before it is decoded: it would take gigabytes."""


def open_image(path: Path, root: Path) -> Image.Image:
    """A decoded picture.

    Args:
        path: The file.
        root: Folder of the data set, for the name in errors.

    Raises:
        InputError: If the file is missing, no picture, damaged, or larger than `MAX_PIXELS`.
    """
    name = _relative(path, root)
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(_too_large(name, f"{image.width} x {image.height} pixels"))
            image.load()
            return image.copy()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(_too_large(name, "too many pixels")) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not a picture that can be read. {_REMEDY}") from error
    except FileNotFoundError as error:
        raise InputError(f"{name} does not exist in {root}.") from error
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} is damaged or cut short ({error}). {_REMEDY}") from error


_REMEDY = "Repair or remove it, or leave unreadable pictures out with --skip-unreadable."


def _too_large(name: str, size: str) -> str:
    return f"{name} has {size}; at most {MAX_PIXELS // 1_000_000} million are decoded. {_REMEDY}"


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def array_image(pixels: np.ndarray) -> Image.Image:
    """A Pillow image of a uint8 array, H x W or H x W x C."""
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def thumbnail(split: Split, index: int, *, size: int = 96) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A small picture of a sample, for a page.

    Args:
        split: Images.
        index: Position in the split.
        size: Longest side; smaller pictures are enlarged without smoothing.

    Returns:
        uint8, height x width x 3.

    Raises:
        InputError: If the samples are not images.

    Example:
        >>> from lowdim.data import load_digits
        >>> thumbnail(load_digits()["test"], 0, size=48).shape  # from 8 x 8
        (48, 48, 3)
    """
    if split.kind != "image":
        raise InputError(f"Only images have thumbnails; the samples of {split.name} are {split.kind}.")
    image = split.load(index).convert("RGB")
    scale = size / max(image.size)
    target = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    filter_ = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    return np.asarray(image.resize(target, filter_))
