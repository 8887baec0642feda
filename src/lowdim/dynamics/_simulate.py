"""One call for a training run: in full, exactly reduced, or as the gradient flow of the reduced network."""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from lowdim.dynamics._bases import NoInvariantPartError
from lowdim.dynamics._flow import integrate
from lowdim.dynamics._network import Factors, gradients
from lowdim.dynamics._problem import Problem
from lowdim.dynamics._reduction import Reduction, reduce
from lowdim.dynamics._rules import GradientDescent, Rule, at
from lowdim.dynamics._trajectory import Mode, RecordedStates, Trajectory
from lowdim.errors import InputError, NonFiniteError, ResourceError, UsageError, did_you_mean

MEMORY_LIMIT = 4 * 2**30
"""Bytes of recorded states above which a run is refused."""

Until = Callable[[Trajectory, float], float]
"""Called with the run so far and a time; the run stops where the value is <= 0."""


def simulate(
    problem: Problem,
    weights: Factors,
    rule: Rule,
    *,
    steps: int,
    mode: Mode = "reduced",
    rank: int | None = None,
    scale: float | Float[np.ndarray, " B"] = 1.0,
    record: int = 1,
    until: Until | None = None,
    tolerance: float = 1e-10,
) -> Trajectory:
    r"""Trains a deep linear network.

    Modes: ``"full"`` advances the L matrices; ``"reduced"`` advances the exact network of the smallest width that the
    law of parsimony allows, at most 3r + 2 (whitened inputs, orthogonal initialisation, equivariant rule); ``"flow"``
    integrates the gradient flow of that network on the same clock, so that time t is iteration t with an infinitely
    small step.

    Args:
        problem: Inputs and targets.
        weights: L factors, first layer first (see `initialize`); with a leading batch axis, a batch of runs.
        rule: `GradientDescent`, `Polar`, `Adam` or `RMSprop`; its numbers may hold one value per run of a batch.
        steps: Iterations (in a flow: the time at which it ends at the latest).
        mode: See above.
        rank: r of the reduction when it is to be larger than the rank of the target.
        scale: Multiplies all weights; an array makes a batch of runs from the same directions.
        record: Keep every `record`-th iteration, the first and the last.
        until: Stops early, see `Until`; asked at recorded iterations.
        tolerance: Relative tolerance of the flow's integrator.

    Returns:
        The run. Where nothing is invariant (d <= r + d_y and d_y <= 2r), ``"reduced"`` warns and runs in full.

    Raises:
        UsageError: If the mode, steps, record or rank is unusable, or the rule has no reduction.
        InputError: If the problem or weights do not fit each other or the mode.
        NonFiniteError: If the run diverged; the message gives the stability limit.
        ResourceError: If the recorded states would not fit in memory.

    References:
        Yaras, Wang, Hu, Zhu, Balzano and Qu (2023), arXiv:2306.01154.

    Example:
        >>> from lowdim.dynamics import initialize, low_rank_target
        >>> random = np.random.default_rng(0)
        >>> problem = Problem(low_rank_target((30, 30), 3, random))
        >>> run = simulate(problem, initialize([30] * 4, random), GradientDescent(step=1 / 900), steps=50)
        >>> round(float(run.rho(layer=1, time=50)), 6), int(np.sum(np.isclose(run.singular_values(1, 50), run.rho(1, 50))))
        (0.950961, 24)
    """
    _validate(problem, weights, steps, mode, record)
    _validate_scale(scale, mode)
    if mode == "flow":
        clock = _require_flow(rule)
        return integrate(problem, reduce(problem, weights, rank).scaled(scale), clock, steps, until, tolerance)
    if mode == "reduced":
        _require_equivariant(rule)
        try:
            reduction = reduce(problem, weights, rank).scaled(scale)
        except NoInvariantPartError as error:
            warnings.warn(f"{error} Running in full.", stacklevel=2)
        else:
            return _descend(problem, reduction.cores, rule, steps, reduction, record, until)
    factor = np.asarray(scale, float)[..., None, None]
    return _descend(problem, [factor * weight for weight in weights], rule, steps, None, record, until)


