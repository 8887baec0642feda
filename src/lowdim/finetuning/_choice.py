"""Which method? A ladder from the cheapest on: cross-validated evidence on the training split, ties to the cheaper."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lowdim._balance import balanced_accuracy, guessing_accuracy
from lowdim._files import json_digest
from lowdim._intervals import FOLD_LOSS, deviations, independent, together, wilson_interval
from lowdim.errors import InputError
from lowdim.finetuning._baseline import heldout_baseline
from lowdim.finetuning._bench import Bench
from lowdim.finetuning._blocks import plan_of
from lowdim.finetuning._evaluate import averaged, require_classes
from lowdim.finetuning._plan import Options, Plan
from lowdim.finetuning.methods import RECORDS, Decision, ensemble, ensemble_adapt, linear_probe, method_named
from lowdim.probe import fold_of, require_heldout

_PROBE, _BLOCK = ensemble.METHOD.parts
_WHOLE = ensemble_adapt.METHOD.parts[1]
_FURTHER = 0.55
"""Weight of the layers before the last in the frozen head from which a block is tried: where the last layer is not the right one. With texts it is
always tried: there it gained whatever the weight, which with few samples is chance (.37 to .63 on questions, 20 per class)."""
_FAR, _RIGHT = 0.1, 0.95
"""Share of what the probe gains over guessing, in nats, that no network at all gains, from which everything is trained unless it is clearly less, or
the probe is right this often."""
_FOLDS = 5
_LEFT_OUT = 40
"""Left-out samples by which what is trained is judged at least, where the first fold does not speak clearly against it."""


@dataclass(frozen=True)
class Evidence:
    """What cross-validation says about one way to classify.

    Attributes:
        model: Name of the network; ``"(no model)"`` for the baseline.
        method: Of the plan, ``"ensemble"`` or ``"baseline"``.
        layer: Trained blocks, if any.
        accuracy: Of training samples by fits that had not seen them.
        interval: 90 %, Wilson with N / 2.5.
        seconds: What the estimate cost.
        correct: 1 or 0 per sample; NaN for those never held out.
        plans: What to fit for it; several are averaged.
        balanced_accuracy: Mean over the classes of the accuracy on their samples.
        losses: Negative log probability of each sample's class, in nats; NaN for those never held out.
        guessing: Accuracy of naming the largest class every time.
        copies: A number per sample, the same for identical ones, which count once; None where there are none.
    """

    model: str
    method: str
    layer: str | None
    accuracy: float
    interval: tuple[float, float]
    seconds: float
    correct: Float[np.ndarray, " n"]
    plans: tuple[Plan, ...] = ()
    balanced_accuracy: float | None = None
    losses: Float[np.ndarray, " n"] | None = None
    guessing: float | None = None
    copies: Int[np.ndarray, " n"] | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values, without the single samples."""
        values = {
            name: getattr(self, name)
            for name in ("model", "method", "layer", "accuracy", "balanced_accuracy", "guessing", "seconds")
        }
        return {**values, "interval": list(self.interval)}


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The evidence about one network, by the part that it plays in the choice."""

    baseline: Evidence | None = None
    probe: Evidence
    block: Evidence | None = None
    average: Evidence | None = None
    everything: Evidence | None = None
    also: tuple[Evidence, ...] = ()

    def trained(self) -> list[Evidence]:
        """What was trained, from the cheapest on."""
        return [row for row in (self.block, self.average, self.everything, *self.also) if row is not None]

    def rows(self) -> list[Evidence]:
        """All of it, in the order in which it was gathered."""
        return [*([self.baseline] if self.baseline else []), self.probe, *self.trained()]


def evidence_of(
    model: str,
    method: str,
    plans: Sequence[Plan],
    correct: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    seconds: float = 0.0,
    beside: Evidence | None = None,
    *,
    copies: Int[np.ndarray, " n"] | None = None,
) -> Evidence:
    """Evidence from right and wrong held-out predictions: 1, 0 or NaN per sample, of which copies of one count once in the interval.

    Where there are fewer of them than of the evidence `beside`, the accuracy is that of the latter and the difference on the samples
    that both know: folds differ, and rows of one table must not contradict the comparison of pairs.
    """
    known = correct[~np.isnan(correct)]
    accuracy = float(known.mean())
    if beside is not None and len(known) < np.isfinite(beside.correct).sum():
        accuracy = min(max(beside.accuracy + paired_difference(correct, beside.correct)[0], 0.0), 1.0)
    interval = expected_interval(accuracy, len(known) if copies is None else independent(copies[~np.isnan(correct)]))
    layer = ", ".join(block for plan in plans for block in plan.blocks) or None
    return Evidence(
        model, method, layer, accuracy, interval, round(seconds, 3), correct, tuple(plans), copies=copies,
        balanced_accuracy=balanced_accuracy(correct, labels), guessing=guessing_accuracy(labels[~np.isnan(correct)]),
    )  # fmt: skip


def evidence_of_head(bench: Bench, plan: Plan) -> Evidence | None:
    """Of a frozen head, which knows by its folds what it makes of samples that it has not seen; None where none could be held out."""
    part = fold_of(bench.labels, _FOLDS, bench.job.seed, bench.train.copies)
    if not (part >= 0).any():
        return None
    started = time.monotonic()
    right = _right(heldout_predictions(bench, plan, part), bench.labels)
    taken, copies = time.monotonic() - started, bench.train.copies
    return evidence_of(bench.network.name, plan.method, [plan], right, bench.labels, taken, copies=copies)


def expected_interval(accuracy: float, samples: float) -> tuple[float, float]:
    """The 90 % interval of an accuracy estimated by cross-validation."""
    return wilson_interval(accuracy, samples / FOLD_LOSS)


def gather_evidence(
    bench: Bench,
    plan: Plan | None = None,
    also: Sequence[Plan] = (),
    *,
    everything: Plan | None = None,
    folds: int = _FOLDS,
    enough: float = np.inf,
    baseline: bool = True,
    until: float = np.inf,
) -> Gathered:
    """Cross-validates the probe, a plan, the average of the two, the average of the probe and a network of which `everything` is trained,
    and other plans; perhaps also the baseline without a model, where there is a model.

    A plan that is no better than the probe on the first folds is not trained on further ones: on those that leave out `_LEFT_OUT` samples, or worse by
    more than two standard errors on the very first; nor one that has `enough` left-out samples, or that would not be done by the time `until` (as of
    `time.monotonic`). Of `everything` each further fold is trained only while the log loss of the average leaves open whether it gains.
    """
    started = time.monotonic()
    part = fold_of(bench.labels, folds, bench.job.seed, bench.train.copies)
    require_heldout(part)

    def judged(
        method: str,
        plans: Sequence[Plan],
        heldout: np.ndarray,
        beside: Evidence | None = None,
        model: str = bench.network.name,
    ) -> Evidence:
        right = _right(heldout, bench.labels)
        taken, copies = time.monotonic() - started, bench.train.copies
        row = evidence_of(model, method, plans, right, bench.labels, taken, beside, copies=copies)
        return replace(row, losses=losses_of(heldout, bench.labels))

    plain = None
    if baseline and not _inputs_are_features(bench):
        heldout = heldout_baseline(bench.train, part, classes=bench.classes, seed=bench.job.seed)
        plain = judged("baseline", (), heldout, model="(no model)")
    started = time.monotonic()
    first = probe_plan(bench)
    probe = heldout_predictions(bench, first, part)
    known = judged(first.method, [first], probe)
    if method_named(first.method).layered:
        # It may have been fitted before.
        known = replace(known, seconds=round(bench.fit(first).store.seconds, 3))
    sizes = np.bincount(part[part >= 0]).cumsum()

    def gains(heldout: np.ndarray) -> bool:
        right = _right(heldout, bench.labels)
        gain, error = paired_difference(right, known.correct, known.copies)
        return gain > (0 if np.isfinite(right).sum() >= _LEFT_OUT else -2 * error)

    def averaged_with_probe(heldout: np.ndarray) -> np.ndarray:
        return averaged([probe, heldout], ensemble_adapt.METHOD.weights)

    def is_open(heldout: np.ndarray) -> bool:
        before, after = (losses_of(rows, bench.labels) for rows in (probe, averaged_with_probe(heldout)))
        gain, error = paired_difference(before, after, known.copies)
        few = np.isfinite(after).sum() < _LEFT_OUT
        return gain > -2 * error if few else -error <= gain <= 2 * error

    def climbed(other: Plan, looks: Sequence[int], goes_on: Callable[[np.ndarray], bool] = gains) -> np.ndarray | None:
        """Of the folds up to each look in turn, while it goes on and time is left."""
        if started >= until:
            return None
        heldout, done = heldout_predictions(bench, other, np.where(part <= 0, part, -1)), 1
        for look in looks:
            each = (time.monotonic() - started) / done
            if time.monotonic() + (look + 1 - done) * each > until or not goes_on(heldout):
                break
            heldout, done = heldout_predictions(bench, other, np.where(part <= look, part, -1)), look + 1
        return heldout

    few, last = (min(int(np.searchsorted(sizes, count)), folds - 1) for count in (_LEFT_OUT, enough))
    block = average = whole = None
    started = time.monotonic()
    if plan is not None and (heldout := climbed(plan, sorted({min(few, last), last} - {0}))) is not None:
        block = judged(plan.method, [plan], heldout, known)
        average = judged(ensemble.METHOD.name, [first, plan], averaged([probe, heldout]), known)
    started = time.monotonic()
    if everything is not None and (heldout := climbed(everything, range(1, folds), is_open)) is not None:
        whole = judged(ensemble_adapt.METHOD.name, [first, everything], averaged_with_probe(heldout), known)
    others: list[Evidence] = []
    for other in also:
        started = time.monotonic()
        if (heldout := climbed(other, sorted({few, folds - 1} - {0}))) is not None:
            others.append(judged(other.method, [other], heldout, known))
    return Gathered(baseline=plain, probe=known, block=block, average=average, everything=whole, also=tuple(others))


def _inputs_are_features(bench: Bench) -> bool:
    """Whether the network only hands on what was computed elsewhere: then its probe is the baseline."""
    return bench.train.kind == "features" and next(bench.network.module.parameters(), None) is None


def heldout_predictions(bench: Bench, plan: Plan, part: np.ndarray) -> Float[np.ndarray, "n K"]:
    """Log probabilities of every sample by a fit that has not seen its fold (`part`); NaN where that is negative.

    A frozen head knows them already, of five folds; only the shares of its parts were chosen with the same samples.
    """
    head = bench.fit(plan).head if method_named(plan.method).layered else None
    if head is not None:
        return np.where((part >= 0)[:, None], head.heldout, np.nan)
    key = json_digest([plan.as_dict(), part.tolist()])
    if key not in bench.heldout:
        heldout = np.full((len(part), bench.classes), np.nan)
        for fold in np.unique(part[part >= 0]):
            test = np.flatnonzero(part == fold)
            heldout[test] = bench.fit(plan, indices=np.flatnonzero(part != fold)).log_probabilities(test)
            require_classes(heldout[test])
        bench.heldout[key] = heldout
    return bench.heldout[key]


def _right(heldout: np.ndarray, labels: np.ndarray) -> np.ndarray:
    known = ~np.isnan(heldout).any(axis=1)
    right = np.full(len(labels), np.nan)
    right[known] = heldout[known].argmax(axis=1) == labels[known]
    return right


def losses_of(heldout: Float[np.ndarray, "n K"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Negative log probability of each sample's class; NaN where it was never held out."""
    return -heldout[np.arange(len(labels)), labels]


