"""Ridge regression with a Gaussian kernel on landmarks; width and ridge by exact leave-one-out errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

LANDMARKS = 100
WIDTHS = (1.5, 3.0)  # in median distances between landmarks
RIDGES = np.geomspace(0.01, 100, 9)
LEAST_EIGENVALUE = 1e-6  # of the largest, of the kernel between landmarks


@dataclass(frozen=True)
class KernelRidge:
    """A fitted regression: ``landmarks (l, d)``, the ``width`` and ``rate`` of the kernel, its ``coefficients (l,)``, and the leave-one-out
    predictions."""

    landmarks: Array
    width: float
    rate: float
    coefficients: Array
    left_out: Array

    @classmethod
    def fit(cls, inputs: Array, target: Array, seed: int, widths: Sequence[float] = WIDTHS) -> "KernelRidge":
        """The width and the ridge with the least leave-one-out error. Costs ``O(rows l^2)`` per width."""
        chosen = np.random.default_rng(seed).permutation(len(inputs))[:LANDMARKS]
        landmarks = inputs[chosen]
        between, distances = _squared_distances(landmarks, landmarks), _squared_distances(inputs, landmarks)
        off_diagonal = between[~np.eye(len(landmarks), dtype=bool)]
        typical = (float(np.median(off_diagonal)) if off_diagonal.size else 0.0) + 1e-9
        best, least = None, np.inf
        for width in widths:
            rate = 1 / (2 * typical * width**2)
            sizes, basis = np.linalg.eigh(np.exp(-rate * between))
            used = sizes > LEAST_EIGENVALUE * sizes[-1]
            root = basis[:, used] / np.sqrt(sizes[used])
            features = np.exp(-rate * distances) @ root
            energy, turn = np.linalg.eigh(features.T @ features)
            features = features @ turn
            moments, squares = features.T @ target, features**2
            for ridge in RIDGES:
                shrunk = 1 / (np.maximum(energy, 0) + ridge)
                leverage = squares @ shrunk
                left_out = (features @ (moments * shrunk) - leverage * target) / (1 - np.minimum(leverage, 0.999))
                error = float(np.mean((target - left_out) ** 2))
                if error < least:
                    least, best = error, cls(landmarks, width, rate, root @ turn @ (moments * shrunk), left_out)
        assert best is not None, "finite inputs give a finite error"
        return best

    def predict(self, inputs: Array) -> Array:
        """``(rows,)``."""
        return np.exp(-self.rate * _squared_distances(inputs, self.landmarks)) @ self.coefficients


def _squared_distances(first: Array, second: Array) -> Array:
    squares = (first * first).sum(1)[:, None] + (second * second).sum(1) - 2 * first @ second.T
    return np.maximum(squares, 0)
