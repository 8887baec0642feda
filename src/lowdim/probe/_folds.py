"""Stratified folds."""

import numpy as np
from jaxtyping import Int

from lowdim.errors import InputError


def fold_of(
    labels: Int[np.ndarray, " n"], folds: int, seed: int, copies: Int[np.ndarray, " n"] | None = None
) -> Int[np.ndarray, " n"]:
    """A stratified fold for every sample; -1 for classes with a single sample, which are always trained on.

    Args:
        labels: Class of each sample.
        folds: Number of folds, at least 2.
        seed: The same seed gives the same folds.
        copies: A number per sample, the same for samples that stay in one fold and count once.
    """
    if folds < 2:
        raise InputError(f"Cross-validation needs at least 2 folds, not {folds}.")
    if copies is not None:
        _, first, group = np.unique(copies, return_index=True, return_inverse=True)
        return fold_of(labels[first], folds, seed)[group]
    generator = np.random.default_rng(seed)
    part = np.full(len(labels), -1, dtype=np.int64)
    start = 0
    for label in np.unique(labels):
        where = generator.permutation(np.flatnonzero(labels == label))
        if len(where) > 1:
            # The next class starts where this one ended, so that folds have equal sizes.
            part[where] = (start + np.arange(len(where))) % folds
            start += len(where)
    return part


def require_heldout(part: Int[np.ndarray, " n"]) -> None:
    """Refuses folds that hold no sample out: then nothing can be chosen, and no accuracy is known."""
    if not (part >= 0).any():
        raise InputError(
            "Every class has a single sample to train on (copies count once), so none can be held out. Give two samples of at least one class: "
            "`test_share=0` holds none back to measure on, and more `shots` leave more, where the data has them."
        )
