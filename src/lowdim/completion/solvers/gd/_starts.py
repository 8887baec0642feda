r"""Where gradient descent starts: full and narrow networks, and the two compressed forms of the lecture.

A network with factors at $\varepsilon$ times orthogonal matrices first moves along the singular vectors of the
observed matrix, so a network of width 2r inside these subspaces can stand for the wide one. Their own motion, which
full observation would not need, is followed with *discrepant* rates.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from lowdim.completion.entries import Entries
from lowdim.completion.solvers.gd._descent import Network
from lowdim.dynamics import initialize

Array = NDArray[np.float64]


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
