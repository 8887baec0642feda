"""Data in any form in which a caller holds it."""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from lowdim._memory import require_memory
from lowdim._numbers import capped
from lowdim.data._arrays import Numbered, Rows, from_arrays, regression_arrays, unmasked
from lowdim.data._dataset import UNLABELLED, Dataset, Kind, Split, Task, divided
from lowdim.data._folder import TEST_NAMES, part_named
from lowdim.data._labels import encode_labels, with_numbers
from lowdim.data._load import choose, load_data
from lowdim.data._table import Texts, frame_columns, table_of
from lowdim.errors import InputError, UsageError

_INPUTS = (
    "pixel_values", "inputs", "input", "images", "image", "img", "x", "features", "embeddings", "embedding", "data", "text", "sentence",
)  # fmt: skip
_OF_TABLES = ("path_column", "text_column", "path_root", "usual")
_LABELS = ("labels", "label", "targets", "target", "y")


def as_dataset(
    data: Any,
    *,
    label_column: str | None = None,
    limit: int | None = None,
    shots: int | None = None,
    seed: int = 0,
    whole: bool = False,
    test_share: float = 0.2,
    task: Task = "classification",
    **how: Any,
) -> Dataset:
    """A data set from its name, a path, arrays or tensors, a pandas frame, batches, or itself.

    Args:
        data: What `load_data` takes; a `Dataset`; ``(inputs, labels)`` of arrays or tensors; a pandas frame, read like a table in a
            file; batches, such as a ``DataLoader`` gives: pairs, or mappings with inputs and labels; samples by number, as data sets of
            PyTorch have them; or two of these, for training and test, as a tuple or by split name. Labels may be one-hot rows. Inputs
            are uint8 images N x H x W [x 1 or 3], features N x d, or floats of any other shape that the network takes as they are.
        label_column: Of a table or frame.
        limit: Keep so many samples of each split, stratified.
        shots: Keep so many training samples of each class.
        seed: Of the split, where there is none, and of `limit` and `shots`.
        test_share: Of what has no split of its own.
        whole: For data to classify, as `load_data` has it: inputs may come without labels, alone or as a list of texts.
        task: ``"regression"`` where labels are numbers to be predicted: one or a row of them per sample, or columns by commas.
        how: Further arguments of `load_data`.

    Raises:
        UsageError: If it is none of these.
        InputError: If the data is unusable.

    Example:
        >>> found = as_dataset((np.eye(10), list("ab") * 5))
        >>> found.kind, {name: len(split) for name, split in found.splits.items()}
        ('features', {'train': 8, 'test': 2})
    """
    if isinstance(data, str | os.PathLike):
        spec = os.fspath(cast("str", data))
        return load_data(
            spec,
            label_column=label_column,
            limit=limit,
            shots=shots,
            seed=seed,
            whole=whole,
            test_share=test_share,
            task=task,
            **how,
        )
    if type(data).__module__.startswith("pyarrow") and hasattr(data, "to_pandas"):
        data = data.to_pandas()
    framed = hasattr(data, "columns") and hasattr(data, "to_numpy")
    given = [name for name, value in how.items() if value and not (name == "usual" or (framed and name in _OF_TABLES))]
    if given:
        raise UsageError(
            f"`{given[0]}` is for data in files, not for {type(data).__name__} objects.", argument=given[0]
        )
    if framed:
        of_table = {name: how[name] for name in _OF_TABLES if how.get(name)}
        dataset = _frame(data, label_column, task, labelled=not whole, **of_table)
    else:
        dataset = _dataset(data, task, labelled=not whole)
    dataset = with_numbers(dataset) if task == "regression" else dataset
    dataset = divided(dataset, seed, test_share) if set(dataset.splits) == {"all"} and not whole else dataset
    return choose(dataset, limit=limit, shots=shots, seed=seed)


def _dataset(data: Any, task: Task, *, labelled: bool) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Mapping):
        parts = {str(name): _part(part) for name, part in cast("Mapping[Any, Any]", data).items()}
    elif isinstance(data, tuple | list) and len(cast("list[Any]", data)) == 2 and hasattr(data[0], "shape"):
        parts = {"train": _pair(data)}
    elif (
        isinstance(data, tuple)
        and [type(one) for one in cast("tuple[Any, ...]", data)] == [list, list]
        and not all(map(_is_batch, cast("tuple[Any, ...]", data)))
    ):
        parts = {"train": _pair(cast("tuple[Any, Any]", data))}
    elif isinstance(data, tuple) and len(cast("tuple[Any, ...]", data)) == 2 and not any(map(_is_plain, data)):
        train, test = cast("tuple[Any, Any]", data)
        parts = {"train": _part(train), "test": _part(test)}
    elif hasattr(data, "shape") or _are_texts(data):
        if labelled:
            raise UsageError("These are inputs without labels: pass both as one pair, `data=(inputs, labels)`.")
        return _inputs_alone(data)
    elif isinstance(data, Iterable) or _has_samples(data):
        parts = {"train": _part(data)}
    else:
        raise UsageError(
            f"Data is a name, a path, a pair of inputs and labels, a frame or batches, not {type(data).__name__}."
        )
    return _splits(parts, task)


