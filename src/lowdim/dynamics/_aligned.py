"""Factors that share their singular vectors with the target: one scalar problem per singular value, with exact answers."""

import math

import numpy as np
from jaxtyping import Float
from scipy.integrate import quad
from scipy.optimize import root_scalar

from lowdim.errors import UsageError


def aligned_descent(
    values: Float[np.ndarray, "*batch r"],
    scales: Float[np.ndarray, "L *batch r"],
    step: float | Float[np.ndarray, "*batch"],
    iterations: int,
) -> Float[np.ndarray, "T L *batch r"]:
    r"""Gradient descent on $\tfrac12\lVert W_{L:1} - \Phi\rVert_F^2$ whose factors are diagonal in the singular bases of $\Phi$.

    Such factors stay so, and each singular value of $\Phi$ is learned by itself:
    $\sigma_l \leftarrow \sigma_l - \eta\,(\textstyle\prod_k \sigma_k - s)\prod_{k \ne l}\sigma_k$.

    Args:
        values: The target's singular values s.
        scales: Those of the L factors at the start.
        step: $\eta$, one number or one per run of a batch.
        iterations: Steps to take.

    Returns:
        The factors' singular values at iterations 0 … `iterations` (T of them). Cost: ``O(L^2 r)`` per step.

    Example:
        >>> run = aligned_descent(np.array([1.0]), np.full((2, 1), 0.5), 0.1, 500)
        >>> round(float(run[-1].prod(axis=0)[0]), 6)
        1.0
    """
    values, state = np.asarray(values, float), np.array(scales, float)
    rate = np.asarray(step, float)[..., None]
    history = np.empty((iterations + 1, *state.shape))
    history[0] = state
    for iteration in range(1, iterations + 1):
        others = np.stack([np.delete(state, layer, axis=0).prod(axis=0) for layer in range(len(state))])
        state = state - rate * (others[0] * state[0] - values) * others
        history[iteration] = state
    return history


def balancing_factor(
    factors: Float[np.ndarray, "T L *batch r"],
    values: Float[np.ndarray, "*batch r"],
    step: float | Float[np.ndarray, "*batch"],
    pair: tuple[int, int],
) -> Float[np.ndarray, "T *batch r"]:
    r"""What one step multiplies $\sigma_k^2 - \sigma_l^2$ by: exactly $1 - \eta^2 (\prod_j \sigma_j - s)^2 \prod_{j \ne k,l} \sigma_j^2$.

    Args:
        factors: Singular values of the factors at each time, as `aligned_descent` gives them.
        values: The target's singular values s.
        step: $\eta$.
        pair: The two factors k and l, counted from 0.

    Example:
        >>> run = aligned_descent(np.array([1.0]), np.array([[0.5], [0.2]]), 0.1, 1)
        >>> gaps = run[:, 0] ** 2 - run[:, 1] ** 2
        >>> bool(np.isclose(gaps[1], gaps[0] * balancing_factor(run[:1], np.array([1.0]), 0.1, (0, 1))[0]).all())
        True
    """
    residual = factors.prod(axis=1) - values
    others = np.delete(factors, pair, axis=1).prod(axis=1)
    return 1 - (np.asarray(step, float)[..., None] * residual * others) ** 2


