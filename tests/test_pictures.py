"""Pictures of every kind that a folder can hold, through the one function that opens them."""

import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from lowdim._pictures import EXTENSIONS, FORMATS, open_picture
from lowdim._preprocessing import Preprocessing, preprocessing_with
from lowdim.completion.entries._inputs import read_picture
from lowdim.data import load_data, thumbnail
from lowdim.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", FORMATS)
def test_documented_formats_are_told_by_content(tmp_path: Path, form: str) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.dat", form)
    assert open_picture(tmp_path / "x.dat").size == (9, 6)


@pytest.mark.parametrize("form", ["PCX", "TGA", "ICO", "DDS", "EPS", "JPEG2000", "SGI", "PDF"])
def test_other_formats_are_refused_under_any_name(tmp_path: Path, form: str) -> None:
    try:
        Image.fromarray(PIXELS).save(tmp_path / "x.png", form)
    except (KeyError, OSError):
        pytest.skip("this Pillow cannot write it")
    with pytest.raises(InputError, match=r"x\.png cannot be read as a picture: its content is neither"):
        open_picture(tmp_path / "x.png")


def test_no_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    (tmp_path / "x.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(InputError, match=r"x\.png"):
        open_picture(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x\.png"):
        read_picture(tmp_path / "x.png", None)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photographs_are_upright(tmp_path: Path, form: str, orientation: int) -> None:
    """`exif_transpose` of Pillow is the oracle."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(PIXELS).save(tmp_path / "x", form, exif=exif, **options)
    with Image.open(tmp_path / "x") as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image))
    found = open_picture(tmp_path / "x")
    assert found.size == ((9, 6) if orientation < 5 else (6, 9))
    np.testing.assert_array_equal(np.asarray(found), expected)


def test_photographs_are_upright_in_folders_and_to_complete(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    holed = np.dstack([PIXELS, np.full((6, 9), 255, np.uint8)])
    holed[0, 0, 3] = 0
    (tmp_path / "a").mkdir()
    Image.fromarray(holed).save(tmp_path / "a" / "x.png", exif=exif)
    split = load_data(str(tmp_path))["train"]
    assert split.load(0).size == (6, 9)
    assert thumbnail(split, 0, size=9).shape == (9, 6, 3)
    completed = read_picture(tmp_path / "a" / "x.png", None)
    assert completed.pixels.shape == (9, 6, 3)
    assert np.argwhere(completed.missing).tolist() == [[0, 5]]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_exif_leaves_the_picture_as_it_lies(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert open_picture(tmp_path / "x.jpg").size == (9, 6)


def test_heic_needs_its_extra_and_is_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.fromarray(np.full((64, 80, 3), 200, np.uint8))
    (tmp_path / "a").mkdir()
    heif.from_pillow(image).save(tmp_path / "a" / "photo.HEIC", exif=exif.tobytes())
    known = list(Image.OPEN)
    found = load_data(str(tmp_path))["train"].load(0)
    assert found.size == (64, 80)
    np.testing.assert_allclose(np.asarray(found.convert("RGB")), 200, atol=3)  # lossy
    assert list(Image.OPEN) == known
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImportError, match=r"lowdim\[heic\]"):
        open_picture(tmp_path / "a" / "photo.HEIC")


def sliver(path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress((b"\0" + b"\x80" * width) * height)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def test_a_sliver_is_refused_before_it_is_resized(tmp_path: Path) -> None:
    from lowdim.data import batches

    (tmp_path / "a").mkdir()
    sliver(tmp_path / "a" / "x.png", 1, 50_000)
    split = load_data(str(tmp_path))["train"]
    with pytest.raises(InputError, match=r"a/x\.png: 1 x 50,000 pixels would become 224 x 11,200,000"):
        list(batches(split, Preprocessing(image_size=(224, 224)), batch_size=1))


@pytest.mark.parametrize("size", [0, -1, 99_999, (1, 10**9)])
def test_an_image_size_that_no_network_has(size: int | tuple[int, int]) -> None:
    with pytest.raises(InputError, match="image size must be"):
        preprocessing_with(Preprocessing(), image_size=size)


def test_pipes_devices_and_sockets_are_refused_without_opening(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    Image.fromarray(PIXELS).save(folder / "good.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(folder)  # names of sockets are short
        listener.bind("socket.png")
        os.chdir("/")
        data = load_data(str(tmp_path), skip_unreadable=True)
        assert list(data["train"].items) == ["a/good.png"]
        assert "2 pipes, devices or sockets" in " ".join(data.notes)
        for name, kind in (("pipe", "pipe"), ("device", "device"), ("socket", "socket")):
            with pytest.raises(InputError, match=rf"{name}\.png is a {kind}"):
                open_picture(folder / f"{name}.png")
            with pytest.raises(InputError, match=rf"{name}\.png is a {kind}"):
                read_picture(folder / f"{name}.png", None)


def test_depths(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(open_picture(tmp_path / "deep.png")).tolist() == [[156, 156], [156, 156]]
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match="scale is not known"):
        open_picture(tmp_path / "float.tif")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", FORMATS)
def test_every_damage_is_named(tmp_path: Path, form: str) -> None:
    """Cut short and with flipped bits: an `InputError` with the name of the file, or a picture."""
    file = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(file, form)
    raw = file.read_bytes()
    generator = np.random.default_rng(0)
    failed = 0
    for trial in range(120):
        damaged = bytearray(raw[: generator.integers(len(raw))] if trial % 3 == 0 else raw)
        for place in generator.integers(0, max(len(damaged), 1), 1 + trial % 4):
            if damaged:
                damaged[place] ^= 1 << generator.integers(8)
        file.write_bytes(damaged)
        try:
            open_picture(file)
        except InputError as error:
            assert "x.png" in str(error)
            failed += 1
    assert failed > 10


def test_the_extensions_of_every_format_are_looked_for() -> None:
    assert {".jpg", ".png", ".heic", ".pgm", ".tiff"} <= EXTENSIONS


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("LAB", (4, 4)), "colours of the kind LAB"),
        (Image.fromarray(np.full((4, 4), 200_000, np.int32)), "numbers of 32 bits"),
        (Image.fromarray(np.full((4, 4), 200, np.int32)), "numbers of 32 bits"),
        (Image.fromarray(np.full((4, 4), 0.5, np.float32)), "fractions"),
    ],
)
def test_pixels_whose_meaning_is_not_known_are_refused(tmp_path: Path, image: Image.Image, message: str) -> None:
    image.save(tmp_path / "x.tif")
    with pytest.raises(InputError, match=rf"x\.tif has {message}"):
        open_picture(tmp_path / "x.tif")


def test_sixteen_bits_of_a_grey_map(tmp_path: Path) -> None:
    (tmp_path / "x.pgm").write_bytes(b"P5 2 1 1023\n" + (1023).to_bytes(2, "big") + (512).to_bytes(2, "big"))
    assert np.asarray(open_picture(tmp_path / "x.pgm")).tolist() == [[255, 128]]


def deep(path: Path, values: list[int], top: int | None = None) -> Path:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if top is not None:
        tags[281] = top
    Image.fromarray(np.array([values], np.uint16)).save(path, **({"tiffinfo": tags} if path.suffix == ".tif" else {}))
    return path


def test_a_tiff_says_what_stands_for_white(tmp_path: Path) -> None:
    assert np.asarray(open_picture(deep(tmp_path / "x.tif", [0, 2048, 4095, 60_000], 4095))).tolist() == [
        [0, 127, 255, 255]
    ]
    for top in (None, 65535, 255, 0):
        assert np.asarray(open_picture(deep(tmp_path / "y.tif", [0, 2048, 65535], top))).tolist() == [[0, 8, 255]]


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize(
    "top, said",
    [
        (
            1023,
            "4 of the 4 pictures of 16 bits that were looked at hold no number above 1,023, as if white were 1,023 (10 bits)",
        ),
        (1024, "hold no number above 1,024, as if white were 4,095 (12 bits)"),
        (4095, "hold no number above 4,095, as if white were 4,095 (12 bits)"),
        (9000, "hold no number above 9,000, as if white were 16,383 (14 bits)"),
        (
            16_384,
            "3 of the 4 pictures of 16 bits that were looked at hold no number above 700, ",
        ),  # the brightest one is of 16
    ],
)
def test_twelve_bits_in_sixteen_are_said(tmp_path: Path, suffix: str, top: int, said: str) -> None:
    for name in ("a/1", "a/2", "b/1", "b/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        deep((tmp_path / name).with_suffix(suffix), [5, 90, top if name == "b/1" else 700])
    (note,) = [note for note in load_data(str(tmp_path)).notes if "nearly black" in note]
    assert said in note


def test_of_dark_pictures_of_eight_bits_nothing_is_said(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((2, 2), 3, np.uint8)).save(tmp_path / name)
    deep(tmp_path / "a/2.tif", [1, 4000], 4095)
    (tmp_path / "b/2.tif").write_bytes(b"II*\0 damaged")
    os.mkfifo(tmp_path / "b/3.tif")
    (tmp_path / "x.csv").write_text(
        "path,label\n" + "".join(f"{name},{name[0]}\n" for name in ("a/1.png", "b/3.tif", "b/4.tif"))
    )
    for spec in (tmp_path, tmp_path / "x.csv"):
        assert not any("nearly black" in note for note in load_data(str(spec)).notes)