def paired_difference(
    first: np.ndarray, second: np.ndarray, copies: Int[np.ndarray, " n"] | None = None
) -> tuple[float, float]:
    """Mean of ``first - second`` (1, 0 or NaN per sample) over the samples that both predict, and its standard error."""
    both = ~np.isnan(first - second)
    difference, same = (first - second)[both], np.arange(len(first))[both] if copies is None else copies[both]
    alone = len(np.unique(same)) < 2
    error = np.sqrt(np.sum(together(deviations(difference, same), same) ** 2)) / len(difference)
    return float(difference.mean()), float("inf") if alone else float(error)


def choose_method(gathered: Gathered) -> tuple[Evidence, tuple[str, ...]]:
    """What to use, and the reasons: which differences are none.

    From the cheapest on: the probe, the block, the average of the two, that of the probe and a network that was trained as a whole, and
    what was tried besides. Each is chosen where it is better than the one before by more than one paired standard error; a tie goes to
    the cheaper. Training everything is judged on few left-out samples, and so by their log loss: it tells more than right and wrong.
    """
    chosen = gathered.probe
    reasons: list[str] = []
    for entry in gathered.trained():
        gain, error = paired_difference(entry.correct, chosen.correct, chosen.copies)
        said = f"{100 * gain:+.1f} ± {100 * error:.1f} points"
        if entry is gathered.everything and entry.losses is not None and chosen.losses is not None:
            saved, unsure = paired_difference(chosen.losses, entry.losses, chosen.copies)
            said = f"{100 * gain:+.1f} points, log loss {-saved:+.2f} ± {unsure:.2f} on {np.isfinite(entry.losses).sum()} samples"
            gain, error = saved if gain >= -error else min(saved, 0.0), unsure
        verdict = "a tie, which goes to the cheaper" if abs(gain) <= error else "better" if gain > 0 else "worse"
        reasons.append(f"{entry.method} {entry.layer or ''}".strip() + f" against {chosen.method}: {said}, {verdict}")
        chosen = entry if gain > error else chosen
    if gathered.baseline and paired_difference(gathered.baseline.correct, chosen.correct)[0] >= 0:
        reasons.append("the baseline without a model is at least as good: the pre-trained network does not help here")
    return chosen, tuple(reasons)


