"""What comes round again with the time of the day, the day of the week or of the year."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

CYCLES = {"time of the day": 1.0, "day of the week": 7.0, "day of the year": 365.2425}
"""Their lengths in days."""
_LEAST_PHASES = 4  # different ones, from which a cycle has a shape
_SURE = 0.975  # of a gain above zero
_SHARE = 0.01  # of the variance about the trend, which the cycle explains at least
_CLOSE = 1e-6  # days


def phases(days: Array, length: float) -> Array:
    """Where in its cycle each day is, ``(rows, 2)``: sine and cosine."""
    angle = 2 * np.pi * days / length
    return np.column_stack([np.sin(angle), np.cos(angle)])


def comes_round(days: Array, values: Array, length: float) -> bool:
    """Whether values follow a cycle: a wave fitted to every second cycle predicts the others, and the other way round.

    The mean over one length around each value is taken out first, so that a trend is none; a random walk has waves in each cycle, but not
    the same ones. The gain is judged by cycles, which need not be independent inside.
    """
    known = ~np.isnan(days) & ~np.isnan(values)
    days, values = days[known], values[known]
    if np.unique(np.round(days / length % 1, 4) % 1).size < _LEAST_PHASES:
        return False
    order = np.argsort(days, kind="stable")
    days, values = days[order] - days[order[0]], values[order]
    values = np.ldexp(values, -np.frexp(np.abs(values).max())[1])  # whose squares neither overflow nor vanish
    trend = np.column_stack([np.ones(days.size), days / days[-1]])
    values = values - trend @ np.linalg.lstsq(trend, values, rcond=None)[0]
    drift = _mean_around(days, values, length)
    whole = (days >= length / 2 - _CLOSE) & (days <= days[-1] - length / 2 + _CLOSE)
    days, wanted = days[whole], (values - drift)[whole]
    cycles = np.unique(np.floor(days / length + _CLOSE), return_inverse=True)[1]
    if days.size < _LEAST_PHASES or cycles.max() < 1:
        return False
    waves = np.column_stack([phases(days, length), np.ones(days.size)])
    gain = np.zeros(days.size)
    for part in (0, 1):
        own = cycles % 2 == part
        fitted = waves[own] @ np.linalg.lstsq(waves[~own], wanted[~own], rcond=None)[0]
        gain[own] = wanted[own] ** 2 - (wanted[own] - fitted) ** 2
    by_cycle = np.bincount(cycles, gain)
    error = by_cycle.std(ddof=1) / np.sqrt(by_cycle.size)
    clear = by_cycle.mean() > stdtrit(by_cycle.size - 1, _SURE) * error
    return bool(clear and by_cycle.sum() > _SHARE * (values**2).sum())


def _mean_around(days: Array, values: Array, length: float) -> Array:
    """Of ascending days: the mean from half a length before each to half a length after it; what lies on both ends counts half."""
    sums, total = np.concatenate([[0.0], np.cumsum(values)]), np.zeros(days.size)
    for shift in (-_CLOSE, _CLOSE):
        first, last = (np.searchsorted(days, days + end + shift) for end in (-length / 2, length / 2))
        total += (sums[last] - sums[first]) / np.maximum(last - first, 1)
    return total / 2
