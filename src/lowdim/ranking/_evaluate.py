"""Everything about one candidate: one stream of its features, all scores, and how each sample moves them."""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lowdim._files import load_tensors, save_tensors
from lowdim._processes import Processes
from lowdim.data import Dataset, Split, batches, load_data
from lowdim.data._dataset import limited_indices
from lowdim.errors import InputError
from lowdim.metrics import nearest_mean
from lowdim.models import LoadedModel, default_layers, load_model, match_layers, penultimate
from lowdim.probe import fit_probe, wilson_interval
from lowdim.profiling._passes import halves
from lowdim.profiling._stream import FeatureStream
from lowdim.ranking._candidates import Candidate
from lowdim.ranking._evidence import log_evidence
from lowdim.ranking._scores import (
    Influence,
    Score,
    class_variability,
    discriminant_log_probability,
    h_score,
    heldout_class_variability,
    regularised_h_score,
)
from lowdim.ranking._source import SourceTable
from lowdim.statistics import ClassStatistics, as_float64, between_span

DIRECTION = {
    "nc1": -1,
    "nc1_heldout": -1,
    "h_score": 1,
    "h_score_regularised": 1,
    "vci": -1,
    "logme": 1,
    "sfda": 1,
    "ncc_accuracy": 1,
    "leep": 1,
    "nce": 1,
    "probe_cv_accuracy": 1,
    "probe_accuracy": 1,
}
"""The scores; 1 where higher is better, -1 where lower is."""

_DERIVATIVES = frozenset({"nc1", "nc1_heldout", "h_score", "h_score_regularised", "vci", "logme"})

ProbeOn = Literal["test", "cv"]

LEVEL = 0.9
"""Of the intervals."""
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)

PROBE_SAMPLES = 10_000
"""The probe is fitted to at most so many samples, so that memory does not grow with the data."""

_PROBE_LOSS = 1.3
"""Folds share training samples, so n held-out predictions tell as much as n / 1.3 independent ones."""

