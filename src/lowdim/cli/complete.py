"""``lowdim complete``: fill the holes of a matrix."""

import math
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim.cli._command import called_from_python, page_of, run_folder
from lowdim.cli._common import Fresh, Out, Seed, option, progress, say, warn
from lowdim.cli._inputs import positive
from lowdim.cli._python import Objects
from lowdim.completion.solvers import SOLVERS

if TYPE_CHECKING:
    from lowdim._files import RunFolder
    from lowdim.completion import DeepMatrixCompletion
    from lowdim.completion.entries._inputs import Picture
    from lowdim.completion.entries._reading import TableFile, Texts, Triplets
    from lowdim.report import Page, Result
    from lowdim.tables import Filled, GivenSource
    from lowdim.tables import Source as Columns
    from lowdim.tables._wide import Wide

    Source = Triplets | TableFile | Picture
    Pairs = tuple[Texts, Texts]
    FilledCells = dict[tuple[int, int], Filled]

LARGE_FILE = 20_000_000  # bytes
MOST_LONG = 10  # columns of a file with one rating in each row, unless their names say so
MOST_RATINGS = 50  # different values up to which they are a scale
EXAMPLES = 8  # filled cells on the page
LARGEST_TABLE = 2_000_000  # cells of a matrix of triplets that are written without being asked for


if TYPE_CHECKING:
    Solver = StrEnum
else:
    Solver = StrEnum("Solver", {name.replace("-", "_"): name for name in ("auto", *SOLVERS)})
_AUTO = Solver("auto")


class As(StrEnum):
    """What a file of columns holds."""

    auto = "auto"
    table = "table"
    ratings = "ratings"


HIDDEN = 0.6
"""Share of the pixels of a sample picture that are hidden, unless said otherwise."""


