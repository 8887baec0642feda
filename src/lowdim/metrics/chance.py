"""The value NC1 takes when labels mean nothing: without it a bare NC1 cannot be read."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lowdim.errors import InputError
from lowdim.statistics import Weighting, centred_rows, class_sums


def chance_variability(
    features: Float[Tensor, "m d"],
    labels: Int[Tensor, " m"],
    *,
    samples: float | None = None,
    weighting: Weighting = "pooled",
    unbiased: bool = False,
    permutations: int = 20,
    generator: torch.Generator,
) -> float:
    r"""NC1 under random permutations of the labels: the median over them.

    Everything follows from the m x m Gram matrix of the centred features, which is formed once. Where the features are a
    subsample, the value is carried over to the full size: under permutation the class means spread as $T / n_k$ ($T$ the
    total covariance), so the unbiased NC1 grows in proportion to the samples per class.

    Args:
        features: All samples, or a stratified subsample.
        labels: Their classes, 0 … K - 1; classes without a sample are ignored.
        samples: Number of independent samples that the value is for; default the given ones.
        weighting: As of the NC1 that stands beside it.
        unbiased: The same.
        permutations: At least 1; 20 give the median to a few percent.
        generator: Draws the permutations.

    Returns:
        A dimensionless value > 0, comparable with the NC1 of `samples` samples.

    Raises:
        InputError: If there are fewer than two classes, no more samples than classes, or constant features.

    Cost: ``O(m^2 (d + permutations))``.

    Example:
        >>> features = torch.tensor([[1.0], [-1.0]]).repeat(20, 1)  # two classes, each on one point: NC1 is 0
        >>> chance_variability(features, torch.tensor([0, 1]).repeat(20), generator=torch.Generator().manual_seed(0)) > 10
        True
    """
    present, labels = torch.unique(labels.cpu(), return_inverse=True)
    classes, count = len(present), len(labels)
    if classes < 2 or count <= classes:
        raise InputError(
            f"The chance level of NC1 needs more samples than classes and two classes, not {count} and {classes}."
        )
    rows = centred_rows(features).cpu()
    if not bool(rows.any()):
        raise InputError("All samples have the same features, so NC1 has no chance level.")
    gram = rows @ rows.T
    counts = torch.bincount(labels).double()
    share = counts / count if weighting == "size_weighted" else torch.full_like(counts, 1 / classes)
    values = [
        _variability_from_gram(gram, labels[torch.randperm(count, generator=generator)], share)
        for _ in range(permutations)
    ]
    scale = (count if samples is None else samples) / count
    value = float(torch.tensor(values, dtype=torch.float64).median()) * count / (count - classes) * scale
    if unbiased:
        return value
    # Around its own mean a class of n_k samples keeps (n_k - 1) / n_k of the total covariance.
    lost = float((1 / counts).mean()) if weighting == "class_balanced" else classes / count
    return value * (1 - lost / scale)


def _variability_from_gram(gram: Float[Tensor, "m m"], labels: Int[Tensor, " m"], share: Float[Tensor, " K"]) -> float:
    """Pooled scatter over the spread of the class means, from the inner products of the samples."""
    classes = len(share)
    counts = torch.bincount(labels, minlength=classes).double()
    # Column k: inner products of every sample with the mean of class k.
    to_means = class_sums(gram, labels, classes).T / counts
    means = class_sums(to_means.contiguous(), labels, classes) / counts.unsqueeze(1)
    # Row k: coefficients of sqrt(share_k) (mu_k - mu_G) in the class means.
    centring = share.sqrt().unsqueeze(1) * (torch.eye(classes, dtype=gram.dtype) - share)
    eigenvalues, vectors = torch.linalg.eigh(centring @ ((means + means.T) / 2) @ centring.T)
    keep = eigenvalues > len(labels) * torch.finfo(gram.dtype).eps * eigenvalues[-1]
    keep[0] = False
    eigenvalues, vectors = eigenvalues[keep], vectors[:, keep]
    projected = (to_means - means[labels]) @ (centring.T @ vectors)
    return float((projected.square().mean(dim=0) / eigenvalues.square()).sum())
