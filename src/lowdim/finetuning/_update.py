"""How low-dimensional an update is: its rank, and its share inside the subspace of the first gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lowdim._linalg import effective_rank, leading_vectors, share_inside
from lowdim.finetuning._evaluate import PER_PASS
from lowdim.finetuning._store import Store
from lowdim.finetuning._tuned import TunedModel


@dataclass(frozen=True)
class Update:
    """The change of one matrix.

    Attributes:
        name: Of the parameter.
        rows, columns: A convolution counts as ``out x (in · height · width)``.
        rank: Singular values that hold 99 % of the squared Frobenius norm.
        effective_rank: Exponential of the entropy of the singular values.
        relative_norm: ``‖W - W_0‖_F / ‖W_0‖_F``.
        share: Squared norm of the update inside the span of the first ``2K`` left and right singular vectors of the gradient
            at the start, over the squared norm of the update; None where that gradient is zero.
        chance: The share of a random update.
    """

    name: str
    rows: int
    columns: int
    rank: int
    effective_rank: float
    relative_norm: float
    share: float | None
    chance: float


def update_of(
    name: str,
    before: Float[np.ndarray, "m n"],
    after: Float[np.ndarray, "m n"],
    gradient: Float[np.ndarray, "m n"] | None,
    classes: int,
) -> Update:
    r"""Rank of an update and its share in the initial gradient subspace.

    With $\Delta = W - W_0$ and $U, V$ the leading $2K$ left and right singular vectors of the gradient at $W_0$,

    $$\mathrm{share} = \|U U^\top \Delta V V^\top\|_F^2 / \|\Delta\|_F^2.$$

    In deep linear networks gradient descent never leaves a $2K$-dimensional subspace (arXiv 2306.01154); in other networks this
    says how nearly so. Where ``2K`` reaches the size of the matrix the share is 1 by definition: compare it with `chance`.

    Example:
        >>> first = np.diag([1.0, 0, 0, 0])
        >>> update_of("w", np.eye(4), np.eye(4) - 0.1 * first, first, 1).share
        1.0
    """
    change = np.asarray(after, dtype=np.float64) - before
    rows, columns = change.shape
    values = np.linalg.svd(change, compute_uv=False)
    total = float(np.sum(values**2))
    directions, share = min(2 * classes, rows, columns), None
    if gradient is not None and total > 0 and np.any(gradient):
        left, right = leading_vectors(np.asarray(gradient, dtype=np.float64), directions, np.finfo(gradient.dtype).eps)
        directions, share = len(right), round(share_inside(change, left, right), 12)
    return Update(
        name=name,
        rows=rows,
        columns=columns,
        rank=int(np.searchsorted(np.cumsum(values**2), 0.99 * total) + 1) if total > 0 else 0,
        effective_rank=effective_rank(values),
        relative_norm=float(np.sqrt(total) / np.linalg.norm(before)) if np.any(before) else float("inf"),
        share=share,
        chance=directions**2 / (rows * columns),
    )


def matrices(model: TunedModel) -> dict[str, Tensor]:
    """Copies of the trained weight matrices of the base (convolutions included, the head and adapters not)."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.trained().items()
        if parameter.ndim > 1 and name.startswith("base.") and "lora_" not in name
    }


def gradients(model: TunedModel, store: Store) -> dict[str, Tensor]:
    """Gradients of the mean training loss, in evaluation mode, for the parameters of `matrices`."""
    names = list(matrices(model))
    parameters = dict(model.named_parameters())
    sums = {name: torch.zeros_like(parameters[name]) for name in names}
    if not names:
        return sums
    for start in range(0, len(store), PER_PASS):
        positions = np.arange(start, min(start + PER_PASS, len(store)))
        batch = store.batch(positions)
        logits = model.head(model.features(batch.inputs, batch.value))
        labels = torch.from_numpy(store.labels[positions]).to(logits.device)
        loss = F.cross_entropy(logits, labels, reduction="sum") / len(store)
        parts = torch.autograd.grad(
            loss, [parameters[name] for name in names], allow_unused=True, materialize_grads=True
        )
        for name, part in zip(names, parts, strict=True):
            sums[name] += part
    return sums


def updates(
    model: TunedModel, before: Mapping[str, Tensor], gradient: Mapping[str, Tensor], classes: int
) -> list[Update]:
    """`update_of` for every trained matrix of a network, from its `matrices` and `gradients` at the start."""
    after = matrices(model)
    return [
        update_of(name.removeprefix("base."), _flat(before[name]), _flat(after[name]), _flat(gradient[name]), classes)
        for name in before
    ]


def _flat(tensor: Tensor) -> Any:
    return tensor.cpu().flatten(1).double().numpy()
