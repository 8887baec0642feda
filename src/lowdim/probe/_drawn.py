"""Given weights of a classifier, drawn towards the labels of a few samples as far as that helps."""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from lowdim.probe._folds import fold_of
from lowdim.probe._linear import checked, log_loss_of
from lowdim.probe._logistic import ROUGH, Regressions

_PULLS = tuple(10.0 ** (exponent / 2) for exponent in range(2, -11, -1))
_FOLDS = 5


def draw_towards_labels(
    start: Float[np.ndarray, "K d"],
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    class_weights: Float[np.ndarray, " K"] | None = None,
    copies: Int[np.ndarray, " n"] | None = None,
    seed: int = 0,
    pulls: tuple[float, ...] = _PULLS,
) -> tuple[Float[np.ndarray, "K d"], float]:
    r"""Weights $W$ that minimise $\frac1n \sum_i -\log \mathrm{softmax}(W x_i)_{y_i} + \frac\lambda2 \|W - W_0\|^2$.

    The pull $\lambda$ to the given weights $W_0$ has the smallest cross-validated log loss. Where none beats the given weights as they
    are, those are kept: an infinite pull.

    Args:
        start: The given weights, such as text features of the classes.
        features: At length 1.
        labels: Integers 0 … K - 1.
        class_weights: Weight of each class's samples in the loss; equal by default.
        copies: A number per sample, the same for identical ones, which stay in one fold.
        seed: Of the folds.
        pulls: Values that are tried, strong to weak.

    Returns:
        The weights and the pull.

    Example:
        >>> x, y = np.array([[0.6, 0.8], [0.8, 0.6], [1.0, 0.0], [0.0, 1.0]]), np.array([1, 0, 0, 1])
        >>> draw_towards_labels(100 * np.eye(2), x, y)[1]  # right and sure already
        inf
    """
    x, y = checked(features, labels, len(start))
    weights = np.ones(len(y)) if class_weights is None else class_weights[y]
    part = fold_of(y, _FOLDS, seed, copies)
    folds, known = np.unique(part[part >= 0]), part >= 0
    with threadpool_limits(limits=1, user_api="blas"):
        left, singular, right = np.linalg.svd(x, full_matrices=False)
        rows, hot, offset = left * singular, np.eye(len(start))[y], x @ start.T

        def problem(shares: np.ndarray, pull: float) -> Regressions:
            several = shares.shape[1]
            units, pulls = np.ones((len(singular), several)), np.full(several, pull)
            return Regressions(rows, singular**2 / len(y), hot, shares / shares.sum(axis=0), pulls, units, offset)

        if not len(folds):
            return start, np.inf
        losses = {np.inf: log_loss_of(np.where(known[:, None], log_softmax(offset, axis=1), np.nan), y, weights)}
        own, solutions = (np.flatnonzero(known), np.searchsorted(folds, part[known])), None
        for pull in pulls:
            held = problem((part[:, None] != folds) * weights[:, None], pull)
            solutions, _ = held.minimise(solutions, ROUGH)
            logits = np.full(hot.shape, np.nan)
            logits[known] = held.logits(solutions)[own]
            losses[pull] = log_loss_of(log_softmax(logits, axis=1), y, weights)
        best = min(losses, key=losses.__getitem__)
        if np.isinf(best):
            return start, best
        solution, _ = problem(weights[:, None], best).minimise(None, ROUGH)
    return start + (right.T @ solution[:-1, 0]).T, best
