"""Gradient flow of a reduced network: the limit of small steps, integrated with a step size of its own."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

from lowdim.dynamics._network import gradients, hessian
from lowdim.dynamics._problem import Problem
from lowdim.dynamics._reduction import Reduction
from lowdim.dynamics._rules import GradientDescent
from lowdim.dynamics._trajectory import ContinuousStates, Trajectory
from lowdim.errors import NonFiniteError


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
    layout = _Layout(reduction)
    step, decay = float(rule.step), float(rule.weight_decay)  # pyright: ignore[reportArgumentType]

    def velocity(_: float, state: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        slopes = gradients(layout.unpack(state), reduction.target)
        return -step * (layout.pack(slopes) + decay * state)

    def jacobian(_: float, state: Float[np.ndarray, " p"]) -> Float[np.ndarray, "p p"]:
        slope = hessian(layout.unpack(state), reduction.target)[layout.grid]
        slope *= -step
        slope[np.diag_indices(len(state))] -= step * decay
        return slope

    def remaining(time: float, state: Float[np.ndarray, " p"]) -> float:
        states = ContinuousStates(np.array([0.0, time]), lambda _: layout.unpack(state))
        assert until is not None
        return float(until(Trajectory(problem, "flow", states, reduction), time))

    remaining.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    solution = solve_ivp(
        velocity,
        (0.0, float(duration)),
        layout.pack(reduction.cores),
        method="LSODA",
        jac=jacobian,
        rtol=tolerance,
        atol=tolerance * 1e-2,
        events=remaining if until else None,
        dense_output=True,
    )
    if not solution.success:
        raise NonFiniteError(f"the flow could not be integrated beyond time {solution.t[-1]:.4g}: {solution.message}")
    states = ContinuousStates(solution.t, lambda times: layout.unpack(np.moveaxis(solution.sol(times), 0, -1)))
    return Trajectory(problem, "flow", states, reduction, finished=until is None or solution.status == 1)


class _Layout:
    """Cores as one vector of the entries that can change: the active blocks and the numbers, without the zeros beside."""

    def __init__(self, reduction: Reduction) -> None:
        self.shapes = [core.shape for core in reduction.cores]
        free = [reduction.free(layer).ravel() for layer in range(1, len(self.shapes) + 1)]
        self.free = np.flatnonzero(np.concatenate(free))
        self.grid = np.ix_(self.free, self.free)
        self.ends = np.cumsum([0, *(mask.size for mask in free)])

    def pack(self, cores: list[Float[np.ndarray, "m n"]]) -> Float[np.ndarray, " p"]:
        return np.concatenate([core.ravel() for core in cores])[self.free]

    def unpack(self, state: Float[np.ndarray, "... p"]) -> list[Float[np.ndarray, "... m n"]]:
        flat = np.zeros((*state.shape[:-1], self.ends[-1]))
        flat[..., self.free] = state
        return [
            flat[..., start:end].reshape(*state.shape[:-1], *shape)
            for start, end, shape in zip(self.ends[:-1], self.ends[1:], self.shapes, strict=True)
        ]
