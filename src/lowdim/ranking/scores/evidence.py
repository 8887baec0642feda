"""LogME: the log evidence of a linear model of the labels, maximised over its two precisions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lowdim.errors import InputError
from lowdim.ranking.scores._kind import Score, pooled_scatter
from lowdim.statistics import ClassStatistics

_GRID = torch.logspace(-12, 6, 145, dtype=torch.float64)
"""Ratios of prior to noise precision, relative to the largest eigenvalue of the features' second moment."""
_REFINEMENTS = 60


def log_evidence(statistics: ClassStatistics) -> Score:
    r"""LogME: for each class the one-hot target $y = X m + \varepsilon$, prior $m \sim N(0, \alpha^{-1} I)$, noise precision
    $\beta$; the log marginal likelihood maximised over both precisions, averaged over classes and divided by n.

    With $t = \alpha / \beta$ and $X^\top X = V \operatorname{diag}(s) V^\top$ of rank r, $z = V^\top X^\top y$:

    $$\log p(y) = \tfrac n2 \log\tfrac{\beta}{2\pi} - \tfrac n2 - \tfrac12 \sum_{j \le r} \log(1 + s_j/t),
    \qquad \beta = n \big/ \Big(\|y\|^2 - \sum_j \frac{z_j^2}{t + s_j}\Big),$$

    a function of t alone. It holds for n < d too, where the published code counts dimensions without data as evidence.

    Args:
        statistics: With pooled scatter, no class empty.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If there is no scatter or all features are zero.

    Returns:
        In nats per sample, higher is better; unchanged by rotation and scale of the features, not by a shift. Costs one
        eigendecomposition, ``O(d^3)``.

    References:
        You et al. (2021), "LogME: practical assessment of pre-trained models for transfer learning", ICML, arXiv 2102.11005.

    Example:
        >>> features = torch.tensor([[1.0, 0.1], [1.1, -0.1], [-1.0, 0.1], [-1.1, -0.1]])
        >>> good, poor = (
        ...     ClassStatistics.from_samples(features, torch.tensor(labels), classes=2)
        ...     for labels in ([0, 0, 1, 1], [0, 1, 0, 1])
        ... )
        >>> log_evidence(good).value > log_evidence(poor).value
        True
    """
    statistics.require_classes()
    counts = statistics.counts.double()
    second = pooled_scatter(statistics) + (statistics.means.T * counts) @ statistics.means
    values, vectors = torch.linalg.eigh(second)
    keep = values > max(statistics.width, statistics.samples) * torch.finfo(values.dtype).eps * values[-1]
    keep[: max(0, statistics.width - statistics.samples)] = False
    if not bool(keep.any()):
        raise InputError("All features are zero, so LogME has no value.")
    s, V = values[keep], vectors[:, keep]
    fit = _Fit.of(s, (statistics.means * counts.unsqueeze(1)) @ V, counts, statistics.samples)
    value = float(fit.evidence.mean()) / statistics.samples

    def influence(rows: Tensor, labels: Tensor) -> Tensor:
        projected = rows @ V
        hot = torch.nn.functional.one_hot(labels, statistics.classes).double()
        residual = hot - projected @ fit.weights.T
        leverage = projected.square() @ (1 / (fit.ratio.unsqueeze(1) + s)).T
        moved = (fit.precision.log() - fit.precision * residual.square() - leverage) / 2
        return moved.mean(dim=1) / statistics.samples

    # Where the features span the samples, the best noise is none, and the evidence is no smooth function of weights.
    return Score(value, influence if len(s) < statistics.samples else None)


class _Fit:
    """The maximising precisions of every class, and the mean of the weights under them.

    The evidence is stationary in both precisions, so a sample's influence is its direct part alone.
    """

    def __init__(self, ratio: Tensor, precision: Tensor, evidence: Tensor, weights: Tensor) -> None:
        self.ratio, self.precision, self.evidence, self.weights = ratio, precision, evidence, weights

    @classmethod
    def of(
        cls, s: Float[Tensor, " r"], z: Float[Tensor, "K r"], squares: Float[Tensor, " K"], samples: float
    ) -> "_Fit":
        # Part of each target that no weights reach; exactly zero where the features span the samples.
        left = torch.zeros_like(squares) if len(s) >= samples else (squares - (z.square() / s).sum(dim=1)).clamp(min=0)

        def profile(logarithm: Float[Tensor, " K"]) -> tuple[Tensor, Tensor]:
            t = logarithm.exp().unsqueeze(1)
            error = left + (z.square() / s * (t / (t + s))).sum(dim=1)
            precision = samples / error
            penalty = torch.log1p(s / t).sum(dim=1)
            return (samples * (precision.log() - math.log(2 * math.pi) - 1) - penalty) / 2, precision

        grid = (_GRID * s[-1]).log()
        table = torch.stack([profile(point.expand(len(z)))[0] for point in grid])
        best = table.argmax(dim=0)
        low, high = grid[(best - 1).clamp(min=0)], grid[(best + 1).clamp(max=len(grid) - 1)]
        golden = (math.sqrt(5) - 1) / 2
        for _ in range(_REFINEMENTS):
            left_point, right_point = high - golden * (high - low), low + golden * (high - low)
            better = profile(left_point)[0] > profile(right_point)[0]
            low, high = torch.where(better, low, left_point), torch.where(better, right_point, high)
        middle = (low + high) / 2
        evidence, precision = profile(middle)
        ratio = middle.exp()
        return cls(ratio, precision, evidence, z / (ratio.unsqueeze(1) + s))
