"""How probable the right classes are under a discriminant that has not seen the sample."""

import torch
from torch import Tensor

from lowdim.errors import InputError
from lowdim.metrics.collapse import require_scatter
from lowdim.ranking.scores._kind import Influence, pooled_scatter
from lowdim.ranking.scores.shrinkage import inverse_root, shrinkage
from lowdim.statistics import ClassStatistics


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
    statistics.require_classes()
    require_scatter(statistics)
    samples, counts = statistics.samples, statistics.counts.double()
    scatter = pooled_scatter(statistics)
    alpha = shrinkage(scatter / samples, samples)
    variance = float(scatter.diagonal().mean()) / samples
    if variance == 0:
        raise InputError("The features do not vary within the classes, so the discriminant has no covariance.")
    identity = torch.eye(statistics.width, dtype=torch.float64)
    scale = (1 - alpha) / (samples - 1)
    whitening = inverse_root(scale * scatter + alpha * variance * identity)
    centre = statistics.means.mean(dim=0)
    white = (statistics.means - centre) @ whitening

    def log_probability(rows: Tensor, labels: Tensor) -> Tensor:
        label = labels.unsqueeze(1)
        size = counts[labels]
        seen = (rows - centre) @ whitening
        deviation = seen - white[labels]
        leverage = deviation.square().sum(dim=1)
        squared = (seen.square().sum(dim=1, keepdim=True) - 2 * seen @ white.T + white.square().sum(dim=1)).clamp(min=0)
        across = (seen * deviation).sum(dim=1, keepdim=True) - deviation @ white.T
        # Without the sample its own class mean is farther away by this factor.
        away = size / (size - 1)
        squared = squared.scatter(1, label, (leverage * away.square()).unsqueeze(1))
        across = across.scatter(1, label, (leverage * away).unsqueeze(1))
        weight = scale * away
        squared = squared + (weight / (1 - weight * leverage)).unsqueeze(1) * across.square()
        frequency = counts.expand(len(rows), -1).scatter(1, label, (size - 1).unsqueeze(1))
        logits = frequency.log() - squared / 2
        result = torch.log_softmax(logits, dim=1).gather(1, label).squeeze(1)
        return torch.where(size > 1, result, torch.nan)

    return log_probability