@called_from_python
def complete(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Table with empty cells or ratings (any text table, also .gz .zip; .xlsx .parquet .npz .npy; - is standard input), picture, "
            "or sample:china, sample:flower.",
        ),
        Objects("str | Path | DataFrame | ndarray", "Or a pandas or polars frame, or an array with NaN in its holes."),
    ],
    row: Annotated[str | None, option("Column of triplets with the ids of rows.")] = None,
    col: Annotated[str | None, option("Column of triplets with the ids of columns.")] = None,
    value: Annotated[str | None, option("Column of triplets with the values.")] = None,
    predict: Annotated[Path | None, option("File of pairs (the same two columns): writes only these.")] = None,
    user_table: Annotated[Path | None, option("Table of what is known of the ids of rows (the first column).")] = None,
    item_table: Annotated[Path | None, option("The same of the ids of columns; new ids can be predicted.")] = None,
    mask: Annotated[Path | None, option("Picture, white where FILE's pixels are missing.")] = None,
    missing: Annotated[float | None, option("Share of a sample picture to hide [default: 0.6].")] = None,
    rank: Annotated[str, option("auto, or the number of factors.")] = "auto",
    max_rank: Annotated[
        int | None, option("Most factors that auto considers [default: 20; pictures: 60].", min=1)
    ] = None,
    depth: Annotated[int, option("Layers L of als, exact and gd; the regulariser is Schatten-2/L.", min=2)] = 3,
    solver: Annotated[Solver, option("Chosen by the data, unless said here.")] = _AUTO,
    scale: Annotated[bool, option("Bring columns to unit variance inside.")] = True,
    clip: Annotated[
        str | None,
        option(
            "LOW,HIGH, observed or none: bounds of what is filled in [default: the scale of ratings; 0,255 of pictures]."
        ),
    ] = None,
    as_: Annotated[
        As, option("A table whose columns are completed, or ratings: one known entry in each row.", "--as")
    ] = As.auto,
    kind: Annotated[
        list[str] | None,
        option("NAME=number|integer|boolean|category|ordered|date|id|text: what a column is; may be repeated."),
    ] = None,
    only: Annotated[str | None, option("Columns to complete, by commas; others pass through.")] = None,
    passed: Annotated[str | None, option("Columns that pass through, by commas.", "--pass")] = None,
    time: Annotated[
        str | None,
        option("Column with the time of each row [default: dates that ascend or descend, mostly known]."),
    ] = None,
    entity: Annotated[str | None, option("Column with the entities that each have times of their own.")] = None,
    na: Annotated[
        list[str] | None, option("A text that stands for a missing cell, or NAME=TEXT in one column; may be repeated.")
    ] = None,
    sentinels: Annotated[bool, option("Take numbers like -999 that lie far from all others as missing.")] = True,
    delimiter: Annotated[str | None, option("Between columns: one character or tab [default: found].")] = None,
    decimal: Annotated[str | None, option("Decimal sign: . or , [default: found].")] = None,
    encoding: Annotated[str | None, option("Of a text file [default: found].")] = None,
    header: Annotated[bool | None, option("Whether the first line names the columns [default: found].")] = None,
    sheet: Annotated[str | None, option("Of an Excel file [default: the first with a table].")] = None,
    seed: Seed = 0,
    out: Out = None,
    fresh: Fresh = False,
) -> "Result":
    """Complete a matrix of which only some entries are known.

    lowdim complete table.csv

    lowdim complete ratings.tsv --row user --col item --value rating --predict pairs.csv

    lowdim complete photo.png --mask scratches.png

    lowdim complete sample:china --missing 0.6

    A table comes back in its own form with nothing but its empty cells filled; beside it, a list of the filled cells with 90 %
    intervals. Of ratings, the pairs of --predict are written with their deviations, or all of a small matrix. The error on known
    entries, predicted without them, is reported beside that of row and column means alone.

    In Python, a pandas or polars frame or a matrix of numbers (NaN where one is missing) may stand for FILE; the attribute frame of the result is
    the completed one, of the same type.
    """
    from time import monotonic

    from lowdim._files import sha256
    from lowdim.errors import UsageError
    from lowdim.report import Result

    begun = monotonic()
    file, given = _named(file)
    if decimal not in (None, ".", ","):
        raise UsageError(f"`decimal` takes . or a comma, not {decimal[:40]!r}.")
    form = {"separator": _delimiter(delimiter), "decimal": decimal, "encoding": encoding, "header": header}
    form["sheet"] = sheet
    columns: dict[str, Any] = {
        "kinds": _kinds(kind),
        "passed": _names(passed) or (),
        "only": _names(only),
        "missing": tuple(na or ()),
        "time": time,
        "entity": entity,
        "sentinels": sentinels,
    }
    triplets = row, col, value
    if given is None:
        source = _read(file, triplets, as_, mask, missing, form, columns, seed)
    else:
        source = _of_columns(given, file, triplets, as_, columns)
    pairs = _read_pairs(source, predict, delimiter) if predict else _asked(source)
    known = _read_known(source, {"user_table": user_table, "item_table": item_table})
    options = {"rank": _rank(rank), "max_rank": max_rank or _max_rank(source), "depth": depth, "solver": str(solver)}
    options |= {"scale": scale, "clip": _clip(clip, source), "random_state": seed}
    named = {"predict": predict, "user_table": user_table, "item_table": item_table}
    files = {name: {"file": str(path), "sha256": sha256(path)} for name, path in named.items() if path}
    config = {"file": file, "entries": _digest(source), "row": row, "col": col, "value": value, **options}
    config |= {"predict": None, **files, "columns": {**columns, "missing": list(na or [])}, "as": str(as_)}
    config |= {"sheet": sheet} if sheet else {}
    config |= {"mask": str(mask) if mask else None, "missing": HIDDEN if missing is None else missing}
    # what is given in memory is given back in memory, which a finished run does not hold
    with run_folder(out, "complete", config, fresh=fresh or given is not None, keep=True) as (folder, path), folder:
        result = folder.finished()
        if result is not None:
            return Result(
                "complete", {"run_folder": path, **result}, _page(result), folder=path, remarks=_remarks(result)
            )
        result, page, model, filled = _run(folder, source, options, pairs, known)
        result["seconds"] = round(monotonic() - begun, 3)
        folder.finish(result)
    value_ = model if given is None else _Filled(model, given, filled)
    return Result("complete", {"run_folder": path, **result}, page, value=value_, folder=path, remarks=_remarks(result))


class _Filled:
    """A completed frame or array, and the model that completed it, whose attributes are attributes of this, too."""

    def __init__(self, model: "DeepMatrixCompletion", given: "GivenSource", filled: "FilledCells") -> None:
        self.model = model
        self.frame = given.filled(filled)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def _named(file: Any) -> "tuple[str, GivenSource | None]":
    """The name of the file, and what was given instead of it."""
    from lowdim.errors import UsageError
    from lowdim.tables import GivenSource, is_frame, is_matrix

    if isinstance(file, str | Path):
        return str(file), None
    if not (is_frame(file) or is_matrix(file)):
        shape = f" of shape {file.shape}" if hasattr(file, "shape") else ""
        raise UsageError(
            f"FILE must be a path, a pandas or polars frame, or an array of numbers of two dimensions, not {type(file).__name__}{shape}. Sparse "
            "matrices and triplets are completed by lowdim.completion.DeepMatrixCompletion().fit(...)."
        )
    given = GivenSource(file)
    return given.name, given


