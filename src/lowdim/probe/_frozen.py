"""The frozen head: one linear classifier on tamed features of several layers, its parts weighted by evidence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Int, Real
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from threadpoolctl import threadpool_limits

from lowdim.data._dataset import limited_indices
from lowdim.errors import InputError
from lowdim.probe._folds import fold_of
from lowdim.probe._linear import checked, log_loss_of, right_of, spread
from lowdim.probe._logistic import Rotated, minimise

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, np.inf)
"""Of the further layers together, against the penultimate one."""
_STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(0, -11, -1))
_TYPICAL = 6
"""Place among the strengths from which the best one is looked for."""
_LOOSE = {"gtol": 1e-4, "ftol": 1e-6}
"""Probabilities right to about a thousandth, in a third of the time."""
_MEANS = 0.3
"""Share of the class means before any evidence."""
_SHRINKAGE = 30.0
"""Samples that the shares before any evidence count for."""
_ENOUGH = 3000
"""Samples by which strengths are chosen."""
_JUDGES = 500
"""Samples that decide whether views are averaged."""
_UNJUDGED = 6
"""Place among the temperatures of the class means where no sample can be left out."""
_FOLDS = 4
_UNUSED = -2
"""Fold of a sample that strengths and shares are chosen without."""
_SMALL = 3e-5
"""Part of the variance below which a direction is left out: no penalty that is tried leaves anything of it."""


@dataclass(frozen=True)
class FrozenHead:
    """A linear classifier on the tamed features of several layers side by side.

    Attributes:
        weight: ``K x d``, d the widths of all layers together.
        bias: ``K``; -inf for classes without samples.
        further: Part of the logits' weight that lies on the further layers, 0 to 1.
        means: The same for the class means.
        accuracy: Share of samples classified correctly by parts that have not seen them; NaN where every class has one sample. The
            shares and strengths, a handful of numbers, were chosen with the same samples.
        log_loss: Their mean negative log probability, in nats.
        heldout: Log probabilities of each sample by parts that have not seen it, ``n x K``; NaN for the samples of classes with one
            sample, and beyond 3,000 samples for the rest.
    """

    weight: Float[np.ndarray, "K d"]
    bias: Float[np.ndarray, " K"]
    further: float
    means: float
    accuracy: float
    log_loss: float
    heldout: Float[np.ndarray, "n K"]

    def log_probabilities(self, features: Real[np.ndarray, "n d"]) -> Float[np.ndarray, "n K"]:
        """Natural logarithms of the class probabilities; -inf for classes that had no sample.

        Args:
            features: The layers side by side, tamed as in training.
        """
        return log_softmax(np.asarray(features, dtype=np.float64) @ self.weight.T + self.bias, axis=1)

    def correct(self, labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """1 where the held-out prediction is right, 0 where it is wrong, NaN where there is none.

        Args:
            labels: The labels of the fit.
        """
        return right_of(self.heldout, labels)


@dataclass(frozen=True)
class _Part:
    """One of the classifiers that are weighted.

    Attributes:
        further: Squared share of the further layers in its features.
        weights: By group, in rotated coordinates.
        bias: ``K``, for centred features.
        left_out: Its logits for each sample without it.
    """

    further: float
    weights: tuple[np.ndarray, ...]
    bias: np.ndarray
    left_out: np.ndarray


def fit_frozen_head(
    layers: Sequence[Real[np.ndarray, "n _d"]],
    labels: Int[np.ndarray, " n"],
    *,
    classes: int,
    class_weights: Float[np.ndarray, " K"] | None = None,
    copies: Int[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> FrozenHead:
    r"""Fits the frozen head: penalised logistic regressions on several layers and the class means, weighted by evidence.

    For each of six weights, the penultimate layer and the further ones times the weight get a multinomial logistic regression, its
    L2 strength chosen by cross-validated log loss. Beside them stands the classifier by the penultimate layer's class means. With
    $z_m$ their logits for samples that were left out, the shares $a \ge 0$ minimise

    $$\frac1n \sum_i -\log \mathrm{softmax}\Big(\sum_m a_m z_m(x_i)\Big)_{y_i} + \frac{c}{n}\|a - a_0\|^2,$$

    so few samples leave them near $a_0$, in which all weights count the same. The sum of the shares sets the temperature. All parts
    are linear, and so is the head.

    Args:
        layers: Tamed features (`lowdim.features.tame`), the penultimate layer's first.
        labels: Integers 0 … K - 1.
        classes: ``K``; a class without samples gets probability 0.
        class_weights: Weight of each class's samples in the loss; equal by default.
        copies: A number per sample, the same for identical ones, which stay in one fold.
        seed: Of the samples by which strengths are chosen, where there are more than 3,000.

    Raises:
        InputError: If fewer than two classes have samples, or the penultimate features are constant.
        NonFiniteError: If a feature is NaN or infinite.

    Example:
        >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [0.9, 0.1], [0.0, 1.0], [0.1, 1.0], [0.1, 0.9]])
        >>> fit_frozen_head([x], np.array([0, 0, 0, 1, 1, 1]), classes=2).accuracy
        1.0
    """
    x, y = checked(np.hstack(list(layers)), labels, classes)
    present, y = np.unique(y, return_inverse=True)
    weights = np.ones(len(y)) if class_weights is None else class_weights[present][y]
    first = layers[0].shape[1]
    units = np.where(np.arange(x.shape[1]) < first, 1.0, 1 / np.sqrt(max(len(layers) - 1, 1)))
    # The products are thin; waking threads for each of them costs many times the product.
    with threadpool_limits(limits=1, user_api="blas"):
        groups = [_rotated(group) for group in np.split(x * units, [first], axis=1)]
        if not len(groups[0].variances):
            raise InputError("The features are constant, so no head can be fitted. Look at an earlier layer.")
        few = limited_indices(y, _ENOUGH, seed)
        part = np.full(len(y), _UNUSED)
        part[few] = fold_of(y[few], _FOLDS, seed, None if copies is None else copies[few])
        parts, index = [_class_means(groups, y, part)], _TYPICAL
        for weight in WEIGHTS if len(groups[1].variances) else WEIGHTS[:1]:
            regression, index = _regression(groups, weight, y, weights, part, index)
            parts.append(regression)
    known = part >= 0
    shares = _shares(np.stack([part.left_out[known] for part in parts]), y[known], weights[known])
    mixed = [sum(a * part.weights[g] for a, part in zip(shares, parts, strict=True)) for g in range(2)]
    weight, bias = np.zeros((classes, x.shape[1])), np.full(classes, -np.inf)
    weight[present] = np.hstack([(group.basis @ part).T for group, part in zip(groups, mixed, strict=True)]) * units
    bias[present] = shares @ np.stack([part.bias for part in parts]) - weight[present] @ x.mean(axis=0)
    heldout = log_softmax(sum(a * part.left_out for a, part in zip(shares, parts, strict=True)), axis=1)
    heldout[~known] = np.nan
    return FrozenHead(
        weight=weight,
        bias=bias,
        further=float(shares @ [part.further for part in parts] / shares.sum()),
        means=float(shares[0] / shares.sum()),
        accuracy=float(np.mean(heldout[known].argmax(axis=1) == y[known])) if known.any() else np.nan,
        log_loss=log_loss_of(heldout, y, weights) if known.any() else np.nan,
        heldout=spread(heldout, present, classes, known),
    )


def fit_frozen_views(
    views: Sequence[Sequence[Real[np.ndarray, "n _d"]]],
    labels: Int[np.ndarray, " n"],
    *,
    classes: int,
    class_weights: Float[np.ndarray, " K"] | None = None,
    copies: Int[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> tuple[FrozenHead, bool]:
    """The head on the mean of two views of each image, or on the first view where that leaves a smaller log loss.

    A picture and its mirror image may be of two classes; then their mean is of none.

    Args:
        views: One or two, each as for `fit_frozen_head`.
        labels: The same.
        classes: The same.
        class_weights: The same.
        copies: The same.
        seed: The same.

    Returns:
        The head, and whether it is for the mean. Where there are more than 500 samples, so many decide.

    Example:
        >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [0.9, 0.1], [0.0, 1.0], [0.1, 1.0], [0.1, 0.9]])
        >>> fit_frozen_views([[x], [x[:, ::-1]]], np.array([0, 0, 0, 1, 1, 1]), classes=2)[1]
        False
    """
    fit = partial(fit_frozen_head, classes=classes, class_weights=class_weights, seed=seed)
    if len(views) == 1:
        return fit(views[0], labels, copies=copies), False
    ways = [views[0], [(first + second) / 2 for first, second in zip(*views, strict=True)]]
    few = limited_indices(labels, _JUDGES, seed)
    same = None if copies is None else copies[few]
    heads = [fit([layer[few] for layer in way], labels[few], copies=same) for way in ways]
    mean = not heads[0].log_loss < heads[1].log_loss
    return heads[mean] if len(few) == len(labels) else fit(ways[mean], labels, copies=copies), mean


def _rotated(group: np.ndarray) -> Rotated:
    """Columns in their principal directions, at their own scale; directions of hardly any variance are left out."""
    scale = np.sqrt(group.var(axis=0).sum())
    if scale <= 1e-12 * np.abs(group).max(initial=0):
        return Rotated(np.empty((len(group), 0)), np.empty(0), np.empty((group.shape[1], 0)), np.empty(0), False)
    whole = Rotated.of(group)
    large = whole.variances > _SMALL
    basis = whole.basis[:, large] * scale
    return replace(whole, rows=whole.rows[:, large] * scale, basis=basis, variances=whole.variances[large] * scale**2)


def _regression(
    groups: Sequence[Rotated], weight: float, y: np.ndarray, weights: np.ndarray, part: np.ndarray, first: int
) -> tuple[_Part, int]:
    """The regression for one weight of the further layers, and which strength it has, looked for from the first on."""
    further = 1.0 if np.isinf(weight) else weight**2 / (1 + weight**2)
    factors = np.sqrt([1 - further, further])
    factors /= np.sqrt(sum(f**2 * group.variances.sum() for f, group in zip(factors, groups, strict=True)))
    read = [(f, group) for f, group in zip(factors, groups, strict=True) if f > 0]
    problem = replace(
        groups[0],
        rows=np.hstack([f * group.rows for f, group in read]).astype(np.float32),
        variances=np.concatenate([f**2 * group.variances for f, group in read]),
    )
    index, left_out, start = _best(problem, y, weights, part, first)
    solution, _ = minimise(problem, np.arange(len(y)), y, weights, _STRENGTHS[index], start, _LOOSE)
    found = iter(np.split(solution[:-1], np.cumsum([len(group.variances) for _, group in read])[:-1]))
    empty = [np.zeros((len(group.variances), solution.shape[1])) for group in groups]
    parts = tuple(f * next(found) if f > 0 else none for f, none in zip(factors, empty, strict=True))
    return _Part(further, parts, solution[-1], left_out), index


def _best(
    problem: Rotated, y: np.ndarray, weights: np.ndarray, part: np.ndarray, first: int
) -> tuple[int, np.ndarray, np.ndarray | None]:
    """Which strength has the smallest held-out log loss, looked for downhill from the first; the logits of the samples left out,
    and a solution to start from.

    Every fit starts from the one before on the same samples, and from the curvature there.
    """
    fits = [np.flatnonzero((part != fold) & (part != _UNUSED)) for fold in np.unique(part[part >= 0])]
    solutions: list[np.ndarray | None] = [None] * len(fits)
    curvatures = [0.25] * len(fits)
    found: dict[int, tuple[float, np.ndarray]] = {}

    def loss(index: int) -> float:
        if not 0 <= index < len(_STRENGTHS):
            return np.inf
        if index not in found:
            left_out = np.full((len(y), int(y.max()) + 1), np.nan)
            for fold, chosen in enumerate(fits):
                start, curvature = solutions[fold], curvatures[fold]
                solution, _ = minimise(problem, chosen, y, weights, _STRENGTHS[index], start, _LOOSE, curvature)
                logits = problem.rows @ solution[:-1].astype(problem.rows.dtype) + solution[-1]
                solutions[fold], curvatures[fold] = solution, _curvature(logits[chosen])
                left_out[part == fold] = logits[part == fold]
            found[index] = log_loss_of(log_softmax(left_out, axis=1), y, weights) if fits else 0.0, left_out
        return found[index][0]

    index = first
    while step := min((0, -1, 1), key=lambda step: loss(index + step)):
        index += step
    return index, found[index][1], solutions[0] if fits else None


def _curvature(logits: np.ndarray) -> float:
    """Of the loss: the mean nonzero eigenvalue of diag(p) - pp', which has rank K - 1."""
    likely = softmax(logits, axis=1)
    return max(float(1 - (likely**2).sum(axis=1).mean()) / (logits.shape[1] - 1), 1e-4)


