"""pandas and polars frames: their columns for `table_of_frame`, and back in the same types."""

from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import pandas as pd

from lowdim.errors import InputError
from lowdim.tables._table import Filled


def is_frame(data: Any) -> bool:
    """Whether this is a frame of columns held in memory."""
    if isinstance(data, pd.DataFrame):
        return True
    return isinstance(nw.from_native(data, eager_only=True, pass_through=True), nw.DataFrame)


def is_plain(data: Any) -> bool:
    """Whether all columns of a pandas frame are NumPy floats or whole numbers: nothing is lost when it becomes an array."""
    return isinstance(data, pd.DataFrame) and all(
        getattr(dtype, "kind", "O") in "fiu"
        and not hasattr(dtype, "na_value")
        and not pd.api.types.is_extension_array_dtype(dtype)
        for dtype in data.dtypes
    )


def to_pandas(data: Any) -> pd.DataFrame:
    """The columns as pandas holds them, with missing cells as pandas' own.

    Raises:
        InputError: If two columns have one name.
    """
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
        return pd.Series(cells, dtype="Int64")
    if kind.is_float():
        return pd.Series(cells, dtype="float64")
    if kind == nw.Boolean:
        return pd.Series(cells, dtype="boolean")
    if kind in (nw.Categorical, nw.Enum):
        return pd.Series(pd.Categorical(cells))
    if kind in (nw.Date, nw.Datetime):
        return pd.to_datetime(pd.Series(cells))
    return pd.Series(cells, dtype=object)


def with_filled(data: Any, filled: Mapping[tuple[int, int], Filled]) -> Any:
    """A copy of the frame with some cells filled, by (row, column); the types of all columns stay."""
    by_column: dict[int, list[Filled]] = {}
    for (_, place), cell in filled.items():
        by_column.setdefault(place, []).append(cell)
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
            value = cell.value
            values[cell.row] = value.to_pydatetime() if isinstance(value, pd.Timestamp) else value
            if series.dtype == nw.Date:
                values[cell.row] = values[cell.row].date()
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
