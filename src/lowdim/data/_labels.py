"""Labels of any form as indices into class names, in one order for folders, tables and arrays; and what is odd about the names."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowdim.data._dataset import UNLABELLED, Dataset, Indices, Targets
from lowdim.errors import InputError, did_you_mean

_WHOLE = 2**53
"""Beyond it, floats are whole without having been meant so."""
_NUMBER = re.compile("0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(rf"(?:{_NUMBER.pattern})\.0*")
_SHOWN = 5
_UNKNOWN = frozenset({"na", "n/a", "#n/a", "<na>", "none", "null", "nil", "?", "-", "--", "unlabeled", "unlabelled"})
"""What is often written where no label is known, and may be a class as well."""


def are_numbers(names: Iterable[str]) -> bool:
    """Whether all of these names of classes are whole numbers as one writes them: "01" is a name, and differs from "1"."""
    return all(_NUMBER.fullmatch(name) for name in names)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes in their order: by number where all are numbers, else by their letters.

    Example:
        >>> in_order(["10", "9"]), in_order(["10", "9", "x"])
        (('9', '10'), ('10', '9', 'x'))
    """
    unique = set(names)
    return tuple(sorted(unique, key=int) if are_numbers(unique) else sorted(unique))


def is_missing(label: str) -> bool:
    """Whether a text is what is written where there is no label.

    Example:
        >>> [is_missing(text) for text in ("", " ", "nan", "NaN", "none", "0")]
        [True, True, True, True, False, False]
    """
    return label.strip().lower() in ("", "nan")


