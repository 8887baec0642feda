"""Planted low-rank matrices and masks."""

import numpy as np

from lowdim.completion.entries import Entries


def low_rank(shape: tuple[int, int], rank: int, random: np.random.Generator, condition: float = 1.0) -> np.ndarray:
    """Random singular vectors; singular values from 1 down to 1/condition, times ``sqrt(m n)``: entries of size 1."""
    left = np.linalg.qr(random.standard_normal((shape[0], rank)))[0]
    right = np.linalg.qr(random.standard_normal((shape[1], rank)))[0]
    values = np.logspace(0, -np.log10(condition), rank) * np.sqrt(shape[0] * shape[1])
    return (left * values) @ right.T


def sample(matrix: np.ndarray, share: float, random: np.random.Generator) -> Entries:
    """A uniform sample of this share of the entries."""
    places = np.sort(random.choice(matrix.size, int(share * matrix.size), replace=False))
    rows, cols = np.divmod(places, matrix.shape[1])
    return Entries.from_triplets(rows, cols, matrix[rows, cols], matrix.shape)


def sample_with_least(matrix: np.ndarray, count: int, least: int, random: np.random.Generator) -> Entries:
    """A random sample of ``count`` entries with at least ``least`` in every row and column."""
    m, n = matrix.shape
    mask = np.zeros((m, n), bool)
    for i in range(m):  # a cyclic band meets both bounds; shuffling rows and columns makes it random
        mask[i, (i * n // m + np.arange(max(least, -(-least * n // m)))) % n] = True
    mask = mask[random.permutation(m)][:, random.permutation(n)]
    for j in np.flatnonzero(mask.sum(0) < least):
        mask[random.choice(np.flatnonzero(~mask[:, j]), least - mask[:, j].sum(), replace=False), j] = True
    free = np.flatnonzero(~mask)
    mask.flat[random.choice(free, count - int(mask.sum()), replace=False)] = True
    return Entries.from_dense(np.where(mask, matrix, np.nan))


def relative_error(found, matrix: np.ndarray) -> float:
    """``||W - matrix|| / ||matrix||`` of an answer with U, singular_values and V."""
    completed = found.U * found.singular_values @ found.V.T
    return float(np.linalg.norm(completed - matrix) / np.linalg.norm(matrix))
