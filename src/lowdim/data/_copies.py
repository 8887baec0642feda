"""Samples that are there more than once: within a split, across train and test, under two labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lowdim.data._contents import first_copies
from lowdim.data._dataset import Dataset, Indices, Split

_SHOWN = 5


@dataclass(frozen=True)
class Copies:
    """Pairs of samples with the same bytes: the later one, and an earlier one.

    Attributes:
        repeated: Positions in a split whose sample is there before, and where.
        disputed: Those of them with another label than there.
    """

    repeated: tuple[Indices, Indices]
    disputed: tuple[Indices, Indices]


def copies_within(split: Split) -> Copies:
    """The samples of a split that are in it before."""
    return _pairs(split.copies, split, split, np.arange(len(split)))


def copies_across(train: Split, test: Split) -> Copies:
    """The samples of a test split that are also in the train split.

    Example:
        >>> from lowdim.data import dataset_from_arrays
        >>> data = dataset_from_arrays(np.eye(4), [0, 0, 1, 1], np.eye(4)[[3, 2]] * [[1], [2]], [0, 1])
        >>> again = copies_across(data["train"], data["test"])
        >>> [pair.tolist() for pair in again.repeated], [pair.tolist() for pair in again.disputed]
        ([[0], [3]], [[0], [3]])
    """
    both = first_copies(np.concatenate([train.contents, test.contents]))[len(train) :]
    return _pairs(both, test, train, np.full(len(test), len(train)))


def _pairs(first: Indices, later: Split, earlier: Split, start: Indices) -> Copies:
    there = np.flatnonzero(first < start)
    if later.kind == "features":  # two rows of NaN are nobody's copies
        there = there[[bool(np.isfinite(later.load(index)).all()) for index in there.tolist()]]
    disputed = there[later.labels[there] != earlier.labels[first[there]]]
    return Copies((there, first[there]), (disputed, first[disputed]))


def said_of_copies(split: str, repeated: int, samples: int) -> str:
    """How many samples of a split are there before, and what follows."""
    return (
        f"{repeated} of {samples} samples of the {split} split are copies of others, which stay in one fold and one half, and count with "
        "them as one in intervals"
    )


def said_without_copies(split: str, accuracy: float, alone: float) -> str:
    """What to say of an accuracy where some test samples are also in train, beside that of the others."""
    return f"{split} accuracy without the samples that are also in train: {100 * alone:.1f} % (with them {100 * accuracy:.1f} %)"


def copy_warnings(data: Dataset, names: Sequence[str]) -> list[str]:
    """What to say about copies in some splits of a data set."""
    warnings: list[str] = []
    for name in names:
        split, found = data[name], copies_within(data[name])
        if len(found.repeated[0]):
            warnings.append(
                f"{said_of_copies(name, len(found.repeated[0]), len(split))} ({_listed(found.repeated, split, split)})"
            )
        if len(found.disputed[0]):
            warnings.append(
                f"{len(found.disputed[0])} samples of the {name} split stand under two labels, of which at most one can be right "
                f"({_listed(found.disputed, split, split, data.classes)})"
            )
    if {"train", "test"} <= set(names):
        train, test = data["train"], data["test"]
        found = copies_across(train, test)
        if len(found.repeated[0]):
            warnings.append(
                f"{len(found.repeated[0])} of {len(test)} test samples are also in train, so test numbers are too good "
                f"({_listed(found.repeated, test, train)})"
            )
        if len(found.disputed[0]):
            warnings.append(
                f"{len(found.disputed[0])} of them have another label there ({_listed(found.disputed, test, train, data.classes)})"
            )
    return warnings


def _listed(pairs: tuple[Indices, Indices], later: Split, earlier: Split, classes: Sequence[str] = ()) -> str:
    def shown(split: Split, position: int) -> str:
        label = f" ({classes[split.labels[position]]})" if classes else ""
        return f"{split.items[position]}{label}"

    rows = list(zip(*(positions.tolist() for positions in pairs), strict=True))
    text = ", ".join(f"{shown(later, one)} = {shown(earlier, other)}" for one, other in rows[:_SHOWN])
    return f"{text}, …" if len(rows) > _SHOWN else text
