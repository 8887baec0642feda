"""From what users hold (arrays, frames, sparse matrices, triplets with ids, pictures) to validated entries, and what tables say of ids."""

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from lowdim._reading import read_arrays, reading
from lowdim.completion.entries._entries import Entries
from lowdim.errors import InputError, UsageError, did_you_mean, require
from lowdim.tables import is_frame, is_matrix, rows_are_named, table_of_frame, to_pandas, with_times

Ids = NDArray[Any]

_ARRAYS = "Save plain arrays with numpy.savez."
_GAPS, _FEW = 10, 10_000
"""Integers up to so many times their number, or this, are places; larger ones are ids."""
NULLS = ("None", "nan", "<NA>", "NaT")  # what becomes of a missing id as text
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
SAMPLES = ("china", "flower")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Numbered:
    """Entries with the ids of their rows and columns; None where the indices themselves were given."""

    entries: Entries
    row_ids: Ids | None
    column_ids: Ids | None


def read_matrix(path: Path) -> NDArray[Any] | None:
    """The matrix of numbers that is all that a ``.npy`` or ``.npz`` file holds; None of another file.

    Raises:
        InputError: If it is damaged, or of another kind.
    """
    if path.suffix.lower() == ".npy":
        with reading(path, "an .npy file"):
            found = np.load(path, allow_pickle=False)
        if not is_matrix(found):
            raise InputError(f"{path} holds {found.shape} of type {found.dtype}, not a matrix of numbers.")
        return found
    if path.suffix.lower() != ".npz" or len(read_arrays(path, [], remedy=_ARRAYS)[1]) != 1:
        return None
    (found,) = read_arrays(path, None, remedy=_ARRAYS)[0].values()
    return found if is_matrix(found) else None


def is_triplets(data: object) -> bool:
    """Whether `data` is `Entries` or a tuple of three one-dimensional sequences of one length: rows, columns and values."""
    if isinstance(data, Entries):
        return True
    if not (isinstance(data, tuple) and len(data) == 3):
        return False
    return all(np.ndim(part) == 1 for part in data)


def read_triplets(data: Any, *, columns: int | None = None, column_ids: Ids | None = None) -> Numbered:
    """Triplets with integer indices from 0, or with ids of any other kind, which are numbered in sorted order.

    The number of columns, or their ids, may be known from before; other ids are then an error.
    """
    if isinstance(data, Entries):
        if columns not in (None, data.shape[1]):
            raise InputError(
                f"The entries have {data.shape[1]} columns, but the model was fitted to {columns}. Pass a shape with as many."
            )
        return Numbered(data, None, None)
    if any(np.ma.is_masked(part) for part in data):  # what is masked is unknown
        hidden = np.logical_or.reduce([np.ma.getmaskarray(np.ma.asanyarray(part)) for part in data])
        data = [np.asarray(part)[~hidden] for part in data]
    rows, cols, values = (np.asarray(part) for part in data)
    row_places, row_ids = _numbered(rows, "row")
    if column_ids is not None:
        col_places = places_of(cols, column_ids, "column")
        if (col_places < 0).any():
            unknown = str(cols[int(np.argmax(col_places < 0))])
            raise InputError(
                f"Column {unknown!r} was not among the training columns. Leave its entries out, or fit again."
            )
    else:
        col_places, column_ids = _numbered(cols, "column")
    width = columns if columns is not None else (None if column_ids is None else len(column_ids))
    shape = None
    if width is not None and row_places.size:
        shape = int(row_places.max()) + 1, width
    return Numbered(Entries.from_triplets(row_places, col_places, values, shape), row_ids, column_ids)


def places_of(ids: ArrayLike, known: Ids | None, axis: str, size: int = 0) -> NDArray[np.intp]:
    """Positions of ids among the known ones, -1 for those that are not; of indices themselves where `known` is None.

    Raises:
        InputError: If an index is out of range or not an integer.
    """
    wanted = np.atleast_1d(np.asarray(ids))
    if known is None:
        if wanted.dtype.kind not in "iu":
            raise InputError(f"The {axis}s must be integers from 0, but got dtype {wanted.dtype}.")
        outside = (wanted < 0) | (wanted >= size)
        if outside.any():
            raise InputError(f"{axis.capitalize()} {wanted[int(np.argmax(outside))]} is outside 0..{size - 1}.")
        return wanted.astype(np.intp)
    if known.dtype.kind not in "iu":
        wanted = _texts(wanted, axis)
    elif wanted.dtype.kind not in "iu":
        raise InputError(f"The {axis} ids must be integers, as in training, but got dtype {wanted.dtype}.")
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[place] == wanted, place, -1)


