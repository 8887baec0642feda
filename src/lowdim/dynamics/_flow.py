"""Gradient flow of a reduced network: the limit of small steps, integrated with a step size of its own."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

from ..errors import NonFiniteError
from ._network import Factors, gradients
from ._problem import Problem
from ._reduction import Reduction
from ._rules import GradientDescent
from ._trajectory import ContinuousStates, Trajectory


def integrate(
    problem: Problem,
    reduction: Reduction,
    rule: GradientDescent,
    duration: float,
    until: Callable[[Trajectory, float], float] | None,
    tolerance: float,
) -> Trajectory:
    r"""Integrates $\dot W_l = -\eta(\nabla_l + \lambda W_l)$ for the cores.

    LSODA switches to a stiff method by itself: classes are learned one after the other, and while the last ones
    wait on their plateau the first are already stiff.
    """
    shapes = [core.shape for core in reduction.cores]
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])

    def unflatten(state: Float[np.ndarray, "... p"]) -> list[Float[np.ndarray, "... m n"]]:
        return [
            state[..., start:end].reshape(*state.shape[:-1], *shape)
            for start, end, shape in zip(ends[:-1], ends[1:], shapes, strict=True)
        ]

    def velocity(_: float, state: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        cores = unflatten(state)
        slope = gradients(cores, reduction.target)
        return -float(rule.step) * np.concatenate(
            [(g + rule.weight_decay * w).ravel() for g, w in zip(slope, cores, strict=True)]
        )

    def snapshot(time: float, state: Float[np.ndarray, " p"]) -> Trajectory:
        states = ContinuousStates(np.array([0.0, time]), lambda _: unflatten(state))
        return Trajectory(problem, "flow", states, reduction)

    def remaining(time: float, state: Float[np.ndarray, " p"]) -> float:
        return 1.0 if until is None else float(until(snapshot(time, state), time))

    remaining.terminal = True
    solution = solve_ivp(
        velocity,
        (0.0, float(duration)),
        np.concatenate([core.ravel() for core in reduction.cores]),
        method="LSODA",
        rtol=tolerance,
        atol=tolerance * 1e-2,
        events=remaining if until else None,
        dense_output=True,
    )
    if not solution.success:
        raise NonFiniteError(f"the flow could not be integrated beyond time {solution.t[-1]:.4g}: {solution.message}")
    states = ContinuousStates(solution.t, lambda times: unflatten(np.moveaxis(solution.sol(times), 0, -1)))
    return Trajectory(problem, "flow", states, reduction, finished=until is None or solution.status == 1)
