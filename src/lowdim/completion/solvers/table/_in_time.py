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
    def fit(cls, checked: "Checked", shape: tuple[int, int]) -> "InTime | None":
        """The weights with the least squared error on checked cells; None where they do not clearly lower it."""
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
        by_row = np.bincount(rows, gain, shape[0])  # the cells of one row are not independent
        return cls(weights) if gain.sum() > 2 * np.sqrt((by_row**2).sum()) else None

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


def interpolated(values: Array, observed: Mask, clock: Array, *, others: bool = False) -> tuple[Array, Indices]:
    """Each cell from the observed ones before and after it in its column and group: linear in time, the nearest at the ends; NaN where
    the group has none. And the class of its distance from what is known, ``(m, n)`` from 0.

    With `others`, only the observed cells are told, each from the others.
    """
    line, far = np.full(values.shape, np.nan), np.full(values.shape, CLASSES - 1)
    for group in np.unique(clock[:, 0]):
        members = np.flatnonzero((clock[:, 0] == group) & ~np.isnan(clock[:, 1]))
        members = members[np.argsort(clock[members, 1], kind="stable")]
        times, steps = clock[members, 1], np.arange(members.size)
        for j in range(values.shape[1]):
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