def is_mixed(data: Any) -> bool:
    """Whether this is a frame with more than plain numbers: texts, categories, dates (as index, too), other objects, nullable or polars'
    own types, whole numbers that name the rows or are their years."""
    if not is_frame(data):
        return False
    dtypes = getattr(data, "dtypes", None)
    if dtypes is None or not hasattr(dtypes, "items") or with_times(data) is not data:  # polars, or times
        return True
    if not all(isinstance(dtype, np.dtype) and dtype.kind in "fiuO" for dtype in dtypes):
        return True
    objects = [data.iloc[:, place] for place, dtype in enumerate(dtypes) if dtype.kind == "O"]
    if any(isinstance(cell, bool) or not isinstance(cell, Real) for cells in objects for cell in cells.dropna()):
        return True
    try:
        numeric(data)
    except InputError:
        return True
    return rows_are_named(data)


def numeric(data: Any) -> Any:
    """A pandas frame with its columns of objects as numbers; anything else as it is.

    Raises:
        InputError: If a column holds something else than numbers, or two have one name.
    """
    if isinstance(data, np.ma.MaskedArray):
        return np.ma.filled(data.astype(np.float64), np.nan)
    if not hasattr(data, "columns") or not hasattr(getattr(data, "dtypes", None), "items"):
        return data
    repeated = data.columns[data.columns.duplicated()]
    if len(repeated):
        raise InputError(f"The frame has more than one column {repeated[0]!r}. Give each its own name.")
    frame = data.copy(deep=False)
    for place, (name, kind) in enumerate(data.dtypes.items()):
        if kind.kind in "fiub":
            continue
        try:
            if kind.kind != "O":  # dates would become numbers
                raise TypeError
            frame.isetitem(place, require("pandas", "A frame").to_numeric(data.iloc[:, place]))
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(
                f"Column {name!r} holds {kind}, not numbers. Encode it, or send only numeric columns here with "
                "sklearn.compose.ColumnTransformer([('numbers', DeepMatrixCompletion(), [...])], remainder='passthrough')."
            ) from error
    return frame


def entries_of(matrix: Any, *, allow_empty: bool = False) -> Entries:
    """Entries of a validated array (NaN is missing) or sparse matrix (what is stored is observed)."""
    sparse = scipy.sparse.issparse(matrix)
    if allow_empty and (matrix.nnz == 0 if sparse else bool(np.isnan(matrix).all())):
        none = np.zeros(0, np.int32)
        return Entries(none, none, np.zeros(0), matrix.shape, np.zeros(matrix.shape[0] + 1, np.int64))
    return Entries.from_sparse(matrix) if sparse else Entries.from_dense(matrix)


def _numbered(ids: Ids, axis: str) -> tuple[NDArray[Any], Ids | None]:
    if ids.dtype.kind in "iu":
        if ids.size == 0 or int(ids.max()) < max(_GAPS * ids.size, _FEW):
            return ids, None
        known, places = np.unique(ids, return_inverse=True)  # numbers that name, not places
        return places, known
    if ids.size == 0:
        return ids.astype(int), None
    if ids.dtype.kind in "fb":
        raise InputError(f"Row and column ids must be integers from 0 or text, but got dtype {ids.dtype}.")
    known, places = np.unique(_texts(ids, axis), return_inverse=True)
    return places, known


def _texts(ids: Ids, axis: str) -> Ids:
    texts = ids.astype(str)
    for place in np.flatnonzero(np.isin(texts, NULLS)):
        if not isinstance(ids[place], str):
            raise InputError(f"The {axis} id at position {place} is missing ({ids[place]}). Leave its entry out.")
    return texts


