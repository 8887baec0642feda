"""The factor model of a table, of its columns or of their normal scores; and draws of a completed table.

The draws are for the uncertainty of what is computed from a table. The loadings are drawn by fitting the factor model to rows drawn with
replacement (a bootstrap draw of the parameters), the latents and the noise from their normal distributions given these. No latent is shrunk
away, as it is where the aim is the best prediction: an analysis of the drawn tables would find the relations between columns too weak. The
second stage moves the mean, and the errors of its honest predictions set the size of the noise in each column.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from lowdim._linalg import Array, Indices, Mask
from lowdim.completion.solvers.table import _factor_analysis as factor_analysis

EXTREME = 6.0  # deviations beyond which a value counts as this many in the fit of the loadings
TOLERANCE = 3e-3  # of a cell, in root mean square
DRAW_SWEEPS, DRAW_TOLERANCE = 150, 2e-4  # a fit that stops early stays near the others, and the draws differ too little
MOST_LATENTS, ROWS_PER_LATENT = 20, 10
LARGEST_SIZE = 2.0

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
    iterations: int = 0
    converged: bool = False

    @classmethod
    def fit(cls, values: Array, observed: Mask, rank: int, **options: Any) -> "FactorModel":
        """Of standardised columns; the options are those of `factor_analysis.fit`."""
        fit = factor_analysis.fit(np.clip(values, -EXTREME, EXTREME), observed, rank, tolerance=TOLERANCE, **options)
        return cls(fit.loadings, None, fit.iterations, fit.converged)

    @classmethod
    def fit_scores(cls, values: Array, observed: Mask, rank: int, **options: Any) -> "FactorModel":
        """Of the normal scores of these columns."""
        columns = list(zip(values.T, observed.T, strict=True))
        scores = tuple(NormalScores.of(column[known] if known.any() else np.zeros(1)) for column, known in columns)
        ranked = np.stack([score.forward(column) for score, column in zip(scores, values.T, strict=True)], axis=1)
        ranked = np.where(observed, ranked, 0.0)
        fit = factor_analysis.fit(ranked, observed, rank, tolerance=TOLERANCE, **options)
        return cls(fit.loadings, scores, fit.iterations, fit.converged)

    def inner(self, values: Array) -> Array:
        """What stands for these values in the model: its input everywhere else."""
        if self.scores is None:
            return np.clip(values, -EXTREME, EXTREME)
        return np.stack([score.forward(values[:, j]) for j, score in enumerate(self.scores)], axis=1)

    def latents(self, inner: Array, observed: Mask) -> Array:
        """Posterior means of the latents of rows, ``(rows, K + 1)``."""
        return np.concatenate([mean for _, mean, _ in self.blocks(inner, observed)])

    def means(self, inner: Array, observed: Mask) -> Array:
        """Of all cells given the observed ones, ``(rows, n)``."""
        return self.latents(inner, observed) @ self.loadings.mean.T

    def predict(
        self, inner: Array, observed: Mask, columns: Indices | slice = slice(None)
    ) -> tuple[Array, Array, Array]:
        """The latents, and means and deviations ``(rows, columns)`` of cells given the observed ones."""
        own = self.loadings.of(columns)
        latents, deviations = np.empty((len(inner), own.rank + 1)), np.empty((len(inner), len(own.noise)))
        for block, mean, covariance in self.blocks(inner, observed):
            latents[block] = mean
            deviations[block] = np.sqrt(factor_analysis.variances(own, mean, covariance))
        return latents, latents @ own.mean.T, deviations

    def blocks(self, inner: Array, observed: Mask) -> Iterator[tuple[slice, Array, Array]]:
        """As many rows as memory holds, and means and packed covariances of their latents; then the next."""
        for block in factor_analysis.row_blocks(len(inner), self.loadings.rank):
            yield block, *factor_analysis.latents(self.loadings, inner[block], observed[block])


@dataclass(frozen=True)
class Rows:
    """Rows of a standardised table: ``values (m, n)`` as the factor model takes them, which of them are ``observed``, and what is ``modelled`` in all cells."""

    values: Array
    observed: Mask
    modelled: Array


def draws(
    rows: Rows,
    training: tuple[Array, Mask],
    model: FactorModel,
    sizes: Array,
    count: int,
    generator: np.random.Generator,
) -> Iterator[Array]:
    """Draws of all cells ``(m, n)``; of the observed ones they mean nothing."""
    blocks = model.blocks(rows.values, rows.observed)
    plain = np.concatenate([mean @ model.loadings.mean.T for _, mean, _ in blocks])
    values, observed = training
    latents = min(values.shape[1] - 1, MOST_LATENTS, len(values) // ROWS_PER_LATENT)
    latents = max(latents, model.loadings.rank)
    options: dict[str, Any] = {"sweeps": DRAW_SWEEPS, "tolerance": DRAW_TOLERANCE, "relevance": False}
    full = factor_analysis.fit(values, observed, latents, **options).loadings
    for _ in range(count):
        chosen = generator.integers(0, len(values), len(values))
        drawn = factor_analysis.fit(values[chosen], observed[chosen], full.rank, start=full, **options).loadings
        draw = rows.modelled - plain
        for block, mean, covariance in FactorModel(drawn).blocks(rows.values, rows.observed):
            latent = np.zeros_like(mean)
            if drawn.rank:
                roots = factor_analysis.roots(covariance, drawn.rank)
                latent[:, :-1] = np.einsum("iab,ib->ia", roots, generator.standard_normal((len(mean), drawn.rank)))
            noise = latent @ drawn.mean.T + np.sqrt(drawn.noise) * generator.standard_normal((len(mean), len(sizes)))
            draw[block] += mean @ drawn.mean.T + sizes * noise
        yield draw


def sizes_of(honest: Array, values: Array, deviation: Array) -> Array:
    """The root mean square honest error of each column over the factor model's deviation, ``(n,)``; 1 where nothing is known."""
    known = ~np.isnan(honest)
    counts = known.sum(0)
    errors = np.where(known, values - honest, 0.0)
    squares, variances = (errors**2).sum(0), np.where(known, deviation, 0.0) ** 2
    ratio = np.divide(squares, variances.sum(0), out=np.ones(len(counts)), where=counts > 0)
    return np.minimum(np.sqrt(ratio), LARGEST_SIZE)
