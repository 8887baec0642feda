"""Everything about one candidate: one stream of its features, all scores, and how each sample moves them."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lowdim._balance import majority_warnings
from lowdim._files import load_tensors, save_tensors
from lowdim._intervals import FOLD_LOSS, Z, deviations, independent, together, wilson_interval
from lowdim._job import CACHE_BUDGET
from lowdim.data import Dataset, Split, load_data
from lowdim.data._copies import said_without_copies
from lowdim.data._dataset import limited_indices
from lowdim.data._finite import some
from lowdim.errors import InputError, NonFiniteError
from lowdim.features import (
    FeatureCache,
    FeatureStream,
    Forward,
    Inputs,
    Key,
    Pool,
    SplitSource,
    collected,
    content_digest,
    has_mirror,
    moved,
    network_content,
    opened_cache,
    tamed_layers,
    usable,
)
from lowdim.models import Feature, later_blocks
from lowdim.probe import FrozenHead, ProbeResult, fit_frozen_views, fit_probe, fold_of, require_heldout
from lowdim.profiling._passes import halves
from lowdim.ranking._candidates import Candidate
from lowdim.ranking.scores import SCORES
from lowdim.ranking.scores._kind import ProbeOutcome, SampleMean, SampleValues, Score, Sums
from lowdim.ranking.scores.source import SourceTable
from lowdim.statistics import ClassStatistics, as_float64

ProbeOn = Literal["test", "cv"]

PROBE_SAMPLES = 10_000
"""The probe is fitted to at most so many samples, so that memory does not grow with the data."""
MOST_NOT_FINITE = 0.1
"""Part of a split that may be left out because of what is not finite."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of one candidate on one data set; they depend on no other candidate.

    Attributes:
        name: Of the candidate.
        scores: By name; a score that has no value is absent, and a warning says why.
        deviations: By score, its standard deviation under resampling of the samples.
        influences: By score, what each sample of the split adds to it, centred within classes, with its copies: the sum of squares is the
            score's variance under resampling. After `rank` those of the ordering score alone.
        trials: By accuracy, how many independent predictions it is worth, for Wilson's interval.
        feature: What was measured: ``layer``, ``pool``, ``width`` and ``why``.
        layer: Its layer.
        width: Its feature dimension.
        parameters: Of the network; None for saved features.
        samples: Samples used.
        probe_samples: Samples that `probe_accuracy` was measured on: the test split, or by cross-validation where there is none.
        random_weights: Whether the network is untrained.
        fingerprint: Of the network.
        preprocessing: What its inputs went through.
        warnings: What a reader must know.
        seconds: Forward passes and scores, together.
        not_finite: By split, the positions of samples that have NaN, infinite or overflowing features or outputs.
        raced: After how many samples the candidate left a race; None where it saw all of them.

    Example:
        >>> import tempfile
        >>> from lowdim.data import load_data
        >>> from lowdim.ranking import candidates_of, rank
        >>> found = rank(candidates_of(["digits"]), load_data("digits", limit=100), probe=False).places[0].evaluation
        >>> low, high = found.interval("nc1")
        >>> low < found.scores["nc1"] < high
        True
    """

    name: str
    scores: Mapping[str, float]
    deviations: Mapping[str, float]
    influences: Mapping[str, np.ndarray] = field(repr=False)
    trials: Mapping[str, float]
    feature: Mapping[str, Any]
    layer: str
    width: int
    parameters: int | None
    samples: int
    probe_samples: int
    random_weights: bool
    fingerprint: str
    preprocessing: str
    warnings: tuple[str, ...]
    seconds: float
    not_finite: Mapping[str, Sequence[int]]
    raced: int | None = None

    def interval(self, score: str) -> tuple[float, float] | None:
        """90 % interval of a score under resampling of the samples; None where it is not known."""
        value, deviation, trials = self.scores.get(score), self.deviations.get(score), self.trials.get(score)
        if value is None:
            return None
        if trials is not None:
            return wilson_interval(value, trials)
        if deviation is None:
            return None
        if SCORES[score].logarithmic and value > 0:
            factor = float(np.exp(Z * deviation / value))
            return value / factor, value * factor
        return value - Z * deviation, value + Z * deviation

    def without(self, score: str) -> "Evaluation":
        """The same, as if it had no value of this score."""
        return replace(self, scores={name: value for name, value in self.scores.items() if name != score})

    def save(self, path: Path) -> None:
        """Writes a safetensors file with a checksum."""
        facts = {key: value for key, value in asdict(self).items() if key != "influences"}
        save_tensors(path, dict(self.influences), {"evaluation": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Reads what `save` wrote."""
        influences, metadata = load_tensors(path)
        facts: dict[str, Any] = json.loads(metadata["evaluation"])
        facts["warnings"] = tuple(facts["warnings"])
        return cls(influences=influences, **facts)


