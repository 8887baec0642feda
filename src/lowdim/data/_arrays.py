"""Data sets that are arrays: ``.npz`` files and what a caller holds in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lowdim._pictures import array_image
from lowdim._reading import read_arrays
from lowdim.data._contents import Contents, array_bytes, hashed
from lowdim.data._dataset import UNLABELLED, Dataset, Indices, Kind, Split, Task, divided
from lowdim.data._labels import encode_labels, label_notes, numbers_of, padded_notes
from lowdim.errors import InputError


@dataclass(frozen=True)
class Rows:
    """Reads samples by index from an array: images as Pillow images, features as rows."""

    array: np.ndarray
    kind: Kind

    def __call__(self, index: int) -> Any:
        return array_image(self.array[index]) if self.kind == "image" else self.array[index]

    def contents(self, indices: Indices) -> Contents:
        """Of these samples."""
        return hashed(array_bytes(self.array[index]) for index in indices)


@dataclass(frozen=True)
class Numbered(Sequence[str]):
    """Printable names ``train[0]``, ``train[1]``, … without a list of strings in memory."""

    name: str
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        chosen = range(self.length)[index]
        return [f"{self.name}[{i}]" for i in chosen] if isinstance(chosen, range) else f"{self.name}[{chosen}]"


def dataset_from_arrays(
    x_train: np.ndarray,
    y_train: Any,
    x_test: np.ndarray | None = None,
    y_test: Any = None,
    *,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    seed: int = 0,
    task: Task = "classification",
) -> Dataset:
    """A data set of arrays in memory.

    Args:
        x_train: Images N x H x W [x C] as uint8, or features N x d as floats.
        y_train: Labels: integers, with gaps or not, or strings; for regression a number per sample, or a row of them.
        x_test: The same for the test split; without it a stratified fifth of the train samples is held out.
        y_test: Labels of the test split.
        classes: Names; integer labels then index into them, and a class may be empty.
        name: Shown in results.
        seed: Of the split, where there is no test part.
        task: ``"regression"`` where labels are numbers to be predicted.

    Raises:
        InputError: If shapes, types or labels do not fit.

    Example:
        >>> data = dataset_from_arrays(np.eye(4), ["b", "a", "b", "a"], seed=0)
        >>> data.classes, len(data["train"]), len(data["test"])
        (('a', 'b'), 2, 2)
    """
    return divided(from_arrays(x_train, y_train, x_test, y_test, classes, name, task), seed)


def from_arrays(
    x_train: np.ndarray,
    y_train: Any,
    x_test: np.ndarray | None = None,
    y_test: Any = None,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    task: Task = "classification",
) -> Dataset:
    """`dataset_from_arrays`, not divided."""
    x_train = _native(x_train)
    parts, kind = {"train": (x_train, y_train)}, _kind("x_train", x_train)
    if x_test is not None:
        x_test = _native(x_test)
        parts["test"] = (x_test, y_test)
        if _kind("x_test", x_test) != kind or x_test.shape[1:] != x_train.shape[1:]:
            raise InputError(f"{name}: x_train {x_train.shape} and x_test {x_test.shape} do not match.")
    if task == "regression":
        return regression_arrays(parts, kind, name, classes)
    raw = [_labels(f"y_{part}", y, len(x)) for part, (x, y) in parts.items()]
    together = np.concatenate(raw)
    labels, names = encode_labels(together, classes)
    notes = (*(padded_notes(together.tolist()) if together.dtype.kind == "U" else ()), *label_notes(names))
    splits: dict[str, Split] = {}
    start = 0
    for part, (array, _) in parts.items():
        chosen = labels[start : start + len(array)]
        start += len(array)
        splits[part] = Split(
            name=part, kind=kind, labels=chosen, items=Numbered(part, len(array)), read=Rows(array, kind)
        )
    own = x_test is not None
    if not own:
        splits = {"all": replace(splits["train"], name="all")}
    return Dataset(name=name, kind=kind, classes=names, splits=splits, notes=notes, own_split=own)


def regression_arrays(
    parts: Mapping[str, tuple[np.ndarray, Any]], kind: Kind, name: str, names: Sequence[str] | None
) -> Dataset:
    """Data with numbers to be predicted; a single part is not split."""
    splits: dict[str, Split] = {}
    for part, (array, y) in parts.items():
        targets, none = numbers_of(f"y_{part}", unmasked(y), len(array)), np.full(len(array), UNLABELLED)
        read = Rows(array, kind)
        splits[part] = Split(
            name=part, kind=kind, labels=none, items=Numbered(part, len(array)), read=read, targets=targets
        )
    widths = {split.targets.shape[1] for split in splits.values() if split.targets is not None}
    if len(widths) > 1:
        raise InputError(f"{name}: y_train and y_test have {' and '.join(map(str, sorted(widths)))} columns.")
    outputs = tuple(f"y{column}" for column in range(*widths))
    outputs = tuple(names) if names is not None and len(names) == len(outputs) else outputs
    own = len(parts) > 1
    if not own:
        splits = {"all": replace(next(iter(splits.values())), name="all")}
    return Dataset(name=name, kind=kind, classes=(), splits=splits, own_split=own, outputs=outputs)


_INPUTS = ("x", "images", "image", "features", "embeddings", "data", "inputs", "input")
_LABELS = ("y", "labels", "label", "targets", "target")


def load_npz(path: Path, *, labelled: bool = True, task: Task = "classification") -> Dataset:
    """``x_train, y_train[, x_test, y_test][, class_names]`` from an ``.npz`` file, or arrays of other usual names (``X, y``,
    ``features, labels``, ``train_images, train_labels``); objects are refused, so nothing is executed.

    Raises:
        InputError: If the file cannot be read or an array is missing or unsuitable.
    """
    remedy = "Save plain arrays with numpy.savez."
    _, present = read_arrays(path, (), remedy=remedy)
    roles = _roles(present)
    arrays, _ = read_arrays(path, [*roles.values(), "class_names"], remedy=remedy)
    given = {role: arrays[name] for role, name in roles.items()}
    if not labelled and given.keys() == {"x_train"}:
        return _unlabelled(given["x_train"], path.stem)
    if "x_train" not in given or "y_train" not in given or ("x_test" in given) != ("y_test" in given):
        raise InputError(
            f"{path} needs x_train and y_train (and x_test with y_test; or x and y, features and labels, train_images and "
            f"train_labels), but holds {', '.join(present) or 'nothing'}."
        )
    names = arrays.get("class_names")
    if names is not None and names.ndim != 1:
        raise InputError(f"class_names in {path} has shape {names.shape}; expected one name per class.")
    inputs = {role: array for role, array in given.items() if role.startswith("x_")}
    inputs, scaled = _as_pictures(inputs)
    found = from_arrays(
        inputs["x_train"],
        given["y_train"],
        inputs.get("x_test"),
        given.get("y_test"),
        classes=None if names is None else [str(name) for name in names],
        name=path.stem,
        task=task,
    )
    other = [name for name in present if name not in (*roles.values(), "class_names")]
    read = f"read: {', '.join(roles.values())}" + (f"; not used: {', '.join(other)}" if other else "")
    usual = all(role == name for role, name in roles.items()) and not other
    return replace(found, notes=(*found.notes, *([] if usual else [read]), *scaled))


def _roles(present: Sequence[str]) -> dict[str, str]:
    """Which arrays of a file are inputs and labels of train and test, by their names in any case."""
    known = {name.casefold(): name for name in reversed(present)}
    roles: dict[str, str] = {}
    for part, shapes in (("train", ("{}_train", "train_{}", "{}")), ("test", ("{}_test", "test_{}"))):
        for shape in shapes:
            for role, names in (("x", _INPUTS), ("y", _LABELS)):
                there = [known[shape.format(name)] for name in names if shape.format(name) in known]
                if there and f"{role}_{part}" not in roles:
                    roles[f"{role}_{part}"] = there[0]
            if f"x_{part}" in roles:
                break
    order = ("x_train", "y_train", "x_test", "y_test")
    return {role: roles[role] for role in order if role in roles}


def _as_pictures(inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Pictures with their channels last, as bytes, and what to say of it; anything else as it is."""
    first = [array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3) for array in inputs.values()]
    if all(first):
        found, notes = _as_pictures({name: np.moveaxis(array, 1, 3) for name, array in inputs.items()})
        return found, ["pictures are read as N x channels x height x width", *notes]
    arrays = list(inputs.values())
    shaped = all(array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3)) for array in arrays)
    if not shaped or any(
        array.dtype.kind not in "fiu" or array.dtype == np.uint8 or not array.size for array in arrays
    ):
        return inputs, []
    low, high = min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)
    if low >= 0 and high <= 1:
        scaled = {name: np.round(255 * array.astype(np.float64)).astype(np.uint8) for name, array in inputs.items()}
        return scaled, ["pictures with pixels from 0 to 1 are read as 0 to 255"]
    whole = all(bool((array == np.round(array)).all()) for array in arrays)
    if low >= 0 and 128 <= high <= 255 and whole:
        return {name: array.astype(np.uint8) for name, array in inputs.items()}, []
    raise InputError(
        f"{', '.join(inputs)}: pictures have pixels from 0 to 1, or whole ones from 0 to 255, but these run from {low:g} to {high:g}. "
        "Scale them to 0..1, or give each picture as a row of numbers (N x d) if they are features."
    )


