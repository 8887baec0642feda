"""Candidates side by side: their order, ties, and how well each score agrees with the probe."""

import errno
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from joblib import Parallel, delayed

from lowdim._balance import guessing_accuracy
from lowdim._files import json_digest
from lowdim._intervals import Z
from lowdim._job import CACHE_BUDGET
from lowdim._names import short_names
from lowdim._numbers import percent
from lowdim.data import Dataset
from lowdim.data._copies import copy_warnings
from lowdim.data._dataset import Task, never_held_out, unseen_classes
from lowdim.data._finite import some
from lowdim.data._kept import keeping_pictures
from lowdim.errors import InputError, LowdimError, NonFiniteError, UnreadableError, UsageError, did_you_mean
from lowdim.ranking._agreement import FEWEST_GROUPS, FEWEST_ORDERED, Agreement, agreement, kendall
from lowdim.ranking._candidates import Candidate
from lowdim.ranking._evaluate import MOST_NOT_FINITE, Evaluation, ProbeOn, evaluate
from lowdim.ranking._race import nested_order
from lowdim.ranking._race import race as run_race
from lowdim.ranking._regress import evaluate_regression
from lowdim.ranking.scores import JUDGES, SCORES

BASELINES = ("parameters", "width", "source_accuracy")
"""Known without any data; a score that orders models no better is not worth its pass."""


@dataclass(frozen=True)
class Place:
    """A candidate's place in the ranking.

    Attributes:
        candidate: What was ranked.
        evaluation: Its scores.
        rank: From 1; candidates that cannot be told apart from the first of them share it.
    """

    candidate: Candidate
    evaluation: Evaluation
    rank: int

    def as_dict(self, task: Task = "classification") -> dict[str, Any]:
        """Flat, ready for JSON; scores without a value are null.

        Args:
            task: Whose scores.
        """
        evaluation = self.evaluation
        names = [name for name, kind in SCORES.items() if kind.task == task]
        intervals = {name: evaluation.interval(name) for name in names}
        return {
            "model": evaluation.name,
            "rank": self.rank,
            **{name: evaluation.scores.get(name) for name in names},
            "parameters": evaluation.parameters,
            "width": evaluation.width,
            "source_accuracy": self.candidate.source_accuracy,
            "intervals": {name: list(interval) for name, interval in intervals.items() if interval is not None},
            "layer": evaluation.layer,
            "feature": evaluation.feature,
            "samples": evaluation.samples,
            "probe_samples": evaluation.probe_samples or None,
            "raced": evaluation.raced,
            "group": self.candidate.group,
            "random_weights": evaluation.random_weights,
            "fingerprint": evaluation.fingerprint,
            "preprocessing": evaluation.preprocessing,
            "warnings": list(evaluation.warnings),
            "seconds": evaluation.seconds,
        }


@dataclass(frozen=True)
class Ranking:
    """Candidates, best first.

    Attributes:
        by: The score they are ordered by.
        places: One per candidate that could be scored.
        agreement: By score and baseline, with the probe; empty without it.
        equal_width: Kendall's tau with the probe among candidates of the same width, where there are several widths.
        failed: What went wrong, by candidate.
        warnings: What a reader must know.
        outputs: The numbers to be predicted; empty where labels are classes.
        guessing: Accuracy of naming the largest class every time; None where labels are numbers.
    """

    by: str
    places: tuple[Place, ...]
    agreement: Mapping[str, Agreement]
    equal_width: Mapping[str, float]
    failed: Mapping[str, str]
    warnings: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    guessing: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        task = SCORES[self.by].task
        return {
            **({"outputs": list(self.outputs)} if self.outputs else {}),
            "by": self.by,
            "guessing": self.guessing,
            "scores": [place.as_dict(task) for place in self.places],
            "agreement": {
                name: asdict(found) | {"kendall_equal_width": self.equal_width.get(name)}
                for name, found in self.agreement.items()
            },
            "failed": [{"model": name, "error": error} for name, error in self.failed.items()],
            "warnings": list(self.warnings),
        }