def probe_plan(bench: Bench) -> Plan:
    """The frozen head on a bench's network; the linear probe for saved features, which may be anything."""
    if bench.train.kind == "features":
        return Plan(linear_probe.METHOD.name)
    return plan_of(method_named(_PROBE), bench.network.module, Options(), bench.feature)


def auto_plan(bench: Bench, options: Options | None = None) -> Plan | None:
    """What is looked at beside the probe: ``"scl"`` at 3/4 of the depth, or at the block that is named; None, with a warning, for a
    network without blocks, of which only the probe is left."""
    try:
        return plan_of(method_named(_BLOCK), bench.network.module, options or Options(), bench.feature)
    except InputError as error:
        bench.warnings.append(f"Only the probe was tried. {error}")
        return None


def block_may_pay(bench: Bench) -> tuple[bool, str]:
    """Whether the frozen head leans on layers before the last, and what to say about it."""
    head = bench.fit(probe_plan(bench)).head
    if head is None:
        return False, "saved features have no block that could be trained"
    share = f"{100 * head.further:.0f} % of the probe's weight lies on layers before the last"
    if bench.train.kind == "text":
        return True, f"with texts a trained block may pay ({share})"
    if head.further >= _FURTHER:
        return True, f"{share}: a trained block may pay"
    try:
        plan = plan_of(method_named(_BLOCK), bench.network.module, Options(), bench.feature)
    except InputError as error:
        return False, f"only the probe was tried: {error}"
    untried = f"`method={_BLOCK!r}` does{_cost(bench, plan)}"
    limit = f"less than the {100 * _FURTHER:.0f} % from which a trained block may pay"
    return False, f"{share}, {limit}: none was tried ({untried})"


