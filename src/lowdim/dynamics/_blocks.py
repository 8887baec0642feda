"""The block form of the weights: how much of each factor, and of its change, lies where the theorem says that it must."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from lowdim.dynamics._bases import Bases, Block
from lowdim.dynamics._history import WeightHistory
from lowdim.dynamics._trajectory import Trajectory


@dataclass(frozen=True)
class BlockForms:
    """How far each factor is from the block form at each time; arrays of shape (times, layers).

    Attributes:
        off_block: ``||off-diagonal blocks||_F / ||W_l||_F``.
        spread: ``||invariant blocks - their numbers||_F / ||W_l||_F``.
        change: ``||W_l(t) - W_l(0)||_F / ||W_l||_F``.
        silent: Number on the silent part; NaN for a factor without one.
        fading: Number on the fading part; NaN for a factor without one.
        chance: Per factor, the share that a change of random direction would have where the law allows change.
        inner: ``U_l^T W_l(t) V_l``, a list over times of lists over layers.

    Example:
        >>> start = [0.5 * np.eye(5), 0.5 * np.eye(5)]
        >>> forms = block_forms([start, start], Bases.from_change(start, np.eye(5)[:, :2]))
        >>> forms.off_block.tolist()
        [[0.0, 0.0], [0.0, 0.0]]
    """

    off_block: Float[np.ndarray, "T L"]
    spread: Float[np.ndarray, "T L"]
    change: Float[np.ndarray, "T L"]
    silent: Float[np.ndarray, "T L"]
    fading: Float[np.ndarray, "T L"]
    chance: Float[np.ndarray, " L"]
    inner: list[list[Float[np.ndarray, "k k"]]]

    @property
    def rho(self) -> Float[np.ndarray, "T L"]:
        """The number of the only invariant part; of the silent one where a factor has both."""
        return np.where(np.isnan(self.silent), self.fading, self.silent)

    @cached_property
    def outside(self) -> Float[np.ndarray, "T L"]:
        """Length of what the law forbids over the length of the change; NaN where nothing changed."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.change > 0, np.hypot(self.off_block, self.spread) / self.change, np.nan)

    @property
    def share(self) -> Float[np.ndarray, "T L"]:
        """Part of the squared change that the law allows: the active block, and one number on each invariant part."""
        return np.maximum(0.0, 1 - self.outside**2)


def block_forms(history: WeightHistory | Trajectory | Sequence[Sequence[np.ndarray]], bases: Bases) -> BlockForms:
    """Measures the block form of every factor at every time; reads each matrix once.

    The residuals are formed directly, not as differences of squared norms, which would lose everything below 1e-8.

    Args:
        history: Weights over time.
        bases: Of the active part of each factor.

    Example:
        >>> weights = [0.5 * np.eye(5), 0.5 * np.eye(5)]
        >>> bases = Bases.from_change(weights, np.eye(5)[:, :2])
        >>> moved = [weights[0] + np.diag([1.0, 2.0, 0.0, 0.0, 0.0]), weights[1]]
        >>> forms = block_forms([weights, moved], bases)
        >>> float(forms.off_block.max()), forms.rho.tolist(), float(forms.share[1, 0])
        (0.0, [[0.5, 0.5], [0.5, 0.5]], 1.0)
    """
    history = WeightHistory.of(history)
    shape = (len(history.names), history.depth)
    off_block, spread, change = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    numbers: dict[Block, np.ndarray] = {"silent": np.full(shape, np.nan), "fading": np.full(shape, np.nan)}
    inner: list[list[np.ndarray]] = [[np.empty(0)] * shape[1] for _ in history.names]
    for layer in range(shape[1]):
        start = history.weight(layer + 1, 0)
        forms = {block: bases.form(layer + 1, block) for block in bases.blocks(layer + 1)}
        for index in range(shape[0]):
            weight = history.weight(layer + 1, index)
            size = float(np.linalg.norm(weight)) or 1.0
            inner[index][layer], blocks, beside = bases.split(layer + 1, weight)
            off_block[index, layer] = np.linalg.norm(beside) / size
            change[index, layer] = np.linalg.norm(weight - start) / size
            for block, part in blocks.items():
                number = np.sum(part * forms[block]) / bases.count(block)
                numbers[block][index, layer] = number
                spread[index, layer] = np.hypot(
                    spread[index, layer], np.linalg.norm(part - number * forms[block]) / size
                )
    chance = [
        (inner[0][layer].size + len(bases.blocks(layer + 1))) / np.prod(history.shapes[layer])
        for layer in range(shape[1])
    ]
    return BlockForms(off_block, spread, change, numbers["silent"], numbers["fading"], np.array(chance), inner)


def best_blocks(history: WeightHistory, width: int) -> tuple[Float[np.ndarray, "T L"], Float[np.ndarray, " L"]]:
    """Share of each factor's squared change in the `width` directions on each side that hold most of its last change.

    Returns:
        The share at each time, NaN before a change beyond rounding and where the factor has no more directions; and per factor what
        random changes have in the block that is chosen for them alike.
    """
    share, chance = np.full((len(history.names), history.depth), np.nan), np.full(history.depth, np.nan)
    random = np.random.default_rng(0)
    for layer, shape in enumerate(history.shapes):
        if width >= min(shape):
            continue
        start = history.weight(layer + 1, 0)
        left, _, right = np.linalg.svd(history.weight(layer + 1, len(history.names) - 1) - start, full_matrices=False)
        for index in range(1, len(history.names)):
            change = history.weight(layer + 1, index) - start
            size = float(np.linalg.norm(change))
            if size > history.rounding[index] * np.linalg.norm(start):
                inside = np.linalg.norm(left[:, :width].T @ change @ right[:width].T)
                share[index, layer] = min(1.0, float(inside / size) ** 2)
        draws = [
            np.linalg.svd(random.standard_normal(shape), compute_uv=False) ** 2 for _ in range(1 + 100 // min(shape))
        ]
        chance[layer] = np.mean([values[:width].sum() / values.sum() for values in draws])
    return share, chance