def _read(
    file: str,
    triplets: tuple[str | None, str | None, str | None],
    as_: As,
    mask: Path | None,
    missing: float | None,
    form: dict[str, Any],
    columns: dict[str, Any],
    seed: int,
) -> "Source":
    from lowdim._files import existing_file
    from lowdim._pictures import EXTENSIONS
    from lowdim.completion.entries import _inputs as inputs
    from lowdim.completion.entries import _reading as reading
    from lowdim.errors import UsageError
    from lowdim.tables import GivenSource, read_file

    sample, path = file.startswith("sample:"), Path(file)
    if path.suffix.lower() in EXTENSIONS - inputs.SUFFIXES:
        raise UsageError(f"{file}: pictures of this form are not completed. Save it as .png.")
    if mask and (sample or path.suffix.lower() not in inputs.SUFFIXES):
        raise UsageError("`mask` is for a picture in a file. Of a sample, `missing` says how many pixels to hide.")
    if missing is not None and not sample:
        raise UsageError("`missing` hides pixels of a sample picture; of other input the empty cells are the holes.")
    if sample or path.suffix.lower() in inputs.SUFFIXES:
        named = {
            "row": triplets[0],
            "col": triplets[1],
            "value": triplets[2],
            "na": columns["missing"],
            "delimiter": form["separator"],
        }
        named |= {name: form[name] for name in ("decimal", "encoding", "header", "sheet")} | {"as_": as_ != As.auto}
        _refuse(f"{file} is a picture and has no columns", named | _of_a_table(columns))
    if sample:
        return inputs.sample_picture(file.removeprefix("sample:"), HIDDEN if missing is None else missing, seed)
    if file != "-" and not (path.is_fifo() and path.suffix.lower() not in {".npz", *inputs.SUFFIXES}):
        path = existing_file(path, "The matrix")
        if path.suffix.lower() in inputs.SUFFIXES:
            return inputs.read_picture(path, existing_file(mask, "The mask") if mask else None)
        if (matrix := inputs.read_matrix(path)) is not None:
            return _of_columns(GivenSource(matrix), file, triplets, as_, columns)
        if path.suffix == ".npz":
            _refuse(f"{file} holds triplets, no table of columns", _of_a_table(columns) | {"sheet": form["sheet"]})
            return _told(reading.read_triplets(path, *triplets, missing=columns["missing"]))
        if as_ != As.table and _large_triplets(path, triplets, form["separator"]):
            _refuse(f"{file} is read as ratings", _of_a_table(columns))
            return _told(
                reading.read_triplets(path, *triplets, delimiter=form["separator"], missing=columns["missing"])
            )
    source = read_file(file if file == "-" else path, **form)
    if source.form:
        say(f"read as: {source.form}")
    return _of_columns(source, file, triplets, as_, columns)


def _of_columns(
    source: "Columns",
    file: str,
    triplets: tuple[str | None, str | None, str | None],
    as_: As,
    columns: dict[str, Any],
) -> "Source":
    """Ratings or a table, by the names of the columns and what they hold."""
    from lowdim._numbers import capped
    from lowdim.completion.entries import _reading as reading
    from lowdim.errors import UsageError
    from lowdim.tables._wide import wide_ratings

    long = any(triplets) or (as_ != As.table and reading.is_ratings(source))
    if not long and as_ == As.ratings and len(source.names) > MOST_LONG:
        ordered = {name: columns[name] for name in ("time", "entity")}
        _refuse(f"{file} is read as ratings", ordered)
        wide = wide_ratings(source, source.table(**columns))
        if len(wide.columns) > 1:
            return _told(reading.triplets_of(wide), wide)
    if long or as_ == As.ratings:
        others = reading.other_columns_with_holes(source)
        if others and as_ == As.auto and not any(triplets):
            raise UsageError(
                f"{file} has the columns of ratings, and {capped(map(repr, others))} with empty cells. Say what to complete: the "
                f"ratings, `lowdim complete {file} --as ratings`, or the table, `lowdim complete {file} --as table`."
            )
        _refuse(f"{file} is read as ratings", _of_a_table(columns))
        return _told(
            reading.triplets_in(source, *triplets, columns["missing"]), undo=as_ == As.auto and not any(triplets)
        )
    table = reading.read_table(source, **columns)
    if as_ == As.auto and table.table.clock is None and not any(columns[name] for name in ("kinds", "only", "time")):
        wide = wide_ratings(source, table.table)
        if wide.is_one and not wide.others:
            return _told(reading.triplets_of(wide), wide, undo=True)
        if wide.is_one:
            passed = ",".join([*columns["passed"], *wide.others])
            say(
                f"{len(wide.columns)} columns look like ratings from {wide.low:g} to {wide.high:g}; "
                f"`lowdim complete {file} --as ratings --pass {quote(passed)}` completes them as such"
            )
    for line in [*table.table.describe(), *table.table.notes]:
        say(line)
    return table