def is_far(bench: Bench, first: Gathered) -> tuple[bool, str]:
    """Whether the network has learned little of what tells these images apart, and how that shows: the inputs themselves say much of what
    its layers say. On which layers the probe leans does not show it."""
    if first.baseline is None or bench.train.kind != "image":
        return False, "only with images it was seen to gain"
    if first.probe.accuracy >= _RIGHT:
        return False, f"the probe is right in {100 * first.probe.accuracy:.0f} % already"
    assert first.baseline.losses is not None and first.probe.losses is not None
    shares = np.unique(bench.labels, return_counts=True)[1] / len(bench.labels)
    guessed = -float(shares @ np.log(shares))
    gain, known = guessed - np.nanmean(first.probe.losses), guessed - np.nanmean(first.baseline.losses)
    if gain <= 2 * paired_difference(np.full(len(bench.labels), guessed), first.probe.losses, first.probe.copies)[1]:
        return bool(known > 0), "the probe is hardly better than guessing"
    rest = paired_difference(known / gain * first.probe.losses, first.baseline.losses, first.probe.copies)[1]
    said = f"no network at all gains {100 * known / gain:.0f} ± {100 * rest / gain:.0f} % of what the probe gains over guessing, in nats"
    return bool(known + 2 * rest >= _FAR * gain), f"{said} (it may pay from {100 * _FAR:.0f} % on)"


