"""Is progressive separation true of these weights? Assumptions, claim and sharp law, on a run or on anyone's weights."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lowdim._arguments import checked_arguments
from lowdim._verdicts import Check
from lowdim.dynamics._causes import beside_cause
from lowdim.dynamics._history import COARSE, EXACT, WeightHistory
from lowdim.dynamics._network import end_to_end
from lowdim.dynamics._nonlinear import unfit_product
from lowdim.dynamics._problem import Problem
from lowdim.dynamics._separation import (
    input_separation,
    last_pair_bound,
    ratio_bound,
    separation_profile,
    sharp_ratio,
)
from lowdim.dynamics._trajectory import Trajectory
from lowdim.errors import InputError

INPUTS = "D_0 by formula"

EXACT_STATEMENTS = ("unchanged spectrum", INPUTS)
"""Equalities that hold to rounding: numbers coarser than float32 decide none of them."""

FITTED = 1e-2
"""Largest ``||W X - Y||_F^2 / (N D_{L-1})`` at which the deepest D is not yet hidden by the residual."""


_FAILURES = {
    "balancedness": "Large steps, momentum, weight decay or an optimizer other than gradient descent bring neighbouring factors out of balance.",
    INPUTS: "The inputs are not orthonormal.",
    "unchanged spectrum": "The invariant part moved (weight decay, another initialisation or optimizer).",
    "last pair": "The last two factors are farther from balance than the theorem allows.",
    "proven bound": "D falls by less from one layer to the next than is proven.",
    "sharp law": "D does not fall by the same factor from layer to layer.",
}
"""What is said of a statement that does not hold."""


def balancedness_gaps(weights: Sequence[Float[np.ndarray, "m n"]]) -> Float[np.ndarray, " L-1"]:
    r"""$\lVert W_{l+1}^\top W_{l+1} - W_l W_l^\top\rVert_F$ for l = 1 … L - 1; the last is the last pair's.

    Args:
        weights: Factors, first layer first.

    Returns:
        L - 1 Frobenius norms; 0 where a pair is balanced.

    Example:
        >>> balancedness_gaps([np.array([[2.0]]), np.array([[1.0]]), np.array([[1.0]])]).tolist()
        [3.0, 0.0]
    """
    return np.array([np.linalg.norm(after.T @ after - before @ before.T) for before, after in pairwise(weights)])


def unchanged_values(weights: Sequence[Float[np.ndarray, "m n"]], scale: float, count: int) -> float:
    """Largest distance from `scale` of the `count` nearest singular values, over all factors but the last.

    Args:
        weights: Factors, first layer first.
        scale: Of the orthogonal initialisation.
        count: How many singular values the theorem says are unchanged: d - 2K.

    Example:
        >>> float(unchanged_values([np.diag([2.0, 0.5, 0.5]), np.eye(3)], scale=0.5, count=2))
        0.0
    """
    worst = 0.0
    for weight in weights[:-1]:
        distances = np.sort(np.abs(np.linalg.svd(weight, compute_uv=False) - scale))
        worst = max(worst, float(distances[count - 1]))
    return worst


@checked_arguments
def check_separation(
    source: WeightHistory | Trajectory | Sequence[Any],
    problem: Problem,
    labels: Int[np.ndarray, " N"],
    *,
    tolerance: float = 0.05,
) -> list[Check]:
    r"""Checks progressive separation at the last time of a history that starts from orthogonal weights of scale $\varepsilon$.

    Args:
        source: Weights over time; the first and the last are used.
        problem: Inputs (square, orthogonal) and one-hot targets.
        labels: Class of each sample, 0 … K - 1.
        tolerance: For the sharp law, and for balancedness (gradient descent of step eta leaves a gap of order eta).

    Returns:
        Fit; balancedness; unchanged spectrum; last pair; D_0; the proven bound; the sharp law. `holds` is None where rounding of
        the weights or data to the precision in which they are stored could turn the answer.

    Raises:
        InputError: If shapes or classes do not fit the theorem's setting.

    References:
        Wang et al. (2023), arXiv:2311.02960. The sharp law is this project's own finding.

    Example:
        >>> from lowdim.dynamics import GradientDescent, balanced_labels, initialize, one_hot, simulate
        >>> labels = balanced_labels(classes=2, per_class=10)
        >>> problem = Problem(one_hot(labels, 2))
        >>> weights = initialize([20, 20, 20, 2], np.random.default_rng(0), scale=0.1)
        >>> run = simulate(problem, weights, GradientDescent(step=0.01), steps=3000, record=3000)
        >>> all(check.holds for check in check_separation(run, problem, labels))
        True
    """
    return explained_separation(source, problem, labels, tolerance)[0]


def explained_separation(
    source: WeightHistory | Trajectory | Sequence[Any],
    problem: Problem,
    labels: Int[np.ndarray, " N"],
    tolerance: float = 0.05,
) -> tuple[list[Check], list[str]]:
    """The checks of `check_separation`, and why they fail, the first reason first: what lies beside the factors, and inputs that are not
    orthonormal, before what these may bring about."""
    history = WeightHistory.of(source)
    inputs = np.eye(problem.phi.shape[1]) if problem.inputs is None else problem.inputs
    classes, per_class = _setting(history, inputs, labels)
    start, weights = history.weights(0), history.weights(len(history.names) - 1)
    found = _measured(start, weights, problem, labels, (classes, per_class), history, tolerance)
    random = np.random.default_rng(0)

    def shaken(matrix: np.ndarray, unit: float) -> np.ndarray:
        return matrix * (1 + unit * (random.random(matrix.shape) - 0.5))

    # what rounding the numbers once more does to a residual is what rounding them once may have done
    others: list[list[Check]] = []
    for _ in range(3):
        moved = Problem(problem.targets, shaken(inputs, problem.precision))
        first, last = ([shaken(weight, history.precision) for weight in factors] for factors in (start, weights))
        others.append(_measured(first, last, moved, labels, (classes, per_class), history, tolerance))
    coarse = max(problem.precision, history.precision) > COARSE
    checks = [_decided(check, [other[number] for other in others], coarse) for number, check in enumerate(found)]
    why = {check.name: _FAILURES.get(check.name, "") for check in checks if check.holds is False}
    uneven = problem.condition > 1 + tolerance
    if INPUTS in why and uneven:
        condition = f" (condition of X: {problem.condition:.3g})"
        why[INPUTS] = (
            f"The inputs are not orthonormal{condition}, as the theorem has them; training on whiten(x) makes them so."
        )
    if "global optimality" in why:
        why["global optimality"] = unfit_product(history, problem) or _unfinished(history, problem)
    checks = [replace(check, reason=f"{check.reason} {why.get(check.name, '')}".strip()) for check in checks]
    first = [beside_cause(history), why.get(INPUTS, "") if uneven else ""]
    return checks, ([cause for cause in first if cause] or [*why.values()][:1]) if why else []


def _unfinished(history: WeightHistory, problem: Problem) -> str:
    """What to do where the network has not fit the data."""
    last = len(history.names) - 1
    before, after = (float(problem.loss(end_to_end(history.weights(index)))) for index in (last // 2, last))
    if last > 1 and after > before:
        return (
            f"The deepest D is hidden by the residual, and the loss rises ({before:.3g} at {history.time(last // 2)}, {after:.3g} "
            f"at {history.time(last)}): take smaller steps."
        )
    return "The deepest D is hidden by the residual: train longer."


def _decided(check: Check, others: Sequence[Check], coarse: bool) -> Check:
    """The check, or "undecided" where rounding can turn it."""
    by = max(abs(other.residual - check.residual) for other in others)
    if abs(check.tolerance - check.residual) > 3 * by and not (coarse and check.name in EXACT_STATEMENTS):
        return check
    words = f"Undecided at this precision: rounding alone moves the residual by {by:.1g}. Store float32 or float64."
    return replace(check, holds=None, reason=f"{check.reason} {words}")


def _measured(
    start: Sequence[Float[np.ndarray, "m n"]],
    weights: Sequence[Float[np.ndarray, "m n"]],
    problem: Problem,
    labels: Int[np.ndarray, " N"],
    counts: tuple[int, int],
    history: WeightHistory,
    tolerance: float,
) -> list[Check]:
    """All statements, as if the numbers were exact."""
    classes, per_class = counts
    inputs = np.eye(problem.phi.shape[1]) if problem.inputs is None else problem.inputs
    scale = float(np.linalg.norm(start[0]) / np.sqrt(len(start[0])))
    width = len(start[0])
    profile = separation_profile(weights, inputs, labels)
    ratios, law = profile[1:] / profile[:-1], sharp_ratio(scale, per_class, len(weights))
    gaps = balancedness_gaps(weights)
    bound, last = ratio_bound(scale, classes), last_pair_bound(scale, width, classes)
    fit = 2 * float(problem.loss(end_to_end(weights))) / (len(labels) * profile[-1])
    unchanged = unchanged_values(weights, scale, width - 2 * classes)
    # a singular value moves by at most the norm of what was added to the matrix, and is held against what training added
    largest = max(float(np.linalg.norm(weight)) for weight in weights[:-1])
    change = max(float(np.linalg.norm(w - w0, 2)) for w, w0 in zip(weights, start, strict=True))
    allowed = max(EXACT * change, 1e3 * history.precision * change, float(history.rounding[-1]) * largest, 1e-8)
    allowed += 2 * unchanged_values(start, scale, width - 2 * classes)
    expected = input_separation(per_class, len(labels))

    def check(name: str, residual: float, limit: float, reason: str) -> Check:
        return Check(name, bool(residual <= limit), float(residual), float(limit), reason)

    return [
        check("global optimality", fit, FITTED, "||W X - Y||_F^2 / (N D_{L-1})."),
        check(
            "balancedness",
            np.max(gaps[:-1], initial=0.0) / scale**2,
            tolerance,
            "largest ||W_{l+1}^T W_{l+1} - W_l W_l^T||_F / eps^2, last pair excepted.",
        ),
        check(
            "unchanged spectrum",
            unchanged,
            allowed,
            f"the {width - 2 * classes} singular values nearest to eps = {scale:.4g}, largest distance over the inner factors.",
        ),
        check(
            "last pair",
            gaps[-1] / last,
            1 + tolerance,
            f"||W_L^T W_L - W_{{L-1}} W_{{L-1}}^T||_F / (eps^2 sqrt(d - K)); over eps^2 sqrt(d - 2K), the other printed form, it "
            f"would be {gaps[-1] / (scale**2 * np.sqrt(width - 2 * classes)):.4g}.",
        ),
        check(
            INPUTS,
            abs(profile[0] / expected - 1),
            max(1e-12, 1e2 * np.finfo(float).eps * len(labels), 1e2 * problem.precision),
            f"D_0 = {profile[0]:.6g} against (1 - 1/n) / (1/n - 1/N) = {expected:.6g}, relative.",
        ),
        check(
            "proven bound",
            ratios.max(),
            bound,
            "largest D_{l+1}/D_l against 2 (sqrt K + 1) eps^2"
            + (", which is above 1 and says nothing here." if bound >= 1 else "."),
        ),
        check(
            "sharp law",
            np.abs(ratios / law - 1).max(),
            tolerance,
            f"largest |(D_{{l+1}}/D_l) / (eps^2 n^(-1/L)) - 1|; the law gives {law:.4g}, the ratios are "
            f"{ratios.min():.4g} to {ratios.max():.4g}.",
        ),
    ]


def _setting(history: WeightHistory, inputs: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
        raise InputError(f"labels are one number 0 … K - 1 per sample, not {labels.shape} of type {labels.dtype}.")
    counts = np.bincount(labels)
    width = history.shapes[0][1]
    if history.depth < 3:
        raise InputError(f"separation needs at least 3 factors, but there are {history.depth}.")
    if any(shape != (width, width) for shape in history.shapes[:-1]):
        raise InputError(f"separation needs square inner factors, but the shapes are {history.shapes}.")
    if len(set(counts.tolist())) != 1:
        raise InputError(f"the theorem needs balanced classes 0..K-1, but their counts are {counts.tolist()}.")
    if inputs.shape != (width, len(labels)) or history.shapes[-1][0] != len(counts):
        raise InputError(
            f"{len(counts)} classes and inputs of shape {inputs.shape} do not fit a network from {width} to "
            f"{history.shapes[-1][0]} dimensions. x needs one column per sample."
        )
    if width <= 2 * len(counts):
        raise InputError(
            f"the theorem needs d > 2K, but d = {width} and K = {len(counts)}: no singular value is unchanged."
        )
    return len(counts), int(counts[0])
