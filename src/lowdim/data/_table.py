"""Tables in any usual form with a column of labels, and a column of texts or of picture paths."""

import gzip
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast
from urllib.parse import unquote

import numpy as np

from lowdim._pictures import EXTENSIONS
from lowdim._reading import reading, said
from lowdim.data._arrays import Rows
from lowdim.data._dataset import UNLABELLED, Dataset, Split, Task
from lowdim.data._finite import some
from lowdim.data._folder import TEST_NAMES, image_split, part_named
from lowdim.data._labels import encode_labels, is_missing, label_notes, numbers_of, padded_notes
from lowdim.errors import InputError, did_you_mean

ENDINGS = (
    ".csv",
    ".tsv",
    ".jsonl",
    ".ndjson",
    ".parquet",
    ".xlsx",
    ".csv.gz",
    ".tsv.gz",
    ".jsonl.gz",
    ".ndjson.gz",
    ".zip",
)
"""Of the names of files that are read as tables."""
TEXTS = ("text", "sentence")
PATHS = ("path", "image", "file", "filename")
LABELS = ("label", "class", "target")
FEATURES = "feature_columns"
"""Under which a data set names the columns of numbers that were read."""
Columns: TypeAlias = "dict[str, list[str] | np.ndarray]"
_DIFFERENT = 0.8
"""Values of a column over its rows, from which it holds no classes."""
_COUNTED = ("position, from 0", "line in the file", "number in the file: the header is row 1")
"""What the first row of data is called, and why."""
_ENOUGH = 20
"""Rows from which that is told."""
_SHOWN = 80
"""Characters of a text where it stands for its row."""


@dataclass(frozen=True)
class Texts:
    """Reads texts by index; of several columns, the texts of a row together."""

    columns: Sequence[Sequence[str]]

    def __call__(self, index: int) -> str | tuple[str, ...]:
        row = [column[index] for column in self.columns]
        return row[0] if len(row) == 1 else tuple(row)


def _shown(row: int, texts: Sequence[str]) -> str:
    """A row as results name it: its number in the file and how its text begins."""
    text = " / ".join(" ".join(text.split()) for text in texts)
    return f"row {row}: {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}"


def load_table(path: Path, **how: Any) -> Dataset:
    """A table of texts, of pictures, or for regression also of numbers.

    Text with any separator, encoding and quoting, JSON lines, Parquet and Excel, compressed or not. A column ``split`` with train and
    test (or val, where there is no test) is honoured. Rows without a label or a text (empty or ``nan``) are left out, with a note.

    The label column is by default the one called ``label``, ``class`` or ``target``; ``A,B`` as text column gives pairs of texts. For
    regression, several label columns are separated by commas. Without texts and pictures, other columns of numbers are features: for
    regression those that hold nothing else, for classes only where all of them do.

    Args:
        path: The file.
        how: As `table_of` takes it.

    Raises:
        InputError: If the table or one of its rows cannot be used.
    """
    lines = ".jsonl" in path.suffixes or ".ndjson" in path.suffixes
    first = 0 if path.suffix.lower() == ".parquet" else 1 if lines else 2
    return table_of(_read_columns(path), path, first=first, **how)


def frame_columns(frame: Any) -> Columns:
    """The columns of a pandas or polars frame; numbers stay numbers."""
    columns: Columns = {}
    names = [str(name) for name in frame.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"The frame has several columns called {some(twice, range(len(twice)))}: rename all but one.")
    for name in frame.columns:
        cells = np.asarray(frame[name])
        columns[str(name)] = cells if cells.dtype.kind in "fiub" else [_as_text(cell) for cell in cells.tolist()]
    return columns


