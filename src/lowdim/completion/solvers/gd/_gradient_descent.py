r"""The `gd` solver: the lecture's dynamics, from observed entries to factors, and where it starts.

A network with factors at $\varepsilon$ times orthogonal matrices first moves along the singular vectors of the
observed matrix, so a network of width 2r inside these subspaces can stand for the wide one. Their own motion, which
full observation would not need, is followed with *discrepant* rates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq

from lowdim._linalg import product_svd
from lowdim._random import child_seed
from lowdim.completion.entries import Entries
from lowdim.completion.solvers._completions import factor_completion, solved
from lowdim.completion.solvers._solver import Completion, HeldOut, Journal, Mask, Settings, Solved, Solver
from lowdim.completion.solvers.gd._descent import Array, Descent, Network, Probe, descend
from lowdim.dynamics import initialize
from lowdim.errors import UsageError, did_you_mean

Form = Literal["compressed", "spectral", "network"]
FORMS = ("compressed", "spectral", "network")
SURE_RESIDUAL = 1e-4
SHARE_OF_LIMIT = 0.9  # of the step: the law's limit is that of a flow, and of the leading direction alone


@dataclass(frozen=True)
class GradientDescent:
    """What gradient descent found.

    Attributes:
        U: (m, k) orthonormal columns.
        singular_values: (k,) descending.
        V: (n, k) orthonormal columns: the completed matrix is ``U * singular_values @ V.T``.
        rank: Of the matrix: the fewest singular values that fit the observed entries as well as all of them.
        relative_residual: On the observed entries.
        iterations: Steps taken.
        converged: Whether the residual reached the tolerance.
        sure: Whether the matrix is determined: a residual below 1e-4, at least 1.15 entries per degree of freedom, and
            as many entries as the rank in every row and column.
        reason: What ``sure`` rests on.
        step: The (first) step, on the summed loss.
        gamma: Relative rate of the outer factors.
        run: The whole run: times, flow times, residuals.
    """

    U: Array
    singular_values: Array
    V: Array
    rank: int
    relative_residual: float
    iterations: int
    converged: bool
    sure: bool
    reason: str
    step: float
    gamma: float
    run: Descent


def gradient_descent(
    entries: Entries,
    *,
    rank: int,
    depth: int = 3,
    form: Form = "compressed",
    width: int | None = None,
    scale: float = 1e-3,
    step: float | None = None,
    gamma: float | None = None,
    adaptive: bool = True,
    tolerance: float = 1e-8,
    max_iterations: int = 20_000,
    random_state: int = 0,
    probe: Probe | None = None,
    record: int = 1,
    journal: Journal | None = None,
) -> GradientDescent:
    r"""Complete a matrix by gradient descent on a deep linear network that starts near zero.

    Args:
        entries: Observed entries of an (m, n) matrix.
        rank: Its rank or an upper bound; the compressed forms have width ``2 rank``.
        depth: Number of factors L of the original network, at least 2.
        form: ``"compressed"``: factors U, V around L small ones, with rate gamma for the outer two; ``"spectral"``: L
            factors that start at epsilon times the leading singular vectors; ``"network"``: L random orthogonal
            factors of the given width (full or narrow).
        width: Of ``form="network"``; ``2 rank`` when not given.
        scale: epsilon, of the start.
        step: eta on the summed loss $\tfrac12\lVert\Omega\circ(W-\Phi)\rVert_F^2$. When not given, .9 of the largest stable
            one at this gamma; half of that of the inner factors where gamma is not given either (compressed).
        gamma: Rate of the outer factors relative to the others; half the largest stable one (compressed) or 1
            (spectral) when not given.
        adaptive: Whether the step grows by 1.1 and is halved on an increase; else it is fixed.
        tolerance: On the relative residual.
        max_iterations: Most steps to take.
        random_state: Seed of the start.
        probe: Number to record from (left, right), with the matrix ``left @ right.T``.
        record: Every how many iterations to record.
        journal: Where to report and to keep the state.

    Raises:
        UsageError: If the rank, depth, scale, step or form is unusable.
        NonFiniteError: If a fixed step is too large.

    References:
        Yaras, Wang, Hu, Zhu, Balzano and Qu (2023), arXiv:2306.01154. Arora, Cohen, Hu and Luo (2019),
        arXiv:1905.13655.

    Example:
        >>> truth = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 2.0])
        >>> entries = Entries.from_dense(np.where(np.eye(4, 3) == 1, np.nan, truth))
        >>> found = gradient_descent(entries, rank=1)
        >>> found.rank, np.round(found.U @ np.diag(found.singular_values) @ found.V.T, 4)[0].tolist()
        (1, [1.0, -1.0, 2.0])
    """
    _validate(entries, rank, depth, form, scale, step)
    if not entries.values.any():
        raise UsageError("All observed entries are 0, so every gradient is 0. The completion is the zero matrix.")
    # Not default_rng(random_state): a matrix drawn with the same seed would not be independent of the start.
    random = np.random.default_rng(child_seed(random_state, "gradient descent"))
    largest = float(entries.leading_svd(entries.values, 1, random)[1][0]) / entries.density
    if form == "compressed" and gamma is None:
        step = stable_step(entries.density, largest, depth) if step is None else step
        gamma = largest_gamma(step, entries.density, largest, depth) / 2
    gamma = 1.0 if gamma is None else gamma
    if step is None:
        step = SHARE_OF_LIMIT * 2 / (entries.density * _curvature(form, largest, depth, gamma))
    network = _start(entries, rank, depth, form, width, scale, gamma, random)
    run = descend(
        entries,
        network,
        step,
        adaptive=adaptive,
        tolerance=tolerance,
        max_iterations=max_iterations,
        probe=probe,
        record=record,
        journal=journal,
    )
    return _describe(entries, run, step, gamma)


def _curvature(form: Form, largest: float, depth: int, gamma: float) -> float:
    """At the solution: from a small start, the outer factors of the spectral form end sqrt(gamma) times as large as the others."""
    if form == "compressed":
        return curvature(largest, depth, gamma)
    return curvature(largest, depth) * (max(gamma, 1.0) ** (2 / depth) if form == "spectral" else 1.0)


def _start(
    entries: Entries,
    rank: int,
    depth: int,
    form: Form,
    width: int | None,
    scale: float,
    gamma: float,
    random: np.random.Generator,
) -> Network:
    if form == "compressed":
        return compressed_network(entries, rank, depth, scale, gamma, random)
    if form == "spectral":
        return spectral_network(entries, rank, depth, scale, gamma, random)
    return orthogonal_network(entries.shape, width or 2 * rank, depth, scale, random)


def _describe(entries: Entries, run: Descent, step: float, gamma: float) -> GradientDescent:
    left, values, right = product_svd(run.network.left, run.network.right)
    rank = _fitting_rank(entries, left * values, right, run.relative_residual)
    return GradientDescent(
        U=left,
        singular_values=values,
        V=right,
        rank=rank,
        relative_residual=run.relative_residual,
        iterations=run.iterations,
        converged=run.converged,
        sure=run.relative_residual < SURE_RESIDUAL and entries.determines(rank),
        reason=entries.facts(rank, run.relative_residual),
        step=step,
        gamma=gamma,
        run=run,
    )


def _fitting_rank(entries: Entries, left: Array, right: Array, residual: float) -> int:
    norm = float(np.linalg.norm(entries.values))
    for rank in range(1, left.shape[1]):
        cut = np.ascontiguousarray(left[:, :rank]), np.ascontiguousarray(right[:, :rank])
        if np.linalg.norm(entries.values - entries.predict(*cut)) <= 2 * max(residual, 1e-8) * norm:
            return rank
    return left.shape[1]


def _validate(entries: Entries, rank: int, depth: int, form: str, scale: float, step: float | None) -> None:
    if form not in FORMS:
        raise UsageError(f"There is no form {form!r}. {did_you_mean(form, FORMS)}")
    if not 1 <= rank <= min(entries.shape):
        raise UsageError(f"The rank must be from 1 to {min(entries.shape)} for shape {entries.shape}, not {rank}.")
    if depth < 2:
        raise UsageError(f"A deep factorization needs at least 2 factors, not {depth}.")
    if not (np.isfinite(scale) and scale > 0):
        raise UsageError(f"The scale of the start must be > 0, not {scale}: at 0 every gradient is 0.")
    if step is not None and not (np.isfinite(step) and step > 0):
        raise UsageError(f"The step must be > 0, not {step}.")


def orthogonal_network(
    shape: tuple[int, int], width: int, depth: int, scale: float, random: np.random.Generator
) -> Network:
    """The lecture's network: L factors, each ``scale`` times a random (semi-)orthogonal matrix, one rate for all."""
    widths = [shape[1], *[width] * (depth - 1), shape[0]]
    return Network(tuple(initialize(widths, random, scale=scale)), (1.0,) * depth)


