"""`DeepMatrixCompletion`, the scikit-learn estimator over all solvers."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, Literal, Self, get_type_hints

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from lowdim._arguments import check_kinds
from lowdim._memory import require_memory
from lowdim.completion._engine import HELD_SHARE, Completed, complete, require_solver
from lowdim.completion.entries import Entries, _inputs
from lowdim.completion.solvers._solver import Journal, Settings, hold_out, singular_values
from lowdim.errors import InputError, UsageError, did_you_mean
from lowdim.tables import Filled, Kind, Table, is_frame, table_of_frame, to_pandas, with_filled

Floats = NDArray[np.floating[Any]]
_CHECKS: dict[str, Any] = {
    "accept_sparse": ["csr", "csc", "coo"],
    "dtype": [np.float64, np.float32],
    "ensure_all_finite": "allow-nan",
}


class CompletionWarning(UserWarning):
    """A completion that deserves less trust than its numbers suggest."""


class DeepMatrixCompletion(TransformerMixin, BaseEstimator):
    r"""Completes a matrix of which some entries are observed by a low-rank model.

    The entries are modelled as $x_{ij} \approx s_j\,(u_i \cdot v_j + b_i + c_j)$ with $r$ factors $u_i, v_j$, biases and a scale for
    each column. With ``depth`` $L$ the regulariser is that of a linear network of $L$ layers with weight decay, the
    Schatten-$2/L$ quasi-norm of the low-rank part.

    Input is an array or a pandas or polars frame whose missing entries are NaN or null, a scipy.sparse matrix whose *stored* entries are
    observed (a stored zero is an observation, an absent entry is missing, never zero), or a tuple ``(rows, columns, values)`` of three
    one-dimensional sequences, with indices from 0 or with text ids.

    Args:
        rank: The number of factors, or ``"auto"``.
        solver: ``"exact"`` (nearly noise-free, few entries), ``"table"`` (noisy tables), ``"als"`` (many entries),
            ``"ratings"`` (explicit ratings, by averaging; ``"ratings-quick"`` is less accurate and several
            times faster), ``"gd"`` (the compressed deep linear network trained by gradient descent), or
            ``"auto"``: chosen by shape, density, values and held-out entries; ``reason_`` says why.
        depth: Number of layers L, at least 2 (`als`, `exact`, `gd`).
        biases: Whether rows and columns have biases (`als`); ``"auto"`` lets the data decide. `ratings` always has them, `exact` and `gd`
            never; `table` has means of columns.
        scale: Whether columns are brought to unit variance inside. Observed entries and output keep their units.
        clip: Bounds of the completed entries: ``(low, high)``, ``"observed"`` (the range of each column's entries, or of all
            entries for `ratings`, `exact` and `gd`, whose columns have one scale), or None.
        max_rank: The most factors that ``rank="auto"`` considers.
        max_iter: The most sweeps over the entries (`als`; of `table` at most 30, whatever is asked for).
        tol: Relative residual at which a fit has converged (`als`). An argument that the solver does not read gives a warning.
        add_indicator: Append the columns of scikit-learn's `MissingIndicator`.
        keep_empty_features: Keep columns without any entry at `fit`, filled with 0, instead of dropping them from the output.
        kinds: Of columns of a frame, by name, where they are not to be found from the values: ``"number"``, ``"integer"``, ``"boolean"``,
            ``"category"``, ``"ordered"`` (levels in order), ``"date"``, ``"id"`` or ``"text"``.
        passed: Columns of a frame that pass through and are not completed.
        only: Columns of a frame that are completed; all others then pass through.
        time: The column of a frame with the time of each row (dates or numbers): what lies before and after a hole helps to fill it, where
            held-out cells say so (`table`). By default the first column of dates that ascend or descend, mostly known, or an index of times.
        entity: The column of a frame with the entities that each have times of their own (a panel).
        warm_start: Start the last fit from the previous one, if that had the same shape, solver, `rank`, `max_rank` and `biases` (`table`
            and `als`).
        random_state: Seed of everything random. The same seed gives the same result to the last bit. Which entries are held out is drawn by
            their position: the same rows in another order are another draw, which may choose another strength or rank.

    Attributes:
        solver_: The solver that was used, ``"biases"`` if no low-rank part predicted held-out entries better.
        reason_: Why.
        rank_: The number of factors.
        singular_values_: Of the low-rank part, descending.
        factors_: ``(m, r)`` row and ``(n, r)`` column factors, whose product is the low-rank part in the input's units.
        n_iter_: Sweeps of the last fit.
        converged_: Whether it converged.
        held_out_error_: Root mean square error on known entries, predicted without them: all of a table, otherwise a tenth; of fewer than
            10,000 ratings five tenths in turn.
        held_out_interval_: 90 % interval of that error, from how much the single errors differ; None where too few were held out.
        biases_error_: The same of row and column biases only.
        held_out_ratio_: Quotient of the two after scaling the columns; below 1 the low-rank part helps, NaN for too few entries.
        sure_: For `exact`: whether the recovery is vouched for. Otherwise None.
        oversampling_: Entries per degree of freedom.
        unidentified_rows_, unidentified_columns_: With fewer entries than the rank. They are completed by biases (`exact`,
            `als`, `gd`) or shrunk to what is typical (`table`, `ratings`).
        column_kinds_: For a frame with columns of several kinds: what each column is.
        remarks_: What else the user should know; also given as `CompletionWarning`.
        held_out_entries_: Values and predictions of the held-out entries, in the input's units; these are clipped, too.
        held_out_columns_: In which column of the matrix each of them stands (a category has one for each of its levels).
        shape_: ``(m, n)`` of the training matrix.
        row_ids_, column_ids_: The ids of triplets with text ids, in the order of rows and columns; otherwise None.
        n_features_in_, feature_names_in_: As everywhere in scikit-learn.

    Example:
        >>> import numpy as np
        >>> from lowdim.completion import DeepMatrixCompletion
        >>> X = np.outer(np.arange(1.0, 31), np.arange(1.0, 9))
        >>> X[3, 4] = np.nan  # was 4 * 5
        >>> completed = DeepMatrixCompletion().fit_transform(X)
        >>> round(float(completed[3, 4]), 1)
        20.0
    """

    _journal: Journal | None = None  # while `fit_with_journal` runs
    _table: Table | None = None  # of a frame with columns of several kinds

    def __init__(
        self,
        *,
        rank: int | Literal["auto"] = "auto",
        solver: str = "auto",
        depth: int = 3,
        biases: bool | Literal["auto"] = "auto",
        scale: bool = True,
        clip: tuple[float, float] | Literal["observed"] | None = None,
        max_rank: int = 20,
        max_iter: int = 100,
        tol: float = 1e-4,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        warm_start: bool = False,
        kinds: Mapping[str, Kind] | None = None,
        passed: Sequence[str] = (),
        only: Sequence[str] | None = None,
        time: str | None = None,
        entity: str | None = None,
        random_state: Any = 0,
    ) -> None:
        self.rank = rank
        self.solver = solver
        self.depth = depth
        self.biases = biases
        self.scale = scale
        self.clip = clip
        self.max_rank = max_rank
        self.max_iter = max_iter
        self.tol = tol
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.warm_start = warm_start
        self.kinds = kinds
        self.passed = passed
        self.only = only
        self.time = time
        self.entity = entity
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, user_table: Any = None, item_table: Any = None) -> Self:
        """Learn the model from the observed entries.

        Args:
            X: Array, frame, sparse matrix or triplets; see the class.
            y: Ignored.
            user_table: Of triplets: a pandas or polars frame whose first column holds ids of rows, and the others what is known of them
                (columns of any kind, with holes). Ids without an entry become rows of their own, which are predicted from that.
                The `ratings` solvers read it.
            item_table: The same of columns.

        Raises:
            UsageError: If an argument is out of its range.
            InputError: If the entries cannot be used, with the reason.
            ResourceError: If memory would not suffice.
        """
        settings = self._settings()
        entries, user_features, item_features = self._with_tables(self._read_training(X), user_table, item_table)
        settings = replace(settings, row_features=user_features, col_features=item_features)
        if self._table is not None:
            settings = replace(settings, together=tuple(self._table.blocks), clock=self._table.clock)
        if isinstance(X, _inputs.Picture):
            settings = replace(settings, channels=X.pixels.shape[2])
        smaller = min(entries.shape)
        if settings.rank is not None and settings.rank >= smaller:
            raise UsageError(f"rank={self.rank} must be below the smaller side of the matrix, which is {smaller}.")
        solver = None if self.solver == "auto" else self.solver
        previous: Completed | None = getattr(self, "_completed", None) if self.warm_start else None
        if previous is not None and self.shape_ != entries.shape:
            previous = None
        self._completed = complete(entries, settings, solver=solver, scale=self.scale, start=previous)
        self.shape_ = entries.shape
        counts = entries.col_counts
        told = item_features is not None and self._completed.shared
        self._seen = (counts > 0) | told | self._completed.fills_empty
        self._kept = np.flatnonzero(self._seen | self.keep_empty_features)
        self._indicated = np.flatnonzero(counts < entries.shape[0])
        means = entries.column_sums() / np.maximum(counts, 1)
        overall = entries.values.mean()
        self._column_means = np.append(np.where(self._seen, means, overall), overall)  # the last is of column -1
        self._bounds = self._clip_bounds(entries)
        self._report()
        return self

    def transform(self, X: Any, return_std: bool = False) -> Any:
        """Rows with their missing entries completed; observed entries are returned unchanged.

        The rows need not be those of `fit`: each is completed from its own observed entries.

        Args:
            X: As at `fit`.
            return_std: Also return the standard deviation of each filled cell, 0 for known ones: 90 % of the true values should lie
                within 1.645 of it. A filled category has the probability of being another instead.

        Returns:
            ``(rows, columns)``, dense. For triplets, the rows from 0 to the largest. For a frame with columns that are not plain numbers, or
            of which some name the rows or their times, a frame of the same types.
        """
        check_is_fitted(self)
        if self._table is not None:
            return self._transform_frame(X, return_std)
        entries, dtype = self._read_rows(X)
        size = 2 * 8 * entries.shape[0] * entries.shape[1]
        require_memory(size, "The filled matrix", "Ask for single entries with predict(rows, columns).")
        known = self._of_seen_columns(entries)
        completed = self._within_bounds(self._completed.complete(known), np.arange(entries.shape[1]))
        completed[:, ~self._seen] = 0.0
        completed[entries.rows, entries.cols] = entries.values
        output = completed[:, self._kept]
        if return_std:
            deviations = self._deviations(known, entries)[:, self._kept]
            return output.astype(dtype, copy=False), deviations
        if self.add_indicator:
            missing = np.ones(entries.shape, np.bool_)
            missing[entries.rows, entries.cols] = False
            output = np.hstack([output, missing[:, self._indicated]])
        return output.astype(dtype, copy=False)

    def sample(self, X: Any, m: int = 10, *, random_state: Any = None) -> list[Any]:
        """Completed tables drawn at random, for multiple imputation: what is computed from each is put together by `pool`.

        Each draws the parameters of the factor model, what is not known of each row, and the noise, so that the tables differ as much as
        the holes leave open, and statistics of single tables keep their size. Categories and booleans are drawn by their probabilities.

        Args:
            X: Rows, as at `transform`.
            m: How many tables.
            random_state: Seed; by default that of the model.

        Returns:
            `m` tables of the type that `transform` gives.

        Raises:
            UsageError: If the model in use is not one of tables.
        """
        check_is_fitted(self)
        generator = np.random.default_rng(
            check_random_state(self.random_state if random_state is None else random_state).randint(2**31)
        )
        table = self._table.like(self._frame(X)) if self._table is not None else None
        entries, dtype = (
            (_inputs.entries_of(table.matrix, allow_empty=True), np.float64)
            if table is not None
            else self._read_rows(X)
        )
        known = self._of_seen_columns(entries)
        drawn = self._completed.draws(known, None if table is None else table.clock, m, generator)
        if drawn is None:
            raise UsageError(f"{self.solver_!r} has no draws of tables; fit with solver='table' or 'table-quick'.")
        tables: list[Any] = []
        for draw in drawn:
            completed = self._within_bounds(draw, np.arange(entries.shape[1]))
            completed[:, ~self._seen] = 0.0
            completed[entries.rows, entries.cols] = entries.values
            if table is None:
                tables.append(completed[:, self._kept].astype(dtype, copy=False))
            else:
                filled = table.drawn(completed, generator, rows=entries.row_counts > 0)
                tables.append(with_filled(X, filled))
        return tables

    def predict(
        self, rows: Any, columns: ArrayLike | None = None, return_std: bool = False
    ) -> Floats | tuple[Floats, Floats]:
        """The modelled values of entries of the training matrix, observed or not.

        Args:
            rows: Indices, or ids if the model was fitted to triplets with text ids. Without `columns`, an array or frame of rows
                that is completed as by `transform`; a sparse matrix is refused, since filling it is seldom meant.
            columns: As many indices, ids, or names of a frame's columns. An id that training has not seen is completed by what
                is known of its partner, with a `CompletionWarning`.
            return_std: Also return the standard deviation of a new observation: 90 % of the observed values should lie within 1.645
                of it. It is calibrated on held-out entries.

        Raises:
            InputError: If an index is out of range, or the lengths differ.
        """
        check_is_fitted(self)
        if columns is None:
            if return_std:
                raise UsageError("Deviations are of single entries: pass predict(rows, columns, return_std=True).")
            if scipy.sparse.issparse(rows):
                raise UsageError("predict(rows, columns) takes indices. To fill all of a sparse matrix, use transform.")
            return self.transform(rows)
        row_places = _inputs.places_of(rows, self.row_ids_, "row", self.shape_[0])
        col_places = self._column_places(columns)
        if row_places.size != col_places.size:
            raise InputError(f"There are {row_places.size} rows for {col_places.size} columns; each pair is one entry.")
        self._warn_of_unseen(row_places, col_places)
        values = self._within_bounds(self._completed.predict(row_places, col_places), col_places)
        return (values, self._completed.deviation(row_places, col_places)) if return_std else values

    def score(self, X: Any, y: Any = None) -> float:
        """R^2 of predictions, relative to the mean of each training column; 1 is perfect, higher is better.

        For triplets, of these entries of the training matrix: pass ones that `fit` did not see. For an array or sparse matrix, a random
        tenth of its observed entries is hidden and completed from the others; of the training matrix this is optimistic, because
        the columns were fitted with the hidden entries. Columns without entries at `fit` do not count.
        """
        check_is_fitted(self)
        if _inputs.is_triplets(X):
            rows, cols, values = (X.rows, X.cols, X.values) if isinstance(X, Entries) else X
            places, actual = self._column_places(cols), np.asarray(values, np.float64)
            predicted = np.asarray(self.predict(rows, cols))
        else:
            entries = self._of_seen_columns(self._read_rows(X)[0])
            held = hold_out(entries, HELD_SHARE, 0)
            completed = self._completed.complete(entries.select(~held))
            rows, places, actual = entries.rows[held], entries.cols[held], entries.values[held]
            predicted = self._within_bounds(completed[rows, places], places)
        scale = self._completed.scale_of(places)
        errors, spread = (actual - predicted) / scale, (actual - self._column_means[places]) / scale
        return 1.0 - float(np.sum(errors**2) / np.sum(spread**2)) if errors.size else float("nan")

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the columns of the output: of the input without dropped ones, then ``missingindicator_NAME``."""
        check_is_fitted(self)
        names: NDArray[Any] = np.asarray(_check_feature_names_in(self, input_features))
        if self._table is not None:
            return names
        if not self.add_indicator:
            return names[self._kept]
        indicators = [f"missingindicator_{name}" for name in names[self._indicated]]
        return np.concatenate([names[self._kept], np.asarray(indicators, dtype=object)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def factors_(self) -> tuple[Floats, Floats]:
        check_is_fitted(self)
        return self._completed.factors

    def _settings(self) -> Settings:
        check_kinds(self.get_params(deep=False), get_type_hints(type(self).__init__))
        require_solver(self.solver)
        least = {"rank": 1, "depth": 2, "max_rank": 1, "max_iter": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if name == "rank" and value == "auto":
                continue
            if value < low:
                raise UsageError(f"`{name}` must be at least {low}, but is {value!r}.", argument=name)
        if not self.tol >= 0:
            raise UsageError(f"`tol` must be at least 0, but is {self.tol!r}.", argument="tol")
        self._check_clip()
        try:
            generator = check_random_state(self.random_state)
        except ValueError as error:
            raise UsageError(f"`random_state`: {error}.", argument="random_state") from error
        fixed = isinstance(self.random_state, Integral)
        return Settings(
            journal=self._journal or Journal(),
            rank=None if self.rank == "auto" else int(self.rank),
            max_rank=self.max_rank,
            depth=self.depth,
            biases=None if self.biases == "auto" else bool(self.biases),
            iterations=self.max_iter,
            tolerance=self.tol,
            seed=int(self.random_state) if fixed else int(generator.randint(2**31)),
        )

    def _transform_frame(self, frame: Any, return_std: bool) -> Any:
        """A frame with its holes filled, in the types that it has."""
        assert self._table is not None
        rows = self._frame(frame)
        filled = self._filled(self._table.like(rows))
        output = with_filled(frame, filled)
        if not return_std:
            return output
        spread = np.zeros(rows.shape)
        for (row, column), cell in filled.items():
            spread[row, column] = cell.deviation
        return output, spread

    def _frame(self, frame: Any) -> Any:
        """A frame with the columns of training, as pandas holds it."""
        if not is_frame(frame):
            raise InputError(
                "The model was fitted to a frame with columns of several kinds; pass a frame with the same columns."
            )
        rows = to_pandas(frame)
        names = [str(name) for name in rows.columns]
        if names != self.feature_names_in_.tolist():
            raise InputError(
                f"The frame has the columns {names}, but the model was fitted to {self.feature_names_in_.tolist()}."
            )
        return rows

    def _filled(self, table: Table) -> dict[tuple[int, int], Filled]:
        """What stands in the holes of a table with the columns of training, by (row, column)."""
        entries = _inputs.entries_of(table.matrix, allow_empty=True)
        known = self._of_seen_columns(entries)
        completed = self._completed.complete(known, table.clock)
        completed = self._within_bounds(completed, np.arange(entries.shape[1]))
        completed[entries.rows, entries.cols] = entries.values
        return table.filled(completed, self._deviations(known, entries, table.clock), rows=entries.row_counts > 0)

    def _deviations(self, known: Entries, entries: Entries, clock: Floats | None = None) -> Floats:
        deviations = self._completed.deviations(known, clock)
        deviations[entries.rows, entries.cols] = 0.0
        return deviations

    def _read_training(self, X: Any) -> Entries:
        self.row_ids_ = self.column_ids_ = None
        self._table = None
        if isinstance(X, Table):
            self._table = X
            self.feature_names_in_ = np.array([column.name for column in X.columns], dtype=object)
            self.n_features_in_ = len(X.columns)
            return _inputs.entries_of(X.matrix)
        ordered = self.time is not None or self.entity is not None
        if ordered and not is_frame(X):
            raise UsageError("time and entity name columns of a pandas or polars frame.")
        if ordered or _inputs.is_mixed(X):
            frame = to_pandas(X)
            if self.add_indicator:
                raise UsageError(
                    "add_indicator is for arrays and frames of numbers; this frame has columns of several kinds."
                )
            self._table = table_of_frame(
                frame, kinds=self.kinds, passed=self.passed, only=self.only, time=self.time, entity=self.entity
            )
            self.feature_names_in_ = np.array([str(name) for name in frame.columns], dtype=object)
            self.n_features_in_ = len(self.feature_names_in_)
            self.column_kinds_ = {column.name: column.kind for column in self._table.columns}
            return _inputs.entries_of(self._table.matrix)
        if isinstance(X, _inputs.Picture):
            return self._read_training(X.entries)
        if _inputs.is_triplets(X):
            triplets = _inputs.read_triplets(X)
            self.row_ids_, self.column_ids_ = triplets.row_ids, triplets.column_ids
            self.n_features_in_ = triplets.entries.shape[1]
            vars(self).pop("feature_names_in_", None)  # of an earlier fit to a frame
            return triplets.entries
        return _inputs.entries_of(validate_data(self, _inputs.numeric(X), **_CHECKS))

    def _with_tables(
        self, entries: Entries, user_table: Any, item_table: Any
    ) -> tuple[Entries, Floats | None, Floats | None]:
        """The entries with the ids of the tables, and what these say."""
        if user_table is None and item_table is None:
            return entries, None, None
        if self._table is not None or hasattr(self, "feature_names_in_"):
            raise UsageError("user_table and item_table are for triplets (rows, columns, values).")
        require_solver(self.solver, features=True)
        numbered = _inputs.Numbered(entries, self.row_ids_, self.column_ids_)
        numbered, user_features, item_features = _inputs.with_tables(numbered, user_table, item_table)
        self.row_ids_, self.column_ids_ = numbered.row_ids, numbered.column_ids
        self.n_features_in_ = numbered.entries.shape[1]
        return numbered.entries, user_features, item_features

    def _read_rows(self, X: Any) -> tuple[Entries, Any]:
        if _inputs.is_triplets(X):
            read = _inputs.read_triplets(X, columns=self.n_features_in_, column_ids=self.column_ids_)
            return read.entries, np.float64
        matrix: Any = validate_data(self, _inputs.numeric(X), reset=False, **_CHECKS)
        return _inputs.entries_of(matrix, allow_empty=True), matrix.dtype

    def _check_clip(self) -> None:
        if self.clip is None or (isinstance(self.clip, str) and self.clip == "observed"):
            return
        low, high = map(float, self.clip)
        if not (low <= high and low < np.inf and high > -np.inf):
            raise UsageError(f"clip=(low, high) needs low <= high with a number between them, but is {self.clip}.")

    def _clip_bounds(self, entries: Entries) -> tuple[Floats, Floats] | None:
        """The lowest and highest value of the completed entries of each column, and last of column -1."""
        if self.clip is None:
            return None
        observed = isinstance(self.clip, str)
        overall = (entries.values.min(), entries.values.max()) if observed else self.clip
        low, high = (np.full(entries.shape[1] + 1, bound, np.float64) for bound in overall)
        if observed and not self._completed.shared:
            low[:-1][self._seen], high[:-1][self._seen] = np.inf, -np.inf
            np.minimum.at(low, entries.cols, entries.values)
            np.maximum.at(high, entries.cols, entries.values)
        return low, high

    def _of_seen_columns(self, entries: Entries) -> Entries:
        """Without the entries of columns that had none at `fit`: the model knows nothing that they could tell."""
        return entries if self._seen.all() else entries.select(self._seen[entries.cols])

    def _within_bounds(self, values: Floats, columns: NDArray[np.integer[Any]]) -> Floats:
        if self._bounds is None:
            return values
        return np.clip(values, self._bounds[0][columns], self._bounds[1][columns])

    def _column_places(self, columns: ArrayLike) -> NDArray[np.intp]:
        known = self.column_ids_
        if known is None and np.asarray(columns).dtype.kind in "UOT":
            places = {name: place for place, name in enumerate(getattr(self, "feature_names_in_", []))}
            wanted = np.atleast_1d(columns).tolist()
            for name in wanted:
                if name not in places:
                    raise InputError(f"There is no column {name!r}. {did_you_mean(name, places)}")
            return np.array([places[name] for name in wanted])
        return _inputs.places_of(columns, known, "column", self.shape_[1])

    def _warn_of_unseen(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> None:
        unseen = int(np.sum((rows < 0) | (columns < 0)))
        if unseen:
            warnings.warn(
                f"{unseen} of {rows.size} pairs have an id that training has not seen; they get what is known of the other one.",
                CompletionWarning,
                stacklevel=3,
            )

    def _report(self) -> None:
        """The fitted attributes, and the remarks as warnings."""
        done = self._completed
        self.solver_, self.reason_, self.sure_, self.remarks_ = done.solver, done.reason, done.sure, done.remarks
        self.singular_values_ = singular_values(done.factors)
        self.rank_ = self.singular_values_.size
        self.n_iter_, self.converged_ = done.completion.iterations, done.completion.converged
        held_out, by_biases = (
            replace(check, predictions=self._within_bounds(check.predictions, check.cols))
            for check in (done.held_out, done.biases_held_out)
        )
        self.held_out_interval_ = held_out.rmse_interval
        self.held_out_error_, self.biases_error_ = held_out.rmse, by_biases.rmse
        self.held_out_ratio_, self.oversampling_ = done.ratio, done.oversampling
        self.held_out_entries_ = held_out.values, held_out.predictions
        self.held_out_columns_ = done.held_out.cols
        self.unidentified_rows_, self.unidentified_columns_ = done.thin_rows, done.thin_cols
        for remark in done.remarks:
            warnings.warn(remark, CompletionWarning, stacklevel=3)


def fit_with_journal(model: DeepMatrixCompletion, X: Any, journal: Journal, **tables: Any) -> DeepMatrixCompletion:
    """`fit`, with its `tables`, reporting to a journal and continuing what it holds: of an interrupted fit of the same model to the same entries."""
    model._journal = journal
    try:
        return model.fit(X, **tables)
    finally:
        model._journal = None


def fill_table(model: DeepMatrixCompletion, table: Table) -> dict[tuple[int, int], Filled]:
    """What a model that was fitted to a table puts into its holes, by (row, column)."""
    check_is_fitted(model)
    return model._filled(table)
