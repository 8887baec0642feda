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
from lowdim.completion.solvers._solver import Journal
from lowdim.completion.solvers.gd._kernels import LANES, residual_products, step_down
from lowdim.errors import NonFiniteError

Array = NDArray[np.float64]
Probe = Callable[[Array, Array], float]

GROWTH, CUT = 1.1, 0.5
ROUNDING = 1e-12  # on a plateau the loss changes by less than its rounding error, which must not cut the step
STALL_WINDOW, STALL = 300, 1e-4
LINE = 8  # numbers in a line of the cache
FEW_COLUMNS = 64  # up to which one pass over the entries is the fastest
DENSE, LARGEST_DENSE = (
    0.1,
    10_000_000,
)  # share of entries from which matrix products are faster, and cells of a matrix that is held
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


class Residual:
    """The squared norm of the residual ``S = Omega o (left @ right.T - Phi)`` with ``S @ right`` and ``S.T @ left``, again and again.

    Few columns: one pass over the entries. Many, and a tenth of the entries or more: matrix products in place. Otherwise sparse ones.

    Args:
        entries: Observed entries of Phi, (m, n).
        columns: Of left and right.

    Attributes:
        columns: Of the arrays it takes: at least as many, those above being 0.
    """

    def __init__(self, entries: Entries, columns: int) -> None:
        (m, n), self.entries = entries.shape, entries
        self._fused = columns <= FEW_COLUMNS
        self.columns = -(-columns // LANES) * LANES if self._fused else columns
        self._width = (0,) * (self.columns // LANES)
        self._dense = not self._fused and entries.density >= DENSE and m * n <= LARGEST_DENSE
        if self._dense:
            self._observed, self._phi, self._work = np.zeros((m, n)), np.zeros((m, n)), np.empty((m, n))
            self._observed[entries.rows, entries.cols] = 1
            self._phi[entries.rows, entries.cols] = entries.values

    def __call__(self, left: Array, right: Array, by_row: Array, by_col: Array) -> float:
        """The squared norm; the products are written into (m, k) and (n, k) arrays.

        Args:
            left: (m, k).
            right: (n, k).
            by_row: For ``S @ right``.
            by_col: For ``S.T @ left``.
        """
        entries = self.entries
        if self._fused:
            start, cols, values = entries.row_start, entries.cols, entries.values
            return residual_products(start, cols, values, left, right, by_row, by_col, self._width)
        if self._dense:
            residual = np.matmul(left, right.T, out=self._work)
            np.subtract(residual, self._phi, out=residual)
            np.multiply(residual, self._observed, out=residual)
            np.matmul(residual, right, out=by_row)
            np.matmul(residual.T, left, out=by_col)
            return float(np.vdot(residual, residual))
        values = entries.predict(left, right) - entries.values
        sparse = entries.sparse(values)
        by_row[...], by_col[...] = sparse @ right, sparse.T @ left
        return float(values @ values)


class Point:
    """Factors, with the loss and its gradients there; arrays that are written again and again, since taking new memory costs as much
    as the products.

    Args:
        factors: ``F_1 (k, n), ..., F_N (m, k)``, at least two; copied.
        residual: Of the entries. Where it takes more columns than k, the factors go on with zeros, whose gradients are zeros.
    """

    def __init__(self, factors: Sequence[Array], residual: Residual) -> None:
        (own, n), k, last = factors[0].shape, residual.columns, len(factors) - 1
        self._residual, self._own = residual, own
        padded = [
            np.pad(factor, ((0, (k - own) * (layer < last)), (0, (k - own) * (layer > 0))))
            for layer, factor in enumerate(factors)
        ]
        ends = np.cumsum([factor.size for factor in padded])
        self._places, self._slopes = _aligned(int(ends[-1])), _aligned(int(ends[-1]))
        np.concatenate([factor.ravel() for factor in padded], out=self._places)
        self._factors, self._gradients = (
            [part.reshape(factor.shape) for part, factor in zip(np.split(flat, ends[:-1]), padded, strict=True)]
            for flat in (self._places, self._slopes)
        )
        self.loss = np.inf
        self._before = [np.empty((k, k)) for _ in range(last - 1)]  # F_l ... F_2
        self._cores = [np.empty((k, k)) for _ in range(2)]
        self._right, self._pull = _aligned(n, k), _aligned(n, k)

    @property
    def factors(self) -> list[Array]:
        """As they were given, without further zeros."""
        return self._cut(self._factors)

    @property
    def gradients(self) -> list[Array]:
        """Of each factor."""
        return self._cut(self._gradients)

    def _cut(self, parts: Sequence[Array]) -> list[Array]:
        k = self._own
        return [parts[0][:k], *(part[:k, :k] for part in parts[1:-1]), parts[-1][:, :k]]

    def measure(self) -> None:
        r"""The summed loss and its gradient in every factor, $\nabla_l = F_{N:l+1}^\top S F_{l-1:1}^\top$.

        The data are touched once; inner factors see only the (k, k) matrix $F_N^\top S F_1^\top$.
        """
        factors, gradients, before, right, pull = self._factors, self._gradients, self._before, self._right, self._pull
        for layer, product in enumerate(before):
            if layer:
                np.matmul(factors[layer + 1], before[layer - 1], out=product)
            else:
                product[...] = factors[1]
        if before:
            np.matmul(factors[0].T, before[-1].T, out=right)
        else:
            right[...] = factors[0].T
        self.loss = 0.5 * self._residual(factors[-1], right, gradients[-1], pull)
        if not before:
            gradients[0][...] = pull.T
            return
        core, other = self._cores
        np.matmul(pull.T, factors[0].T, out=core)
        for layer in range(len(before), 0, -1):
            if layer == 1:
                gradients[1][...] = core
            else:
                np.matmul(core, before[layer - 2].T, out=gradients[layer])
                np.matmul(factors[layer].T, core, out=other)
                core, other = other, core
        np.matmul(before[-1].T, pull.T, out=gradients[0])

    def rates(self, each: Sequence[float]) -> Array:
        """The rate of every entry, for `move`, from one rate for each factor."""
        return np.repeat(np.array(each), [factor.size for factor in self._factors])

    def move(self, origin: "Point", rates: Array, step: float) -> None:
        """To where a step of this size from another point leads."""
        step_down(origin._places, origin._slopes, rates, step, self._places)


def _aligned(*shape: int) -> Array:
    """An array that starts where a line of the processor's cache does: where vectors cross lines, the pass takes a third longer."""
    size = int(np.prod(shape))
    memory = np.empty(size + LINE)
    start = -memory.ctypes.data // memory.itemsize % LINE
    return memory[start : start + size].reshape(shape)


def loss_and_gradients(entries: Entries, factors: Sequence[Array]) -> tuple[float, list[Array]]:
    """The summed loss and its gradient in every factor, see `Point`.

    The factors are ``F_1 (k, n), ..., F_N (m, k)``.

    Returns:
        The loss, and one array per factor. Cost: O(``|Omega|`` k + (m + n) k^2 + N k^3).
    """
    point = Point(factors, Residual(entries, factors[-1].shape[1]))
    point.measure()
    return point.loss, point.gradients


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
        network=Network(tuple(map(np.ascontiguousarray, run.factors)), network.rates),
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
        self.network = network
        self.step, self.adaptive, self.tolerance = step, adaptive, tolerance
        self.iterations, self.flow_time = 0, 0.0
        self.norm = float(np.linalg.norm(entries.values))
        residual = Residual(entries, network.factors[-1].shape[1])
        self.here, self.there = Point(network.factors, residual), Point(network.factors, residual)
        self.rates = self.here.rates(network.rates)
        self.here.measure()
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

    @property
    def loss(self) -> float:
        return self.here.loss

    @property
    def factors(self) -> list[Array]:
        return self.here.factors

    def advance(self) -> None:
        self.there.move(self.here, self.rates, self.step)
        self.there.measure()
        loss = self.there.loss
        self.iterations += 1
        if self.adaptive and not loss <= self.loss * (1 + ROUNDING):
            self.step *= CUT
            return
        if not np.isfinite(loss):
            raise NonFiniteError(
                f"Gradient descent diverged after {self.iterations} iterations with step {self.step:.3g} on the "
                "summed loss. Use a smaller step or the adaptive mode."
            )
        self.flow_time += self.step
        self.here, self.there = self.there, self.here
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
            now = Network(tuple(self.factors), self.network.rates)
            value = probe(now.left, now.right)
        return self.iterations, self.flow_time, self.relative_residual, value
