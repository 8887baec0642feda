"""Neighbours in time: what lies before and after a hole in its column, weighted against the model by held-out stretches."""

from dataclasses import dataclass

import numpy as np

from lowdim._linalg import Array, Indices, Mask

STEPS = np.array([2, 4, 8])
"""Steps to the nearest known cell at which another weight begins."""
PRIOR = 20.0  # held-out cells that the weight of all columns counts as in that of one


@dataclass(frozen=True)
class InTime:
    """Weights ``(n, 4)`` of the interpolation in each column, by the steps to the nearest known cell."""

    weights: Array

    @classmethod
    def fit(cls, truth: Array, modelled: Array, observed: Mask, held: Mask, clock: Array) -> "InTime | None":
        """The weights with the least squared error on held-out cells; None where they do not clearly lower it.

        Args:
            truth: ``(m, n)``, standardised.
            modelled: ``(m, n)``, by a model that has not seen the held-out cells.
            observed: ``(m, n)``, what that model has seen.
            held: ``(m, n)``, what it has not.
            clock: ``(m, 2)``, the group and the time of each row.
        """
        line, far = interpolated(truth, observed, clock)
        held = held & ~np.isnan(line)
        rows, cols = np.nonzero(held)
        step, wanted, place = (line - modelled)[held], (truth - modelled)[held], far[held]
        weights = np.zeros((truth.shape[1], len(STEPS) + 1))
        for k in range(len(STEPS) + 1):
            here = place == k
            energy, moment = step[here] ** 2, step[here] * wanted[here]
            if energy.sum() > 0:
                common, unit = moment.sum() / energy.sum(), energy.mean()
                per_column = (np.bincount(cols[here], part, len(weights)) for part in (moment, energy))
                moments, energies = per_column
                weights[:, k] = (moments + PRIOR * unit * common) / (energies + PRIOR * unit)
        weights = np.clip(weights, 0, 1)
        gain = wanted**2 - (wanted - weights[cols, place] * step) ** 2
        by_row = np.bincount(rows, gain, len(truth))  # the cells of one row are not independent
        return cls(weights) if gain.sum() > 2 * np.sqrt((by_row**2).sum()) else None

    def added(self, modelled: Array, values: Array, observed: Mask, clock: Array) -> Array:
        """The model's values ``(m, n)``, drawn to the interpolation between the observed ones in its column."""
        line, far = interpolated(values, observed, clock)
        weights = self.weights[np.arange(values.shape[1]), far]
        return np.where(np.isnan(line), modelled, modelled + weights * (line - modelled))


def interpolated(values: Array, observed: Mask, clock: Array) -> tuple[Array, Indices]:
    """Each cell from the observed ones before and after it in its column and group: linear in time, the nearest at the ends; NaN where
    the group has none. And the class of the steps to the nearest, ``(m, n)`` from 0."""
    line, far = np.full(values.shape, np.nan), np.zeros(values.shape, np.intp)
    for group in np.unique(clock[:, 0]):
        members = np.flatnonzero((clock[:, 0] == group) & ~np.isnan(clock[:, 1]))
        members = members[np.argsort(clock[members, 1], kind="stable")]
        times, steps = clock[members, 1], np.arange(members.size)
        for j in range(values.shape[1]):
            seen = np.flatnonzero(observed[members, j])
            if seen.size:
                line[members, j] = np.interp(times, times[seen], values[members[seen], j])
                after = np.minimum(np.searchsorted(seen, steps), seen.size - 1)
                nearest = np.minimum(np.abs(seen[after] - steps), np.abs(seen[np.maximum(after - 1, 0)] - steps))
                far[members, j] = np.searchsorted(STEPS, nearest, side="right")
    return line, far
