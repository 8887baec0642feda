"""Which network, which method, or just a probe: measured on the training split, in minutes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lowdim._balance import majority_warnings
from lowdim._intervals import FOLD_LOSS, Z, independent
from lowdim._job import CACHE_BUDGET, Job, Progress
from lowdim.data import Dataset
from lowdim.data._copies import copy_warnings
from lowdim.data._dataset import few_shot_indices, never_held_out
from lowdim.data._kept import keeping_pictures
from lowdim.errors import InputError, LowdimError, UnreadableError
from lowdim.finetuning._baseline import baseline_predictions
from lowdim.finetuning._bench import Bench
from lowdim.finetuning._choice import (
    Evidence,
    Gathered,
    auto_plan,
    block_may_pay,
    choose_method,
    expected_interval,
    gather_evidence,
    heldout_predictions,
    is_far,
    paired_difference,
    probe_plan,
)
from lowdim.models import LoadedModel
from lowdim.probe import fold_of
from lowdim.probe._suspects import SUSPICIOUS, suspected_labels
from lowdim.profiling import ClassMeasure, Outlier, profile

_FINALISTS = 2
"""Networks on which blocks are trained: the best probe, and the next one where the two cannot be told apart."""
_FOLDS = 3
_CURVES = ("probe", "baseline")
_SMALL = 0.02
"""Gain from twice the labels that is hardly one."""
_ENOUGH = 500
"""Left-out samples after which no further fold trains a block: an accuracy is then known to about 3 points, whatever the rest says."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to do with a data set.

    Attributes:
        recommendation: The row of evidence to follow.
        features: By network, what its feature is: ``layer``, ``pool``, ``width`` and ``why``.
        untrained: The networks whose weights are random.
        evidence: Every way that was tried, cross-validated; the recommendation, then by accuracy.
        ties: Networks of which something that was tried cannot be told from the recommendation.
        everything: Why training the whole recommended network may gain more (``auto`` of `finetune` tries it); None where nothing
            speaks for it.
        reasons: Why, and which differences are ties.
        baseline_wins: Whether the baseline without a model is at least as good as the recommendation.
        baseline_gain: What the recommendation gains over that baseline on the same samples: ``gain`` and ``interval`` (90 %; shares); None
            where there is no baseline, because the inputs are the features.
        learning_curve: Accuracy of the probe and of the baseline against images per class, every point by the same folds of all
            training images: ``shots``, ``method``, ``accuracy``, ``interval``.
        more_labels: What the last doubling of the labels gained: ``gain``, ``error`` and ``interval`` (90 %; shares), ``shots`` (before and
            after), and ``helps``: True where the interval is above 0, False where all of it is below 2 points, None where neither can
            be told. None where there are too few images for two points.
        classes: The trouble by class, in the recommended network's features.
        outliers: Suspected labels: those to which the recommended network's probe, not having seen them, gives another class more than 20
            times the probability; the least probable labels first, by a probe that has seen none of them.
        warnings: What a reader must know, candidates that failed included.

    Example:
        >>> chosen = Evidence("digits", "layer", "blocks.1, blocks.4", 0.9, (0.8, 0.95), 1.0, np.ones(3))
        >>> nothing = {name: [] for name in Advice.__dataclass_fields__} | {"baseline_wins": False}
        >>> Advice(**nothing | {"recommendation": chosen}).arguments()
        {'method': 'layer', 'layer': 'blocks.1,blocks.4'}
    """

    recommendation: Evidence
    features: Mapping[str, Mapping[str, Any]]
    untrained: Sequence[str]
    evidence: Sequence[Evidence]
    ties: Sequence[str]
    everything: str | None
    reasons: Sequence[str]
    baseline_wins: bool
    baseline_gain: Mapping[str, Any] | None
    learning_curve: Sequence[Mapping[str, Any]]
    more_labels: Mapping[str, Any] | None
    classes: Sequence[ClassMeasure]
    outliers: Sequence[Outlier]
    warnings: Sequence[str]

    def arguments(self) -> dict[str, str]:
        """The keyword arguments of `finetune` that do what is recommended."""
        chosen = self.recommendation
        layer = {"layer": chosen.layer.replace(", ", ",")} if chosen.layer else {}
        return {"method": chosen.method, **layer}


@keeping_pictures()
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

    Every network gets a cross-validated probe on its frozen layers. On the best one, and on a second that is a tie with it, where
    the probe's weight lies on layers before the last, the block at 3/4 of the depth (``"scl"``) and its average with the probe are
    tried too: on one fold, and where that gains something on as many as leave out 500 samples. The test split is never looked at.

    Args:
        candidates: Each gives a network; one that fails is reported and hides none of the others.
        data: Its train split is used.
        folder: For stored features.
        shots: Images per class of the learning curve, as far as the folds have so many; half of what they have, and all, are
            added. No block is trained for it: a point would cost as much as tuning the network.
        outliers: How many suspected labels to list at most.
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
        ['method']
    """
    warnings: list[str] = []
    job = Job(device=device, seed=seed, folder=folder, cache=cache, cache_budget=cache_budget, progress=progress)
    benches = _benches(candidates, data, job, warnings)
    train = data["train"]
    per_class = len(train) / len(np.unique(train.labels))
    probes: list[Gathered] = []
    tell = job.reporter("probing the candidates") or (lambda done, total: None)
    for bench in benches:
        tell(len(probes), len(benches))
        probes.append(gather_evidence(bench, folds=_FOLDS, baseline=bench is benches[0]))
    tell(len(probes), len(benches))
    baseline = probes[0].baseline  # none where the inputs are the features
    finalists, reasons = _finalists(benches, [gathered.probe for gathered in probes])
    evidence = [*([baseline] if baseline else []), *(gathered.probe for gathered in probes)]
    choices: list[tuple[Bench, Evidence, tuple[str, ...]]] = []
    for bench, probe in finalists:
        tried, why = block_may_pay(bench)
        reasons.append(f"{bench.network.name}: {why}")
        plan = auto_plan(bench) if tried else None
        gathered = gather_evidence(bench, plan, folds=_FOLDS, enough=_ENOUGH, baseline=False)
        evidence += gathered.rows()[1:]
        choices.append((bench, *choose_method(replace(gathered, baseline=baseline, probe=probe))))
    bench, chosen, why = max(choices, key=lambda entry: entry[1].accuracy)
    probe = next(gathered for gathered in probes if gathered.probe.model == bench.network.name)
    far, said = is_far(bench, replace(probe, baseline=baseline))
    measured = profile(
        nn.Sequential(nn.Identity()),
        (torch.from_numpy(bench.fit(probe_plan(bench)).features()), torch.from_numpy(train.labels)),
        layers=["0"],
        seed=seed,
    )
    curve, more = _learning_curve(bench, shots, _CURVES if baseline else _CURVES[:1])
    if per_class < 10:
        warnings.append("below 10 images per class the interval of the expected accuracy is too narrow in some cases")
    return Advice(
        recommendation=chosen,
        features={bench.network.name: bench.feature.as_dict() for bench in benches},
        untrained=[bench.network.name for bench in benches if bench.network.random_weights],
        evidence=sorted(evidence, key=lambda entry: (entry is not chosen, -entry.accuracy)),
        ties=_ties(chosen, evidence),
        everything=said if far else None,
        reasons=[*reasons, *why],
        baseline_wins=baseline is not None and paired_difference(baseline.correct, chosen.correct)[0] >= 0,
        baseline_gain=None
        if baseline is None
        else {
            "gain": paired_difference(chosen.correct, baseline.correct)[0],
            "interval": list(gain_interval(chosen.correct, baseline.correct, chosen.copies)),
        },
        learning_curve=curve,
        more_labels=more,
        classes=[_named(entry, data) for entry in measured.classes],
        outliers=_suspects(bench, outliers),
        warnings=[
            *warnings,
            *never_held_out(train, data.classes),
            *copy_warnings(data, ["train"]),
            *majority_warnings(
                "expected accuracy",
                chosen.correct,
                bench.labels,
                data.classes,
                independent=bench.train.independent,
                guessing=True,
            ),
            *bench.warnings,
        ],
    )


