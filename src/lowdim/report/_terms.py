"""What the terms on a page mean, each in one line, where it first stands."""

import re
from collections.abc import Iterable, Mapping

COMMON = {
    "NC1": "scatter within the classes over the spread of their means; 0 when every class has collapsed to a point",
    "D": "scatter within classes over that between them; with depth its logarithm falls along a straight line",
    "NC3": "how far the rows of the classifier are from the class means; 0 is self-duality",
    "NC4": "share of samples for which the classifier and the nearest class mean disagree",
    "held-out": "class means from one half of the samples, judged on the other half",
    "chance": "what shuffled labels would give",
    "Kendall": "rank correlation over pairs of candidates: 1 the same order, 0 none, -1 the opposite",
    "Spearman": "correlation of the ranks: 1 the same order, 0 none, -1 the opposite",
    "scl": "one block is trained, and its output is added to the last feature (skip-connection layer tuning)",
    "probe": "a linear classifier on several layers of the frozen network, weighted by evidence",
    "linear-probe": "logistic regression on the last feature of the frozen network",
    "lp-ft": "linear probe first, then fine-tuning of everything",
    "adapt": "the same at a large rate, for data unlike what the network was trained on",
    "90 % interval": "intervals made in this way contain the true value in 90 of 100 cases",
    "share of NC1": "the part of NC1 that a class makes",
    "root mean square": "square root of the mean squared error, in the units of the values",
    "entries per degree of freedom": "known entries over the free numbers of a matrix of that rank; below 1 nothing can be recovered",
    "tolerance": "a statement holds where its residual, its distance from being exact, is at most this",
}


class Terms:
    """Hands out each explanation once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def new(self, texts: Iterable[str], special: Mapping[str, str]) -> list[tuple[str, str]]:
        """The terms in these texts that were not explained before.

        Args:
            texts: Titles, headings, labels.
            special: Terms of this page, before `COMMON`.
        """
        text, known = (
            "\n".join(texts),
            {**special, **{term: meaning for term, meaning in COMMON.items() if term not in special}},
        )
        found = [
            term
            for term in known
            if term and term not in self._said and re.search(rf"(?<![\w-]){re.escape(term)}(?![\w-])", text)
        ]
        self._said |= set(found)
        return [(term, known[term].rstrip(".")) for term in found]
