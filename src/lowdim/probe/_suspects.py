"""Suspected labels: which samples, and in which order."""

import contextlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from lowdim.errors import InputError

SUSPICIOUS = 20.0
"""How many times more probable another class must be than the label, for a label that is clearly suspected. Of 5 %
wrong labels in 15 small sets of digits (three networks, 10 to 30 per class) such lists named 62 %, and 49 % of what they named was wrong;
any more probable class names nearly all, but then 84 % of the list is right."""


def suspected_labels(
    heldout: Float[np.ndarray, "n K"],
    labels: Int[np.ndarray, " n"],
    fit: Callable[[Int[np.ndarray, " kept"], Int[np.ndarray, " judged"]], Float[np.ndarray, "judged K"]],
    *,
    times: float = 1.0,
) -> tuple[Int[np.ndarray, " s"], Float[np.ndarray, " n"]]:
    """Samples to which probes that have not seen them give another class, the least probable labels first.

    Wrong labels mislead the probes that judge the others. So the labels that are clearly suspected are set aside, and their order is
    that of one more probe, fitted to the rest. A class that would lose half of its samples or more keeps all.

    Args:
        heldout: Log probabilities by probes that have not seen the sample; NaN where there are none.
        labels: Integers 0 … K - 1.
        fit: Gives log probabilities of the samples at the second positions by a probe fitted to those at the first.
        times: How many times more probable another class must be.

    Returns:
        Positions of the suspected labels, and the log probability of every label that they are ordered by.
    """
    own = heldout[np.arange(len(labels)), labels]
    doubt = heldout.max(axis=1) - own
    counts, aside = np.bincount(labels), doubt > np.log(SUSPICIOUS)
    aside &= (2 * np.bincount(labels[aside], minlength=len(counts)) < counts)[labels]
    judged = np.flatnonzero(aside)
    if len(judged):
        with contextlib.suppress(InputError):  # too few are left
            own[judged] = fit(np.flatnonzero(~aside), judged)[np.arange(len(judged)), labels[judged]]
    listed = np.flatnonzero(doubt > np.log(times))
    return listed[np.argsort(own[listed], kind="stable")], own
