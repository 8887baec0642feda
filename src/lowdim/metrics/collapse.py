"""NC1 and separation: how small the classes are beside the distances of their means."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lowdim.errors import EmptyClassError, InputError, UsageError
from lowdim.statistics import (
    BetweenSpan,
    ClassStatistics,
    SpanScatter,
    Weighting,
    between_span,
    centred_means,
    class_shares,
    means_rounding,
)


@dataclass(frozen=True)
class Variability:
    """NC1 with everything that is needed to read it.

    Attributes:
        value: ``trace(Sigma_W pinv(Sigma_B))``, dimensionless, >= 0; 0 is full collapse.
        class_share: Part of the value that the samples of each class make, adding up to 1; empty where the scatter is pooled.
        rank: Directions used: the rank of ``Sigma_B``, at most ``min(d, K - 1)``.
        cutoff: Eigenvalues of ``Sigma_B`` at or below it count as zero.
        condition: Largest over smallest eigenvalue used.
        noise_share: Part of the value in directions with ``lambda_j < 2 q_j / n_k``, where the spread of the class
            means is no larger than sampling noise (``n_k``: harmonic mean of the class sizes).
        weighting: Which weights the classes have.
        divide_by_k: Whether the value was divided by the number of classes.
        unbiased: Whether the class covariances were divided by ``n - 1``.
        min_per_class: Samples of the smallest class.
        max_per_class: Samples of the largest class.
    """

    value: float
    class_share: tuple[float, ...]
    rank: int
    cutoff: float
    condition: float
    noise_share: float
    weighting: Weighting
    divide_by_k: bool
    unbiased: bool
    min_per_class: int
    max_per_class: int


def within_class_variability(
    statistics: ClassStatistics,
    scatter: SpanScatter | None = None,
    *,
    weighting: Weighting = "pooled",
    divide_by_k: bool = False,
    unbiased: bool = False,
) -> float:
    r"""NC1: within-class scatter relative to the spread of the class means.

    $$\mathrm{NC1} = \operatorname{tr}(\Sigma_W \Sigma_B^{\dagger}) = \sum_j u_j^\top \Sigma_W u_j / \lambda_j$$

    where $\Sigma_W$ is the mean over samples of $(h_{k,i}-\mu_k)(h_{k,i}-\mu_k)^\top$, $\Sigma_B$ the mean over classes of
    $(\mu_k-\mu_G)(\mu_k-\mu_G)^\top$ with $\mu_G$ the unweighted mean of the means, and $\lambda_j, u_j$ are the at most
    $\min(d, K-1)$ eigenpairs of $\Sigma_B$ above rounding noise. There is no division by $K$ unless asked for.

    The value depends on the number of samples per class: never compare it between data of different sizes.

    Args:
        statistics: Moments of ``K >= 2`` classes, with a d x d scatter or together with `scatter`.
        scatter: The two-pass scatter in the span of the means; with it no d x d matrix is needed.
        weighting: ``"pooled"`` weights samples equally; ``"class_balanced"`` averages the class covariances;
            ``"size_weighted"`` is pooled and also weights classes in $\Sigma_B$ and $\mu_G$ by their size.
        divide_by_k: Divide by the number of classes, as part of the literature does.
        unbiased: Divide class covariances by $n_k - 1$ (pooled: by $N - K$).

    Returns:
        A dimensionless value >= 0 that is 0 at exact collapse; unchanged when the features are rotated, shifted or rescaled.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If the class means coincide, no class has two samples, or the scatter needed is not there.
        UsageError: If `scatter` lies in a span of another weighting.

    References:
        Papyan, Han and Donoho (2020), PNAS, doi:10.1073/pnas.2015509117.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 2.0], [-1.0, 0.0], [-1.0, 2.0]])
        >>> statistics = ClassStatistics.from_samples(features, torch.tensor([0, 0, 1, 1]), classes=2)
        >>> within_class_variability(statistics)  # the noise is orthogonal to the means
        0.0
    """
    return variability(statistics, scatter, weighting=weighting, divide_by_k=divide_by_k, unbiased=unbiased).value


def variability(
    statistics: ClassStatistics,
    scatter: SpanScatter | None = None,
    *,
    weighting: Weighting = "pooled",
    divide_by_k: bool = False,
    unbiased: bool = False,
    independent: float = 1.0,
) -> Variability:
    """NC1 as `within_class_variability` defines it, with its rank, cut-off, condition, noise share and class shares.

    Args:
        statistics: As of `within_class_variability`, like the other arguments.
        scatter: The two-pass scatter in the span of the means.
        weighting: How classes count.
        divide_by_k: Divide by the number of classes.
        unbiased: Divide class covariances by one sample less.
        independent: Independent samples per sample, for the noise share: below 1 where some are copies of others.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If the class means coincide, no class has two samples, or the scatter needed is not there.
        UsageError: If `scatter` lies in a span of another weighting.

    Example:
        >>> features = torch.tensor([[0.0], [2.0], [4.0], [6.0]])  # means 1 and 5: Sigma_B = 4, Sigma_W = 1
        >>> found = variability(ClassStatistics.from_samples(features, torch.tensor([0, 0, 1, 1]), classes=2))
        >>> round(found.value, 12), found.rank
        (0.25, 1)
    """
    span = scatter.span if scatter is not None else between_span(statistics, weighting=weighting)
    if span.size_weighted != (weighting == "size_weighted"):
        raise UsageError(
            f'The scatter lies in a span of another weighting. Use `between_span(…, weighting="{weighting}")`.'
        )
    _require_spread(statistics, span)
    require_scatter(statistics, weighting=weighting, unbiased=unbiased)
    counts = statistics.counts.double()
    within = _within(statistics, scatter, span, weighting)
    if weighting == "class_balanced":
        weights = (1 / (counts - int(unbiased)) / statistics.classes).unsqueeze(1)
    else:
        weights = 1 / (counts.sum() - statistics.classes * unbiased)
    parts = within * weights / span.eigenvalues
    value = float(parts.sum())
    per_sample = independent * statistics.classes / float((1 / counts).sum())
    q = (within * weights).sum(dim=0)
    noisy = span.eigenvalues < 2 * q / per_sample
    share = parts.sum(dim=1) / value if value > 0 else torch.zeros(len(parts))
    return Variability(
        value=value / statistics.classes if divide_by_k else value,
        class_share=tuple(share.tolist()) if len(share) == statistics.classes else (),
        rank=span.rank,
        cutoff=span.cutoff,
        condition=span.condition,
        noise_share=float(parts[:, noisy].sum()) / value if value > 0 else 0.0,
        weighting=weighting,
        divide_by_k=divide_by_k,
        unbiased=unbiased,
        min_per_class=int(statistics.counts.min()),
        max_per_class=int(statistics.counts.max()),
    )


def _require_spread(statistics: ClassStatistics, span: BetweenSpan) -> None:
    if span.rank == 0:
        raise InputError(
            "The class means coincide up to rounding, so NC1 has no value. The features may be constant: look at an earlier layer."
        )


def require_scatter(statistics: ClassStatistics, *, weighting: Weighting = "pooled", unbiased: bool = False) -> None:
    """Refuses statistics that know nothing about the scatter within classes: it would be reported as 0, full collapse.

    Raises:
        InputError: If no class has two samples, or one has not where every class counts by ``n - 1``.
    """
    if statistics.samples == statistics.classes:
        raise InputError(
            "Every class has a single sample, so there is no within-class scatter. Pass at least two of some class."
        )
    if unbiased and weighting == "class_balanced" and int(statistics.counts.min()) < 2:
        raise InputError(
            "The unbiased class-balanced scatter needs two samples of every class. Use unbiased=False, or drop those classes."
        )


def _within(
    statistics: ClassStatistics, scatter: SpanScatter | None, span: BetweenSpan, weighting: Weighting
) -> Float[Tensor, "g r"]:
    """Sums of squared deviations in each direction of the span, by class where they are known by class."""
    if scatter is not None:
        return scatter.projected
    if statistics.scatter is None:
        raise InputError(
            'These statistics hold no scatter. Accumulate them with scatter="pooled", or pass `scatter=span_scatter(…)`.'
        )
    if weighting == "class_balanced" and len(statistics.scatter) != statistics.classes:
        raise InputError('The class-balanced NC1 needs scatter="per_class" statistics, or `scatter=span_scatter(…)`.')
    return torch.einsum("gij,ir,jr->gr", statistics.scatter, span.basis, span.basis).clamp(min=0)


def heldout_variability(
    pairs: Sequence[tuple[ClassStatistics, SpanScatter]], *, weighting: Weighting = "pooled"
) -> float:
    r"""Cross-fitted NC1: class means and their span from one part of the data, variability around them from another.

    $$\mathrm{mean\ over\ parts\ } \sum_j \overline{(u_j^\top (h - \mu_{y}))^2} / \lambda_j$$

    with $\mu, u_j, \lambda_j$ of one part and the mean over the samples of the other (over its classes, if
    ``"class_balanced"``). Unlike NC1 it does not fall just because few samples are fitted by their own means.

    Args:
        pairs: For each part, its statistics and the scatter of the *other* samples in its span.
        weighting: As the spans have it.

    Returns:
        A dimensionless value >= 0, 0 at exact collapse.

    Raises:
        EmptyClassError: If a part lacks a class (it needs two samples of each).

    Example:
        >>> labels, other = torch.tensor([0, 1]), torch.tensor([[2.0], [-2.0]])
        >>> means = ClassStatistics.from_samples(torch.tensor([[1.0], [-1.0]]), labels, classes=2)
        >>> scatter = SpanScatter.empty(means, between_span(means))  # Sigma_B = 1
        >>> _ = scatter.update(other, labels)  # every held-out sample is 1 off
        >>> round(heldout_variability([(means, scatter)]), 12)
        1.0
    """
    values: list[float] = []
    for statistics, scatter in pairs:
        statistics.require_classes()
        _require_spread(statistics, scatter.span)
        if int(scatter.counts.min()) == 0:
            raise EmptyClassError("The held-out NC1 needs two samples of every class.")
        if weighting == "class_balanced":
            mean = (scatter.projected / scatter.counts.unsqueeze(1)).mean(dim=0)
        else:
            mean = scatter.projected.sum(dim=0) / scatter.counts.sum()
        values.append(float((mean / scatter.span.eigenvalues).sum()))
    return sum(values) / len(values)


@dataclass(frozen=True)
class Separation:
    """``D = trace(Sigma_W) / trace(Sigma_B)``, with both traces."""

    value: float
    within: float
    between: float


def separation(statistics: ClassStatistics, *, weighting: Weighting = "pooled", unbiased: bool = False) -> Separation:
    r"""Separation D: total within-class variance over the variance of the class means.

    $$D = \operatorname{tr}\Sigma_W / \operatorname{tr}\Sigma_B$$

    with the matrices of `within_class_variability`. Needs no scatter matrix: one pass, ``O(K d)`` memory.

    Args:
        statistics: Moments of K >= 2 classes.
        weighting: How classes count, as in `within_class_variability`.
        unbiased: Divide class covariances by one sample less.

    Returns:
        A dimensionless value >= 0; 0 is full collapse. Unchanged when features are rotated, shifted or rescaled.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If the class means coincide, or no class has two samples.

    References:
        He and Su (2022), arXiv 2210.17020 (the law of data separation uses NC1 in place of D);
        Wang et al. (2023), arXiv 2311.02960.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 2.0], [-1.0, 0.0], [-1.0, 2.0]])
        >>> statistics = ClassStatistics.from_samples(features, torch.tensor([0, 0, 1, 1]), classes=2)
        >>> separation(statistics).value
        1.0
    """
    statistics.require_classes()
    require_scatter(statistics, weighting=weighting, unbiased=unbiased)
    counts = statistics.counts.double()
    if weighting == "class_balanced":
        within = float((statistics.squares / (counts - int(unbiased))).mean())
    else:
        within = float(statistics.squares.sum() / (counts.sum() - statistics.classes * unbiased))
    share = class_shares(statistics, weighting)
    between = float(share @ centred_means(statistics, share)[1].square().sum(dim=1))
    if between <= means_rounding(statistics) ** 2:
        raise InputError("The class means coincide, so the separation has no value. The features may be constant.")
    return Separation(within / between, within, between)