def with_tables(
    numbered: Numbered, user_table: Any, item_table: Any
) -> tuple[Numbered, NDArray[np.float64] | None, NDArray[np.float64] | None]:
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
) -> tuple[NDArray[Any], Ids | None, int, NDArray[np.float64] | None]:
    """Places, ids, their number and the features of one side with its table."""
    if table is None:
        return places, ids, count, None
    if not is_frame(table):
        raise InputError(f"{name} must be a pandas or polars frame, with ids in its first column.")
    import pandas as pd

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


def _standardised(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of mean 0 and unit variance, 0 where a cell is missing."""
    size = np.nanmax(np.abs(matrix), axis=0)
    matrix = matrix / np.where(size > 0, size, 1.0)  # whose squares are numbers
    mean, scale = np.nanmean(matrix, axis=0), np.nanstd(matrix, axis=0)
    return np.nan_to_num((matrix - mean) / np.where(scale > 0, scale, 1.0))


@dataclass(frozen=True)
class Picture:
    """``(H, W, C)`` pixels, and which of them ``(H, W)`` are missing. As a matrix, the colours stand side by side: they share the row factors."""

    pixels: Pixels
    missing: NDArray[np.bool_]

    @property
    def entries(self) -> Entries:
        """The known pixels as an ``(H, C W)`` matrix."""
        holed = np.where(self.missing[:, :, None], np.nan, self.pixels.astype(np.float64))
        return Entries.from_dense(holed.transpose(0, 2, 1).reshape(len(holed), -1))

    def filled(self, completed: NDArray[np.floating[Any]]) -> Pixels:
        """The picture with the missing pixels from the completed matrix."""
        height, width, channels = self.pixels.shape
        colours = completed.reshape(height, channels, width).transpose(0, 2, 1)
        rounded = np.clip(np.round(colours), 0, 255).astype(np.uint8)
        return np.where(self.missing[:, :, None], rounded, self.pixels)

    def holed(self) -> Pixels:
        """The picture with the missing pixels black."""
        return np.where(self.missing[:, :, None], np.uint8(0), self.pixels)


def read_picture(path: Path, mask: Path | None) -> Picture:
    """A picture whose missing pixels are transparent, or white in a mask of the same size.

    Raises:
        InputError: If a file is not a picture, the sizes differ, or no pixel is missing.
    """
    pixels = _open(path, "RGBA")
    alpha, pixels = pixels[:, :, 3], pixels[:, :, :3]
    missing = alpha == 0
    if mask is not None:
        white = _open(mask, "L")
        if white.shape != missing.shape:
            sizes = f"{white.shape[1]} x {white.shape[0]}, the picture {missing.shape[1]} x {missing.shape[0]}"
            raise InputError(f"The mask {mask} is {sizes}. They must be equal.")
        missing = white > 127
    if not missing.any():
        raise InputError(
            f"No pixel of {path} is missing. Pass a `mask` with a picture that is white there, or use transparency."
        )
    grey = (pixels == pixels[:, :, :1]).all()
    return Picture(pixels[:, :, :1] if grey else pixels, missing)


def sample_picture(name: str, share: float, seed: int) -> Picture:
    """One of scikit-learn's sample pictures at half its size, with a random share of its pixels missing."""
    from sklearn.datasets import load_sample_image

    if name not in SAMPLES:
        raise UsageError(f"There is no sample picture {name!r}. {did_you_mean(name, SAMPLES)}")
    if not 0 < share < 1:
        raise UsageError(f"`missing` is a share between 0 and 1, not {share}.")
    pixels = np.asarray(load_sample_image(f"{name}.jpg"))
    height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    blocks = pixels[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    small = np.round(blocks.mean((1, 3))).astype(np.uint8)
    return Picture(small, np.random.default_rng(seed).random(small.shape[:2]) < share)


def to_png(pixels: Pixels) -> bytes:
    """The picture as a PNG file."""
    import io

    from lowdim._pictures import array_image

    buffer = io.BytesIO()
    array_image(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _open(path: Path, mode: str) -> Pixels:
    from lowdim._pictures import open_picture

    return np.asarray(open_picture(path, remedy="Make it smaller, or repair it.").convert(mode))
