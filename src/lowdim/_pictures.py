"""The one place where a picture file is opened: documented formats only, told by content, upright, of bounded size."""

import math
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from lowdim._reading import READING_ERRORS, reading
from lowdim.errors import InputError, LowdimError, require

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Pillow's names. Others are never tried: some start programs (PostScript), all are more code that a file could reach."""
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".heic", ".heif"}
)
MAX_PIXELS = 64_000_000
"""A picture with more is refused before it is decoded: it would take gigabytes."""
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "I;16", "I;16B", "I;16L"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_SIXTEEN = ("I;16", "I;16B", "I;16L")
_MAX_SAMPLE_VALUE = 281
"""TIFF's tag."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_picture(path: Path, *, name: str | None = None, remedy: str = "") -> Image.Image:
    """A decoded picture as its photographer saw it: turned as its EXIF orientation says.

    Raises:
        InputError: If the file is missing, a pipe or the like, no picture, damaged, or larger than `MAX_PIXELS`.
        MissingDependencyError: If it is HEIC and the package for it is not installed.

    Example:
        >>> import tempfile
        >>> exif = Image.Exif()
        >>> exif[ExifTags.Base.Orientation] = 6  # taken in portrait
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "photo"
        ...     Image.new("RGB", (40, 30)).save(path, "JPEG", exif=exif)
        ...     open_picture(path).size
        (30, 40)
    """
    shown = str(path) if name is None else name
    with reading(path, "a picture", name=shown, remedy=remedy, also=(UserWarning,)), path.open("rb") as file:
        start = file.read(32)
        is_heif = start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS
        file.seek(0)
        try:
            image = _heif(path) if is_heif else Image.open(file, formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise InputError(_too_large(shown, "too many pixels", remedy)) from error
        except UnidentifiedImageError as error:
            formats = "its content is neither JPEG, PNG, BMP, GIF, WebP, TIFF, PPM nor HEIC"
            raise InputError(f"{shown} cannot be read as a picture: {formats}. {remedy}".strip()) from error
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(_too_large(shown, f"{image.width} x {image.height} pixels", remedy))
            if not image.width * image.height:
                raise InputError(f"{shown} has {image.width} x {image.height} pixels. {remedy}".strip())
            image.load()
            # What PPM holds in more than 8 bits comes in 32, on the scale of 16.
            if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
                kind = "fractions" if image.mode == "F" else "numbers of 32 bits"
                raise InputError(f"{shown} has {kind} as pixels, whose scale is not known. Save it with 8 or 16 bits.")
            if image.mode not in _MODES:
                raise InputError(f"{shown} has colours of the kind {image.mode}, which are not read. Save it as RGB.")
            return eight_bits(_upright(image), _brightest(image))


def deepest(path: Path) -> int | None:
    """The largest number in a picture of 16 bits that does not say on which scale its numbers are; None for other pictures and other files."""
    try:
        with (
            reading(path, "a picture", also=(Image.DecompressionBombError,)),
            warnings.catch_warnings(action="ignore"),
            path.open("rb") as file,
            Image.open(file, formats=("PNG", "TIFF")) as image,
        ):
            if image.mode not in _SIXTEEN or image.width * image.height > MAX_PIXELS or _brightest(image) is not None:
                return None
            return int(np.asarray(image).max(initial=0))
    except LowdimError:
        return None  # who reads it in earnest says what is wrong


def _brightest(image: Image.Image) -> int | None:
    """What stands for white, where a TIFF says so: cameras put 10, 12 or 14 bits into 16."""
    if image.mode not in _SIXTEEN or not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    said = image.tag_v2.get(_MAX_SAMPLE_VALUE)
    top = said[0] if isinstance(said, tuple) else said
    return top if isinstance(top, int) and 255 < top < 65535 else None


def _heif(path: Path) -> Image.Image:
    # Its file class is used as it is, so that Pillow's own list of formats stays as it was found.
    heif = require("pillow_heif", f"The HEIC picture {path.name}")
    return heif.HeifImageFile(path)


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except READING_ERRORS:
        turn = None  # the pixels are fine, what is damaged is what the camera noted beside them
    return image.copy() if turn is None else image.transpose(turn)


def array_image(pixels: np.ndarray) -> Image.Image:
    """A Pillow image of a uint8 array, H x W or H x W x C."""
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def eight_bits(image: Image.Image, white: int | None = None) -> Image.Image:
    """A picture of 16 bits with 8; others as they are. Pillow itself would clip the values at 255 and leave a white one.

    Args:
        image: A picture.
        white: The number that stands for white, if it is another than 65,535.

    Example:
        >>> eight_bits(Image.fromarray(np.full((2, 2), 40_000, np.uint16))).getpixel((0, 0))
        156
    """
    if image.mode not in (*_SIXTEEN, "I"):
        return image
    values = np.asarray(image, dtype=np.int64)
    return Image.fromarray((values >> 8 if white is None else 255 * values // white).clip(0, 255).astype(np.uint8))


def _too_large(name: str, size: str, remedy: str) -> str:
    return f"{name} has {size}; at most {MAX_PIXELS // 1_000_000} million are decoded. {remedy}".strip()


def require_drawable(size: tuple[int, int], resized: tuple[float, float]) -> None:
    """Raises an error where resizing a picture would make one larger than `MAX_PIXELS`, as it can of a long sliver."""
    if math.prod(resized) > MAX_PIXELS:
        raise InputError(
            f"{size[0]:,} x {size[1]:,} pixels would become {resized[0]:,.0f} x {resized[1]:,.0f} by resizing; at most "
            f"{MAX_PIXELS // 1_000_000} million are made. Leave this picture out, or cut it."
        )
