"""Collapse where targets are numbers: are the features as low-dimensional as the outputs, and do those dimensions hold them?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lowdim.errors import InputError, NonFiniteError


@dataclass(frozen=True)
class RegressionCollapse:
    """How far features are from filling exactly as many directions as there are outputs; 0 is full collapse.

    Attributes:
        outside: Share of the features' variance beyond the m leading principal directions, m the rank of the targets.
        unexplained: Share of the targets' variance that is not linear in those m directions, each sample predicted from the others.
        outside_rows: Share of the features' variance orthogonal to the rows of the last layer; None without it.
        rank: m.
    """

    outside: float
    unexplained: float
    outside_rows: float | None
    rank: int


def regression_collapse(
    features: Float[Tensor, "n d"], targets: Float[Tensor, "N m"], weight: Float[Tensor, "k D"] | None = None
) -> RegressionCollapse:
    r"""Collapse of features under continuous targets.

    With $H$ the centred features (rows are samples, singular values $s_j$), $m$ the rank of the centred targets and $P$ the projector on
    the rows of the last layer: $\sum_{j > m} s_j^2 / \sum_j s_j^2$; the leave-one-out error of least squares from the $m$ leading
    principal coordinates and a constant, over the variance of the targets; and $\lVert H (I - P)\rVert_F^2 / \lVert H\rVert_F^2$.

    Args:
        features: Of the layer before the last, in any precision; sums are taken in float64.
        targets: What is to be predicted, one column per output.
        weight: The last layer.

    Returns:
        Dimensionless shares, lower is more collapsed; the first and the last lie in [0, 1], the second can pass 1 by chance. Unchanged when
        the features are rotated (with the weight), shifted or rescaled. Cost: one singular value decomposition of the features.

    Raises:
        InputError: If the shapes differ, the features or targets are constant, or there are at most m + 1 samples.
        NonFiniteError: If a value is NaN or infinite.

    References:
        Andriopoulos et al. (2024), arXiv:2409.04180; Rangamani and Unal (2026), arXiv:2603.23805.

    Example:
        >>> hidden = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
        >>> found = regression_collapse(hidden, 3 * hidden[:, :1] + 1, weight=torch.tensor([[2.0, 0.0]]))
        >>> [found.rank, *(round(share, 12) for share in (found.outside, found.unexplained, found.outside_rows))]
        [1, 0.0, 0.0, 0.0]
    """
    if len(features) != len(targets) or (weight is not None and weight.shape[1] != features.shape[1]):
        raise InputError(
            f"{len(features)} features and {len(targets)} targets"
            + (f", a last layer for {weight.shape[1]} of {features.shape[1]} dimensions" if weight is not None else "")
            + ": samples and dimensions must agree."
        )
    for name, values in (("features", features), ("targets", targets)):
        if not bool(torch.isfinite(values).all()):
            raise NonFiniteError(f"The {name} contain NaN or infinite values. Drop those samples first.")
    centred, outputs = _centred(features, "features"), _centred(targets, "targets")
    rank = int(torch.linalg.matrix_rank(outputs))
    if len(centred) <= rank + 1:
        raise InputError(f"{len(centred)} samples are too few for targets of rank {rank}: pass at least {rank + 2}.")
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    squares = values.square()
    basis = left[:, :rank]
    leverage = basis.square().sum(dim=1) + 1 / len(centred)
    left_out = (outputs - basis @ (basis.T @ outputs)) / (1 - leverage).clamp(min=1e-12).unsqueeze(1)
    inside = None
    if weight is not None:
        _, sizes, rows = torch.linalg.svd(weight.to(centred), full_matrices=False)
        kept = sizes > sizes[0] * max(weight.shape) * torch.finfo(weight.dtype).eps
        inside = float((centred @ rows[kept].T).square().sum() / squares.sum())
    return RegressionCollapse(
        outside=float(squares[rank:].sum() / squares.sum()),
        unexplained=float(left_out.square().sum() / outputs.square().sum()),
        outside_rows=None if inside is None else max(0.0, 1 - inside),
        rank=rank,
    )


def root_law(weight: Float[Tensor, "k d"], targets: Float[Tensor, "n m"]) -> float:
    r"""How far the last layer is from the law of collapsed regression: $W W^\top$ a soft threshold of the targets' root covariance.

    $$\min_{\tau \ge 0} \left\lVert \frac{W W^\top}{\lVert W W^\top\rVert_F}
    - \frac{(\Sigma^{1/2} - \tau I)_+}{\lVert(\Sigma^{1/2} - \tau I)_+\rVert_F} \right\rVert_F$$

    The paper squares it and writes $\Sigma^{1/2} - \tau I$ with $\tau$ up to the smallest eigenvalue, where both are the same; beyond,
    the features lose directions and the threshold is the law.

    Args:
        weight: The last layer.
        targets: In the units in which the layer gives them.

    Returns:
        Between 0 and $\sqrt 2$, lower is more collapsed; unchanged when features are rotated (with the weight), or weight or targets
        rescaled.

    Raises:
        InputError: If the layer has another number of outputs than the targets, or either is constant.

    References:
        Andriopoulos et al. (2024), arXiv:2409.04180, NRC3.

    Example:
        >>> values = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -3.0]])  # root covariance in the ratio of 1 to 3
        >>> round(root_law(torch.diag(torch.tensor([0.0, 3.0]).sqrt()), values), 6), round(root_law(torch.eye(2), values), 2)
        (0.0, 0.46)
    """
    if weight.shape[0] != targets.shape[1]:
        raise InputError(f"the last layer has {weight.shape[0]} outputs, but there are {targets.shape[1]} targets.")
    outputs, double = _centred(targets, "targets"), weight.double()
    gram = double @ double.T
    if not bool(gram.norm() > 0):
        raise InputError("The last layer is zero, so it follows no law.")
    eigenvalues, axes = torch.linalg.eigh(outputs.T @ outputs / len(outputs))
    roots = eigenvalues.clamp(min=0).sqrt()
    gram = gram / gram.norm()
    inner = axes.T @ gram @ axes
    # Between two eigenvalues the cosine with the law is (a - b tau) / sqrt(c - 2 d tau + e tau^2), largest at a closed form.
    best, distance = -1.0, 2.0**0.5
    for kept in range(len(roots)):
        upper, lower = roots[kept:], float(roots[kept - 1]) if kept else 0.0
        diagonal = inner.diagonal()[kept:]
        a, b, c, d, e = (
            float(diagonal @ upper),
            float(diagonal.sum()),
            float(upper @ upper),
            float(upper.sum()),
            len(upper),
        )
        flat = b * d - a * e
        candidates = [lower, *([(b * c - a * d) / flat] if flat else [])]
        for tau in candidates:
            if lower <= tau < float(upper[0]):
                cosine = (a - b * tau) / (c - 2 * d * tau + e * tau * tau) ** 0.5
                if cosine > best:
                    law = torch.diag((roots - tau).clamp(min=0))
                    best, distance = cosine, float((inner - law / law.norm()).norm())
    return distance


def _centred(values: Float[Tensor, "n d"], name: str) -> Float[Tensor, "n d"]:
    """In float64, minus the mean."""
    double = values.double()
    centred = double - double.mean(dim=0)
    rounding = len(values) * torch.finfo(values.dtype).eps * float(double.abs().max())
    if float(centred.abs().max()) <= rounding:
        raise InputError(f"The {name} are constant, so collapse has no value.")
    return centred
