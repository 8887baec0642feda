"""Everything about one candidate: one stream of its features, all scores, and how each sample moves them."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

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
    "probe_accuracy": 1,
}
"""The scores; 1 where higher is better, -1 where lower is."""

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
        influences: By score, what each sample of the split adds to it, centred within classes: the sum of squares is the score's
            variance under resampling.
        layer: The layer that was measured.
        width: Its feature dimension.
        parameters: Of the network; None for saved features.
        samples: Samples used.
        random_weights: Whether the network is untrained.
        fingerprint: Of the network.
        preprocessing: What its inputs went through.
        warnings: What a reader must know.
        seconds: Forward passes and scores, together.
    """

    name: str
    scores: Mapping[str, float]
    influences: Mapping[str, np.ndarray] = field(repr=False)
    layer: str
    width: int
    parameters: int | None
    samples: int
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
        if score.endswith("accuracy"):
            return wilson_interval(value, self.samples / (_PROBE_LOSS if score == "probe_accuracy" else 1))
        influence = self.influences.get(score)
        if influence is None:
            return None
        deviation = float(np.sqrt(np.sum(influence**2)))
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
        facts = json.loads(metadata["evaluation"])
        return cls(influences=influences, **{**facts, "warnings": tuple(facts["warnings"])})


def evaluate(
    candidate: Candidate,
    data: Dataset,
    *,
    folder: Path,
    split: str = "train",
    selection: Mapping[str, Any] | None = None,
    probe: bool = True,
    batch_size: int = 64,
    device: str | None = None,
    seed: int = 0,
) -> Evaluation:
    """Scores one candidate: one pass of the network over the data, a second one over its stored features.

    Memory does not grow with the number of samples, apart from some numbers per sample.

    Args:
        candidate: What to score.
        data: Labelled data.
        folder: Where features are kept in between.
        split: Which part of the data.
        selection: ``limit``, ``shots`` and ``seed`` with which the data was loaded, for saved features.
        probe: Also fit the cross-validated linear probe.
        batch_size: Samples per forward pass.
        device: Where the network runs.
        seed: Of the probe's folds.

    Raises:
        InputError: If the model cannot be loaded, has no recognisable feature, or the data has fewer than two classes.
    """
    start = time.perf_counter()
    model, part = _load(candidate, data, split, selection or {})
    layer = _layer(model, candidate.layer)
    place = torch.device(device or "cpu")
    model.module.to(place)
    stream = FeatureStream(
        model.module,
        _Source(part, model),
        [layer],
        ["avg"],
        batch_size=batch_size,
        device=place,
        folder=folder,
        budget=_CACHE,
        processes=Processes(),
    )
    work = _Work(stream, scored=model.head is not None)
    work.first_pass()
    work.second_pass(probe=probe, seed=seed)
    return Evaluation(
        name=candidate.name,
        scores=work.scores,
        influences=work.influences(),
        layer=layer,
        width=work.statistics.width,
        parameters=None if candidate.features else sum(p.numel() for p in model.module.parameters()),
        samples=work.statistics.samples,
        random_weights=model.random_weights,
        fingerprint=model.fingerprint,
        preprocessing=model.preprocessing.describe(),
        warnings=(*model.notes, *work.warnings),
        seconds=time.perf_counter() - start,
    )


def _load(candidate: Candidate, data: Dataset, split: str, selection: Mapping[str, Any]) -> tuple[LoadedModel, Split]:
    part = data[split]
    if candidate.features is None:
        assert candidate.model is not None
        return load_model(candidate.model, name=candidate.name, **candidate.options), part
    own = load_data(candidate.features, **selection)[split]
    if not np.array_equal(own.labels, part.labels):
        raise InputError(
            f"The labels in {candidate.features} ({len(own)} samples) are not those of the {split} split of {data.name} "
            f"({len(part)} samples), so the scores could not be compared. Store the features of exactly this data."
        )
    return load_model("features", name=candidate.name), own


def _layer(model: LoadedModel, wanted: str | None) -> str:
    if wanted is not None:
        matching = match_layers(model.module, wanted)
        if len(matching) > 1:
            raise InputError(f"{wanted!r} matches {len(matching)} layers of {model.name}; name one.")
        return matching[0]
    found = penultimate(model.module) or next(reversed(default_layers(model.module)), None)
    if found is None:
        raise InputError(f"{model.name} has no recognisable penultimate feature. Name a layer: layer = \"…\".")
    return found


