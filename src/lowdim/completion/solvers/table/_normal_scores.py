"""A column as normal scores of its ranks, and back: heavy tails and skew leave, the order stays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.floating[Any]]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)


@dataclass(frozen=True)
class NormalScores:
    """The distinct values of a column and their scores, both ascending; the scores have unit variance over the column."""

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
