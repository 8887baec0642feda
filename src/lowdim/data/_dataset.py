"""Labelled data as lowdim sees it, and seeded choices among its samples."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lowdim._intervals import independent
from lowdim._random import child_seed
from lowdim.data._contents import Contents, contents_of, first_copies
from lowdim.errors import InputError, did_you_mean

Kind = Literal["image", "text", "features"]
Task = Literal["classification", "regression"]
Indices = NDArray[np.int64]
Targets = NDArray[np.float64]

UNLABELLED = -1
"""Label of a sample without one."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a data set; samples are read when asked for.

    Attributes:
        name: ``"train"``, ``"test"``, or ``"all"`` for data that is not split.
        kind: What `load` gives: a Pillow image, a text, or a feature row.
        labels: int64, one index into the data set's ``classes`` per sample; -1 where it has no label.
        items: A printable name per sample.
        read: Reads the raw sample of an index.
        targets: float64, one row of numbers to be predicted per sample; None where there are classes.

    Example:
        >>> rows = np.array([[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]])
        >>> split = Split(
        ...     name="train", kind="features", labels=np.array([0, 1, 1]), items=["a", "b", "c"], read=lambda i: rows[i]
        ... )
        >>> split.counts(2).tolist(), split.take(np.array([2])).load(0).tolist()
        ([1, 2], [4.0, 5.0])
    """

    name: str
    kind: Kind
    labels: Indices = field(repr=False)
    items: Sequence[str] = field(repr=False)
    read: Callable[[int], Any] = field(repr=False)
    targets: Targets | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> Any:
        """The raw sample: a Pillow image, a string or a float row.

        Raises:
            InputError: If the sample cannot be read; the error names it.
        """
        return self.read(int(index))

    @cached_property
    def contents(self) -> Contents:
        """sha256 of every sample's bytes (of a picture: of its file), ``n`` of type ``S32``. Reads every sample once, when asked for."""
        return contents_of(self.read, np.arange(len(self)))

    @cached_property
    def copies(self) -> Indices:
        """For every sample the position of the first one with the same bytes: its own where there is none before it."""
        return first_copies(self.contents)

    @property
    def independent(self) -> float:
        """How many independent samples each is worth: 1 without copies."""
        return independent(self.copies) / max(len(self), 1)

    def digest(self) -> str:
        """sha256 over labels, names and contents."""
        digest = hashlib.sha256(self.labels.tobytes())
        for item in self.items:
            digest.update(f"{item}\0".encode(errors="backslashreplace"))
        digest.update(self.contents.tobytes())
        if self.targets is not None:
            digest.update(self.targets.tobytes())
        return digest.hexdigest()

    def take(self, indices: Indices) -> "Split":
        """The split with these samples only, in this order.

        Args:
            indices: Positions in this split.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            labels=self.labels[chosen],
            items=_Chosen(self.items, chosen),
            read=_ChosenReader(self, chosen),
            targets=None if self.targets is None else self.targets[chosen],
        )

    def counts(self, classes: int) -> Indices:
        """Samples per class.

        Args:
            classes: Number of classes of the data set.
        """
        return np.bincount(self.labels, minlength=classes).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A labelled data set.

    Attributes:
        name: Where it came from.
        kind: ``"image"``, ``"text"`` or ``"features"``.
        classes: Class names; labels index into them. A class may have no sample in a split.
        splits: By name, ``"train"`` before ``"test"``; or ``"all"``.
        notes: How it was split, and what was left out and why.
        own_split: Whether train and test are the data's own; False where they were drawn, or where it is not split.
        outputs: Names of the numbers to be predicted; empty where there are classes. Such samples have the label -1.
        columns: Of a table, which were read: ``text_column``, ``path_column``, ``label_column``, as far as there are, and
            ``feature_columns``, a list.

    Example:
        >>> from lowdim.data import dataset_from_arrays
        >>> data = dataset_from_arrays(np.zeros((10, 2)), ["cat", "dog"] * 5)
        >>> data.classes, data.kind, {name: len(split) for name, split in data.splits.items()}
        (('cat', 'dog'), 'features', {'train': 8, 'test': 2})
    """

    name: str
    kind: Kind
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    notes: tuple[str, ...] = ()
    own_split: bool = True
    outputs: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __getitem__(self, split: str) -> Split:
        if split not in self.splits:
            raise InputError(f"{self.name} has no {split} split. {did_you_mean(split, self.splits)}")
        return self.splits[split]


