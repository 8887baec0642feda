"""What a low-rank model of a table misses, taken from similar rows.

Completed rows are compared; a cell is corrected by the weighted mean of what the model left over in the same column of the nearest
rows, where they were observed. With ``h`` the squared distance to the fifth neighbour, a neighbour at distance ``d`` weighs
``exp(-d^2 / h)``, and the weights of the observed neighbours are shrunk by a constant, so that little evidence corrects little.

A row of the reference set is its own nearest neighbour. That is harmless, because it leaves nothing over in its missing cells, and
it makes the correction of a row the same whether it was seen in training or not.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

WIDTH = 5  # the neighbour whose distance is the kernel's width
NEIGHBOURS = 4 * WIDTH
SHRINKAGE = 0.3
BLOCK_CELLS = 2**22  # of the distance matrix and of the gathered residuals held at once


@dataclass(frozen=True)
class Neighbours:
    """Reference rows: completed (observed cells as they are), and the model's residuals with zeros where nothing was observed."""

    completed: Array
    residuals: Array
    observed: Mask

    @staticmethod
    def of(values: Array, observed: Mask, modelled: Array) -> "Neighbours":
        return Neighbours(np.where(observed, values, modelled), np.where(observed, values - modelled, 0.0), observed)

    def correction(self, values: Array, observed: Mask, modelled: Array) -> Array:
        """The ``(rows, n)`` correction of rows that the model completes to ``modelled``. Costs ``O(rows * references * n)``."""
        queries = np.where(observed, values, modelled)
        references, n = self.completed.shape
        block = max(1, BLOCK_CELLS // max(references, NEIGHBOURS * n))
        parts = [self._correct(queries[first : first + block]) for first in range(0, len(queries), block)]
        return np.concatenate(parts) if parts else np.zeros_like(queries)

    def _correct(self, queries: Array) -> Array:
        nearest, squared = self._nearest(queries)
        width = squared[:, min(WIDTH, squared.shape[1]) - 1, None]
        weights = np.exp(-squared / np.maximum(width, 1e-12))[:, None, :]
        total = (weights @ self.residuals[nearest])[:, 0]
        evidence = (weights @ self.observed[nearest].astype(np.float64))[:, 0]
        return total / (evidence + SHRINKAGE)

    def _nearest(self, queries: Array) -> tuple[NDArray[np.intp], Array]:
        """Indices and squared distances of the nearest reference rows, nearest first."""
        squares = np.einsum("ij,ij->i", self.completed, self.completed)
        distances = np.einsum("ij,ij->i", queries, queries)[:, None] + squares - 2 * queries @ self.completed.T
        np.maximum(distances, 0.0, out=distances)
        count = min(NEIGHBOURS + 1, distances.shape[1])  # one more, for the row itself
        nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
        squared = np.take_along_axis(distances, nearest, 1)
        order = np.argsort(squared, axis=1)
        return np.take_along_axis(nearest, order, 1), np.take_along_axis(squared, order, 1)
