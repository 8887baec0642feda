"""The lecture's image sets in the folder layouts of their authors, as torchvision unpacks them; nothing is downloaded."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from lowdim._reading import READING_ERRORS, explained, require_regular
from lowdim.data._arrays import dataset_from_arrays
from lowdim.data._dataset import Dataset
from lowdim.data._folder import image_split
from lowdim.errors import InputError, LowdimError, did_you_mean


def load_official(spec: str) -> Dataset:
    """``NAME@ROOT`` with NAME one of CIFAR10, CIFAR100, DTD (first partition), FGVCAircraft, OxfordIIITPet.

    ROOT is the folder that torchvision calls ``root``. Train parts are torchvision's defaults: ``train`` for DTD,
    ``trainval`` for FGVCAircraft and OxfordIIITPet.

    Raises:
        InputError: If the name is unknown or the folder does not hold the set.
    """
    name, _, folder = spec.partition("@")
    if name not in _READERS:
        raise InputError(f"torchvision:{name} is not one of the sets lowdim reads. {did_you_mean(name, _READERS)}")
    if not folder:
        raise InputError(f"Say where {name} lies: torchvision:{name}@FOLDER.")
    root = Path(folder).expanduser().resolve()
    try:
        return _READERS[name](root)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{root} does not hold {name} in torchvision's layout: {error.filename} is missing. Nothing is downloaded."
        ) from error
    except LowdimError:
        raise
    except READING_ERRORS as error:
        raise explained(error, f"{name} in {root}", "the set of its authors", "Unpack it again.") from error


def _cifar10(root: Path) -> Dataset:
    folder = root / "cifar-10-batches-py"
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    return _cifar("CIFAR10", folder, batches, "test_batch", "labels", ("batches.meta", "label_names"))


def _cifar100(root: Path) -> Dataset:
    folder = root / "cifar-100-python"
    return _cifar("CIFAR100", folder, ["train"], "test", "fine_labels", ("meta", "fine_label_names"))


def _cifar(name: str, folder: Path, train: list[str], test: str, key: str, meta: tuple[str, str]) -> Dataset:
    def part(files: list[str]) -> tuple[np.ndarray, np.ndarray]:
        entries = [_restricted_pickle(folder / file) for file in files]
        images = np.concatenate([np.asarray(entry["data"], dtype=np.uint8) for entry in entries])
        labels = np.concatenate([np.asarray(entry[key], dtype=np.int64) for entry in entries])
        return np.ascontiguousarray(images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels

    classes = [str(label) for label in _restricted_pickle(folder / meta[0])[meta[1]]]
    return dataset_from_arrays(*part(train), *part([test]), classes=classes, name=name)


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 stores bytes in a pickle that Python 2 can read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], Any]:
    from numpy._core.multiarray import _reconstruct

    modules = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    arrays = {"_reconstruct": _reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
    return {(home, name): value for home in modules for name, value in arrays.items()} | {
        ("_codecs", "encode"): _latin1
    }


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds lists, strings, numbers and NumPy arrays, and refuses every other name in the file."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _allowed()[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which is not an array") from None


def _restricted_pickle(path: Path) -> dict[str, Any]:
    require_regular(path, str(path))
    content: Any = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, not the table of a CIFAR batch. Unpack it again.")
    return cast("dict[str, Any]", content)


def _dtd(root: Path) -> Dataset:
    base = root / "dtd" / "dtd"
    lines = {part: _lines(base / "labels" / f"{part}1.txt") for part in ("train", "test")}
    classes = tuple(sorted({line.split("/")[0] for part in lines.values() for line in part}))
    number = {name: index for index, name in enumerate(classes)}
    rows = {
        part: [(base / "images" / line, number[line.split("/")[0]]) for line in part_lines]
        for part, part_lines in lines.items()
    }
    return _images("DTD", rows, classes, root)


def _aircraft(root: Path) -> Dataset:
    base = root / "fgvc-aircraft-2013b" / "data"
    classes = tuple(_lines(base / "variants.txt"))
    number = {name: index for index, name in enumerate(classes)}
    rows = {
        part: [
            (base / "images" / f"{image}.jpg", number[variant])
            for image, variant in (line.split(" ", 1) for line in _lines(base / f"images_variant_{file}.txt"))
        ]
        for part, file in (("train", "trainval"), ("test", "test"))
    }
    return _images("FGVCAircraft", rows, classes, root)


def _pet(root: Path) -> Dataset:
    base = root / "oxford-iiit-pet"
    rows: dict[str, list[tuple[Path, int]]] = {}
    names: dict[int, str] = {}
    for part, file in (("train", "trainval"), ("test", "test")):
        rows[part] = []
        for line in _lines(base / "annotations" / f"{file}.txt"):
            image, label = line.split()[:2]
            names[int(label) - 1] = " ".join(word.title() for word in image.rsplit("_", 1)[0].split("_"))
            rows[part].append((base / "images" / f"{image}.jpg", int(label) - 1))
    return _images("OxfordIIITPet", rows, tuple(names[index] for index in range(max(names) + 1)), root)


def _lines(path: Path) -> list[str]:
    require_regular(path, str(path))
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _images(name: str, rows: dict[str, list[tuple[Path, int]]], classes: tuple[str, ...], root: Path) -> Dataset:
    for path, _ in (row for part in rows.values() for row in part):
        if not path.resolve().is_relative_to(root):
            raise InputError(f"{path} leads out of {root}.")
    splits = {
        part: image_split(part, [path for path, _ in part_rows], [label for _, label in part_rows], root)
        for part, part_rows in rows.items()
    }
    return Dataset(name=name, kind="image", classes=classes, splits=splits, notes=("split: the authors' own",))


_READERS: dict[str, Callable[[Path], Dataset]] = {
    "CIFAR10": _cifar10,
    "CIFAR100": _cifar100,
    "DTD": _dtd,
    "FGVCAircraft": _aircraft,
    "OxfordIIITPet": _pet,
}
