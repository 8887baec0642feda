"""How many directions the features spread over."""

import torch
from jaxtyping import Float
from torch import Tensor

from lowdim._linalg import effective_rank
from lowdim.errors import InputError
from lowdim.statistics import centred_rows


def features_rank(features: Float[Tensor, "n d"]) -> float:
    """Effective rank of the centred features: the exponential of the entropy of their singular values.

    Args:
        features: At least two samples.

    Returns:
        Between 1 and ``min(n - 1, d)``; 0 for constant features. Unchanged by rotation, shift and scale.

    Raises:
        InputError: If there are fewer than two samples.

    References:
        Roy and Vetterli (2007), "The effective rank", EUSIPCO.

    Example:
        >>> round(features_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 12)
        2.0
    """
    if len(features) < 2:
        raise InputError("The effective rank needs at least two samples.")
    rows = centred_rows(features)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = torch.linalg.eigvalsh(gram)
    rounding = len(gram) * torch.finfo(gram.dtype).eps * float(values[-1])
    return effective_rank(values[values > rounding].sqrt().numpy())
