r"""Where the weights of a linear network can change, and the two parts in which they are one number: the general law.

An input direction is *silent* when neither the target nor the network at the start sees it, and *fading* when the network passes it
to an output direction of which the target knows nothing. Every factor keeps the form
$W_l(t) = U_l \widetilde W_l(t) V_l^\top + \rho_l(t)\, S_l + \varrho_l(t)\, F_l$ with the fixed partial isometries $S_l$ (silent) and
$F_l$ (fading).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from lowdim._linalg import rank_cutoff
from lowdim.dynamics._problem import Problem
from lowdim.errors import InputError, UsageError

Block = Literal["silent", "fading"]


class NoInvariantPartError(InputError):
    """The weights have no invariant part: the width is too small for the outputs and the rank."""


class Sizes(NamedTuple):
    """How the width of the inner factors divides into active, silent and fading directions.

    Attributes:
        inner: k, active directions between the factors.
        outputs: Active directions of the outputs.
        silent: m_1: singular values of every factor but the last that only decay moves.
        fading: m_2: singular values of every factor that shrink by their own gradient.
    """

    inner: int
    outputs: int
    silent: int
    fading: int

    @property
    def invariant(self) -> int:
        """m_1 + m_2."""
        return self.silent + self.fading


def block_sizes(inputs: int, outputs: int, rank: int) -> Sizes:
    r"""The counts of the general law: $m_1 = \max(0, d - r - d_y)$ and $m_2 = \max(0, d_y - 2r)$.

    Args:
        inputs: d, the width of all factors.
        outputs: d_y <= d.
        rank: r of the target. One above d_y stands for as many outputs more.

    Example:
        >>> block_sizes(30, 20, 2)
        Sizes(inner=6, outputs=4, silent=8, fading=16)
        >>> block_sizes(30, 30, 3), block_sizes(30, 3, 3)  # Case 2 and Case 1 of the lecture
        (Sizes(inner=6, outputs=6, silent=0, fading=24), Sizes(inner=6, outputs=3, silent=24, fading=0))
    """
    silent = max(0, inputs - rank - max(outputs, rank))
    fading = max(0, outputs - 2 * rank)
    return Sizes(inputs - silent - fading, outputs - fading, silent, fading)


@dataclass(frozen=True)
class Bases:
    r"""Orthonormal bases of the active part of each factor, and the orthogonal matrices it all started from.

    Attributes:
        rank: r.
        sizes: Dimensions of the active, silent and fading part.
        left: $U_l$; the last spans the active outputs.
        right: $V_l$: first the directions that reach the output, then those that do not.
        directions: $O_l = W_l(0) / \varepsilon_l$.
        through: $Q_l = O_L \cdots O_l$, and the identity of the outputs after the last.

    Example:
        >>> bases = Bases.from_change([0.5 * np.eye(5), 0.5 * np.eye(5)], np.eye(5)[:, :2])
        >>> bases.multiplicity, bases.full_output
        (3, True)
    """

    rank: int
    sizes: Sizes
    left: list[Float[np.ndarray, "*batch m k"]]
    right: list[Float[np.ndarray, "*batch d k"]]
    directions: list[Float[np.ndarray, "*batch m d"]]
    through: list[Float[np.ndarray, "*batch d_y d"]]

    @property
    def depth(self) -> int:
        """L."""
        return len(self.directions)

    @property
    def full_output(self) -> bool:
        """Case 2: as many outputs as inputs."""
        return self.directions[-1].shape[-2] == self.directions[-1].shape[-1]

    @property
    def multiplicity(self) -> int:
        """m: how many singular values of the inner factors are one of the two numbers."""
        return self.sizes.invariant

    def blocks(self, layer: int) -> tuple[Block, ...]:
        """Which of the two parts a factor has, layers from 1."""
        silent: tuple[Block, ...] = ("silent",) if self.sizes.silent and layer < self.depth else ()
        return (*silent, "fading") if self.sizes.fading else silent

    def count(self, block: Block) -> int:
        """Dimension of the silent or of the fading part."""
        return self.sizes.silent if block == "silent" else self.sizes.fading

    def form(self, layer: int, block: Block) -> Float[np.ndarray, "*batch m d"]:
        """What a factor is on one of its parts, per unit of its number: a partial isometry."""
        left, right, direction = self.left[layer - 1], self.right[layer - 1], self.directions[layer - 1]
        if self.blocks(layer) == (block,):
            return direction - left[..., : right.shape[-1]] @ right[..., : left.shape[-1]].swapaxes(-1, -2)
        seen = self.sizes.outputs
        passed = self.through[layer].swapaxes(-1, -2) @ self.through[layer - 1]
        fading = passed - left[..., :seen] @ right[..., :seen].swapaxes(-1, -2)
        if block == "fading":
            return fading
        return direction - left @ right.swapaxes(-1, -2) - fading

    def split(
        self, layer: int, weight: Float[np.ndarray, "m d"]
    ) -> tuple[Float[np.ndarray, "k k"], dict[Block, Float[np.ndarray, "m d"]], Float[np.ndarray, "m d"]]:
        """Active block, the silent and the fading block (of the factor's own shape), and all that lies beside the three.

        What lies beside is formed directly: a difference of squared norms would lose everything below 1e-8.
        """
        left, right = self.left[layer - 1], self.right[layer - 1]
        along, across = left.T @ weight, weight @ right
        inner = along @ right
        beside = left @ (along - inner @ right.T) + (across - left @ inner) @ right.T
        rest = weight - left @ along - (across - left @ inner) @ right.T
        blocks = self.blocks(layer)
        if len(blocks) == 1 and not (layer == self.depth and self.sizes.silent):
            return inner, {blocks[0]: rest}, beside
        before, after = self.through[layer - 1], self.through[layer]
        passed = after.T @ ((after @ rest @ before.T) @ before)
        if layer == self.depth:
            return inner, {"fading": passed} if blocks else {}, beside + (rest - passed if blocks else rest)
        kept = rest - after.T @ (after @ rest) - (rest @ before.T) @ before + passed
        return inner, {"silent": kept, "fading": passed}, beside + (rest - passed - kept)

    @classmethod
    def build(
        cls,
        directions: Sequence[Float[np.ndarray, "*batch m d"]],
        seen: Float[np.ndarray, "*batch d_y p"],
        unseen: Float[np.ndarray, "*batch d q"],
        rank: int,
    ) -> "Bases":
        """The bases whose active part holds given directions and is otherwise filled up to the law's size.

        Args:
            directions: Orthogonal factors at the start.
            seen: Output directions that must be active.
            unseen: Input directions whose part out of the network's sight must be active.
            rank: r.

        Raises:
            NoInvariantPartError: If nothing is left beside the active part.
        """
        outputs, inputs = directions[-1].shape[-2:]
        sizes = block_sizes(inputs, outputs, rank)
        if not sizes.invariant:
            smaller = f"width {inputs} <= rank {rank} + outputs {outputs}, and outputs {outputs} <= 2 x rank {rank}"
            what = f"width {inputs} <= 2 x rank {rank}" if outputs == inputs else smaller
            raise NoInvariantPartError(
                f"{what}: no part of the weights is invariant and nothing can be reduced. Use mode='full'."
            )
        through = [np.broadcast_to(np.eye(outputs), (*directions[-1].shape[:-2], outputs, outputs))]
        for direction in reversed(directions):
            through.insert(0, through[0] @ direction)
        active = np.eye(outputs) if sizes.outputs == outputs else _orthonormal(seen, sizes.outputs)
        pulled = through[0].swapaxes(-1, -2)
        hidden = sizes.inner - sizes.outputs
        beyond = _orthonormal(_beside(pulled, unseen), outputs + hidden)[..., outputs:] if hidden else pulled[..., :0]
        right, left = [np.concatenate([pulled @ active, beyond], -1)], []
        for direction in directions[:-1]:
            left.append(direction @ right[-1])
            right.append(left[-1])
        left.append(np.broadcast_to(active, (*pulled.shape[:-2], *active.shape[-2:])))
        return cls(rank, sizes, left, right, list(directions), through)

    @classmethod
    def from_data(cls, problem: Problem, weights: Sequence[np.ndarray], rank: int | None = None) -> "Bases":
        """By the theorem's formula, from the target and the weights at the start (inputs whitened or not).

        Raises:
            InputError: If the target is zero.
            NoInvariantPartError: If nothing is invariant.
            UsageError: If the rank is too small to be exact.
        """
        directions = [orthogonal_part(weight)[0] for weight in weights]
        return cls.of_target(problem.phi, directions, rank, problem.precision)

    @classmethod
    def of_target(
        cls, phi: Float[np.ndarray, "d_y d"], directions: Sequence[np.ndarray], rank: int | None, precision: float
    ) -> "Bases":
        """The same from ``Y X^T``, the orthogonal matrices at the start (or a batch of them), and the data's rounding unit.

        Raises:
            InputError: If the target is zero.
            UsageError: If the rank is too small to be exact.
        """
        column_space, row_space = singular_spaces(phi, precision)
        least = column_space.shape[1]
        if not least:
            raise InputError(
                "the target Y X^T is zero: there is nothing to learn and no reduction. Check targets and inputs."
            )
        if rank is not None and rank < least:
            raise UsageError(
                f"rank {rank} is below {least}, the rank of the target: the invariant subspaces would not be exact. "
                f"Use rank={least} or more, or leave it out."
            )
        reached = row_space
        for direction in directions:
            reached = direction @ reached
        seen = np.concatenate([np.broadcast_to(column_space, (*reached.shape[:-1], least)), reached], -1)
        return cls.build(directions, seen, row_space, least if rank is None else rank)

    @classmethod
    def from_change(
        cls,
        weights: Sequence[np.ndarray],
        first: Float[np.ndarray, "d k"],
        rank: int | None = None,
        precision: float = float(np.finfo(np.float64).eps),
        errors: Float[np.ndarray, " k"] | float = 0.0,
    ) -> "Bases":
        """From a basis of the directions in which the first factor changed, and the weights at the start.

        The rank is the least one that has room for these directions, known to the weights' `precision` and to their `errors`.
        """
        directions = [orthogonal_part(weight)[0] for weight in weights]
        reached = first
        for direction in directions:
            reached = direction @ reached
        pulled = reached
        for direction in reversed(directions):
            pulled = direction.T @ pulled
        cut = np.maximum(max(1e-8, 1e3 * precision), errors)
        seen, unseen = _leading(reached, cut), _leading(first - pulled, cut)
        return cls.build(directions, seen, unseen, rank or max(1, -(-seen.shape[1] // 2), unseen.shape[1]))


def orthogonal_part(weight: Float[np.ndarray, "*batch m n"]) -> tuple[np.ndarray, np.ndarray, float]:
    """``W / eps``, ``eps``, and the largest entry of ``W W^T / eps^2 - I`` (m <= n)."""
    scale = np.linalg.norm(weight, axis=(-2, -1)) / np.sqrt(weight.shape[-2])
    direction = weight / scale[..., None, None]
    gap = np.abs(direction @ direction.swapaxes(-1, -2) - np.eye(weight.shape[-2])).max()
    return direction, scale, float(gap)


def singular_spaces(
    matrix: Float[np.ndarray, "m n"], precision: float = float(np.finfo(np.float64).eps)
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
        if np.linalg.norm(matrix - basis @ inner) <= rank_cutoff(values, size, precision):
            kept = values > rank_cutoff(values, size, precision)
            return basis @ left[:, kept], right[kept].T
        width *= 2
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    kept = values > rank_cutoff(values, size, precision)
    return left[:, kept], right[kept].T


def _beside(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.concatenate([first, np.broadcast_to(second, (*first.shape[:-1], second.shape[-1]))], -1)


def _orthonormal(columns: Float[np.ndarray, "*batch d p"], size: int) -> Float[np.ndarray, "*batch d size"]:
    """Orthonormal columns whose first p span the given ones, filled up by any others."""
    missing = max(0, size - columns.shape[-1])
    filler = np.random.default_rng(1).standard_normal((columns.shape[-2], missing))
    return np.linalg.qr(_beside(columns, filler))[0][..., :size]


def _leading(matrix: Float[np.ndarray, "m k"], cut: Float[np.ndarray, " k"]) -> Float[np.ndarray, "m p"]:
    """Left singular vectors of what a projection left of orthonormal columns; below `cut`, one number per column, it left rounding."""
    left, values, _ = np.linalg.svd(matrix / cut, full_matrices=False)
    return left[:, values > 1]
