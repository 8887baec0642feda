"""The frozen head: one linear classifier on tamed features of several layers, its parts weighted by evidence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Real
from scipy.optimize import minimize
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from lowdim.data._dataset import limited_indices
from lowdim.errors import InputError
from lowdim.probe._folds import fold_of
from lowdim.probe._linear import checked, log_loss_of, right_of, spread
from lowdim.probe._logistic import LOOSE, Regressions, Rotated

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, np.inf)
"""Of the further layers together, against the penultimate one."""
_STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(0, -11, -1))
_TYPICAL = 8
"""Place among the strengths from which the best one is looked for."""
_MIDDLE = 0.5
"""Weight of the further layers by which the strength is chosen."""
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
_FOLDS = 5
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
        weight: In rotated coordinates, ``r x K``.
        bias: ``K``, for centred features.
        left_out: Its logits for each sample without it.
    """

    further: float
    weight: np.ndarray
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

    For each of six weights, the penultimate layer and the further ones times the weight get a multinomial logistic regression, all with
    the L2 strength that has the smallest cross-validated log loss for a middle weight. Beside them stands the classifier by the penultimate layer's class means. With
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
    # The products are thin; waking threads for each of them costs many times the product.
    with threadpool_limits(limits=1, user_api="blas"):
        return _fitted(_Problem.of(layers, labels, classes, class_weights, copies, seed))


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
    with threadpool_limits(limits=1, user_api="blas"):

        def problem_of(view: Sequence[np.ndarray], chosen: np.ndarray) -> _Problem:
            same = None if copies is None else copies[chosen]
            return _Problem.of([rows[chosen] for rows in view], labels[chosen], classes, class_weights, same, seed)

        everything = np.arange(len(labels))
        if len(views) == 1:
            return _fitted(problem_of(views[0], everything)), False
        ways = [views[0], [(first + second) / 2 for first, second in zip(*views, strict=True)]]
        few = limited_indices(labels, _JUDGES, seed)
        heads = [_fitted(problem_of(way, few)) for way in ways]
        mean = not heads[0].log_loss < heads[1].log_loss
        return heads[mean] if len(few) == len(labels) else _fitted(problem_of(ways[mean], everything)), mean


def _rotated(group: np.ndarray) -> Rotated:
    """Columns in their principal directions, at their own scale; directions of hardly any variance are left out."""
    scale = np.sqrt(group.var(axis=0).sum())
    if scale <= 1e-12 * np.abs(group).max(initial=0):
        return Rotated(np.empty((len(group), 0)), np.empty(0), np.empty((group.shape[1], 0)), np.empty(0), False)
    whole = Rotated.of(group)
    large = whole.variances > _SMALL
    basis = whole.basis[:, large] * scale
    return replace(whole, rows=whole.rows[:, large] * scale, basis=basis, variances=whole.variances[large] * scale**2)


