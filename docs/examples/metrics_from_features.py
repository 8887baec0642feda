"""Collapse metrics of features that you have already, batch by batch, in memory that does not grow with the samples."""

import torch

from lowdim.metrics import cdnv, separation, simplex_distance, variability
from lowdim.statistics import ClassStatistics, SpanScatter, between_span

CLASSES, WIDTH, BATCHES = 10, 512, 20
generator = torch.Generator().manual_seed(0)
means = 3 * torch.linalg.qr(torch.randn(WIDTH, CLASSES, generator=generator))[0].T


def batches():
    """Stands for your data loader and network: noise of deviation 0.5 around orthogonal class means of norm 3."""
    again = torch.Generator().manual_seed(1)
    for _ in range(BATCHES):
        labels = torch.randint(CLASSES, (256,), generator=again)
        yield means[labels] + 0.5 * torch.randn(256, WIDTH, generator=again), labels


# First pass: class means and traces. No d x d matrix; statistics of several machines merge with `merge`.
statistics = ClassStatistics.empty(CLASSES, WIDTH, scatter="none")
for features, labels in batches():
    statistics.update(features, labels)

# Second pass: the within-class scatter inside the span of the class means, all that NC1 needs.
scatter = SpanScatter.empty(statistics, between_span(statistics))
for features, labels in batches():
    scatter.update(features, labels)

nc1 = variability(statistics, scatter)
print(f"NC1 {nc1.value:.3f} over {nc1.rank} directions, noise share {nc1.noise_share:.2f}")
print(f"by theory in the population: {(CLASSES - 1) * CLASSES * 0.5**2 / 9:.3f}")
print(f"D {separation(statistics).value:.2f}, mean CDNV {cdnv(statistics).sum() / (CLASSES * (CLASSES - 1)):.2f}")
print(f"distance from a simplex frame (NC2) {simplex_distance(statistics).etf_distance:.3f}")
