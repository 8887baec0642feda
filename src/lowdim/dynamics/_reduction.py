r"""The exact reduction: an orthogonally initialised network of width d is one of width 2r and one number per layer.

Every factor keeps the form $W_l(t) = U_l\,\mathrm{diag}(\widetilde W_l(t), \rho_l(t) I_m)\,V_l^\top$ with bases that are
known at the start. The "core" of a factor is $\mathrm{diag}(\widetilde W_l, \rho_l)$, of size 2r + 1: cores form a linear
network themselves, so the same gradients and rules advance them, and the zeros beside $\rho_l$ stay exactly zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from lowdim._linalg import rank_cutoff
from lowdim.dynamics._network import Factors
from lowdim.dynamics._problem import Problem
from lowdim.errors import InputError, UsageError

ORTHOGONAL = 1e-8
"""Largest relative departure from a scaled orthogonal matrix for which the reduction is offered."""


class NoInvariantPartError(InputError):
    """The width is at most twice the rank: the weights have no invariant part."""


@dataclass(frozen=True)
class Reduction:
    r"""Bases, starting point and target of the reduced network.

    Attributes:
        rank: r, at least the rank of the target.
        multiplicity: m: how many singular values of each inner factor are $\rho$ forever.
        left: $U_l$ of shape ``(*batch, d, 2r)``, L of them; the last is the identity of the outputs when d_y < d_x.
        right: $V_l$ of the same shape.
        directions: $W_l(0) / \varepsilon_l$, orthogonal.
        cores: $\mathrm{diag}(\widetilde W_l(0), \rho_l(0))$.
        target: $\mathrm{diag}(U_L^\top \Phi V_1, 0)$.
        full_output: True when d_y = d_x (then the last factor has an invariant part as well).

    Example:
        >>> target = np.zeros((5, 5))
        >>> target[0, 0] = 2.0
        >>> found = reduce(Problem(target), [0.5 * np.eye(5)] * 3)
        >>> np.allclose(found.lift(1, found.cores[0]), 0.5 * np.eye(5))
        True
    """

    rank: int
    multiplicity: int
    left: list[Float[np.ndarray, "*batch d k"]]
    right: list[Float[np.ndarray, "*batch d k"]]
    directions: list[Float[np.ndarray, "*batch d d"]]
    cores: list[Float[np.ndarray, "*batch k1 k1"]]
    target: Float[np.ndarray, "*batch k1 k1"]
    full_output: bool

    def scaled(self, scale: float | Float[np.ndarray, " B"]) -> "Reduction":
        """The reduction of the same directions started at `scale` times the weights: one number, or one per run."""
        factor = np.asarray(scale, float)[..., None, None]
        return replace(self, cores=[factor * core for core in self.cores])

    def lift(self, layer: int, core: Float[np.ndarray, "*batch a b"]) -> Float[np.ndarray, "*batch m n"]:
        r"""The factor itself, $U\widetilde W V^\top + \rho\,(W(0)/\varepsilon - U V^\top)$: no basis of the invariant part needed."""
        left, right = self.left[layer - 1], self.right[layer - 1].swapaxes(-1, -2)
        if not self.has_invariant_part(layer):
            return core[..., :, :-1] @ right
        inner, rho = core[..., :-1, :-1], core[..., -1:, -1:]
        return left @ (inner @ right - rho * right) + rho * self.directions[layer - 1]

    def has_invariant_part(self, layer: int) -> bool:
        """False for the last factor of a network with fewer outputs than inputs: there it is zero."""
        return self.full_output or layer < len(self.cores)


def reduce(problem: Problem, weights: Factors, rank: int | None = None) -> Reduction:
    """Finds the invariant subspaces at the start of training.

    Args:
        problem: With whitened inputs.
        weights: Scaled orthogonal factors, square except the last; a leading batch axis is allowed.
        rank: r, when a larger one than the target's rank is wanted.

    Raises:
        NoInvariantPartError: If d <= 2r.
        InputError: If the theorem's other assumptions do not hold for the data or weights.
        UsageError: If the rank is too small to be exact.

    Note:
        Cost: about L products of d x d matrices (the test of orthogonality) and a QR of d x 2r.

    Example:
        >>> target = np.zeros((5, 5))
        >>> target[0, 0] = 2.0
        >>> found = reduce(Problem(target), [0.5 * np.eye(5)] * 3)
        >>> found.rank, found.multiplicity, found.cores[0].shape  # width 5 becomes 2r + 1
        (1, 3, (3, 3))
    """
    _require_whitened(problem)
    directions, scales = _orthogonal_parts(weights)
    phi = problem.phi
    full_output = phi.shape[0] == phi.shape[1]
    left, right = invariant_bases(phi, directions, rank)
    width = right[0].shape[-1]
    return Reduction(
        width // 2,
        phi.shape[1] - width,
        left,
        right,
        directions,
        _initial_cores(directions, scales, right, full_output),
        _pad(left[-1].swapaxes(-1, -2) @ phi @ right[0], full_output),
        full_output,
    )


def invariant_bases(
    phi: Float[np.ndarray, "d_y d_x"], directions: Sequence[np.ndarray], rank: int | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    r"""Left and right bases of the part of every factor that can change.

    $V_1 = \mathrm{orth}[V_\Phi, Q^\top U_\Phi]$ with $Q = W_{L:1}(0) / \varepsilon^L$, or $\mathrm{orth}[\Phi^\top, Q^\top]$ for fewer
    outputs than inputs; then $U_l = W_l(0) V_l / \varepsilon_l$ and $V_{l+1} = U_l$.

    Args:
        phi: Target of the end-to-end matrix.
        directions: Orthogonal factors at the start, first layer first.
        rank: r; the least exact one when left out. The bases have 2r columns.

    Returns:
        $U_1, \dots, U_L$ (the last is the identity when d_y < d_x) and $V_1, \dots, V_L$.

    Raises:
        InputError: If the target is zero.
        NoInvariantPartError: If d <= 2r.
        UsageError: If the rank is too small to be exact.
    """
    column_space, row_space = singular_spaces(phi)
    if not column_space.shape[1]:
        raise InputError(
            "the target Y X^T is zero: there is nothing to learn and no reduction. Check targets and inputs."
        )
    full_output = phi.shape[0] == phi.shape[1]
    least = column_space.shape[1] if full_output else phi.shape[0]
    used = least if rank is None else rank
    if used < least:
        raise UsageError(
            f"rank {used} is below {least}, the {'rank of the target' if full_output else 'number of outputs'}: "
            f"the invariant subspaces would not be exact. Use rank={least} or more, or leave it out."
        )
    _require_room(phi.shape[1], used)
    first = _first_basis(directions, column_space if full_output else None, row_space, used)
    return transport(directions, first)


def transport(directions: Sequence[np.ndarray], first: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """``U_l = W_l(0) V_l / eps`` and ``V_{l+1} = U_l`` from ``V_1``; ``U_L`` is the identity for fewer outputs."""
    right, left = [first], [directions[0] @ first]
    for direction in directions[1:]:
        right.append(left[-1])
        left.append(direction @ right[-1])
    outputs, width = directions[-1].shape[-2:]
    if outputs < width:
        left[-1] = np.eye(outputs)
    return left, right


def orthogonal_part(weight: Float[np.ndarray, "*batch m n"]) -> tuple[np.ndarray, np.ndarray, float]:
    """``W / eps``, ``eps``, and the largest entry of ``W W^T / eps^2 - I`` (m <= n)."""
    scale = np.linalg.norm(weight, axis=(-2, -1)) / np.sqrt(weight.shape[-2])
    direction = weight / scale[..., None, None]
    gap = np.abs(direction @ direction.swapaxes(-1, -2) - np.eye(weight.shape[-2])).max()
    return direction, scale, float(gap)


def singular_spaces(
    matrix: Float[np.ndarray, "m n"],
) -> tuple[Float[np.ndarray, "m r"], Float[np.ndarray, "n r"]]:
    """Left and right singular vectors above the rank cut-off, by random sketches while the rank is small.

    A sketch wider than the rank spans the column space exactly, which the residual confirms; cost 6 m n k
    for the last width k instead of a full decomposition.
    """
    size, width = max(matrix.shape), 16
    while 4 * width < min(matrix.shape):
        sketch = matrix @ np.random.default_rng(0).standard_normal((matrix.shape[1], width))
        basis = np.linalg.qr(sketch)[0]
        inner = basis.T @ matrix
        left, values, right = np.linalg.svd(inner, full_matrices=False)
        if np.linalg.norm(matrix - basis @ inner) <= rank_cutoff(values, size):
            kept = values > rank_cutoff(values, size)
            return basis @ left[:, kept], right[kept].T
        width *= 2
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    kept = values > rank_cutoff(values, size)
    return left[:, kept], right[kept].T


def _require_whitened(problem: Problem) -> None:
    if problem.gram is not None:
        raise InputError(
            f"the inputs are not whitened (spectral norm of X X^T - I: {problem.whitening_gap:.2g}): then no subspace is "
            "exactly invariant and the reduction does not exist. Use problem.whitened(), or mode='full' on the "
            "inputs as they are."
        )


def _require_room(dimension: int, rank: int) -> None:
    if dimension <= 2 * rank:
        raise NoInvariantPartError(
            f"width {dimension} <= 2 x rank {rank}: no part of the weights is invariant and nothing can be reduced. "
            "Use mode='full'."
        )


def _orthogonal_parts(weights: Factors) -> tuple[list[np.ndarray], list[np.ndarray]]:
    width = weights[0].shape[-1]
    directions: list[np.ndarray] = []
    scales: list[np.ndarray] = []
    for number, weight in enumerate(weights, 1):
        if weight.shape[-1] != width or (number < len(weights) and weight.shape[-2] != width):
            shape = " x ".join(map(str, weight.shape[-2:]))
            raise InputError(
                f"the reduction needs square factors of the input's width {width} (the last may have fewer rows), "
                f"but factor {number} is {shape}. Use mode='full'."
            )
        direction, scale, gap = orthogonal_part(weight)
        if not gap <= ORTHOGONAL:
            raise InputError(
                f"factor {number} is not a multiple of an orthogonal matrix (largest entry of W W^T / eps^2 - I: "
                f"{gap:.2g}). The reduction holds for orthogonal initialisation; use initialize(kind='orthogonal') "
                "or mode='full'."
            )
        directions.append(direction)
        scales.append(scale)
    return directions, scales


def _first_basis(
    directions: Sequence[np.ndarray], column_space: np.ndarray | None, row_space: np.ndarray, rank: int
) -> np.ndarray:
    r"""$V_1 = \mathrm{orth}[V_\Phi, Q^\top U_\Phi]$ (or $Q^\top$ for fewer outputs), filled up to 2r columns by any others."""
    pulled = np.eye(directions[-1].shape[-2]) if column_space is None else column_space
    for direction in reversed(directions):
        pulled = direction.swapaxes(-1, -2) @ pulled
    spanning = np.concatenate([np.broadcast_to(row_space, (*pulled.shape[:-1], row_space.shape[1])), pulled], -1)
    missing = 2 * rank - spanning.shape[-1]
    filler = np.random.default_rng(1).standard_normal((row_space.shape[0], missing))
    spanning = np.concatenate([spanning, np.broadcast_to(filler, (*spanning.shape[:-1], missing))], -1)
    return np.linalg.qr(spanning)[0]


def _initial_cores(
    directions: Sequence[np.ndarray], scales: Sequence[np.ndarray], right: Sequence[np.ndarray], full_output: bool
) -> list[np.ndarray]:
    size = right[0].shape[-1] + 1
    cores = [scale[..., None, None] * np.eye(size) for scale in scales]
    if not full_output:
        last = scales[-1][..., None, None] * (directions[-1] @ right[-1])
        cores[-1] = _pad(last, full_output)
    return cores


def _pad(inner: np.ndarray, full_output: bool) -> np.ndarray:
    """Appends the coordinate of the invariant part: a zero column, and a zero row where the outputs have one."""
    return np.pad(inner, [(0, 0)] * (inner.ndim - 2) + [(0, int(full_output)), (0, 1)])