@dataclass(frozen=True)
class _Problem:
    """What the parts of a head are fitted to.

    Attributes:
        groups: The penultimate layer and the further ones, each rotated.
        divisor: Of the columns of the further layers, which count as one together.
        mean: Of the layers side by side.
        rows: Of both groups, in single precision.
        variances: Of the rows' columns.
        classes: Number of classes.
        present: Those that have samples.
        y: Labels as places in `present`.
        weights: Of the samples.
        part: Fold of each sample.
    """

    groups: tuple[Rotated, Rotated]
    divisor: float
    mean: np.ndarray
    rows: np.ndarray
    variances: np.ndarray
    classes: int
    present: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    part: np.ndarray

    @classmethod
    def of(
        cls,
        layers: Sequence[np.ndarray],
        labels: np.ndarray,
        classes: int,
        class_weights: np.ndarray | None,
        copies: np.ndarray | None,
        seed: int,
    ) -> "_Problem":
        """By what `fit_frozen_head` takes."""
        x, y = checked(np.hstack(list(layers)), labels, classes)
        present, y = np.unique(y, return_inverse=True)
        few = limited_indices(y, _ENOUGH, seed)
        part = np.full(len(y), _UNUSED)
        part[few] = fold_of(y[few], _FOLDS, seed, None if copies is None else copies[few])
        first, divisor = layers[0].shape[1], np.sqrt(max(len(layers) - 1, 1))
        groups = _rotated(x[:, :first]), _rotated(x[:, first:] / divisor)
        if not len(groups[0].variances):
            raise InputError("The features are constant, so no head can be fitted. Look at an earlier layer.")
        return cls(
            groups=groups,
            divisor=divisor,
            mean=x.mean(axis=0),
            rows=np.hstack([group.rows for group in groups]).astype(np.float32),
            variances=np.concatenate([group.variances for group in groups]),
            classes=classes,
            present=present,
            y=y,
            weights=np.ones(len(y)) if class_weights is None else class_weights[present][y],
            part=part,
        )

    @property
    def hot(self) -> np.ndarray:
        return np.eye(int(self.y.max()) + 1)[self.y]

    @property
    def further(self) -> tuple[float, ...]:
        """Weights of the further layers that are tried."""
        return WEIGHTS if len(self.groups[1].variances) else WEIGHTS[:1]

    @cached_property
    def folds(self) -> np.ndarray:
        """Those that are left out."""
        return np.unique(self.part[self.part >= 0])

    def units(self, weights: Sequence[float]) -> np.ndarray:
        """Of the columns, for each weight of the further layers; the features then have total variance 1."""
        further = np.array([_share(weight) for weight in weights])
        factors = np.sqrt([1 - further, further])
        factors /= np.sqrt(sum(f**2 * group.variances.sum() for f, group in zip(factors, self.groups, strict=True)))
        return np.repeat(factors, [len(group.variances) for group in self.groups], axis=0)

    def regressions(self, weights: Sequence[float], strength: float) -> Regressions:
        """On all samples, one for each weight."""
        shares = np.repeat((self.weights / self.weights.sum())[:, None], len(weights), axis=1)
        strengths = np.full(len(weights), strength)
        return Regressions(self.rows, self.variances, self.hot, shares, strengths, self.units(weights))

    def held(self, weights: Sequence[float], strength: float) -> Regressions:
        """On all folds but one: for the first weight without each of them, and so on; and only samples that have a fold."""
        judged = self.part != _UNUSED
        shares = (self.part[judged, None] != self.folds) * self.weights[judged, None]
        return Regressions(
            self.rows[judged],
            self.variances,
            self.hot[judged],
            np.tile(shares / shares.sum(axis=0), len(weights)),
            np.full(len(self.folds) * len(weights), strength),
            np.repeat(self.units(weights), len(self.folds), axis=1),
        )

    def left_out(self, held: Regressions, solutions: np.ndarray) -> np.ndarray:
        """By weight the logits of each sample by the fit without its fold; NaN without one."""
        logits = held.logits(solutions)
        logits = logits.reshape(len(logits), -1, len(self.folds), logits.shape[2])
        found = np.full((len(self.y), *logits[0, :, 0].shape), np.nan)
        known = self.part[self.part != _UNUSED] >= 0
        which = np.searchsorted(self.folds, self.part[self.part >= 0])
        found[self.part >= 0] = logits[np.flatnonzero(known), :, which]
        return found.swapaxes(0, 1)

    def loss(self, logits: np.ndarray) -> float:
        """Of samples that were left out."""
        return log_loss_of(log_softmax(logits, axis=1), self.y, self.weights)

    def unrotated(self, weight: np.ndarray) -> np.ndarray:
        """Weights of the layers side by side, by those in rotated coordinates."""
        first, second = np.split(weight, [len(self.groups[0].variances)])
        return np.vstack([self.groups[0].basis @ first, self.groups[1].basis @ second / self.divisor])


def _share(weight: float) -> float:
    """Of the further layers in the squared lengths."""
    return 1.0 if np.isinf(weight) else weight**2 / (1 + weight**2)