def _are_texts(data: Any) -> bool:
    if not isinstance(data, list | tuple):
        return False
    items = cast("list[Any]", data)
    return bool(items) and all(isinstance(item, str) for item in items)


def _inputs_alone(data: Any) -> Dataset:
    """Samples without labels, as one split."""
    if _are_texts(data):
        texts = [str(text) for text in data]
        none = np.full(len(texts), UNLABELLED)
        items = [f"text {row}" for row in range(len(texts))]
        whole = Split(name="all", kind="text", labels=none, items=items, read=Texts([texts]))
        return Dataset(name="texts", kind="text", classes=(), splits={"all": whole}, own_split=False)
    inputs = _array(data)
    found = _splits({"train": (inputs, np.zeros(len(inputs), np.int64))}, "classification")
    whole = replace(found["all"], labels=np.full(len(inputs), UNLABELLED))
    return replace(found, classes=(), splits={"all": whole})


def _is_plain(data: Any) -> bool:
    return isinstance(data, Mapping | list | str | int | float) or hasattr(data, "shape")


def _has_samples(data: Any) -> bool:
    """Whether it gives one sample after another by number, as data sets of PyTorch and of the hub do."""
    sized = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    return sized and not isinstance(data, tuple | list | Mapping | str)


def _part(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """The inputs and labels of one split: a pair of arrays, batches, or samples by number."""
    if _has_samples(part) and not hasattr(part, "shape"):
        return _joined([_alone(part[row]) for row in range(len(part))])
    two: list[Any] = list(cast("list[Any]", part)) if isinstance(part, tuple | list) else []
    pair = len(two) == 2 and all(hasattr(one, "shape") or isinstance(one, list) for one in two)
    pair = pair and not all(map(_is_batch, two))
    if pair or hasattr(part, "shape") or not isinstance(part, Iterable) or isinstance(part, str | Mapping):
        return _pair(part)
    return _joined(cast("Iterable[Any]", part))


def _is_batch(one: Any) -> bool:
    """Whether this is inputs and labels, as many as each other."""
    two = list(cast("list[Any]", one))[:2] if isinstance(one, list | tuple) else []
    return len(two) == 2 and all(getattr(part, "shape", ()) for part in two) and len(two[0]) == len(two[1])


def _alone(sample: Any) -> Any:
    """A sample as a batch of one."""
    if isinstance(sample, Mapping):
        return {name: _array(value)[None] for name, value in cast("Mapping[str, Any]", sample).items()}
    return [_array(value)[None] for value in sample] if isinstance(sample, tuple | list) else sample


def _pair(pair: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(pair, tuple | list) or len(cast("list[Any]", pair)) != 2:
        raise UsageError(
            f"A split is a pair of inputs and labels, not {type(pair).__name__}. Give (inputs, labels), or such pairs by name of their split: "
            '{"train": (inputs, labels), "test": (inputs, labels)}.'
        )
    return _array(pair[0]), _array(pair[1])


def _array(values: Any) -> np.ndarray:
    """As NumPy holds it; tensors come from where they are."""
    if hasattr(values, "detach"):
        if values.is_meta:
            raise InputError("These tensors have no values (device meta).")
        values = values.detach().cpu()
        values = values.to_dense() if "sparse" in str(values.layout) else values
        values = values.float() if "bfloat16" in str(values.dtype) else values
    if hasattr(values, "toarray"):  # a sparse matrix of SciPy
        require_memory(8 * math.prod(values.shape), "A sparse matrix written out", "Give fewer columns.")
        values = values.toarray()
    try:
        return unmasked(values)
    except InputError:
        raise
    except ValueError as error:
        raise InputError("These inputs or labels have not all the same shape, so that they make no array.") from error


def _joined(batches: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """All batches as one pair."""
    inputs: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for batch in batches:
        if isinstance(batch, Mapping):
            named = cast("Mapping[str, Any]", batch)
            pair = [next((named[name] for name in names if name in named), None) for names in (_INPUTS, _LABELS)]
        else:
            pair = list(cast("list[Any]", batch))[:2] if isinstance(batch, tuple | list) else []
        if len(pair) < 2 or any(part is None for part in pair):
            named = capped(map(str, cast("Mapping[str, Any]", batch))) if isinstance(batch, Mapping) else ""
            came = f"this one holds {named}" if named else f"this one is of type {type(batch).__name__}"
            raise InputError(
                f"A batch holds inputs and labels: a pair, or a mapping such as {{'pixel_values': …, 'labels': …}}; {came}. Samples in one piece "
                'are a pair of arrays, data=(inputs, labels), and several splits have names: {"train": …, "test": …}.'
            )
        for held, part in zip((inputs, labels), pair, strict=True):
            held.append(_array(part))
            if not held[-1].ndim or held[-1].shape[1:] != held[0].shape[1:] or len(held[-1]) != len(inputs[-1]):
                raise InputError(
                    "These are no batches, each with inputs and labels, one row per sample. Samples in one piece are a pair of arrays: "
                    "data=(inputs, labels)."
                )
    if not inputs:
        raise InputError("There are no batches.")
    return np.concatenate(inputs), np.concatenate(labels)


def _of_one_hot(labels: np.ndarray) -> np.ndarray:
    """The classes of rows that are 1 for the class and 0 for all others; other labels as they are."""
    rows = labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf"
    if rows and bool((((labels == 0) | (labels == 1)).all(1) & (labels.sum(1) == 1)).all()):
        return labels.argmax(1)
    return labels


def _splits(parts: Mapping[str, tuple[np.ndarray, np.ndarray]], task: Task) -> Dataset:
    if task == "classification":
        parts = {name: (inputs, _of_one_hot(labels)) for name, (inputs, labels) in parts.items()}
    if "test" not in parts:
        other = next((name for name in parts if part_named(name) in TEST_NAMES), None)
        parts = {"test" if name == other else name: part for name, part in parts.items()}
    if "train" not in parts:
        other = next((name for name in parts if part_named(name) == "train"), None)
        parts = {"train" if name == other else name: part for name, part in parts.items()}
    parts = {name: (_as_numbers(inputs), labels) for name, (inputs, labels) in parts.items()}
    if len(parts) == 1 or set(parts) == {"train", "test"}:
        pairs = [parts[name] for name in ("train", "test") if name in parts] or list(parts.values())
        if all(_is_known_form(inputs) for inputs, _ in pairs):
            (x, y), *test = pairs
            x_test, y_test = test[0] if test else (None, None)
            return from_arrays(x, y, x_test, y_test, task=task)
    raw = {name: labels if task == "regression" else labels.reshape(-1) for name, (_, labels) in parts.items()}
    for name, (inputs, _) in parts.items():
        texts = inputs.dtype.kind == "U" and inputs.ndim == 1
        if not (texts or (inputs.dtype.kind in "fiu" and inputs.ndim > 1)) or len(inputs) != len(raw[name]):
            raise InputError(
                f"The {name} split has inputs {inputs.shape} of type {inputs.dtype} and {len(raw[name])} labels; expected numbers, "
                "N x …, or texts, and one label per sample."
            )
    kinds: set[Kind] = {"text" if inputs.dtype.kind == "U" else "features" for inputs, _ in parts.values()}
    if len(kinds) > 1:
        raise InputError("Some splits hold texts and others numbers.")
    (kind,) = kinds
    if task == "regression" and kind == "features":
        return regression_arrays(parts, "features", "arrays", None)
    labels, classes = encode_labels(np.concatenate(list(raw.values())), None)
    splits: dict[str, Split] = {}
    start = 0
    for name, (inputs, _) in parts.items():
        chosen = labels[start : start + len(inputs)]
        start += len(inputs)
        read = Texts([[str(text) for text in inputs]]) if kind == "text" else Rows(inputs, "features")
        splits[name] = Split(name=name, kind=kind, labels=chosen, items=Numbered(name, len(inputs)), read=read)
    own = len(splits) > 1
    if not own:
        splits = {"all": replace(next(iter(splits.values())), name="all")}
    return Dataset(name="arrays", kind=kind, classes=classes, splits=splits, own_split=own)


def _as_numbers(inputs: np.ndarray) -> np.ndarray:
    """Yes and no as 1 and 0, and numbers of any type in one; anything else as it is."""
    if inputs.dtype.kind == "b":
        return inputs.astype(np.float32)
    if inputs.dtype.kind != "O":
        return inputs
    if inputs.ndim == 1 and all(isinstance(text, str) for text in inputs):
        return inputs.astype(str)
    try:
        return inputs.astype(np.float64)
    except (TypeError, ValueError):
        return inputs


def _is_known_form(inputs: np.ndarray) -> bool:
    floats = inputs.ndim == 2 and inputs.dtype.kind == "f"
    return floats or (inputs.dtype == np.uint8 and inputs.ndim in (3, 4))


def _frame(frame: Any, label_column: str | None, task: Task, *, labelled: bool, **columns: Any) -> Dataset:
    """A frame as the table that it is."""
    return table_of(
        frame_columns(frame),
        Path("the frame"),
        label_column=label_column,
        labelled=labelled,
        task=task,
        first=0,
        **columns,
    )
