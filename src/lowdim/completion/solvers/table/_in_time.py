"""Neighbours in time: what lies before and after a hole in its column, weighted against the model by held-out stretches."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lowdim._linalg import Array, Indices, Mask

STEPS = np.array([0.8, 1, 2, 4])
"""Distances from what is known at which another class of cells begins; see `distance_class`."""
CLASSES = STEPS.size + 1
PRIOR = 20.0  # held-out cells that the weight of all columns counts as in that of one


@dataclass(frozen=True)
class InTime:
    """Weights ``(n, CLASSES)`` of the interpolation in each column, by the distance from what is known."""

    weights: Array

    @classmethod
    def fit(cls, checked: "Checked", shape: tuple[int, int], are_times: Mask) -> "InTime | None":
        """The weights with the least squared error on checked cells, 0 where they do not clearly lower it; None where all are 0.

        Columns that are the times themselves, ``(n,)``, lie between their neighbours for sure.
        """
        rows, cols, step, wanted, place = checked
        weights = np.zeros((shape[1], CLASSES))
        for k in range(CLASSES):
            here = place == k
            energy, moment = step[here] ** 2, step[here] * wanted[here]
            if energy.sum() > 0:
                common, unit = moment.sum() / energy.sum(), energy.mean()
                per_column = (np.bincount(cols[here], part, len(weights)) for part in (moment, energy))
                moments, energies = per_column
                weights[:, k] = (moments + PRIOR * unit * common) / (energies + PRIOR * unit)
        weights = np.clip(weights, 0, 1)
        gain = wanted**2 - (wanted - weights[cols, place] * step) ** 2
        gain[are_times[cols]] = 0
        by_row = np.bincount(rows, gain, shape[0])  # the cells of one row are not independent
        weights *= gain.sum() > 2 * np.sqrt((by_row**2).sum())
        weights[are_times] = 1
        return cls(weights) if weights.any() else None

    def added(self, modelled: Array, line: Array, place: Indices) -> Array:
        """The model's values ``(m, n)``, drawn to the interpolation; both as `interpolated` gives them."""
        weights = self.weights[np.arange(modelled.shape[1]), place]
        return np.where(np.isnan(line), modelled, modelled + weights * (line - modelled))


class Checked(NamedTuple):
    """Cells that a model has not seen: their rows and columns, what the interpolation and the truth have beyond the model, and the class of
    their distance from what is known."""

    rows: Indices
    cols: Indices
    step: Array
    wanted: Array
    place: Indices

    @classmethod
    def of(cls, truth: Array, modelled: Array, line: Array, place: Indices, held: Mask) -> "Checked":
        """The held cells of standardised values ``(m, n)``, where there is an interpolation."""
        held = held & ~np.isnan(line)
        rows, cols = np.nonzero(held)
        return cls(rows, cols, (line - modelled)[held], (truth - modelled)[held], place[held])


def follow_each_other(observed: Mask, clock: Array) -> bool:
    """Whether some hole has no known neighbour in time in its column and group."""
    line, far = interpolated(np.zeros(observed.shape), observed, clock)
    return bool((~observed & (np.isnan(line) | (far > 0))).any())


def are_times(values: Array, observed: Mask, clock: Array) -> Mask:
    """Which columns ``(n,)`` are the times of the rows, in some unit."""
    found = np.zeros(values.shape[1], bool)
    for j in range(found.size):
        known = observed[:, j] & ~np.isnan(clock[:, 1])
        times, own = clock[known, 1], values[known, j]
        times, own = times - times.mean() if times.size else times, own - own.mean() if own.size else own
        energy = times @ times
        if times.size > 2 and energy > 0 and own.any():
            found[j] = np.abs(own - times * (times @ own / energy)).max() < 1e-9 * np.abs(own).max()
    return found


def interpolated(values: Array, observed: Mask, clock: Array, *, others: bool = False) -> tuple[Array, Indices]:
    """Each cell from the observed ones before and after it in its column and group: linear in time, the nearest at the ends; NaN where
    the group has none. And the class of its distance from what is known, ``(m, n)`` from 0.

    With `others`, only the observed cells are told, each from the others. The times themselves are told from the order of the rows.
    """
    line, far = np.full(values.shape, np.nan), np.full(values.shape, CLASSES - 1)
    by_order = are_times(values, observed, clock)
    for group in np.unique(clock[:, 0]):
        members = np.flatnonzero((clock[:, 0] == group) & ~np.isnan(clock[:, 1]))
        members = members[np.argsort(clock[members, 1], kind="stable")]
        steps = np.arange(members.size)
        for j in range(values.shape[1]):
            times = steps.astype(float) if by_order[j] else clock[members, 1]
            seen = np.flatnonzero(observed[members, j])
            if others and seen.size > 1:
                place = members[seen]
                line[place, j], far[place, j] = _from_others(times[seen], values[place, j], seen)
            elif seen.size and not others:
                line[members, j] = np.interp(times, times[seen], values[members[seen], j])
                after = np.searchsorted(seen, steps)
                since = steps - np.r_[-np.inf, seen][after]
                far[members, j] = distance_class(since, np.r_[seen, np.inf][after] - steps)
    return line, far


def _from_others(times: Array, values: Array, steps: Indices) -> tuple[Array, Indices]:
    """As `interpolated`, of all of these in order, each from the one before and the one after it."""
    before, after = np.r_[1, np.arange(steps.size - 1)], np.r_[np.arange(1, steps.size), steps.size - 2]
    span = np.where(times[after] > times[before], times[after] - times[before], 1.0)
    share = np.clip((times - times[before]) / span, 0, 1)
    ends = np.where(np.arange(steps.size) == [[0], [steps.size - 1]], np.inf, 0.0)
    far = distance_class(np.abs(steps - steps[before]) + ends[0], np.abs(steps[after] - steps) + ends[1])
    return (1 - share) * values[before] + share * values[after], far


def distance_class(before: Array, after: Array) -> Indices:
    """Of cells this many steps after the last known one and before the next, infinite where there is none.

    The variance of a random walk between two known values is ``1 / (1 / before + 1 / after)``: the classes are of that.
    """
    with np.errstate(divide="ignore"):  # of known cells
        return np.searchsorted(STEPS, 1 / (1 / before + 1 / after), side="right")