def compressed_network(
    entries: Entries,
    rank: int,
    depth: int,
    scale: float,
    gamma: float,
    random: np.random.Generator,
    original: Network | None = None,
) -> Network:
    r"""The compressed network $U (\widetilde W_L \cdots \widetilde W_1) V^\top$ of width 2r.

    With $Q = W_{L:1}(0) / \varepsilon^L$ of the original network and $U_\Phi, V_\Phi$ the leading r singular
    vectors of the residual at the start, $V = \mathrm{orth}[V_\Phi, Q^\top U_\Phi]$, $U = Q V$ and every inner factor
    starts at $\varepsilon I$.

    Without the `original` square network Q is random, and what is needed of it is drawn directly at a cost of O((m + n) r^2).
    """
    if original is not None:
        residual = entries.values - entries.predict(np.ascontiguousarray(original.left), original.right)
        left_vectors, _, right_vectors = entries.leading_svd(residual, rank, random)
        moved = original.right @ (original.left.T @ left_vectors)
        right = np.linalg.qr(np.concatenate([right_vectors, moved / np.linalg.norm(moved, axis=0)], 1))[0]
        left = original.left @ (original.right.T @ right) / scale**depth
    else:
        width = min(2 * rank, *entries.shape)
        left_vectors, _, right_vectors = entries.leading_svd(entries.values, rank, random)
        (moved,) = initialize([left_vectors.shape[1], entries.shape[1]], random)  # Q.T @ U_Phi for a random Q
        right = _complete_basis(moved, right_vectors, width)
        left = _complete_basis(left_vectors, random.standard_normal((entries.shape[0], width)), width)
    inner = (scale * np.eye(right.shape[1]),) * depth
    factors = (np.ascontiguousarray(right.T), *inner, np.ascontiguousarray(left))
    return Network(factors, (gamma, *(1.0,) * depth, gamma))