@keeping_pictures()
def rank(
    candidates: Sequence[Candidate],
    data: Dataset,
    *,
    by: str | None = None,
    split: str = "train",
    selection: Mapping[str, Any] | None = None,
    probe: bool = True,
    probe_on: ProbeOn = "test",
    race: bool = False,
    jobs: int = 1,
    batch_size: int = 64,
    device: str | None = None,
    seed: int = 0,
    folder: Path | None = None,
    cache: Path | None = None,
    cache_budget: float = CACHE_BUDGET,
    progress: Callable[[int, int], None] | None = None,
) -> Ranking:
    """Ranks pre-trained models by how well their features suit labelled data.

    A candidate's scores depend on that candidate and the data alone. Candidates run through joblib: `joblib.parallel_config`
    chooses another of its backends (Dask, Ray).

    Args:
        candidates: What to rank.
        data: Labelled data; scores measure its `split`. With numbers to be predicted, a ridge on the feature is the probe.
        by: The score that orders: one of `SCORES`; by default the cross-validated accuracy of the probe, in the unit that is wanted,
            and without the probe NC1; with numbers to be predicted the cross-validated R^2 of the ridge.
        split: Which part of the data.
        selection: ``limit``, ``shots`` and ``seed`` with which the data was loaded, for saved features.
        probe: Also fit the frozen head of every candidate (`lowdim.probe.fit_frozen_head`), by cross-validation.
        probe_on: Where its accuracy is measured: on the ``"test"`` split where there is one, or by cross-validation (``"cv"``).
        race: Stop candidates that are clearly behind after 1/16, 1/8, 1/4 or 1/2 of the samples (2.6 standard errors of the
            paired difference). They stand last, with the numbers of the samples that they saw. Not for saved features.
        jobs: Candidates at a time.
        batch_size: Samples per forward pass.
        device: Where the networks run.
        seed: Of the probe's folds, of the agreement's resampling, and of the order of the samples in a race.
        folder: Where evaluations are kept, from which the same call continues.
        cache: Where features are kept, and found again by other calls that want them; default a temporary folder.
        cache_budget: Bytes of features kept; the least recently used are deleted first.
        progress: Called with (candidates done, candidates in all).

    Returns:
        The ranking; a candidate that fails is reported and hides none of the others. A sample with NaN or infinite features in one
        candidate is left out for all of them; a candidate with more than a tenth of those fails.

    Raises:
        UsageError: If there is no candidate, or `by` is no score.
        InputError: If every candidate failed.
        NonFiniteError: If more than a tenth of the samples would be left out for all.

    Example:
        >>> from lowdim.data import load_data
        >>> from lowdim.ranking import candidates_of
        >>> models = candidates_of(["digits", "digits-0-4"])
        >>> [place.candidate.name for place in rank(models, load_data("digits", limit=200), probe=False).places]
        ['digits', 'digits-0-4']
    """
    if not candidates:
        raise UsageError("Name at least one model.")
    task: Task = "regression" if data.outputs else "classification"
    by = by or (JUDGES[task][0] if probe or data.outputs else "nc1")
    if by not in SCORES:
        raise UsageError(f"There is no score {by!r}. {did_you_mean(by, SCORES)}")
    if SCORES[by].task != task:
        raise UsageError(f"{by} is a score for {SCORES[by].task}, but this is {task}.", argument="by")
    if data.outputs and not probe:
        raise UsageError("With `task=regression` the ridge is what ranks: it cannot be left out.", argument="probe")
    if SCORES[by].of_probe and not probe:
        raise UsageError(f"Ordering by {by} needs the probe.")
    if race and (by != JUDGES["classification"][0] or any(candidate.features for candidate in candidates)):
        raise UsageError(
            f"A race goes by {JUDGES['classification'][0]}, and spares forward passes, which saved features do not need: leave `race` out.",
            argument="race",
        )
    present = np.unique(data[split].labels)
    if task == "classification" and len(present) < 2:
        which = f"one class ({data.classes[present[0]]})" if len(present) else "no class"
        raise InputError(f"The {split} split has samples of {which}; ranking needs at least two classes.")
    tested = probe and probe_on == "test" and split == "train" and "test" in data.splits
    if race:
        order = nested_order(data[split].labels, seed)
        data = replace(data, splits={**data.splits, split: data[split].take(order)})
    settings = {
        "split": split,
        "selection": selection,
        "probe": probe,
        "probe_on": probe_on,
        "batch_size": batch_size,
        "device": device,
        "seed": seed,
    }
    content = {"data": {name: part.digest() for name, part in data.splits.items()}, **settings}
    with tempfile.TemporaryDirectory(prefix="lowdim-") if folder is None else nullcontext(str(folder)) as where:
        shared = (
            Path(where) / "features" if race and cache is None else cache
        )  # what a part of the samples gave serves the next
        done = 0

        def results_of(
            numbers: Sequence[int], leave_out: Mapping[str, Sequence[int]], first: int | None = None
        ) -> dict[int, Evaluation | str]:
            """One result per candidate. What is kept of one is not kept under other samples."""
            nonlocal done
            own = [candidates[number] for number in numbers]
            keys = [json_digest([_known_by(candidate), content, leave_out, *([first] if first else [])])[:16] for candidate in own]  # fmt: skip
            places = [Path(where) / f"{key}.safetensors" for key in keys]
            options = {**settings, "cache": shared, "cache_budget": cache_budget, "leave_out": leave_out, **({"first": first} if first else {})}  # fmt: skip
            tasks = (
                delayed(_attempt)(candidate, data, place, by, options)
                for candidate, place in zip(own, places, strict=True)
            )
            found: list[Evaluation | str] = []
            for result in cast("Iterable[Evaluation | str]", Parallel(n_jobs=jobs, return_as="generator")(tasks)):
                found.append(result)
                if first is None and progress is not None:
                    progress(done + len(found), len(candidates))
            return dict(zip(numbers, found, strict=True))

        everyone = range(len(candidates))
        stopped: dict[int, Evaluation] = {}
        if race:
            stopped = run_race(
                lambda numbers, first: results_of(numbers, {}, first), data[split].labels, len(candidates), by=by, batch_size=batch_size
            )  # fmt: skip
            done = len(stopped)
        running = [number for number in everyone if number not in stopped]
        whole = results_of(running, {})
        left_out, notes = _not_finite(list(whole.values()), data)
        if left_out:
            whole = results_of(running, left_out)
        if tested:  # what they have is by cross-validation, and no accuracy on the test split
            stopped = {number: found.without(JUDGES[task][1]) for number, found in stopped.items()}
        results = [{**whole, **stopped}[number] for number in everyone]
        if race and cache is None:
            shutil.rmtree(Path(where) / "features", ignore_errors=True)
    pairs = list(zip(candidates, results, strict=True))
    failed = {candidate.name: error for candidate, error in pairs if isinstance(error, str)}
    if len(failed) == len(pairs):
        raise InputError(
            "No candidate could be scored. " + " ".join(f"{name}: {error}" for name, error in failed.items())
        )
    if not any(by in result.scores for result in results if isinstance(result, Evaluation)):
        known = [result for result in results if isinstance(result, Evaluation)]
        why = next((warning for found in known for warning in found.warnings if warning.startswith("no ")), "")
        raise InputError(
            f"No candidate has the score by which they are to be ordered ({SCORES[by].title}): {why.rstrip('.')}. Give more labelled "
            "samples, two of a class at least, or order `by` another score."
        )
    judge = JUDGES[task][1]
    places = _ordered([(candidate, result) for candidate, result in pairs if isinstance(result, Evaluation)], by)
    finished = [place for place in places if place.evaluation.raced is None]
    if stopped:
        seen = sum(place.evaluation.samples for place in places) / (len(places) * len(data[split]))
        notes.append(
            f"race: {len(stopped)} of {len(places)} candidates were clearly behind and stopped early, so that {100 * seen:.0f} % of the passes "
            "over the training samples were needed; they stand last, and their numbers are of the samples that they saw"
        )
    return Ranking(
        by=by,
        places=places,
        agreement=_agreements(finished, judge, seed),
        equal_width=_equal_width(finished, judge),
        failed=failed,
        warnings=(
            *notes,
            *(never_held_out(data[split], data.classes) if probe and not data.outputs else []),
            *(unseen_classes(data) if tested and not data.outputs else []),
            *copy_warnings(data, [split, "test"] if tested else [split]),
            *_warnings(finished, by, judge),
        ),
        outputs=data.outputs,
        guessing=None if data.outputs else guessing_accuracy(data["test" if tested and by == judge else split].labels),
    )


