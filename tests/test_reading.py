"""Damaged, forged and special files, by everything that reads arrays, JSON and tensors."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lowdim._files import load_tensors, read_json, save_tensors, verify_tensors
from lowdim._reading import read_arrays
from lowdim.data import load_data
from lowdim.dynamics.samples import read_samples
from lowdim.errors import InputError, ResourceError

ARRAYS = {"x_train": np.eye(40), "y_train": np.arange(40) % 2, "x": np.eye(4), "y": np.eye(4)}
READERS: list[Callable[[Path], object]] = [lambda path: load_data(str(path)), lambda path: read_samples(path, (4, 4))]


def archive(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return path


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def encrypted(content: bytes) -> bytes:
    """The flag bit of encryption set in every header of an archive."""
    raw = bytearray(content)
    for start, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(start)
        while at >= 0:
            raw[at + place] |= 1
            at = raw.find(start, at + 1)
    return bytes(raw)


def compressed_unknown(content: bytes) -> bytes:
    raw = bytearray(content)
    for start, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = raw.find(start)
        while at >= 0:
            raw[at + place] = 99
            at = raw.find(start, at + 1)
    return bytes(raw)


@pytest.mark.parametrize("read", READERS)
def test_archives_of_every_damage_are_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    good = tmp_path / "good.npz"
    np.savez_compressed(good, **ARRAYS)
    content = good.read_bytes()
    read(good)
    huge = (
        b"\x93NUMPY\x01\0v\0"
        + f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**14},)}}".ljust(117).encode()
        + b"\n"
    )
    forged = {
        "zero": b"",
        "text": b"nonsense",
        "encrypted": encrypted(content),
        "method": compressed_unknown(content),
        "single": npy(np.eye(3)),
        "objects": archive(tmp_path / "o", x_train=npy(np.array([{}])), x=npy(np.array([{}]))).read_bytes(),
        "claims": archive(tmp_path / "h", x_train=huge, x=huge).read_bytes(),
        "deep": archive(
            tmp_path / "d",
            x_train=b"\x93NUMPY\x01\0\xff\xff" + b"(" * 65535,
            x=b"\x93NUMPY\x01\0\xff\xff" + b"(" * 65535,
        ).read_bytes(),
    }
    generator = np.random.default_rng(0)
    for trial in range(60):
        raw = bytearray(content[: generator.integers(len(content))] if trial % 3 == 0 else content)
        for place in generator.integers(0, max(len(raw), 1), 3):
            if raw:
                raw[place] ^= 1 << generator.integers(8)
        forged[f"flipped{trial}"] = bytes(raw)
    failed = 0
    for name, raw in forged.items():
        (tmp_path / f"{name}.npz").write_bytes(raw)
        try:
            read(tmp_path / f"{name}.npz")
        except (InputError, ResourceError) as error:
            assert f"{name}.npz" in str(error)
            failed += 1
    assert failed > 30


def test_an_archive_that_unpacks_to_more_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(1_000_000))
    monkeypatch.setattr("lowdim._memory.available_bytes", lambda: 2**22)
    with pytest.raises(
        ResourceError, match=r"Unpacking .*bomb\.npz needs 0\.0 GiB of memory, but 0\.0 GiB are available"
    ):
        read_arrays(tmp_path / "bomb.npz", ("x",), remedy="")
    assert read_arrays(tmp_path / "bomb.npz", ("other",), remedy="")[0] == {}


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 20_000, "9" * 5000, '"\ud800'], ids=["lists", "tables", "digits", "text"]
)
def test_json_that_no_parser_takes(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content, errors="surrogatepass")
    with pytest.raises(InputError, match=r"x\.json cannot be read as JSON"):
        read_json(tmp_path / "x.json")


def test_places_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "loop.npz").symlink_to(tmp_path / "loop.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    (tmp_path / "folder.npz").mkdir()
    for path, message in {
        tmp_path / "loop.npz": "circle",
        tmp_path / "pipe.npz": "is a pipe",
        tmp_path / "zero.npz": "is a device",
        tmp_path / "folder.npz": "is a folder",
        tmp_path / "none.npz": "does not exist",
        tmp_path / "good.npz" / "x.npz": "does not exist",
        tmp_path / ("x" * 4000): "longer than",
        tmp_path / "a\0b.npz": "null",
    }.items():
        (tmp_path / "good.npz").write_bytes(b"")
        for read in (READERS[1], read_json, load_tensors, verify_tensors):
            with pytest.raises(InputError, match=message):
                read(path)
        if message != "is a folder":
            with pytest.raises(InputError):
                load_data(str(path))


def test_too_many_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS)

    def full(*args: object, **options: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ResourceError, match=r"a\.npz cannot be opened: too many files"):
        load_data(str(tmp_path / "a.npz"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS)
    (tmp_path / "a.npz").chmod(0)
    with pytest.raises(InputError, match="permission denied"):
        load_data(str(tmp_path / "a.npz"))


def test_permission_is_translated_for_everyone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    def closed(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(InputError, match="permission denied"):
        load_data(str(tmp_path))


def test_the_checksum_is_compared_wherever_such_a_file_is_read(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    from lowdim.dynamics import WeightHistory
    from lowdim.models._weights import read_weights

    folder = tmp_path / "steps"
    folder.mkdir()
    factors = {"1": np.ones((3, 4)), "2": np.ones((2, 3))}
    for step in (1, 2):
        save_tensors(folder / f"{step}.safetensors", factors)
    assert verify_tensors(folder / "1.safetensors")
    raw = bytearray((folder / "2.safetensors").read_bytes())
    raw[-3] ^= 64
    (folder / "2.safetensors").write_bytes(raw)
    with pytest.raises(InputError, match=r"2\.safetensors is damaged"):
        read_weights(folder / "2.safetensors")
    with pytest.raises(InputError, match=r"2\.safetensors is damaged"):
        WeightHistory.from_folder(folder)
    save_file(factors, folder / "2.safetensors")
    assert not verify_tensors(folder / "2.safetensors")
    read_weights(folder / "2.safetensors")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((3, 0, 8), np.uint8), "y_train": [0, 1, 2]}, "samples are empty"),
        ({"x_train": np.zeros((3, 0)), "y_train": [0, 1, 2]}, "samples are empty"),
        ({"x_train": np.eye(3, dtype=np.longdouble), "y_train": [0, 1, 2]}, "16, 32 or 64 bits"),
        ({"x_train": np.eye(3), "y_train": [0, 1, 0], "class_names": np.array("a")}, "one name per class"),
        ({"x_train": np.array(3.0), "y_train": [0]}, "expected images"),
        ({"x_train": np.eye(3), "y_train": np.array(0)}, "one label per sample"),
        ({"x_train": np.eye(3), "y_train": [1e300, 0, 0]}, "whole numbers"),
        ({"x_train": np.eye(2), "y_train": np.array([b"\xff", b"a"])}, "not text"),
        ({"x_train": np.eye(2), "y_train": np.array(["9" * 5000, "1"])}, None),
        ({"x_train": np.eye(2), "y_train": np.array(["9" * 20, "1"])}, None),
        ({"x_train": np.eye(3, dtype=">f8"), "y_train": np.array([0, 1, 0], ">i8")}, None),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str | None) -> None:
    from lowdim._preprocessing import Preprocessing
    from lowdim.data import batches

    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    if message is None:
        list(batches(load_data(str(tmp_path / "a.npz"))["train"], Preprocessing(kind="features"), batch_size=2))
        return
    with pytest.raises(InputError, match=message):
        load_data(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    "content", [[1, 2], {"data": 3}, {"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}, {"labels": [0]}]
)
def test_cifar_files_of_another_form(tmp_path: Path, content: object) -> None:
    from tests.data.test_forms import write_cifar

    write_cifar(tmp_path, "CIFAR10")
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="CIFAR"):
        load_data(f"torchvision:CIFAR10@{tmp_path}")
