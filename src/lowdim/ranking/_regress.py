"""Everything about one candidate where labels are numbers: how much of them is linear in its feature, and how low-dimensional that is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lowdim._random import child_seed
from lowdim.data import Dataset
from lowdim.data._dataset import limited_indices
from lowdim.errors import InputError
from lowdim.features import opened_cache
from lowdim.metrics import HeldOut, heldout_ridge, regression_collapse
from lowdim.ranking._candidates import Candidate
from lowdim.ranking._evaluate import PROBE_SAMPLES, Evaluation, Opened
from lowdim.ranking.scores import SCORES


def evaluate_regression(
    candidate: Candidate,
    data: Dataset,
    *,
    folder: Path,
    split: str,
    seed: int,
    cache: Path | None,
    cache_budget: float,
    probe: bool,
    **how: Any,
) -> Evaluation:
    """As `evaluate`, of the candidate's feature: a ridge instead of the frozen head, collapse as `regression_collapse` has it."""
    assert probe, "the ridge cannot be left out"
    opened = Opened(candidate, data, split, **how)
    folder.mkdir(parents=True, exist_ok=True)
    warnings = [*opened.model.notes, *opened.source.warnings()]
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    not_finite: dict[str, Sequence[int]] = {}
    samples, first = 0, None
    with opened_cache(cache, folder, cache_budget, kept=False) as features:
        for name in [split, *(["test"] if opened.on_test else [])]:
            rows = opened.rows(features, name, first)
            first = first or rows.stream
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

    folds, copies = child_seed(seed, "folds"), opened.source.copies[where]
    crossed = attempt("r2_cv", lambda: heldout_ridge(hidden, targets[split], copies=copies, seed=folds))
    others = "test" if opened.on_test else None
    judged = crossed
    if others is not None:
        there, rows = found[others]
        judged = attempt(
            "r2",
            lambda: heldout_ridge(
                hidden, targets[split], (rows, targets[others]), test_copies=data[others].copies[there]
            ),
        )
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
    return opened.evaluation(
        scores={name: scores[name] for name in SCORES if name in scores},
        influences=influences,
        trials={},
        width=hidden.shape[1],
        samples=len(where),
        probe_samples=len(found[others or split][0]),
        warnings=warnings,
        not_finite=not_finite,
    )
