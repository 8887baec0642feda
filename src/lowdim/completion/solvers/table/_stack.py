"""Non-negative weights of several candidate predictions, per column, drawn to those of all columns."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.floating[Any]]

SPREAD = 0.3  # of a weight over columns: the prior of its estimate
PRIOR = 3.0


class Candidates(NamedTuple):
    """Honest predictions ``(rows, candidates)`` of a target ``(rows,)``, and the variance of each beyond that of its final form."""

    predictions: Array
    target: Array
    noise: Array


def stack(columns: Sequence[Candidates]) -> list[Array]:
    """The weights ``(candidates,)`` of each column.

    They minimise the squared error of the honest predictions plus a pull to the weights that are best for all columns together, the
    stronger the fewer rows there are. The noise of small left-out forests is taken off the diagonal of their second moments: their
    final form has less of it.
    """
    grams = [_second_moments(column) for column in columns]
    moments = [column.predictions.T @ column.target / len(column.target) for column in columns]
    common = _least_squares(sum(grams), sum(moments))
    pulls = [
        PRIOR * float(np.mean((column.target - column.predictions @ common) ** 2)) / SPREAD**2 / len(column.target)
        for column in columns
    ]
    identity = np.eye(len(common))
    return [
        _least_squares(gram + pull * identity, moment + pull * common)
        for gram, moment, pull in zip(grams, moments, pulls, strict=True)
    ]


def _second_moments(column: Candidates) -> Array:
    predictions = column.predictions
    noise = np.minimum(column.noise, 0.5 * np.mean(predictions**2, axis=0))
    return predictions.T @ predictions / len(predictions) - np.diag(noise)


def _least_squares(gram: Any, moment: Any) -> Array:
    """Non-negative minimiser of ``w' gram w - 2 w' moment``, of a gram matrix that the noise may have left indefinite."""
    sizes, basis = np.linalg.eigh(gram)
    root = np.sqrt(np.maximum(sizes, 1e-6 * sizes[-1] + 1e-12))
    return nnls((basis * root).T, (basis / root).T @ moment)[0]