def table_of(
    columns: Columns,
    path: Path,
    *,
    path_column: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    path_root: Path | None = None,
    usual: Mapping[str, str | Sequence[str]] | None = None,
    labelled: bool = True,
    task: Task = "classification",
    first: int = 2,
) -> Dataset:
    """`load_table` of columns that were read; `path` is where from, and `first` the number of the first row."""
    if path_column and text_column:
        raise InputError("Name a path column or a text column, not both.")
    if path_root is not None and not path_root.is_dir():
        raise InputError(f"`path_root` {path_root} is no folder.")
    if not any(map(len, columns.values())):
        raise InputError(f"{path} has no row.")
    asked = bool(path_column or text_column)
    again = {
        option: name
        for option, name in (usual or {}).items()
        if isinstance(name, str) and (name in columns or all(part.strip() in columns for part in name.split(",")))
    }
    features = _names_in((usual or {}).get(FEATURES))
    if not path_column and not text_column:
        path_column, text_column = again.get("path_column"), again.get("text_column")
    label_column = label_column or again.get("label_column")
    if not path_column and not text_column:
        text_column = _named(columns, TEXTS)
        path_column = None if text_column else _named(columns, PATHS)
    named, notes, classes = label_column or _named(columns, LABELS), list[str](), ()
    doubles = [name for name in columns if name.strip().lower() in LABELS and name != named]
    if doubles and labelled and not label_column:
        notes.append(f"labels: {named!r}; {', '.join(map(repr, doubles))} might be them, too: say `label_column`")
    if not path_column and not text_column and not features and path.is_file():
        path_column = _of_pictures(_others(columns, [named]), (path_root or path.parent).resolve())
        notes += [f"pictures are named in {path_column!r}"] if path_column else []
    if path_column and labelled and named is None and len(only := [*_others(columns, [path_column])]) == 1:
        named, notes = only[0], [*notes, f"labels: {only[0]!r}, the only other column"]
    outputs = _several(columns, named) if task == "regression" else []
    if not path_column and not text_column and (features or outputs or _all_numbers(columns, named)):
        whole, features, unused = _numbers(path, columns, outputs or [named], features, first)
    else:
        features, unused = (), ()
        if not path_column and not text_column:
            _require_samples(path, columns, named, first, labelled=labelled)
        whole, where = _samples(path, columns, path_column, text_column, path_root, first)
        notes += where
        if text_column and not asked and (others := _texts_beside(columns, [named, text_column])):
            notes.append(f"texts: {text_column!r}; not used: {', '.join(map(repr, others))}")
    there, empty = np.ones(len(whole), bool), np.zeros(len(whole), bool)
    if text_column and isinstance(whole.read, Texts):
        empty = np.array([all(map(is_missing, texts)) for texts in zip(*whole.read.columns, strict=True)])
        if empty.any():
            notes.append(f"left out, without a text: {some(whole.items, np.flatnonzero(empty))}")
    if outputs:
        goals = [_column(path, columns, name, "the numbers to be predicted", "`label_column`") for name in outputs]
        there = np.array([not any(map(is_missing, row)) for row in zip(*goals, strict=True)])
        goal = np.array([row for row, known in zip(zip(*goals, strict=True), there, strict=True) if known])
        targets = np.full((len(whole), len(outputs)), np.nan)
        targets[there] = numbers_of(f"{path}, column {', '.join(map(str, outputs))}", goal, int(there.sum()))
        whole = replace(whole, targets=targets)
    elif named or labelled:
        texts = _column(path, columns, named, "the labels", "`label_column`")
        there = np.array([not is_missing(text) for text in texts])
        known = [text for text, known in zip(texts, there, strict=True) if known]
        _require_classes(path, columns, named, known)
        labels = whole.labels.copy()
        labels[there], classes = encode_labels(known)
        whole = replace(whole, labels=labels)
        notes += [*padded_notes(known), *label_notes(classes), *_numbers_notes(named, known)]
    there &= ~empty
    if labelled and not (there | empty).all():
        notes.append(f"left out, without a label: {some(whole.items, np.flatnonzero(~there & ~empty))}")
    notes += [f"not used: {', '.join(unused)}"] if unused else []
    if whole.kind != "image":
        notes.append(f"rows are called by their {_COUNTED[first]}")
    rows = np.flatnonzero(there if labelled else ~empty)
    if not len(rows):
        raise InputError(f"{path} has no row with a {'text' if empty.all() else 'label'}.")
    dataset = Dataset(
        name=path.name.split(".")[0],
        kind=whole.kind,
        classes=classes,
        splits={"all": whole.take(rows) if len(rows) < len(whole) else whole},
        notes=tuple(notes),
        own_split=False,
        outputs=tuple(map(str, outputs)),
        columns={
            option: name
            for option, name in (("path_column", path_column), ("text_column", text_column), ("label_column", named))
            if name
        }
        | ({FEATURES: list(features)} if features else {}),
    )
    divided = _named(columns, ("split",))
    if divided is None:
        return dataset
    return _split(dataset, [_as_text(columns[divided][row]) for row in rows], path)