def period_two_orbit(value: float, step: float, depth: int) -> tuple[float, float]:
    r"""The two end-to-end values between which balanced gradient descent alternates beyond its stability limit.

    With $u = \sigma / s^{1/L}$ and $\kappa = \eta s^{2 - 2/L}$ a step is $u \leftarrow u - \kappa (u^L - 1) u^{L-1}$, whose fixed point 1
    loses stability at $\kappa = 2/L$; the orbit is the solution of $f(f(u)) = u$ below 1.

    Args:
        value: The target's singular value s > 0.
        step: $\eta$.
        depth: L >= 2.

    Returns:
        The lower and the upper value of $\sigma^L$.

    Raises:
        UsageError: If the step is not above $2 / (L s^{2 - 2/L})$, or so far above that there is no orbit.

    References:
        Ghosh, Kwon, Wang, Ravishankar and Qu (2025), arXiv:2502.20531.

    Example:
        >>> [round(end, 4) for end in period_two_orbit(1.0, step=1.1, depth=2)]
        [0.6635, 1.2456]
    """
    rate = step * value ** (2 - 2 / depth)
    if rate * depth <= 2:
        raise UsageError(
            f"step {step:g} is not above {2 / (depth * value ** (2 - 2 / depth)):.4g} = 2 / (L s^(2 - 2/L)): "
            "gradient descent settles, and there is no orbit. Use a larger step."
        )

    def advance(u: float) -> float:
        return u - rate * (u**depth - 1) * u ** (depth - 1)

    # Just below the fixed point the excess is negative and below the orbit positive, down to where all is rounding; the amplitude is
    # of the order of the root.
    near = 1 - 0.2 / depth * math.sqrt(rate * depth / 2 - 1)
    shares = near * 0.99 ** np.arange(600) if near > 0 else np.empty(0)
    below = next((float(u) for u in shares if advance(advance(u)) > u), near)
    if not 0 < below < near:
        raise UsageError(f"step {step:g} is so large that there is no orbit of period two. Use a smaller step.")
    low = float(root_scalar(lambda u: advance(advance(u)) - u, bracket=(below, near), method="brentq", xtol=1e-15).root)
    ends = sorted((low**depth * value, advance(low) ** depth * value))
    return ends[0], ends[1]


def period_doubling(depth: int) -> float:
    r"""Step over the stability limit from which the orbit of period two repels, too: the slopes at its ends multiply to -1.

    $\sqrt5 - 1 = 1.236$ for two factors, 1.245 for three, 1.252 in the limit of many.
    """

    def excess(times: float) -> float:
        rate = 2 * times / depth
        ends = (end ** (1 / depth) for end in period_two_orbit(1.0, rate, depth))
        slopes = [1 - rate * ((2 * depth - 1) * u ** (2 * depth - 2) - (depth - 1) * u ** (depth - 2)) for u in ends]
        return slopes[0] * slopes[1] + 1

    return float(root_scalar(excess, bracket=(1.05, 1.27)).root)


def learning_time(value: float, start: float, depth: int, *, level: float = 0.5) -> float:
    r"""When balanced gradient flow has learned a singular value up to a share of it.

    $$t = \int_{a_0}^{\ell s} \frac{\mathrm da}{L\, a^{2 - 2/L}\,(s - a)},$$

    for $L = 2$ equal to $\frac1{2s}\log\frac{\ell\,(s - a_0)}{a_0 (1 - \ell)}$; for $L > 2$ dominated by
    $a_0^{-(1 - 2/L)} / ((L - 2) s)$. Iterations of gradient descent are this time over the step.

    Args:
        value: The target's singular value s.
        start: End-to-end value $a_0$ at time 0, in (0, `level` s).
        depth: L >= 2.
        level: Share $\ell$ in (0, 1) that counts as learned.

    Raises:
        UsageError: If the start is not in its range.

    References:
        Saxe, McClelland and Ganguli (2014), arXiv:1312.6120.

    Example:
        >>> round(learning_time(2.0, 1e-4, depth=2), 6) == round(float(np.log((2 - 1e-4) / 1e-4) / 4), 6)
        True
    """
    if not 0 < start < level * value:
        raise UsageError(f"start must lie between 0 and level x value = {level * value:g}; it is {start:g}.")
    slope = 2 - 2 / depth
    # In the logarithm of a the integrand varies slowly over the decades of the start.
    found = quad(
        lambda x: math.exp((1 - slope) * x) / (depth * (value - math.exp(x))),
        math.log(start),
        math.log(level * value),
        epsabs=0,
        epsrel=1e-12,
        limit=200,
    )
    return float(found[0])
