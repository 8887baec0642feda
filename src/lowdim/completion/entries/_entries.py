"""The observed entries of an incomplete matrix: validated once, stored by rows and, on demand, by columns."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import ArrayLike, NDArray

from lowdim._compiled import run_rows
from lowdim._memory import require_memory
from lowdim.completion.entries import _kernels
from lowdim.errors import InputError, NonFiniteError

LARGEST_SIDE = np.iinfo(np.int32).max
NUMBERING = "Number only the rows and columns that occur (numpy.unique with return_inverse)."

Ints = NDArray[np.integer[Any]]

SURE = 1.15  # entries per degree of freedom from which a vanished residual proves the matrix


@dataclass(frozen=True, eq=False)
class Entries:
    """Observed entries of an (m, n) matrix, in row-major order.

    Make one with :meth:`from_triplets`, :meth:`from_dense` or :meth:`from_sparse`, which validate.

    Attributes:
        rows: (``|Omega|``,) int32 row of each entry, ascending.
        cols: (``|Omega|``,) int32 column of each entry, ascending within a row.
        values: (``|Omega|``,) float64, finite. An observed zero is an entry like any other.
        shape: (m, n).
        row_start: (m + 1,) int64: the entries of row ``i`` are at ``row_start[i]:row_start[i + 1]``.
    """

    rows: NDArray[np.int32]
    cols: NDArray[np.int32]
    values: NDArray[np.float64]
    shape: tuple[int, int]
    row_start: NDArray[np.int64]

    @classmethod
    def from_triplets(
        cls, rows: ArrayLike, cols: ArrayLike, values: ArrayLike, shape: tuple[int, int] | None = None
    ) -> "Entries":
        """Observed entries from (row, column, value) triplets in any order.

        Args:
            rows: (n,) integers in [0, m).
            cols: (n,) integers in [0, n).
            values: (n,) finite numbers.
            shape: (m, n); the smallest that holds all indices when not given.

        Raises:
            InputError: If the lengths differ, there is no entry, an index is not an integer or out of range,
                or one position comes twice with different values. A repeated equal value is kept once.
            NonFiniteError: If a value is NaN or infinite.
            ResourceError: If most rows or columns are empty and memory would not hold them.

        Example:
            >>> entries = Entries.from_triplets([1, 0], [0, 2], [5.0, 7.0])
            >>> entries.shape, entries.values.tolist()
            ((2, 3), [7.0, 5.0])
        """
        row_array, col_array = _as_indices("rows", rows), _as_indices("cols", cols)
        value_array = np.ravel(_as_numbers("values", values))
        if not row_array.size == col_array.size == value_array.size:
            lengths = f"{row_array.size} rows, {col_array.size} columns and {value_array.size} values"
            raise InputError(f"Triplets need as many rows as columns and values, but there are {lengths}.")
        if value_array.size == 0:
            raise InputError("There is no observed entry, so nothing can be learned. Pass at least one.")
        if shape is None:
            shape = max(int(row_array.max()), 0) + 1, max(int(col_array.max()), 0) + 1
        shape = _checked_shape(shape)
        row_array = _checked_indices("row", row_array, shape[0])
        col_array = _checked_indices("column", col_array, shape[1])
        _check_finite(value_array, row_array, col_array)
        if sum(shape) > 2 * value_array.size:  # otherwise the sides take no more than the entries
            purpose = f"A matrix of {shape[0]} x {shape[1]} with {value_array.size} entries"
            require_memory(16 * sum(shape), purpose, NUMBERING)
        return _sorted(row_array, col_array, value_array, shape, refuse_repeats=False)

    @classmethod
    def from_dense(cls, matrix: ArrayLike) -> "Entries":
        """Observed entries of a dense matrix whose missing entries are NaN.

        Raises:
            InputError: If the array is not a matrix of numbers or holds no observed entry.
            NonFiniteError: If an entry is infinite.

        Example:
            >>> Entries.from_dense([[1.0, float("nan")], [0.0, 2.0]]).values.tolist()
            [1.0, 0.0, 2.0]
        """
        dense = _as_numbers("matrix", matrix)
        if dense.ndim != 2:
            raise InputError(f"A matrix has two axes, but the array has shape {dense.shape}.")
        shape = _checked_shape((dense.shape[0], dense.shape[1]))
        rows, cols = np.nonzero(~np.isnan(dense))
        if rows.size == 0:
            raise InputError(f"All {dense.size} entries are missing (NaN), so nothing can be learned.")
        values = dense[rows, cols].astype(np.float64)
        rows, cols = rows.astype(np.int32), cols.astype(np.int32)
        _check_finite(values, rows, cols)
        counts = np.bincount(rows, minlength=shape[0])
        return cls(rows, cols, values, shape, np.concatenate([[0], np.cumsum(counts)]))

    @classmethod
    def from_sparse(cls, matrix: Any) -> "Entries":
        """Observed entries of a scipy.sparse matrix or array: those it stores, zeros included.

        Raises:
            InputError: If nothing is stored, or a position is stored twice: SciPy would add the two.
            NonFiniteError: If a stored value is NaN or infinite.
        """
        if not scipy.sparse.issparse(matrix) or matrix.ndim != 2:
            raise InputError(f"Expected a two-dimensional scipy.sparse matrix, but got {type(matrix).__name__}.")
        coordinates = matrix.tocoo()
        shape = _checked_shape((matrix.shape[0], matrix.shape[1]))
        values = _as_numbers("values", coordinates.data)
        if values.size == 0:
            raise InputError("The sparse matrix stores no entry, so nothing is observed. Pass at least one.")
        rows = _checked_indices("row", coordinates.row, shape[0])
        cols = _checked_indices("column", coordinates.col, shape[1])
        _check_finite(values, rows, cols)
        return _sorted(rows, cols, values, shape, refuse_repeats=True)

    @property
    def size(self) -> int:
        """The number of observed entries, ``|Omega|``."""
        return self.values.size

    @property
    def density(self) -> float:
        """The observed share of all m n entries, in (0, 1]."""
        return self.size / (self.shape[0] * self.shape[1])

    def oversampling(self, rank: int) -> float:
        """Observed entries per degree of freedom at this rank: ``|Omega| / (rank (m + n - rank))``."""
        return self.size / (rank * (sum(self.shape) - rank))

    def affordable_rank(self, most: int, oversampling: float = 1.0) -> int:
        """The largest rank up to `most` with as many entries per degree of freedom, at least 1."""
        ranks = range(1, min(most, min(self.shape) - 1) + 1)
        return max((rank for rank in ranks if self.oversampling(rank) >= oversampling), default=1)

    def determines(self, rank: int) -> bool:
        """Whether only one matrix of this rank fits the entries: enough of them, and as many as the rank in every row and column."""
        return self.oversampling(rank) >= SURE and self._fewest >= rank

    def facts(self, rank: int, residual: float) -> str:
        """What that rests on, in words."""
        few = f"; some row or column has only {self._fewest}" if self._fewest < rank else ""
        oversampling = f"{self.oversampling(rank):.2f} entries per degree of freedom"
        return f"at rank {rank}: relative residual {residual:.1e}, {oversampling}{few}"

    @property
    def _fewest(self) -> int:
        return int(min(self.row_counts.min(), self.col_counts.min()))

    def column_scale(self, *, each: bool) -> NDArray[np.float64]:
        """The deviation of the observed entries of each column about its mean, or of all entries about theirs.

        A column whose entries are all equal (up to rounding) or fewer than two takes the deviation of all self. If those are all
        equal as well, their size, and 1 for zeros.

        Args:
            each: One scale for each column, or the same for all.

        Returns:
            ``(n,)``, positive.
        """
        overall = self._overall_scale
        if not each:
            return np.full(self.shape[1], overall)
        counts, squares = np.maximum(self.col_counts, 1), np.empty(self.shape[1])
        mean = self.column_sums() / counts
        _kernels.squares_by_column(self.cols, self.values, mean, squares)
        scale = np.sqrt(squares / counts)
        constant = scale <= 1e-12 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
        return np.where(constant, overall, scale)

    @cached_property
    def _overall_scale(self) -> float:
        overall, size = float(np.std(self.values)), float(np.max(np.abs(self.values)))
        return overall if overall > 1e-12 * size else size or 1.0

    @property
    def row_counts(self) -> NDArray[np.int64]:
        """(m,) number of observed entries in each row."""
        return np.diff(self.row_start)

    @property
    def col_counts(self) -> NDArray[np.int64]:
        """(n,) number of observed entries in each column."""
        return np.diff(self.col_start)

    @cached_property
    def col_start(self) -> NDArray[np.int64]:
        """(n + 1,): column ``j`` is at ``col_start[j]:col_start[j + 1]`` of the column-major order."""
        start = np.empty(self.shape[1] + 1, np.int64)
        _kernels.bucket_starts(self.cols, start)
        return start

    @cached_property
    def col_rows(self) -> NDArray[np.int32]:
        """(``|Omega|``,) the row of each entry, in column-major order."""
        return self.by_columns(self.cols)[1]

    def column_sums(self, effects: NDArray[np.floating[Any]] | None = None) -> NDArray[np.float64]:
        """(n,) sums over each column of its entries, less the `effects` (m,) of their rows."""
        sums, effects = np.empty(self.shape[1]), np.zeros(self.shape[0]) if effects is None else effects
        _kernels.sums_by_column(self.row_start, self.cols, self.values, effects, sums)
        return sums

    def by_columns(self, values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
        """``col_start``, ``col_rows`` and these values (``|Omega|``,), in row-major order, brought into column-major order."""
        return _kernels.transposed(self.row_start, self.cols, values, self.shape[1], values.dtype)

    def transpose(self) -> "Entries":
        """The same entries as an (n, m) matrix: its row-major order is the column-major order of this one."""
        start, rows, values = self.by_columns(self.values)
        return Entries(_spread(start), rows, values, (self.shape[1], self.shape[0]), start)

    def sparse(self, values: NDArray[Any]) -> scipy.sparse.csr_array:
        """The SciPy matrix with these values (``|Omega|``,) in the observed places: ``S @ right`` and ``S.T @ left`` are its products."""
        start = self.row_start if self.size > LARGEST_SIDE else self.row_start.astype(np.int32)
        return scipy.sparse.csr_array((values, self.cols, start), shape=self.shape)

    def leading_svd(
        self, values: NDArray[np.float64], count: int, random: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The largest ``count`` singular triplets of `sparse`: U (m, k), s descending, V (n, k).

        ARPACK; dense where the matrix is so thin that nearly all its triplets are wanted.
        """
        matrix, small = self.sparse(values), min(self.shape)
        count = min(count, small)
        if count >= small - 1 or small <= 32:
            left, values, right = np.linalg.svd(matrix.todense(), full_matrices=False)
        else:
            found: Any = scipy.sparse.linalg.svds(matrix, count, v0=random.standard_normal(small))
            left, values, right = found[0][:, ::-1], found[1][::-1], found[2][::-1]
        return np.ascontiguousarray(left[:, :count]), values[:count].copy(), np.ascontiguousarray(right[:count].T)

    def predict(self, left: NDArray[np.floating[Any]], right: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """The observed entries of ``left @ right.T``, row by row: of (m, k) and (n, k) factors, C-contiguous and of one dtype."""
        out = np.empty(self.size, left.dtype)
        work = self.size * left.shape[1]
        run_rows(_kernels.product_rows, self.row_start, work, self.cols, left, right, out)
        return out

    def with_values(self, values: NDArray[np.float64]) -> "Entries":
        """The same positions with other values, (``|Omega|``,) in row-major order."""
        changed = Entries(self.rows, self.cols, values, self.shape, self.row_start)
        vars(changed).update((name, kept) for name, kept in vars(self).items() if name in ("col_start", "col_rows"))
        return changed

    def divided(self, scale: NDArray[np.floating[Any]]) -> "Entries":
        """The same positions with the values of each column divided by its `scale` (n,)."""
        same = bool((scale == scale[0]).all())
        if same and scale[0] == 1:
            return self
        return self.with_values(self.values / (scale[0] if same else scale[self.cols]))

    def select(self, keep: NDArray[np.bool_]) -> "Entries":
        """The entries where ``keep`` (``|Omega|``,) is true, as a matrix of the same shape."""
        size, start = int(np.count_nonzero(keep)), np.empty_like(self.row_start)
        rows, cols, values = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size)
        _kernels.keep_entries(self.row_start, keep, self.cols, self.values, start, rows, cols, values)
        return Entries(rows, cols, values, self.shape, start)


