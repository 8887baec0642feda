"""Scores of features that can be computed from their class statistics, each with its influence function.

The *influence* of a sample is the derivative of the score by that sample's weight. The sum of their squares (centred within
each class) is the variance of the score under resampling: the limit of the bootstrap for small perturbations, without its
repeated samples, which would shrink every within-class scatter, and at the cost of one pass (the infinitesimal jackknife,
Jaeckel 1972; Efron 1982, chapter 6). Functions of one sample that only differ by a constant per class are the same influence.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lowdim.errors import InputError
from lowdim.statistics import BetweenSpan, ClassStatistics, between_span

Influence = Callable[[Float[Tensor, "n d"], Int[Tensor, " n"]], Float[Tensor, " n"]]


@dataclass(frozen=True)
class Score:
    """A score and how each sample moves it.

    Attributes:
        value: The score.
        influence: Of float64 rows and their labels, up to a constant per class; None where it is not known.
        reduced: Whether the features were first reduced to the span of the class means.
    """

    value: float
    influence: Influence | None
    reduced: bool = False


def class_variability(statistics: ClassStatistics) -> Score:
    r"""NC1, $\operatorname{tr}(\Sigma_W \Sigma_B^\dagger)$, as `lowdim.metrics.within_class_variability` defines it.

    Args:
        statistics: With pooled scatter, no class empty.

    Returns:
        Lower is better (0: full collapse); unchanged by rotation, shift and scale.

    Raises:
        InputError: If the class means coincide or every class has a single sample.

    Example:
        >>> features, labels = torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1])
        >>> round(class_variability(ClassStatistics.from_samples(features, labels, classes=2)).value, 12)  # 1 / 4
        0.25
    """
    _require_spread(statistics)
    span = between_span(statistics)
    within = _pooled(statistics) / statistics.samples
    value, own, by_class = _trace(within, span, statistics)
    return Score(value, lambda rows, labels: _trace_influence(rows, labels, own, by_class, statistics, 1.0))


def heldout_class_variability(first: ClassStatistics, second: ClassStatistics) -> Score:
    r"""Cross-fitted NC1: means and basis from one half of the data, variability around them from the other, averaged.

    The value of `lowdim.metrics.heldout_variability` on these halves.

    Args:
        first: Of one half, with pooled scatter, no class empty.
        second: Of the other half.

    Returns:
        Lower is better. Its influence takes rows of the first half with labels ``k`` and of the second with ``K + k``.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> first, second = (
        ...     ClassStatistics.from_samples(torch.tensor([[x], [x], [-x], [-x]]), labels, classes=2) for x in (1.0, 2.0)
        ... )
        >>> round(heldout_class_variability(first, second).value, 12)  # (1 / 1 + 1 / 4) / 2
        0.625
    """
    halves = (first, second)
    classes = first.classes
    values: list[float] = []
    parts: list[Callable[[Tensor, Tensor, int], Tensor]] = []
    for fit, other in (halves, halves[::-1]):
        span = between_span(fit)
        shift = other.means - fit.means
        scatter = (_pooled(other) + (shift.T * other.counts) @ shift) / other.samples
        value, own, by_class = _trace(scatter, span, fit)
        # Moving a mean of the fitted half also moves the distances of the other half's samples to it.
        pull = 2 * (other.counts / other.samples).unsqueeze(1) * ((shift @ span.basis) / span.eigenvalues)
        by_class = by_class - pull @ span.basis.T
        values.append(value)
        parts.append(_half_influence(fit, other, own, by_class))

    def influence(rows: Tensor, labels: Tensor) -> Tensor:
        moved = torch.zeros(len(rows), dtype=rows.dtype)
        for half in (0, 1):
            mine = (labels >= classes) == bool(half)
            chosen, own_labels = rows[mine], labels[mine] - half * classes
            moved[mine] = 0.5 * (parts[half](chosen, own_labels, 0) + parts[1 - half](chosen, own_labels, 1))
        return moved

    return Score(sum(values) / 2, influence)


def _half_influence(
    fit: ClassStatistics, other: ClassStatistics, own: Tensor, by_class: Tensor
) -> Callable[[Tensor, Tensor, int], Tensor]:
    def influence(rows: Tensor, labels: Tensor, role: int) -> Tensor:
        deviation = rows - fit.means[labels]
        if role == 0:  # the sample is in the half that is fitted
            return (deviation * by_class[labels]).sum(dim=1) / fit.counts[labels]
        return (deviation @ own).square().sum(dim=1) / other.samples

    return influence


def _trace(
    scatter: Tensor, span: BetweenSpan, statistics: ClassStatistics
) -> tuple[float, Float[Tensor, "d r"], Float[Tensor, "K d"]]:
    r"""$\operatorname{tr}(S P)$ with $P = \Sigma_B^\dagger$; a root of P; and what moving the class means does to it.

    Moving mean k by v changes $\Sigma_B$ by $(v c_k^\top + c_k v^\top)/K$, hence the trace by
    $\frac2K v^\top \left[-P S P c_k + (I - Q) S P^2 c_k\right]$, where Q projects onto the span.
    """
    if span.rank == 0:
        raise InputError("The class means coincide up to rounding, so NC1 has no value. The features may be constant.")
    moved = scatter @ span.basis
    inner = span.basis.T @ moved
    once, twice = span.coordinates / span.eigenvalues, span.coordinates / span.eigenvalues.square()
    inside = -(once @ inner) / span.eigenvalues
    outside = twice @ moved.T
    by_class = inside @ span.basis.T + outside - (outside @ span.basis) @ span.basis.T
    value = float((inner.diagonal() / span.eigenvalues).sum())
    return value, span.basis / span.eigenvalues.sqrt(), (2 / statistics.classes) * by_class


def _trace_influence(
    rows: Tensor, labels: Tensor, own: Tensor, by_class: Tensor, statistics: ClassStatistics, share: float
) -> Tensor:
    deviation = rows - statistics.means[labels]
    direct = (deviation @ own).square().sum(dim=1) * (share / statistics.samples)
    return direct + (deviation * by_class[labels]).sum(dim=1) / statistics.counts[labels]


def _pooled(statistics: ClassStatistics) -> Float[Tensor, "d d"]:
    if statistics.scatter is None:
        raise InputError('These statistics hold no scatter. Accumulate them with scatter="pooled".')
    return statistics.scatter.sum(dim=0)


def _require_spread(statistics: ClassStatistics) -> None:
    statistics.require_classes()
    if statistics.samples == statistics.classes:
        raise InputError("Every class has a single sample, so there is no within-class scatter.")


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
        _require_spread(statistics)
        share = statistics.counts.double() / statistics.samples
        mean = share @ statistics.means
        means = statistics.means - mean
        within = _pooled(statistics) / statistics.samples
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


def shrinkage(covariance: Float[Tensor, "d d"], samples: int) -> float:
    """How much of a covariance to replace by ``trace / d`` times the identity, 0..1: oracle-approximating shrinkage.

    Args:
        covariance: Maximum-likelihood estimate (divided by n).
        samples: n.

    References:
        Chen, Wiesel, Eldar and Hero (2010), IEEE Trans. Signal Processing 58(10), in scikit-learn's form.

    Returns:
        1 replaces everything, 0 nothing.

    Example:
        >>> shrinkage(torch.eye(3).double(), samples=10)
        1.0
        >>> shrinkage(torch.diag(torch.tensor([100.0, 1.0, 1.0])).double(), samples=10_000) < 0.001
        True
    """
    mean_square = float(covariance.square().mean())
    variance = float(covariance.diagonal().mean())
    excess = (samples + 1) * (mean_square - variance**2 / len(covariance))
    return 1.0 if excess <= 0 else min(1.0, (mean_square + variance**2) / excess)


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
    whitening = _inverse_root(matrix)
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


def _inverse_root(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """R with ``R R^T`` the inverse of a positive definite matrix."""
    factor = torch.linalg.cholesky(matrix)
    return torch.linalg.solve_triangular(factor, torch.eye(len(matrix), dtype=matrix.dtype), upper=False).T


def discriminant_log_probability(statistics: ClassStatistics) -> Influence:
    r"""SFDA-type score: how probable each sample's own class is under a discriminant that has not seen the sample.

    Gaussian classes with one shared covariance, shrunk as in `regularised_h_score`; for every sample, its own part is taken
    out of its class mean, of the covariance and of the class frequencies (exactly, by a rank-one update). The score is the mean
    over the samples. Published as self-challenging Fisher discriminant analysis, which shrinks by another rule and mixes in
    noise instead of leaving the sample out.

    Args:
        statistics: With pooled scatter, no class empty.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If there is no scatter, every class has a single sample, or the features do not vary within the classes.

    Returns:
        A function of rows and labels giving natural log probabilities (<= 0, higher is better; NaN for the single sample of a
        class). As influence: as if the discriminant were given.

    References:
        Shao et al. (2022), "Not all models are equal: predicting model transferability in a self-challenging Fisher space",
        ECCV, arXiv 2207.03036.

    Example:
        >>> features, labels = torch.tensor([[0.0], [2.0], [40.0], [42.0]]).double(), torch.tensor([0, 0, 1, 1])
        >>> probability = discriminant_log_probability(ClassStatistics.from_samples(features, labels, classes=2))
        >>> bool((probability(features, labels) > probability(features, 1 - labels)).all())
        True
    """
    _require_spread(statistics)
    samples, counts = statistics.samples, statistics.counts.double()
    scatter = _pooled(statistics)
    alpha = shrinkage(scatter / samples, samples)
    variance = float(scatter.diagonal().mean()) / samples
    if variance == 0:
        raise InputError("The features do not vary within the classes, so the discriminant has no covariance.")
    identity = torch.eye(statistics.width, dtype=torch.float64)
    scale = (1 - alpha) / (samples - 1)
    whitening = _inverse_root(scale * scatter + alpha * variance * identity)
    centre = statistics.means.mean(dim=0)
    white = (statistics.means - centre) @ whitening

    def log_probability(rows: Tensor, labels: Tensor) -> Tensor:
        own = labels.unsqueeze(1)
        size = counts[labels]
        seen = (rows - centre) @ whitening
        deviation = seen - white[labels]
        leverage = deviation.square().sum(dim=1)
        squared = (seen.square().sum(dim=1, keepdim=True) - 2 * seen @ white.T + white.square().sum(dim=1)).clamp(min=0)
        across = (seen * deviation).sum(dim=1, keepdim=True) - deviation @ white.T
        # Without the sample its own class mean is farther away by this factor.
        away = size / (size - 1)
        squared = squared.scatter(1, own, (leverage * away.square()).unsqueeze(1))
        across = across.scatter(1, own, (leverage * away).unsqueeze(1))
        weight = scale * away
        squared = squared + (weight / (1 - weight * leverage)).unsqueeze(1) * across.square()
        frequency = counts.expand(len(rows), -1).scatter(1, own, (size - 1).unsqueeze(1))
        logits = frequency.log() - squared / 2
        result = torch.log_softmax(logits, dim=1).gather(1, own).squeeze(1)
        return torch.where(size > 1, result, torch.nan)

    return log_probability