def label_notes(names: Iterable[str]) -> list[str]:
    """What to say about classes whose names differ by case, blanks or the way of writing a number alone, or stand for what is missing.

    Example:
        >>> label_notes(["pos", "Pos", "1", "1.0", "neg"])
        ["classes that differ in case, blanks or the way of writing a number alone: '1' and '1.0', 'Pos' and 'pos'"]
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        alike.setdefault(_plain(name), []).append(name)
    doubtful = [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    notes: list[str] = []
    if doubtful:
        shown = ", ".join(doubtful[:_SHOWN]) + (", …" if len(doubtful) > _SHOWN else "")
        notes.append(f"classes that differ in case, blanks or the way of writing a number alone: {shown}")
    unknown = [name for name in sorted(set(names)) if name.strip().casefold() in _UNKNOWN]
    if unknown:
        these = "this is" if len(unknown) == 1 else "these are"
        notes.append(
            f"{these} taken for a class: {', '.join(map(repr, unknown))}. Where no label is known, leave it empty"
        )
    return notes


def padded_notes(labels: Iterable[str]) -> list[str]:
    """What to say about labels with blanks around them, which `encode_labels` leaves out."""
    padded = sorted({label for label in labels if label != label.strip() and not is_missing(label)})
    shown = ", ".join(map(repr, padded[:_SHOWN])) + (", …" if len(padded) > _SHOWN else "")
    return [f"blanks around labels are no part of them: {shown}"] if padded else []


def _plain(name: str) -> str:
    text = " ".join(name.split()).casefold()
    try:
        return repr(float(text)) if text not in ("nan", "inf", "infinity") else text
    except ValueError:
        return text


def encode_labels(values: ArrayLike, classes: Sequence[str] | None = None) -> tuple[Indices, tuple[str, ...]]:
    """Labels of any form as indices into sorted class names.

    Blanks around a string are no part of it; where all strings are whole numbers, "1.0" is "1". With `classes`, integers index into them.

    Returns:
        int64 indices and the class names, in the order of `in_order`.

    Raises:
        InputError: If a label is missing, not a whole number, or outside the known classes, or two of these have one name.
    """
    twice = [name for name, count in Counter(name.strip() for name in classes or ()).items() if count > 1]
    if twice:
        raise InputError(f"Two classes have the name {twice[0]!r}. Give each a name of its own.")
    array: np.ndarray = np.asarray(values)
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"Labels are bytes that are not text ({error}). Save them as strings.") from error
    if array.dtype.kind in "OT" and all(isinstance(value, str) for value in array):
        array = array.astype(str)
    if array.dtype.kind == "f":
        if not np.all(np.abs(array) < _WHOLE) or np.any(array != np.round(array)):
            raise InputError(
                "Labels must be whole numbers or strings, but some are fractions, NaN, infinite or huge. Numbers that are to be "
                "predicted are a matter of `task=regression`, which `measure` and `rank` know."
            )
        array = array.astype(np.int64)
    if array.dtype.kind not in "iubU":
        raise InputError(f"Labels must be integers or strings, got an array of type {array.dtype}.")
    if array.dtype.kind == "U":
        return _encode_texts([str(value).strip() for value in array.reshape(-1)], classes)
    unique, indices = np.unique(array, return_inverse=True)
    if classes is not None:
        if len(unique) and (unique[0] < 0 or unique[-1] >= len(classes)):
            raise InputError(f"Labels run from {unique[0]} to {unique[-1]}, but there are {len(classes)} class names.")
        return array.astype(np.int64), tuple(classes)
    return indices.astype(np.int64).reshape(-1), tuple(str(value) for value in unique)


def _encode_texts(texts: list[str], classes: Sequence[str] | None) -> tuple[Indices, tuple[str, ...]]:
    numbers = [text.partition(".")[0] if _DECIMAL.fullmatch(text) else text for text in texts]
    texts = numbers if classes is None and are_numbers(set(numbers)) else texts
    missing = [row for row, text in enumerate(texts) if is_missing(text)]
    if missing and (classes is None or texts[missing[0]] not in classes):
        raise InputError(
            f"{len(missing)} of {len(texts)} labels are empty or 'nan' (the first: number {missing[0]}). Leave those samples out, or label them."
        )
    names = in_order(texts) if classes is None else tuple(classes)
    number = {name.strip(): index for index, name in enumerate(names)}
    strangers = sorted(set(texts) - number.keys())
    if strangers:
        raise InputError(f"Labels {strangers[:3]} are not among the class names. {did_you_mean(strangers[0], names)}")
    return np.array([number[text] for text in texts], dtype=np.int64), names


def numbers_of(name: str, values: Any, samples: int) -> Targets:
    """Numbers to be predicted, ``n x m``.

    Args:
        name: Of where they are from, in errors.
        values: One number per sample, or a row of them.
        samples: How many samples there are.

    Raises:
        InputError: If they are not that many finite numbers.
    """
    array = np.asarray(values)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) != samples or not array.shape[1]:
        raise InputError(
            f"{name} has shape {np.shape(values)}, but there are {samples} samples: a number, or a row of them, each."
        )
    try:
        targets = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} holds what is no number ({error}), so it cannot be predicted by `task=regression`."
        ) from error
    bad = np.flatnonzero(~np.isfinite(targets).all(axis=1))
    if len(bad):
        raise InputError(
            f"{name} is NaN or infinite for {len(bad)} of {samples} samples (the first: number {bad[0]}). Leave those out."
        )
    return targets


def with_numbers(dataset: Dataset) -> Dataset:
    """Data whose classes are called by numbers (ages as folders, ratings as labels), with these as what is to be predicted.

    Raises:
        InputError: If a class is not called by a number.
    """
    if dataset.outputs:
        return dataset
    try:
        numbers = np.array([float(name) for name in dataset.classes])
    except ValueError as error:
        raise InputError(
            f"{dataset.name} has labels that are no numbers ({error}); `task=regression` needs numbers."
        ) from error
    splits = {
        name: replace(split, labels=np.full(len(split), UNLABELLED), targets=numbers[split.labels][:, None])
        for name, split in dataset.splits.items()
    }
    return replace(dataset, splits=splits, classes=(), outputs=("label",))
