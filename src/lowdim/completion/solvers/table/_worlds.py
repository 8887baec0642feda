"""What factor models and fills of a table would be if some of its known cells were unknown.

Training rows of a column must look like the rows in which it is to be filled. So everything that predicts column j (the factor models'
predictions of it, the fills of the other columns' holes) is computed as if column j were unobserved: in a *world* that hides it. That
costs one E-step per world, and makes the prediction of every known cell a leave-one-out prediction, without a second fit.

Up to `MOST_WORLDS` columns each has a world of its own. Above, a world hides a random part of the cells of all columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowdim.completion.solvers.table._factor_model import FactorModel

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Indices = NDArray[np.integer[Any]]

MOST_WORLDS = 60
MOST_CELLS = 4_000_000  # of all worlds together, some 35 bytes each
PARTS = 12  # of the cells, where columns are too many


@dataclass(frozen=True)
class World:
    """A table in which some cells are hidden.

    Attributes:
        seen: ``(rows, n)``, the known cells that are not hidden.
        filled: ``(rows, n)``, the values of those, and what the others are taken to be.
        linear: The plain factor model's prediction of all cells.
        deviation: Its deviations.
        scored: The means of the normal scores of all cells.
        scored_deviation: Their deviations.
    """

    seen: Mask
    filled: Array
    linear: Array
    deviation: Array
    scored: Array
    scored_deviation: Array


@dataclass(frozen=True)
class Known:
    """Standardised rows ``(rows, n)``, as both factor models take them."""

    values: Array
    plain: FactorModel
    scored: FactorModel

    @cached_property
    def _inner(self) -> tuple[Array, Array]:
        return self.plain.inner(self.values), self.scored.inner(self.values)

    def world(self, seen: Mask) -> World:
        """The world in which only these cells are seen."""
        plain, scored = self._inner
        _, linear, deviation = self.plain.predict(plain, seen)
        filled = np.where(seen, self.values, linear)
        return World(seen, filled, linear, deviation, *self.scored.predict(scored, seen)[1:])

    def plainly(self, seen: Mask, columns: Indices) -> tuple[Array, Array, Array]:
        """What the plain model alone says of some columns in that world; see `FactorModel.predict`."""
        return self.plain.predict(self._inner[0], seen, columns)


def leverage(latents: Array, ridge: Array) -> Array:
    """How much of a cell's own value its prediction takes up, if the column's loading is fitted to it, ``(rows,)``.

    `latents` are those of the rows in which the column is known, in the worlds that hide it; `ridge` is the prior precision of the
    loading times the noise.
    """
    inverse = np.linalg.inv(latents.T @ latents + np.diag(ridge))
    return np.minimum(np.einsum("ia,ab,ib->i", latents, inverse, latents), 0.9)


@dataclass(frozen=True)
class Design:
    """Which known cells each world hides.

    Attributes:
        hides: One mask ``(rows, n)`` per world; the last world hides nothing where cells are hidden in parts.
        of_column: ``(n, rows)``: the world in which a cell is predicted; -1 for columns that are never predicted.
    """

    hides: tuple[Mask, ...]
    of_column: Indices

    @classmethod
    def of(cls, observed: Mask, targets: Indices, together: Sequence[Indices], seed: int) -> "Design":
        """Worlds for some target columns.

        Args:
            observed: ``(rows, n)``.
            targets: Columns to be predicted.
            together: For each column, those that are unknown whenever it is (itself among them).
            seed: Of the parts.
        """
        rows, n = observed.shape
        of_column = np.full((n, rows), -1)
        if targets.size <= MOST_WORLDS and targets.size * observed.size <= MOST_CELLS:
            hides: list[Mask] = []
            for world, column in enumerate(targets):
                hidden = np.zeros((rows, n), bool)
                hidden[:, together[column]] = True
                hides.append(hidden)
                of_column[column] = world
            return cls(tuple(hides), of_column)
        part = np.random.default_rng(seed).integers(PARTS, size=(rows, n))
        for block in together:
            part[:, block] = part[:, [block[0]]]
        of_column[targets] = np.where(observed, part, PARTS).T[targets]
        return cls((*(part == k for k in range(PARTS)), np.zeros((rows, n), bool)), of_column)