class _Source:
    """Inputs of a split, with labels that count only the classes it has samples of."""

    def __init__(self, split: Split, model: LoadedModel) -> None:
        self.split, self.preprocessing = split, model.preprocessing
        present, self.labels = np.unique(split.labels, return_inverse=True)
        if len(present) < 2:
            raise InputError(f"The {split.name} split has samples of {len(present)} class; at least two are needed.")

    def inputs(self, positions: np.ndarray) -> Any:
        return next(batches(self.split, self.preprocessing, batch_size=len(positions), indices=positions))[0]


class _Work:
    """The two passes, and what they leave."""

    def __init__(self, stream: FeatureStream, *, scored: bool) -> None:
        self.stream, self.scored = stream, scored
        self.labels = torch.from_numpy(stream.source.labels)
        self.classes = int(self.labels.max()) + 1
        self.half = torch.from_numpy(halves(stream.source.labels))
        self.parts: list[ClassStatistics] = []
        self.source: SourceTable | None = None
        self.scores: dict[str, float] = {}
        self.samples: dict[str, np.ndarray] = {}
        self.warnings: list[str] = []
        self.usable = np.zeros(len(self.labels), dtype=bool)

    @property
    def statistics(self) -> ClassStatistics:
        """Of all samples."""
        first, second = self.parts
        total = ClassStatistics.empty(self.classes, first.width, scatter="pooled")
        total.merge(first)
        total.merge(second)
        return total

    def _batches(self) -> Any:
        for batch in self.stream:
            (features,) = batch.features.values()
            finite = torch.isfinite(features).all(dim=1)
            positions = batch.positions[finite.numpy()]
            scores = batch.scores[finite] if self.scored and batch.scores is not None else None
            yield positions, as_float64(features[finite]), batch.labels[finite], scores

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

    def second_pass(self, *, probe: bool, seed: int) -> None:
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
        chosen = limited_indices(np.asarray(self.labels), PROBE_SAMPLES, seed) if probe else np.zeros(0, dtype=np.int64)
        kept: dict[int, np.ndarray] = {}
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
            wanted = np.isin(positions, chosen)
            kept |= {int(p): row.astype(np.float32) for p, row in zip(positions[wanted], rows.numpy()[wanted], strict=True)}
        if probe:
            self._probe(kept, seed)
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
        return {name: score.influence for name, score in found.items() if score is not None and score.influence is not None}

    def _try(self, name: str, compute: Any) -> Any:
        """A score that has no value on this data is left out, and the reader is told."""
        try:
            return compute()
        except InputError as error:
            self.warnings.append(f"no {name}: {error}")
            return None

    def _put(self, name: str, positions: np.ndarray, values: Tensor) -> None:
        self.samples.setdefault(name, np.full(len(self.usable), np.nan))[positions] = values.numpy()

    def _probe(self, kept: Mapping[int, np.ndarray], seed: int) -> None:
        positions = np.array(sorted(kept))
        labels = self.labels.numpy()[positions]
        features = np.stack([kept[int(position)] for position in positions])
        result = self._try("probe_accuracy", lambda: fit_probe(features, labels, classes=self.classes, seed=seed))
        if result is None:
            return
        self.scores["probe_accuracy"] = result.accuracy
        self._put("probe_accuracy", positions, torch.from_numpy(result.correct(labels)))
        if len(positions) < len(self.usable):
            self.warnings.append(f"the probe was fitted to {len(positions)} of {len(self.usable)} samples")

    def influences(self) -> dict[str, np.ndarray]:
        """By score; centred within classes, with the small-sample factor of a variance."""
        result: dict[str, np.ndarray] = {}
        labels = self.labels.numpy()
        for name, values in self.samples.items():
            known = np.isfinite(values)
            share = 1.0 if name in ("nc1", "nc1_heldout", "h_score", "h_score_regularised", "vci", "logme") else known.sum()
            moved = np.zeros(len(values))
            for label in np.unique(labels[known]):
                own = known & (labels == label)
                count = int(own.sum())
                factor = np.sqrt(count / (count - 1)) if count > 1 else 0.0
                moved[own] = (values[own] - values[own].mean()) * (factor / share)
            result[name] = moved
        return result


def _collapse_index(score: Score, classes: int) -> Score:
    """VCI: 1 - H / (K - 1), between 0 (collapsed) and 1.

    Xu et al. (2023), "Quantifying the variability collapse of neural networks", ICML, arXiv 2306.03440.
    """
    influence = score.influence
    moved = None if influence is None else (lambda rows, labels: influence(rows, labels) / -(classes - 1))
    return Score(1 - score.value / (classes - 1), moved, score.reduced)
