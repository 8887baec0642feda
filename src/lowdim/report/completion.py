"""The page of a completed matrix."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowdim._numbers import number
from lowdim.figures import Figure, Images, Lines, Panels, Series, Table
from lowdim.report._page import Section

if TYPE_CHECKING:
    from lowdim import tables


def completion_sections(
    result: Mapping[str, Any],
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    pictures: Sequence[tuple[str, np.ndarray]] = (),
    course: Sequence[Lines] = (),
) -> list[Section]:
    """What was done and how well it predicts, for `write_report`; `course` is that of `in_time`."""
    figures: list[Figure] = []
    tables = [_numbers(result)]
    if "columns" in result:
        columns = result["columns"]
        if len(columns) > _MOST_PRINTED:
            columns = sorted(columns, key=lambda column: -column["filled"])
        rows = [
            (column["name"], column["kind"], column["filled"], column["error_ratio"], *_behind(column))
            for column in columns
        ]
        tables.insert(
            0,
            Table(
                "columns",
                "What each column is, and how many of its cells were filled",
                ("column", "kind", "filled", "error over that of its mean", "90 % interval", "checked cells"),
                rows,
                drop=("checked cells", "90 % interval"),
                most=_MOST_PRINTED,
            ),
        )
    if result.get("examples"):
        tables.append(_examples(result))
    if pictures:
        figures.append(Images("picture", "Before and after", pictures))
    if course:
        caption = "Bars are the 90 % intervals of the filled cells."
        figures.append(Panels("in-time", "What was filled, in order of time", course, columns=1, caption=caption))
    checks = _held_out(*held_out) if held_out is not None else []
    figures = [*figures, *checks] if "columns" not in result else [*_by_column(result), *figures]
    sizes = np.asarray(result["singular_values"], float)
    if sizes.size:
        index = np.arange(1, sizes.size + 1)
        spectrum = [Series("completed matrix", index, sizes, style="line+points")]
        figures.append(
            Lines("singular-values", "Singular values of the low-rank part", "index", "value", spectrum, log_y=True)
        )
    why = [
        "Known entries were predicted without them (of a table all, each as if its column were unknown in its row; otherwise tenths that "
        "were set aside), and the error is compared with that of row and column means alone. Below 1 the model has learned something.",
        f"The solver is {result['solver']}: {result['reason']}.",
    ]
    if result["output"]:
        beside = Path(result["output"]).parent
        lists = (
            f"; the filled cells with their intervals: {beside / 'filled.csv'}, deviations: {beside / 'deviations.csv'}"
        )
        why.append(f"Written: {result['output']}{lists if 'filled' in result else ''}.")
    return [Section("completion", "The completion", why, figures, tables, notes=result["warnings"], terms=_TERMS)]


def in_time(table: "tables.Table", filled: Mapping[tuple[int, int], "tables.Filled"]) -> list[Lines]:
    """The columns with most filled numbers, around the first of these, where all rows of a table follow each other in time."""
    if table.clock is None or table.entity is not None:
        return []
    times = table.clock[:, 1]
    order = np.argsort(times, kind="stable")[: int((~np.isnan(times)).sum())]
    time = next(column for column in table.columns if column.name == table.time)
    x_label = time.name
    if time.kind == "date":
        x_label = f"days since {time.write(float(times[order[0]]))}"
        times = times - times[order[0]]
    holes = Counter(place for _, place in filled if table.columns[place].kind in ("number", "integer"))
    drawn: list[Lines] = []
    for place, _ in holes.most_common(_COURSES):
        column = table.columns[place]
        first = next((k for k, row in enumerate(order) if (int(row), place) in filled), 0)
        near = order[max(min(first - _COURSE // 10, order.size - _COURSE), 0) :][:_COURSE]
        cells = [filled[int(row), place] for row in near if (int(row), place) in filled]
        low, high = np.array([(cell.low, cell.high) for cell in cells], float).reshape(-1, 2).T
        found = times[[cell.row for cell in cells]]
        series = [
            Series("known", times[near], column.numbers[near, 0]),
            Series("filled", found, (low + high) / 2, low, high, style="points"),
        ]
        drawn.append(Lines(f"in-time-{place}", column.name, x_label, column.name, series))
    return drawn


def _behind(column: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """What the error of a column rests on."""
    interval = column.get("error_ratio_interval")
    return f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else None, column.get("checked") or None


def _examples(result: Mapping[str, Any]) -> Table:
    rows = [(one["row"], one["column"], one["value"], one["deviation"]) for one in result["examples"]]
    whole = result.get("filled", len(rows))
    title = f"The first {len(rows)} of {whole:,} filled cells" if whole > len(rows) else "The filled cells"
    if counted := result.get("rows_counted"):
        title += f", rows counted {counted}"
    if "filled" not in result:
        title = "The first of the predictions"
    caption = "One standard deviation of a number; of a level, the probability of another."
    names = result.get("names", ("row", "column", "value"))
    return Table("examples", title, (*names, "deviation"), rows, caption)


def _by_column(result: Mapping[str, Any]) -> list[Figure]:
    """How well each column is predicted; where there are many, those first in which most cells were filled."""
    known = [column for column in result["columns"] if column["error_ratio"] is not None]
    known = sorted(
        sorted(known, key=lambda column: -column["filled"])[:_MOST], key=lambda column: column["error_ratio"]
    )
    if not known:
        return []
    ratios = Series("error", list(range(len(known))), [column["error_ratio"] for column in known], style="bars")
    filled = [
        f"{column['name']}: {column['filled']:,} filled" if column["filled"] else column["name"] for column in known
    ]
    return [
        Lines(
            "by-column",
            "How well known cells are predicted, column by column",
            "",
            "error over that of the column's mean",
            [ratios],
            x_ticks=filled,
            across=True,
            caption="Each known cell was predicted as if it were empty. 0 is exact; at 1 the column's mean would do as well.",
        )
    ]


_TERMS = {"held-out": "of known entries, each predicted without being looked at"}
_MOST_PRINTED = 20
"""Columns in the terminal."""
_MOST = 30
"""Columns in a figure."""
_COURSES, _COURSE = 3, 600
"""Columns that are drawn in order of time, and rows of each."""


def _numbers(result: Mapping[str, Any]) -> Table:
    table = "columns" in result  # whose columns have units of their own
    interval = result.get("held_out_rmse_interval")
    rows: list[tuple[str, Any]] = [
        ("rows x columns", f"{result['shape'][0]:,} x {result['shape'][1]:,}"),
        ("known cells" if table else "known pixels" if "picture" in result else "observed", result["observed"]),
    ]
    if result["rank"]:
        rows += [("entries per degree of freedom", result["oversampling"]), ("rank", result["rank"])]
    if not table:
        rows += [
            ("held-out error (root mean square)", result["held_out_rmse"]),
            *([("its 90 % interval", " to ".join(number(end) for end in interval))] if interval else []),
        ]
        if result.get("test_rmse") is not None:
            rows.append(("error on the test entries (root mean square)", result["test_rmse"]))
            ends = result["test_rmse_interval"]
            rows += [("its 90 % interval", " to ".join(number(end) for end in ends))] if ends else []
        if result["solver"] != "biases":
            rows.append(("held-out error of row and column means", result["biases_only_rmse"]))
    if result["solver"] != "biases":  # the ratio is that of the solver which was not used
        name = "error over row and column means', columns scaled" if table else "their ratio, columns scaled"
        rows.append((name, result["held_out_ratio"]))
    if result["iterations"]:
        stopped = "no: stopped while it still changed; the errors are those of what was reached"
        rows += [("sweeps", result["iterations"]), ("converged", result["converged"] or stopped)]
    return Table("numbers", "Numbers", ("quantity", "value"), rows)


def _held_out(values: np.ndarray, predictions: np.ndarray) -> list[Figure]:
    """Predicted against observed values, and the distribution of the residuals."""
    known = np.isfinite(predictions)
    if not known.any():
        return []
    some = np.flatnonzero(known)[:: -(-int(known.sum()) // 2000)]  # at most 2,000, from all over
    values, predictions = values[some], predictions[some]
    ends = [float(values.min()), float(values.max())]
    scatter = [
        Series("known entries", values, predictions, style="points"),
        Series("equal", ends, ends, style="dashed"),
    ]
    residuals = np.sort(values - predictions)
    share = (np.arange(residuals.size) + 0.5) / residuals.size
    return [
        Lines("held-out", "Known entries, predicted without them", "observed", "predicted", scatter),
        Lines(
            "residuals",
            "Residuals of these",
            "observed less predicted",
            "share below",
            [Series("share", residuals, share)],
        ),
    ]
