"""Reading pictures that nobody has vouched for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lowdim._pictures import deepest, open_picture
from lowdim.data._dataset import Split
from lowdim.errors import InputError, UnreadableError

_REMEDY = "Repair or remove it, or leave unreadable pictures out with `skip_unreadable`."


def open_image(path: Path, root: Path) -> Image.Image:
    """A decoded picture of a data set.

    Raises:
        UnreadableError: As `open_picture`.
    """
    try:
        return open_picture(path, name=_relative(path, root), remedy=_REMEDY)
    except InputError as error:
        raise UnreadableError(str(error)) from error


_LOOKED_AT, _BITS = 12, (10, 12, 14)


def depth_notes(paths: Sequence[Path]) -> list[str]:
    """What to say of pictures that hold the 10, 12 or 14 bits of a camera in 16: they are read nearly black. A few are looked at.

    The files themselves do not say it, and a picture may be dark: so it is said and not mended.
    """
    chosen = [paths[int(place)] for place in np.linspace(0, len(paths) - 1, min(len(paths), _LOOKED_AT))]
    found = [top for top in map(deepest, chosen) if top is not None]
    dark = (
        [top for top in found if top < 2**12] if found and max(found) >= 2**14 else found
    )  # beside brighter ones 14 bits say nothing
    bits = next((bits for bits in _BITS if dark and max(dark) < 2**bits), None)
    if bits is None:
        return []
    return [
        f"{len(dark)} of the {len(found)} pictures of 16 bits that were looked at hold no number above {max(dark):,}, as if white were {2**bits - 1:,} ({bits} bits): "
        f"they are read as if it were 65,535, nearly black. If they are not dark, multiply them by {2 ** (16 - bits)}, or write the largest "
        "number into their tag MaxSampleValue (TIFF)"
    ]


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


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
