"""The cross-validated linear probe: multinomial logistic regression on stored features, its strength chosen by held-out log loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real
from scipy.optimize import minimize
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from lowdim.errors import InputError, NonFiniteError

STRENGTHS: tuple[float, ...] = tuple(10.0 ** (exponent / 2) for exponent in range(0, -19, -1))
"""L2 strengths from strong to weak, for features of total variance 1."""

_ITERATIONS = 2000
_ROUGH = {"gtol": 1e-5, "ftol": 1e-9}
"""On the path: held-out log losses right to four digits, in half the time."""
_FINE = {"gtol": 1e-7, "ftol": 1e-14}


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier on features.

    Attributes:
        weight: ``K x d``.
        bias: ``K``.
        strength: Its L2 penalty, in units of features of total variance 1.
        converged: Whether the optimisation met its tolerance.
    """

    weight: Float[np.ndarray, "K d"]
    bias: Float[np.ndarray, " K"]
    strength: float
    converged: bool

    def log_probabilities(self, features: Real[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]:
        """Natural logarithms of the class probabilities; -inf for classes that had no sample.

        Args:
            features: As in training.
        """
        return log_softmax(np.asarray(features, dtype=np.float64) @ self.weight.T + self.bias, axis=1)


@dataclass(frozen=True)
class ProbeResult:
    """A probe fitted to all samples, and what cross-validation says about it.

    Attributes:
        probe: Fitted to all samples with the chosen strength.
        accuracy: Share of samples classified correctly by a probe that has not seen them.
        log_loss: Their mean negative log probability, in nats.
        heldout: Log probabilities of every sample by the probe that has not seen it, ``n x K``; NaN for the samples that
            are never held out (of classes with one sample).
        path: ``(strength, held-out log loss)`` of every strength that was tried.
    """

    probe: LinearProbe
    accuracy: float
    log_loss: float
    heldout: Float[np.ndarray, "n K"]
    path: tuple[tuple[float, float], ...]

    def correct(self, labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """1 where the held-out prediction is right, 0 where it is wrong, NaN where there is none.

        Args:
            labels: The labels of the fit.
        """
        known = np.isfinite(self.heldout).any(axis=1)
        right = np.full(len(labels), np.nan)
        right[known] = self.heldout[known].argmax(axis=1) == labels[known]
        return right


def fit_probe(
    features: Real[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    classes: int,
    folds: int = 5,
    strengths: Sequence[float] = STRENGTHS,
    class_weights: Float[np.ndarray, " K"] | None = None,
    seed: int = 0,
) -> ProbeResult:
    r"""Fits a linear probe whose L2 strength is chosen by cross-validated log loss.

    Minimises over $W, b$, with $x$ the features centred and divided by one number so that their total variance is 1,

    $$\frac1n \sum_i -\log \mathrm{softmax}(W x_i + b)_{y_i} + \frac\lambda2 \|W\|_F^2.$$

    With class weights the mean is a weighted one, here and in the held-out log loss.

    Args:
        features: Any real type; fewer samples than features is no trouble.
        labels: Integers 0 … K - 1.
        classes: ``K``; a class without samples gets probability 0.
        folds: Parts of the data, stratified; a class with one sample is never held out.
        strengths: Values of lambda, strong to weak.
        class_weights: Weight of each class's samples in the loss; equal by default.
        seed: Of the folds.

    Returns:
        The probe and its held-out predictions. One choice among few strengths was made with the held-out data, by another
        measure than accuracy, so the accuracy is slightly optimistic at most.

    Raises:
        InputError: If fewer than two classes have samples, or none has two.
        NonFiniteError: If a feature is NaN or infinite.

    Example:
        >>> x = np.array([[0.0], [0.1], [0.2], [1.0], [1.1], [1.2]])
        >>> fit_probe(x, np.array([0, 0, 0, 1, 1, 1]), classes=2, folds=3).accuracy
        1.0
    """
    x, y = _checked(features, labels, classes)
    part = fold_of(y, folds, seed)
    present = np.unique(y)
    y = np.searchsorted(present, y)
    problem = _Rotated.of(x)
    weights = np.ones(len(y)) if class_weights is None else class_weights[present][y]
    splits = [(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in np.unique(part[part >= 0])]
    best: tuple[float, float, np.ndarray] | None = None
    path: list[tuple[float, float]] = []
    warm: dict[int, np.ndarray] = {}
    # The products are thin; waking threads for each of them costs many times the product.
    with threadpool_limits(limits=1, user_api="blas"):
        for strength in strengths:
            heldout = np.full((len(y), len(present)), np.nan)
            for fold, (train, test) in enumerate(splits):
                warm[fold], _ = _minimise(problem, train, y, weights, strength, warm.get(fold), _ROUGH)
                heldout[test] = log_softmax(problem.rows[test] @ warm[fold][:-1] + warm[fold][-1], axis=1)
            loss = _log_loss(heldout, y, weights)
            path.append((strength, loss))
            if best is not None and loss > best[1]:
                break  # weaker penalties overfit more, and take longest
            best = (strength, loss, heldout)
        if best is None:
            raise InputError("Name at least one strength.")
        strength, loss, heldout = best
        solution, converged = _minimise(problem, np.arange(len(y)), y, weights, strength, None, _FINE)
    known = part >= 0
    return ProbeResult(
        probe=_probe(problem, solution, present, classes, strength, converged),
        accuracy=float((heldout[known].argmax(axis=1) == y[known]).mean()),
        log_loss=loss,
        heldout=_spread(heldout, present, classes, known),
        path=tuple(path),
    )


def fold_of(labels: Int[np.ndarray, " n"], folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """A stratified fold for every sample; -1 for classes with a single sample, which are always trained on.

    Args:
        labels: Class of each sample.
        folds: Number of folds, at least 2.
        seed: The same seed gives the same folds.
    """
    if folds < 2:
        raise InputError(f"Cross-validation needs at least 2 folds, not {folds}.")
    generator = np.random.default_rng(seed)
    part = np.full(len(labels), -1, dtype=np.int64)
    start = 0
    for label in np.unique(labels):
        where = generator.permutation(np.flatnonzero(labels == label))
        if len(where) > 1:
            # The next class starts where this one ended, so that folds have equal sizes.
            part[where] = (start + np.arange(len(where))) % folds
            start += len(where)
    return part


def _checked(features: Any, labels: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise InputError(f"A probe needs features n x d and integer labels n, not {x.shape} and {y.shape} ({y.dtype}).")
    if len(y) and (y.min() < 0 or y.max() >= classes):
        raise InputError(f"Labels must lie in 0 … {classes - 1}, but range from {y.min()} to {y.max()}.")
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        raise NonFiniteError(f"{len(bad)} samples have NaN or infinite features (rows {bad[:5].tolist()}). Drop them.")
    counts = np.bincount(y, minlength=classes)
    if (counts > 0).sum() < 2 or counts.max(initial=0) < 2:
        raise InputError("A probe needs samples of two classes, and two samples of at least one of them.")
    return x, y


@dataclass(frozen=True)
class _Rotated:
    """The features in the basis of their principal directions, scaled to total variance 1.

    The penalty does not change under rotation. There the Hessian is nearly diagonal, which the optimiser is told, and with
    fewer samples than features there are fewer coordinates.
    """

    rows: np.ndarray
    mean: np.ndarray
    basis: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> "_Rotated":
        mean = x.mean(axis=0)
        centred = x - mean
        scale = np.sqrt(np.mean(np.sum(centred**2, axis=1)))
        if scale == 0:
            raise InputError("The features are constant, so no probe can be fitted. Look at an earlier layer.")
        centred /= scale
        wide = len(x) < x.shape[1]
        gram = centred @ centred.T if wide else centred.T @ centred
        values, vectors = np.linalg.eigh(gram / len(x))
        keep = values > len(gram) * np.finfo(np.float64).eps * values[-1]
        values, vectors = values[keep], vectors[:, keep]
        basis = centred.T @ (vectors / np.sqrt(values * len(x))) if wide else vectors
        return cls(centred @ basis, mean, basis / scale, values)


def _minimise(
    problem: _Rotated,
    chosen: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    strength: float,
    start: np.ndarray | None,
    tolerance: Mapping[str, float],
) -> tuple[np.ndarray, bool]:
    """Weights and biases, ``(r + 1) x K``, of the penalised regression on the chosen rows; and whether it converged."""
    rows, hot = problem.rows[chosen], np.eye(int(labels.max()) + 1)[labels[chosen]]
    classes = hot.shape[1]
    shares = (weights[chosen] / weights[chosen].sum())[:, None]
    # In these coordinates the Hessian is at most about diagonal with a quarter of the variances.
    scale = np.append(1 / np.sqrt(0.25 * problem.variances + strength), 2.0)[:, None]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = flat.reshape(-1, classes) * scale
        weight = solution[:-1]
        logits = rows @ weight + solution[-1]
        logits -= logits.max(axis=1, keepdims=True)
        likely = np.exp(logits)
        total = likely.sum(axis=1, keepdims=True)
        difference = (likely / total - hot) * shares
        own = (logits * hot).sum(axis=1, keepdims=True)
        value = float(((np.log(total) - own) * shares).sum()) + 0.5 * strength * float((weight**2).sum())
        gradient = np.vstack([rows.T @ difference + strength * weight, difference.sum(axis=0)]) * scale
        return value, gradient.ravel()

    first = np.zeros((rows.shape[1] + 1, classes)) if start is None else start / scale
    options = {"maxiter": _ITERATIONS, **tolerance}
    result = minimize(objective, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    return result.x.reshape(-1, classes) * scale, bool(result.success)


def _log_loss(heldout: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    own = heldout[np.arange(len(labels)), labels]
    known = ~np.isnan(own)
    return -float(np.average(own[known], weights=weights[known]))


def _probe(
    problem: _Rotated, solution: np.ndarray, present: np.ndarray, classes: int, strength: float, converged: bool
) -> LinearProbe:
    weight = np.zeros((classes, len(problem.mean)))
    bias = np.full(classes, -np.inf)
    weight[present] = solution[:-1].T @ problem.basis.T
    bias[present] = solution[-1] - weight[present] @ problem.mean
    return LinearProbe(weight, bias, strength, converged)


def _spread(heldout: np.ndarray, present: np.ndarray, classes: int, known: np.ndarray) -> np.ndarray:
    full = np.full((len(heldout), classes), np.nan)
    full[known] = -np.inf
    full[np.ix_(known, present)] = heldout[known]
    return full
