"""Pictures with missing pixels as incomplete matrices: the colours side by side, so that they share the row factors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim.completion.entries._entries import Entries
from lowdim.errors import InputError, UsageError, did_you_mean

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
SAMPLES = ("china", "flower")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """``(H, W, C)`` pixels, and which of them ``(H, W)`` are missing."""

    pixels: Pixels
    missing: NDArray[np.bool_]

    @property
    def entries(self) -> Entries:
        """The known pixels as an ``(H, C W)`` matrix."""
        holed = np.where(self.missing[:, :, None], np.nan, self.pixels.astype(np.float64))
        return Entries.from_dense(holed.transpose(0, 2, 1).reshape(len(holed), -1))

    def filled(self, completed: NDArray[np.floating[Any]]) -> Pixels:
        """The picture with the missing pixels from the completed matrix."""
        height, width, channels = self.pixels.shape
        colours = completed.reshape(height, channels, width).transpose(0, 2, 1)
        rounded = np.clip(np.round(colours), 0, 255).astype(np.uint8)
        return np.where(self.missing[:, :, None], rounded, self.pixels)

    def holed(self) -> Pixels:
        """The picture with the missing pixels black."""
        return np.where(self.missing[:, :, None], np.uint8(0), self.pixels)


def read_picture(path: Path, mask: Path | None) -> Picture:
    """A picture whose missing pixels are transparent, or white in a mask of the same size.

    Raises:
        InputError: If a file is not a picture, the sizes differ, or no pixel is missing.
    """
    pixels = _open(path, "RGBA")
    alpha, pixels = pixels[:, :, 3], pixels[:, :, :3]
    missing = alpha == 0
    if mask is not None:
        white = _open(mask, "L")
        if white.shape != missing.shape:
            sizes = f"{white.shape[1]} x {white.shape[0]}, the picture {missing.shape[1]} x {missing.shape[0]}"
            raise InputError(f"The mask {mask} is {sizes}. They must be equal.")
        missing = white > 127
    if not missing.any():
        raise InputError(
            f"No pixel of {path} is missing. Pass a `mask` with a picture that is white there, or use transparency."
        )
    grey = (pixels == pixels[:, :, :1]).all()
    return Picture(pixels[:, :, :1] if grey else pixels, missing)


def sample_picture(name: str, share: float, seed: int) -> Picture:
    """One of scikit-learn's sample pictures at half its size, with a random share of its pixels missing."""
    from sklearn.datasets import load_sample_image

    if name not in SAMPLES:
        raise UsageError(f"There is no sample picture {name!r}. {did_you_mean(name, SAMPLES)}")
    if not 0 < share < 1:
        raise UsageError(f"`missing` is a share between 0 and 1, not {share}.")
    pixels = np.asarray(load_sample_image(f"{name}.jpg"))
    height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    blocks = pixels[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    small = np.round(blocks.mean((1, 3))).astype(np.uint8)
    return Picture(small, np.random.default_rng(seed).random(small.shape[:2]) < share)


def to_png(pixels: Pixels) -> bytes:
    """The picture as a PNG file."""
    import io

    from lowdim._pictures import array_image

    buffer = io.BytesIO()
    array_image(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _open(path: Path, mode: str) -> Pixels:
    from lowdim._pictures import open_picture

    return np.asarray(open_picture(path, remedy="Make it smaller, or repair it.").convert(mode))