@dataclass(frozen=True)
class _Chosen(Sequence[str]):
    items: Sequence[str]
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.items[int(i)] for i in self.indices[index]]
        return self.items[int(self.indices[index])]


@dataclass(frozen=True)
class _ChosenReader:
    split: Split
    indices: Indices

    def __call__(self, index: int) -> Any:
        return self.split.load(int(self.indices[index]))

    def contents(self, indices: Indices) -> Contents:
        """Of the split behind it: what is known there, or of these samples alone."""
        behind = self.indices[indices]
        known = self.split.__dict__.get("contents")
        return contents_of(self.split.read, behind) if known is None else known[behind]


def class_order(labels: Indices, seed: int, part: str) -> dict[int, Indices]:
    """A seeded order of the samples of each class; every choice takes a beginning of it, so choices nest."""
    order: dict[int, Indices] = {}
    for label in np.unique(labels):
        positions = np.flatnonzero(labels == label)
        name = "unlabelled" if label == UNLABELLED else int(label)
        order[int(label)] = np.random.default_rng(child_seed(seed, part, name)).permutation(positions)
    return order


def never_held_out(split: Split, classes: Sequence[str]) -> list[str]:
    """What to say of classes of a single sample, copies of which count once: cross-validation says nothing of them."""
    labels = split.labels[np.unique(split.copies, return_index=True)[1]]
    present, counts = np.unique(labels, return_counts=True)
    alone: list[int] = present[counts == 1].tolist()
    others: list[int] = present[counts > 1].tolist()
    if not alone or not others:
        return []
    names = ", ".join(classes[label] for label in alone[:5]) + (", …" if len(alone) > 5 else "")
    rest = "the other classes" if others[1:] else f"{classes[others[0]]} alone, which any classifier reaches"
    return [
        f"a single sample, which is never held out, so that what is cross-validated is the accuracy on {rest}: {names}"
    ]


def unseen_classes(dataset: Dataset) -> list[str]:
    """What to say of classes of the test split that no training sample is of."""
    if not {"train", "test"} <= set(dataset.splits):
        return []
    unseen = np.setdiff1d(dataset["test"].labels, dataset["train"].labels)
    names = ", ".join(dataset.classes[label] for label in unseen[:5].tolist()) + (", …" if len(unseen) > 5 else "")
    return (
        [f"classes of the test split without training samples, always counted as wrong: {names}"] if len(unseen) else []
    )


def untested_classes(dataset: Dataset) -> list[str]:
    """What to say of classes that there are training samples of, and none to test on."""
    absent = np.setdiff1d(dataset["train"].labels, dataset["test"].labels)
    names = ", ".join(dataset.classes[label] for label in absent[:5].tolist()) + (", …" if len(absent) > 5 else "")
    return [f"classes without a test sample, of which the accuracy says nothing: {names}"] if len(absent) else []


def spread(part: Indices, copies: Indices | None) -> Indices:
    """What was decided for the first of each group of copies, decided for all of them; `part` has one entry per group."""
    return part if copies is None else part[np.searchsorted(np.unique(copies), copies)]


