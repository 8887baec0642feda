"""The factors of a network in files: what a file of weights holds, and which of it are the factors."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, deserialize, safe_open

from lowdim._files import verify_tensors
from lowdim._reading import read_arrays, reading
from lowdim.errors import InputError

Shapes = Mapping[str, tuple[int, ...]]
PickleReader = Callable[[Path], Mapping[str, np.ndarray]]

_FIRST = {"init", "initial", "initialization", "start", "begin", "before", "first", "untrained"}
_LAST = {"final", "end", "last", "after", "trained", "done", "best"}
"""Words in the names of files."""
KINDS = ((".safetensors",), (".pt", ".pth"), (".npz",))
"""Endings of files of weights; a folder is read by the first that it has."""


def weight_files(folder: Path) -> list[Path]:
    """The files of one kind in a folder, in time: by the numbers in their names, between those called first and last.

    Raises:
        InputError: If there is no folder, no such file in it, or nothing that says which comes first.
    """
    if not folder.is_dir():
        what = "is one file, and one file is one time" if folder.is_file() else "is not a folder"
        raise InputError(f"{folder} {what}. Give the folder that holds one file per time, from the start of training.")
    for kinds in KINDS:
        files = [path for path in folder.iterdir() if path.suffix.lower() in kinds]
        if files:
            untold = [path.name for path in files if not (_time_of_word(path) or re.search(r"\d", path.stem))]
            if len(untold) > 1:
                raise InputError(
                    f"{folder}: nothing says which of {', '.join(sorted(untold)[:3])}{', …' * (len(untold) > 3)} comes first. Number the files by "
                    "the step, or call them first and last."
                )
            return sorted(files, key=lambda path: (_time_of_word(path), natural(path.stem)))
    raise InputError(
        f"{folder} has no *.safetensors file, and none of *.pt, *.pth and *.npz. Write one STEP.safetensors (or .pt, .npz) per "
        "time, with the weights of all layers."
    )


def _time_of_word(path: Path) -> int:
    """-1 of a file from the beginning of training, 1 of one from its end, 0 of others."""
    words = set(re.split(r"[^a-z]+", path.stem.lower()))
    return bool(words & _LAST) - bool(words & _FIRST)


def natural(name: str) -> list[tuple[int, int, str]]:
    """2 before 10, and "step-2" before "step-10"."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def held_shapes(path: Path, read_pickle: PickleReader | None) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor by name, in the file's order."""
    if path.suffix.lower() != ".safetensors":
        return {name: array.shape for name, array in _arrays(path, None, read_pickle).items()}
    verify_tensors(path)
    with (
        reading(path, "safetensors", remedy="Write it again.", also=(SafetensorError,)),
        safe_open(path, framework="numpy") as file,
    ):
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def read_matrix(path: Path, name: str, read_pickle: PickleReader | None) -> Float[np.ndarray, "m n"]:
    """One tensor of a file.

    Raises:
        InputError: If the file is damaged, or the tensor holds no floating-point numbers.
    """
    if path.suffix.lower() != ".safetensors":
        return _floating(_arrays(path, name, read_pickle)[name], path, name)
    with reading(path, "a NumPy array", name=f"tensor {name!r} of {path}", also=(SafetensorError,)):
        with safe_open(path, framework="numpy") as file:
            kind = file.get_slice(name).get_dtype()
            matrix = None if kind == "BF16" else file.get_tensor(name)
        if matrix is not None:
            return _floating(matrix, path, name)
        # NumPy has no bfloat16: its 16 bits are the upper half of a float32
        stored = dict(deserialize(path.read_bytes()))[name]
        halves = np.frombuffer(stored["data"], np.uint16).reshape(stored["shape"])
        return (halves.astype(np.uint32) << 16).view(np.float32)


def _arrays(path: Path, name: str | None, read_pickle: PickleReader | None) -> Mapping[str, np.ndarray]:
    if path.suffix.lower() == ".npz":
        return read_arrays(path, None if name is None else (name,), remedy="Write plain arrays with numpy.savez.")[0]
    if read_pickle is None:
        raise InputError(f"{path} is a pickle; pass `read_pickle`, or write safetensors.")
    return read_pickle(path)


def _floating(matrix: np.ndarray, path: Path, name: str) -> np.ndarray:
    if matrix.dtype.kind != "f":
        raise InputError(f"tensor {name!r} of {path} holds {matrix.dtype}, not floating-point weights.")
    return matrix


def find_factors(shapes: Shapes, *, ordered: bool) -> list[str]:
    """Names of the factors, first layer first, among the tensors of a file; empty where that is not certain.

    All matrices must chain: in the order of the file where that is the order of the layers, in the order of their numbers where
    their names differ in nothing else, or in the only order that their shapes allow.

    Example:
        >>> find_factors({"2.weight": (1, 4), "0.bias": (4,), "0.weight": (4, 3)}, ordered=False)
        ['0.weight', '2.weight']
        >>> find_factors({"a": (4, 4), "b": (4, 4)}, ordered=False)
        []
    """
    numbers = {name for name in shapes if name.isdigit()}
    if numbers and numbers == {str(number) for number in range(1, 1 + len(numbers))}:
        return sorted(numbers, key=int)
    matrices = {name: shape for name, shape in shapes.items() if len(shape) == 2}
    if any(len(shape) > 2 for shape in shapes.values()):  # convolutions: other layers stand between
        return []
    if ordered and _chain([*matrices.values()]):
        return [*matrices]
    names = sorted(matrices, key=natural)
    if len({_pattern(name) for name in names}) == 1 and _chain([matrices[name] for name in names]):
        return names
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        groups.setdefault(matrices[name], []).append(name)
    if any(len({_pattern(name) for name in group}) > 1 for group in groups.values()):
        return []
    orders = _orders({shape: len(group) for shape, group in groups.items()}, None)
    return [groups[shape].pop(0) for shape in orders[0]] if len(orders) == 1 else []


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "0", name)


def _chain(shapes: Sequence[tuple[int, ...]]) -> bool:
    return bool(shapes) and all(after[1] == before[0] for before, after in pairwise(shapes))


def _orders(counts: Mapping[tuple[int, ...], int], width: int | None) -> list[list[tuple[int, ...]]]:
    """Orders, two at most, in which matrices of these shapes chain after one with so many rows."""
    if not any(counts.values()):
        return [[]]
    found: list[list[tuple[int, ...]]] = []
    for shape, count in counts.items():
        if count and width in (None, shape[1]) and len(found) < 2:
            found += [[shape, *rest] for rest in _orders({**counts, shape: count - 1}, shape[0])]
    return found[:2]
