"""The two passes over a stream of features: means first, then everything that is measured around them."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from torch import Tensor

from lowdim._processes import Processes
from lowdim.errors import InputError
from lowdim.features import FeatureStream, Key, usable
from lowdim.metrics import nearest_mean
from lowdim.probe import STRENGTHS, ProbeResult, fit_probe
from lowdim.probe._suspects import suspected_labels
from lowdim.statistics import BetweenSpan, ClassStatistics, SpanScatter, Weighting, as_float64, between_span

_PROBED = 5e7
"""Samples times directions times classes up to which suspected labels are told by a probe: about a minute."""
SAMPLE = 2048
SAMPLE_BYTES = 256e6
"""At most so many samples, and so many bytes over all layers, are kept for the chance level and the effective rank."""


@dataclass
class Moments:
    """First pass at one layer: statistics of the two halves, a subsample, and the positions of what is left out."""

    halves: list[ClassStatistics]
    sample: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    excluded: list[int] = field(default_factory=list[int])
    dtype: str = ""

    def all(self) -> ClassStatistics:
        """Statistics of both halves."""
        first, second = self.halves
        total = ClassStatistics.empty(first.classes, first.width)
        total.merge(first)
        total.merge(second)
        return total


def halves(labels: np.ndarray, copies: np.ndarray | None = None) -> np.ndarray:
    """0 or 1 for each sample: every second sample of each class, in the order of the data; copies, told by equal numbers, count once
    and stay together."""
    if copies is not None:
        _, first, group = np.unique(copies, return_index=True, return_inverse=True)
        return halves(labels[first])[group]
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
    labels = stream.labels
    half = torch.from_numpy(halves(labels, stream.source.copies))
    moments: dict[Key, Moments] = {}
    order = subsample(labels, SAMPLE, np.random.default_rng(seed))
    for batch in stream:
        widths = sum(tensor.shape[1] for tensor in batch.features.values())
        # Bytes are shared among the layers by width, so all keep the same samples.
        few = order if len(order) * widths * 4 <= SAMPLE_BYTES else thinned(order, int(SAMPLE_BYTES / (4 * widths)))
        sampled = np.flatnonzero(np.isin(batch.positions, few))
        for key, features in batch.features.items():
            if key not in moments:
                empty = [ClassStatistics.empty(classes, features.shape[1]) for _ in range(2)]
                moments[key] = Moments(empty, dtype=batch.dtypes[key])
            here = moments[key]
            good = usable(features)
            here.excluded += batch.positions[~good.cpu().numpy()].tolist()
            rows, classes_here, parts = as_float64(features)[good], batch.labels[good], half[batch.positions][good]
            for part in range(2):
                here.halves[part].add(rows[parts == part], classes_here[parts == part])
            # A row alone would keep its whole batch in memory.
            here.sample |= {int(batch.positions[row]): features[row].clone() for row in sampled if good[row]}
        progress(1)
    return _merge(processes.gather(moments))


def thinned(positions: np.ndarray, size: int) -> np.ndarray:
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
        scatter: Of all samples in their own span.
        crossed: Scatter of each half in the span of the other one (first entry: second half around the first's means).
        reference: Class means that samples are classified by.
        others: For every sample, by how much its squared distance to its own class mean grows when it and its copies are left out of that
            mean; NaN where nothing is left of the class. None where the means are those of another split.
        hits: Samples of each class nearest to their own class mean.
        total: Samples of each class compared.
        left_out: Of the samples left out in turn: those nearest to the mean of the rest of their class, and all.
    """

    scatter: SpanScatter | None
    crossed: list[SpanScatter]
    reference: Reference | None
    others: Tensor | None
    hits: Tensor
    total: Tensor
    left_out: Tensor


@dataclass
class Head:
    """What the network's own scores say, of the samples for which they are finite; `alone`: of those without a copy in train."""

    correct: int = 0
    alone: int = 0
    correct_alone: int = 0
    elsewhere: int = 0
    """Right if the network's outputs are the classes in the order in which another program may have read them."""
    disagree: int = 0
    compared: int = 0
    samples: int = 0
    unknown: int = 0


