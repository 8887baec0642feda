"""Draws of a completed table: for the uncertainty of what is computed from it.

The loadings are drawn by fitting the factor model to rows drawn with replacement (a bootstrap draw of the parameters), the latents and the noise
from their normal distributions given these. No latent is shrunk away, as it is where the aim is the best prediction: an analysis of the
drawn tables would find the relations between columns too weak. The second stage moves the mean, and the errors of its honest predictions set the size of
the noise in each column.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowdim._linalg import Array, Mask
from lowdim.completion.solvers.table import _factor_analysis as factor_analysis
from lowdim.completion.solvers.table import _packed as packed

SWEEPS, TOLERANCE = 150, 2e-4  # a fit that stops early stays near the others, and the draws differ too little
MOST_LATENTS, ROWS_PER_LATENT = 20, 10
LARGEST_SIZE = 2.0


@dataclass(frozen=True)
class Rows:
    """Rows of a standardised table: ``values (m, n)`` as the factor model takes them, which of them are ``observed``, and what is ``modelled`` in all cells."""

    values: Array
    observed: Mask
    modelled: Array


def draws(
    rows: Rows,
    training: tuple[Array, Mask],
    loadings: factor_analysis.Loadings,
    sizes: Array,
    count: int,
    generator: np.random.Generator,
) -> Iterator[Array]:
    """Draws of all cells ``(m, n)``; of the observed ones they mean nothing."""
    plain = np.concatenate([mean @ loadings.mean.T for _, mean, _ in _latents(loadings, rows.values, rows.observed)])
    values, observed = training
    latents = min(values.shape[1] - 1, MOST_LATENTS, len(values) // ROWS_PER_LATENT)
    latents = max(latents, loadings.rank)
    options: dict[str, Any] = {"sweeps": SWEEPS, "tolerance": TOLERANCE, "relevance": False}
    full = factor_analysis.fit(values, observed, latents, **options).loadings
    for _ in range(count):
        chosen = generator.integers(0, len(values), len(values))
        drawn = factor_analysis.fit(values[chosen], observed[chosen], full.rank, start=full, **options).loadings
        draw = rows.modelled - plain
        for block, mean, covariance in _latents(drawn, rows.values, rows.observed):
            latent = np.zeros_like(mean)
            if drawn.rank:
                roots = np.linalg.cholesky(packed.unpack(covariance, drawn.rank))
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


def _latents(loadings: factor_analysis.Loadings, values: Array, observed: Mask) -> Iterator[tuple[slice, Array, Array]]:
    for block in factor_analysis.row_blocks(len(values), loadings.rank):
        yield block, *factor_analysis.latents(loadings, values[block], observed[block])