def spectral_network(
    entries: Entries, rank: int, depth: int, scale: float, alpha: float, random: np.random.Generator
) -> Network:
    r"""The spectral start: L factors $\varepsilon U, \varepsilon I, \dots, \varepsilon V^\top$ of width 2r.

    U and V are the leading 2r singular vectors of the observed matrix; the outer two factors have rate alpha.

    References:
        Kwon, Zhang, Song, Balzano and Qu (2024), arXiv:2311.05061.
    """
    left, _, right = entries.leading_svd(entries.values, 2 * rank, random)
    inner = (scale * np.eye(left.shape[1]),) * (depth - 2)
    factors = (scale * np.ascontiguousarray(right.T), *inner, scale * left)
    return Network(factors, (alpha, *(1.0,) * (depth - 2), alpha))


def _complete_basis(first: Array, more: Array, width: int) -> Array:
    """Orthonormal columns: those of ``first``, then as many of the span of ``more`` as ``width`` leaves room for."""
    rest = more[:, : width - first.shape[1]]
    for _ in range(2):  # twice is enough for orthogonality to rounding
        rest = np.linalg.qr(rest - first @ (first.T @ rest))[0]
    return np.concatenate([first, rest], 1)


def curvature(largest: float, depth: int, gamma: float = 0.0) -> float:
    r"""The largest curvature of the summed loss at the solution of the compressed network, per observed share.

    Gradient flow keeps $u^2 - \gamma w^2$, of the leading singular values u of U and V and w of every inner factor, at its value 1 of the
    start. With $u^2 w^L = \sigma_1$ at the end that gives both, and changing every factor in proportion to its rate and sensitivity

    $$L\, \sigma_1^2 / w^2 + 2 \gamma\, \sigma_1^2 / u^2 .$$

    A step $\eta$ is stable while $\eta\, p$ times this is below 2. Exact where all entries are seen; with a share p the sample adds to the
    curvature, and $\lVert\Omega\circ\Phi\rVert_2 / p$ to $\sigma_1$.

    Example:
        >>> curvature(8.0, depth=3), curvature(8.0, depth=3, gamma=0.25)  # w = 2; w^3 + w^5 / 4 = 8
        (48.0, 87.22...)
    """
    w = largest ** (1 / depth)
    if gamma:
        w = _root(lambda w: (1 + gamma * w * w) * w**depth - largest, w)
    return depth * (largest / w) ** 2 + 2 * gamma * largest**2 / (1 + gamma * w * w)