@dataclass
class Suspects:
    """The samples that look most like another class than their own, at the last layer."""

    wanted: int
    worst: list[tuple[float, int, int]] = field(default_factory=list[tuple[float, int, int]])
    probed: bool = False
    """Whether `worst` begins with the held-out probability of a label, instead of an excess of distance."""

    def add(self, excess: Tensor, positions: np.ndarray, nearest: Tensor) -> None:
        """Keeps the most suspicious of what is known and of these."""
        rows = zip(excess.tolist(), positions.tolist(), nearest.tolist(), strict=True)
        self.trim([*self.worst, *(row for row in rows if row[0] > 0)])

    def trim(self, rows: list[tuple[float, int, int]]) -> None:
        """Keeps the most suspicious."""
        self.worst = sorted(rows, key=lambda row: (-row[0], row[1]))[: self.wanted]


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
    copied: np.ndarray,
    places: Tensor,
    processes: Processes,
    progress: Callable[[int], None],
) -> tuple[dict[Key, Around], Head, Suspects]:
    """Scatter in the spans, nearest-mean hits, the head's accuracy and suspected labels.

    Samples are classified by the class means of `references`, or by those of `moments` where a layer has none there; `present`
    says which class of the data set each label of the stream stands for. Scores count where they are for `scored` classes; `copied`
    says which samples are also in train, `places` at which output a class stands if another program has read them in its order.
    """
    half = torch.from_numpy(halves(stream.labels, stream.source.copies))
    copies = _equal_samples(stream)
    around = {
        key: _around(here, references.get(key), present, weighting, stream.labels, copies)
        for key, here in moments.items()
    }
    last = next(reversed(around)) if around else None
    head, suspects = Head(), Suspects(outliers)
    seen: list[tuple[np.ndarray, Tensor]] | None = [] if outliers and last and _is_small(moments[last]) else None
    for batch in stream:
        scores = batch.scores if batch.scores is not None and batch.scores.shape[1] == scored else None
        for key, features in batch.features.items():
            good = usable(features)
            rows, labels = as_float64(features[good]), batch.labels[good]
            parts = half[batch.positions][good]
            nearest = _update(around[key], rows, labels, parts, present, batch.positions[good.numpy()])
            if key == head_key and scores is not None and nearest is not None:
                known = torch.isfinite(scores[good]).all(dim=1)
                head.disagree += int((scores[good].argmax(dim=1) != nearest)[known].sum())
                head.compared += int(known.sum())
            if key == last and outliers:
                _suspect(around[key], rows, labels, parts, batch.positions[good.numpy()], suspects)
                if seen is not None:
                    seen.append((batch.positions[good.numpy()], rows))
        if scores is not None:
            known = torch.isfinite(scores).all(dim=1)
            right = (scores.argmax(dim=1) == present[batch.labels]) & known
            alone = known & ~torch.from_numpy(copied[batch.positions])
            head.correct += int(right.sum())
            head.samples += int(known.sum())
            head.correct_alone += int(right[alone].sum())
            head.alone += int(alone.sum())
            head.elsewhere += int((scores.argmax(dim=1) == places[present[batch.labels]])[known].sum())
            head.unknown += int((~known).sum())
        progress(1)
    _sum(around, processes)
    parts = processes.gather((head, suspects.worst))
    suspects.trim([row for _, worst in parts for row in worst])
    if seen is not None:
        _probe(stream, [part for own in processes.gather(seen) for part in own], len(present), suspects)
    total = Head(*(sum(getattr(part, entry.name) for part, _ in parts) for entry in fields(Head)))
    return around, total, suspects


def _is_small(moments: Moments) -> bool:
    """Whether a probe is fitted in seconds."""
    statistics = moments.all()
    return statistics.samples * min(statistics.samples, statistics.width) * statistics.classes <= _PROBED


def _probe(stream: FeatureStream, seen: list[tuple[np.ndarray, Tensor]], classes: int, found: Suspects) -> None:
    """Suspects by the held-out probability of their label, where samples can be held out."""
    positions = np.concatenate([part for part, _ in seen])
    order = np.argsort(positions)
    rows, positions = torch.cat([part for _, part in seen]).numpy()[order], positions[order]
    labels, copies = stream.labels[positions], stream.source.copies[positions]

    def fit(kept: np.ndarray, strengths: Sequence[float] = STRENGTHS) -> ProbeResult:
        return fit_probe(rows[kept], labels[kept], classes=classes, strengths=strengths, copies=copies[kept])

    with contextlib.suppress(InputError):
        first = fit(np.arange(len(labels)))
        again = [first.probe.strength]
        places, own = suspected_labels(
            first.heldout, labels, lambda kept, judged: fit(kept, again).probe.log_probabilities(rows[judged])
        )
        found.probed = True
        found.worst = [
            (float(np.exp(own[place])), int(positions[place]), int(first.heldout[place].argmax()))
            for place in places[: found.wanted].tolist()
        ]


