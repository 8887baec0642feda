"""Tables: a ``.csv`` or ``.tsv`` file with a label column and a column of texts or of picture paths."""

import csv
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lowdim.data._dataset import UNLABELLED, Dataset, Split, encode_labels
from lowdim.data._folder import image_split
from lowdim.errors import InputError, did_you_mean

_SPLITS = {"train": "train", "test": "test", "val": "test", "valid": "test", "validation": "test", "dev": "test"}
_MAX_FIELD = 10_000_000
_SHOWN = 80
"""Characters of a text where it stands for its row."""


@dataclass(frozen=True)
class Texts:
    """Reads texts by index; of several columns, the texts of a row together."""

    columns: Sequence[Sequence[str]]

    def __call__(self, index: int) -> str | tuple[str, ...]:
        row = [column[index] for column in self.columns]
        return row[0] if len(row) == 1 else tuple(row)

    def stamp(self, index: int) -> bytes:
        """The texts themselves."""
        return "\0".join(column[index] for column in self.columns).encode()


def _shown(row: int, texts: Sequence[str]) -> str:
    """A row as results name it: its number in the file and how its text begins."""
    text = " / ".join(" ".join(text.split()) for text in texts)
    return f"row {row}: {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}"


def load_table(
    path: Path,
    *,
    path_column: str | None,
    text_column: str | None,
    label_column: str | None,
    labelled: bool = True,
) -> Dataset:
    """A table of texts, or of pictures named relative to the table's folder.

    A ``.tsv`` file is read without quoting, a ``.csv`` file with double quotes. A column ``split`` with train and
    test (or val) is honoured.

    Args:
        path: The table; its first line names the columns.
        path_column: Column with picture files.
        text_column: Column with texts; two columns of pairs of texts are separated by a comma.
        label_column: Column with labels; by default the column called ``label`` or ``class``.
        labelled: Whether there has to be a column with labels.

    Raises:
        InputError: If the table or one of its rows cannot be used.
    """
    columns = _read_columns(path)
    if path_column and text_column:
        raise InputError("Name a path column or a text column, not both.")
    if not path_column and not text_column:
        guesses = [name for name in ("text", "sentence", "path", "image", "file") if name in columns]
        path_column, text_column = _as_path_or_text(guesses[0]) if guesses else (None, None)
    names = [path_column] if path_column else _text_columns(columns, text_column)
    contents = [_column(path, columns, name, "the samples", "`text_column` or `path_column`") for name in names]
    content = contents[0]
    guess = next((name for name in ("label", "class", "target") if name in columns), None)
    named = label_column or guess
    labels, classes = np.full(len(content), UNLABELLED), ()
    if named or labelled:
        labels, classes = encode_labels(_column(path, columns, named, "the labels", "`label_column`"))
    if not content:
        raise InputError(f"{path} has no rows.")
    if path_column:
        root = path.parent.resolve()
        whole = image_split("all", _inside(content, root, path), labels, root)
    else:
        items = [_shown(row, texts) for row, texts in enumerate(zip(*contents, strict=True), start=2)]
        whole = Split(name="all", kind="text", labels=labels, items=items, read=Texts(contents))
    dataset = Dataset(name=path.stem, kind=whole.kind, classes=classes, splits={"all": whole}, own_split=False)
    return dataset if "split" not in columns else _split(dataset, columns["split"], path)


def _text_columns(columns: dict[str, list[str]], name: str | None) -> list[str | None]:
    if name is None or name in columns or "," not in name:
        return [name]
    names = [part.strip() for part in name.split(",")]
    if len(names) != 2:
        raise InputError(f"Texts come alone or in pairs, but {name!r} names {len(names)} columns.")
    return [*names]


def _as_path_or_text(name: str) -> tuple[str | None, str | None]:
    return (None, name) if name in ("text", "sentence") else (name, None)


def _read_columns(path: Path) -> dict[str, list[str]]:
    csv.field_size_limit(_MAX_FIELD)
    tabs = path.suffix.lower() == ".tsv"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
            reader = csv.reader(file, delimiter="\t" if tabs else ",", quoting=quoting, strict=True)
            header = next(reader, None)
            if not header:
                raise InputError(f"{path} is empty; its first line should name the columns.")
            columns: list[list[str]] = [[] for _ in header]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"{path}, line {reader.line_num}: {len(row)} fields, but the first line names {len(header)}."
                    )
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    except csv.Error as error:
        raise InputError(f"{path} is not a readable table: {error}.") from error
    if len(set(header)) < len(header):
        raise InputError(f"{path} names a column twice: {', '.join(header)}.")
    return dict(zip(header, columns, strict=True))


def _column(path: Path, columns: dict[str, list[str]], name: str | None, what: str, option: str) -> list[str]:
    if name is None:
        raise InputError(f"Which column of {path} holds {what}? Say {option}; there are: {', '.join(columns)}.")
    if name not in columns:
        raise InputError(f"{path} has no column {name!r}. {did_you_mean(name, columns)}")
    return columns[name]


def _inside(names: list[str], root: Path, table: Path) -> list[Path]:
    paths: list[Path] = []
    for row, name in enumerate(names, start=2):
        target = (root / name).resolve()
        if not target.is_relative_to(root):
            raise InputError(f"{table}, row {row}: {name!r} leads out of {root}. Paths are relative to the table.")
        paths.append(target)
    return paths


def _split(dataset: Dataset, column: list[str], path: Path) -> Dataset:
    unknown = sorted(set(column) - set(_SPLITS))
    if unknown:
        raise InputError(
            f"{path}: column 'split' holds {', '.join(map(repr, itertools.islice(unknown, 5)))}; expected train and test."
        )
    whole, parts = dataset["all"], np.array([_SPLITS[value] for value in column])
    chosen = {name: np.flatnonzero(parts == name) for name in ("train", "test")}
    splits = {name: replace(whole.take(rows), name=name) for name, rows in chosen.items() if len(rows)}
    return replace(dataset, splits=splits, notes=("split: the table's own column 'split'",), own_split=True)
