"""pandas and polars frames: their columns for `table_of_frame`, and back in the same types."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from lowdim.errors import InputError
from lowdim.tables._columns import marks_of
from lowdim.tables._marks import MISSING, MISSING_TEXT
from lowdim.tables._table import Filled

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def is_frame(data: Any) -> bool:
    """Whether this is a frame of columns held in memory."""
    if isinstance(data, pd.DataFrame):
        return True
    return isinstance(nw.from_native(data, eager_only=True, pass_through=True), nw.DataFrame)


def is_matrix(data: Any) -> bool:
    """Whether this is an array of numbers with rows and columns."""
    return isinstance(data, np.ndarray) and data.ndim == 2 and data.size > 0 and data.dtype.kind in "fiub"


def is_plain(data: Any) -> bool:
    """Whether all columns of a pandas frame are NumPy floats or whole numbers: nothing is lost when it becomes an array."""
    return isinstance(data, pd.DataFrame) and all(
        getattr(dtype, "kind", "O") in "fiu"
        and not hasattr(dtype, "na_value")
        and not pd.api.types.is_extension_array_dtype(dtype)
        for dtype in data.dtypes
    )


def to_pandas(data: Any) -> pd.DataFrame:
    """The columns of a frame or array as pandas holds them, with missing cells as pandas' own.

    Raises:
        InputError: If two columns have one name.
    """
    if isinstance(data, np.ndarray):
        return pd.DataFrame(
            np.ma.filled(data.astype(np.float64), np.nan), columns=[str(n) for n in range(data.shape[1])]
        )
    if isinstance(data, pd.DataFrame):
        repeated = data.columns[data.columns.duplicated()]
        if len(repeated):
            raise InputError(f"The frame has more than one column {repeated[0]!r}. Give each its own name.")
        sparse = [place for place, dtype in enumerate(data.dtypes) if isinstance(dtype, pd.SparseDtype)]
        if sparse:
            data = data.copy(deep=False)
            for place in sparse:
                data.isetitem(place, data.iloc[:, place].sparse.to_dense())
        return data
    frame = nw.from_native(data, eager_only=True)
    return pd.DataFrame({name: _column(frame[name]) for name in frame.columns})


def _column(series: Any) -> pd.Series:
    kind = series.dtype
    cells = series.to_list()
    if kind.is_integer():
        large = max((cell for cell in cells if cell is not None), default=0) > np.iinfo(np.int64).max
        return pd.Series(cells, dtype="UInt64" if large else "Int64")
    if kind.is_float():
        return pd.Series(cells, dtype="float64")
    if kind == nw.Boolean:
        return pd.Series(cells, dtype="boolean")
    if kind in (nw.Categorical, nw.Enum):
        return pd.Series(pd.Categorical(cells))
    if kind == nw.Datetime:
        return pd.to_datetime(pd.Series(cells))
    if kind == nw.Duration:
        return pd.to_timedelta(pd.Series(cells))
    return pd.Series(cells, dtype=object)


def without_marks(frame: pd.DataFrame, missing: Sequence[str], *, usual: bool = True) -> pd.DataFrame:
    """The frame without texts that stand for a missing cell: those named, also of numbers, and, if wanted, the usual ones, of which there are
    more among numbers."""
    frame = frame.copy(deep=False)
    names = [str(name) for name in frame.columns]
    for place, name in enumerate(names):
        column, own = frame.iloc[:, place], marks_of(name, names, missing)
        named = {float(text) for text in own if _NUMBER.fullmatch(text.strip())}
        if named and pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
            whole = pd.api.types.is_integer_dtype(column.dtype)
            frame.isetitem(place, (column.convert_dtypes() if whole else column).mask(column.isin(named)))
            continue
        texts = [cell.strip().lower() if isinstance(cell, str) else None for cell in column]
        if not any(text is not None for text in texts):
            continue
        numbers = any(isinstance(cell, int | float) and not pd.isna(cell) for cell in column)
        marks = ((MISSING if numbers else MISSING_TEXT) if usual else frozenset()) | {
            text.strip().lower() for text in own
        }
        marked = [text in marks for text in texts]
        if any(marked):
            frame.isetitem(place, column.astype(object).mask(np.array(marked), None).infer_objects().convert_dtypes())
    return frame


def plain(value: Any) -> Any:
    """Python's own type of a time."""
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.to_pytimedelta() if isinstance(value, pd.Timedelta) else value


def with_filled(data: Any, filled: Mapping[tuple[int, int], Filled]) -> Any:
    """A copy of the frame or array with some cells filled, by (row, column); the types of all columns stay."""
    by_column: dict[int, list[Filled]] = {}
    for (_, place), cell in filled.items():
        by_column.setdefault(place, []).append(cell)
    if isinstance(data, np.ndarray):
        matrix = np.ma.filled(data.astype(np.result_type(data, np.float32)), np.nan)
        for (row, column), cell in filled.items():
            matrix[row, column] = cell.value
        return matrix
    if isinstance(data, pd.DataFrame):
        result = data.copy()
        for place, cells in by_column.items():
            result.isetitem(place, _filled_series(data.iloc[:, place], cells))
        return result
    frame = nw.from_native(data, eager_only=True)
    columns: Sequence[Any] = [frame[name] for name in frame.columns]
    new: list[Any] = []
    for place, cells in by_column.items():
        series = columns[place]
        values = series.to_list()
        for cell in cells:
            values[cell.row] = plain(cell.value)
        new.append(nw.new_series(series.name, values, series.dtype, backend=frame.implementation))
    return frame.with_columns(*new).to_native() if new else data


def _filled_series(series: pd.Series, cells: Sequence[Filled]) -> pd.Series:
    result = series.copy()
    if isinstance(series.dtype, pd.SparseDtype):
        result = result.sparse.to_dense()
    result.iloc[[cell.row for cell in cells]] = pd.array(
        [cell.value for cell in cells],
        dtype=result.dtype if not isinstance(result.dtype, pd.CategoricalDtype) else object,
    )
    return result.astype(series.dtype)