def _samples(
    path: Path,
    columns: Columns,
    path_column: str | None,
    text_column: str | None,
    path_root: Path | None,
    first: int,
) -> tuple[Split, list[str]]:
    """All rows, without labels, as pictures or texts, and what to say about where pictures were found."""
    chosen = [path_column] if path_column else _text_columns(columns, text_column)
    contents = [_column(path, columns, name, "the samples", "`text_column` or `path_column`") for name in chosen]
    none = np.full(len(contents[0]), UNLABELLED)
    if path_column:
        root = (path_root or path.parent).resolve()
        names, notes = contents[0], list[str]()
        if not any(map(_is_file, _inside(names, root, path, first))):
            names, written = _spelt(names, root)
            notes += written
        if not any(map(_is_file, _inside(names, root, path, first))):
            row, tried = next(
                ((row, name) for row, name in enumerate(names, first) if not is_missing(name)), (first, "")
            )
            place = _place_of(tried, root)
            if place is None:
                raise InputError(
                    f"{path}, row {row}: there is no picture {tried[:_SHOWN]!r} in {root}, nor in a folder there. Say with `path_root` "
                    "where the pictures lie."
                )
            folder, ending = place
            names = [f"{folder}{name}{ending}" for name in names]
            notes.append(f"pictures were found as {folder}{tried}{ending} and the like")
        return image_split("all", _inside(names, root, path, first), none, root), notes
    items = [_shown(row, texts) for row, texts in enumerate(zip(*contents, strict=True), start=first)]
    return Split(name="all", kind="text", labels=none, items=items, read=Texts(contents)), []


_SPELLINGS: dict[str, Callable[[str], str]] = {
    "without the blanks around them": str.strip,
    "with their backslashes as slashes": lambda name: name.strip().replace("\\", "/"),
    "with their %20 and the like as what they stand for": lambda name: unquote(name.strip()),
}


def _spelt(names: list[str], root: Path) -> tuple[list[str], list[str]]:
    """The names, as other programs write them, as those of files in a folder or in folders there, and what to say about it; else as they are."""
    first = next((name for name in names if not is_missing(name)), "")
    for how, spell in _SPELLINGS.items():
        if spell(first) != first and _place_of(spell(first), root) is not None:
            return [spell(name) for name in names], [f"paths are read {how}"]
    return names, []


def _texts_beside(columns: Columns, of: Sequence[str | None]) -> list[str]:
    """Other columns that might be the texts: of words, nearly every one another."""
    beside = {
        name: [cell for cell in map(_as_text, cells) if not is_missing(cell)]
        for name, cells in _others(columns, of).items()
    }
    return [
        name
        for name, cells in beside.items()
        if len({*cells}) > 0.5 * len(cells) and sum(" " in cell for cell in cells) > 0.5 * len(cells)
    ]


def _of_pictures(columns: Columns, root: Path) -> str | None:
    """The first column whose first cells name pictures below a folder."""
    for name, cells in columns.items():
        texts = [text for text in map(_as_text, cells) if not is_missing(text)][:_TRIED]
        place = _place_of(texts[0], root) if texts else None
        if place and all(_is_file(root / f"{place[0]}{text}{place[1]}") for text in texts):
            return name
    return None