def _not_finite(results: Sequence[Evaluation | str], data: Dataset) -> tuple[dict[str, list[int]], list[str]]:
    """By split the samples that have no finite features in some candidate, and what to say about them."""
    scored = [result for result in results if isinstance(result, Evaluation)]
    left_out: dict[str, list[int]] = {}
    notes: list[str] = []
    for name, split in data.splits.items():
        counts = {one.name: len(one.not_finite.get(name, ())) for one in scored}
        bad = sorted({position for one in scored for position in one.not_finite.get(name, ())})
        if not bad:
            continue
        where = ", ".join(f"{model}: {count}" for model, count in counts.items() if count)
        what = f"{len(bad)} of {len(split)} samples of the {name} split have NaN, infinite or overflowing features or outputs ({where})"
        if len(bad) > MOST_NOT_FINITE * len(split):
            raise NonFiniteError(f"{what}, more than a tenth. Leave the worst candidates out, or drop those samples.")
        left_out[name] = bad
        notes.append(f"{what} and are left out for every candidate: {some(split.items, bad)}")
    return left_out, notes


def _known_by(candidate: Candidate) -> dict[str, Any]:
    """What decides a candidate's scores."""
    return {key: value for key, value in candidate.identity().items() if key not in ("name", "shown_as", "group")}


