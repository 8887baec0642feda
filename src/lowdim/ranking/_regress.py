"""Everything about one candidate where labels are numbers: how much of them is linear in its feature, and how low-dimensional that is."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lowdim._job import CACHE_BUDGET
from lowdim._random import child_seed
from lowdim.data import Dataset
from lowdim.data._dataset import limited_indices
from lowdim.errors import InputError
from lowdim.features import (
    FeatureStream,
    Forward,
    SplitSource,
    content_digest,
    moved,
    network_content,
    opened_cache,
)
from lowdim.metrics import HeldOut, heldout_ridge, regression_collapse
from lowdim.ranking._candidates import Candidate
from lowdim.ranking._evaluate import PROBE_SAMPLES, CandidateRows, Evaluation, ProbeOn, candidate_split
from lowdim.ranking.scores import SCORES


def evaluate_regression(
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
) -> Evaluation:
    """As `evaluate`, of the candidate's feature: a ridge instead of the frozen head, collapse as `regression_collapse` has it.

    Args:
        candidate: What to score.
        data: Numbers to be predicted.
        folder: As in `evaluate`.
        split: As in `evaluate`.
        selection: As in `evaluate`.
        probe: Has to be true.
        probe_on: As in `evaluate`.
        batch_size: As in `evaluate`.
        device: As in `evaluate`.
        seed: Of the folds.
        cache: As in `evaluate`.
        cache_budget: As in `evaluate`.
        leave_out: As in `evaluate`.

    Raises:
        InputError: If the model cannot be loaded or has no feature that can be told.
        NonFiniteError: If more than a tenth of a split has no finite features or outputs.
    """
    start = time.perf_counter()
    model, place = candidate.load(data.kind), torch.device(device or "cpu")
    model.module.to(place)
    names = [split, *(["test"] if probe_on == "test" and "test" in data.splits and split != "test" else [])]
    sources = {
        name: SplitSource(candidate_split(candidate, data, name, selection or {}), model.preprocessing)
        for name in names
    }
    example = moved(sources[split].inputs(np.arange(2) % max(1, len(data[split]))), place)
    feature = model.feature(example)
    forward = Forward(model.module, [feature.key], place, feature.layout)
    folder.mkdir(parents=True, exist_ok=True)
    warnings = [*model.notes, *sources[split].warnings()]
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    not_finite: dict[str, Sequence[int]] = {}
    samples = 0
    with opened_cache(cache, folder, cache_budget, kept=False) as features:
        streams: list[FeatureStream] = []
        for name, source in sources.items():
            network = network_content(model.module, model.fingerprint)
            content = content_digest(network, source) if features.lasting else name
            stream = FeatureStream(
                forward, source, source.labels, cache=features, content=content, batch_size=batch_size, like=next(iter(streams), None),
            )  # fmt: skip
            streams.append(stream)
            rows = CandidateRows(stream, feature.key, data[name], (leave_out or {}).get(name, ()), scored=False)
            parts = [(where, hidden.numpy()) for where, hidden, _ in rows]
            rows.require_few()
            where, hidden = np.concatenate([part for part, _ in parts]), np.concatenate([part for _, part in parts])
            samples = samples or len(where)
            few = limited_indices(np.zeros(len(where), np.int64), PROBE_SAMPLES, seed)
            found[name], not_finite[name] = (where[few], hidden[few]), rows.bad.tolist()
    where, hidden = found[split]
    targets = {name: data[name].targets[part] for name, (part, _) in found.items()}  # pyright: ignore[reportOptionalSubscript]
    if len(where) < samples:
        warnings.append(f"{len(where):,} of {samples:,} samples are measured")
    held: dict[str, HeldOut] = {}
    scores: dict[str, float] = {}

    def attempt(name: str, compute: Callable[[], Any]) -> Any:
        try:
            return compute()
        except InputError as error:
            warnings.append(f"no {name}: {error}")
            return None

    folds, copies = child_seed(seed, "folds"), sources[split].copies[where]
    crossed = attempt("r2_cv", lambda: heldout_ridge(hidden, targets[split], copies=copies, seed=folds))
    others = names[-1] if len(names) > 1 else None
    judged = crossed
    if others is not None:
        judged = attempt("r2", lambda: heldout_ridge(hidden, targets[split], (found[others][1], targets[others])))
    held |= {name: one for name, one in (("r2_cv", crossed), ("r2", judged)) if one is not None}
    scores |= {name: one.r2 for name, one in held.items()}
    collapse = attempt(
        "outside", lambda: regression_collapse(torch.from_numpy(hidden), torch.from_numpy(targets[split]))
    )
    if collapse is not None:
        scores |= {"outside": collapse.outside, "unexplained": collapse.unexplained}
    influences: dict[str, np.ndarray] = {}
    for name, one in held.items():
        of = split if name == "r2_cv" or others is None else others
        influences[name] = np.zeros(len(data[of]))
        influences[name][found[of][0]] = one.influence
    return Evaluation(
        name=candidate.name,
        scores={name: scores[name] for name in SCORES if name in scores},
        deviations={name: float(np.sqrt(np.sum(values**2))) for name, values in influences.items()},
        influences=influences,
        feature=feature.as_dict(),
        layer=feature.name,
        width=hidden.shape[1],
        parameters=None if candidate.features else sum(p.numel() for p in model.module.parameters()),
        samples=len(where),
        probe_samples=len(found[others or split][0]),
        random_weights=model.random_weights,
        fingerprint=model.fingerprint,
        preprocessing=model.preprocessing.describe(),
        warnings=tuple(warnings),
        seconds=time.perf_counter() - start,
        not_finite=not_finite,
    )