def _told(source: "Triplets", wide: "Wide | None" = None, *, undo: bool = False) -> "Triplets":
    """The same, once it was said what was taken for what."""
    from lowdim._numbers import capped, percent

    back = "; --as table completes the columns instead" if undo else ""
    if wide is not None:
        others = f"; {capped(map(repr, wide.others))} passed through" if wide.others else ""
        say(
            f"read as ratings from {wide.low:g} to {wide.high:g}, users in rows and items in {len(wide.columns)} columns, {percent(wide.empty)} of the "
            f"cells empty; filled {'with two decimals' if wide.write is None else 'as they are written there'}{others}{back}"
        )
        return source
    user, item, value = map(repr, source.names)
    unused = f"; not used: {capped(map(repr, source.unused))}" if source.unused else ""
    say(f"read as ratings: users in {user}, items in {item}, values in {value}{unused}{back}")
    for note in source.notes:
        say(note)
    if source.truth is not None:
        say(f"{source.truth.size:,} test entries are predicted and measured")
    return source


def _of_a_table(columns: dict[str, Any]) -> dict[str, Any]:
    """What was said of the columns of a table, by the name of the option."""
    return {"kind": columns["kinds"], **{name: columns[name] for name in ("only", "passed", "time", "entity")}}


def _refuse(why: str, given: dict[str, Any]) -> None:
    """Raises an error if one of these options was given."""
    from lowdim.errors import UsageError

    asked = next((name for name, value in given.items() if value), None)
    if asked is not None:
        raise UsageError(f"{why}: `{asked}` does not apply.", argument=asked)


def _large_triplets(path: Path, named: tuple[str | None, str | None, str | None], separator: str | None) -> bool:
    """Whether these are triplets in a plain text file of a size for which the leaner reader is needed."""
    from lowdim.completion.entries import _reading as reading
    from lowdim.errors import InputError

    if path.suffix == ".parquet" or path.stat().st_size < LARGE_FILE:
        return False
    try:
        return any(named) or reading.has_triplets(path, delimiter=separator)
    except InputError:
        return False


def _read_pairs(source: "Source", predict: Path, delimiter: str | None) -> "Pairs":
    """The ids to predict, read before the fit so that a mistake is not said after it."""
    from lowdim._files import existing_file
    from lowdim.completion.entries import _reading as reading
    from lowdim.errors import UsageError

    if not isinstance(source, reading.Triplets):
        raise UsageError("`predict` takes pairs of ids, so FILE must hold triplets. Of a table, all cells are filled.")
    path = existing_file(predict, "The file of pairs")
    return reading.read_pairs(path, source.names[0], source.names[1], delimiter=_delimiter(delimiter))


def _asked(source: "Source") -> "Pairs | None":
    """The pairs of ids that stand in the file without a value."""
    from lowdim.completion.entries._reading import Triplets

    if not isinstance(source, Triplets) or source.asked is None:
        return None
    if source.truth is None:
        say(f"{len(source.asked[0])} rows without a value in {source.names[2]!r} are what is predicted")
    return source.asked


def _read_known(source: "Source", paths: dict[str, Path | None]) -> dict[str, Any]:
    """What tables say about ids, by the argument of the fit."""
    from lowdim._files import existing_file
    from lowdim.completion.entries import _reading as reading
    from lowdim.errors import UsageError

    given = {name: existing_file(path, "The table of ids") for name, path in paths.items() if path}
    if not given:
        return {}
    if not isinstance(source, reading.Triplets):
        raise UsageError("`user_table` and `item_table` are for ratings, so FILE must hold triplets.")
    ids = dict(zip(paths, source.names, strict=False))
    return {name: reading.read_known(path, ids[name]) for name, path in given.items()}