def _attempt(candidate: Candidate, data: Dataset, file: Path, by: str, settings: Mapping[str, Any]) -> Evaluation | str:
    """The evaluation, or why there is none: whatever a candidate raises must not end the other candidates.

    Of the numbers per sample it keeps those that ties are judged by: a thousand models on a million images must fit.
    """
    if file.exists():
        return replace(_trimmed(Evaluation.load(file), by), name=candidate.name)
    try:
        scored = evaluate_regression if data.outputs else evaluate
        evaluation = scored(candidate, data, folder=file.parent, **settings)
    except UnreadableError:
        raise  # the data is at fault, for every candidate alike
    except LowdimError as error:
        return str(error)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # a full disk is no property of the candidate
        return f"{type(error).__name__}: {error}"
    evaluation.save(file)
    return _trimmed(evaluation, by)


def _trimmed(evaluation: Evaluation, by: str) -> Evaluation:
    return replace(evaluation, influences={name: rows for name, rows in evaluation.influences.items() if name == by})


def _ordered(scored: Sequence[tuple[Candidate, Evaluation]], by: str) -> tuple[Place, ...]:
    def key(pair: tuple[Candidate, Evaluation]) -> tuple[bool, float, float]:
        value, raced = pair[1].scores.get(by), pair[1].raced
        return (value is None, -raced if raced else -np.inf, 0.0 if value is None else -SCORES[by].direction * value)

    places: list[Place] = []
    leader: Evaluation | None = None
    for position, (candidate, evaluation) in enumerate(sorted(scored, key=key), start=1):
        tied = leader is not None and leader.raced == evaluation.raced and _indistinguishable(leader, evaluation, by)
        if not tied:
            leader = evaluation
        places.append(Place(candidate, evaluation, places[-1].rank if tied else position))
    return tuple(places)


def _indistinguishable(first: Evaluation, second: Evaluation, by: str) -> bool:
    """Whether 0 lies in the 90 % interval of the difference, on the same samples (of the logarithms for NC1)."""
    a, b = first.scores.get(by), second.scores.get(by)
    moved_a, moved_b = first.influences.get(by), second.influences.get(by)
    if a is None or b is None or moved_a is None or moved_b is None:
        return a is None and b is None
    if SCORES[by].logarithmic and min(a, b) > 0:
        moved_a, moved_b, a, b = moved_a / a, moved_b / b, float(np.log(a)), float(np.log(b))
    return abs(a - b) <= Z * float(np.sqrt(np.sum((moved_a - moved_b) ** 2)))