def everything_may_pay(bench: Bench, options: Options, first: Gathered, until: float) -> tuple[Plan | None, str]:
    """A plan that trains everything where the network is far from the images, and what to say about it."""
    far, why = is_far(bench, first)
    said = f"training everything (`method={ensemble_adapt.METHOD.name!r}`"
    if bench.train.kind != "image":
        return None, f"{said}) was not tried: {why}"
    plan = plan_of(method_named(_WHOLE), bench.network.module, options, bench.feature)
    said += f"{_cost(bench, plan, most=1 + _FOLDS)})"
    if not far:
        return None, f"{said} was not tried: {why}"
    if time.monotonic() + 2 * bench.seconds_of(plan, busy=True) > until:
        return None, f"{said} was not tried, for it would not end in time (`minutes`): {why}"
    return plan, f"{said} may pay: {why}"


def _cost(bench: Bench, plan: Plan, most: int = 2) -> str:
    """What trying a plan would cost: it is trained at least twice, on a fold and on all samples."""
    each = bench.seconds_of(plan)
    said = [f"{s / 60:.0f} minutes" if s >= 100 else f"{max(s, 1):.0f} s" for s in (2 * each, most * each)]
    return f", in about {' to '.join(dict.fromkeys(said))} on an idle machine"


def decide(bench: Bench, options: Options) -> Decision:
    """What ``"auto"`` fits."""
    require_heldout(fold_of(bench.labels, 2, bench.job.seed, bench.train.copies))
    until = np.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    also = [plan_of(method_named(name), bench.network.module, options, bench.feature) for name in options.also]
    first = gather_evidence(bench)
    everything, whole = everything_may_pay(bench, options, first, until)
    first = replace(gather_evidence(bench, everything=everything, baseline=False, until=until), baseline=first.baseline)
    if options.layer != "auto":
        tried, why = True, "the block was asked for"
    elif choose_method(first)[0] is first.everything:
        tried, why = False, "no block was tried: training everything is better than the probe"
    else:
        tried, why = block_may_pay(bench)
    plan = auto_plan(bench, options) if tried else None
    gathered = gather_evidence(bench, plan, also, baseline=False, until=until)
    gathered = replace(gathered, baseline=first.baseline, everything=first.everything)
    chosen, reasons = choose_method(gathered)
    untried = [
        f"not tried: {record.name}, which trains everything and with so many images may be a few points better "
        f'(`also="{record.name}"`{_cost(bench, plan_of(record, bench.network.module, options, bench.feature))})'
        for record in RECORDS.values()
        if record.many
        and record.name not in options.also
        and everything is None
        and len(bench.labels) >= record.many * bench.classes
    ]
    late = ["not tried or not on all folds: there was no time left (`minutes`)"] if time.monotonic() > until else []
    return Decision(
        method=chosen.method,
        plans=chosen.plans,
        evidence=gathered.rows(),
        reasons=(whole, why, *reasons, *untried, *late),
    )
