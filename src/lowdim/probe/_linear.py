"""The cross-validated linear probe: multinomial logistic regression on stored features, its strength chosen by held-out log loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real
from scipy.special import entr, log_softmax
from threadpoolctl import threadpool_limits

from lowdim.errors import InputError, NonFiniteError
from lowdim.probe._folds import fold_of, require_heldout
from lowdim.probe._logistic import FINE, ROUGH, Regressions, Rotated

STRENGTHS: tuple[float, ...] = tuple(10.0 ** (exponent / 2) for exponent in range(0, -19, -1))
"""L2 strengths from strong to weak, for features of total variance 1."""

_PATIENCE = 3
_CLEAR = 0.01
"""Part of the prior's entropy by which a held-out log loss is clearly larger than another."""
_ORDERS = 30.0
"""Columns differ in scale by orders where the largest or a tenth of them deviate by this factor from the median."""
_NEAR = 3.0
"""To within this factor of the median the deviations are then brought."""


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
        scaled: Whether columns of very different scales were brought near one scale first.
    """

    probe: LinearProbe
    accuracy: float
    log_loss: float
    heldout: Float[np.ndarray, "n K"]
    path: tuple[tuple[float, float], ...]
    scaled: bool

    def correct(self, labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """1 where the held-out prediction is right, 0 where it is wrong, NaN where there is none.

        Args:
            labels: The labels of the fit.
        """
        return right_of(self.heldout, labels)


def fit_probe(
    features: Real[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    *,
    classes: int,
    folds: int = 5,
    strengths: Sequence[float] = STRENGTHS,
    class_weights: Float[np.ndarray, " K"] | None = None,
    copies: Int[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> ProbeResult:
    r"""Fits a linear probe whose L2 strength is chosen by cross-validated log loss.

    Minimises over $W, b$, with $x$ the features centred and divided by one number so that their total variance is 1,

    $$\frac1n \sum_i -\log \mathrm{softmax}(W x_i + b)_{y_i} + \frac\lambda2 \|W\|_F^2.$$

    With class weights the mean is a weighted one, here and in the held-out log loss. Where the scales of columns differ by
    orders, columns whose standard deviations are brought near their median are tried too, and taken if their held-out log
    loss is smaller.

    Args:
        features: Any real type; fewer samples than features is no trouble.
        labels: Integers 0 … K - 1.
        classes: ``K``; a class without samples gets probability 0.
        folds: Parts of the data, stratified; a class with one sample is never held out.
        strengths: Values of lambda, strong to weak.
        class_weights: Weight of each class's samples in the loss; equal by default.
        copies: A number per sample, the same for identical ones, which stay in one fold.
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
    x, y = checked(features, labels, classes)
    if not strengths:
        raise InputError("Name at least one strength in `strengths`.")
    part = fold_of(y, folds, seed, copies)
    require_heldout(part)
    present = np.unique(y)
    y = np.searchsorted(present, y)
    weights = np.ones(len(y)) if class_weights is None else class_weights[present][y]
    # The products are thin; waking threads for each of them costs many times the product.
    with threadpool_limits(limits=1, user_api="blas"):
        path = _follow(Rotated.of(x), y, part, weights, strengths)
        deviations = _deviations(x)
        if (typical := _typical(deviations)) is not None:
            units = np.divide(deviations, typical, out=np.ones(len(deviations)), where=deviations > 0)
            path = min(path, _follow(Rotated.of(x, units), y, part, weights, strengths), key=lambda path: path.loss)
        problem = _regressions(path.problem, y, (weights / weights.sum())[:, None], path.strength)
        solutions, converged = problem.minimise(None, FINE)
    known = part >= 0
    return ProbeResult(
        probe=_probe(path.problem, solutions[:, 0], present, classes, path.strength, bool(converged[0])),
        accuracy=float((path.heldout[known].argmax(axis=1) == y[known]).mean()),
        log_loss=path.loss,
        heldout=spread(path.heldout, present, classes, known),
        path=tuple(path.losses.items()),
        scaled=path.problem.scaled,
    )


@dataclass
class StrengthPath:
    """The best strength so far, and the held-out log loss of every strength that was tried."""

    problem: Rotated
    heldout: np.ndarray
    losses: dict[float, float]

    @property
    def strength(self) -> float:
        return min(self.losses, key=self.losses.__getitem__)

    @property
    def loss(self) -> float:
        return self.losses[self.strength]

    def is_past(self, prior: float) -> bool:
        """Whether weaker penalties, which overfit more and take longest, need not be tried.

        One rise does not say so: where large columns are useless, the loss stays near the prior's until the penalty is weak
        enough for the small ones.
        """
        clearly = self.loss + _CLEAR * prior
        left = self.loss < (1 - _CLEAR) * prior or max(self.losses.values()) > 2 * prior
        return left and all(loss > clearly for loss in list(self.losses.values())[-_PATIENCE:])


