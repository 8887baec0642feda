"""Image folders: one folder per class, with or without a split above."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lowdim._pictures import EXTENSIONS
from lowdim._reading import is_special
from lowdim.data._contents import Contents, files_hashed
from lowdim.data._dataset import UNLABELLED, Dataset, Indices, Split
from lowdim.data._images import open_image
from lowdim.data._labels import in_order, label_notes
from lowdim.errors import InputError

TEST_NAMES = ("test", "val", "valid", "validation")
"""Of the part that is tested on: the first that is there."""
_SAME = {"training": "train", "testing": "test", "dev": "val"}


def part_named(name: str) -> str:
    """The part of the data, ``"train"`` or one of `TEST_NAMES`, that is called so, in any case; other names in small letters.

    Example:
        >>> part_named("Training"), part_named("TEST"), part_named("Cats")
        ('train', 'test', 'cats')
    """
    plain = name.strip().lower()
    return _SAME.get(plain, plain)


_LINKED, _LEAVING = (
    f"links {what} (give what they lead to, or copy it)" for what in ("to folders", "that leave the folder")
)
_OTHER, _OUTSIDE = "files that are not pictures", "pictures in no class folder"
_SPECIAL = "pipes, devices or sockets"
_ONE = {
    _OTHER: "file that is no picture",
    _OUTSIDE: "picture in no class folder",
    _LINKED: "link to a folder (give what it leads to, or copy it)",
    _LEAVING: "link that leaves the folder (give what it leads to, or copy it)",
    _SPECIAL: "pipe, device or socket",
}
"""What is left out, and how one of it is called."""
_TABLES = (".csv", ".tsv", ".jsonl", ".xlsx", ".parquet")
"""Files that may say what pictures show."""


@dataclass(frozen=True)
class ImageFiles:
    """Reads pictures by index; the files stay where they are."""

    paths: Sequence[Path]
    root: Path

    def __call__(self, index: int) -> Image.Image:
        return open_image(self.paths[index], self.root)

    def contents(self, indices: Indices) -> Contents:
        """Of these files, not decoded."""
        return files_hashed([self.paths[index] for index in indices])


def image_split(name: str, paths: Sequence[Path], labels: Sequence[int] | np.ndarray, root: Path) -> Split:
    """A split of picture files."""
    return Split(
        name=name,
        kind="image",
        labels=np.asarray(labels, dtype=np.int64),
        items=[path.relative_to(root).as_posix() for path in paths],
        read=ImageFiles(paths, root),
    )


def load_picture(path: Path) -> Dataset:
    """One picture, without a label."""
    root = path.parent.resolve()
    whole = image_split("all", [root / path.name], [UNLABELLED], root)
    return Dataset(name=path.name, kind="image", classes=(), splits={"all": whole}, own_split=False)


def load_folder(folder: Path, *, labelled: bool = True) -> Dataset:
    """``DIR/CLASS/*`` or ``DIR/{train,val|valid|test}/CLASS/*``.

    Symbolic links that leave the folder, or that lead to other folders, are not followed and are reported.

    Raises:
        InputError: If no picture is found, or all lie in folders of one folder: the classes may stand a level deeper.
    """
    root = folder.resolve()
    notes: list[str] = []
    inside = sorted(child for child in root.iterdir() if child.is_dir())
    named = {part_named(child.name): child for child in reversed(inside) if _holds_folders(child)}
    parts = {"train": named["train"]} if "train" in named else {}
    tests = [named[name] for name in TEST_NAMES if name in named]
    if tests:
        parts["test"] = tests[0]
    if parts and (unused := [child.name for child in inside if child not in parts.values()]):
        notes.append(f"folders beside the splits were not used: {', '.join(unused)}")
    if tests and part_named(tests[0].name) != "test":
        notes.append(f"what is tested on is the folder {tests[0].name}")
    loose: list[Path] = []
    beside = loose if not parts and not labelled else None
    found = {split: _class_files(part, root, notes, beside) for split, part in (parts or {"all": root}).items()}
    classes = in_order(name for files in found.values() for name in files)
    notes += label_notes(classes)
    if list(classes) != sorted(classes):
        notes.append(
            f"classes are in the order of their numbers ({_beginning(classes)}), not of their letters ({_beginning(sorted(classes))}): a network "
            "trained in that order calls them by other numbers"
        )
    tables = sorted(child.name for child in root.iterdir() if child.suffix.lower() in _TABLES)
    if labelled and len(classes) == 1 and tables:
        notes.append(
            f"all pictures lie in one folder, {classes[0]}; if {tables[0]} says what they show, give that file as data"
        )
    if labelled and not parts and len(classes) == 1 and (inner := _deeper(root / classes[0], found["all"][classes[0]])):
        raise InputError(
            f"{folder} has one class folder, {classes[0]}, and in it the folders {_beginning(inner)}. If these are the classes, give "
            f"{folder / classes[0]}."
        )
    inner = [
        _deeper((parts or {"all": root})[split] / name, files[name]) for split, files in found.items() for name in files
    ]
    if labelled and len(classes) > 1 and all(inner):
        notes.append(
            f"the classes are {_beginning(classes)}; the folders in them ({_beginning(sorted(set().union(*inner)))}) are not told apart. If "
            "these are the classes, put them side by side in one folder"
        )
    if not loose and not any(paths for files in found.values() for paths in files.values()):
        raise InputError(_nothing_found(folder, notes, labelled=labelled))
    splits: dict[str, Split] = {}
    for split, files in found.items():
        paths = [path for name in classes for path in files.get(name, ())]
        labels = np.repeat(np.arange(len(classes)), [len(files.get(name, ())) for name in classes])
        splits[split] = image_split(split, [*loose, *paths], np.append([UNLABELLED] * len(loose), labels), root)
    name = root.name if folder.name in ("", "..") else folder.name
    return Dataset(name=name, kind="image", classes=classes, splits=splits, notes=tuple(notes), own_split=bool(parts))


def _beginning(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def _deeper(folder: Path, pictures: Sequence[Path]) -> list[str]:
    """The folders in which all pictures of a folder lie, where there are several."""
    places = [path.relative_to(folder).parts for path in pictures]
    inner = sorted({parts[0] for parts in places})
    return inner if len(inner) > 1 and all(len(parts) > 1 for parts in places) else []


def _holds_folders(folder: Path | None) -> bool:
    return folder is not None and not folder.is_symlink() and any(child.is_dir() for child in folder.iterdir())


def _class_files(folder: Path, root: Path, notes: list[str], loose: list[Path] | None) -> dict[str, list[Path]]:
    """Picture files by class name, both sorted; those beside the class folders join `loose`, or are left out."""
    files: dict[str, list[Path]] = {}
    left: dict[str, int] = {}
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if not child.is_dir():
            if loose is not None:
                loose += _pictures([child], root, left)
            else:
                _count(left, _OUTSIDE if child.suffix.lower() in EXTENSIONS else _OTHER)
            continue
        if child.is_symlink():
            _count(left, _LINKED)
            continue
        files[child.name] = _pictures(child.iterdir(), root, left)
    _report(left, folder, root, notes)
    return files


def _report(left: dict[str, int], folder: Path, root: Path, notes: list[str]) -> None:
    where = "" if folder == root else f" in {folder.relative_to(root).as_posix()}"
    notes.extend(f"left out{where}: {number:,} {what if number > 1 else _ONE[what]}" for what, number in left.items())


def _pictures(paths: Iterable[Path], root: Path, left: dict[str, int]) -> list[Path]:
    found: list[Path] = []
    for path in sorted(paths):
        if path.name.startswith("."):
            continue
        if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(root)):
            _count(left, _LINKED if path.is_dir() else _LEAVING)
        elif path.is_dir():
            found += _pictures(path.iterdir(), root, left)
        elif path.suffix.lower() not in EXTENSIONS:
            _count(left, _OTHER)
        elif is_special(path):
            _count(left, _SPECIAL)
        else:
            found.append(path)
    return found


def _count(left: dict[str, int], what: str) -> None:
    left[what] = left.get(what, 0) + 1


def _nothing_found(folder: Path, notes: list[str], *, labelled: bool) -> str:
    why = f" ({'; '.join(notes)})" if notes else ""
    where, plain = (" in a class folder", "") if labelled else ("", f"{folder.name}/*.jpg, ")
    return (
        f"{folder} holds no picture{where}{why}. Expected {plain}{folder.name}/CLASS/*.jpg "
        f"or {folder.name}/train/CLASS/*.jpg and {folder.name}/test/CLASS/*.jpg."
    )