def _unlabelled(array: np.ndarray, name: str) -> Dataset:
    array = _native(array)
    kind, none = _kind("x_train", array), np.full(len(array), UNLABELLED)
    items, read = Numbered("train", len(array)), Rows(array, kind)
    whole = Split(name="all", kind=kind, labels=none, items=items, read=read)
    return Dataset(name=name, kind=kind, classes=(), splits={"all": whole}, own_split=False)


def unmasked(array: Any) -> np.ndarray:
    """The array with NaN where it is masked.

    Raises:
        InputError: If something is masked that cannot be NaN: labels, pixels.
    """
    if not np.ma.is_masked(array):
        return np.asarray(array)
    if array.dtype.kind != "f":
        raise InputError(
            f"{np.ma.count_masked(array)} values of type {array.dtype} are masked: only floats can be unknown. Leave those samples out."
        )
    return np.ma.filled(array, np.nan)


def _native(array: Any) -> np.ndarray:
    """The array in this machine's byte order, the only one that torch takes."""
    array = unmasked(array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _kind(name: str, array: np.ndarray) -> Kind:
    if array.ndim and not len(array):
        raise InputError(f"{name} holds no sample.")
    if array.ndim > 1 and not all(array.shape[1:]):
        raise InputError(f"{name} has shape {array.shape}: its samples are empty.")
    if array.ndim == 2 and array.dtype.kind == "f" and array.itemsize <= 8:
        return "features"
    if array.dtype == np.uint8 and (array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3))):
        return "image"
    hint = " Move the channels last." if array.ndim == 4 and array.shape[1] in (1, 3) else ""
    raise InputError(
        f"{name} has type {array.dtype} and shape {array.shape}; expected images N x H x W[ x 1 or 3] as uint8 "
        f"or features N x d as floats (16, 32 or 64 bits).{hint}"
    )


def _labels(name: str, values: Any, samples: int) -> np.ndarray:
    labels = unmasked(values)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != samples:
        indicators = (
            labels.ndim == 2
            and labels.shape[1] > 1
            and labels.dtype.kind in "biuf"
            and bool((np.sort(labels)[:, -2:] == [0, 1]).all())
        )
        hint = " These rows are one-hot: give labels.argmax(axis=1)." if indicators else ""
        raise InputError(
            f"{name} has shape {labels.shape}, but there are {samples} samples: one label per sample.{hint}"
        )
    return labels
