"""Accuracy of the nearest class mean."""

from torch import Tensor

from lowdim.metrics import nearest_mean
from lowdim.ranking.scores._kind import SampleMean, ScoreKind, Sums
from lowdim.statistics import between_span


def _measure(sums: Sums) -> SampleMean:
    span = between_span(sums.statistics)

    def right(rows: Tensor, labels: Tensor, outputs: Tensor | None) -> Tensor:
        distances = nearest_mean((rows - span.centre) @ span.basis, span.coordinates)
        return (distances.argmin(dim=1) == labels).double()

    return SampleMean(right)


NCC_ACCURACY = ScoreKind(
    "ncc_accuracy",
    1,
    "NCC accuracy",
    "Share of samples nearest to the mean of their own class.",
    _measure,
    trials=lambda evaluation: evaluation.samples,
)