def _root(function: Callable[[float], float], bound: float) -> float:
    found: Any = brentq(function, 0, bound, xtol=1e-14 * bound)
    return found


def largest_gamma(step: float, density: float, largest: float, depth: int) -> float:
    """The rate of the outer factors up to which the compressed network is stable near the solution, see `curvature`.

    Returns:
        The largest gamma, 0 if the step is too large for the inner factors alone.

    Example:
        >>> round(largest_gamma(step=0.01, density=0.5, largest=4.0, depth=2), 1)
        156.2
    """

    def excess(gamma: float) -> float:
        return step * density * curvature(largest, depth, gamma) - 2

    if excess(0.0) >= 0:
        return 0.0
    bound = 1 / largest**2
    while excess(bound) < 0:
        bound *= 2
    return _root(excess, bound)


def stable_step(density: float, largest: float, depth: int) -> float:
    """Half the largest stable step of the inner factors, which leaves the other half to the outer ones."""
    return 1 / (density * curvature(largest, depth))


def solve_gd(entries: Entries, held: Mask, settings: Settings, start: Completion | None = None) -> Solved:
    """Train on all entries; see `gradient_descent`."""
    del start  # it must start near zero
    held_out = check_gd(entries, held, settings)
    return solved(gradient_descent(entries, **_options(entries, settings)), entries, held_out)


def check_gd(entries: Entries, held: Mask, settings: Settings) -> HeldOut:
    """The check of `solve_gd` alone, without the fit of all entries."""
    training = entries.select(~held)
    first = gradient_descent(training, **_options(entries, settings))
    return HeldOut.of(factor_completion(first, training), entries, held)


def _options(entries: Entries, settings: Settings) -> dict[str, Any]:
    rank = settings.rank or entries.affordable_rank(settings.max_rank)
    return {"rank": rank, "depth": settings.depth, "random_state": settings.seed, "journal": settings.journal}


GD = Solver(
    name="gd",
    title="the compressed deep linear network trained by gradient descent",
    solve=solve_gd,
    check=check_gd,
    memory=lambda entries, shape, rank: 95 * entries + 120 * sum(shape) * rank,
    reads=frozenset({"depth"}),
    biased=False,
    one_scale=True,
)