def _descend(
    problem: Problem,
    factors: Factors,
    rule: Rule,
    steps: int,
    reduction: Reduction | None,
    record: int,
    until: Until | None,
) -> Trajectory:
    phi, gram = (reduction.target, None) if reduction else (problem.phi, problem.gram)
    factors = _broadcast(factors, rule, phi)
    _require_memory(factors, steps // record + 2)
    mode: Mode = "reduced" if reduction else "full"

    def trajectory(times: list[int], states: list[Factors], finished: bool) -> Trajectory:
        arrays = [np.stack(layer) for layer in zip(*states, strict=True)]
        return Trajectory(problem, mode, RecordedStates(np.array(times, float), arrays), reduction, finished)

    times, states, memory = [0], [factors], rule.start(factors)
    with np.errstate(over="ignore", invalid="ignore"):
        for iteration in range(steps):
            factors, memory = rule.advance(factors, gradients(factors, phi, gram), memory, iteration)
            done = iteration + 1
            if done % record and done < steps:
                continue
            _require_finite(factors, rule, done, phi)
            times.append(done)
            states.append(factors)
            if until is not None and until(trajectory([done], [factors], False), done) <= 0:
                return trajectory(times, states, True)
    return trajectory(times, states, until is None)


def _broadcast(factors: Factors, rule: Rule, phi: np.ndarray) -> Factors:
    """Gives every factor the batch axes that the weights, the rule's numbers and the target have together."""
    numbers = [at(value, 0) for name in ("step", "weight_decay") if (value := getattr(rule, name, None)) is not None]
    batch = np.broadcast_shapes(*(np.shape(array)[:-2] for array in (*factors, phi, *numbers)))
    return [np.array(np.broadcast_to(factor, (*batch, *factor.shape[-2:])), float) for factor in factors]


def _require_finite(factors: Factors, rule: Rule, iteration: int, phi: np.ndarray) -> None:
    if all(np.isfinite(factor).all() and np.abs(factor).max() < 1e8 for factor in factors):
        return
    limit = stability_limit(phi, len(factors))
    raise NonFiniteError(
        f"training diverged before iteration {iteration}: the step {getattr(rule, 'step', '')} is too large. At the "
        f"balanced optimum gradient descent is stable for steps below {limit:.3g} (2 / (L s^(2 - 2/L)) with s the "
        "largest singular value of the target). Use a smaller step."
    )


def stability_limit(phi: Float[np.ndarray, "d_y d_x"], depth: int, weight_decay: float = 0.0) -> float:
    r"""Largest step at which gradient descent stays at the balanced optimum: $2 / (L\,\sigma^{2 - 2/L} + \lambda)$.

    Args:
        phi: Target, $\sigma$ its largest singular value.
        depth: L.
        weight_decay: $\lambda$.

    Example:
        >>> stability_limit(np.diag([4.0, 1.0]), depth=2)
        0.25
    """
    largest = float(np.max(np.linalg.norm(phi, 2, axis=(-2, -1))))
    return 2 / (depth * largest ** (2 - 2 / depth) + weight_decay)


def _require_equivariant(rule: Rule) -> None:
    if not rule.equivariant:
        raise UsageError(
            f"{type(rule).__name__} scales every entry on its own, which breaks the invariant subspaces: there is no "
            "reduction. Use mode='full', or GradientDescent or Polar."
        )


def _require_flow(rule: Rule) -> GradientDescent:
    if not isinstance(rule, GradientDescent) or callable(rule.step) or np.ndim(rule.step) or rule.momentum:
        raise UsageError(
            "mode='flow' is the limit of GradientDescent with one constant step (its time unit) and no momentum. "
            "Use mode='reduced' for other rules, and one call per step size."
        )
    return rule


def _require_memory(factors: Factors, records: int) -> None:
    needed = records * sum(factor.nbytes for factor in factors)
    if needed > MEMORY_LIMIT:
        raise ResourceError(
            f"recording {records} states would take {needed / 2**30:.1f} GiB (limit {MEMORY_LIMIT / 2**30:.0f} GiB). "
            f"Pass record={-(-needed // MEMORY_LIMIT) * 2} or more to keep fewer."
        )


def _validate_scale(scale: float | Float[np.ndarray, " B"], mode: Mode) -> None:
    array = np.asarray(scale, float)
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise UsageError(f"scale must be > 0, not {scale}: at 0 every gradient is 0 and nothing is learned.")
    if array.ndim > (0 if mode == "flow" else 1):
        raise UsageError(
            f"scale has shape {array.shape}, but must be one number{'' if mode == 'flow' else ' or one per run'}. "
            "For one scale per layer, pass it to initialize()."
        )


def _validate(problem: Problem, weights: Factors, steps: float, mode: str, record: int) -> None:
    modes = ("full", "reduced", "flow")
    if mode not in modes:
        raise UsageError(f"there is no mode {mode!r}. {did_you_mean(mode, modes)}")
    if steps < 1 or record < 1:
        raise UsageError(f"steps and record must be at least 1; they are {steps} and {record}.")
    if not weights:
        raise UsageError("a network needs at least one factor; weights is empty.")
    outputs, inputs = problem.phi.shape
    sizes = [inputs, *(weight.shape[-2] for weight in weights)]
    for number, weight in enumerate(weights, 1):
        if weight.shape[-1] != sizes[number - 1]:
            raise InputError(
                f"factor {number} takes {weight.shape[-1]} inputs, but receives {sizes[number - 1]}: "
                "weights go first layer first, each of shape (outputs, inputs)."
            )
        if not np.isfinite(weight).all():
            raise NonFiniteError(f"factor {number} contains NaN or infinity at the start.")
        if not weight.any():
            raise InputError(f"factor {number} is zero (eps = 0?): every gradient is 0 and nothing would be learned.")
    if sizes[-1] != outputs:
        raise InputError(f"the last factor gives {sizes[-1]} outputs, but the targets have {outputs} rows.")