def _run(
    folder: "RunFolder", source: "Source", options: dict[str, Any], pairs: "Pairs | None", known: dict[str, Any]
) -> "tuple[dict[str, Any], Page, DeepMatrixCompletion, FilledCells]":
    import warnings

    from lowdim.completion import CompletionWarning, DeepMatrixCompletion
    from lowdim.completion._estimator import fill_table, fit_with_journal
    from lowdim.completion.entries._inputs import Picture, to_png
    from lowdim.completion.entries._reading import TableFile, Triplets
    from lowdim.completion.solvers._solver import Journal
    from lowdim.report import write_report

    entries = source.entries
    shape, count, cells = _size(source)
    say(f"completing {shape[0]} x {shape[1]}, {count:,} {cells} known")
    model = DeepMatrixCompletion(**options, keep_empty_features=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CompletionWarning)
        with progress("sweeps") as update:
            fit_with_journal(model, _matrix(source), Journal(folder.state, update), **known)
        pictures, course, tables, cells_filled = [], [], {}, {}
        if isinstance(source, Picture):
            filled = source.filled(model.transform(entries))
            output = str(folder.write("completed.png", to_png(filled)))
            pictures = [("known", source.holed()), ("completed", filled)]
            height, width, channels = source.pixels.shape
            size = {"height": height, "width": width, "channels": channels, "missing": int(source.missing.sum())}
            tables = {"picture": size}
        elif isinstance(source, TableFile):
            cells_filled = fill_table(model, source.table)
            output, tables, course = _write_table(folder, source, cells_filled)
            errors = _errors_by_column(source, model)
            tables["columns"] = [column | errors.get(column["name"], _UNJUDGED) for column in tables["columns"]]
        elif source.wide is not None and pairs is None:
            cells_filled = _fill_wide(source.wide, model)
            output = _write_cells(folder, source.wide.source, cells_filled, lambda _, value: round(value, 2))
            examples = _examples(source.wide.source, cells_filled)
            tables = {
                "examples": [
                    one | {"row": str(source.wide.ids[row])}
                    for one, (row, _) in zip(examples, sorted(cells_filled), strict=False)
                ]
            }
        else:
            output, tables = _write(folder, source, model, pairs)
        if isinstance(source, Triplets):
            tables |= {"names": list(source.names)}
            tables |= {} if source.truth is None or pairs is None else _tested(model, *pairs, source.truth)
    nothing = "filled" in tables and not tables["filled"]  # a model of what nobody asks for needs no remarks
    remarks = ([] if nothing else [str(one.message) for one in caught]) + _unknown_columns(source, model)
    result = {
        "config": folder.config,
        **_describe(model, model.shape_ if isinstance(source, Triplets) else shape, count),
        **tables,
        "output": output,
        "warnings": remarks,
    }
    page = _page(result, model.held_out_entries_, pictures, course)
    result["figures"] = write_report(folder, page)
    return result, page, model, cells_filled


def _page(result: dict[str, Any], held_out: Any = None, pictures: Any = (), course: Any = ()) -> "Page":
    from lowdim.report.completion import completion_sections

    title = f"{Path(result['config']['file']).name}, completed"
    page = page_of("complete", result, title, completion_sections(result, held_out, pictures, course))
    if not result["output"]:
        return page
    cells = ", filled.csv every filled cell with its interval" if "filled" in result else ""
    return replace(page, lead=f"{page.lead} Beside this page: {Path(result['output']).name}{cells}.")


def _size(source: "Source") -> tuple[tuple[int, int], int, str]:
    """Rows and columns as the user has them, how many cells are known, and what they are called."""
    from lowdim.completion.entries._reading import TableFile, Triplets

    if isinstance(source, Triplets):
        return source.entries.shape, source.entries.size, "entries"
    if isinstance(source, TableFile):
        columns = source.table.columns
        return (len(columns[0].known), len(columns)), sum(int(column.known.sum()) for column in columns), "cells"
    return source.missing.shape, int((~source.missing).sum()), "pixels"


_UNJUDGED: dict[str, Any] = {"error_ratio": None, "error_ratio_interval": None, "checked": 0}