def _follow(
    problem: Rotated, labels: np.ndarray, part: np.ndarray, weights: np.ndarray, strengths: Sequence[float]
) -> StrengthPath:
    """Held-out log probabilities along the strengths, each fold starting from its last solution."""
    folds = np.unique(part[part >= 0])
    shares = (part[:, None] != folds) * weights[:, None]
    problem_of = partial(_regressions, problem, labels, shares / shares.sum(axis=0))
    known = part >= 0
    own = np.flatnonzero(known), np.searchsorted(folds, part[known])
    counts = np.bincount(labels, weights=weights)
    prior = float(entr(counts / counts.sum()).sum())
    solutions = None
    path = StrengthPath(problem, np.empty(0), {})
    for strength in strengths:
        regressions = problem_of(strength)
        solutions, _ = regressions.minimise(solutions, ROUGH)
        heldout = np.full((len(labels), len(counts)), np.nan)
        heldout[known] = log_softmax(regressions.logits(solutions)[own], axis=1)
        path.losses[strength] = log_loss_of(heldout, labels, weights)
        if path.strength == strength:
            path.heldout = heldout
        if path.is_past(prior):
            break
    return path


def _regressions(problem: Rotated, labels: np.ndarray, shares: np.ndarray, strength: float) -> Regressions:
    """Of one strength, one for each column of shares."""
    several, hot = shares.shape[1], np.eye(int(labels.max()) + 1)[labels]
    units = np.ones((len(problem.variances), several))
    return Regressions(problem.rows, problem.variances, hot, shares, np.full(several, strength), units)


def _deviations(x: np.ndarray) -> np.ndarray:
    """Standard deviation of each column; 0 for those that vary by rounding only."""
    deviations = x.std(axis=0)
    return np.where(deviations > np.finfo(np.float64).eps * len(x) * np.abs(x).max(axis=0), deviations, 0.0)


def _typical(deviations: np.ndarray) -> np.ndarray | None:
    """Deviations drawn to within a factor of their median; None where their scales do not differ by orders."""
    varying = deviations[deviations > 0]
    if not len(varying):
        return None
    # Of few columns, the least is the lower end.
    low, middle, high = np.quantile(varying, 0.1, method="lower"), np.median(varying), varying.max()
    return np.clip(deviations, middle / _NEAR, middle * _NEAR) if max(high / middle, middle / low) > _ORDERS else None


def checked(features: Any, labels: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Finite features in double precision, and labels of two classes at least."""
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise InputError(f"A probe needs features n x d and integer labels n, not {x.shape} and {y.shape} ({y.dtype}).")
    if len(y) and (y.min() < 0 or y.max() >= classes):
        raise InputError(f"Labels must lie in 0 … {classes - 1}, but range from {y.min()} to {y.max()}.")
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        raise NonFiniteError(f"{len(bad)} samples have NaN or infinite features (rows {bad[:5].tolist()}). Drop them.")
    if len(np.unique(y)) < 2:
        raise InputError("A probe needs samples of at least two classes.")
    return x, y


def right_of(heldout: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1 where the most probable class is the label, 0 where it is not, NaN where there are no probabilities."""
    known = np.isfinite(heldout).any(axis=1)
    right = np.full(len(labels), np.nan)
    right[known] = heldout[known].argmax(axis=1) == labels[known]
    return right


def log_loss_of(heldout: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Mean negative log probability of the labels, over the rows that are not NaN."""
    own = heldout[np.arange(len(labels)), labels]
    known = ~np.isnan(own)
    return -float(np.average(own[known], weights=weights[known]))


def _probe(
    problem: Rotated, solution: np.ndarray, present: np.ndarray, classes: int, strength: float, converged: bool
) -> LinearProbe:
    weight = np.zeros((classes, len(problem.mean)))
    bias = np.full(classes, -np.inf)
    weight[present] = solution[:-1].T @ problem.basis.T
    bias[present] = solution[-1] - weight[present] @ problem.mean
    return LinearProbe(weight, bias, strength, converged)


def spread(heldout: np.ndarray, present: np.ndarray, classes: int, known: np.ndarray) -> np.ndarray:
    """Log probabilities of the classes that are present among those of all; NaN in rows that are not known."""
    full = np.full((len(heldout), classes), np.nan)
    full[known] = -np.inf
    full[np.ix_(known, present)] = heldout[known]
    return full
