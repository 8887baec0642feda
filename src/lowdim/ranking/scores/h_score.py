"""The H-score, plain and for few samples, and VCI: the class means' part of the features' variance, whitened."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lowdim.errors import InputError
from lowdim.metrics.collapse import require_scatter
from lowdim.ranking.scores._kind import Score, pooled_scatter
from lowdim.ranking.scores.shrinkage import inverse_root, shrinkage
from lowdim.statistics import ClassStatistics, between_span


@dataclass(frozen=True)
class Covariances:
    """Total and within-class covariance, and the class means around the mean of all samples.

    Attributes:
        mean: Of all samples.
        total: ``d x d``; the sum of `within` and the covariance of the class means weighted by class size.
        within: ``d x d``.
        means: Class means minus `mean`, ``K x d``.
        share: Part of the samples in each class.
    """

    mean: Float[Tensor, " d"]
    total: Float[Tensor, "d d"]
    within: Float[Tensor, "d d"]
    means: Float[Tensor, "K d"]
    share: Float[Tensor, " K"]

    @classmethod
    def of(cls, statistics: ClassStatistics) -> "Covariances":
        """From statistics with pooled scatter."""
        statistics.require_classes()
        require_scatter(statistics)
        share = statistics.counts.double() / statistics.samples
        mean = share @ statistics.means
        means = statistics.means - mean
        within = pooled_scatter(statistics) / statistics.samples
        return cls(mean, within + (means.T * share) @ means, within, means, share)


def h_score(statistics: ClassStatistics) -> Score:
    r"""H-score: the part of the features' total variance, whitened, that the class means make up.

    $$H = \operatorname{tr}(\Sigma_T^\dagger \Sigma_{B'})$$

    with $\Sigma_T$ the covariance of all samples and $\Sigma_{B'}$ that of the class means weighted by class size. With
    too few samples for ``d`` features (``n - K < d``) this is ``K - 1`` whatever the features; then they are first reduced to
    the span of the class means.

    Args:
        statistics: With pooled scatter, no class empty.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If there is no scatter or the features are constant.

    Returns:
        Between 0 and K - 1, higher is better; unchanged by any invertible linear map of the features (by rotation, shift and
        scale where reduced).

    References:
        Bao et al. (2019), "An information-theoretic approach to transferability in task transfer learning", ICIP.

    Example:
        >>> features, labels = torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1])
        >>> round(h_score(ClassStatistics.from_samples(features, labels, classes=2)).value, 12)  # 4 of the variance of 5
        0.8
    """
    covariances = Covariances.of(statistics)
    total, means = covariances.total, covariances.means
    reduced = statistics.samples - statistics.classes < statistics.width
    if reduced:
        basis = between_span(statistics, weighting="size_weighted").basis
        total, means = basis.T @ total @ basis, means @ basis
    values, vectors = torch.linalg.eigh(total)
    keep = values > len(values) * torch.finfo(values.dtype).eps * values.max().clamp(min=0)
    if not bool(keep.any()):
        raise InputError("The features are constant, so the H-score has no value.")
    whitening = vectors[:, keep] / values[keep].sqrt()
    white = means @ whitening
    value = float(covariances.share @ white.square().sum(dim=1))

    def influence(rows: Tensor, labels: Tensor) -> Tensor:
        return _h_influence(rows, labels, covariances, whitening, white, statistics)

    return Score(value, None if reduced else influence, reduced)


def _h_influence(
    rows: Tensor,
    labels: Tensor,
    covariances: Covariances,
    whitening: Tensor,
    white: Tensor,
    statistics: ClassStatistics,
    keep: float = 1.0,
) -> Tensor:
    around = (rows - covariances.mean) @ whitening
    deviation = around - white[labels]
    projected = (around @ white.T).square() @ covariances.share
    return (around.square().sum(dim=1) - deviation.square().sum(dim=1) - keep * projected) / statistics.samples


def regularised_h_score(statistics: ClassStatistics) -> Score:
    r"""H-score with a shrunken covariance, for few samples: $\operatorname{tr}(\Sigma_\alpha^{-1} (1 - \alpha)\Sigma_{B'})$.

    $\Sigma_\alpha = (1 - \alpha)\Sigma_T + \alpha \frac{\operatorname{tr}\Sigma_T}{d} I$, with alpha by `shrinkage` (the paper
    uses the estimate of Ledoit and Wolf, which needs fourth moments).

    Args:
        statistics: With pooled scatter, no class empty.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If there is no scatter or the features are constant.

    Returns:
        Between 0 and K - 1, higher is better; unchanged by rotation, shift and scale.

    References:
        Ibrahim, Ponomareva and Mazumder (2022), "Newer is not always better", ECML PKDD, arXiv 2110.06893.

    Example:
        >>> features, labels = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
        >>> statistics = ClassStatistics.from_samples(features, labels, classes=2)
        >>> 0 < regularised_h_score(statistics).value < h_score(statistics).value < 1
        True
    """
    covariances = Covariances.of(statistics)
    alpha = shrinkage(covariances.total, statistics.samples)
    width = statistics.width
    variance = covariances.total.diagonal().mean()
    if not bool(variance > 0):
        raise InputError("The features are constant, so the H-score has no value.")
    matrix = (1 - alpha) * covariances.total + alpha * variance * torch.eye(width, dtype=torch.float64)
    whitening = inverse_root(matrix)
    white = covariances.means @ whitening
    overlap = float(covariances.share @ white.square().sum(dim=1))
    unwhitened = white @ whitening.T
    spread = float(covariances.share @ unwhitened.square().sum(dim=1))
    inside = float(covariances.share @ ((unwhitened @ covariances.total) * unwhitened).sum(dim=1))
    by_alpha = -overlap - (1 - alpha) * (float(variance) * spread - inside)

    def influence(rows: Tensor, labels: Tensor) -> Tensor:
        around = rows - covariances.mean
        size = around.square().sum(dim=1) / width
        main = _h_influence(rows, labels, covariances, whitening, white, statistics, 1 - alpha)
        fixed = (1 - alpha) * (main - alpha * spread * size / statistics.samples)
        return fixed + by_alpha * _shrinkage_influence(around, covariances.total, statistics.samples)

    return Score((1 - alpha) * overlap, influence)


def _shrinkage_influence(around: Float[Tensor, "n d"], covariance: Float[Tensor, "d d"], samples: int) -> Tensor:
    """How each sample moves `shrinkage`, up to a constant."""
    width = len(covariance)
    mean_square, variance = covariance.square().mean(), covariance.diagonal().mean()
    excess = (samples + 1) * (mean_square - variance.square() / width)
    if excess <= mean_square + variance.square():
        return torch.zeros(len(around), dtype=around.dtype)
    square_moved = 2 * ((around @ covariance) * around).sum(dim=1) / (width**2 * samples)
    variance_moved = 2 * variance * around.square().sum(dim=1) / (width * samples)
    above, below = square_moved + variance_moved, (samples + 1) * (square_moved - variance_moved / width)
    return (above - (mean_square + variance.square()) / excess * below) / excess


def collapse_index(score: Score, classes: int) -> Score:
    """VCI: 1 - H / (K - 1), between 0 (collapsed) and 1.

    Args:
        score: The H-score.
        classes: K.

    References:
        Xu et al. (2023), "Quantifying the variability collapse of neural networks", ICML, arXiv 2306.03440.

    Example:
        >>> collapse_index(Score(0.75, None), classes=2).value
        0.25
    """
    influence = score.influence
    moved = None if influence is None else (lambda rows, labels: influence(rows, labels) / -(classes - 1))
    return Score(1 - score.value / (classes - 1), moved, score.reduced)