def evaluate(
    candidate: Candidate,
    data: Dataset,
    *,
    folder: Path,
    split: str = "train",
    selection: Mapping[str, Any] | None = None,
    probe: bool = True,
    probe_on: ProbeOn = "test",
    batch_size: int = 64,
    device: str | None = None,
    seed: int = 0,
    cache: Path | None = None,
    cache_budget: float = CACHE_BUDGET,
    leave_out: Mapping[str, Sequence[int]] | None = None,
    first: int | None = None,
) -> Evaluation:
    """Scores one candidate: one pass of the network over the data, a second one over its stored features; for the probe, images
    are also seen mirrored.

    Memory does not grow with the number of samples, apart from some numbers per sample.

    Args:
        candidate: What to score.
        data: Labelled data.
        folder: For a temporary folder with the features.
        split: Which part of the data.
        selection: ``limit``, ``shots`` and ``seed`` with which the data was loaded, for saved features.
        probe: Also fit the frozen head, a linear classifier on the feature and the second half of the blocks
            (`lowdim.probe.fit_frozen_head`); with a layer that is named, on that one alone; on saved features and where the samples
            are rows of numbers, the linear probe on the feature.
        probe_on: Where its accuracy is measured: on the ``"test"`` split (where there is one beside `split`), or by
            cross-validation (``"cv"``).
        batch_size: Samples per forward pass.
        device: Where the network runs.
        seed: Of the probe's folds.
        cache: Folder where the features are kept instead, and found again by other calls that want them.
        cache_budget: Bytes of features kept.
        leave_out: By split, positions of samples that are left out beside those that have no finite features here.
        first: Only so many samples, the first of the split, and by cross-validation; a later call with more of them passes the rest.

    Raises:
        InputError: If the model cannot be loaded, has no feature that can be told, or the data has fewer than two classes.
        NonFiniteError: If more than a tenth of a split has no finite features or outputs.

    Example:
        >>> import tempfile
        >>> from lowdim.data import load_data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     candidate, data = Candidate(name="small", model="digits"), load_data("digits", limit=100)
        ...     found = evaluate(candidate, data, folder=Path(folder), probe=False)
        >>> found.layer, found.width, found.samples
        ('head:input', 24, 100)
    """
    found = Opened(candidate, data, split, selection, probe_on, batch_size, device, leave_out, first)
    rows_of_numbers = candidate.features is not None or data.kind == "features"
    if probe and found.model.layer is None and not rows_of_numbers:
        found.forward = _with_blocks(found.forward, found.feature, found.example)
    views = (False, True) if probe and has_mirror(found.example) else (False,)
    folder.mkdir(parents=True, exist_ok=True)
    with opened_cache(cache, folder, cache_budget, kept=False) as features:
        rows = {split: found.rows(features, split)}
        work = _Work(rows[split], linear=rows_of_numbers)
        work.warnings += [*found.model.notes, *rows[split].stream.source.warnings()]
        work.first_pass()
        if probe and found.on_test:
            rows["test"] = found.rows(features, "test", rows[split].stream)
        seen = [[one, *(found.rows(features, name, mirrored=True) for _ in views[1:])] for name, one in rows.items()]
        work.measure(work.fit_probe(*seen, seed=seed) if probe else None)
    return found.evaluation(
        scores=work.scores,
        influences=work.influences(),
        trials=work.trials,
        width=work.statistics.width,
        samples=work.statistics.samples,
        probe_samples=work.probe_samples,
        warnings=work.warnings,
        not_finite={name: one.bad.tolist() for name, one in rows.items()},
    )