def _errors_by_column(source: "TableFile", model: "DeepMatrixCompletion") -> dict[str, dict[str, Any]]:
    """Of each column the root mean square error on known cells, predicted as if empty, over that of the mean of its other cells; with the
    interval, and the number of cells."""
    import numpy as np

    from lowdim._intervals import ratio_interval

    columns = [column for column in source.table.columns if column.modelled]
    owner = np.repeat(np.arange(len(columns)), [column.width for column in columns])
    # of a date itself, not of where in its cycles it is
    own = np.concatenate([np.arange(column.width) < column.numbers.shape[1] for column in columns])
    values, predictions = model.held_out_entries_
    places, ratios = model.held_out_columns_, dict[str, dict[str, Any]]()
    counts = np.array([column.known.sum() for column in columns])[owner][places]
    means = np.concatenate([np.nanmean(column.inputs, axis=0) for column in columns])[places]
    simple = (values - means) * counts / np.maximum(counts - 1, 1)
    for index, column in enumerate(columns):
        mine = (owner[places] == index) & own[places] & np.isfinite(predictions)
        cells = int(mine.sum()) // column.numbers.shape[1]
        if simple[mine].any():
            ratio, interval = ratio_interval((values - predictions)[mine], simple[mine], cells)
            ratios[column.name] = {"error_ratio": ratio, "error_ratio_interval": interval, "checked": cells}
    return ratios


def _remarks(result: dict[str, Any]) -> list[str]:
    return [f"written: {result['output']}"] if result["output"] else []


def _matrix(source: "Source") -> Any:
    """What to fit: triplets with their ids, so that pairs can be asked for by them."""
    from lowdim.completion.entries._reading import TableFile, Triplets

    if isinstance(source, TableFile):
        return source.table
    if isinstance(source, Triplets):
        entries = source.entries
        return source.row_ids[entries.rows], source.column_ids[entries.cols], entries.values
    return source


def _write_cells(
    folder: "RunFolder", source: "Columns", filled: "FilledCells", write: Callable[[int, float], Any]
) -> str:
    """Writes the table in the form of its file, its deviations, and the list of filled cells, whose bounds are written by column."""
    output = folder.write(f"completed{source.suffix}", source.written(filled))
    rows: list[list[Any]] = [["row", "line", "column", "value", "low", "high", "probability", "deviation"]]
    for (row, place), cell in sorted(filled.items()):
        bounds = [None if bound is None else write(place, bound) for bound in (cell.low, cell.high)]
        rows.append([row + 1, source.line(row), cell.column, cell.value, *bounds, cell.probability, cell.deviation])
    folder.write("filled.csv", source.beside(rows))
    names = source.names
    deviations: list[list[Any]] = [[None for _ in names] for _ in range(len(source.cells))]
    for (row, column), cell in filled.items():
        deviations[row][column] = float(f"{cell.deviation:.6g}")
    folder.write("deviations.csv", source.beside([names, *deviations]))
    return str(output)


def _examples(source: "Columns", filled: "FilledCells") -> list[dict[str, Any]]:
    return [
        {
            "row": row if (line := source.line(row)) is None else line,
            "column": cell.column,
            "value": str(cell.value),
            "deviation": cell.deviation,
        }
        for (row, _), cell in sorted(filled.items())[:EXAMPLES]
    ]


def _fill_wide(wide: "Wide", model: "DeepMatrixCompletion") -> "FilledCells":
    """What stands in the empty cells of ratings in a wide table."""
    from lowdim._intervals import Z
    from lowdim.tables import Filled

    filled: FilledCells = {}
    for rows, items in wide.holes():
        values, deviations = model.predict(wide.ids[rows], wide.names[items], return_std=True)
        for row, item, value, deviation in zip(
            rows.tolist(), items.tolist(), values.tolist(), deviations.tolist(), strict=True
        ):
            low, high = value - Z * deviation, value + Z * deviation
            cell = Filled(row, wide.columns[item].name, wide.written(item, value), low, high, None)
            filled[row, int(wide.places[item])] = cell
    return filled


def _tested(model: "DeepMatrixCompletion", rows: Any, cols: Any, truth: Any) -> dict[str, Any]:
    """The error on entries of a test, with its 90 % interval."""
    import numpy as np

    from lowdim.completion.solvers._solver import HeldOut

    predictions = np.asarray(model.predict(rows, cols))
    test = HeldOut(np.zeros(len(truth), np.intp), truth, predictions, np.ones(len(truth)))
    interval = test.rmse_interval
    return {
        "test_rmse": _finite(test.rmse),
        "test_rmse_interval": None if interval is None else list(interval),
        "test_entries": len(truth),
    }


