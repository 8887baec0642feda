"""What tables say about the rows and columns of triplets: new ids, and features of the known ones."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lowdim.completion.entries._entries import Entries
from lowdim.completion.entries._inputs import Ids, Numbered, places_of
from lowdim.errors import InputError
from lowdim.tables import is_frame, table_of_frame, to_pandas

Array = NDArray[np.float64]


def with_tables(numbered: Numbered, user_table: Any, item_table: Any) -> tuple[Numbered, Array | None, Array | None]:
    """Entries with a row or column for every id that is in a table, and the features ``(ids, d)`` of both sides, or None.

    The first column of a table holds the ids of rows (or columns), the others what is known of them.

    Raises:
        InputError: If an id comes twice or does not fit those of the entries, or no column says anything.
    """
    entries = numbered.entries
    rows, row_ids, m, row_features = _side(
        entries.rows, numbered.row_ids, entries.shape[0], user_table, "user_table", "row"
    )
    cols, column_ids, n, col_features = _side(
        entries.cols, numbered.column_ids, entries.shape[1], item_table, "item_table", "column"
    )
    larger = Entries.from_triplets(rows, cols, entries.values, (m, n))
    return Numbered(larger, row_ids, column_ids), row_features, col_features


def _side(
    places: NDArray[Any], ids: Ids | None, count: int, table: Any, name: str, axis: str
) -> tuple[NDArray[Any], Ids | None, int, Array | None]:
    """Places, ids, their number and the features of one side with its table."""
    if table is None:
        return places, ids, count, None
    if not is_frame(table):
        raise InputError(f"{name} must be a pandas or polars frame, with ids in its first column.")
    frame = to_pandas(table)
    own = frame.iloc[:, 0].to_numpy()
    if pd.isna(own).any():
        raise InputError(f"{name} has an empty id in row {int(np.argmax(pd.isna(own))) + 1}. Leave the row out.")
    repeated = pd.Series(own).duplicated().to_numpy()
    if repeated.any():
        raise InputError(f"{name} has the id {own[int(np.argmax(repeated))]!r} twice. Keep one of the rows.")
    if ids is None:
        if own.dtype.kind not in "iu":
            raise InputError(f"The ids of {name} must be integers from 0, as those of the entries, not {own.dtype}.")
        count = max(count, int(own.max()) + 1)
        own_places = places_of(own, None, axis, count)
    else:
        own = own.astype(ids.dtype) if ids.dtype.kind in "iu" and own.dtype.kind in "iu" else own.astype(str)
        known = np.union1d(ids, own)
        places = np.searchsorted(known, ids)[places]
        ids, count = known, known.size
        own_places = np.searchsorted(known, own)
    if frame.shape[1] < 2:
        raise InputError(f"{name} has no column beside the ids.")
    told = _standardised(table_of_frame(frame.iloc[:, 1:]).matrix)
    features = np.zeros((count, told.shape[1]))
    features[own_places] = told
    return places, ids, count, features


def _standardised(matrix: Array) -> Array:
    """Columns of mean 0 and unit variance, 0 where a cell is missing."""
    size = np.nanmax(np.abs(matrix), axis=0)
    matrix = matrix / np.where(size > 0, size, 1.0)  # whose squares are numbers
    mean, scale = np.nanmean(matrix, axis=0), np.nanstd(matrix, axis=0)
    return np.nan_to_num((matrix - mean) / np.where(scale > 0, scale, 1.0))
