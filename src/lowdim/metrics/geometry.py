"""The geometry of class means: simplex frame, self-duality, distances between classes."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lowdim.errors import InputError
from lowdim.metrics.collapse import require_scatter
from lowdim.statistics import ClassStatistics, centred_means, class_shares, means_rounding


@dataclass(frozen=True)
class SimplexDistance:
    """NC2: how far the centred class means are from a simplex equiangular tight frame; all are 0 on it.

    Attributes:
        equinorm: Standard deviation over mean of the norms.
        equiangularity: Mean over pairs of ``|cos + 1 / (K - 1)|``.
        etf_distance: Frobenius distance of the Gram matrices, each scaled to norm 1; at most ``sqrt(2)``.
        cosine_excess: Largest cosine between two means, less the smallest possible in d dimensions: ``-1 / (K - 1)`` for
            ``K <= d + 1``, 0 for ``d + 2 <= K <= 2 d``, where the simplex does not fit; None for more classes.
    """

    equinorm: float
    equiangularity: float
    etf_distance: float
    cosine_excess: float | None


def _centred(statistics: ClassStatistics) -> Float[Tensor, "K d"]:
    statistics.require_classes()
    _, centred = centred_means(statistics, class_shares(statistics, "pooled"))
    if float(torch.linalg.vector_norm(centred, dim=1).max()) <= means_rounding(statistics):
        raise InputError("The class means coincide, so they have no geometry. The features may be constant.")
    return centred


def simplex_distance(statistics: ClassStatistics) -> SimplexDistance:
    r"""NC2: distance of the centred class means from a simplex equiangular tight frame.

    With $m_k = \mu_k - \mu_G$ and $G_{kl} = m_k^\top m_l$: the relative spread of the norms, the mean deviation of the
    cosines from $-1/(K-1)$, and $\|G/\|G\|_F - G_{etf}/\|G_{etf}\|_F\|_F$ with $G_{etf} = I - \mathbf{1}\mathbf{1}^\top/K$; and the
    largest cosine less the smallest that K vectors in d dimensions can have as their largest.

    Args:
        statistics: Of K >= 2 classes; means alone are enough.

    Returns:
        Four dimensionless distances >= 0, 0 on the frame; unchanged when the features are rotated, shifted or rescaled.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If a centred class mean is zero, so that it has no direction.

    References:
        Papyan, Han and Donoho (2020), PNAS, doi:10.1073/pnas.2015509117; for d + 2 <= K <= 2 d Alcala et al. (2026),
        arXiv:2603.20587.

    Example:
        >>> frame = torch.eye(3).repeat(2, 1)
        >>> distance = simplex_distance(ClassStatistics.from_samples(frame, torch.arange(3).repeat(2), classes=3))
        >>> round(distance.equinorm, 12), round(distance.equiangularity, 12), round(distance.etf_distance, 12)
        (0.0, 0.0, 0.0)
        >>> square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # four classes in the plane
        >>> distance = simplex_distance(ClassStatistics.from_samples(square, torch.arange(4), classes=4))
        >>> round(distance.equiangularity, 3), round(distance.cosine_excess, 12)
        (0.444, 0.0)
    """
    centred = _centred(statistics)
    classes = statistics.classes
    norms = torch.linalg.vector_norm(centred, dim=1)
    if not bool((norms > 0).all()):
        raise InputError(
            "A class mean lies exactly at the mean of all means, so its angle is undefined. Merge or drop that class."
        )
    gram = centred @ centred.T
    cosines = gram / torch.outer(norms, norms)
    off = ~torch.eye(classes, dtype=torch.bool, device=gram.device)
    frame = torch.eye(classes, dtype=gram.dtype, device=gram.device) - 1 / classes
    difference = gram / torch.linalg.matrix_norm(gram) - frame / torch.linalg.matrix_norm(frame)
    return SimplexDistance(
        equinorm=float(norms.std(correction=0) / norms.mean()),
        equiangularity=float((cosines + 1 / (classes - 1))[off].abs().mean()),
        etf_distance=float(torch.linalg.matrix_norm(difference)),
        cosine_excess=_cosine_excess(float(cosines[off].max()), classes, statistics.width),
    )


def _cosine_excess(largest: float, classes: int, width: int) -> float | None:
    """The largest cosine less the smallest possible one, where that has a closed form."""
    if classes > 2 * width:
        return None
    return largest - (-1 / (classes - 1) if classes <= width + 1 else 0.0)


def self_duality(statistics: ClassStatistics, weight: Float[Tensor, "K d"]) -> float:
    r"""NC3: distance between classifier rows and centred class means, $\|W/\|W\|_F - M/\|M\|_F\|_F$.

    Args:
        statistics: Of the features that the classifier sees.
        weight: Rows of the classifier, in the order of the classes.

    Returns:
        Between 0 (self-dual) and 2.

    Raises:
        InputError: If the shapes differ, or one of the two is zero.

    References:
        Papyan, Han and Donoho (2020), PNAS, doi:10.1073/pnas.2015509117.

    Example:
        >>> means = ClassStatistics.from_samples(torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1]), classes=2)
        >>> for weight in ([[5.0], [-5.0]], [[-1.0], [1.0]]):  # along the means, and against them
        ...     print(round(self_duality(means, torch.tensor(weight)), 12))
        0.0
        2.0
    """
    centred = _centred(statistics)
    if weight.shape != centred.shape:
        raise InputError(f"The classifier is {tuple(weight.shape)}, but the class means are {tuple(centred.shape)}.")
    weight = weight.to(centred.device, torch.float64)
    if not bool((weight != 0).any()):
        raise InputError("The classifier's weights are all zero, so self-duality has no value.")
    return float(
        torch.linalg.matrix_norm(
            weight / torch.linalg.matrix_norm(weight) - centred / torch.linalg.matrix_norm(centred)
        )
    )


# Pairwise distances by direct differences keep close means exact; above this many products a Gram matrix takes over.
_DIRECT = 4e9


def class_distances(statistics: ClassStatistics) -> Float[Tensor, "K K"]:
    """Euclidean distances between the class means.

    Args:
        statistics: Of K >= 2 classes; means alone are enough.

    Returns:
        ``K x K``, in the unit of the features, symmetric, zero on the diagonal.

    Raises:
        EmptyClassError: If a class has no sample.

    Example:
        >>> corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
        >>> class_distances(ClassStatistics.from_samples(corners, torch.arange(3), classes=3)).tolist()
        [[0.0, 3.0, 4.0], [3.0, 0.0, 5.0], [4.0, 5.0, 0.0]]
    """
    statistics.require_classes()
    direct = statistics.classes**2 * statistics.width <= _DIRECT
    mode = "donot_use_mm_for_euclid_dist" if direct else "use_mm_for_euclid_dist"
    return torch.cdist(statistics.means, statistics.means, compute_mode=mode)


def cdnv(statistics: ClassStatistics) -> Float[Tensor, "K K"]:
    r"""Class-distance normalised variance of each pair: $(v_i + v_j) / (2 \|\mu_i - \mu_j\|^2)$.

    $v_k$ is the mean squared distance of the samples of class k to their mean. The mean over pairs (off the diagonal) is
    the usual single number.

    Args:
        statistics: Of K >= 2 classes; no scatter matrix is needed.

    Returns:
        ``K x K``, >= 0, symmetric, zero on the diagonal; infinite where two means coincide.

    Raises:
        EmptyClassError: If a class has no sample.
        InputError: If no class has two samples.

    References:
        Galanti, György and Hutter (2022), ICLR, arXiv 2112.15121.

    Example:
        >>> features = torch.tensor([[0.0], [2.0], [4.0], [6.0]])
        >>> cdnv(ClassStatistics.from_samples(features, torch.tensor([0, 0, 1, 1]), classes=2))[0, 1].item()
        0.0625
    """
    distances = class_distances(statistics)
    require_scatter(statistics)
    variance = statistics.squares / statistics.counts
    pairs = (variance.unsqueeze(0) + variance.unsqueeze(1)) / (2 * distances.square())
    return pairs.fill_diagonal_(0)


def discrimination(statistics: ClassStatistics) -> float:
    """``1 -`` the largest cosine between two class means (not centred): between 0 and 2, higher is better.

    Args:
        statistics: Of K >= 2 classes; means alone are enough.

    Raises:
        InputError: If a class mean is zero.

    References:
        Wang et al. (2025), JMLR 26(220), arXiv 2311.02960.

    Example:
        >>> discrimination(ClassStatistics.from_samples(torch.eye(3), torch.arange(3), classes=3))  # right angles
        1.0
    """
    statistics.require_classes()
    norms = torch.linalg.vector_norm(statistics.means, dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        raise InputError("A class mean is exactly zero, so its angle to the others is undefined.")
    directions = statistics.means / norms
    cosines = directions @ directions.T
    return 1 - float(cosines.fill_diagonal_(-1).max())


def nearest_mean(coordinates: Float[Tensor, "n r"], means: Float[Tensor, "K r"]) -> Float[Tensor, "n K"]:
    """Squared distances from samples to class means, both in the same coordinates, up to a constant of each sample.

    Args:
        coordinates: Of the samples.
        means: Of the classes.

    Returns:
        ``‖mean‖² - 2 sample · mean``: the smallest of a row is the nearest class.

    Example:
        >>> nearest_mean(torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [4.0]])).argmin(dim=1).tolist()
        [0, 1]
    """
    return means.square().sum(dim=1) - 2 * coordinates @ means.T
