"""Which samples a tuned network gets wrong, and which classes it takes for one another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lowdim.data import Split

MOST = 24
"""Wrong samples that are listed."""


def mistakes_of(logarithms: Float[np.ndarray, "n K"], split: Split, classes: Sequence[str]) -> dict[str, Any]:
    """The confusion of classes and the wrong samples, as JSON values."""
    best, labels = logarithms.argmax(axis=1), split.labels
    pairs, counts = np.unique(np.stack([labels, best]), axis=1, return_counts=True)
    wrong = np.flatnonzero(best != labels)
    surest = wrong[np.argsort(-logarithms[wrong, best[wrong]], kind="stable")][:MOST].tolist()
    return {
        "judged": split.name,
        "confusion": [
            {"class": classes[label], "predicted": classes[given], "samples": count}
            for (label, given), count in zip(pairs.T.tolist(), counts.tolist(), strict=True)
        ],
        "mistakes": [
            {
                "item": split.items[index],
                "position": index,
                "class": classes[int(labels[index])],
                "predicted": classes[int(best[index])],
                "probability": float(np.exp(logarithms[index, best[index]])),
                "probability_of_class": float(np.exp(logarithms[index, labels[index]])),
            }
            for index in surest
        ],
    }
