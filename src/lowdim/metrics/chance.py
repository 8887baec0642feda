"""The value NC1 takes when labels mean nothing: without it a bare NC1 cannot be read."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lowdim.errors import InputError
from lowdim.statistics import as_float64, class_sums


def chance_variability(
    features: Float[Tensor, "m d"],
    labels: Int[Tensor, " m"],
    *,
    samples: int | None = None,
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
        samples: Number of samples that the value is for; default the given ones.
        permutations: At least 1; 20 give the median to a few percent.
        generator: Draws the permutations.

    Returns:
        A dimensionless value > 0, comparable with the pooled NC1 of `samples` samples.

    Raises:
        InputError: If there are fewer than two classes, or no more samples than classes.

    Cost: ``O(m^2 (d + permutations))``.
    """
    present, labels = torch.unique(labels.cpu(), return_inverse=True)
    classes, count = len(present), len(labels)
    if classes < 2 or count <= classes:
        raise InputError(
            f"The chance level of NC1 needs more samples than classes and two classes, not {count} and {classes}."
        )
    rows = as_float64(features).cpu()
    rows = rows - rows.mean(dim=0)
    gram = rows @ rows.T
    total = count if samples is None else samples
    values = [
        _variability_from_gram(gram, labels[torch.randperm(count, generator=generator)], classes)
        for _ in range(permutations)
    ]
    unbiased = float(torch.tensor(values, dtype=torch.float64).median()) * count / (count - classes)
    return unbiased * (total / count) * (total - classes) / total


def _variability_from_gram(gram: Float[Tensor, "m m"], labels: Int[Tensor, " m"], classes: int) -> float:
    """Pooled NC1 of the samples whose inner products are given."""
    counts = torch.bincount(labels, minlength=classes).double()
    # Column k: inner products of every sample with the mean of class k.
    to_means = class_sums(gram, labels, classes).T / counts
    means = class_sums(to_means.contiguous(), labels, classes) / counts.unsqueeze(1)
    means = (means + means.T) / 2
    centring = torch.eye(classes, dtype=gram.dtype) - 1 / classes
    eigenvalues, vectors = torch.linalg.eigh(centring @ means @ centring)
    keep = eigenvalues > len(labels) * torch.finfo(gram.dtype).eps * eigenvalues[-1]
    keep[0] = False
    eigenvalues, vectors = eigenvalues[keep], vectors[:, keep]
    # u_j = M^T v_j / s_j with s_j^2 the eigenvalue of M M^T, and lambda_j = s_j^2 / K.
    projected = (to_means - means[labels]) @ (centring @ vectors)
    return float((projected.square().mean(dim=0) / eigenvalues / (eigenvalues / classes)).sum())
