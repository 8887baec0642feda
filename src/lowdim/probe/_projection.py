"""The last projection of a network that compares images with texts, drawn towards the labels as far as that helps."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from lowdim.errors import InputError
from lowdim.probe._folds import fold_of
from lowdim.probe._linear import checked, log_loss_of

PULLS = (10.0, 1.0, 0.1, 0.01, 1e-3)
_FOLDS = 5
_ITERATIONS = 60


def draw_projection(
    start: Float[np.ndarray, "d p"],
    inputs: Float[np.ndarray, "n p"],
    texts: Float[np.ndarray, "K d"],
    labels: Int[np.ndarray, " n"],
    *,
    bias: Float[np.ndarray, " d"] | None = None,
    class_weights: Float[np.ndarray, " K"] | None = None,
    copies: Int[np.ndarray, " n"] | None = None,
    seed: int = 0,
    pulls: tuple[float, ...] = PULLS,
) -> tuple[Float[np.ndarray, "d p"], float]:
    r"""A local minimum of $\frac1n \sum_i -\log \mathrm{softmax}(T z_i)_{y_i} + \frac\lambda2 s \|P - P_0\|_F^2$ with
    $z_i = (P h_i + b) / \|P h_i + b\|$, reached from $P_0$.

    The pull $\lambda$ to the given projection $P_0$ has the smallest cross-validated log loss. Where none beats that projection as it is,
    it is kept: an infinite pull. The unit $s = \overline{\|T_k\|^2} \, \overline{\|h_i\|^2} / \overline{\|P_0 h_i + b\|^2}$ makes the pull mean
    the same at any scale of the texts, the inputs and the outputs.

    Args:
        start: The projection of the network.
        inputs: What it reads.
        texts: One row per class, at the length of the network's logits.
        labels: Integers 0 … K - 1.
        bias: Of the projection; it stays.
        class_weights: Weight of each class's samples in the loss; equal by default.
        copies: A number per sample, the same for identical ones, which stay in one fold.
        seed: Of the folds.
        pulls: Values that are tried, strong to weak.

    Returns:
        The projection and the pull.

    Raises:
        InputError: If an output is zero, so that it has no direction.

    References:
        Fahes, Vu, Bursuc, Pérez and de Charette (2024), arXiv 2410.05270, with a pull of one over the samples per class.

    Example:
        >>> h, y = np.array([[0.6, 0.8], [0.8, 0.6], [1.0, 0.0], [0.0, 1.0]]), np.array([1, 0, 0, 1])
        >>> draw_projection(np.eye(2), h, 100 * np.eye(2), y)[1]  # right and sure already
        inf
    """
    h, y = checked(inputs, labels, len(texts))
    weights = np.ones(len(y)) if class_weights is None else class_weights[y]
    part = fold_of(y, _FOLDS, seed, copies)
    known = part >= 0
    if not known.any():
        return start, np.inf
    with threadpool_limits(limits=1, user_api="blas"):
        left, singular, right = np.linalg.svd(h, full_matrices=False)
        rows = left * singular  # the change acts on the span of the inputs alone
        outputs = h @ start.T + (0.0 if bias is None else bias)
        if not (np.linalg.norm(outputs, axis=1) > 0).all():
            raise InputError("An output of the projection is zero, so that it cannot be compared with texts.")
        unit = float(np.mean(np.sum(texts**2, axis=1)) * np.sum(h**2) / np.sum(outputs**2))

        def logits(change: np.ndarray, at: np.ndarray) -> np.ndarray:
            moved = outputs[at] + rows[at] @ change.T
            return moved / np.linalg.norm(moved, axis=1, keepdims=True) @ texts.T

        def solved(at: np.ndarray, pull: float, change: np.ndarray) -> np.ndarray:
            shares = weights[at] / weights[at].sum()
            hot = np.eye(len(texts))[y[at]]

            def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
                matrix = flat.reshape(change.shape)
                moved = outputs[at] + rows[at] @ matrix.T
                lengths = np.linalg.norm(moved, axis=1, keepdims=True)
                unit_rows = moved / lengths
                logs = log_softmax(unit_rows @ texts.T, axis=1)
                slopes = shares[:, None] * (np.exp(logs) - hot) @ texts
                slopes = (slopes - unit_rows * np.sum(slopes * unit_rows, axis=1, keepdims=True)) / lengths
                value = -float(shares @ np.sum(hot * logs, axis=1)) + 0.5 * pull * unit * float(np.sum(matrix**2))
                return value, (slopes.T @ rows[at] + pull * unit * matrix).ravel()

            found = minimize(loss, change.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
            return found.x.reshape(change.shape)

        none, everything = np.zeros((len(start), len(singular))), np.arange(len(y))
        folds = np.unique(part[known])
        changes = dict.fromkeys(folds.tolist(), none)
        losses: dict[float, float] = {}
        heldout = np.full((len(y), len(texts)), np.nan)
        for pull in (np.inf, *pulls):
            for fold in folds.tolist():
                if np.isfinite(pull):
                    changes[fold] = solved(np.flatnonzero(part != fold), pull, changes[fold])
                own = np.flatnonzero(part == fold)
                heldout[own] = log_softmax(logits(changes[fold], own), axis=1)
            losses[pull] = log_loss_of(heldout, y, weights)
        best = min(losses, key=losses.__getitem__)
        if np.isinf(best):
            return start, best
        change = none
        for pull in pulls[: pulls.index(best) + 1]:  # the same way as in the folds
            change = solved(everything, pull, change)
    return start + change @ right, best
