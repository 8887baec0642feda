"""Data in any form in which a caller holds it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from lowdim.data._arrays import Numbered, Rows, dataset_from_arrays, regression_arrays, unmasked
from lowdim.data._dataset import Dataset, Split, Task, divided
from lowdim.data._labels import encode_labels, with_numbers
from lowdim.data._load import choose, load_data
from lowdim.errors import InputError, UsageError

_INPUTS = ("pixel_values", "inputs", "input", "images", "image", "x")
_LABELS = ("labels", "label", "targets", "target", "y")


def as_dataset(
    data: Any,
    *,
    label_column: str | None = None,
    limit: int | None = None,
    shots: int | None = None,
    seed: int = 0,
    task: Task = "classification",
    **how: Any,
) -> Dataset:
    """A data set from its name, a path, arrays or tensors, a pandas frame, batches, or itself.

    Args:
        data: What `load_data` takes; a `Dataset`; ``(inputs, labels)`` of arrays or tensors, or such pairs by split name; a pandas
            frame with `label_column`; or batches, such as a ``DataLoader`` gives: pairs, or mappings with inputs and labels. Inputs
            are uint8 images N x H x W [x 1 or 3], features N x d, or floats of any other shape that the network takes as they are.
        label_column: Of a table or frame.
        limit: Keep so many samples of each split, stratified.
        shots: Keep so many training samples of each class.
        seed: Of the split, where there is none, and of `limit` and `shots`.
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
        return load_data(spec, label_column=label_column, limit=limit, shots=shots, seed=seed, task=task, **how)
    given = [name for name, value in how.items() if value]
    if given:
        raise UsageError(
            f"`{given[0]}` is for data in files, not for {type(data).__name__} objects.", argument=given[0]
        )
    dataset = _dataset(data, label_column, task)
    dataset = with_numbers(dataset) if task == "regression" else dataset
    dataset = divided(dataset, seed) if set(dataset.splits) == {"all"} else dataset
    return choose(dataset, limit=limit, shots=shots, seed=seed)


def _dataset(data: Any, label_column: str | None, task: Task) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        return _frame(data, label_column, task)
    if isinstance(data, Mapping):
        parts = {str(name): _pair(pair) for name, pair in cast("Mapping[Any, Any]", data).items()}
    elif _is_pair(data):
        parts = {"train": _pair(data)}
    elif isinstance(data, Iterable):
        parts = {"train": _joined(cast("Iterable[Any]", data))}
    else:
        raise UsageError(
            f"Data is a name, a path, a pair of inputs and labels, a frame or batches, not {type(data).__name__}."
        )
    return _splits(parts, task)


def _is_pair(data: Any) -> bool:
    return isinstance(data, tuple | list) and len(cast("list[Any]", data)) == 2 and hasattr(data[0], "shape")


def _pair(pair: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(pair, tuple | list) or len(cast("list[Any]", pair)) != 2:
        raise UsageError(f"A split is a pair of inputs and labels, not {type(pair).__name__}.")
    return _array(pair[0]), _array(pair[1])


def _array(values: Any) -> np.ndarray:
    """As NumPy holds it; tensors come from where they are."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if "bfloat16" in str(values.dtype) else values
    return unmasked(values)


def _joined(batches: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """All batches as one pair."""
    inputs: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for batch in batches:
        if isinstance(batch, Mapping):
            named = cast("Mapping[str, Any]", batch)
            pair = [next((named[name] for name in names if name in named), None) for names in (_INPUTS, _LABELS)]
        else:
            pair = list(batch)[:2]
        if len(pair) < 2 or any(part is None for part in pair):
            raise InputError(
                "A batch holds inputs and labels: a pair, or a mapping such as {'pixel_values': …, 'labels': …}."
            )
        inputs.append(_array(pair[0]))
        labels.append(_array(pair[1]))
    if not inputs:
        raise InputError("There are no batches.")
    return np.concatenate(inputs), np.concatenate(labels)


def _splits(parts: Mapping[str, tuple[np.ndarray, np.ndarray]], task: Task) -> Dataset:
    if len(parts) == 1 or set(parts) == {"train", "test"}:
        pairs = [parts[name] for name in ("train", "test") if name in parts] or list(parts.values())
        arrays = [value for pair in pairs for value in pair]
        if all(_is_known_form(inputs) for inputs, _ in pairs):
            return dataset_from_arrays(*arrays, task=task)
    raw = {name: labels if task == "regression" else labels.reshape(-1) for name, (_, labels) in parts.items()}
    for name, (inputs, _) in parts.items():
        if inputs.dtype.kind not in "fiu" or inputs.ndim < 2 or len(inputs) != len(raw[name]):
            raise InputError(
                f"The {name} split has inputs {inputs.shape} of type {inputs.dtype} and {len(raw[name])} labels; expected numbers, "
                "N x …, and one label per sample."
            )
    if task == "regression":
        return regression_arrays(parts, "features", "arrays", None)
    labels, classes = encode_labels(np.concatenate(list(raw.values())), None)
    splits: dict[str, Split] = {}
    start = 0
    for name, (inputs, _) in parts.items():
        chosen = labels[start : start + len(inputs)]
        start += len(inputs)
        splits[name] = Split(
            name=name, kind="features", labels=chosen, items=Numbered(name, len(inputs)), read=Rows(inputs, "features")
        )
    own = len(splits) > 1
    if not own:
        splits = {"all": replace(next(iter(splits.values())), name="all")}
    return Dataset(name="arrays", kind="features", classes=classes, splits=splits, own_split=own)


def _is_known_form(inputs: np.ndarray) -> bool:
    floats = inputs.ndim == 2 and inputs.dtype.kind == "f"
    return floats or (inputs.dtype == np.uint8 and inputs.ndim in (3, 4))


def _frame(frame: Any, label_column: str | None, task: Task) -> Dataset:
    columns = [str(name) for name in frame.columns]
    outputs = [label_column] if label_column in columns else (label_column or "").split(",")
    outputs = outputs if task == "regression" else [label_column]
    if not set(outputs) <= set(columns):
        raise UsageError(
            f"Say which column of the frame holds the labels with `label_column`: {', '.join(columns[:8])}.",
            argument="label_column",
        )
    numbers = [name for name in columns if name not in outputs and np.asarray(frame[name]).dtype.kind in "fiub"]
    if not numbers:
        raise InputError("The frame has no column of numbers beside its labels.")
    inputs = np.stack([np.asarray(frame[name], dtype=np.float32) for name in numbers], axis=1)
    if task == "regression":
        return dataset_from_arrays(
            inputs, np.asarray(frame[outputs]), classes=[str(name) for name in outputs], name="frame", task=task
        )
    return dataset_from_arrays(inputs, np.asarray(frame[label_column]).astype(str), name="frame")