def _aligned(place: Place, name: str) -> float | None:
    """A score or baseline with higher meaning better."""
    if name in SCORES:
        value = place.evaluation.scores.get(name)
        return None if value is None else SCORES[name].direction * value
    return place.candidate.source_accuracy if name == "source_accuracy" else getattr(place.evaluation, name)


def _with_probe(places: Sequence[Place], judge: str) -> dict[str, list[tuple[Place, float, float]]]:
    """By score and baseline, the candidates that have it and a probe, with both values."""
    pairs: dict[str, list[tuple[Place, float, float]]] = {}
    for name in (
        *(kind.name for kind in SCORES.values() if not kind.of_probe and kind.task == SCORES[judge].task),
        *BASELINES,
    ):
        rows = [(place, _aligned(place, name), _aligned(place, judge)) for place in places]
        pairs[name] = [(place, value, probe) for place, value, probe in rows if value is not None and probe is not None]
    return pairs


def _agreements(places: Sequence[Place], judge: str, seed: int) -> dict[str, Agreement]:
    agreements: dict[str, Agreement] = {}
    for name, rows in _with_probe(places, judge).items():
        groups = [place.candidate.group or f"\0{place.candidate.name}" for place, _, _ in rows]
        result = agreement([value for _, value, _ in rows], [probe for _, _, probe in rows], groups=groups, seed=seed)
        if result is not None:
            agreements[name] = result
    return agreements


def _equal_width(places: Sequence[Place], judge: str) -> dict[str, float]:
    taus: dict[str, float] = {}
    if len({place.evaluation.width for place in places}) > 1:
        for name, rows in _with_probe(places, judge).items():
            values, probes = (np.array([row[index] for row in rows], np.float64) for index in (1, 2))
            tau = kendall(values, probes, strata=[place.evaluation.width for place, _, _ in rows])
            if name != "width" and np.isfinite(tau):
                taus[name] = tau
    return taus


def _warnings(places: Sequence[Place], by: str, judge: str) -> list[str]:
    warnings: list[str] = []
    if not SCORES[by].of_probe and not any(judge in place.evaluation.scores for place in places):
        warnings.append(
            f"ordered by {SCORES[by].title} alone: how tight the classes are in the last feature goes with accuracy between many models, "
            "but two that are close may stand in the wrong order; the probe would say how many points apart they are"
        )
    groups = {place.candidate.group or place.candidate.name for place in places}
    if (
        len(places) >= FEWEST_ORDERED
        and len(groups) < FEWEST_GROUPS
        and any(judge in p.evaluation.scores for p in places)
    ):
        warnings.append(
            f"how well the scores agree with the probe has no interval: {len(groups)} independent models are too few, it takes "
            f"{FEWEST_GROUPS}"
        )
    widths = sorted({place.evaluation.width for place in places})
    if len(widths) > 1 and not SCORES[by].of_probe and not SCORES[by].share:
        warnings.append(
            f"the candidates' features have {len(widths)} widths ({widths[0]} to {widths[-1]}); {by} depends on the width, so "
            "compare within equal width, or trust the probe"
        )
    random = [place.candidate.name for place in places if place.evaluation.random_weights]
    if random:
        warnings.append(f"untrained weights: {', '.join(random)}")
    shown = short_names([place.candidate.name for place in places])
    own = [f"{name}: {text}" for name, place in zip(shown, places, strict=True) for text in place.evaluation.warnings]
    return [*warnings, *filter(None, map(_splits_differ, places)), *own]


def _splits_differ(place: Place) -> str | None:
    """The warning where what is reached on the train split is not reached on the test split."""
    of_train, of_test = (place.evaluation.interval(name) for name in ("probe_cv_accuracy", "probe_accuracy"))
    if of_train is None or of_test is None or of_test[1] >= of_train[0]:
        return None
    train, test = (percent(place.evaluation.scores[name]) for name in ("probe_cv_accuracy", "probe_accuracy"))
    return (
        f"{place.candidate.name}: {train} cross-validated on the train split, {test} on the test split: the network may have been trained "
        "on the former, or the splits differ"
    )
