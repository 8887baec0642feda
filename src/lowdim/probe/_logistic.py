"""Penalised multinomial logistic regressions in the basis of principal directions, several at once."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax

from lowdim.errors import InputError

_ITERATIONS = 2000
_MEMORY = 8
"""Steps from which the next direction is made."""
_SHORTEST = 1e-6
"""A step that does not descend is made shorter until it is this short, and then none."""
_AT_ONCE = 2**24
"""Logits."""


@dataclass(frozen=True)
class Tolerance:
    """Where a descent ends: the largest entry of the gradient, or the last decrease relative to the loss."""

    gradient: float
    decrease: float


FINE = Tolerance(1e-7, 1e-14)
ROUGH = Tolerance(1e-5, 1e-9)
"""On the path: held-out log losses right to four digits, in half the time."""
LOOSE = Tolerance(1e-4, 2e-7)
"""Probabilities right to about a thousandth, in a third of the time."""


@dataclass(frozen=True)
class Rotated:
    """The features in the basis of their principal directions, scaled to total variance 1.

    The penalty does not change under rotation. There the Hessian is nearly diagonal, which the optimiser is told, and with
    fewer samples than features there are fewer coordinates.
    """

    rows: np.ndarray
    mean: np.ndarray
    basis: np.ndarray
    variances: np.ndarray
    scaled: bool

    @classmethod
    def of(cls, x: np.ndarray, units: np.ndarray | None = None) -> "Rotated":
        """The features rotated, each column divided by its unit first where those are given."""
        mean = x.mean(axis=0)
        divisors = np.ones(x.shape[1]) if units is None else units
        centred = (x - mean) / divisors
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
        return cls(centred @ basis, mean, basis / scale / divisors[:, None], values, units is not None)


@dataclass(frozen=True)
class Regressions:
    """Penalised regressions on the same samples, which differ in the samples' weights, the strengths and the columns' units.

    Attributes:
        rows: ``n x r``, in coordinates in which the features are hardly correlated.
        variances: Of the rows, ``r``.
        hot: 1 for each sample's class, ``n x K``.
        shares: Weights of the samples, ``n x m``; those of a regression have the sum 1.
        strengths: L2 penalties, ``m``.
        units: By what each column is multiplied before it is penalised, ``r x m``.
        offset: Logits that all of them start from, ``n x K``; these regressions have no biases.
    """

    rows: np.ndarray
    variances: np.ndarray
    hot: np.ndarray
    shares: np.ndarray
    strengths: np.ndarray
    units: np.ndarray
    offset: np.ndarray | None = None

    def logits(self, solutions: np.ndarray) -> np.ndarray:
        """``n x m x K``, by solutions ``(r + 1) x m x K``: weights of the rows, and biases."""
        flat = solutions[:-1].reshape(len(solutions) - 1, -1).astype(self.rows.dtype, copy=False)
        given = 0 if self.offset is None else self.offset[:, None]
        return (
            (self.rows @ flat).reshape(len(self.rows), *solutions.shape[1:])
            + solutions[-1].astype(self.rows.dtype)
            + given
        )

    def curvatures(self, solutions: np.ndarray) -> np.ndarray:
        """Of each loss by sample: the mean nonzero eigenvalue of diag(p) - pp', which has rank K - 1."""
        likely = softmax(self.logits(solutions), axis=2)
        spread = (self.shares * (1 - np.einsum("nmk,nmk->nm", likely, likely))).sum(axis=0)
        return np.maximum(spread / (self.hot.shape[1] - 1), 1e-4)

    def minimise(self, start: np.ndarray | None, tolerance: Tolerance) -> tuple[np.ndarray, np.ndarray]:
        """The solutions, ``(r + 1) x m x K``, and which of them converged; from others on, by default from zeros.

        L-BFGS for many at once: the products with the rows take most of the time, and are wide.
        """
        several = max(1, _AT_ONCE // self.hot.size)
        if several < len(self.strengths):
            parts = [slice(first, first + several) for first in range(0, len(self.strengths), several)]
            found = [self._some(part).minimise(None if start is None else start[:, part], tolerance) for part in parts]
            return np.concatenate([part for part, _ in found], axis=1), np.concatenate([ended for _, ended in found])
        solutions = (
            np.zeros((len(self.variances) + 1, len(self.strengths), self.hot.shape[1])) if start is None else start
        )
        # In these coordinates the Hessian is about the identity.
        curvatures = self.curvatures(solutions)
        scales = np.empty(solutions.shape[:2])
        scales[:-1] = self.units / np.sqrt(curvatures * self.units**2 * self.variances[:, None] + self.strengths)
        scales[-1] = 1 / np.sqrt(curvatures) if self.offset is None else 0
        descent = _Descent(self, scales, tolerance)
        inverse = np.divide(1, scales, out=np.zeros(scales.shape), where=scales > 0)
        x, converged = descent.run(solutions * inverse[:, :, None])
        return x * scales[:, :, None], converged

    def _some(self, part: slice) -> "Regressions":
        return replace(self, shares=self.shares[:, part], strengths=self.strengths[part], units=self.units[:, part])


class _Descent:
    """L-BFGS for several independent functions, in coordinates in which a unit step is about right."""

    def __init__(self, problem: Regressions, scales: np.ndarray, tolerance: Tolerance) -> None:
        kind = problem.rows.dtype
        self.rows, self.hot = problem.rows, problem.hot.astype(kind)
        self.shares = problem.shares.astype(kind)
        self.offset = None if problem.offset is None else problem.offset[:, None].astype(kind)
        self.scales = scales.astype(kind)[:, :, None]
        # What the penalty adds to the Hessian, here 1 where it is all of it; biases have none.
        self.penalties = np.zeros_like(self.scales)
        weights = np.divide(scales[:-1], problem.units, out=np.zeros(problem.units.shape), where=problem.units > 0)
        self.penalties[:-1] = (problem.strengths * weights**2)[:, :, None]
        self.tolerance, self.slack = tolerance, float(np.finfo(kind).eps)

    def run(self, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each function is smallest, and whether its descent ended by the tolerance."""
        found, converged = start.astype(self.rows.dtype), np.zeros(start.shape[1], dtype=bool)
        active, x = np.arange(start.shape[1]), found
        value, gradient = self.evaluate(x, active)
        steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for _ in range(_ITERATIONS):
            move, after, slope = self.step(x, value, gradient, _direction(gradient, steps), active)
            change = slope - gradient
            product = _dot(move, change)
            inverse = np.divide(1, product, out=np.zeros(len(product)), where=product > 1e-10 * _dot(change, change))
            steps = [*steps, (move, change, inverse)][-_MEMORY:]
            small = np.abs(slope).max(axis=(0, 2)) <= self.tolerance.gradient
            done = small | (value - after <= self.tolerance.decrease * np.maximum(np.abs(value), 1))
            x, value, gradient = x + move, after, slope
            found[:, active] = x
            converged[active] = done
            if done.all():
                break
            if done.any():
                active, x, value, gradient = active[~done], x[:, ~done], value[~done], gradient[:, ~done]
                steps = [(m[:, ~done], c[:, ~done], i[~done]) for m, c, i in steps]
        return found, converged

    def step(
        self, x: np.ndarray, value: np.ndarray, gradient: np.ndarray, direction: np.ndarray, active: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A move along the direction by which each function descends, its value and its gradient there; none where none is found."""
        slope, length = _dot(gradient, direction), np.ones(len(value))
        while True:
            move = direction * length[:, None].astype(x.dtype)
            after, there = self.evaluate(x + move, active)
            short = ~(after <= value + 1e-4 * length * slope + self.slack * np.abs(value)) & (length > 0)
            if not short.any():
                return move, after, there
            length[short] = np.where(length[short] > _SHORTEST, length[short] / 4, 0)

    def evaluate(self, x: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and gradients of the functions that are still active."""
        samples, (size, several, classes) = len(self.rows), x.shape
        scales, shares, pull = self.scales[:, active], self.shares[:, active], self.penalties[:, active] * x
        weights = scales * x
        logits = (self.rows @ weights[:-1].reshape(size - 1, -1)).reshape(samples, several, classes)
        logits += weights[-1] if self.offset is None else self.offset
        logits -= logits.max(axis=2, keepdims=True)
        own = np.einsum("nmk,nk->nm", logits, self.hot)
        np.exp(logits, out=logits)
        total = logits.sum(axis=2)
        value = ((np.log(total) - own) * shares).sum(axis=0, dtype=np.float64) + 0.5 * _dot(pull, x)
        logits /= total[:, :, None]
        logits -= self.hot[:, None]
        logits *= shares[:, :, None]
        gradient = np.empty_like(x)
        gradient[:-1] = (self.rows.T @ logits.reshape(samples, -1)).reshape(size - 1, several, classes)
        gradient[-1] = logits.sum(axis=0)
        return value, gradient * scales + pull


def _direction(gradient: np.ndarray, steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """The quasi-Newton direction by the last moves, the changes of the gradient by them and the inverses of their products."""
    direction, factors = -gradient, []
    for move, change, inverse in reversed(steps):
        factors.append((inverse * _dot(move, direction))[:, None].astype(direction.dtype))
        direction -= factors[-1] * change
    if steps:
        _, change, inverse = steps[-1]
        lengths = inverse * _dot(change, change)
        direction *= np.divide(1, lengths, out=np.ones(len(lengths)), where=lengths > 0)[:, None].astype(
            direction.dtype
        )
    for (move, change, inverse), factor in zip(steps, reversed(factors), strict=True):
        direction += (factor - (inverse * _dot(change, direction))[:, None].astype(direction.dtype)) * move
    return direction


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner products by function."""
    return np.einsum("rmk,rmk->m", first, second).astype(np.float64)
