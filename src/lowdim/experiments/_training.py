"""Training a small classifier from scratch, the same way every time."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lowdim.data import Split, batches
from lowdim.models import Preprocessing


def tensors(split: Split, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """All inputs and labels of a split of images at once."""
    inputs, labels, _ = next(batches(split, preprocessing, batch_size=len(split)))
    assert isinstance(inputs, Tensor)
    return inputs, labels


def train(
    module: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    rate: float,
    decay: float,
    batch_size: int,
    seed: int,
    warm_up: float = 0.0,
) -> Iterator[int]:
    """Trains in place with SGD (momentum 0.9) under a cosine rate; yields the number of finished epochs after each.

    Decay acts on all parameters, as in the theory; incomplete last batches are dropped, so that BatchNorm sees equal ones.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(module.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    steps = epochs * (len(labels) // batch_size)
    rising = max(1, round(warm_up * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / rising, 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * step / steps)))),
    )
    for epoch in range(1, epochs + 1):
        module.train()
        order = torch.randperm(len(labels), generator=generator)
        for start in range(0, len(labels) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(module(inputs[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
        module.eval()
        yield epoch
