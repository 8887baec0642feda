"""NC1 and held-out NC1, with how each sample moves them."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lowdim.errors import EmptyClassError
from lowdim.metrics import heldout_variability, within_class_variability
from lowdim.ranking.scores._kind import Score, pooled_scatter
from lowdim.statistics import BetweenSpan, ClassStatistics, SpanScatter, between_span


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
    value = within_class_variability(statistics)
    root, by_class = _moved_trace(pooled_scatter(statistics) / statistics.samples, between_span(statistics), statistics)

    def influence(rows: Tensor, labels: Tensor) -> Tensor:
        deviation = rows - statistics.means[labels]
        direct = (deviation @ root).square().sum(dim=1) / statistics.samples
        return direct + (deviation * by_class[labels]).sum(dim=1) / statistics.counts[labels]

    return Score(value, influence)


def heldout_class_variability(first: ClassStatistics, second: ClassStatistics) -> Score:
    r"""Cross-fitted NC1: means and basis from one half of the data, variability around them from the other, averaged.

    The value of `lowdim.metrics.heldout_variability` on these halves.

    Args:
        first: Of one half, with pooled scatter, no class empty.
        second: Of the other half.

    Raises:
        EmptyClassError: If a class has no sample in one of the halves.

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
    if int(torch.minimum(first.counts, second.counts).min()) == 0:
        raise EmptyClassError("The held-out NC1 needs two different samples of every class.")
    classes = first.classes
    pairs: list[tuple[ClassStatistics, SpanScatter]] = []
    parts: list[Callable[[Tensor, Tensor, int], Tensor]] = []
    for fit, other in ((first, second), (second, first)):
        span = between_span(fit)
        shift = other.means - fit.means
        scatter = pooled_scatter(other) + (shift.T * other.counts) @ shift
        projected = torch.einsum("ij,ir,jr->r", scatter, span.basis, span.basis).unsqueeze(0)
        pairs.append((fit, SpanScatter(span, fit.means, projected, other.counts)))
        root, by_class = _moved_trace(scatter / other.samples, span, fit)
        # Moving a mean of the fitted half also moves the distances of the other half's samples to it.
        pull = 2 * (other.counts / other.samples).unsqueeze(1) * ((shift @ span.basis) / span.eigenvalues)
        parts.append(_half_influence(fit, other, root, by_class - pull @ span.basis.T))

    def influence(rows: Tensor, labels: Tensor) -> Tensor:
        moved = torch.zeros(len(rows), dtype=rows.dtype)
        for half in (0, 1):
            mine = (labels >= classes) == bool(half)
            here = rows[mine], labels[mine] - half * classes
            moved[mine] = 0.5 * (parts[half](*here, 0) + parts[1 - half](*here, 1))
        return moved

    return Score(heldout_variability(pairs), influence)


def _half_influence(
    fit: ClassStatistics, other: ClassStatistics, root: Tensor, by_class: Tensor
) -> Callable[[Tensor, Tensor, int], Tensor]:
    def influence(rows: Tensor, labels: Tensor, role: int) -> Tensor:
        deviation = rows - fit.means[labels]
        if role == 0:  # the sample is in the half that is fitted
            return (deviation * by_class[labels]).sum(dim=1) / fit.counts[labels]
        return (deviation @ root).square().sum(dim=1) / other.samples

    return influence


def _moved_trace(
    scatter: Tensor, span: BetweenSpan, statistics: ClassStatistics
) -> tuple[Float[Tensor, "d r"], Float[Tensor, "K d"]]:
    r"""Of $\operatorname{tr}(S P)$ with $P = \Sigma_B^\dagger$: a root of P, and what moving the class means does to it.

    Moving mean k by v changes $\Sigma_B$ by $(v c_k^\top + c_k v^\top)/K$, hence the trace by
    $\frac2K v^\top \left[-P S P c_k + (I - Q) S P^2 c_k\right]$, where Q projects onto the span.
    """
    moved = scatter @ span.basis
    inner = span.basis.T @ moved
    once, twice = span.coordinates / span.eigenvalues, span.coordinates / span.eigenvalues.square()
    inside = -(once @ inner) / span.eigenvalues
    outside = twice @ moved.T
    by_class = inside @ span.basis.T + outside - (outside @ span.basis) @ span.basis.T
    return span.basis / span.eigenvalues.sqrt(), (2 / statistics.classes) * by_class