def _class_means(groups: Sequence[Rotated], y: np.ndarray, part: np.ndarray) -> _Part:
    """Inner products with the unit-length class means of the centred penultimate features, scaled by held-out log loss."""
    rows, hot = groups[0].rows, np.eye(int(y.max()) + 1)[y]
    scores = np.full((len(y), hot.shape[1]), np.nan)
    for fold in np.unique(part[part >= 0]):
        scores[part == fold] = rows[part == fold] @ _unit(hot[part != fold].T @ rows[part != fold]).T
    factors = 2.0 ** np.arange(0, 8, 0.5) / np.sqrt(groups[0].variances.sum())
    factor, known = factors[_UNJUDGED], part >= 0
    if known.any():
        ones = np.ones(len(y))
        factor = min(factors, key=lambda f: log_loss_of(log_softmax(f * scores, axis=1), y, ones))
    none = np.zeros((len(groups[1].variances), hot.shape[1]))
    return _Part(0.0, (factor * _unit(hot.T @ rows).T, none), np.zeros(hot.shape[1]), factor * scores)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _shares(logits: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How much each part counts, by the leave-one-out logits of all parts, ``m x n x K``."""
    parts = len(logits)
    prior = np.append(_MEANS, np.full(parts - 1, (1 - _MEANS) / (parts - 1)))
    if not len(y):
        return prior
    own, weights = logits[:, np.arange(len(y)), y], weights / weights.sum()

    def objective(shares: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = log_softmax(np.tensordot(shares, logits, 1), axis=1)
        pull = _SHRINKAGE / len(y) * (shares - prior)
        expected = (logits * np.exp(mixed)).sum(axis=2)
        value = -weights @ mixed[np.arange(len(y)), y] + float(pull @ (shares - prior))
        return value, (expected - own) @ weights + 2 * pull

    return minimize(objective, prior, jac=True, method="L-BFGS-B", bounds=[(0, None)] * parts).x
