"""What the second stage learns a column with: extremely randomised trees on binned columns, and ridge regression with a Gaussian kernel.

Both give honest predictions of the training rows: each small forest is grown without one fold of the rows, and the mean of all its trees
predicts new ones; width and ridge of the kernel regression, on landmarks, are those with the least exact leave-one-out errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim._compiled import kernel

Array = NDArray[np.floating[Any]]
Codes = NDArray[np.uint8]

BINS = 255
TIE = 1 + 1e-9  # columns that cut a node alike gain the same up to rounding, which shall not choose between them
LEAST_SPLIT = 5  # rows of a node that is split

LANDMARKS = 100
WIDTHS = (1.5, 3.0)  # in median distances between landmarks
RIDGES = np.geomspace(0.01, 100, 9)
LEAST_EIGENVALUE = 1e-6  # of the largest, of the kernel between landmarks


@dataclass(frozen=True)
class Bins:
    """Where a column is cut: ``edges`` between at most `BINS` pieces, and the mean value in each, ``centres``."""

    edges: Array
    centres: Array

    @classmethod
    def of(cls, values: Array) -> "Bins":
        """Pieces of about equally many of these values; each distinct value its own where they are few."""
        points = np.unique(values)
        if points.size > BINS:
            points = np.unique(np.quantile(values, np.linspace(0, 1, BINS)))
        edges = (points[1:] + points[:-1]) / 2
        pieces = np.searchsorted(edges, values)
        counts = np.maximum(np.bincount(pieces, minlength=points.size), 1)
        centres = np.zeros(BINS + 1)
        centres[: points.size] = np.bincount(pieces, values, points.size) / counts
        return cls(edges, centres)

    def codes(self, values: Array) -> Codes:
        """The piece of each value."""
        return np.searchsorted(self.edges, values).astype(np.uint8)


@dataclass(frozen=True)
class Forest:
    """Grown trees.

    Attributes:
        feature: ``(trees, nodes)``, the column that a node asks about; -1 in a leaf.
        cut: The last piece that goes left.
        left: The node for those; the next one is for the others.
        value: The mean of the target in a node.
        left_out: ``(rows,)``, of the training rows by trees that did not see them.
        noise: Variance of ``left_out`` beyond that of a mean over all trees.
    """

    feature: NDArray[np.int32]
    cut: Codes
    left: NDArray[np.int32]
    value: Array
    left_out: Array
    noise: float

    @classmethod
    def grow(
        cls, codes: Codes, centres: Array, target: Array, *, folds: int, trees: int, share: float, seed: int
    ) -> "Forest":
        """Grow ``folds * trees`` trees.

        Args:
            codes: ``(features, rows)``.
            centres: ``(features, BINS + 1)``.
            target: ``(rows,)``.
            folds: Parts of the rows.
            trees: Without each part.
            share: Of the features that a node may ask about.
            seed: Of folds and cuts.
        """
        rows = target.size
        folds = min(folds, rows)
        generator = np.random.default_rng(seed)
        fold = generator.permutation(rows) % folds
        feature, cut = (
            np.zeros((folds * trees, 2 * rows + 2), np.int32),
            np.zeros((folds * trees, 2 * rows + 2), np.uint8),
        )
        left, value = np.zeros(feature.shape, np.int32), np.zeros(feature.shape)
        asked = max(1, round(share * len(codes)))
        left_out, squares, nodes = _grow_all(
            codes, centres, target, fold, folds, trees, asked, generator, feature, cut, left, value
        )
        noise = float(np.mean(squares - left_out**2)) / max(trees - 1, 1) * (1 - 1 / folds)
        used = slice(0, nodes)
        return cls(
            feature[:, used].copy(), cut[:, used].copy(), left[:, used].copy(), value[:, used].copy(), left_out, noise
        )

    def predict(self, codes: Codes) -> Array:
        """The mean of all trees, ``(rows,)``."""
        return _mean_of_trees(codes, self.feature, self.cut, self.left, self.value)


@partial(kernel, fastmath=False)
def _grow_all(  # pragma: no cover - compiled
    codes: Any, centres: Any, target: Any, fold: Any, folds: int, trees: int, asked: int, generator: Any,
    feature: Any, cut: Any, left: Any, value: Any,
) -> tuple[Any, Any, int]:  # fmt: skip
    left_out, squares, most = np.zeros(target.size), np.zeros(target.size), 0
    for tree in range(folds * trees):
        rows = np.flatnonzero(fold != tree // trees)
        most = max(
            most,
            _grow(codes, centres, target, rows, asked, generator, feature[tree], cut[tree], left[tree], value[tree]),
        )
        for row in np.flatnonzero(fold == tree // trees):
            answer = value[tree, _leaf(codes, row, feature[tree], cut[tree], left[tree])]
            left_out[row] += answer / trees
            squares[row] += answer**2 / trees
    return left_out, squares, most


@partial(kernel, fastmath=False)
def _grow(  # pragma: no cover - compiled
    codes: Any,
    centres: Any,
    target: Any,
    rows: Any,
    asked: int,
    generator: Any,
    feature: Any,
    cut: Any,
    left: Any,
    value: Any,
) -> int:
    order, stack = np.arange(codes.shape[0]), np.empty((rows.size + 64, 3), np.int64)
    sorted_target = target[rows]  # in the order of the rows, which change places so that those of a node stand together
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, rows.size, 0  # by number: as tuples Numba compiles for seconds longer
    waiting = nodes = 1
    while waiting > 0:
        waiting -= 1
        first, end, node = stack[waiting, 0], stack[waiting, 1], stack[waiting, 2]
        total, squares, size = 0.0, 0.0, end - first
        for i in range(first, end):
            total += sorted_target[i]
            squares += sorted_target[i] ** 2
        value[node], feature[node] = total / size, -1
        if size < LEAST_SPLIT or squares - total * total / size < 1e-12 * size:
            continue
        best, best_feature, best_cut, drawn, others = 0.0, -1, 0, 0, order.size
        while others > 0 and drawn < asked:
            place = int(generator.random() * others)
            others -= 1
            candidate = order[place]
            order[place], order[others] = order[others], candidate
            column = codes[candidate]
            at = _cut(generator, column, centres[candidate], rows, first, size)
            if at < 0:
                continue
            drawn += 1
            sum_left, count = 0.0, 0
            for i in range(first, end):
                goes_left = column[rows[i]] <= at  # no branch: it would be mispredicted half of the time
                sum_left += goes_left * sorted_target[i]
                count += goes_left
            gain = sum_left * sum_left / count + (total - sum_left) ** 2 / (size - count)
            if gain > best * TIE:
                best, best_feature, best_cut = gain, candidate, at
        if best_feature < 0:
            continue
        column, i, j = codes[best_feature], first, end - 1
        while i <= j:
            if column[rows[i]] <= best_cut:
                i += 1
            else:
                rows[i], rows[j] = rows[j], rows[i]
                sorted_target[i], sorted_target[j] = sorted_target[j], sorted_target[i]
                j -= 1
        feature[node], cut[node], left[node] = best_feature, best_cut, nodes
        stack[waiting, 0], stack[waiting, 1], stack[waiting, 2] = first, i, nodes
        stack[waiting + 1, 0], stack[waiting + 1, 1], stack[waiting + 1, 2] = i, end, nodes + 1
        waiting, nodes = waiting + 2, nodes + 2
    return nodes


@partial(kernel, fastmath=False)
def _cut(
    generator: Any, column: Any, centres: Any, rows: Any, first: int, size: int
) -> Any:  # pragma: no cover - compiled
    """The last piece on the left, at a uniformly random value; -1 where all rows of a node have the same."""
    low = high = np.int64(column[rows[first]])
    for i in range(first + 1, first + size):
        piece = np.int64(column[rows[i]])
        low, high = min(low, piece), max(high, piece)
    if low == high:
        return -1
    at = centres[low] + generator.random() * (centres[high] - centres[low])
    while high - low > 1:
        middle = (low + high) // 2
        if centres[middle] <= at:
            low = middle
        else:
            high = middle
    return low


@partial(kernel, fastmath=False)
def _leaf(codes: Any, row: Any, feature: Any, cut: Any, left: Any) -> Any:  # pragma: no cover - compiled
    node = 0
    while feature[node] >= 0:
        node = left[node] + (codes[feature[node], row] > cut[node])
    return node


@partial(kernel, fastmath=False)
def _mean_of_trees(codes: Any, feature: Any, cut: Any, left: Any, value: Any) -> Any:  # pragma: no cover - compiled
    means = np.zeros(codes.shape[1])
    for tree in range(feature.shape[0]):
        for row in range(codes.shape[1]):
            means[row] += value[tree, _leaf(codes, row, feature[tree], cut[tree], left[tree])]
    return means / feature.shape[0]


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