def _place_of(name: str, root: Path) -> tuple[str, str] | None:
    """What to put before and behind a name for it to be a picture in a folder, or in a folder there."""
    if ".." in Path(name).parts or Path(name).is_absolute():
        return None
    folders = ["", *sorted(f"{child.name}/" for child in root.iterdir() if child.is_dir() and not child.is_symlink())]
    ended = Path(name).suffix.lower() in EXTENSIONS
    endings = [""] if ended else sorted(EXTENSIONS | {ending.upper() for ending in EXTENSIONS})
    places = itertools.product(folders[:_TRIED_FOLDERS], endings)
    return next((place for place in places if _is_file(root / f"{place[0]}{name}{place[1]}")), None)


def _is_file(path: Path) -> bool:
    """Whether there is a file; not where the path is one that no system has."""
    try:
        return path.is_file()
    except OSError:  # too long, or in a folder that may not be read
        return False


def _others(columns: Columns, of: Sequence[str | None]) -> Columns:
    """The columns that may hold features: all but `of` and the one that says which split a row belongs to."""
    return {name: cells for name, cells in columns.items() if name not in of and name.strip().lower() != "split"}


def _all_numbers(columns: Columns, label: str | None) -> bool:
    """Whether there are columns beside the labels, all of numbers."""
    others = [_as_numbers(cells) for cells in _others(columns, [label]).values()]
    return bool(others) and all(numbers is not None and np.isfinite(numbers).all() for numbers in others)


def _as_numbers(cells: list[str] | np.ndarray) -> np.ndarray | None:
    """The cells as numbers, an empty one as NaN; None where one is neither."""
    if isinstance(cells, np.ndarray):
        return cells.astype(np.float64)
    try:
        return np.array([np.nan if is_missing(cell) else cell for cell in cells], dtype=np.float64)
    except ValueError:
        return None


def _numbers(
    path: Path, columns: Columns, outputs: Sequence[str | None], wanted: Sequence[str], first: int
) -> tuple[Split, tuple[str, ...], tuple[str, ...]]:
    """All rows, without labels, as features: the columns that are wanted, by name, or else every column of numbers beside what is to be
    predicted. Their names, and those of the other columns."""
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {some(missing, range(len(missing)))}, which the classifier was fitted to. {did_you_mean(missing[0], columns)}"
        )
    from lowdim.tables import identifies

    others = _others(columns, outputs)
    features = {name: _as_numbers(columns[name]) for name in wanted or others}
    found = {name: numbers for name, numbers in features.items() if numbers is not None}
    # A first column 2001, 2002, … may be one of years.
    counter = {
        name
        for name in [next(iter(columns))]
        if name in found and len(found[name]) >= _ENOUGH and found[name][0] in (0, 1)
    }
    names = (
        {} if wanted else {name: identifies(name, numbers, first=name in counter) for name, numbers in found.items()}
    )
    if not all(names.values()):
        found = {name: numbers for name, numbers in found.items() if not names.get(name)}
    unused = tuple(
        f"{name or 'the column without a name'}{f' ({why})' if (why := names.get(name)) else ''}"
        for name in others
        if name not in found
    )
    if wanted and len(found) < len(wanted):
        raise InputError(f"{path}: {_faults(features, columns, first)}. The classifier was fitted to numbers there.")
    if not found:
        raise InputError(
            f"{path} has no texts, no pictures, and no column whose cells are all numbers beside {', '.join(map(str, outputs))}."
        )
    rows = np.stack([*found.values()], axis=1)
    items = [f"row {row}" for row in range(first, len(rows) + first)]
    none = np.full(len(rows), UNLABELLED)
    return Split(name="all", kind="features", labels=none, items=items, read=Rows(rows, "features")), (*found,), unused


def _names_in(given: Any) -> tuple[str, ...]:
    """The names in what a file says of another table, of which nothing is known."""
    return tuple(str(name) for name in cast("list[Any]", given)) if isinstance(given, list) else ()


def _faults(features: Mapping[str, np.ndarray | None], columns: Columns, first: int) -> str:
    """Why columns are no features."""
    found: list[str] = []
    for name, numbers in features.items():
        if numbers is None:
            row, cell = next(
                (row, cell) for row, cell in enumerate(columns[name], first) if _as_numbers([_as_text(cell)]) is None
            )
            found.append(f"{name!r} holds text (row {row}: {_as_text(cell)[:40]!r})")
        elif np.isnan(numbers).any():
            empty = np.flatnonzero(np.isnan(numbers))
            found.append(f"{name!r} has {len(empty)} empty cell{'s' * (len(empty) > 1)} (row {empty[0] + first})")
    return some(found, range(len(found)))


