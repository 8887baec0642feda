"""A race: candidates that fall behind on the first samples see no more of them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lowdim._intervals import FOLD_LOSS, Z
from lowdim._random import child_seed
from lowdim.ranking._evaluate import Evaluation

PARTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Of the samples, after each of which those who are behind leave."""
BEHIND = Z * FOLD_LOSS**0.5
"""Standard errors of the paired difference to the leader, as if the samples were as many as cross-validation is worth: who is further
behind leaves."""
_FEWEST = 4
"""Samples of the average class before anybody leaves."""


def nested_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """The samples in an order of which every beginning has the classes in their shares.

    Example:
        >>> np.bincount(np.array([0, 1] * 8 + [2] * 8)[nested_order(np.array([0, 1] * 8 + [2] * 8), 0)[:12]]).tolist()
        [4, 4, 4]
    """
    random = np.random.default_rng(child_seed(seed, "race"))
    places = np.empty(len(labels))
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        places[own] = (np.arange(len(own)) + random.random()) / len(own)
    return np.argsort(places, kind="stable")


def race(
    evaluate: Callable[[Sequence[int], int], Mapping[int, Evaluation | str]],
    labels: np.ndarray,
    candidates: int,
    *,
    by: str,
    batch_size: int,
) -> dict[int, Evaluation]:
    """Who leaves, and with what.

    Args:
        evaluate: The results of some candidates on so many of the first samples.
        labels: Of all samples, in the order of `nested_order`.
        candidates: How many there are.
        by: The score, whose influences are right and wrong answers sample by sample.
        batch_size: Samples per forward pass; parts are multiples of it, so that no pass is repeated.

    Returns:
        By the number of the candidate, the last evaluation of those who left. Whoever could not be scored stays: more samples may do.
    """
    left: dict[int, Evaluation] = {}
    for part in PARTS:
        first = -(-round(part * len(labels)) // batch_size) * batch_size
        running = [number for number in range(candidates) if number not in left]
        if len(running) < 2 or first >= len(labels) or first < _FEWEST * len(np.unique(labels)):
            continue
        scored = {
            number: found for number, found in evaluate(running, first).items() if isinstance(found, Evaluation) and by in found.scores
        }  # fmt: skip
        if scored:
            leader = max(scored.values(), key=lambda found: found.scores[by])
            left |= {number: found for number, found in scored.items() if _behind(found, leader, by)}
    return left


def _behind(one: Evaluation, leader: Evaluation, by: str) -> bool:
    moved = one.influences[by] - leader.influences[by]
    # One sample more that only the leader has right: where all agree, the error is not 0.
    error = float(np.sqrt(np.sum(moved**2) + 1 / one.samples**2))
    return bool(leader.scores[by] - one.scores[by] > BEHIND * error)