class Opened:
    """A candidate's network where it runs, with its feature, and the data that it is scored on."""

    def __init__(
        self,
        candidate: Candidate,
        data: Dataset,
        split: str,
        selection: Mapping[str, Any] | None,
        probe_on: ProbeOn,
        batch_size: int,
        device: str | None,
        leave_out: Mapping[str, Sequence[int]] | None,
        first: int | None = None,
    ) -> None:
        self.start = time.perf_counter()
        self.candidate, self.data, self.split, self.batch_size = candidate, data, split, batch_size
        self.selection, self.leave_out = selection or {}, leave_out or {}
        self.first = first
        self.on_test = probe_on == "test" and "test" in data.splits and split != "test" and first is None
        self.model, place = candidate.load(data.kind), torch.device(device or "cpu")
        self.model.module.to(place)
        part = candidate_split(candidate, data, split, self.selection)
        self.source = SplitSource(part, self.model.preprocessing)
        self.example = moved(self.source.inputs(np.arange(2) % max(1, len(part))), place)
        self.feature = self.model.feature(self.example)
        self.forward = Forward(self.model.module, [self.feature.key], place, self.feature.layout)

    def rows(
        self, cache: FeatureCache, name: str, like: FeatureStream | None = None, *, mirrored: bool = False
    ) -> "CandidateRows":
        """The features of a split, not yet computed."""
        own = name == self.split
        part = self.source.split if own else candidate_split(self.candidate, self.data, name, self.selection)
        source = SplitSource(part, self.model.preprocessing, mirrored=mirrored)
        network = network_content(self.model.module, self.model.fingerprint)
        content = content_digest(network, source) if cache.lasting else f"{name}-mirrored" if mirrored else name
        size, seen = self.batch_size, self.data[name]
        if own and self.first is not None:
            seen = seen.take(np.arange(self.first))
        stream = FeatureStream(
            self.forward, source, seen.labels, cache=cache, content=content, batch_size=size, like=like
        )
        scored = self.feature.outputs > 1 and not self.data.outputs
        return CandidateRows(stream, self.feature.key, seen, self.leave_out.get(name, ()), scored=scored)

    def evaluation(
        self, *, influences: Mapping[str, np.ndarray], warnings: Sequence[str], **measured: Any
    ) -> Evaluation:
        """What was measured, with what is known of the network."""
        model = self.model
        return Evaluation(
            name=self.candidate.name,
            deviations={name: float(np.sqrt(np.sum(values**2))) for name, values in influences.items()},
            influences=influences,
            feature=self.feature.as_dict(),
            layer=self.feature.name,
            parameters=None if self.candidate.features else sum(p.numel() for p in model.module.parameters()),
            random_weights=model.random_weights,
            fingerprint=model.fingerprint,
            preprocessing=model.preprocessing.describe(),
            warnings=tuple(warnings),
            seconds=time.perf_counter() - self.start,
            raced=self.first,
            **measured,
        )


def candidate_split(candidate: Candidate, data: Dataset, name: str, selection: Mapping[str, Any]) -> Split:
    """The split of the data, or of the saved features of it."""
    part = data[name]
    if candidate.features is None:
        return part
    saved = load_data(candidate.features, task="regression" if data.outputs else "classification", **selection)[name]
    if part.targets is None:
        same = np.array_equal(saved.labels, part.labels)
    else:
        same = saved.targets is not None and np.array_equal(saved.targets, part.targets)
    if not same:
        raise InputError(
            f"The labels in {candidate.features} ({len(saved)} samples) are not those of the {name} split of {data.name} "
            f"({len(part)} samples), so the scores could not be compared. Store the features of exactly this data."
        )
    return saved


class CandidateRows:
    """The features of one split, without the samples that are left out, and those for which there are no finite ones."""

    def __init__(
        self, stream: FeatureStream, key: Key, split: Split, leave_out: Sequence[int], *, scored: bool
    ) -> None:
        self.stream, self.key, self.split, self._scored = stream, key, split, scored
        self.labels = stream.labels
        self._left = np.zeros(len(split), dtype=bool)
        self._left[list(leave_out)] = True
        self._bad = np.zeros(len(split), dtype=bool)

    @property
    def bad(self) -> np.ndarray:
        """Positions without finite features or outputs, of the batches read."""
        return np.flatnonzero(self._bad)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Tensor, Tensor | None]]:
        """Positions, float64 features and the outputs of a network with a head."""
        for batch in self.stream:
            features = batch.features[self.key]
            good, scores = usable(features), batch.scores if self._scored else None
            if scores is not None:
                good &= torch.isfinite(scores).all(dim=1)
            self._bad[batch.positions[~good.numpy()]] = True
            good &= torch.from_numpy(~self._left[batch.positions])
            yield batch.positions[good.numpy()], as_float64(features[good]), None if scores is None else scores[good]

    def require_few(self) -> None:
        """Refuses what would compare a candidate on other samples than the rest."""
        if len(self.bad) > MOST_NOT_FINITE * len(self.split):
            raise NonFiniteError(
                f"{len(self.bad)} of {len(self.split)} samples of the {self.split.name} split have NaN, infinite or overflowing features "
                f"or outputs ({some(self.split.items, self.bad)}), more than a tenth: what is left could not be compared."
            )


