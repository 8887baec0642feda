r"""Gradient descent on a deep linear network from observed entries, as the lecture states it.

The network is a chain of factors ``F_1 (k, n), F_2 (k, k), ..., F_N (m, k)``, first factor first, and the loss is
the *summed* one, $\tfrac12 \lVert \Omega \circ (F_N \cdots F_1 - \Phi) \rVert_F^2$. A step size given for a mean
over all m n entries is divided by m n here, one for a mean over the observed entries by their number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lowdim.completion.entries import Entries
from lowdim.completion.solvers._journal import Journal
from lowdim.errors import NonFiniteError

Array = NDArray[np.float64]
Probe = Callable[[Array, Array], float]

GROWTH, CUT = 1.1, 0.5
ROUNDING = 1e-12  # on a plateau the loss changes by less than its rounding error, which must not cut the step
STALL_WINDOW, STALL = 300, 1e-4
PLATEAU = 0.99  # the initial plateau lasts until the loss is below this share of its start


@dataclass(frozen=True)
class Network:
    """Factors of a deep linear network and their learning rates.

    Attributes:
        factors: ``F_1 (k, n), ..., F_N (m, k)``, at least two.
        rates: One per factor: the step of factor ``l`` is ``rates[l]`` times the common step.
    """

    factors: tuple[Array, ...]
    rates: tuple[float, ...]

    @property
    def left(self) -> Array:
        """``F_N``, (m, k)."""
        return self.factors[-1]

    @property
    def right(self) -> Array:
        """``(F_{N-1} ... F_1).T``, (n, k): the network computes ``left @ right.T``."""
        return np.ascontiguousarray(partial_products(self.factors[:-1])[-1].T)


@dataclass(frozen=True)
class Descent:
    """A run of gradient descent.

    Attributes:
        network: The factors at the end.
        iterations: Steps taken (rejected steps of the adaptive mode included).
        flow_time: Sum of the accepted steps: the time of the gradient flow that the run follows.
        relative_residual: ``||Omega o (W - Phi)|| / ||Omega o Phi||`` at the end.
        converged: Whether that reached the tolerance.
        stalled: Whether the adaptive run was stopped because the loss no longer fell.
        times: (T,) recorded iterations, with the first and the last.
        flow_times: (T,) flow time then.
        residuals: (T,) relative residual then.
        probes: (T,) value of the probe then; empty without one.
    """

    network: Network
    iterations: int
    flow_time: float
    relative_residual: float
    converged: bool
    stalled: bool
    times: NDArray[np.int64]
    flow_times: Array
    residuals: Array
    probes: Array


def partial_products(factors: Sequence[Array]) -> list[Array]:
    """``F_1, F_2 F_1, ...``."""
    products = [factors[0]]
    for factor in factors[1:]:
        products.append(factor @ products[-1])
    return products


def loss_and_gradients(entries: Entries, factors: Sequence[Array]) -> tuple[float, list[Array]]:
    r"""The summed loss and its gradient in every factor.

    With ``S`` the sparse residual ``Omega o (Phi - W)``, $\nabla_l = -F_{N:l+1}^\top S F_{l-1:1}^\top$. The data are
    touched once; inner factors see only the (k, k) matrix $F_N^\top S F_1^\top$.

    The factors are ``F_1 (k, n), ..., F_N (m, k)``.

    Returns:
        The loss, and one array per factor. Cost: O(``|Omega|`` k + (m + n) k^2 + N k^3).
    """
    right = np.ascontiguousarray(partial_products(factors[:-1])[-1].T)
    left = np.ascontiguousarray(factors[-1])
    residual = entries.values - entries.predict(left, right)
    sparse = entries.sparse(residual)
    by_row, by_col = sparse @ right, sparse.T @ left
    gradients = [-by_row] * len(factors)
    chain = np.eye(factors[-1].shape[1])  # (F_{N-1} ... F_{l+1}).T
    if len(factors) > 2:
        core = by_col.T @ factors[0].T
        before = partial_products([chain, *factors[1:-2]])  # F_{l-1} ... F_2
        for layer in range(len(factors) - 2, 0, -1):
            gradients[layer] = -(chain @ core @ before[layer - 1].T)
            chain = factors[layer].T @ chain
    gradients[0] = -(chain @ by_col.T)
    return 0.5 * float(residual @ residual), gradients


def descend(
    entries: Entries,
    network: Network,
    step: float,
    *,
    adaptive: bool = False,
    tolerance: float = 1e-10,
    max_iterations: int = 100_000,
    probe: Probe | None = None,
    record: int = 1,
    journal: Journal | None = None,
) -> Descent:
    """Plain gradient descent, or the same direction with a step that grows by 1.1 and is halved on an increase.

    A step that would increase the loss is undone, so the adaptive loss never rises; all factors share the step, so
    whatever reduction holds for gradient descent with any sequence of steps holds for it. It leaves a plateau in a few
    hundred steps. With few entries a fixed step near the stability limit can generalise better: it cannot stay in the
    sharp minima that a falling loss settles in.

    Only an adaptive run ends when its loss stalls; `probe` gets (left, right) with ``W = left @ right.T``.

    Raises:
        NonFiniteError: If a fixed step is too large and the run diverges.
    """
    stage = (journal or Journal()).stage(max_iterations)
    saved = stage.saved()
    if saved is not None:
        network = Network(tuple(saved[f"factor.{layer}"] for layer in range(len(network.factors))), network.rates)
    run = _Run(entries, network, step, adaptive, tolerance)
    with threadpool_limits(1, "blas"), np.errstate(over="ignore", invalid="ignore"):
        history = [run.snapshot(probe)] if saved is None else run.restore(saved)
        while run.iterations < max_iterations and not (run.converged or run.stalled):
            run.advance()
            if run.iterations % record == 0:
                history.append(run.snapshot(probe))
            stage.report(run.iterations, lambda: run.state() | {"history": np.array(history)})
        if history[-1][0] != run.iterations:
            history.append(run.snapshot(probe))
    times, flow_times, residuals, probes = (np.array(column) for column in zip(*history, strict=True))
    return Descent(
        network=Network(tuple(run.factors), network.rates),
        iterations=run.iterations,
        flow_time=run.flow_time,
        relative_residual=run.relative_residual,
        converged=run.converged,
        stalled=run.stalled,
        times=times,
        flow_times=flow_times,
        residuals=residuals,
        probes=probes if probe else probes[:0],
    )


class _Run:
    """The moving parts of a descent."""

    def __init__(self, entries: Entries, network: Network, step: float, adaptive: bool, tolerance: float) -> None:
        self.entries, self.factors, self.rates = entries, list(network.factors), network.rates
        self.step, self.adaptive, self.tolerance = step, adaptive, tolerance
        self.iterations, self.flow_time = 0, 0.0
        self.norm = float(np.linalg.norm(entries.values))
        self.loss, self.gradients = loss_and_gradients(entries, self.factors)
        self.reference = (self.loss, 0, 0.0)  # loss, iterations and flow time when the loss last fell noticeably
        self.start, self.plateau = self.loss, np.inf  # loss at the start; how long it took to fall noticeably

    @property
    def relative_residual(self) -> float:
        return float(np.sqrt(2 * self.loss)) / self.norm if self.norm else float(np.sqrt(2 * self.loss))

    @property
    def converged(self) -> bool:
        return self.relative_residual <= self.tolerance

    @property
    def stalled(self) -> bool:
        """Whether the loss has been flat for many steps and for as long as the initial plateau.

        Directions are learned one after the other with a plateau before each, and once one is learned the step
        can no longer grow, so a flat loss alone means nothing.
        """
        _, iterations, flow_time = self.reference
        long = self.iterations - iterations > STALL_WINDOW and self.flow_time - flow_time > self.plateau
        return self.adaptive and long

    def advance(self) -> None:
        moved = [
            factor - (self.step * rate) * gradient if rate else factor
            for factor, rate, gradient in zip(self.factors, self.rates, self.gradients, strict=True)
        ]
        loss, gradients = loss_and_gradients(self.entries, moved)
        self.iterations += 1
        if self.adaptive and not loss <= self.loss * (1 + ROUNDING):
            self.step *= CUT
            return
        if not np.isfinite(loss):
            raise NonFiniteError(
                f"Gradient descent diverged after {self.iterations} iterations with step {self.step:.3g} on the "
                "summed loss. Use a smaller step (see stability_limits) or the adaptive mode."
            )
        self.flow_time += self.step
        self.factors, self.loss, self.gradients = moved, loss, gradients
        if self.adaptive:
            self.step *= GROWTH
        if loss < (1 - STALL) * self.reference[0]:
            self.reference = (loss, self.iterations, self.flow_time)
        if loss < PLATEAU * self.start:
            self.plateau = min(self.plateau, self.flow_time)

    def state(self) -> dict[str, Array]:
        numbers = [self.step, self.iterations, self.flow_time, *self.reference, self.start, self.plateau]
        return {f"factor.{layer}": factor for layer, factor in enumerate(self.factors)} | {"numbers": np.array(numbers)}

    def restore(self, saved: dict[str, Array]) -> list[tuple[int, float, float, float]]:
        """Go on from a state, whose factors this run was made with; returns the history until then."""
        step, iterations, flow_time, *reference, self.start, self.plateau = saved["numbers"].tolist()
        self.step, self.iterations, self.flow_time = step, int(iterations), flow_time
        self.reference = (reference[0], int(reference[1]), reference[2])
        return [(int(row[0]), *row[1:]) for row in saved["history"].tolist()]

    def snapshot(self, probe: Probe | None) -> tuple[int, float, float, float]:
        value = float("nan")
        if probe:
            now = Network(tuple(self.factors), self.rates)
            value = probe(now.left, now.right)
        return self.iterations, self.flow_time, self.relative_residual, value
