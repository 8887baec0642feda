"""``lowdim complete``: fill the holes of a matrix."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowdim.cli._command import Command
from lowdim.cli._common import (
    Format,
    FormatOption,
    Fresh,
    Json,
    Out,
    Seed,
    emit_json,
    number,
    print_table,
    progress,
    say,
    wants_json,
    warn,
)

if TYPE_CHECKING:
    from lowdim._files import RunFolder
    from lowdim.completion import DeepMatrixCompletion
    from lowdim.completion._pictures import Picture
    from lowdim.completion._reading import Table, Texts, Triplets

    Source = Triplets | Table | Picture
    Pairs = tuple[Texts, Texts]

LARGEST_TABLE = 2_000_000  # cells of a matrix of triplets that are written without being asked for


class Solver(StrEnum):
    """How the matrix is completed."""

    auto = "auto"
    exact = "exact"
    table = "table"
    als = "als"
    ratings = "ratings"
    ratings_quick = "ratings-quick"
    gd = "gd"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(cls=Command)(complete)


def complete(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Table with empty cells or triplets (.csv .tsv .parquet .npz), picture, or sample:china, sample:flower.",
        ),
    ],
    row: Annotated[str | None, typer.Option("--row", help="Column of triplets with the ids of rows.")] = None,
    col: Annotated[str | None, typer.Option("--col", help="Column of triplets with the ids of columns.")] = None,
    value: Annotated[str | None, typer.Option("--value", help="Column of triplets with the values.")] = None,
    predict: Annotated[
        Path | None, typer.Option("--predict", help="File of pairs (the same two columns): writes only these.")
    ] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="Picture, white where FILE's pixels are missing.")] = None,
    missing: Annotated[float, typer.Option("--missing", help="Share of a sample picture to hide.")] = 0.6,
    rank: Annotated[str, typer.Option("--rank", help="auto, or the number of factors.")] = "auto",
    max_rank: Annotated[
        int | None,
        typer.Option("--max-rank", min=1, help="Most factors that auto considers [default: 20; pictures: 60]."),
    ] = None,
    depth: Annotated[
        int, typer.Option("--depth", min=2, help="Layers L of als, exact and gd; the regulariser is Schatten-2/L.")
    ] = 3,
    solver: Annotated[Solver, typer.Option("--solver", help="Chosen by the data, unless said here.")] = Solver.auto,
    scale: Annotated[bool, typer.Option(help="Bring columns to unit variance inside.")] = True,
    clip: Annotated[
        str | None, typer.Option("--clip", help="LOW,HIGH or observed: bounds of what is filled in.")
    ] = None,
    delimiter: Annotated[str | None, typer.Option("--delimiter", help="Of a text file: one character or tab.")] = None,
    seed: Seed = 0,
    out: Out = None,
    fresh: Fresh = False,
    json: Json = False,
    format: FormatOption = Format.auto,
) -> None:
    """Complete a matrix of which only some entries are known.

    lowdim complete table.csv

    lowdim complete ratings.tsv --row user --col item --value rating --predict pairs.csv

    lowdim complete photo.png --mask scratches.png

    lowdim complete sample:china --missing 0.6

    A table is returned with its empty cells filled. Of triplets, the pairs of --predict are written with their deviations, or all of
    a small matrix. The error on a tenth of the entries, predicted without them, is reported beside that of row and column
    means alone: what does not beat them is not used.
    """
    import time

    from lowdim._files import RunFolder, sha256

    begun = time.monotonic()
    source = _read(file, row, col, value, mask, missing, delimiter, seed)
    pairs = _read_pairs(source, predict, delimiter) if predict else None
    options = {"rank": _rank(rank), "max_rank": max_rank or _max_rank(source), "depth": depth, "solver": solver.value}
    options |= {"scale": scale, "clip": _clip(clip, source), "random_state": seed}
    config = {"file": file, "entries": _digest(source), "row": row, "col": col, "value": value, **options}
    config |= {"predict": {"file": str(predict), "sha256": sha256(predict)} if predict else None}
    config |= {"mask": str(mask) if mask else None, "missing": missing}
    with RunFolder(out, "complete", config, fresh=fresh) as folder:
        result = folder.finished()
        if result is None:
            result = {"config": folder.config, **_run(folder, source, options, pairs)}
            result["seconds"] = round(time.monotonic() - begun, 3)
            folder.finish(result)
        if wants_json(json, format):
            emit_json("complete", {"run_folder": folder.path, **result})
        else:
            _print(folder, result)


def _read(
    file: str,
    row: str | None,
    col: str | None,
    value: str | None,
    mask: Path | None,
    missing: float,
    delimiter: str | None,
    seed: int,
) -> "Source":
    from lowdim._files import existing_file
    from lowdim.completion import _pictures as pictures
    from lowdim.completion import _reading as reading
    from lowdim.errors import UsageError

    sample = file.startswith("sample:")
    if mask and (sample or Path(file).suffix.lower() not in pictures.SUFFIXES):
        raise UsageError("--mask is for a picture in a file. Of a sample, --missing says how many pixels to hide.")
    if sample:
        return pictures.sample_picture(file.removeprefix("sample:"), missing, seed)
    path, separator = existing_file(Path(file), "The matrix"), reading.delimiter_of(delimiter)
    if path.suffix.lower() in pictures.SUFFIXES:
        return pictures.read_picture(path, existing_file(mask, "The mask") if mask else None)
    if row or col or value or reading.has_triplets(path, delimiter=separator):
        return reading.read_triplets(path, row, col, value, delimiter=separator)
    return reading.read_table(path, delimiter=separator)


def _read_pairs(source: "Source", predict: Path, delimiter: str | None) -> "Pairs":
    """The ids to predict, read before the fit so that a mistake is not said after it."""
    from lowdim._files import existing_file
    from lowdim.completion import _reading as reading
    from lowdim.errors import UsageError

    if not isinstance(source, reading.Triplets):
        raise UsageError("--predict takes pairs of ids, so FILE must hold triplets. Of a table, all cells are filled.")
    path = existing_file(predict, "The file of pairs")
    return reading.read_pairs(path, source.names[0], source.names[1], delimiter=reading.delimiter_of(delimiter))


def _run(folder: "RunFolder", source: "Source", options: dict[str, Any], pairs: "Pairs | None") -> dict[str, Any]:
    import warnings

    from lowdim.completion import CompletionWarning, DeepMatrixCompletion
    from lowdim.completion._estimator import fit_with_journal
    from lowdim.completion._journal import Journal
    from lowdim.completion._pictures import Picture, to_png
    from lowdim.completion._reading import Table
    from lowdim.report._page import Page, write_report
    from lowdim.report.completion import completion_sections

    entries = source.entries
    if isinstance(source, Table) and source.first:
        say(f"the first column, {source.header[0]!r}, holds text: it names the rows and is not completed")
    say(f"completing {entries.shape[0]} x {entries.shape[1]}, {entries.size} entries known")
    model = DeepMatrixCompletion(**options, keep_empty_features=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CompletionWarning)
        with progress("sweeps") as update:
            fit_with_journal(model, _matrix(source), Journal(folder.state, update))
        pictures = []
        if isinstance(source, Picture):
            filled = source.filled(model.transform(entries))
            output = str(folder.write("completed.png", to_png(filled)))
            pictures = [("known", source.holed()), ("completed", filled)]
        else:
            output = _write(folder, source, model, pairs)
    remarks = [str(one.message) for one in caught] + _unknown_columns(source)
    result = _describe(model, entries.size) | {"output": output, "warnings": remarks}
    page = Page("Completed matrix", _sentence(result), completion_sections(result, model.held_out_entries_, pictures))
    result["figures"] = write_report(folder, page)
    return result


def _matrix(source: "Source") -> Any:
    """What to fit: triplets with their ids, so that pairs can be asked for by them."""
    from lowdim.completion._reading import Triplets

    entries = source.entries
    if isinstance(source, Triplets):
        return source.row_ids[entries.rows], source.column_ids[entries.cols], entries.values
    return entries


def _write(
    folder: "RunFolder", source: "Triplets | Table", model: "DeepMatrixCompletion", pairs: "Pairs | None"
) -> str | None:
    """Writes what was asked for into the run folder; returns its path."""
    from lowdim.completion._reading import Table

    if isinstance(source, Table):
        return str(folder.write("completed.csv", _csv(source.filled(model.transform(source.entries)))))
    if pairs is not None:
        return str(folder.write("predictions.csv", _csv(_predictions(source, model, *pairs))))
    if source.entries.shape[0] * source.entries.shape[1] > LARGEST_TABLE:
        warn("the matrix is too large to write it all; name the pairs that you need in a file and pass --predict.")
        return None
    header = [source.names[0], *source.column_ids.tolist()]
    rows = (
        [id, *map(repr, values.tolist())]
        for id, values in zip(source.row_ids, model.transform(source.entries), strict=True)
    )
    return str(folder.write("completed.csv", _csv([header, *rows])))


def _predictions(source: "Triplets", model: "DeepMatrixCompletion", rows: Any, cols: Any) -> list[list[str]]:
    """The predictions of pairs of ids with their deviations."""
    values, deviations = model.predict(rows, cols, return_std=True)
    numbers = zip(rows, cols, values.tolist(), deviations.tolist(), strict=True)
    return [[*source.names, "deviation"], *([str(r), str(c), repr(v), repr(d)] for r, c, v, d in numbers)]


def _unknown_columns(source: "Source") -> list[str]:
    """A warning of columns without entries: nothing tells their values, not even a mean."""
    from lowdim.completion._pictures import Picture
    from lowdim.completion._reading import Table

    empty = [place for place, count in enumerate(source.entries.col_counts.tolist()) if count == 0]
    if isinstance(source, Table) and empty:
        names = ", ".join(source.header[source.first + place] for place in empty)
        return [f"No cell of column {names} is known, so nothing is filled in there. Leave such columns out."]
    if isinstance(source, Picture) and empty:
        count = len({place % source.pixels.shape[1] for place in empty})
        return [f"{count} columns of the picture have no known pixel and stay black. Mask fewer pixels."]
    return []


def _csv(rows: Any) -> str:
    import csv
    import io

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _describe(model: "DeepMatrixCompletion", observed: int) -> dict[str, Any]:
    return {
        "shape": list(model.shape_),
        "observed": observed,
        "oversampling": model.oversampling_,
        "solver": model.solver_,
        "reason": model.reason_,
        "rank": model.rank_,
        "singular_values": model.singular_values_.tolist(),
        "iterations": model.n_iter_,
        "converged": model.converged_,
        "sure": model.sure_,
        "held_out_rmse": model.held_out_error_,
        "biases_only_rmse": model.biases_error_,
        "held_out_ratio": model.held_out_ratio_,
        "unidentified": {"rows": len(model.unidentified_rows_), "columns": len(model.unidentified_columns_)},
    }


def _sentence(result: dict[str, Any]) -> str:
    return (
        f"{result['shape'][0]} x {result['shape'][1]} with {result['observed']} known entries: held-out error "
        f"{number(result['held_out_rmse'])}, of row and column means alone {number(result['biases_only_rmse'])}."
    )


def _print(folder: "RunFolder", result: dict[str, Any]) -> None:
    for warning in result["warnings"]:
        warn(warning)
    rows = [
        ["solver", f"{result['solver']} ({result['reason']})"],
        ["rank", str(result["rank"])],
        ["entries per degree of freedom", number(result["oversampling"])],
        ["held-out error", number(result["held_out_rmse"])],
        ["of row and column means alone", number(result["biases_only_rmse"])],
        ["the former over the latter, columns scaled", number(result["held_out_ratio"])],
        ["converged", f"{'yes' if result['converged'] else 'NO'}, {result['iterations']} sweeps"],
    ]
    print_table(f"{result['shape'][0]} x {result['shape'][1]}, {result['observed']} entries known", ["", ""], rows)
    if result["output"]:
        print(f"written: {result['output']}")
    print(f"page: {folder.path / 'report.html'}")


def _rank(text: str) -> int | str:
    from lowdim.errors import UsageError

    if text != "auto" and not text.isdigit():
        raise UsageError(f"--rank takes auto or a number, not {text!r}.")
    return text if text == "auto" else int(text)


def _max_rank(source: "Source") -> int:
    from lowdim.completion._pictures import Picture

    return 60 if isinstance(source, Picture) else 20


def _clip(text: str | None, source: "Source") -> Any:
    from lowdim.completion._pictures import Picture
    from lowdim.errors import UsageError

    if text is None:
        return [0, 255] if isinstance(source, Picture) else None
    if text == "observed":
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--clip takes LOW,HIGH or observed, not {text!r}.") from error
    return [low, high]


def _digest(source: "Source") -> str:
    """What tells this matrix and its texts from others."""
    import hashlib

    from lowdim.completion._reading import Table, Triplets

    texts: Any = None
    if isinstance(source, Triplets):
        texts = source.row_ids.tolist(), source.column_ids.tolist(), source.names
    elif isinstance(source, Table):
        texts = source.header, source.cells
    entries = source.entries
    digest = hashlib.sha256(repr((entries.shape, texts)).encode(errors="backslashreplace"))
    for part in (entries.rows, entries.cols, entries.values):
        digest.update(part.tobytes())
    return digest.hexdigest()[:16]
