r"""Why do these weights not obey the law? What can be measured on their own steps, with or without the data.

A step of gradient descent on any loss of the product is $-\eta W_{L:l+1}^\top Z W_{l-1:1}^\top$ with one $Z$ for all factors: that of the
whole data set, of a minibatch, or, for an optimizer that works entry by entry, none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Float

from lowdim.dynamics._bases import Bases
from lowdim.dynamics._history import WeightHistory
from lowdim.dynamics._network import gradients, partial_products
from lowdim.dynamics._problem import Problem

Matrices = Sequence[Float[np.ndarray, "m n"]]

FITS = 1e-5
"""Part of a step that the fitted update may leave unexplained, beside rounding."""

ALIKE = 0.3
"""Part of a step that may lie beside every gradient of the product: sums of several iterations are gradients only nearly."""

ALONG = 0.8
"""Share of what is forbidden to the first factor that must point along the mean input for a bias to be the cause."""

UNLIKE = 0.22
"""Least relative distance of a step's singular values from a multiple of the gradient's: those of sums of plain steps stay nearer."""

FLAT = 2.5
"""Largest over smallest singular value of a step that still counts as orthogonalised."""


@dataclass(frozen=True)
class Step:
    """Two neighbouring times: the weights before, and what was added."""

    weights: Matrices
    update: Matrices
    iterations: float
    noise: float

    @property
    def tolerance(self) -> float:
        """Relative residual of a fit below which it explains the step."""
        return max(FITS, 10 * self.noise)


def first_steps(history: WeightHistory, count: int = 4) -> list[Step]:
    """The first neighbouring times between which something moved by more than rounding."""
    found: list[Step] = []
    for index in range(min(len(history.names) - 1, 4 * count)):
        before, after = history.weights(index), history.weights(index + 1)
        update = [b - a for a, b in zip(before, after, strict=True)]
        moved, size = _length(update), _length(before)
        noise = history.precision * size / moved if moved else np.inf
        if noise < 0.1:
            found.append(Step(before, update, float(np.diff(history.iterations)[index]), noise))
        elif found:
            break
        if len(found) == count:
            break
    return found


@dataclass(frozen=True)
class Fit:
    """``U = beta U_before - eta (gradient + lambda W)``, and the part of the length of U that it leaves."""

    eta: float
    decay: float
    momentum: float
    residual: float

    def describe(self) -> str:
        """In words."""
        extras = [f"momentum {self.momentum:.3g}"] if abs(self.momentum) > 1e-3 else []
        extras += [f"weight decay {self.decay:.3g}"] if abs(self.decay) > 1e-3 else []
        with_extras = f", {' and '.join(extras)}" if extras else ""
        return (
            f"gradient descent on all of the data, step {self.eta:.3g}{with_extras} "
            f"(unexplained part of the recorded steps: {self.residual:.1g})"
        )


def fit_descent(steps: Sequence[Step], problem: Problem) -> Fit | None:
    """The full-batch update that explains neighbouring steps, each by itself; None where one is not explained."""
    if not steps or any(step.iterations != 1 for step in steps):
        return None
    fits: list[Fit] = []
    for index, step in enumerate(steps):
        slopes = gradients(step.weights, problem.phi, problem.gram)
        columns = [_flat(slopes), _flat(step.weights)] + ([_flat(steps[index - 1].update)] if index else [])
        numbers, residual = _regress(columns, _flat(step.update))
        if residual > step.tolerance or not numbers[0]:
            return None
        fits.append(Fit(-numbers[0], numbers[1] / numbers[0], numbers[2] if index else 0.0, residual))
    last, worst = fits[-1], max(fit.residual for fit in fits)
    return Fit(last.eta, last.decay, last.momentum, worst)


def unwhitened_cause(problem: Problem) -> str:
    """The sentence about inputs that are not whitened."""
    condition = f"{problem.condition:.3g}" if np.isfinite(problem.condition) else "infinite"
    return (
        f"The inputs are not whitened (condition of X: {condition}), so the invariance is only approximate; training on "
        "whiten(x) makes it exact."
    )


def find_cause(history: WeightHistory, problem: Problem | None, bases: Bases, steps: Sequence[Step]) -> str:
    """The first measured reason for which the law is broken on whitened inputs; an empty string when nothing is known."""
    if not steps:
        return ""
    step = steps[0]
    if problem is not None and _along_the_mean(history, problem, bases):
        return (
            "What is forbidden to factor 1 points along the mean input X 1: the network has biases, which the theorem "
            "does not cover."
        )
    if _equal_entries(step):
        return (
            "Every entry of the first step has the same size: the optimizer scales each entry by itself (as Adam does) and "
            "is not equivariant."
        )
    missing = _common_residual(step)
    slopes = gradients(step.weights, problem.phi, problem.gram) if problem is not None else None
    if missing <= step.tolerance and slopes and _orthogonalised(step, slopes, 1 + 1e-3, 1e-2):
        return (
            "The steps are the exact polar factor of the gradient, which keeps the law only while the number on the invariant "
            "part is away from 0; there rounding is amplified."
        )
    if missing > step.tolerance and (_orthogonalised(step, slopes) if slopes else _flat_spectrum(step)):
        return (
            f"The steps have the gradient's singular values brought together ({_spread(step)}), but not to one: Muon's "
            "Newton-Schulz iteration, which is not the exact polar factor."
        )
    if missing <= ALIKE and problem is None:
        return (
            "The steps are gradients of a linear network, but not of one loss with whitened inputs: minibatches, inputs "
            "that are not whitened, a bias, or steps that only nearly are gradients, as Muon's. The data (`data`) would tell which."
        )
    if missing <= ALIKE:
        return (
            "The first step is a gradient of the product, but not that of all the data: minibatches, whose X_B X_B^T is not "
            "a multiple of the identity."
        )
    return (
        f"The steps are not gradients of the product ({missing:.0%} of the first one fits none): the optimizer is not "
        "equivariant (as Adam and RMSprop, or nearly so as Muon in bfloat16), or the network has biases."
    )


def started_late(weights: Matrices, tolerance: float) -> bool:
    """Whether the factors look like those of a run that began orthogonal: many singular values are one number, others are not."""
    values = np.linalg.svd(weights[0], compute_uv=False)
    near = np.abs(values - np.median(values)) <= max(1e-6, tolerance) * values[0]
    return bool(len(values) > 3 and 1 < near.sum() < len(values) and near.sum() >= len(values) / 4)


def _along_the_mean(history: WeightHistory, problem: Problem, bases: Bases) -> bool:
    if problem.inputs is None:
        return False
    mean = problem.inputs.sum(axis=1)
    if np.linalg.norm(mean) <= 1e-6 * np.linalg.norm(problem.inputs):
        return False
    start = history.weight(1, 0)
    for index in range(1, len(history.names)):
        change = history.weight(1, index) - start
        forbidden = _forbidden(bases, change)
        if np.linalg.norm(forbidden) > 30 * history.rounding[index] * np.linalg.norm(start):
            right = bases.right[0]
            inside = right @ (right.T @ mean)
            directions = np.linalg.svd(np.stack([inside, mean - inside]), full_matrices=False)[2]
            return bool(np.linalg.norm(forbidden @ directions.T) ** 2 >= ALONG * np.linalg.norm(forbidden) ** 2)
    return False


def _forbidden(bases: Bases, change: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
    """What of a change of factor 1 lies neither in the active block nor is one number on an invariant part."""
    _, blocks, beside = bases.split(1, change)
    for block, part in blocks.items():
        form = bases.form(1, block)
        beside = beside + part - np.sum(part * form) / bases.count(block) * form
    return beside


def _common_residual(step: Step) -> float:
    """Part of the length of a step that is no gradient of the product, whatever the loss: no common Z (and no decay) gives it."""
    befores = [np.eye(step.weights[0].shape[1]), *partial_products(step.weights)[:-1]]
    outputs = step.weights[-1].shape[0]
    afters = [np.eye(outputs)]
    for weight in reversed(step.weights[1:]):
        afters.insert(0, afters[0] @ weight)

    def beside(matrices: Matrices) -> np.ndarray:
        """The matrices without their best common Z; the start is orthogonal, so its normal equations are scalar."""
        scale = sum(
            np.sum(after**2) / outputs * np.sum(before**2) / len(before)
            for after, before in zip(afters, befores, strict=True)
        )
        parts = zip(afters, matrices, befores, strict=True)
        common = reduce(np.add, (after @ matrix @ before for after, matrix, before in parts)) / scale
        fits = [after.T @ common @ before.T for after, before in zip(afters, befores, strict=True)]
        return _flat([matrix - fit for matrix, fit in zip(matrices, fits, strict=True)])

    residual, decay = beside(step.update), beside(step.weights)
    if np.linalg.norm(decay) > 1e-6 * _length(step.weights):
        residual = residual - (residual @ decay) / (decay @ decay) * decay
    return float(np.linalg.norm(residual) / _length(step.update))


def _orthogonalised(step: Step, slopes: Matrices, flat: float = FLAT, unlike: float = UNLIKE) -> bool:
    """Each step has the gradient's leading singular vectors, with nearly equal values that are not the gradient's own."""
    for weight, update, slope in zip(step.weights, step.update, slopes, strict=True):
        left, values, right = np.linalg.svd(slope, full_matrices=False)
        kept = values > 2e-2 * np.linalg.norm(slope)
        left, values, right = left[:, kept], values[kept], right[kept]
        decay = _regress([(left @ right).ravel(), weight.ravel()], update.ravel())[0][1]
        inner = -left.T @ (update - decay * weight) @ right.T
        sizes = np.diagonal(inner)
        aside = np.linalg.norm(inner - np.diag(sizes)) / np.linalg.norm(inner)
        if sizes.min() <= 0 or sizes.max() > flat * sizes.min() or aside > 0.4:
            return False
        if _regress([values], sizes)[1] < unlike:
            return False
    return True


def _flat_spectrum(step: Step) -> bool:
    """Singular values in two groups, nearly equal and small, as the steps of Muon have them."""
    for update in step.update:
        values = np.linalg.svd(update, compute_uv=False)
        large = values[values > values[0] / FLAT]
        if len(large) < 2 or np.std(large) > 0.25 * np.mean(large) or np.sum(large**2) < 0.6 * np.sum(values**2):
            return False
    return True


def _spread(step: Step) -> str:
    values = np.linalg.svd(step.update[0], compute_uv=False)
    large = values[values > values[0] / FLAT]
    return f"the {len(large)} largest of factor 1 are {large[-1] / large[0]:.2f} to 1 times the first"


def _equal_entries(step: Step) -> bool:
    """All entries are of one size, as in the first step of an optimizer that divides by the root of the mean square."""
    sizes = np.abs(_flat(step.update))
    typical = np.median(sizes)
    return bool(np.mean(np.abs(sizes - typical) <= max(1e-2, 10 * step.noise) * typical) > 0.9)


def _regress(columns: Sequence[np.ndarray], target: np.ndarray) -> tuple[np.ndarray, float]:
    scales = np.array([np.linalg.norm(column) or 1.0 for column in columns])
    matrix = np.stack(columns, 1) / scales
    numbers = np.linalg.lstsq(matrix, target, rcond=1e-10)[0]
    return numbers / scales, float(np.linalg.norm(target - matrix @ numbers) / np.linalg.norm(target))


def _flat(matrices: Matrices) -> Float[np.ndarray, " p"]:
    return np.concatenate([matrix.ravel() for matrix in matrices])


def _length(matrices: Matrices) -> float:
    return float(np.linalg.norm(_flat(matrices)))
