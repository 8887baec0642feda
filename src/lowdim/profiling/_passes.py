"""The two passes over a stream of features: means first, then everything that is measured around them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lowdim._processes import Processes
from lowdim.errors import InputError
from lowdim.metrics import nearest_mean
from lowdim.profiling._stream import FeatureStream, Key
from lowdim.statistics import BetweenSpan, ClassStatistics, SpanScatter, Weighting, as_float64, between_span

SAMPLE = 2048
SAMPLE_BYTES = 256e6
"""At most so many samples, and so many bytes over all layers, are kept for the chance level and the effective rank."""


@dataclass
class Moments:
    """First pass at one layer: statistics of the two halves, and a subsample."""

    halves: list[ClassStatistics]
    sample: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    excluded: int = 0
    dtype: str = ""

    def all(self) -> ClassStatistics:
        """Statistics of both halves."""
        first, second = self.halves
        total = ClassStatistics.empty(first.classes, first.width)
        total.merge(first)
        total.merge(second)
        return total


def halves(labels: np.ndarray) -> np.ndarray:
    """0 or 1 for each sample: every second sample of each class, in the order of the data."""
    half = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        half[where[1::2]] = 1
    return half


def subsample(labels: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Positions of a stratified random subsample: each class keeps its share, to within one sample."""
    if size >= len(labels):
        return np.arange(len(labels))
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[np.linspace(0, len(labels) - 1, size).round().astype(np.int64)])


def first_pass(
    stream: FeatureStream, classes: int, seed: int, processes: Processes, progress: Callable[[int], None]
) -> dict[Key, Moments]:
    """Class means of both halves and a subsample, for every layer."""
    labels = stream.source.labels
    half = torch.from_numpy(halves(labels))
    moments: dict[Key, Moments] = {}
    order = subsample(labels, SAMPLE, np.random.default_rng(seed))
    for batch in stream:
        widths = sum(tensor.shape[1] for tensor in batch.features.values())
        # Bytes are shared among the layers by width, so all keep the same samples.
        kept = (
            order if len(order) * widths * 4 <= SAMPLE_BYTES else subsample_of(order, int(SAMPLE_BYTES / (4 * widths)))
        )
        sampled = np.flatnonzero(np.isin(batch.positions, kept))
        for key, features in batch.features.items():
            if key not in moments:
                empty = [ClassStatistics.empty(classes, features.shape[1]) for _ in range(2)]
                moments[key] = Moments(empty, dtype=batch.dtypes[key])
            here = moments[key]
            usable = torch.isfinite(features).all(dim=1)
            here.excluded += int((~usable).sum())
            values, own, parts = as_float64(features)[usable], batch.labels[usable], half[batch.positions][usable]
            for part in range(2):
                here.halves[part].add(values[parts == part], own[parts == part])
            # A row alone would keep its whole batch in memory.
            here.sample |= {int(batch.positions[row]): features[row].clone() for row in sampled if usable[row]}
        progress(1)
    return _merge(processes.gather(moments))


def subsample_of(positions: np.ndarray, size: int) -> np.ndarray:
    """An evenly spread part of sorted positions."""
    return positions[np.linspace(0, len(positions) - 1, max(size, 2)).round().astype(np.int64)]


def _merge(parts: Sequence[dict[Key, Moments]]) -> dict[Key, Moments]:
    merged: dict[Key, Moments] = {}
    for part in parts:
        for key, moments in part.items():
            if key not in merged:
                merged[key] = moments
                continue
            into = merged[key]
            for mine, other in zip(into.halves, moments.halves, strict=True):
                mine.merge(other)
            into.sample |= moments.sample
            into.excluded += moments.excluded
    return merged


@dataclass(frozen=True)
class Reference:
    """Class means to classify with, in their span, and which class of the data set each one is of."""

    span: BetweenSpan
    classes: Tensor


@dataclass
class Around:
    """Second pass at one layer.

    Attributes:
        own: Scatter of all samples in their own span.
        crossed: Scatter of each half in the span of the other one (first entry: second half around the first's means).
        reference: Class means that samples are classified by.
        hits: Samples of each class nearest to their own class mean.
        total: Samples of each class compared.
    """

    own: SpanScatter | None
    crossed: list[SpanScatter]
    reference: Reference | None
    hits: Tensor
    total: Tensor


@dataclass
class Head:
    """What the network's own scores say."""

    correct: int = 0
    disagree: int = 0
    compared: int = 0
    samples: int = 0


@dataclass
class Suspects:
    """The samples that look most like another class than their own, at the last layer."""

    wanted: int
    found: list[tuple[float, int, int]] = field(default_factory=list[tuple[float, int, int]])

    def add(self, excess: Tensor, positions: np.ndarray, nearest: Tensor) -> None:
        """Keeps the most suspicious of what is known and of these."""
        rows = zip(excess.tolist(), positions.tolist(), nearest.tolist(), strict=True)
        self.trim([*self.found, *(row for row in rows if row[0] > 0)])

    def trim(self, rows: list[tuple[float, int, int]]) -> None:
        """Keeps the most suspicious."""
        self.found = sorted(rows, key=lambda row: (-row[0], row[1]))[: self.wanted]


