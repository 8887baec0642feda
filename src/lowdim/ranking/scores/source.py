"""Scores from a model's own classifier: how its source classes go with the labels."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lowdim.ranking.scores._kind import SampleMean, Sums


class SourceTable:
    """Joint distribution of labels and source classes, softly (by probability) and by the most probable class."""

    def __init__(self, classes: int, outputs: int) -> None:
        self.soft = torch.zeros(classes, outputs, dtype=torch.float64)
        self.hard = torch.zeros(classes, outputs, dtype=torch.float64)

    def update(self, logits: Float[Tensor, "n Z"], labels: Int[Tensor, " n"]) -> None:
        """Adds a batch.

        Args:
            logits: Of the source classifier.
            labels: Of the data at hand.
        """
        self.soft.index_add_(0, labels, logits.double().softmax(dim=1))
        self.hard.view(-1).index_add_(
            0, labels * self.hard.shape[1] + logits.argmax(dim=1), torch.ones(len(labels), dtype=torch.float64)
        )

    def leep(self, logits: Float[Tensor, "n Z"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        r"""Each sample's part of LEEP: $\log \sum_z \hat P(y \mid z)\, \theta(x)_z$, in nats; the mean is LEEP (<= 0, higher is better).

        References:
            Nguyen et al. (2020), "LEEP: a new measure to evaluate transferability of learned representations", ICML,
            arXiv 2002.12462.
        """
        conditional = self.soft / self.soft.sum(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        return (logits.double().softmax(dim=1) * conditional[labels]).sum(dim=1).log()

    def nce(self, logits: Float[Tensor, "n Z"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        r"""Each sample's part of NCE: $\log \hat P(y \mid z)$ at the source class z; the mean is $-H(Y \mid Z)$, in nats.

        References:
            Tran, Nguyen and Hassner (2019), "Transferability and hardness of supervised classification tasks", ICCV,
            arXiv 1908.08142.
        """
        source = logits.argmax(dim=1)
        return (self.hard[labels, source] / self.hard.sum(dim=0)[source]).log()


def source_mean(sums: Sums, name: Literal["leep", "nce"]) -> SampleMean | None:
    """LEEP or NCE; None for a network without a classifier."""
    if sums.source is None:
        return None
    part = getattr(sums.source, name)
    return SampleMean(lambda rows, labels, outputs: part(outputs, labels))