def _equal_samples(stream: FeatureStream) -> np.ndarray:
    """How often each sample is in its class, as it is or as a copy."""
    pairs = np.stack([stream.labels, stream.source.copies], axis=1)
    _, places, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    return counts[places.reshape(-1)]


def _around(
    moments: Moments,
    reference: Reference | None,
    present: Tensor,
    weighting: Weighting,
    labels: np.ndarray,
    copies: np.ndarray,
) -> Around:
    statistics = moments.all()
    scatter, *crossed = (_empty_scatter(part, weighting) for part in (statistics, *moments.halves))
    others = None
    if reference is None and scatter is not None:
        reference = Reference(scatter.span, present)
        size, alike = statistics.counts[torch.from_numpy(labels)].double(), torch.from_numpy(copies)
        others = torch.where(size > alike, (size / (size - alike)).square(), torch.nan)
    zeros = torch.zeros_like(statistics.counts)
    both = [part for part in crossed if part is not None]
    left_out = torch.zeros(2, dtype=zeros.dtype)
    return Around(scatter, both if len(both) == 2 else [], reference, others, zeros, zeros.clone(), left_out)


def _empty_scatter(statistics: ClassStatistics, weighting: Weighting) -> SpanScatter | None:
    """None where there is no span to speak of: an empty class, a single one, or coinciding means."""
    try:
        span = between_span(statistics, weighting=weighting)
    except InputError:
        return None
    return SpanScatter.empty(statistics, span) if span.rank else None


def _update(
    around: Around, rows: Tensor, labels: Tensor, parts: Tensor, present: Tensor, positions: np.ndarray
) -> Tensor | None:
    """Adds a batch; returns the class of the data set whose mean is nearest to each sample."""
    for index, scatter in enumerate(around.crossed):
        other = parts != index
        scatter.update(rows[other], labels[other])
    if around.scatter is not None:
        around.scatter.update(rows, labels)
    if around.reference is None:
        return None
    span = around.reference.span
    centred = rows - span.centre
    distances = nearest_mean(centred @ span.basis, span.coordinates)
    nearest = around.reference.classes[distances.argmin(dim=1)]
    if around.others is not None:
        _leave_out(around, distances, centred.square().sum(dim=1), labels, around.others[positions])
    around.hits += torch.bincount(labels[nearest == present[labels]], minlength=len(around.hits))
    around.total += torch.bincount(labels, minlength=len(around.hits))
    return nearest


def _leave_out(around: Around, distances: Tensor, norms: Tensor, labels: Tensor, growth: Tensor) -> None:
    """Counts the samples that are nearest to the mean of the rest of their class: without `c` equal samples among `n`, the distance
    ``|x - mean|`` becomes ``n / (n - c)`` times what it was."""
    own = labels.unsqueeze(1)
    rest = growth * (norms + distances.gather(1, own).squeeze(1)) - norms
    others = distances.scatter(1, own, float("inf")).min(dim=1).values
    known = ~growth.isnan()
    around.left_out += torch.stack([(rest < others)[known].sum(), known.sum()])


def _suspect(
    around: Around, rows: Tensor, labels: Tensor, parts: Tensor, positions: np.ndarray, suspects: Suspects
) -> None:
    for index, scatter in enumerate(around.crossed):
        other = parts != index
        span, label = scatter.span, labels[other].unsqueeze(1)
        distances = nearest_mean((rows[other] - span.centre) @ span.basis, span.coordinates)
        to_label = distances.gather(1, label).squeeze(1)
        others = distances.scatter(1, label, float("inf"))
        spread = 2 * float(span.coordinates.square().sum(dim=1).mean())
        suspects.add((to_label - others.min(dim=1).values) / spread, positions[other.numpy()], others.argmin(dim=1))


def _sum(around: Mapping[Key, Around], processes: Processes) -> None:
    tensors: list[Tensor] = []
    for here in around.values():
        for scatter in [here.scatter, *here.crossed]:
            tensors += [] if scatter is None else scatter.tensors()
        tensors += [here.hits, here.total, here.left_out]
    processes.sum(tensors)