def _benches(
    candidates: Sequence[Callable[[], LoadedModel]], data: Dataset, job: Job, warnings: list[str]
) -> list[Bench]:
    benches: list[Bench] = []
    for index, load in enumerate(candidates):
        name = f"candidate {index + 1}"
        try:
            network = load()
            name = network.name
            bench = Bench(network, data, job)
            bench.fit(probe_plan(bench))
            if bench.network.random_weights:
                warnings.append(
                    f"{bench.network.name}: the weights are random, so it shows nothing of a trained network"
                )
        except UnreadableError:
            raise  # the data is at fault, for every candidate alike
        except LowdimError as error:
            warnings.append(f"{name} is left out: {error}")
        else:
            benches.append(bench)
    if not benches:
        raise InputError(f"No candidate could be used. {' '.join(warnings)}")
    return benches


def _finalists(benches: list[Bench], probes: list[Evidence]) -> tuple[list[tuple[Bench, Evidence]], list[str]]:
    (first, best), *others = sorted(zip(benches, probes, strict=True), key=lambda pair: -pair[1].accuracy)
    chosen, reasons = [(first, best)], list[str]()
    for bench, other in others:
        gain, error = paired_difference(best.correct, other.correct, best.copies)
        if gain <= error:
            reasons.append(
                f"probes: {best.model} and {other.model} are a tie ({100 * gain:+.1f} ± {100 * error:.1f} points)"
            )
            if len(chosen) < _FINALISTS:
                chosen.append((bench, other))
    return chosen, reasons


