"""What a score is: one record each, from which everything else about it follows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lowdim.data._dataset import Task
from lowdim.errors import InputError
from lowdim.statistics import ClassStatistics

if TYPE_CHECKING:
    from lowdim.ranking.scores.source import SourceTable

Influence = Callable[[Float[Tensor, "n d"], Int[Tensor, " n"]], Float[Tensor, " n"]]
Part = Callable[[Float[Tensor, "n d"], Int[Tensor, " n"], Tensor | None], Tensor]


@dataclass(frozen=True)
class Score:
    """A score and how each sample moves it.

    The *influence* of a sample is the derivative of the score by that sample's weight. The sum of their squares (centred within
    each class) is the variance of the score under resampling: the limit of the bootstrap for small perturbations, without its
    repeated samples, which would shrink every within-class scatter, and at the cost of one pass (the infinitesimal jackknife,
    Jaeckel 1972; Efron 1982, chapter 6). Functions of one sample that only differ by a constant per class are the same influence.

    Attributes:
        value: The score.
        influence: Of float64 rows and their labels, up to a constant per class; None where it is not known.
        reduced: Whether the features were first reduced to the span of the class means.
    """

    value: float
    influence: Influence | None
    reduced: bool = False


Formula = Callable[[ClassStatistics], Score]


@dataclass(frozen=True)
class SampleMean:
    """A score that is the mean of one number per sample, to be computed from its row, its label and the network's outputs."""

    part: Part


@dataclass(frozen=True)
class SampleValues:
    """A score that is the mean of numbers already known, NaN where a sample has none.

    Attributes:
        values: One per sample.
        labels: Of these samples.
        copies: A number per sample, the same for identical ones.
        crossed: Whether they are by cross-validation.
    """

    values: np.ndarray
    labels: np.ndarray
    copies: np.ndarray
    crossed: bool


@dataclass(frozen=True)
class ProbeOutcome:
    """Right (1) and wrong (0) predictions of the linear probe.

    Attributes:
        crossed: Of the samples, each by a probe that has not seen it.
        judged: Of the samples that the probe is judged by: those of the test split, or the same.
    """

    crossed: SampleValues
    judged: SampleValues


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What one pass over a candidate's features leaves.

    Attributes:
        halves: Statistics with pooled scatter of every second sample of each class, and of the others.
        statistics: Of all samples.
        source: How the network's own classes go with the labels; None without a classifier.
        probe: None where it was not asked for.
    """

    halves: Sequence[ClassStatistics]
    statistics: ClassStatistics
    source: "SourceTable | None"
    probe: ProbeOutcome | None
    _known: dict[Formula, Score] = field(default_factory=dict[Formula, Score], repr=False)

    def once(self, formula: Formula) -> Score:
        """A formula of the statistics, computed once for all scores that are made from it."""
        if formula not in self._known:
            self._known[formula] = formula(self.statistics)
        return self._known[formula]


@dataclass(frozen=True)
class ScoreKind:
    """One score of `rank`.

    Attributes:
        name: Of the field in results.
        direction: 1 where higher is better, -1 where lower is.
        title: In tables and figures.
        explanation: What it is, in one sentence.
        measure: Its value; None where it does not apply; raises `InputError` where it has none, and the reader is told why.
        share: Whether it is a share of the samples, whose interval is Wilson's.
        logarithmic: Whether its interval and its differences are those of its logarithm.
        by_half: Whether its influence takes labels ``k`` in the first half of the samples and ``K + k`` in the second.
        of_probe: Whether it needs the probe.
        task: What labels have to be; scores of numbers are computed together by `ranking._regress`.
    """

    name: str
    direction: Literal[1, -1]
    title: str
    explanation: str
    measure: Callable[[Sums], Score | SampleMean | SampleValues | None] = field(
        default_factory=lambda: lambda sums: None
    )
    share: bool = False
    logarithmic: bool = False
    by_half: bool = False
    of_probe: bool = False
    task: Task = "classification"


def pooled_scatter(statistics: ClassStatistics) -> Float[Tensor, "d d"]:
    """Sum over all samples of the outer products of their deviations.

    Raises:
        InputError: If it was not accumulated.
    """
    if statistics.scatter is None:
        raise InputError('These statistics hold no scatter. Accumulate them with scatter="pooled".')
    return statistics.scatter.sum(dim=0)
