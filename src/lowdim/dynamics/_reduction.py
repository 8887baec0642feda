r"""The exact reduction: an orthogonally initialised network of width d is a small one and at most two numbers per layer.

The "core" of a factor is $\mathrm{diag}(\widetilde W_l, \rho_l, \varrho_l)$: the active block, and one coordinate for the silent and one
for the fading part where they exist. Cores form a linear network themselves, so the same gradients and rules advance them, and the zeros
beside the numbers stay exactly zero.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from lowdim.dynamics._bases import Bases, Block, orthogonal_part
from lowdim.dynamics._network import Factors
from lowdim.dynamics._problem import Problem
from lowdim.errors import InputError

ORTHOGONAL = 1e-8
"""Largest relative departure from a scaled orthogonal matrix for which the reduction is offered."""


@dataclass(frozen=True)
class Reduction:
    r"""Bases, starting point and target of the reduced network.

    Attributes:
        bases: Of the active part, and what the factors are beside it.
        cores: $\mathrm{diag}(\widetilde W_l(0), \rho_l(0), \varrho_l(0))$.
        target: $\mathrm{diag}(U_L^\top \Phi V_1, 0, 0)$.

    Example:
        >>> target = np.zeros((5, 5))
        >>> target[0, 0] = 2.0
        >>> found = reduce(Problem(target), [0.5 * np.eye(5)] * 3)
        >>> np.allclose(found.lift(1, found.cores[0]), 0.5 * np.eye(5))
        True
    """

    bases: Bases
    cores: list[Float[np.ndarray, "*batch k1 k2"]]
    target: Float[np.ndarray, "*batch k1 k2"]

    @classmethod
    def of(
        cls, bases: Bases, phi: Float[np.ndarray, "d_y d"], cores: list[Float[np.ndarray, "*batch k1 k2"]]
    ) -> "Reduction":
        """The reduced problem in given bases, with given cores at the start."""
        return cls(bases, cores, _pad(bases, bases.left[-1].swapaxes(-1, -2) @ phi @ bases.right[0]))

    @property
    def rank(self) -> int:
        """r, at least the rank of the target."""
        return self.bases.rank

    @property
    def multiplicity(self) -> int:
        """m_1 + m_2: how many singular values of the inner factors are one of the two numbers forever."""
        return self.bases.sizes.invariant

    @property
    def full_output(self) -> bool:
        """True when d_y = d."""
        return self.bases.full_output

    @property
    def left(self) -> list[Float[np.ndarray, "*batch m k"]]:
        """$U_l$, L of them."""
        return self.bases.left

    @property
    def right(self) -> list[Float[np.ndarray, "*batch d k"]]:
        """$V_l$, L of them."""
        return self.bases.right

    @property
    def directions(self) -> list[Float[np.ndarray, "*batch m d"]]:
        r"""$W_l(0) / \varepsilon_l$."""
        return self.bases.directions

    def scaled(self, scale: float | Float[np.ndarray, " B"]) -> "Reduction":
        """The reduction of the same directions started at `scale` times the weights: one number, or one per run."""
        factor = np.asarray(scale, float)[..., None, None]
        return replace(self, cores=[factor * core for core in self.cores])

    def inner(self, core: Float[np.ndarray, "*batch a b"], layer: int) -> Float[np.ndarray, "*batch k1 k2"]:
        """The active block of a core."""
        return core[..., : self._active_rows(layer), : self.bases.sizes.inner]

    def number(self, core: Float[np.ndarray, "*batch a b"], layer: int, block: Block) -> Float[np.ndarray, "*batch"]:
        """The number that a factor is on its silent or fading part."""
        return core[(..., *self._position(layer, block))]

    def lift(self, layer: int, core: Float[np.ndarray, "*batch a b"]) -> Float[np.ndarray, "*batch m n"]:
        r"""The factor itself, $U\widetilde W V^\top + \rho S + \varrho F$: no basis of the invariant parts needed."""
        left, right = self.left[layer - 1], self.right[layer - 1].swapaxes(-1, -2)
        factor = left @ (self.inner(core, layer) @ right)
        for block in self.bases.blocks(layer):
            factor = factor + self.number(core, layer, block)[..., None, None] * self.bases.form(layer, block)
        return factor

    def free(self, layer: int) -> np.ndarray:
        """Which entries of a core can differ from zero."""
        core = self.cores[layer - 1]
        mask = np.zeros(core.shape[-2:], bool)
        self.inner(mask, layer)[...] = True
        for block in self.bases.blocks(layer):
            mask[self._position(layer, block)] = True
        return mask

    def _position(self, layer: int, block: Block) -> tuple[int, int]:
        row = self._active_rows(layer) + self.bases.blocks(layer).index(block)
        return row, self.bases.sizes.inner + self.bases.blocks(1).index(block)

    def _active_rows(self, layer: int) -> int:
        return self.bases.sizes.inner if layer < self.bases.depth else self.bases.sizes.outputs


def reduce(problem: Problem, weights: Factors, rank: int | None = None) -> Reduction:
    """Finds the invariant subspaces at the start of training.

    Args:
        problem: With whitened inputs.
        weights: Scaled orthogonal factors, square except the last; a leading batch axis is allowed.
        rank: r, when a larger one than the target's rank is wanted.

    Raises:
        NoInvariantPartError: If d <= r + d_y and d_y <= 2r.
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
    bases = Bases.of_target(problem.phi, directions, rank, problem.precision)
    return Reduction.of(bases, problem.phi, _initial_cores(bases, scales))


def _require_whitened(problem: Problem) -> None:
    if problem.gram is not None:
        raise InputError(
            f"the inputs are not whitened (spectral norm of X X^T - I: {problem.whitening_gap:.2g}): then no subspace is "
            "exactly invariant and the reduction does not exist. Use problem.whitened(), or mode='full' on the "
            "inputs as they are."
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


def _initial_cores(bases: Bases, scales: list[np.ndarray]) -> list[np.ndarray]:
    sizes, extra = bases.sizes, len(bases.blocks(1))
    cores = [scale[..., None, None] * np.eye(sizes.inner + extra) for scale in scales[:-1]]
    start = scales[-1][..., None, None]
    last = _pad(bases, start * np.eye(sizes.outputs, sizes.inner))
    if sizes.fading:
        last[..., -1, -1] = scales[-1]
    return [*cores, last]


def _pad(bases: Bases, inner: np.ndarray) -> np.ndarray:
    """Appends a zero column for each invariant part, and a zero row for the fading one, which reaches the outputs."""
    rows, columns = len(bases.blocks(bases.depth)), len(bases.blocks(1))
    return np.pad(inner, [(0, 0)] * (inner.ndim - 2) + [(0, rows), (0, columns)])