def _ties(chosen: Evidence, evidence: Sequence[Evidence]) -> list[str]:
    """Other networks with a row that is no worse than the one that was chosen, as far as can be told."""
    names = (
        row.model for row in evidence if row.method != "baseline" and row.model != chosen.model and _tie(chosen, row)
    )
    return list(dict.fromkeys(names))


def _tie(better: Evidence, other: Evidence) -> bool:
    gain, error = paired_difference(better.correct, other.correct, better.copies)
    return gain <= error


def _learning_curve(
    bench: Bench, shots: Sequence[int], curves: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Probe, and perhaps baseline, by images per class, every size by the same left-out images; and what the last doubling gained."""
    labels, seed = bench.labels, bench.job.seed
    part = fold_of(labels, _FOLDS, seed, bench.train.copies)
    full = round(len(labels) / len(np.unique(labels)) * (1 - 1 / _FOLDS))
    sizes = sorted({size for size in (*shots, full // 2, full) if 2 <= size <= full})
    right = {(size, method): np.full(len(labels), np.nan) for size in sizes for method in curves}
    for fold in range(_FOLDS):
        test, rest = np.flatnonzero(part == fold), np.flatnonzero(part != fold)
        for size in sizes:
            train = rest if size == full else rest[few_shot_indices(labels[rest], size, seed)]
            few, left = bench.train.take(train), bench.train.take(test)
            logarithms = [bench.fit(probe_plan(bench), indices=train).log_probabilities(test)]
            if len(curves) > 1:
                logarithms.append(baseline_predictions(few, left, classes=bench.classes, seed=seed))
            for method, rows in zip(curves, logarithms, strict=True):
                right[size, method][test] = rows.argmax(axis=1) == labels[test]
    rows = [
        {
            "shots": size,
            "method": method,
            "accuracy": float(np.nanmean(hits)),
            "interval": list(_interval(hits, bench.train.copies)),
        }
        for (size, method), hits in right.items()
    ]
    if full // 2 not in sizes:
        return rows, None
    pair = right[full, _CURVES[0]], right[full // 2, _CURVES[0]]
    gain, error = paired_difference(*pair, bench.train.copies)
    low, high = gain_interval(*pair, bench.train.copies)
    helps = True if low > 0 else False if high < _SMALL else None
    more = {"helps": helps, "gain": gain, "error": error, "interval": [low, high], "shots": [full // 2, full]}
    return rows, more


def gain_interval(after: np.ndarray, before: np.ndarray, copies: np.ndarray | None = None) -> tuple[float, float]:
    """The 90 % interval of a paired difference of accuracies by cross-validation (1, 0 or NaN per sample).

    Half a sample is added to each of the four cells of right and wrong, so that no difference on a few samples is not taken for none at
    all, and n pairs count as n / 2.5: the folds share training samples. Copies of a sample count once.
    """
    both = ~np.isnan(after - before)
    pairs = (after - before)[both]
    known = len(pairs) if copies is None else independent(copies[both])
    n = known + 2.0
    won, lost = (known * float(side.sum()) / max(len(pairs), 1) + 0.5 for side in (pairs > 0, pairs < 0))
    middle = (won - lost) / n
    half = Z * float(np.sqrt(FOLD_LOSS * (won + lost - (won - lost) ** 2 / n))) / n
    return max(middle - half, -1.0), min(middle + half, 1.0)


def _interval(hits: np.ndarray, copies: np.ndarray) -> tuple[float, float]:
    return expected_interval(float(np.nanmean(hits)), independent(copies[np.isfinite(hits)]))


def _named(entry: ClassMeasure, data: Dataset) -> ClassMeasure:
    nearest = None if entry.nearest_class is None else data.classes[int(entry.nearest_class)]
    return replace(entry, name=data.classes[int(entry.name)], nearest_class=nearest)


def _suspects(bench: Bench, most: int) -> list[Outlier]:
    """Training samples to which the probe, not having seen them, clearly gives another class, the least probable labels first."""
    if not most:
        return []
    train, plan = bench.train, probe_plan(bench)
    heldout = heldout_predictions(bench, plan, fold_of(train.labels, _FOLDS, bench.job.seed, train.copies))
    positions, own = suspected_labels(
        heldout,
        train.labels,
        lambda kept, judged: bench.fit(plan, indices=kept).log_probabilities(judged),
        times=SUSPICIOUS,
    )
    return [
        Outlier(
            item=train.items[position],
            split=train.name,
            position=position,
            class_=bench.class_names[train.labels[position]],
            nearest_class=bench.class_names[heldout[position].argmax()],
            excess=None,
            probability=float(np.exp(own[position])),
        )
        for position in map(int, positions[:most])
    ]
