"""The page of a completed matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lowdim.figures import Figure, Images, Lines, Series, Table
from lowdim.report._page import Section


def completion_sections(
    result: Mapping[str, Any],
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    pictures: Sequence[tuple[str, np.ndarray]] = (),
) -> list[Section]:
    """What was done and how well it predicts, for `write_report`."""
    figures: list[Figure] = []
    tables = [_numbers(result)]
    if "columns" in result:
        rows = [
            (column["name"], column["kind"], column["filled"], column["error_ratio"]) for column in result["columns"]
        ]
        tables.insert(
            0,
            Table(
                "columns",
                "What each column is, and how many of its cells were filled",
                ("column", "kind", "filled", "error over that of its mean"),
                rows,
            ),
        )
    if pictures:
        figures.append(Images("picture", "Before and after", pictures))
    sizes = np.asarray(result["singular_values"], float)
    if sizes.size:
        index = np.arange(1, sizes.size + 1)
        spectrum = [Series("completed matrix", index, sizes, style="line+points")]
        figures.append(
            Lines("singular-values", "Singular values of the low-rank part", "index", "value", spectrum, log_y=True)
        )
    checks = _held_out(*held_out) if held_out is not None else []
    figures = [*figures, *checks] if "columns" not in result else [*_by_column(result), *figures]
    why = [
        "Known entries were predicted without them (of a table all, each as if its column were unknown in its row; otherwise a tenth that "
        "was set aside), and the error is compared with that of row and column means alone. Below 1 the model has learned something.",
        f"The solver is {result['solver']}: {result['reason']}.",
    ]
    return [Section("completion", "The completion", why, figures, tables, notes=result["warnings"], terms=_TERMS)]


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
_MOST = 30
"""Columns in a figure."""


def _numbers(result: Mapping[str, Any]) -> Table:
    table = "columns" in result  # whose columns have units of their own
    shape = result["shape"][0], len(result["columns"]) if table else result["shape"][1]
    rows = [
        ("rows x columns", f"{shape[0]} x {shape[1]}"),
        ("known cells" if table else "observed", result["observed"]),
        ("entries per degree of freedom", result["oversampling"]),
        ("rank", result["rank"]),
    ]
    if not table:
        rows += [
            ("held-out error (root mean square)", result["held_out_rmse"]),
            ("held-out error of row and column means", result["biases_only_rmse"]),
        ]
    rows += [
        (
            "their ratio, columns scaled" if not table else "error over means', columns scaled",
            result["held_out_ratio"],
        ),
        ("sweeps", result["iterations"]),
        ("converged", result["converged"]),
    ]
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