def _as_numbers(name: str, data: ArrayLike) -> NDArray[Any]:
    array = np.asarray(data)
    if array.dtype.kind not in "fiub":
        raise InputError(f"The {name} must hold real numbers, but the array has dtype {array.dtype}.")
    return array if array.dtype in (np.dtype(np.float32), np.dtype(np.float64)) else array.astype(np.float64)


def _as_indices(name: str, data: ArrayLike) -> Ints:
    array = np.ravel(np.asarray(data))
    if array.size and array.dtype.kind not in "iu":
        advice = "Indices count from 0; number other ids first (numpy.unique with return_inverse)."
        raise InputError(f"The {name} must be integers, but the array has dtype {array.dtype}. {advice}")
    return array


def _checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    m, n = int(shape[0]), int(shape[1])
    if m < 1 or n < 1:
        raise InputError(f"A matrix needs at least one row and one column, but the shape is ({m}, {n}).")
    if max(m, n) > LARGEST_SIDE:
        raise InputError(
            f"The shape ({m}, {n}) has a side above {LARGEST_SIDE}, too large for 32-bit indices. {NUMBERING}"
        )
    return m, n


def _checked_indices(name: str, indices: Ints, count: int) -> NDArray[np.int32]:
    outside = (indices < 0) | (indices >= count)
    if outside.any():
        at = int(np.argmax(outside))
        which = f"Entry {at} has {name} {indices[at]}, outside 0..{count - 1}"
        raise InputError(f"{which} ({int(outside.sum())} such entries).")
    return np.ascontiguousarray(indices, np.int32)