def _write_table(
    folder: "RunFolder", source: "TableFile", filled: "FilledCells"
) -> tuple[str, dict[str, Any], list[Any]]:
    """Writes what was filled, as `_write_cells` does; returns the file, what was filled, and how it lies in time."""
    from collections import Counter

    import numpy as np

    from lowdim.report.completion import in_time

    output = _write_cells(folder, source.source, filled, lambda place, bound: source.table.columns[place].write(bound))
    counts = Counter(place for _, place in filled)
    used = np.any([column.known for column in source.table.columns], axis=0)
    columns = [
        {
            "name": one.name,
            "kind": one.kind,
            "filled": counts[place],
            "left": int((used & ~one.known).sum()) - counts[place],
        }
        for place, one in enumerate(source.table.columns)
    ]
    examples = _examples(source.source, filled)
    counted = "from 0" if source.source.line(0) is None else "as in the file"
    told = {"columns": columns, "filled": len(filled), "examples": examples, "rows_counted": counted}
    return output, told, in_time(source.table, filled)


def _write(
    folder: "RunFolder", source: "Triplets", model: "DeepMatrixCompletion", pairs: "Pairs | None"
) -> tuple[str | None, dict[str, Any]]:
    """Writes what was asked for into the run folder; returns its path, and the first of the pairs."""
    import numpy as np

    if pairs is not None:
        rows = _predictions(source, model, *pairs)
        examples = [
            {
                "row": row,
                "column": column,
                "value": value if source.write else float(value),
                "deviation": float(deviation),
            }
            for row, column, value, deviation, *_ in rows[1 : EXAMPLES + 1]
        ]
        return str(folder.write("predictions.csv", _csv(rows))), {"examples": examples}
    if model.shape_[0] * model.shape_[1] > LARGEST_TABLE:
        warn("the matrix is too large to write it all; name the pairs that you need in a file and pass `predict`.")
        return None, {}
    completed = (
        model.transform(source.entries) if model.shape_ == source.entries.shape else _with_new_ids(source, model)
    )
    row_ids: Any = model.row_ids_
    column_ids: Any = model.column_ids_
    known = np.zeros(completed.shape, bool)
    known[
        np.searchsorted(row_ids, source.row_ids)[source.entries.rows],
        np.searchsorted(column_ids, source.column_ids)[source.entries.cols],
    ] = True
    down, across = _by_number(row_ids), _by_number(column_ids)
    header = [source.names[0], *column_ids[across]]
    rows = (
        [
            row_ids[row],
            *(
                _given(value, own, source.write)
                for value, own in zip(completed[row, across].tolist(), known[row, across], strict=True)
            ),
        ]
        for row in down
    )
    return str(folder.write("completed.csv", _csv([header, *rows]))), {}


def _by_number(ids: Any) -> Any:
    """The order of ids: as numbers where all are whole numbers."""
    import numpy as np

    texts = [str(id) for id in ids]
    plain = all(text.isdecimal() and len(text) < 16 for text in texts)
    return np.argsort([int(text) for text in texts], kind="stable") if plain else np.arange(len(texts))


def _given(value: float, known: bool, write: Callable[[float], str] | None) -> str:
    """A rating as the file has it; a known whole number as such, everything else with all its digits."""
    if write is not None:
        return write(value)
    return str(int(value)) if known and value.is_integer() and abs(value) < 2**53 else repr(value)


def _with_new_ids(source: "Triplets", model: "DeepMatrixCompletion") -> Any:
    """The whole matrix where tables have brought ids without entries."""
    import numpy as np

    rows: Any = model.row_ids_
    cols: Any = model.column_ids_
    completed = np.asarray(model.predict(np.repeat(rows, len(cols)), np.tile(cols, len(rows)))).reshape(model.shape_)
    entries = source.entries
    own = np.searchsorted(rows, source.row_ids)[entries.rows], np.searchsorted(cols, source.column_ids)[entries.cols]
    completed[own] = entries.values
    return completed


def _predictions(source: "Triplets", model: "DeepMatrixCompletion", rows: Any, cols: Any) -> list[list[str]]:
    """The predictions of pairs of ids with their deviations; the numbers, too, where ratings are written in another way."""
    values, deviations = model.predict(rows, cols, return_std=True)
    numbers = zip(rows, cols, values.tolist(), deviations.tolist(), strict=True)
    write = source.write
    if write is None:
        return [[*source.names, "deviation"], *([str(r), str(c), repr(v), repr(d)] for r, c, v, d in numbers)]
    rows = ([str(r), str(c), write(v), repr(d), repr(v)] for r, c, v, d in numbers)
    return [[*source.names, "deviation", "number"], *rows]


