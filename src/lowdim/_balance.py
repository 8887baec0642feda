"""Classes of unequal sizes: the balanced accuracy, and what the largest class alone explains."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from lowdim._intervals import wilson_interval

_UNEQUAL = 1.5
"""Samples of the largest class over those of the smallest, from which the sizes are said to differ."""


def balanced_accuracy(correct: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Mean over the classes of the share of their samples that is right.

    Example:
        >>> balanced_accuracy(np.array([1.0, 1.0, 1.0, 0.0, np.nan]), np.array([0, 0, 0, 1, 1]))
        0.5
    """
    known = ~np.isnan(correct)
    return float(np.mean([correct[known & (labels == label)].mean() for label in np.unique(labels[known])]))


def guessing_accuracy(labels: Int[np.ndarray, " n"]) -> float:
    """Share of the largest class: how often it is right to name that one every time.

    Example:
        >>> guessing_accuracy(np.array([0, 0, 2]))
        0.6666666666666666
    """
    return float(np.bincount(labels).max() / len(labels))


def majority_warnings(
    what: str,
    correct: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    names: Sequence[str] | None = None,
    *,
    weighted: bool = False,
    independent: float = 1.0,
    guessing: bool = False,
) -> list[str]:
    """What to say where classes differ in size and always naming the largest would be right as often, as far as so few samples tell, each
    worth so many `independent` ones; with `guessing` also of classes of one size."""
    known = ~np.isnan(correct)
    present, counts = np.unique(labels[known], return_counts=True)
    unequal = len(present) > 1 and counts.max() >= _UNEQUAL * counts.min()
    if len(present) < 2 or not (unequal or guessing):
        return []
    share, accuracy = float(counts.max() / counts.sum()), float(correct[known].mean())
    if wilson_interval(accuracy, independent * float(counts.sum()))[0] > share:
        return []
    if not unequal:
        return [
            f"{what}: {100 * accuracy:.1f} % is no more, as far as so few samples can tell, than guessing would give ({100 * share:.1f} %)."
        ]
    largest = "" if names is None else f" ({names[int(present[counts.argmax()])]})"
    remedy = "" if weighted else " Tuning with `class_weights` lets every class count alike."
    return [
        f"{what}: {100 * accuracy:.1f} % is hardly more than the {100 * share:.1f} % that always naming the largest class{largest} would "
        f"give; the balanced accuracy is {100 * balanced_accuracy(correct, labels):.1f} %.{remedy}"
    ]