_CACHE = 4e9


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of one candidate on one data set; they depend on no other candidate.

    Attributes:
        name: Of the candidate.
        scores: By name; a score that has no value is absent, and a warning says why.
        deviations: By score, its standard deviation under resampling of the samples.
        influences: By score, what each sample of the split adds to it, centred within classes: the sum of squares is the score's
            variance under resampling. After `rank` those of the ordering score alone.
        layer: The layer that was measured.
        width: Its feature dimension.
        parameters: Of the network; None for saved features.
        samples: Samples used.
        probe_samples: Samples that `probe_accuracy` was measured on: the test split, or by cross-validation where there is none.
        random_weights: Whether the network is untrained.
        fingerprint: Of the network.
        preprocessing: What its inputs went through.
        warnings: What a reader must know.
        seconds: Forward passes and scores, together.

    Example:
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

    def interval(self, score: str) -> tuple[float, float] | None:
        """90 % interval of a score under resampling of the samples; None where it is not known."""
        value = self.scores.get(score)
        if value is None:
            return None
        if score == "probe_accuracy":
            return wilson_interval(value, self.probe_samples)
        if score.endswith("accuracy"):
            return wilson_interval(value, self.samples / (_PROBE_LOSS if score == "probe_cv_accuracy" else 1))
        deviation = self.deviations.get(score)
        if deviation is None:
            return None
        if score.startswith("nc1") and value > 0:
            factor = float(np.exp(Z * deviation / value))
            return value / factor, value * factor
        return value - Z * deviation, value + Z * deviation

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
) -> Evaluation:
    """Scores one candidate: one pass of the network over the data, a second one over its stored features.

    Memory does not grow with the number of samples, apart from some numbers per sample.

    Args:
        candidate: What to score.
        data: Labelled data.
        folder: For a temporary folder with the features.
        split: Which part of the data.
        selection: ``limit``, ``shots`` and ``seed`` with which the data was loaded, for saved features.
        probe: Also fit the linear probe, its strength chosen by cross-validation.
        probe_on: Where its accuracy is measured: on the ``"test"`` split (where there is one beside `split`), or by
            cross-validation (``"cv"``).
        batch_size: Samples per forward pass.
        device: Where the network runs.
        seed: Of the probe's folds.

    Raises:
        InputError: If the model cannot be loaded, has no recognisable feature, or the data has fewer than two classes.

    Example:
        >>> import tempfile
        >>> from lowdim.data import load_data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     candidate, data = Candidate(name="small", model="digits"), load_data("digits", limit=100)
        ...     found = evaluate(candidate, data, folder=Path(folder), probe=False)
        >>> found.layer, found.width, found.samples
        ('head:input', 24, 100)
    """
    start = time.perf_counter()
    model = _model(candidate)
    layer = _layer(model, candidate.layer)
    place = torch.device(device or "cpu")
    model.module.to(place)

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="features-", dir=folder) as kept:

        def stream(name: str) -> FeatureStream:
            source = _Source(_split(candidate, data, name, selection or {}), model)
            return FeatureStream(
                model.module,
                source,
                [layer],
                ["avg"],
                batch_size=batch_size,
                device=place,
                folder=Path(kept) / name,
                budget=_CACHE,
                processes=Processes(),
            )

        work = _Work(stream(split), scored=model.head is not None)
        work.first_pass()
        work.second_pass()
        if probe:
            judged = stream("test") if probe_on == "test" and "test" in data.splits and split != "test" else None
            work.probe(judged, seed)
    influences = work.influences()
    return Evaluation(
        name=candidate.name,
        scores=work.scores,
        deviations={name: float(np.sqrt(np.sum(values**2))) for name, values in influences.items()},
        influences=influences,
        layer=layer,
        width=work.statistics.width,
        parameters=None if candidate.features else sum(p.numel() for p in model.module.parameters()),
        samples=work.statistics.samples,
        probe_samples=work.probe_samples,
        random_weights=model.random_weights,
        fingerprint=model.fingerprint,
        preprocessing=model.preprocessing.describe(),
        warnings=(*model.notes, *work.warnings),
        seconds=time.perf_counter() - start,
    )


def _model(candidate: Candidate) -> LoadedModel:
    if candidate.model is None:
        return load_model("features", name=candidate.name)
    return load_model(candidate.model, name=candidate.name, **candidate.options)


def _split(candidate: Candidate, data: Dataset, name: str, selection: Mapping[str, Any]) -> Split:
    """The split of the data, or of the saved features of it."""
    part = data[name]
    if candidate.features is None:
        return part
    own = load_data(candidate.features, **selection)[name]
    if not np.array_equal(own.labels, part.labels):
        raise InputError(
            f"The labels in {candidate.features} ({len(own)} samples) are not those of the {name} split of {data.name} "
            f"({len(part)} samples), so the scores could not be compared. Store the features of exactly this data."
        )
    return own


def _layer(model: LoadedModel, wanted: str | None) -> str:
    if wanted is not None:
        matching = match_layers(model.module, wanted)
        if len(matching) > 1:
            raise InputError(f"{wanted!r} matches {len(matching)} layers of {model.name}; name one.")
        return matching[0]
    found = penultimate(model.module) or next(reversed(default_layers(model.module)), None)
    if found is None:
        raise InputError(f'{model.name} has no recognisable penultimate feature. Name a layer: layer = "…".')
    return found


class _Source:
    """Inputs and labels of a split."""

    def __init__(self, split: Split, model: LoadedModel) -> None:
        self.split, self.preprocessing, self.labels = split, model.preprocessing, split.labels

    def inputs(self, positions: np.ndarray) -> Any:
        return next(batches(self.split, self.preprocessing, batch_size=len(positions), indices=positions))[0]