def _check_finite(values: NDArray[np.float64], rows: Ints, cols: Ints) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        at = int(np.argmin(finite))
        where = f"the value at row {rows[at]}, column {cols[at]} is {values[at]}"
        advice = "Leave missing entries out, or correct them."
        raise NonFiniteError(f"Observed values must be finite, but {where} ({int((~finite).sum())} such). {advice}")


def _spread(start: NDArray[np.int64]) -> NDArray[np.int32]:
    out = np.empty(int(start[-1]), np.int32)
    _kernels.spread(start, out)
    return out


def _sorted(
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    values: NDArray[np.float64],
    shape: tuple[int, int],
    *,
    refuse_repeats: bool,
) -> Entries:
    """Row-major entries, each position once: a stable sort by columns, then by rows, in linear time."""
    col_start, rows, values = _kernels.counting_sort(cols, shape[1], rows, values)
    row_start, cols, values = _kernels.transposed(col_start, rows, values, shape[0], np.float64)
    repeated, conflicts, at = _kernels.repeats(row_start, cols, values, refuse_repeats)
    if conflicts:
        where = f"row {np.searchsorted(row_start, at, 'right') - 1}, column {cols[at]}"
        what = f"comes with {values[at - 1]} and again with {values[at]} ({conflicts} such)"
        raise InputError(f"Each position may be observed once, but {where} {what}. Keep one of them.")
    if repeated:
        left = _kernels.drop_repeats(row_start, cols, values)
        cols, values = cols[:left], values[:left]
    return Entries(_spread(row_start), cols, values, shape, row_start)