class _Work:
    """The passes over one candidate's features, and what they leave."""

    def __init__(self, rows: CandidateRows, *, linear: bool) -> None:
        self.rows, self.linear = rows, linear
        self.present, labels = np.unique(rows.labels, return_inverse=True)
        if len(self.present) < 2:
            raise InputError(f"The data has samples of {len(self.present)} class; ranking needs at least two classes.")
        self.labels = torch.from_numpy(labels)
        self.classes = len(self.present)
        self.half = torch.from_numpy(halves(rows.labels, rows.split.copies))
        self.usable = np.zeros(len(self.labels), dtype=bool)
        self.parts: list[ClassStatistics] = []
        self.source: SourceTable | None = None
        self.scores: dict[str, float] = {}
        self.moved: dict[str, np.ndarray] = {}
        """By score: a derivative by each sample's weight, or each sample's part of a mean over `sizes[score]` samples."""
        self.sizes: dict[str, int] = {}
        self.labelled: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        """Labels and copies where they are not those of the split."""
        self.trials: dict[str, float] = {}
        self.warnings: list[str] = []
        self.probe_samples = 0

    def first_pass(self) -> None:
        """Moments of both halves, and the source table."""
        for positions, rows, labels, scores in self._batches():
            if not self.parts:
                self.parts = [ClassStatistics.empty(self.classes, rows.shape[1], scatter="pooled") for _ in range(2)]
            half = self.half[positions]
            for part in range(2):
                self.parts[part].add(rows[half == part], labels[half == part])
            if scores is not None:
                self.source = self.source or SourceTable(self.classes, scores.shape[1])
                self.source.update(scores, labels)
            self.usable[positions] = True
        self.rows.require_few()
        if not self.usable.any():
            raise NonFiniteError(f"No sample of the {self.rows.split.name} split is left.")
        first, second = self.parts
        self.statistics = ClassStatistics.empty(self.classes, first.width, scatter="pooled")
        self.statistics.merge(first)
        self.statistics.merge(second)

    def measure(self, probe: ProbeOutcome | None) -> None:
        """All scores, and in a second pass what each sample adds to them."""
        statistics = self.statistics
        if statistics.samples - statistics.classes < statistics.width:
            self.warnings.append(
                f"fewer samples ({statistics.samples}) than features ({statistics.width}): the H-score and VCI are taken in the "
                "span of the class means"
            )
        sums = Sums(halves=self.parts, statistics=statistics, source=self.source, probe=probe)
        measured = {
            name: self._try(name, lambda measure=kind.measure: measure(sums))
            for name, kind in SCORES.items()
            if kind.task == "classification"
        }
        for positions, rows, labels, scores in self._batches():
            for name, score in measured.items():
                if isinstance(score, SampleMean):
                    self._put(name, positions, score.part(rows, labels, scores))
                elif isinstance(score, Score) and score.influence is not None:
                    shift = self.classes * self.half[positions] if SCORES[name].by_half else 0
                    self._put(name, positions, score.influence(rows, labels + shift))
        for name, score in measured.items():
            if isinstance(score, Score):
                self.scores[name] = score.value
                continue
            copies, crossed = self.rows.split.copies, False
            if isinstance(score, SampleValues):
                copies, crossed = score.copies, score.crossed
                self.moved[name], self.labelled[name] = score.values, (score.labels, copies)
            if score is not None:
                known = np.isfinite(self.moved[name])
                self.sizes[name] = int(known.sum())
                self.scores[name] = float(np.nanmean(self.moved[name]))
                if SCORES[name].share:
                    self.trials[name] = independent(copies[known]) / (FOLD_LOSS if crossed else 1)
        for name in [name for name, value in self.scores.items() if not np.isfinite(value)]:
            self.warnings.append(f"no {name}: it is {self.scores.pop(name)}")

    def fit_probe(
        self, views: Sequence[CandidateRows], test: Sequence[CandidateRows] | None = None, *, seed: int
    ) -> ProbeOutcome | None:
        """The frozen head, fitted to at most `PROBE_SAMPLES` of the samples; measured on test samples or by cross-validation."""
        labels = self.labels.numpy()
        chosen = np.flatnonzero(self.usable)
        chosen = chosen[limited_indices(labels[chosen], PROBE_SAMPLES, seed)]
        layers, finite = self._layers_of(views, chosen)
        positions = chosen[finite]
        kept = [[rows[finite] for rows in view] for view in layers]
        found = self._try("probe_accuracy", lambda: self._classifier(kept, labels[positions], positions, seed))
        if found is None:
            return None
        head, mean = found
        if len(positions) < len(self.usable):
            self.warnings.append(f"the probe was fitted to {len(positions)} of {len(self.usable)} samples")
        right = np.full(len(labels), np.nan)
        right[positions] = head.correct(labels[positions])
        crossed = SampleValues(right, labels, self.rows.split.copies, crossed=True)
        self.probe_samples = int(np.isfinite(right).sum() / FOLD_LOSS)
        self.warnings += majority_warnings(
            "the probe, cross-validated", right, labels, independent=self.rows.split.independent
        )
        if test is None:
            return ProbeOutcome(crossed, crossed)
        # A class without training samples cannot be predicted: its samples are misses.
        plain = test[0]
        hits = np.full(len(plain.labels), np.nan)
        there = np.concatenate([where for where, _, _ in plain])
        plain.require_few()
        layers, finite = self._layers_of(test if mean else test[:1], there)
        rows = np.mean([np.hstack(view) for view in layers], axis=0)[finite]
        logarithms = (head if isinstance(head, FrozenHead) else head.probe).log_probabilities(rows)
        hits[there[finite]] = self.present[logarithms.argmax(axis=1)] == plain.labels[there[finite]]
        if np.isnan(hits).all():
            raise NonFiniteError(f"No sample of the {plain.split.name} split is left.")
        self.probe_samples = int(np.isfinite(hits).sum())
        known, copied = np.isfinite(hits), np.isin(plain.split.contents, self.rows.split.contents)
        if 0 < (known & copied).sum() < known.sum():
            self.warnings.append(said_without_copies("test", hits[known].mean(), hits[known & ~copied].mean()))
        self.warnings += majority_warnings(
            "the probe on the test split", hits, plain.labels, independent=plain.split.independent
        )
        return ProbeOutcome(crossed, SampleValues(hits, plain.labels, plain.split.copies, crossed=False))

    def _classifier(
        self, views: list[list[np.ndarray]], labels: np.ndarray, positions: np.ndarray, seed: int
    ) -> tuple[FrozenHead | ProbeResult, bool]:
        """The frozen head, and whether it is for the mean of the views; the linear probe on rows of numbers, which may be anything."""
        copies = self.rows.split.copies[positions]
        if self.linear:
            return fit_probe(views[0][0], labels, classes=self.classes, copies=copies, seed=seed), False
        require_heldout(fold_of(labels, 2, seed, copies))
        return fit_frozen_views(views, labels, classes=self.classes, copies=copies, seed=seed)

    def _layers_of(
        self, views: Sequence[CandidateRows], chosen: np.ndarray
    ) -> tuple[list[list[np.ndarray]], np.ndarray]:
        """By view what the probe reads of each layer of the chosen samples, and which samples are finite in all."""
        read = collected if self.linear else tamed_layers
        layers = [[rows.numpy() for rows in read(view.stream, chosen).values()] for view in views]
        return layers, np.all([np.isfinite(rows).all(axis=1) for view in layers for rows in view], axis=0)

    def influences(self) -> dict[str, np.ndarray]:
        """By score; centred within classes, with the small-sample factor of a variance."""
        result: dict[str, np.ndarray] = {}
        for name, values in self.moved.items():
            groups, copies = self.labelled.get(name, (self.labels.numpy(), self.rows.split.copies))
            if SCORES[name].by_half:
                groups = groups + self.classes * self.half.numpy()
            result[name] = _moved(values, groups, copies) / self.sizes.get(name, 1)
        return result

    def _batches(self) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor | None]]:
        for positions, rows, scores in self.rows:
            yield positions, rows, self.labels[positions], scores

    def _try(self, name: str, compute: Callable[[], Any]) -> Any:
        """A score that has no value on this data is left out, and the reader is told."""
        try:
            return compute()
        except InputError as error:
            self.warnings.append(f"no {name}: {error}")
            return None

    def _put(self, name: str, positions: np.ndarray, values: Tensor) -> None:
        self.moved.setdefault(name, np.full(len(self.usable), np.nan))[positions] = values.numpy()


def _with_blocks(forward: Forward, feature: Feature, example: Inputs) -> Forward:
    """The same passes that also read the second half of the blocks, where all of these give features."""
    pools: tuple[Pool, ...] = ("cls", "avg") if feature.blocks == "cls" else (feature.blocks,)
    beside = itertools.product(later_blocks(forward.module, feature), pools)
    more = replace(forward, keys=[*forward.keys, *beside])
    try:
        more(example)
    except InputError:
        return forward
    return more


def _moved(values: np.ndarray, labels: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """What each sample adds to a sum of these, NaN where it has no part, with its copies and centred within classes."""
    moved, known = np.zeros(len(values)), np.isfinite(values)
    for label in np.unique(labels[known]):
        here = known & (labels == label)
        moved[here] = deviations(values[here], copies[here])
    return together(moved, copies)