def second_pass(
    stream: FeatureStream,
    moments: Mapping[Key, Moments],
    references: Mapping[Key, Reference],
    *,
    present: Tensor,
    weighting: Weighting,
    scored: int,
    head_key: Key | None,
    outliers: int,
    processes: Processes,
    progress: Callable[[int], None],
) -> tuple[dict[Key, Around], Head, Suspects]:
    """Scatter in the spans, nearest-mean hits, the head's accuracy and suspected labels.

    Args:
        stream: As in the first pass.
        moments: What the first pass found.
        references: Class means to classify with, by layer; own means where absent.
        present: The class of the data set that each label of the stream stands for.
        weighting: Of the classes in the spans.
        scored: Number of classes that the network's scores must be for to be compared with labels; 0 for none.
        head_key: The layer that feeds the head.
        outliers: How many suspected labels to keep.
        processes: This process's part of the work is the stream's.
        progress: Called after every batch.
    """
    half = torch.from_numpy(halves(stream.source.labels))
    around = {key: _around(here, references.get(key), present, weighting) for key, here in moments.items()}
    last = next(reversed(around)) if around else None
    head, suspects = Head(), Suspects(outliers)
    for batch in stream:
        scores = batch.scores if batch.scores is not None and batch.scores.shape[1] == scored else None
        for key, features in batch.features.items():
            usable = torch.isfinite(features).all(dim=1)
            rows, labels = as_float64(features[usable]), batch.labels[usable]
            parts = half[batch.positions][usable]
            nearest = _update(around[key], rows, labels, parts, present)
            if key == head_key and scores is not None and nearest is not None:
                head.disagree += int((scores[usable].argmax(dim=1) != nearest).sum())
                head.compared += len(labels)
            if key == last and outliers:
                _suspect(around[key], rows, labels, parts, batch.positions[usable.numpy()], suspects)
        if scores is not None:
            right = (scores.argmax(dim=1) == present[batch.labels]) & torch.isfinite(scores).all(dim=1)
            head.correct += int(right.sum())
            head.samples += len(batch.labels)
        progress(1)
    _sum(around, processes)
    parts = processes.gather((head, suspects.found))
    suspects.trim([row for _, found in parts for row in found])
    total = Head(
        *(sum(getattr(part, name) for part, _ in parts) for name in ("correct", "disagree", "compared", "samples"))
    )
    return around, total, suspects


def _around(moments: Moments, reference: Reference | None, present: Tensor, weighting: Weighting) -> Around:
    statistics = moments.all()
    span = _span(statistics, weighting)
    own = None if span is None else SpanScatter.empty(statistics, span)
    spans = [_span(part, weighting) for part in moments.halves]
    crossed = [
        SpanScatter.empty(part, found) for part, found in zip(moments.halves, spans, strict=True) if found is not None
    ]
    if reference is None and span is not None:
        reference = Reference(span, present)
    zeros = torch.zeros_like(statistics.counts)
    return Around(own, crossed if len(crossed) == 2 else [], reference, zeros, zeros.clone())


def _span(statistics: ClassStatistics, weighting: Weighting) -> BetweenSpan | None:
    """None where there is no span to speak of: an empty class, a single one, or coinciding means."""
    try:
        span = between_span(statistics, weighting=weighting)
    except InputError:
        return None
    return span if span.rank else None


def _update(around: Around, rows: Tensor, labels: Tensor, parts: Tensor, present: Tensor) -> Tensor | None:
    """Adds a batch; returns the class of the data set whose mean is nearest to each sample."""
    for index, scatter in enumerate(around.crossed):
        other = parts != index
        scatter.update(rows[other], labels[other])
    if around.own is not None:
        around.own.update(rows, labels)
    if around.reference is None:
        return None
    span = around.reference.span
    nearest = around.reference.classes[nearest_mean((rows - span.centre) @ span.basis, span.coordinates).argmin(dim=1)]
    around.hits += torch.bincount(labels[nearest == present[labels]], minlength=len(around.hits))
    around.total += torch.bincount(labels, minlength=len(around.hits))
    return nearest


def _suspect(
    around: Around, rows: Tensor, labels: Tensor, parts: Tensor, positions: np.ndarray, suspects: Suspects
) -> None:
    for index, scatter in enumerate(around.crossed):
        other = parts != index
        span, own = scatter.span, labels[other]
        distances = nearest_mean((rows[other] - span.centre) @ span.basis, span.coordinates)
        own_distance = distances.gather(1, own.unsqueeze(1)).squeeze(1)
        others = distances.scatter(1, own.unsqueeze(1), float("inf"))
        spread = 2 * float(span.coordinates.square().sum(dim=1).mean())
        suspects.add((own_distance - others.min(dim=1).values) / spread, positions[other.numpy()], others.argmin(dim=1))


def _sum(around: Mapping[Key, Around], processes: Processes) -> None:
    tensors: list[Tensor] = []
    for here in around.values():
        for scatter in [here.own, *here.crossed]:
            tensors += [] if scatter is None else scatter.tensors()
        tensors += [here.hits, here.total]
    processes.sum(tensors)
