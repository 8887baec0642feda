"""What a completion must not do: pretend to know a row or column that too few entries identify."""

from dataclasses import dataclass

import numpy as np

from lowdim.completion.solvers._solver import Array, Completion, Entries, Indices, Mask


@dataclass(frozen=True)
class Guarded:
    """A completion whose rows and columns with fewer than ``least`` entries are completed by biases only."""

    inner: Completion
    biases: Completion
    least: int
    thin_rows: Mask
    thin_cols: Mask

    @staticmethod
    def around(inner: Completion, biases: Completion, entries: Entries, least: int) -> "Guarded":
        return Guarded(inner, biases, least, entries.row_counts < least, entries.col_counts < least)

    @property
    def factors(self) -> tuple[Array, Array]:
        return self.inner.factors

    @property
    def iterations(self) -> int:
        return self.inner.iterations

    @property
    def converged(self) -> bool:
        return self.inner.converged

    def predict(self, rows: Indices, cols: Indices) -> Array:
        thin = self.thin_rows[rows] | self.thin_cols[cols]
        return np.where(thin, self.biases.predict(rows, cols), self.inner.predict(rows, cols))

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        thin = self.thin_rows[rows] | self.thin_cols[cols]
        return np.where(thin, self.biases.deviation(rows, cols), self.inner.deviation(rows, cols))

    def complete(self, entries: Entries) -> Array:
        thin = (entries.row_counts < self.least)[:, None] | self.thin_cols
        return np.where(thin, self.biases.complete(entries), self.inner.complete(entries))
