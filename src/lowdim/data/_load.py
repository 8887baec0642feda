"""From what a person types to a data set."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lowdim._arguments import checked_arguments
from lowdim._pictures import EXTENSIONS
from lowdim._reading import said
from lowdim.data._arrays import load_npz
from lowdim.data._dataset import Dataset, Split, Task, divided, few_shot_indices, limited_indices
from lowdim.data._digits import DIGITS_TASKS, load_digits
from lowdim.data._folder import ImageFiles, load_folder, load_picture
from lowdim.data._images import depth_notes
from lowdim.data._labels import with_numbers
from lowdim.data._official import load_official
from lowdim.data._table import ENDINGS, load_table
from lowdim.errors import InputError, UsageError, did_you_mean


@checked_arguments
def load_data(
    spec: str | os.PathLike[str],
    *,
    path_column: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    path_root: Path | None = None,
    usual: Mapping[str, str | Sequence[str]] | None = None,
    limit: int | None = None,
    shots: int | None = None,
    seed: int = 0,
    skip_unreadable: bool = False,
    whole: bool = False,
    test_share: float = 0.2,
    task: Task = "classification",
) -> Dataset:
    """A labelled data set from its name.

    Args:
        spec: ``digits`` (and its tasks, see `load_digits`), an image folder, ``FILE.npz``, a table (``FILE.csv``, ``.tsv``, ``.jsonl``,
            ``.parquet``, ``.xlsx``; text also as ``.gz`` or ``.zip``) or ``torchvision:NAME@ROOT``.
        path_column: Of a table: picture files.
        text_column: Of a table: texts; two columns of pairs of texts, separated by a comma.
        label_column: Of a table: labels.
        path_root: Of a table: folder that picture paths start from and may not leave; default that of the table.
        usual: Of a table, where none is named: the ``columns`` of another like it, taken where they are there, too; its features are
            taken by name.
        limit: Keep so many samples of each split, stratified.
        shots: Keep so many samples of each class of the train split.
        seed: Of the split (where there is none) and of ``limit`` and ``shots``.
        skip_unreadable: Decode every picture once and leave out, with a note, the ones that cannot be read.
        whole: For data to classify. What has no split of its own comes as one split ``all``, and labels may be missing (-1):
            pictures in no class folder, a single picture, a table without a label column, ``x_train`` alone.
        test_share: Of what has no split of its own; with 0 all of it is the train split.
        task: ``"regression"`` where labels are numbers to be predicted; ``y_train`` and ``label_column`` may then be several.

    Returns:
        The data set; its ``notes`` say how it was split and what was left out.

    Raises:
        UsageError: If the options contradict each other.
        InputError: If the data is missing or unusable.

    Example:
        >>> data = load_data("digits", shots=5)
        >>> len(data["train"]), len(data["test"]), len(data.classes)
        (50, 797, 10)
    """
    for name, value in (("limit", limit), ("shots", shots)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}.")
    dataset = _read(
        os.fspath(spec),
        labelled=not whole,
        path_column=path_column,
        text_column=text_column,
        label_column=label_column,
        path_root=path_root,
        usual=usual,
        task=task,
    )
    files = [split.read for split in dataset.splits.values() if isinstance(split.read, ImageFiles)]
    dark = depth_notes([path for read in files for path in read.paths])
    dataset = replace(dataset, notes=(*dataset.notes, *dark))
    dataset = with_numbers(dataset) if task == "regression" else dataset
    if not whole:
        dataset = divided(dataset, seed, test_share)
    if skip_unreadable and dataset.kind == "image":
        dataset = _without_unreadable(dataset)
    return choose(dataset, limit=limit, shots=shots, seed=seed)


def choose(dataset: Dataset, *, limit: int | None = None, shots: int | None = None, seed: int = 0) -> Dataset:
    """Fewer samples of the same data set: ``shots`` per train class, then at most ``limit`` per split, both stratified.

    Args:
        dataset: The whole.
        limit: Samples per split.
        shots: Samples per class of the train split.
        seed: The same seed gives the same samples, and fewer of them are a part of more.

    Returns:
        A data set that reads from the same source.

    Raises:
        UsageError: If samples are to be counted by class where there are no classes.

    Example:
        >>> from lowdim.data import load_digits
        >>> fewer = choose(load_digits(), shots=2, limit=50)
        >>> {name: len(split) for name, split in fewer.splits.items()}
        {'train': 20, 'test': 50}
    """
    splits = dict(dataset.splits)
    notes = list(dataset.notes)
    if shots is not None and dataset.outputs:
        raise UsageError("`shots` counts samples of each class, and here are none. Use `limit`.", argument="shots")
    if shots is not None and "train" in splits:
        train = splits["train"]
        counts = train.counts(len(dataset.classes))
        short = [dataset.classes[i] for i in np.flatnonzero(counts < shots)]
        if short:
            notes.append(f"fewer than {shots} train samples: {', '.join(short[:5])}{' …' if len(short) > 5 else ''}")
        splits["train"] = train.take(few_shot_indices(train.labels, shots, seed))
    if limit is not None:
        splits = {
            name: split.take(limited_indices(split.labels, limit, seed)) if limit < len(split) else split
            for name, split in splits.items()
        }
    return replace(dataset, splits=splits, notes=tuple(notes))


def _read(
    spec: str, *, labelled: bool, task: Task, usual: Mapping[str, str | Sequence[str]] | None, **columns: Any
) -> Dataset:
    path = Path(spec).expanduser()
    suffix = path.suffix.lower()
    is_table = path.name.lower().endswith(ENDINGS)
    if not is_table and any(columns.values()):
        raise UsageError(f"Columns are named for tables only (.csv, .tsv, .jsonl and others), not for {spec}.")
    if spec.startswith("torchvision:"):
        return load_official(spec.removeprefix("torchvision:"))
    with said(path, "data"):
        if path.is_symlink():
            path.stat()  # a link that leads nowhere, or in a circle, says so
        there = path.exists()
    if spec in DIGITS_TASKS and not there:
        return load_digits(spec)
    if path.is_dir():
        with said(path, "an image folder"):
            return load_folder(path, labelled=labelled)
    if not there:
        one = "" if labelled else "a picture, "
        raise InputError(
            f"There is no data at {spec}. Give an image folder, {one}a .npz, .csv or .tsv file, torchvision:NAME@ROOT "
            f"or an embedded set. {did_you_mean(spec, DIGITS_TASKS)}"
        )
    if suffix == ".npz":
        return load_npz(path, labelled=labelled, task=task)
    if suffix in EXTENSIONS and not labelled:
        return load_picture(path)
    if is_table:
        return load_table(path, labelled=labelled, task=task, usual=usual, **columns)
    if suffix in (".npy", ".pt", ".pth", ".safetensors", ".pkl", ".mat", ".h5", ".hdf5"):
        raise InputError(
            f"{spec} is no data lowdim reads: save features and labels together, numpy.savez('FILE.npz', x_train=features, y_train=labels), "
            "or give them in Python."
        )
    raise InputError(f"{spec} is no data lowdim reads: give an image folder or a .npz, .csv or .tsv file.")


def _without_unreadable(dataset: Dataset) -> Dataset:
    splits: dict[str, Split] = {}
    notes = list(dataset.notes)
    for name, split in dataset.splits.items():
        bad = [index for index in range(len(split)) if not _readable(split, index)]
        notes.extend(f"left out of {name}, unreadable: {split.items[index]}" for index in bad)
        splits[name] = split.take(np.setdiff1d(np.arange(len(split)), bad))
    return replace(dataset, splits=splits, notes=tuple(notes))


def _readable(split: Split, index: int) -> bool:
    try:
        split.load(index)
    except InputError:
        return False
    return True