_HEADLESS = " Its first row holds numbers: if names are missing, write a row of them above it."


def _is_number(name: str) -> bool:
    return _as_numbers([name]) is not None


def _require_samples(path: Path, columns: Columns, label: str | None, first: int, *, labelled: bool) -> None:
    """Refuses a table in which neither texts nor pictures are found by name, and of which not every other column is of numbers."""
    names = ", ".join(columns)
    if labelled and label is None:
        raise InputError(
            f"Which column of {path} holds the labels? Say `label_column`, and `text_column` or `path_column` unless all others are "
            f"numbers; there are: {names}.{_HEADLESS if 2 * sum(map(_is_number, columns)) > len(columns) else ''}"
        )
    features = {name: _as_numbers(cells) for name, cells in _others(columns, [label]).items()}
    if 2 * sum(numbers is not None for numbers in features.values()) > len(features):
        raise InputError(
            f"{path} is no table of features: {_faults(features, columns, first)}. Leave out columns of text, fill empty cells (lowdim "
            "complete), or say with `text_column` or `path_column` what the samples are."
        )


def _several(columns: Columns, named: str | None) -> list[str | None]:
    """The columns to be predicted."""
    return [named] if named is None or named in columns else [name.strip() for name in named.split(",")]


def _named(columns: Columns, names: Sequence[str]) -> str | None:
    """The first column with one of these names, in any case."""
    known = {column.strip().lower(): column for column in reversed(columns)}
    return next((known[name] for name in names if name in known), None)


def _text_columns(columns: Columns, name: str | None) -> list[str | None]:
    if name is None or name in columns or "," not in name:
        return [name]
    names = [part.strip() for part in name.split(",")]
    if len(names) != 2:
        raise InputError(f"Texts come alone or in pairs, but {name!r} names {len(names)} columns.")
    return [*names]


def _read_columns(path: Path) -> Columns:
    if ".jsonl" in path.suffixes or ".ndjson" in path.suffixes:
        return _json_lines(path)
    from lowdim.tables import TextSource, read_file

    with reading(path, "a table"):
        source = read_file(path, header=True, labels=True)
    frame = source.cells
    columns = [[_as_text(cell) for cell in frame.iloc[:, place].tolist()] for place in range(len(source.names))]
    if isinstance(source, TextSource) and (source.text.form.decimal, source.text.form.thousands) != (".", ""):
        columns = [_point(cells, source) for cells in columns]
    return dict(zip(source.names, columns, strict=True))


def _point(cells: list[str], source: Any) -> list[str]:
    """Numbers with a decimal point where they have another sign; other texts as they are."""
    numbers = [None if is_missing(cell) else source.number(cell) for cell in cells]
    if any(number is None and not is_missing(cell) for number, cell in zip(numbers, cells, strict=True)):
        return cells
    return ["" if number is None else repr(number).removesuffix(".0") for number in numbers]


def _json_lines(path: Path) -> Columns:
    """One object per line; a name that a line does not have is empty there."""
    rows: list[dict[str, Any]] = []
    opened = gzip.open if path.suffix == ".gz" else open
    with reading(path, "JSON lines"), opened(path, "rt", encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise InputError(
                    f'{path}, line {number}: an object with names is needed, such as {{"text": …, "label": …}}.'
                )
            rows.append(cast("dict[str, Any]", row))
    if not rows:
        raise InputError(f"{path} is empty.")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_as_text(row.get(name)) for row in rows] for name in names}


