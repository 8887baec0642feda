"""How well one ordering of models agrees with another: rank correlations, and an interval that respects groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from lowdim._intervals import LEVEL
from lowdim.errors import InputError, NonFiniteError

_REPLICATES = 2000
_FEWEST = 3
FEWEST_ORDERED = 4
"""Models from which their order says something: three agree once in six times by chance."""
FEWEST_GROUPS = 8
"""Independent models from which the agreement has an interval: resampled from fewer it is far too narrow, or the point 1."""

Values = Float[np.ndarray, " m"]


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of a score with a reference; 1 is the same order, 0 none, -1 the opposite order.

    Attributes:
        kendall: Kendall's tau-b.
        weighted: Kendall's tau with weights that favour the reference's best models.
        spearman: Spearman's rank correlation.
        interval: Of `spearman`: 90 %, from resampling whole groups of models; None with fewer than eight groups.
        models: How many were compared.
        groups: How many groups they form.
    """

    kendall: float
    weighted: float
    spearman: float
    interval: tuple[float, float] | None
    models: int
    groups: int


def agreement(
    score: ArrayLike, reference: ArrayLike, *, groups: Sequence[str] | None = None, seed: int = 0
) -> Agreement | None:
    """Rank correlations of two sequences, both with higher meaning better.

    Args:
        score: One value per model.
        reference: One value per model, such as probe accuracy.
        groups: A name per model; models of one group (checkpoints of one run) are resampled together. By default each is its
            own group.
        seed: Of the resampling.

    Returns:
        The correlations, or None with fewer than three models or where one sequence is constant.

    Raises:
        InputError: If the lengths differ.
        NonFiniteError: If a value is NaN or infinite.

    Example:
        >>> result = agreement([1, 2, 3, 4], [10, 20, 40, 30])
        >>> round(result.kendall, 3), round(result.spearman, 3)
        (0.667, 0.8)
    """
    x, y = np.asarray(score, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    names = [str(index) for index in range(len(x))] if groups is None else list(groups)
    if not len(x) == len(y) == len(names):
        raise InputError(f"There are {len(x)} scores, {len(y)} reference values and {len(names)} groups.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NonFiniteError("A score is NaN or infinite, so the models cannot be ordered. Leave that model out.")
    if len(x) < _FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return Agreement(
        kendall=kendall(x, y),
        weighted=weighted_kendall(x, y),
        spearman=spearman(x, y),
        interval=_interval(x, y, names, seed),
        models=len(x),
        groups=len(set(names)),
    )


def ranks(values: Values) -> Values:
    """Ranks from 0 (smallest); equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse]


def spearman(x: Values, y: Values) -> float:
    """Spearman's rank correlation; NaN where one side is constant."""
    a, b = ranks(x) - (len(x) - 1) / 2, ranks(y) - (len(y) - 1) / 2
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else float("nan")


def kendall(x: Values, y: Values, *, strata: Sequence[object] | None = None) -> float:
    """Kendall's tau-b, which corrects for ties, over all pairs of models or those with the same entry in `strata`."""
    stratum = np.zeros(len(x)) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    return _tau(x, y, (stratum[:, None] == stratum[None, :]).astype(np.float64))


def weighted_kendall(x: Values, reference: Values) -> float:
    r"""Kendall's tau-b with pairs weighted by $1/(r_i + 1) + 1/(r_j + 1)$, r the reference's rank from its best (0) on.

    The weights come from the reference alone, so turning the score around turns the sign. (`scipy.stats.weightedtau` averages
    over both rankings and is not symmetric in that sense.)

    References:
        Vigna (2015), "A weighted correlation index for rankings with ties", WWW, arXiv 1404.3325.
    """
    share = 1 / (ranks(-reference) + 1)
    return _tau(x, reference, share[:, None] + share[None, :])


def _tau(x: Values, y: Values, weights: np.ndarray) -> float:
    upper = np.triu_indices(len(x), 1)
    a, b = (np.sign(values[:, None] - values[None, :])[upper] for values in (x, y))
    w = weights[upper]
    norm = np.sqrt((w @ a**2) * (w @ b**2))
    return float(w @ (a * b) / norm) if norm > 0 else float("nan")


def _interval(x: Values, y: Values, names: Sequence[str], seed: int) -> tuple[float, float] | None:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    group_of, groups = [numbers[name] for name in names], len(numbers)
    if groups < FEWEST_GROUPS:
        return None
    generator = np.random.default_rng(seed)
    draws = [np.bincount(generator.integers(0, groups, groups), minlength=groups) for _ in range(_REPLICATES)]
    times = np.array(draws, dtype=np.float64)[:, group_of]
    # Twice a centred rank is how many values are below, minus how many are above, each as often as it was drawn.
    a, b = (times @ np.sign(values[None, :] - values[:, None]) for values in (x, y))
    norm = np.sqrt((times * a**2).sum(axis=1) * (times * b**2).sum(axis=1))
    correlations = (times * a * b).sum(axis=1)[norm > 0] / norm[norm > 0]
    low, high = np.quantile(correlations, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
