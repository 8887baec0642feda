"""The block form of the weights: how much of each factor lies where the theorem says that nothing happens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lowdim.dynamics._history import WeightHistory
from lowdim.dynamics._problem import Problem
from lowdim.dynamics._reduction import invariant_bases, orthogonal_part, transport
from lowdim.dynamics._trajectory import Trajectory


@dataclass(frozen=True)
class Bases:
    """Orthonormal bases of the changing part of each factor, and the orthogonal matrices it all started from.

    Example:
        >>> bases = Bases.from_change([0.5 * np.eye(5), 0.5 * np.eye(5)], np.eye(5)[:, :2])
        >>> bases.multiplicity, bases.full_output
        (3, True)
    """

    left: list[Float[np.ndarray, "d k"]]
    right: list[Float[np.ndarray, "d k"]]
    directions: list[Float[np.ndarray, "d d"]]

    @property
    def full_output(self) -> bool:
        """Case 2: as many outputs as inputs, so that the last factor has an invariant part as well."""
        return self.directions[-1].shape[0] == self.directions[-1].shape[1]

    @property
    def multiplicity(self) -> int:
        """m: the dimension of the invariant part."""
        return self.right[0].shape[0] - self.right[0].shape[1]

    @classmethod
    def from_data(cls, problem: Problem, weights: Sequence[np.ndarray], rank: int | None = None) -> "Bases":
        """By the theorem's formula, from the target and the weights at the start (inputs whitened or not)."""
        directions = [orthogonal_part(weight)[0] for weight in weights]
        return cls(*invariant_bases(problem.phi, directions, rank), directions)

    @classmethod
    def from_change(cls, weights: Sequence[np.ndarray], first: Float[np.ndarray, "d k"]) -> "Bases":
        """From a basis of the directions in which the first factor changed, and the weights at the start."""
        directions = [orthogonal_part(weight)[0] for weight in weights]
        return cls(*transport(directions, first), directions)


@dataclass(frozen=True)
class BlockForms:
    """How far each factor is from the block form at each time; arrays of shape (times, layers).

    Attributes:
        off_block: ``||off-diagonal blocks||_F / ||W_l||_F``.
        rho: Mean of the invariant block along its direction; NaN for a last factor without one.
        spread: ``||invariant block - rho I||_F / ||W_l||_F``.
        inner: ``U_l^T W_l(t) V_l``, a list over times of lists over layers.
    """

    off_block: Float[np.ndarray, "T L"]
    rho: Float[np.ndarray, "T L"]
    spread: Float[np.ndarray, "T L"]
    inner: list[list[Float[np.ndarray, "k k"]]]


def block_forms(history: WeightHistory | Trajectory | Sequence[Sequence[np.ndarray]], bases: Bases) -> BlockForms:
    """Measures the block form of every factor at every time; reads each matrix once.

    The residuals are formed directly, not as differences of squared norms, which would lose everything below 1e-8.

    Args:
        history: Weights over time.
        bases: Of the changing part of each factor.

    Example:
        >>> weights = [0.5 * np.eye(5), 0.5 * np.eye(5)]
        >>> bases = Bases.from_change(weights, np.eye(5)[:, :2])
        >>> moved = [weights[0] + np.diag([1.0, 2.0, 0.0, 0.0, 0.0]), weights[1]]
        >>> forms = block_forms([weights, moved], bases)
        >>> float(forms.off_block.max()), forms.rho.tolist()
        (0.0, [[0.5, 0.5], [0.5, 0.5]])
    """
    history = WeightHistory.of(history)
    shape = (len(history.names), history.depth)
    off_block, rho, spread = np.zeros(shape), np.full(shape, np.nan), np.zeros(shape)
    inner: list[list[np.ndarray]] = [[] for _ in history.names]
    for index, layer in np.ndindex(shape):
        weight, left, right = history.weight(layer + 1, index), bases.left[layer], bases.right[layer]
        size = float(np.linalg.norm(weight)) or 1.0
        across, along = weight @ right, left.T @ weight
        inner[index].append(along @ right)
        upper = along - (along @ right) @ right.T
        if layer == shape[1] - 1 and not bases.full_output:
            off_block[index, layer] = np.linalg.norm(upper) / size
            continue
        lower = across - left @ (left.T @ across)
        off_block[index, layer] = np.hypot(np.linalg.norm(upper), np.linalg.norm(lower)) / size
        block = weight - left @ along - lower @ right.T
        outside = bases.directions[layer] - left @ right.T
        rho[index, layer] = np.sum(block * outside) / bases.multiplicity
        spread[index, layer] = np.linalg.norm(block - rho[index, layer] * outside) / size
    return BlockForms(off_block, rho, spread, inner)
