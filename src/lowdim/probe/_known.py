"""Is a sample like those of the known classes? Distance to its class's mean, and how flat the probabilities are."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

ALARMS = 0.05
"""Share of known samples that are called unknown."""
_FLATNESS = 0.5
"""Weight of the probabilities against the distance."""


@dataclass(frozen=True)
class Known:
    """What samples of known classes look like, and from where on a sample is called unknown.

    Attributes:
        means: Of the features by class, ``K x d``; NaN for classes without samples.
        usual: Mean and standard deviation of the squared distance and of the flatness, of samples that were left out.
        threshold: The strangeness that 5 % of the samples exceed that were left out.
    """

    means: Float[np.ndarray, "K d"]
    usual: Float[np.ndarray, "2 2"]
    threshold: float

    def strangeness(
        self, features: Float[np.ndarray, "n d"], log_probabilities: Float[np.ndarray, "n K"]
    ) -> Float[np.ndarray, " n"]:
        r"""How unlike the known classes a sample is; about 0 for usual ones, the larger the stranger.

        $$\frac{\|h - \mu_k\|^2 - a}{s} + \frac12 \frac{\frac1K \sum_j \log p_j - b}{t}$$

        with $\mu_k$ the mean of the most probable class, and $a, s$ and $b, t$ mean and standard deviation of both measures on samples
        that were left out. (The mean logarithm of the probabilities is the energy of logits with the mean 0.)

        Args:
            features: What the head sees, as in training.
            log_probabilities: Of the classes.
        """
        chosen = np.asarray(log_probabilities).argmax(axis=1)
        distances = ((np.asarray(features, dtype=np.float64) - self.means[chosen]) ** 2).sum(axis=1)
        return _combined(np.stack([distances, _flatness(log_probabilities, self._present)]), self.usual)

    @property
    def _present(self) -> np.ndarray:
        return ~np.isnan(self.means[:, 0])


def fit_known(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], heldout: Float[np.ndarray, "n K"]
) -> Known | None:
    """Describes the known samples; None where too few were left out to say what is usual.

    Args:
        features: What the head sees.
        labels: 0 … K - 1.
        heldout: Log probabilities of each sample by a fit that has not seen it, NaN where there is none. The distance to the mean of its
            own class, too, is taken without the sample.

    Example:
        >>> x = np.array([[0.0], [1.0], [0.0], [10.0], [11.0], [10.0]])
        >>> labels = np.array([0, 0, 0, 1, 1, 1])
        >>> p = np.where(labels[:, None] == np.arange(2), 0.9, 0.1)
        >>> known = fit_known(x, labels, np.log(p))
        >>> (known.strangeness(np.array([[0.5], [5.0]]), np.log([[0.9, 0.1], [0.6, 0.4]])) > known.threshold).tolist()
        [False, True]
    """
    x, classes = np.asarray(features, dtype=np.float64), heldout.shape[1]
    counts = np.bincount(labels, minlength=classes)
    means = np.full((classes, x.shape[1]), np.nan)
    for label in np.flatnonzero(counts):
        means[label] = x[labels == label].mean(axis=0)
    judged = np.flatnonzero(~np.isnan(heldout).any(axis=1))
    if len(judged) < 2:
        return None
    chosen, n = heldout[judged].argmax(axis=1), counts[labels[judged]]
    distances = ((x[judged] - means[chosen]) ** 2).sum(axis=1)
    distances[chosen == labels[judged]] *= ((n / (n - 1)) ** 2)[chosen == labels[judged]]
    measures = np.stack([distances, _flatness(heldout[judged], counts > 0)])
    usual = np.stack([measures.mean(axis=1), np.maximum(measures.std(axis=1), 1e-12)], axis=1)
    # A new sample is as likely to lie between any two of them, or beyond.
    places = np.arange(1, len(judged) + 1) / (len(judged) + 1)
    threshold = np.interp(1 - ALARMS, places, np.sort(_combined(measures, usual)))
    return Known(means, usual, float(threshold))


def _flatness(log_probabilities: np.ndarray, present: np.ndarray) -> np.ndarray:
    return np.asarray(log_probabilities, dtype=np.float64)[:, present].mean(axis=1)


def _combined(measures: np.ndarray, usual: np.ndarray) -> np.ndarray:
    distance, flatness = (measures - usual[:, :1]) / usual[:, 1:]
    return distance + _FLATNESS * flatness
