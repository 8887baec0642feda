"""What `measure` says about a layer, one record per number: everything else about it follows from the record."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lowdim.metrics.collapse import Variability, variability
from lowdim.statistics import ClassStatistics, SpanScatter, Weighting


@dataclass(frozen=True, kw_only=True)
class LayerSums:
    """All that two passes over the samples sum up at one layer.

    Attributes:
        statistics: Of all samples.
        scatter: Of all samples in the span of their class means; None where there is no span.
        crossed: For each half of the samples its statistics, and the scatter of the other half in its span; empty without spans.
        hits: Samples nearest to the mean of their own class.
        compared: Samples compared with class means.
        left_out: Samples nearest to the mean of the rest of their class, and samples of which that could be told.
        sample: A stratified subsample of the features.
        sample_labels: Its labels.
        sample_copies: A number for each of it, the same for identical ones; None where there are none.
        independent: Per sample of the split: below 1 where some are copies of others.
        weighting: How classes count.
        unbiased: Whether class covariances are divided by one sample less.
        seed: Of whatever is drawn.
        note: Called with what a reader of a value must know.

    Example:
        >>> import torch
        >>> features, labels = torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1])
        >>> statistics = ClassStatistics.from_samples(features, labels, classes=2)
        >>> nothing = {"scatter": None, "crossed": [], "hits": 0, "compared": 0}
        >>> sums = LayerSums(statistics=statistics, sample=features, sample_labels=labels, **nothing)
        >>> round(sums.variability.value, 12)
        0.25
    """

    statistics: ClassStatistics
    scatter: SpanScatter | None
    crossed: Sequence[tuple[ClassStatistics, SpanScatter]]
    hits: int
    compared: int
    sample: Float[Tensor, "m d"]
    sample_labels: Int[Tensor, " m"]
    sample_copies: np.ndarray | None = None
    independent: float = 1.0
    weighting: Weighting = "pooled"
    unbiased: bool = False
    left_out: tuple[int, int] = (0, 0)
    seed: int = 0
    note: Callable[[str], None] = lambda message: None

    @cached_property
    def variability(self) -> Variability:
        """NC1 with what is needed to read it, and notes where it says little."""
        whole = variability(
            self.statistics,
            self.scatter,
            weighting=self.weighting,
            unbiased=self.unbiased,
            independent=self.independent,
        )
        possible = min(self.statistics.width, self.statistics.classes - 1)
        if whole.rank < possible:
            self.note(
                f"the class means span {whole.rank} of {possible} possible directions; what lies in the others is rounding. "
                "Features that are constant or repeated do this, and so does one huge sample."
            )
        if whole.noise_share > 0.5:
            self.note(
                f"{whole.noise_share:.0%} of NC1 lies in directions where the class means differ by no more than sampling noise; "
                "more samples per class would change the value."
            )
        return whole


@dataclass(frozen=True)
class Metric:
    """One number of `measure`, or a few that belong together.

    Attributes:
        name: Of the field in results.
        direction: -1 where lower is better, 1 where higher is, 0 where it only helps to read others.
        title: Heading of its column in tables; empty where it has none.
        explanation: What it is, in one sentence.
        measure: Its value; raises `InputError` where there is none, and the reader is told why.
    """

    name: str
    direction: Literal[-1, 0, 1]
    title: str
    explanation: str
    measure: Callable[[LayerSums], Any]
