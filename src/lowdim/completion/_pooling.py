"""Pooling what several completed tables say, by Rubin's rules."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from lowdim.errors import InputError

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pooled:
    """An estimate from several completed tables.

    Attributes:
        estimate: The mean of the estimates.
        deviation: Its standard error, with what the holes add.
        low: Lower end of the interval.
        high: Upper end of the interval.
        degrees: Of freedom of the t distribution behind it.
        missing_information: The share of the variance that is due to the holes, from 0 to 1.
    """

    estimate: Floats
    deviation: Floats
    low: Floats
    high: Floats
    degrees: Floats
    missing_information: Floats


def pool(estimates: ArrayLike, variances: ArrayLike, *, degrees: float | None = None, level: float = 0.95) -> Pooled:
    r"""One estimate with its interval from the same analysis of several completed tables (Rubin's rules).

    With the estimates $\hat q_k$ and their squared standard errors $u_k$ from $m$ tables, $\bar q$ their mean, $\bar u$ the mean of the $u_k$
    and $b$ the variance of the $\hat q_k$, the variance of $\bar q$ is $\bar u + (1 + 1/m)\, b$.

    Args:
        estimates: ``(m,)`` or ``(m, p)``, of p quantities from each of $m \ge 2$ tables.
        variances: Their squared standard errors, of the same shape.
        degrees: Of freedom that the analysis of a table without holes would have (n - p in a regression); None for many.
        level: Of the intervals.

    Raises:
        InputError: If the shapes differ, or there are fewer than two tables.

    References:
        Rubin (1987), Multiple Imputation for Nonresponse in Surveys; Barnard and Rubin (1999), Biometrika 86, 948-955.

    Example:
        >>> pooled = pool([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
        >>> float(pooled.estimate), round(float(pooled.deviation) ** 2, 4)  # 0.5 + (1 + 1/3) * 1
        (2.0, 1.8333)
    """
    q, u = np.asarray(estimates, np.float64), np.asarray(variances, np.float64)
    if q.shape != u.shape or q.ndim not in (1, 2) or len(q) < 2:
        raise InputError(
            f"`estimates` and `variances` need one shape, (m,) or (m, p) with m >= 2 tables, but have {q.shape} and {u.shape}."
        )
    m, within, between = len(q), u.mean(0), q.var(0, ddof=1)
    total = within + (1 + 1 / m) * between
    share = np.divide((1 + 1 / m) * between, total, out=np.zeros_like(total), where=total > 0)
    with np.errstate(divide="ignore"):
        freedom = (m - 1) / share**2
    if degrees is not None:
        observed = (degrees + 1) / (degrees + 3) * degrees * (1 - share)
        freedom = 1 / (1 / freedom + 1 / np.maximum(observed, np.finfo(np.float64).tiny))
    centre, deviation = q.mean(0), np.sqrt(total)
    half = student.ppf((1 + level) / 2, freedom) * deviation
    return Pooled(centre, deviation, centre - half, centre + half, freedom, share)
