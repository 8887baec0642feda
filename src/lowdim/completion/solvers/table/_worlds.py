"""What factor models and fills of a table would be if some of its known cells were unknown.

Training rows of a column must look like the rows in which it is to be filled. So everything that predicts column j (the factor models'
predictions of it, the fills of the other columns' holes) is computed as if column j were unobserved: in a *world* that hides it. That
costs one E-step per world, and makes the prediction of every known cell a leave-one-out prediction, without a second fit.

Up to `MOST_WORLDS` columns each has a world of its own. Above, a world hides a random part of the cells of all columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from lowdim.completion.solvers.table import _factor_analysis as factor_analysis

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Indices = NDArray[np.integer[Any]]

EXTREME = 6.0  # deviations beyond which a value counts as this many in the fit of the loadings
MOST_WORLDS = 60
MOST_CELLS = 4_000_000  # of all worlds together, some 35 bytes each
PARTS = 12  # of the cells, where columns are too many


_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)


@dataclass(frozen=True)
class NormalScores:
    """A column as normal scores of its ranks, and back: heavy tails and skew leave, the order stays.

    These are the distinct values of a column and their scores, both ascending; the scores have unit variance over the column.
    """

    values: Array
    scores: Array

    @classmethod
    def of(cls, column: Array) -> "NormalScores":
        """Scores ``Phi^-1`` of the mid-ranks."""
        values, counts = np.unique(column, return_counts=True)
        scores = ndtri((np.cumsum(counts) - 0.5 * counts) / column.size)
        spread = float(np.sqrt(np.average(scores**2, weights=counts)))
        return cls(values, scores / spread if spread > 0 else scores)

    def forward(self, values: Array) -> Array:
        """Scores of values, linear between those of the column and constant beyond."""
        return np.interp(values, self.values, self.scores)

    def expected(self, means: Array, deviations: Array) -> Array:
        """The mean value of normal scores with these means and deviations."""
        points = [np.interp(means + node * deviations, self.scores, self.values) for node in _NODES]
        return np.average(points, axis=0, weights=_WEIGHTS)


@dataclass(frozen=True)
class FactorModel:
    """Loadings of standardised columns, or of their normal scores."""

    loadings: factor_analysis.Loadings
    scores: tuple[NormalScores, ...] | None = None

    def latents(self, values: Array, observed: Mask) -> Iterator[Array]:
        """Posterior means ``(rows, K + 1)`` of the latents of a plain model, a block of rows at a time."""
        inner = np.clip(values, -EXTREME, EXTREME)
        for block in factor_analysis.row_blocks(len(values), self.loadings.rank):
            yield factor_analysis.latents(self.loadings, inner[block], observed[block])[0]

    def predict(self, values: Array, observed: Mask) -> tuple[Array, Array]:
        """Means and deviations ``(rows, n)`` of all cells given the observed ones, in deviations of the columns (of the scores)."""
        if self.scores is None:
            inner = np.clip(values, -EXTREME, EXTREME)
        else:
            inner = np.stack([score.forward(values[:, j]) for j, score in enumerate(self.scores)], axis=1)
        means, deviations = np.empty(values.shape), np.empty(values.shape)
        for block in factor_analysis.row_blocks(len(values), self.loadings.rank):
            mean, covariance = factor_analysis.latents(self.loadings, inner[block], observed[block])
            means[block] = mean @ self.loadings.mean.T
            deviations[block] = np.sqrt(factor_analysis.variances(self.loadings, mean, covariance))
        if self.scores is not None:
            for j, score in enumerate(self.scores):
                means[:, j] = score.expected(means[:, j], deviations[:, j])
        return means, deviations


@dataclass(frozen=True)
class World:
    """A table in which some cells are hidden.

    Attributes:
        seen: ``(rows, n)``, the known cells that are not hidden.
        filled: ``(rows, n)``, the values of those, and what the others are taken to be.
        linear: The plain factor model's prediction of all cells.
        deviation: Its deviations.
        ranked: The prediction by normal scores, in the same units.
    """

    seen: Mask
    filled: Array
    linear: Array
    deviation: Array
    ranked: Array

    @classmethod
    def of(cls, values: Array, seen: Mask, plain: FactorModel, scored: FactorModel) -> "World":
        """The world in which only these cells are seen."""
        linear, deviation = plain.predict(values, seen)
        return cls(seen, np.where(seen, values, linear), linear, deviation, scored.predict(values, seen)[0])

    def with_fills(self, filled: Array) -> "World":
        """The same with other fills."""
        return World(self.seen, filled, self.linear, self.deviation, self.ranked)


def leverage(latents: Array, ridge: Array) -> Array:
    """How much of a cell's own value its prediction takes up, if the column's loading is fitted to it, ``(rows,)``.

    `latents` are those of the rows in which the column is known, in the worlds that hide it; `ridge` is the prior precision of the
    loading times the noise.
    """
    inverse = np.linalg.inv(latents.T @ latents + np.diag(ridge))
    return np.minimum(np.einsum("ia,ab,ib->i", latents, inverse, latents), 0.9)


@dataclass(frozen=True)
class Design:
    """Which known cells each world hides.

    Attributes:
        hides: One mask ``(rows, n)`` per world; the last world hides nothing where cells are hidden in parts.
        of_column: ``(n, rows)``: the world in which a cell is predicted; -1 for columns that are never predicted.
    """

    hides: tuple[Mask, ...]
    of_column: Indices

    @classmethod
    def of(cls, observed: Mask, targets: Indices, together: Sequence[Indices], seed: int) -> "Design":
        """Worlds for some target columns.

        Args:
            observed: ``(rows, n)``.
            targets: Columns to be predicted.
            together: For each column, those that are unknown whenever it is (itself among them).
            seed: Of the parts.
        """
        rows, n = observed.shape
        of_column = np.full((n, rows), -1)
        if targets.size <= MOST_WORLDS and targets.size * observed.size <= MOST_CELLS:
            hides: list[Mask] = []
            for world, column in enumerate(targets):
                hidden = np.zeros((rows, n), bool)
                hidden[:, together[column]] = True
                hides.append(hidden)
                of_column[column] = world
            return cls(tuple(hides), of_column)
        part = np.random.default_rng(seed).integers(PARTS, size=(rows, n))
        for block in together:
            part[:, block] = part[:, [block[0]]]
        of_column[targets] = np.where(observed, part, PARTS).T[targets]
        return cls((*(part == k for k in range(PARTS)), np.zeros((rows, n), bool)), of_column)
