"""A completion that is a product of factors: of `als`, `exact` and `gd`."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lowdim.completion.entries import Entries, pair_products, solve_rows
from lowdim.completion.solvers._solver import Array, HeldOut, Indices, Solved, root_mean_square


@dataclass(frozen=True)
class FactorCompletion:
    """A product of factors, of which the last are the biases if `biased`.

    Attributes:
        mean: The mean that was subtracted.
        left: ``(m, k)``.
        right: ``(n, k)``.
        biased: Whether the last factors are biases.
        decay: ``(k,)``, of the squared factors.
        noise: Root mean square residual, corrected for the degrees of freedom.
        counts: Entries of each row and each column.
        iterations: Sweeps of the last fit.
        converged: Whether the residual has vanished or stopped falling.
    """

    mean: float
    left: Array
    right: Array
    biased: bool
    decay: Array
    noise: float
    counts: tuple[Indices, Indices]
    iterations: int
    converged: bool

    @property
    def factors(self) -> tuple[Array, Array]:
        rank = self.left.shape[1] - self.biased
        return self.left[:, :rank].astype(np.float64), self.right[:, :rank].astype(np.float64)

    def predict(self, rows: Indices, cols: Indices) -> Array:
        return self.mean + pair_products(self.left, self.right, rows, cols, self.biased).astype(np.float64)

    def deviation(self, rows: Indices, cols: Indices) -> Array:
        """Of a new observation: noise, and the leverages of the pair in the row's and the column's regression.

        The Gram matrix of a row is taken to be that of all columns times its share of the entries.
        """
        leverage = _leverage(self.right, self.biased)[cols] / np.maximum(self.counts[0][rows], 1)
        leverage += _leverage(self.left, self.biased)[rows] / np.maximum(self.counts[1][cols], 1)
        return self.noise * np.sqrt(1.0 + leverage)

    def complete(self, entries: Entries) -> Array:
        left = np.empty((entries.shape[0], self.right.shape[1]), self.right.dtype)
        values = (entries.values - self.mean).astype(left.dtype)
        solve_rows(entries.row_start, entries.cols, values, self.right, self.decay, biased=self.biased, out=left)
        if not self.biased:
            return self.mean + (left @ self.right.T).astype(np.float64)
        product = (left[:, :-1] @ self.right[:, :-1].T).astype(np.float64)
        return self.mean + product + left[:, -1:] + self.right[:, -1]


class Recovered(Protocol):
    """An answer of `exact` or `gd`: ``U diag(singular_values) V.T``, of which the first `rank` count (gd's network is wider)."""

    @property
    def U(self) -> Array: ...
    @property
    def V(self) -> Array: ...
    @property
    def singular_values(self) -> Array: ...
    @property
    def rank(self) -> int: ...
    @property
    def relative_residual(self) -> float: ...
    @property
    def iterations(self) -> int: ...
    @property
    def converged(self) -> bool: ...
    @property
    def sure(self) -> bool: ...
    @property
    def reason(self) -> str: ...


def factor_completion(answer: Recovered, entries: Entries) -> FactorCompletion:
    """The completion that a recovery of these entries gives."""
    rank = answer.rank
    left, right = answer.U[:, :rank] * answer.singular_values[:rank], np.ascontiguousarray(answer.V[:, :rank])
    size = root_mean_square(entries.values)
    noise = unbiased_noise(answer.relative_residual * size, size, rank, entries.shape, entries.size)
    counts = entries.row_counts, entries.col_counts
    return FactorCompletion(0.0, left, right, False, np.zeros(rank), noise, counts, answer.iterations, answer.converged)


def solved(answer: Recovered, entries: Entries, held_out: HeldOut) -> Solved:
    """A recovery, and how sure it is."""
    remarks = () if answer.sure else (f"The recovery is not sure: {answer.reason}.",)
    return Solved(factor_completion(answer, entries), held_out, answer.sure, remarks, answer.reason)


def unbiased_noise(residual: float, size: float, rank: int, shape: tuple[int, int], entries: int) -> float:
    """Noise that leaves this root mean square residual when every parameter has taken one of the entries.

    At least a rounding error of values of this size, so that deviations are never 0.
    """
    parameters = rank * (sum(shape) - rank)
    return max(residual / float(np.sqrt(max(1 - parameters / entries, 0.1))), 1e-12 * size)


def _leverage(factor: Array, biased: bool) -> Array:
    """``f^T C^-1 f`` of each row ``f`` of a factor with second moment ``C``; on average the number of factors."""
    features = factor.astype(np.float64)
    if biased:
        features[:, -1] = 1.0
    moment = features.T @ features / len(features)
    return np.einsum("ia,ab,ib->i", features, np.linalg.pinv(moment, hermitian=True), features)
