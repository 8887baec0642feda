"""Which network, which method, or just a probe: measured on the training split, in minutes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lowdim._job import CACHE_BUDGET, Job, Progress
from lowdim.data import Dataset
from lowdim.data._copies import copy_warnings
from lowdim.data._dataset import few_shot_indices
from lowdim.errors import InputError, LowdimError
from lowdim.finetuning._balance import majority_warnings
from lowdim.finetuning._baseline import baseline_predictions
from lowdim.finetuning._bench import Bench
from lowdim.finetuning._choice import (
    PROBE,
    Evidence,
    auto_plan,
    choose_method,
    expected_interval,
    gather_evidence,
    paired_difference,
)
from lowdim.finetuning._evaluate import accuracy_of
from lowdim.models import LoadedModel
from lowdim.profiling import ClassMeasure, Outlier, profile

_FINALISTS = 2
"""Networks on which blocks are trained: the best probe, and the next one where the two cannot be told apart."""
_FOLDS = 3
_ENOUGH = 500
"""Left-out samples after which no further fold trains a block: an accuracy is then known to about 3 points, whatever the rest says."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to do with a data set.

    Attributes:
        recommendation: The row of evidence to follow.
        features: By network, what its feature is: ``layer``, ``pool``, ``width`` and ``why``.
        evidence: Every way that was tried, cross-validated.
        reasons: Why, and which differences are ties.
        baseline_wins: Whether the baseline without a model is at least as good as the recommendation.
        learning_curve: Accuracy of the probe and of the baseline on left-out training images against images per class: ``shots``,
            ``method``, ``accuracy``, ``interval``; at the size of the cross-validation, the last, of the recommendation too.
        classes: The trouble by class, in the recommended network's features.
        outliers: Suspected labels.
        warnings: What a reader must know, candidates that failed included.

    Example:
        >>> chosen = Evidence("digits", "layer", "blocks.1, blocks.4", 0.9, (0.8, 0.95), 1.0, np.ones(3))
        >>> nothing = {name: [] for name in Advice.__dataclass_fields__} | {"baseline_wins": False}
        >>> Advice(**nothing | {"recommendation": chosen}).arguments()
        {'method': 'layer', 'layer': 'blocks.1,blocks.4'}
    """

    recommendation: Evidence
    features: Mapping[str, Mapping[str, Any]]
    evidence: Sequence[Evidence]
    reasons: Sequence[str]
    baseline_wins: bool
    learning_curve: Sequence[Mapping[str, Any]]
    classes: Sequence[ClassMeasure]
    outliers: Sequence[Outlier]
    warnings: Sequence[str]

    def arguments(self) -> dict[str, str]:
        """The keyword arguments of `finetune` that do what is recommended."""
        chosen = self.recommendation
        layer = {"layer": chosen.layer.replace(", ", ",")} if chosen.layer else {}
        return {"method": chosen.method, **layer}


def advise(
    candidates: Sequence[Callable[[], LoadedModel]],
    data: Dataset,
    folder: Path,
    *,
    shots: Sequence[int] = (5, 10, 20),
    outliers: int = 10,
    device: torch.device | str = "cpu",
    cache: Path | None = None,
    cache_budget: float = CACHE_BUDGET,
    seed: int = 0,
    progress: Progress | None = None,
) -> Advice:
    """Compares networks and methods on the training split by cross-validation.

    Every network gets a cross-validated probe on its features. On the best one, and on a second that is a tie with it, the
    block at 3/4 of the depth (``"scl"``) and its average with the probe are tried too, on as many folds as leave out 500 samples.
    The test split is never looked at.

    Args:
        candidates: Each gives a network; one that fails is reported and hides none of the others.
        data: Its train split is used.
        folder: For stored features.
        shots: Images per class of the learning curve; sizes that leave too few images to test on are left out. No block is
            trained for it: a point would cost as much as tuning the network.
        outliers: How many suspected labels to list.
        device: Where networks run.
        cache: For stored prefixes instead of `folder`: `finetune` and `rank` find them there.
        cache_budget: Bytes of stored prefixes; the least recently used are deleted first.
        seed: Of everything random.
        progress: Called with what is being done, steps done and steps in all.

    Raises:
        InputError: If no candidate can be used.

    Returns:
        The recommendation with its evidence.

    Example:
        >>> import tempfile
        >>> from functools import partial
        >>> from lowdim.data import load_data
        >>> from lowdim.models import load_model
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     advice = advise([partial(load_model, "digits")], load_data("digits", shots=4, limit=50), Path(folder), shots=[2])
        >>> sorted(advice.arguments())
        ['layer', 'method']
    """
    warnings: list[str] = []
    job = Job(device=device, seed=seed, folder=folder, cache=cache, cache_budget=cache_budget, progress=progress)
    benches = _benches(candidates, data, job, warnings)
    train = data["train"]
    per_class = len(train) / len(np.unique(train.labels))
    probes = [gather_evidence(bench, folds=_FOLDS, baseline=bench is benches[0]) for bench in benches]
    baseline = probes[0].baseline
    assert baseline is not None
    finalists, reasons = _finalists(benches, [gathered.probe for gathered in probes])
    evidence = [baseline, *(gathered.probe for gathered in probes)]
    choices: list[tuple[Bench, Evidence, Evidence, tuple[str, ...]]] = []
    for bench, probe in finalists:
        gathered = gather_evidence(bench, auto_plan(bench), folds=_FOLDS, enough=_ENOUGH, baseline=False)
        evidence += gathered.rows()[1:]
        choices.append((bench, probe, *choose_method(replace(gathered, baseline=baseline, probe=probe))))
    bench, probe, chosen, why = max(choices, key=lambda entry: entry[2].accuracy)
    measured = profile(
        nn.Sequential(nn.Identity()),
        (torch.from_numpy(bench.fit(PROBE).features()), torch.from_numpy(train.labels)),
        layers=["0"],
        outliers=outliers,
        seed=seed,
    )
    if per_class < 10:
        warnings.append("below 10 images per class the interval of the expected accuracy is too narrow in some cases")
    return Advice(
        recommendation=chosen,
        features={bench.network.name: bench.feature.as_dict() for bench in benches},
        evidence=sorted(evidence, key=lambda entry: -entry.accuracy),
        reasons=[*reasons, *why],
        baseline_wins=paired_difference(baseline.correct, chosen.correct)[0] >= 0,
        learning_curve=_learning_curve(bench, shots, [probe, baseline, *([] if chosen is probe else [chosen])]),
        classes=[_named(entry, data) for entry in measured.classes],
        outliers=[_named_outlier(entry, data) for entry in measured.outliers],
        warnings=[
            *warnings,
            *copy_warnings(data, ["train"]),
            *majority_warnings("expected accuracy", chosen.correct, bench.labels, data.classes),
            *bench.warnings,
        ],
    )


def _benches(
    candidates: Sequence[Callable[[], LoadedModel]], data: Dataset, job: Job, warnings: list[str]
) -> list[Bench]:
    benches: list[Bench] = []
    for index, load in enumerate(candidates):
        try:
            bench = Bench(load(), data, job)
            bench.fit(PROBE)
        except LowdimError as error:
            warnings.append(f"candidate {index + 1} is left out: {error}")
        else:
            benches.append(bench)
    if not benches:
        raise InputError(f"No candidate could be used. {' '.join(warnings)}")
    return benches


def _finalists(benches: list[Bench], probes: list[Evidence]) -> tuple[list[tuple[Bench, Evidence]], list[str]]:
    (first, best), *others = sorted(zip(benches, probes, strict=True), key=lambda pair: -pair[1].accuracy)
    chosen, reasons = [(first, best)], list[str]()
    for bench, other in others:
        gain, error = paired_difference(best.correct, other.correct)
        if gain <= error:
            reasons.append(
                f"probes: {best.model} and {other.model} are a tie ({100 * gain:+.1f} ± {100 * error:.1f} points)"
            )
            if len(chosen) < _FINALISTS:
                chosen.append((bench, other))
    return chosen, reasons


def _learning_curve(bench: Bench, shots: Sequence[int], last: Sequence[Evidence]) -> list[dict[str, Any]]:
    """Probe and baseline for every size that leaves a sample per class to test on; then what cross-validation found, at the
    images per class that its fits had."""
    labels = bench.labels
    classes = len(np.unique(labels))
    rows: list[dict[str, Any]] = []
    for size in sorted(set(shots)):
        train = few_shot_indices(labels, size, bench.job.seed)
        test = np.flatnonzero(~np.isin(bench.train.copies, bench.train.copies[train]))
        if len(test) < classes or size < 2:
            continue
        few, rest = bench.train.take(train), bench.train.take(test)
        parts = {
            PROBE.method: bench.fit(PROBE, indices=train).log_probabilities(test),
            "baseline": baseline_predictions(few, rest, classes=bench.classes, seed=bench.job.seed),
        }
        for method, logarithms in parts.items():
            share = accuracy_of(logarithms, labels[test])
            rows.append(_point(size, method, share, expected_interval(share, len(test))))
    size = round(len(labels) / classes * (1 - 1 / _FOLDS))
    rows += [_point(size, entry.method, entry.accuracy, entry.interval) for entry in last]
    return sorted(rows, key=lambda row: row["shots"])


def _point(shots: int, method: str, accuracy: float, interval: tuple[float, float]) -> dict[str, Any]:
    return {"shots": shots, "method": method, "accuracy": accuracy, "interval": list(interval)}


def _named(entry: ClassMeasure, data: Dataset) -> ClassMeasure:
    nearest = None if entry.nearest_class is None else data.classes[int(entry.nearest_class)]
    return replace(entry, name=data.classes[int(entry.name)], nearest_class=nearest)


def _named_outlier(entry: Outlier, data: Dataset) -> Outlier:
    return replace(
        entry,
        item=data["train"].items[entry.position],
        class_=data.classes[int(entry.class_)],
        nearest_class=data.classes[int(entry.nearest_class)],
    )