class _Work:
    """The two passes, and what they leave."""

    def __init__(self, stream: FeatureStream, *, scored: bool) -> None:
        self.stream, self.scored = stream, scored
        self.present, labels = np.unique(stream.source.labels, return_inverse=True)
        if len(self.present) < 2:
            raise InputError(f"The data has samples of {len(self.present)} class; ranking needs at least two classes.")
        self.labels = torch.from_numpy(labels)
        self.classes = len(self.present)
        self.half = torch.from_numpy(halves(stream.source.labels))
        self.parts: list[ClassStatistics] = []
        self.source: SourceTable | None = None
        self.scores: dict[str, float] = {}
        self.samples: dict[str, np.ndarray] = {}
        self.warnings: list[str] = []
        self.usable = np.zeros(len(self.labels), dtype=bool)
        self.probe_samples = 0
        self.test_labels: np.ndarray | None = None

    @property
    def statistics(self) -> ClassStatistics:
        """Of all samples."""
        first, second = self.parts
        total = ClassStatistics.empty(self.classes, first.width, scatter="pooled")
        total.merge(first)
        total.merge(second)
        return total

    def _batches(self) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor | None]]:
        for positions, rows, scores in _finite(self.stream):
            yield positions, rows, self.labels[positions], scores if self.scored else None

    def first_pass(self) -> None:
        """Moments of both halves, and the source table."""
        for positions, rows, labels, scores in self._batches():
            if not self.parts:
                self.parts = [ClassStatistics.empty(self.classes, rows.shape[1], scatter="pooled") for _ in range(2)]
            own = self.half[positions]
            for part in range(2):
                self.parts[part].add(rows[own == part], labels[own == part])
            if scores is not None:
                self.source = self.source or SourceTable(self.classes, scores.shape[1])
                self.source.update(scores, labels)
            self.usable[positions] = True
        left = int((~self.usable).sum())
        if left:
            self.warnings.append(f"{left} of {len(self.usable)} samples have NaN or infinite features and are left out")

    def second_pass(self) -> None:
        """Scores and what each sample adds to them."""
        statistics = self.statistics
        if statistics.samples - statistics.classes < statistics.width:
            self.warnings.append(
                f"fewer samples ({statistics.samples}) than features ({statistics.width}): the H-score and VCI are taken in the "
                "span of the class means"
            )
        influences = self._from_statistics(statistics)
        means = between_span(statistics)
        discriminant = self._try("sfda", lambda: discriminant_log_probability(statistics))
        for positions, rows, labels, scores in self._batches():
            for name, influence in influences.items():
                keys = labels + self.classes * self.half[positions] if name == "nc1_heldout" else labels
                self._put(name, positions, influence(rows, keys))
            distances = nearest_mean((rows - means.centre) @ means.basis, means.coordinates)
            self._put("ncc_accuracy", positions, (distances.argmin(dim=1) == labels).double())
            if discriminant is not None:
                self._put("sfda", positions, discriminant(rows, labels))
            if scores is not None and self.source is not None:
                self._put("leep", positions, self.source.leep(scores, labels))
                self._put("nce", positions, self.source.nce(scores, labels))
        for name in ("ncc_accuracy", "sfda", "leep", "nce"):
            if name in self.samples:
                self.scores[name] = float(np.nanmean(self.samples[name][self.usable]))

    def _from_statistics(self, statistics: ClassStatistics) -> dict[str, Influence]:
        found = {
            "nc1": self._try("nc1", lambda: class_variability(statistics)),
            "nc1_heldout": self._try("nc1_heldout", lambda: heldout_class_variability(*self.parts)),
            "h_score": self._try("h_score", lambda: h_score(statistics)),
            "h_score_regularised": self._try("h_score_regularised", lambda: regularised_h_score(statistics)),
            "logme": self._try("logme", lambda: log_evidence(statistics)),
        }
        plain = found["h_score"]
        if plain is not None:
            found["vci"] = _collapse_index(plain, statistics.classes)
        self.scores |= {name: score.value for name, score in found.items() if score is not None}
        return {
            name: score.influence for name, score in found.items() if score is not None and score.influence is not None
        }

    def _try(self, name: str, compute: Any) -> Any:
        """A score that has no value on this data is left out, and the reader is told."""
        try:
            return compute()
        except InputError as error:
            self.warnings.append(f"no {name}: {error}")
            return None

    def _put(self, name: str, positions: np.ndarray, values: Tensor) -> None:
        self.samples.setdefault(name, np.full(len(self.usable), np.nan))[positions] = values.numpy()

    def probe(self, test: FeatureStream | None, seed: int) -> None:
        """The linear probe, fitted to at most `PROBE_SAMPLES` of the samples; measured on test samples or by cross-validation."""
        chosen = limited_indices(self.labels.numpy(), PROBE_SAMPLES, seed)
        kept = [(p[own], rows.numpy()[own]) for p, rows, _, _ in self._batches() if (own := np.isin(p, chosen)).any()]
        positions, features = (np.concatenate(part) for part in zip(*kept, strict=True))
        labels = self.labels.numpy()[positions]
        result = self._try("probe_accuracy", lambda: fit_probe(features, labels, classes=self.classes, seed=seed))
        if result is None:
            return
        if len(positions) < len(self.usable):
            self.warnings.append(f"the probe was fitted to {len(positions)} of {len(self.usable)} samples")
        right = np.full(len(self.usable), np.nan)
        right[positions] = result.correct(labels)
        self.samples["probe_cv_accuracy"] = right
        self.scores["probe_cv_accuracy"] = self.scores["probe_accuracy"] = result.accuracy
        self.probe_samples = int(np.isfinite(right).sum() / _PROBE_LOSS)
        if test is None:
            self.samples["probe_accuracy"] = right
            return
        truth = test.source.labels
        # A class without training samples cannot be predicted, and a sample without finite features is not.
        hits = np.zeros(len(truth))
        for where, rows, _ in _finite(test):
            predicted = self.present[result.probe.log_probabilities(rows.numpy()).argmax(axis=1)]
            hits[where] = predicted == truth[where]
        self.samples["probe_accuracy"], self.test_labels = hits, truth
        self.scores["probe_accuracy"], self.probe_samples = float(hits.mean()), len(hits)

    def influences(self) -> dict[str, np.ndarray]:
        """By score; centred within classes, with the small-sample factor of a variance."""
        labels = self.labels.numpy()
        result: dict[str, np.ndarray] = {}
        for name, values in self.samples.items():
            known = np.isfinite(values)
            # What is not a derivative yet is one sample's part of a mean.
            scale = 1.0 if name in _DERIVATIVES else 1 / known.sum()
            groups = labels
            if name == "probe_accuracy" and self.test_labels is not None:
                groups = self.test_labels
            if name == "nc1_heldout":
                groups = labels + self.classes * self.half.numpy()
            result[name] = scale * _centred(values, groups, known)
        return result


def _centred(values: np.ndarray, labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    moved = np.zeros(len(values))
    for label in np.unique(labels[known]):
        own = known & (labels == label)
        count = int(own.sum())
        if count > 1:
            moved[own] = (values[own] - values[own].mean()) * np.sqrt(count / (count - 1))
    return moved


def _finite(stream: FeatureStream) -> Iterator[tuple[np.ndarray, Tensor, Tensor | None]]:
    """Positions, float64 features and the network's outputs of the samples whose features are finite."""
    for batch in stream:
        (features,) = batch.features.values()
        finite = torch.isfinite(features).all(dim=1)
        scores = None if batch.scores is None else batch.scores[finite]
        yield batch.positions[finite.numpy()], as_float64(features[finite]), scores


def _collapse_index(score: Score, classes: int) -> Score:
    """VCI: 1 - H / (K - 1), between 0 (collapsed) and 1.

    Xu et al. (2023), "Quantifying the variability collapse of neural networks", ICML, arXiv 2306.03440.
    """
    influence = score.influence
    moved = None if influence is None else (lambda rows, labels: influence(rows, labels) / -(classes - 1))
    return Score(1 - score.value / (classes - 1), moved, score.reduced)