def train_test_indices(
    labels: Indices, seed: int, *, test_share: float = 0.2, copies: Indices | None = None
) -> tuple[Indices, Indices]:
    """A stratified split; a class of two or more different samples is on both sides, a class of one only in train. Copies stay together: of
    a class in which there are any, as many samples are held out as fit without more than the share, at least the fewest. A share of 0
    holds nothing back.

    Returns:
        Sorted train and test positions.
    """
    first, sizes = np.arange(len(labels)), np.ones(len(labels), dtype=np.int64)
    if copies is not None:
        first, sizes = np.unique(copies, return_counts=True)
    held_out = np.zeros(len(first), dtype=bool)
    for positions in class_order(labels[first], seed, "split").values():
        if test_share and len(positions) > 1:
            wanted = max(1, round(test_share * int(sizes[positions].sum())))
            held_out[_fitting(positions, sizes[positions], wanted)] = True
    held_out = spread(held_out, copies)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _fitting(positions: Indices, sizes: Indices, wanted: int) -> Indices:
    """Groups of copies in their order, each where it still fits; the smallest where none does."""
    chosen: list[int] = []
    left = wanted
    for position, size in zip(positions.tolist(), sizes.tolist(), strict=True):
        if size <= left:
            chosen.append(position)
            left -= size
    return np.array(chosen or [positions[sizes.argmin()]])


def divided(dataset: Dataset, seed: int, test_share: float = 0.2) -> Dataset:
    """Data that is one split ``all`` as stratified train and test splits, or for a share of 0 as train alone; data with a split of its own
    as it is."""
    if dataset.own_split:
        return dataset
    whole = dataset["all"]
    # Two networks' features of the same samples must be divided alike, and one of them may give equal rows for different samples.
    copies = None if whole.kind == "features" else whole.copies
    parts = dict(
        zip(
            ("train", "test"), train_test_indices(whole.labels, seed, test_share=test_share, copies=copies), strict=True
        )
    )
    splits = {name: replace(whole.take(chosen), name=name) for name, chosen in parts.items() if len(chosen)}
    untested = [] if copies is None or not test_share else _untested(dataset, parts["test"])
    kept = f"{100 - 100 * test_share:g} % train, {100 * test_share:g} % test, seed {seed}"
    note = (
        f"split: {'' if dataset.outputs else 'stratified, '}{kept}" if test_share else "split: none, all samples train"
    )
    return replace(dataset, splits=splits, notes=(*dataset.notes, note, *untested))


def _untested(dataset: Dataset, test: Indices) -> list[str]:
    """What to say of classes of several samples that are all copies of one."""
    labels = dataset["all"].labels
    alone = [
        name
        for label, name in enumerate(dataset.classes)
        if (labels == label).sum() > 1 and not (labels[test] == label).any()
    ]
    more = ", …" if len(alone) > 5 else ""
    return [f"no test sample, for all samples are copies of one: {', '.join(alone[:5])}{more}"] if alone else []


def limited_indices(labels: Indices, limit: int, seed: int) -> Indices:
    """A stratified choice of ``limit`` samples: shares rounded by largest remainder, at least one per class if it fits."""
    if limit >= len(labels):
        return np.arange(len(labels))
    order = class_order(labels, seed, "choice")
    sizes = np.array([len(positions) for positions in order.values()])
    floor = 1 if limit >= len(sizes) else 0
    # A class keeps one sample, the rest is shared out in proportion.
    exact = (sizes - floor) * ((limit - floor * len(sizes)) / (sizes.sum() - floor * len(sizes)))
    quota = np.floor(exact + 1e-9).astype(int)
    missing = limit - floor * len(sizes) - quota.sum()
    quota[np.argsort(-(exact - quota), kind="stable")[:missing]] += 1
    chosen = [positions[: count + floor] for positions, count in zip(order.values(), quota, strict=True)]
    return _sorted(chosen)


def few_shot_indices(labels: Indices, shots: int, seed: int) -> Indices:
    """``shots`` samples of every class, or all of a class that has fewer.

    Fewer shots are a part of more.
    """
    return _sorted([positions[:shots] for positions in class_order(labels, seed, "choice").values()])


def _sorted(parts: list[Indices]) -> Indices:
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)