def _best(problem: _Problem, first: int = _TYPICAL) -> tuple[float, np.ndarray | None]:
    """The strength with the smallest held-out log loss for a middle weight, looked for downhill from the first, and the solutions
    without each fold. Every fit starts from the one before."""
    if not len(problem.folds):
        return _STRENGTHS[first], None
    middle = (_MIDDLE,) if len(problem.further) > 1 else problem.further
    found: dict[int, tuple[float, np.ndarray]] = {}
    last: np.ndarray | None = None

    def loss(index: int) -> float:
        nonlocal last
        if not 0 <= index < len(_STRENGTHS):
            return np.inf
        if index not in found:
            held = problem.held(middle, _STRENGTHS[index])
            last, _ = held.minimise(last, LOOSE)
            found[index] = problem.loss(problem.left_out(held, last)[0]), last
        return found[index][0]

    index = first
    while step := min((0, -1, 1), key=lambda step: loss(index + step)):
        index += step
    return _STRENGTHS[index], found[index][1]


def _fitted(problem: _Problem) -> FrozenHead:
    """All parts, by their evidence."""
    parts, known = [_class_means(problem), *_regressions(problem, *_best(problem))], problem.part >= 0
    y, weights = problem.y, problem.weights
    shares = _shares(np.stack([part.left_out[known] for part in parts]), y[known], weights[known])
    mixed = np.tensordot(shares, np.stack([part.weight for part in parts]), 1)
    weight, bias = np.zeros((problem.classes, len(problem.mean))), np.full(problem.classes, -np.inf)
    weight[problem.present] = problem.unrotated(mixed).T
    bias[problem.present] = shares @ np.stack([part.bias for part in parts]) - weight[problem.present] @ problem.mean
    heldout = log_softmax(np.tensordot(shares, np.stack([part.left_out for part in parts]), 1), axis=1)
    heldout[~known] = np.nan
    return FrozenHead(
        weight=weight,
        bias=bias,
        further=float(shares @ [part.further for part in parts] / shares.sum()),
        means=float(shares[0] / shares.sum()),
        accuracy=float(np.mean(heldout[known].argmax(axis=1) == y[known])) if known.any() else np.nan,
        log_loss=log_loss_of(heldout, y, weights) if known.any() else np.nan,
        heldout=spread(heldout, problem.present, problem.classes, known),
    )


def _regressions(problem: _Problem, strength: float, solutions: np.ndarray | None) -> list[_Part]:
    """The regressions for all weights of the further layers, from the solutions for the middle one on."""
    weights, start = problem.further, None
    left_out = np.full((len(weights), *problem.hot.shape), np.nan)
    if solutions is not None:
        if len(weights) > 1:
            # Solutions are combinations of the rows, times the squares of the units.
            factors = np.vstack([(problem.units(weights) / problem.units([_MIDDLE])) ** 2, np.ones(len(weights))])
            solutions = np.einsum("rw,rfk->rwfk", factors, solutions).reshape(len(factors), -1, solutions.shape[2])
        held = problem.held(weights, strength)
        solutions, _ = held.minimise(solutions, LOOSE)
        left_out = problem.left_out(held, solutions)
        start = solutions.reshape(len(solutions), len(weights), len(problem.folds), -1).mean(axis=2)
    solutions, _ = problem.regressions(weights, strength).minimise(start, LOOSE)
    return [
        _Part(_share(weight), solutions[:-1, index], solutions[-1, index], left_out[index])
        for index, weight in enumerate(weights)
    ]


def _class_means(problem: _Problem) -> _Part:
    """Inner products with the unit-length class means of the centred penultimate features, scaled by held-out log loss."""
    rows, hot, part = problem.groups[0].rows, problem.hot, problem.part
    scores = np.full(hot.shape, np.nan)
    for fold in problem.folds:
        scores[part == fold] = rows[part == fold] @ _unit(hot[part != fold].T @ rows[part != fold]).T
    factors = 2.0 ** np.arange(0, 8, 0.5) / np.sqrt(problem.groups[0].variances.sum())
    factor = factors[_UNJUDGED]
    if len(problem.folds):
        ones = np.ones(len(scores))
        factor = min(factors, key=lambda f: log_loss_of(log_softmax(f * scores, axis=1), problem.y, ones))
    weight = np.zeros((len(problem.variances), hot.shape[1]))
    weight[: rows.shape[1]] = factor * _unit(hot.T @ rows).T
    return _Part(0.0, weight, np.zeros(hot.shape[1]), factor * scores)


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