def _as_text(cell: Any) -> str:
    """A cell of a typed table as a text table would have it."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bytes):  # texts that older writers of Parquet did not mark as such
        return cell.decode(errors="backslashreplace")
    if cell is None or cell != cell or type(cell).__name__ == "NAType":
        return ""
    return str(int(cell)) if isinstance(cell, float | np.floating) and cell.is_integer() else str(cell)


def _column(path: Path, columns: Columns, name: str | None, what: str, option: str) -> list[str]:
    if name is None:
        raise InputError(f"Which column of {path} holds {what}? Say {option}; there are: {', '.join(columns)}.")
    if name not in columns:
        raise InputError(f"{path} has no column {name!r}. {did_you_mean(name, columns)}")
    return [_as_text(cell) for cell in columns[name]]


def _require_classes(path: Path, columns: Columns, name: str | None, labels: list[str]) -> None:
    """Refuses a column in which nearly every row has a value of its own, and one of many different fractions."""
    values = len(set(labels))
    if len(labels) < _ENOUGH or (values < _DIFFERENT * len(labels) and not (values >= _ENOUGH and _fractions(labels))):
        return
    few = {other: len(set(cells)) for other, cells in columns.items() if 1 < len(set(cells)) <= len(cells) / 10}
    others = ", ".join(f"{other} ({count} values)" for other, count in few.items())
    advice = f"name another with `label_column`: {others}" if others else "no column here holds classes"
    advice += "; numbers that are to be predicted are a matter of `task=regression`, which lowdim measure and lowdim rank know"
    raise InputError(
        f"{path}: the column {name!r} has {values:,} different values in {len(labels):,} rows, so they are no classes; {advice}."
    )


def _numbers_notes(name: str | None, labels: list[str]) -> list[str]:
    """What to say of classes that are rather numbers."""
    values = set(labels)
    if len(values) < _ENOUGH or 3 * len(values) < len(labels) or _as_numbers([*values]) is None:
        return []
    return [
        f"{name} holds {len(values):,} different numbers in {len(labels):,} rows, taken as classes; `task=regression` takes them as numbers"
    ]


def _fractions(labels: Sequence[str]) -> bool:
    """Whether all are numbers, and some no whole ones."""
    try:
        numbers = np.array(labels, dtype=np.float64)
    except ValueError:
        return False
    return bool((numbers != np.round(numbers)).any())


_LONGEST_PATH = 4096
"""Characters; no system opens longer ones."""
_TRIED, _TRIED_FOLDERS = 3, 50
"""Cells of a column, and folders beside a table, that are looked at for pictures that are not where a path says."""


def _inside(names: list[str], root: Path, table: Path, first: int) -> list[Path]:
    paths: list[Path] = []
    for row, name in enumerate(names, start=first):
        if len(name) > _LONGEST_PATH or "\0" in name or name.startswith("{'"):
            raise InputError(
                f"{table}, row {row}: {name[:40]!r}… is no path. Pictures inside a table are not read: save them as files, and give "
                "their paths."
            )
        if "://" in name:
            raise InputError(
                f"{table}, row {row}: {name!r} is an address. Fetch the pictures first, and give their paths."
            )
        with said(table, "a table of pictures", name=f"{table}, row {row}"):
            target = (root / name).resolve()
        if not target.is_relative_to(root):
            raise InputError(
                f"{table}, row {row}: {name!r} leads out of {root}. Say with `path_root` from which folder pictures may be read."
            )
        paths.append(target)
    return paths


def _split(dataset: Dataset, column: list[str], path: Path) -> Dataset:
    parts = np.array([part_named(value) for value in column])
    unknown = sorted({value for value, part in zip(column, parts, strict=True) if part not in ("train", *TEST_NAMES)})
    if unknown:
        raise InputError(f"{path}: column 'split' holds {', '.join(map(repr, unknown[:5]))}; expected train and test.")
    tests = [name for name in TEST_NAMES if name in parts]
    chosen = {"train": parts == "train", "test": parts == tests[0] if tests else np.zeros(len(parts), bool)}
    splits = {
        name: replace(dataset["all"].take(np.flatnonzero(rows)), name=name)
        for name, rows in chosen.items()
        if rows.any()
    }
    unused = [f"{name} ({int((parts == name).sum())} rows)" for name in tests[1:]]
    notes = (
        *dataset.notes,
        "split: the table's own column 'split'",
        *([f"not used: {', '.join(unused)}"] if unused else []),
    )
    return replace(dataset, splits=splits, notes=notes, own_split=True)
