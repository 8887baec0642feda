"""Updates in low rank: what most of a delta's bytes are, stored in fewer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lowdim.finetuning._tuned import TunedModel

ENERGY = 0.99
"""Share of an update's squared norm that its low-rank form keeps."""


def low_rank(change: Tensor, energy: float = ENERGY) -> tuple[Tensor, Tensor] | None:
    """Two factors, ``m x r`` and ``r x n`` with the smallest r such that their product holds this share of the squared Frobenius
    norm of an ``m x n`` matrix; None where they are not smaller than the matrix.

    Example:
        >>> left, right = low_rank(torch.outer(torch.ones(4), torch.arange(5.0)))
        >>> left.shape, right.shape
        (torch.Size([4, 1]), torch.Size([1, 5]))
    """
    u, values, v = torch.linalg.svd(change.double(), full_matrices=False)
    energies = torch.cumsum(values.square(), 0)
    total = float(energies[-1])
    if total == 0:
        return None
    rank = int((energies < energy * total).sum()) + 1
    if rank * sum(change.shape) >= change.numel():
        return None
    return (u[:, :rank] * values[:rank]).to(change.dtype), v[:rank].to(change.dtype)


def compress(part: TunedModel, base: nn.Module, energy: float = ENERGY) -> dict[str, Tensor]:
    """Replaces the updates of a tuned network by their low-rank forms, in place; gives the factors by parameter name, ending in
    ``@left`` and ``@right``."""
    original: Mapping[str, Tensor] = {f"base.{name}": tensor for name, tensor in base.state_dict().items()}
    factors: dict[str, Tensor] = {}
    for name, parameter in part.trained().items():
        if parameter.ndim < 2 or name not in original:
            continue
        before = original[name].to(parameter.device)
        pair = low_rank((parameter.detach() - before).flatten(1), energy)
        if pair is None:
            continue
        factors[f"{name}@left"], factors[f"{name}@right"] = pair
        with torch.no_grad():
            parameter.copy_(expanded(before, *pair))
    return factors


def expanded(before: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The matrix before tuning plus the product of its update's factors."""
    return before + (left @ right).reshape(before.shape)


def with_expanded(tensors: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a delta with low-rank updates multiplied out and added to the tuned network's state before it is applied."""
    result: dict[str, Tensor] = {}
    for name, array in tensors.items():
        stem, mark, side = name.partition("@")
        if not mark:
            result[name] = torch.from_numpy(array)
        elif side == "left" and stem in state and f"{stem}@right" in tensors:
            before = state[stem]
            left, right = (torch.from_numpy(tensors[f"{stem}@{end}"]).to(before.device) for end in ("left", "right"))
            result[stem] = expanded(before, left, right)
    return result
