"""Image folders: one folder per class, with or without a split above."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from lowdim.data._dataset import Dataset, Split, train_test_indices
from lowdim.data._images import EXTENSIONS, open_image
from lowdim.errors import InputError

_TEST_NAMES = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class ImageFiles:
    """Reads pictures by index; the files stay where they are."""

    paths: Sequence[Path]
    root: Path

    def __call__(self, index: int) -> Image.Image:
        return open_image(self.paths[index], self.root)

    def stamp(self, index: int) -> bytes:
        """Size and time of change of a file; nothing for one that is missing, which reading it will report."""
        try:
            state = self.paths[index].stat()
        except OSError:
            return b""
        return f"{state.st_size} {state.st_mtime_ns}".encode()


def image_split(name: str, paths: Sequence[Path], labels: Sequence[int] | np.ndarray, root: Path) -> Split:
    """A split of picture files.

    Args:
        name: ``"train"`` or ``"test"``.
        paths: One file per sample.
        labels: Class index per sample.
        root: Folder that the printed names are relative to.
    """
    return Split(
        name=name,
        kind="image",
        labels=np.asarray(labels, dtype=np.int64),
        items=[path.relative_to(root).as_posix() for path in paths],
        read=ImageFiles(paths, root),
    )


def load_folder(folder: Path, seed: int) -> Dataset:
    """``DIR/CLASS/*`` or ``DIR/{train,val|valid|test}/CLASS/*``.

    Symbolic links that leave the folder, or that lead to other folders, are not followed and are reported.

    Args:
        folder: The data set's folder.
        seed: Of the split, where the folder has none.

    Raises:
        InputError: If no class folder with a picture is found.
    """
    root = folder.resolve()
    notes: list[str] = []
    names = {child.name: child for child in root.iterdir() if child.is_dir()}
    parts = {"train": names["train"]} if _holds_folders(names.get("train")) else {}
    tests = [name for name in _TEST_NAMES if _holds_folders(names.get(name))]
    if tests:
        parts["test"] = names[tests[0]]
    if tests[1:] or (parts and set(names) - {"train", *tests}):
        unused = sorted({*tests[1:], *(set(names) - {"train", *tests})})
        notes.append(f"folders beside the splits were not used: {', '.join(unused)}")
    found = {split: _class_files(part, root, notes) for split, part in (parts or {"": root}).items()}
    classes = tuple(sorted({name for files in found.values() for name in files}))
    if not any(paths for files in found.values() for paths in files.values()):
        raise InputError(_nothing_found(folder, notes))
    splits: dict[str, Split] = {}
    for split, files in found.items():
        paths = [path for name in classes for path in files.get(name, ())]
        labels = np.repeat(np.arange(len(classes)), [len(files.get(name, ())) for name in classes])
        splits[split] = image_split(split, paths, labels, root)
    if not parts:
        train, test = train_test_indices(splits[""].labels, seed)
        notes.append(f"split: stratified, 80 % train, 20 % test, seed {seed}")
        whole = splits.pop("")
        splits = {"train": _named(whole, "train", train), "test": _named(whole, "test", test)}
    return Dataset(name=folder.name, kind="image", classes=classes, splits=splits, notes=tuple(notes))


def _named(split: Split, name: str, indices: np.ndarray) -> Split:
    return replace(split.take(indices), name=name)


def _holds_folders(folder: Path | None) -> bool:
    return folder is not None and not folder.is_symlink() and any(child.is_dir() for child in folder.iterdir())


def _class_files(folder: Path, root: Path, notes: list[str]) -> dict[str, list[Path]]:
    """Picture files by class name, both sorted."""
    files: dict[str, list[Path]] = {}
    left: dict[str, int] = {}
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child.name.startswith("."):
            continue
        if child.is_symlink():
            _count(left, "links to folders")
            continue
        files[child.name] = _pictures(child, root, left)
    where = folder.relative_to(root).as_posix()
    notes.extend(f"left out in {where}: {number} {what}" for what, number in left.items())
    return files


def _pictures(folder: Path, root: Path, left: dict[str, int]) -> list[Path]:
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(root)):
            _count(left, "links to folders" if path.is_dir() else "links that leave the folder")
        elif path.is_dir():
            found += _pictures(path, root, left)
        elif path.suffix.lower() not in EXTENSIONS:
            _count(left, "files that are not pictures")
        else:
            found.append(path)
    return found


def _count(left: dict[str, int], what: str) -> None:
    left[what] = left.get(what, 0) + 1


def _nothing_found(folder: Path, notes: list[str]) -> str:
    why = f" ({'; '.join(notes)})" if notes else ""
    return (
        f"{folder} holds no picture in a class folder{why}. Expected {folder.name}/CLASS/*.jpg "
        f"or {folder.name}/train/CLASS/*.jpg and {folder.name}/test/CLASS/*.jpg."
    )