def _unknown_columns(source: "Source", model: "DeepMatrixCompletion") -> list[str]:
    """A warning of columns without entries of which nothing tells the values, not even a mean."""
    from lowdim._numbers import capped
    from lowdim.completion.entries._inputs import Picture
    from lowdim.completion.entries._reading import TableFile

    if isinstance(source, TableFile):
        names = [repr(column.name) for column in source.table.columns if column.kind == "empty" and column.name]
        return [f"No cell of column {capped(names)} is known, so nothing is filled in there."] if names else []
    if isinstance(source, Picture) and not model._seen.all():
        count = int((~model._seen).sum()) // source.pixels.shape[2]
        return [f"{count} columns of the picture have no known pixel and stay black. Mask fewer pixels."]
    return []


def _csv(rows: Any) -> str:
    import csv
    import io

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _describe(model: "DeepMatrixCompletion", shape: tuple[int, int], observed: int) -> dict[str, Any]:
    interval = model.held_out_interval_
    return {
        "shape": list(shape),
        "observed": observed,
        "oversampling": model.oversampling_,
        "solver": model.solver_,
        "reason": model.reason_,
        "rank": model.rank_,
        "singular_values": model.singular_values_.tolist(),
        "iterations": model.n_iter_,
        "converged": model.converged_,
        "sure": model.sure_,
        # of too few entries none is held out
        "held_out_rmse": _finite(model.held_out_error_),
        "biases_only_rmse": _finite(model.biases_error_),
        "held_out_entries": len(model.held_out_columns_),
        "held_out_rmse_interval": list(interval) if interval else None,
        "held_out_ratio": _finite(model.held_out_ratio_),
        "unidentified": {"rows": len(model.unidentified_rows_), "columns": len(model.unidentified_columns_)},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _delimiter(text: str | None) -> str | None:
    from lowdim.completion.entries._reading import delimiter_of

    return delimiter_of(text)


def _names(text: str | None) -> list[str] | None:
    """Names separated by commas."""
    return None if text is None else [name.strip() for name in text.split(",")]


def _kinds(pairs: list[str] | None) -> dict[str, Any]:
    """``NAME=KIND`` pairs."""
    from lowdim.errors import UsageError

    kinds: dict[str, Any] = {}
    for pair in pairs or []:
        name, sign, kind = pair.rpartition("=")
        if not sign or not name:
            raise UsageError(f"`kind` takes NAME=KIND, not {pair!r}.")
        kinds[name] = kind
    return kinds


def _rank(text: str) -> int | str:
    return text if text == "auto" else positive(text, "`rank` takes auto or a positive number")


def _max_rank(source: "Source") -> int:
    from lowdim.completion.entries._inputs import Picture

    return 60 if isinstance(source, Picture) else 20


def _clip(text: str | None, source: "Source") -> Any:
    """Bounds of what is filled in; by default those of a picture, or of a scale of ratings."""
    import numpy as np

    from lowdim.completion.entries._inputs import Picture
    from lowdim.completion.entries._reading import Triplets
    from lowdim.errors import UsageError

    if text is None and isinstance(source, Picture):
        return [0, 255]
    if text is None and isinstance(source, Triplets):
        scale = np.unique(source.entries.values)
        if 1 < scale.size <= MOST_RATINGS and source.entries.size >= 10 * scale.size:
            low, high = float(scale[0]), float(scale[-1])
            say(
                f"ratings of {scale.size} levels: predictions are kept between {low:g} and {high:g}; --clip none lifts that"
            )
            return [low, high]
    if text in (None, "none"):
        return None
    if text == "observed":
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"`clip` takes LOW,HIGH, observed or none, not {text!r}.") from error
    return [low, high]


def _digest(source: "Source") -> str:
    """What tells this matrix and its texts from others."""
    import hashlib

    from lowdim.completion.entries._reading import TableFile, Triplets

    texts: Any = None
    if isinstance(source, Triplets):
        texts = source.row_ids.tolist(), source.column_ids.tolist(), source.names
        if source.wide is not None:
            texts = *texts, hashlib.sha256(source.wide.source.written({})).hexdigest()
    elif isinstance(source, TableFile):
        written = hashlib.sha256(source.source.written({})).hexdigest()
        texts = written, [(column.name, column.kind) for column in source.table.columns]
    entries = source.entries
    digest = hashlib.sha256(repr((entries.shape, texts)).encode(errors="backslashreplace"))
    for part in (entries.rows, entries.cols, entries.values):
        digest.update(part.tobytes())
    return digest.hexdigest()[:16]
