"""Columns to unit variance, without moving zero: a low-rank matrix stays low-rank."""

import numpy as np

from lowdim.completion.solvers._solver import Array, Entries, HeldOut

NOISY = 1e-3  # of the deviation of a column


def column_scale(entries: Entries, *, each: bool) -> Array:
    """The deviation of the observed entries of each column about its mean, or of all entries about theirs.

    A column whose entries are all equal (up to rounding) or fewer than two takes the deviation of all entries. If those are all
    equal as well, their size, and 1 for zeros.

    Returns:
        ``(n,)``, positive.
    """
    overall = float(np.std(entries.values))
    size = float(np.max(np.abs(entries.values)))
    if overall <= 1e-12 * size:
        overall = size if size > 0 else 1.0
    if not each:
        return np.full(entries.shape[1], overall)
    counts, n = np.maximum(entries.col_counts, 1), entries.shape[1]
    mean = np.bincount(entries.cols, entries.values, n) / counts
    centred = (entries.values - mean[entries.cols]) ** 2
    scale = np.sqrt(np.bincount(entries.cols, centred, n) / counts)
    constant = scale <= 1e-12 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    return np.where(constant, overall, scale)


def noise_is_uniform(held_out: HeldOut, scale: Array) -> bool:
    """Whether the errors on held-out entries call for one scale: they are about the same in all columns before the division.

    The slope of log error on log scale would be 0 if the noise of a column grew with its deviation, and is -1 if it does not.
    No verdict (False) where the slope is not clearly beyond -1/2, or the errors are none to speak of.
    """
    errors = np.abs(held_out.values - held_out.predictions)
    if not (held_out.rmse > NOISY and np.isfinite(errors).all()):
        return False
    sizes = np.log(scale[held_out.cols])
    sizes -= sizes.mean()
    spread = float(sizes @ sizes)
    if errors.size < 50 or spread == 0:
        return False
    logarithms = np.log(np.maximum(errors, np.finfo(np.float64).tiny))
    slope = float(sizes @ logarithms) / spread
    return bool(slope + 2 * np.std(logarithms) / np.sqrt(spread) < -0.5)
