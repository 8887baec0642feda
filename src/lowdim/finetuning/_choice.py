"""Which method? Cross-validated evidence on the training split, and a choice that admits ties."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from lowdim._files import json_digest
from lowdim._intervals import FOLD_LOSS, wilson_interval
from lowdim.errors import InputError
from lowdim.finetuning._baseline import heldout_baseline
from lowdim.finetuning._bench import Bench
from lowdim.finetuning._plan import Combine, Method, Plan, make_plan
from lowdim.probe import fold_of

ALSO: tuple[Method, ...] = ("lp-ft", "full", "lora", "norm")
"""What ``auto`` tries only when asked: it trains the whole network, or through all of it."""


@dataclass(frozen=True)
class Evidence:
    """What cross-validation says about one way to classify.

    Attributes:
        model: Name of the network; ``"(no model)"`` for the baseline.
        method: Of the plan, ``"ensemble"`` or ``"baseline"``.
        layer: Trained blocks, if any.
        accuracy: Of training samples by fits that had not seen them.
        interval: 90 %, Wilson with N / 1.3.
        seconds: What the estimate cost.
        correct: 1 or 0 per sample; NaN for those never held out.
    """

    model: str
    method: str
    layer: str | None
    accuracy: float
    interval: tuple[float, float]
    seconds: float
    correct: Float[np.ndarray, " n"]

    def as_dict(self) -> dict[str, Any]:
        """JSON values, without the single samples."""
        values = {name: getattr(self, name) for name in ("model", "method", "layer", "accuracy", "seconds")}
        return {**values, "interval": list(self.interval)}


def evidence_of(
    model: str, method: str, layer: str | None, correct: Float[np.ndarray, " n"], seconds: float
) -> Evidence:
    """Evidence from right and wrong held-out predictions.

    Args:
        model: Name.
        method: Name.
        layer: Name.
        correct: 1, 0 or NaN per sample.
        seconds: Spent.
    """
    known = correct[~np.isnan(correct)]
    accuracy = float(known.mean())
    return Evidence(model, method, layer, accuracy, expected_interval(accuracy, len(known)), round(seconds, 3), correct)


def expected_interval(accuracy: float, samples: int) -> tuple[float, float]:
    """The 90 % interval of an accuracy estimated by cross-validation.

    Args:
        accuracy: The estimate.
        samples: Held-out predictions.
    """
    return wilson_interval(accuracy, samples / FOLD_LOSS)


def gather_evidence(
    bench: Bench,
    plan: Plan | None = None,
    also: Sequence[Plan] = (),
    *,
    folds: int = 5,
    enough: float = np.inf,
    changes: Mapping[str, Any] | None = None,
    baseline: bool = True,
) -> list[Evidence]:
    """Cross-validates the probe, a plan, the average of the two, and other plans.

    Args:
        bench: Network and data.
        plan: Beside the probe.
        also: Further plans, that are not averaged with the probe.
        folds: Parts of the training split.
        enough: Left-out samples after which the plan is not trained on further folds.
        changes: To the plans' default recipes.
        baseline: Also the baseline without a model.
    """
    name, labels = bench.network.name, bench.labels
    part = fold_of(labels, folds, bench.seed)
    found: list[Evidence] = []
    if baseline:
        started = time.monotonic()
        plain = heldout_baseline(bench.train, part, classes=bench.classes, seed=bench.seed)
        found.append(evidence_of("(no model)", "baseline", None, _right(plain, labels), time.monotonic() - started))
    started = time.monotonic()
    probe = heldout_predictions(bench, Plan("linear-probe"), part)
    found.append(evidence_of(name, "linear-probe", None, _right(probe, labels), time.monotonic() - started))
    if plan is not None:
        started = time.monotonic()
        last = np.searchsorted(np.bincount(part[part >= 0]).cumsum(), enough)
        some = np.where(part <= last, part, -1)
        heldout = heldout_predictions(bench, plan, some, changes=changes)
        seconds = time.monotonic() - started
        layer = ", ".join(plan.blocks) or None
        found.append(evidence_of(name, plan.method, layer, _right(heldout, labels), seconds))
        with np.errstate(invalid="ignore"):  # NaN where a sample was not left out
            mean = np.logaddexp(probe, heldout)
        found.append(evidence_of(name, "ensemble", layer, _right(mean, labels), seconds))
    for other in also:
        started = time.monotonic()
        right = _right(heldout_predictions(bench, other, part, changes=changes), labels)
        found.append(evidence_of(name, other.method, None, right, time.monotonic() - started))
    return found


def heldout_predictions(
    bench: Bench, plan: Plan, part: np.ndarray, *, changes: Mapping[str, Any] | None = None
) -> Float[np.ndarray, "n K"]:
    """Log probabilities of every sample by a fit that has not seen it; NaN where `part` is negative.

    Args:
        bench: Network and data.
        plan: What to fit.
        part: Fold of each sample.
        changes: To the default recipe.
    """
    key = json_digest([plan.as_dict(), part.tolist(), dict(changes or {})])
    if key in bench.heldout:
        return bench.heldout[key]
    heldout = np.full((len(part), bench.classes), np.nan)
    for fold in np.unique(part[part >= 0]):
        train, test = np.flatnonzero(part != fold), np.flatnonzero(part == fold)
        recipe = replace(bench.recipe(plan, len(train)), **(changes or {}))
        fitted = bench.fit(plan, recipe=recipe, indices=train)
        heldout[test] = fitted.log_probabilities(test)
    bench.heldout[key] = heldout
    return heldout


def _right(heldout: np.ndarray, labels: np.ndarray) -> np.ndarray:
    known = ~np.isnan(heldout).any(axis=1)
    right = np.full(len(labels), np.nan)
    right[known] = heldout[known].argmax(axis=1) == labels[known]
    return right


def paired_difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Mean of ``first - second`` over the samples that both predict, and its standard error.

    Args:
        first: 1, 0 or NaN per sample.
        second: The same.
    """
    difference = (first - second)[~np.isnan(first - second)]
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("inf")
    return float(difference.mean()), error


@dataclass(frozen=True)
class Choice:
    """A recommendation and the reasons for it."""

    evidence: Evidence
    reasons: tuple[str, ...]


def choose_method(evidence: Sequence[Evidence]) -> Choice:
    """What to use, and which differences are none.

    A block that is better than the probe by more than one paired standard error stands alone; else the average of the two,
    because a choice between ways that so few images cannot tell apart loses more than it gains. The probe alone where even the
    average is clearly worse. What was tried besides is chosen where it is better than all that by more than one standard error.

    Args:
        evidence: Of one network, the baseline perhaps among it.
    """
    own = {entry.method: entry for entry in evidence}
    probe = chosen = own["linear-probe"]
    reasons: list[str] = []
    block = next((entry for entry in evidence if entry.layer and entry.method != "ensemble"), None)
    if block is not None:
        gain, error = paired_difference(block.correct, probe.correct)
        reasons.append(f"{block.method} {block.layer} against the probe: {_compared(gain, error)}")
        chosen = block
        if gain <= error:
            loss, uncertain = paired_difference(probe.correct, own["ensemble"].correct)
            chosen = probe if loss > 2 * uncertain else own["ensemble"]
            if chosen is not probe:
                reasons.append("the probe and the block are averaged, not chosen between")
    for entry in evidence:
        if entry.method in ALSO:
            gain, error = paired_difference(entry.correct, chosen.correct)
            reasons.append(f"{entry.method} against {chosen.method}: {_compared(gain, error)}")
            chosen = entry if gain > error else chosen
    if "baseline" in own and paired_difference(own["baseline"].correct, chosen.correct)[0] >= 0:
        reasons.append("the baseline without a model is at least as good: the pre-trained network does not help here")
    return Choice(chosen, tuple(reasons))


def _compared(gain: float, error: float) -> str:
    what = "a tie" if abs(gain) <= error else "better" if gain > 0 else "worse"
    return f"{100 * gain:+.1f} ± {100 * error:.1f} points, {what}"


def auto_plan(bench: Bench, layer: str = "auto", combine: Combine = "pad_add") -> Plan | None:
    """What ``auto`` looks at beside the probe: ``scl`` at 3/4 of the depth, or at the block that is named.

    Args:
        bench: Network and data; gets a warning where there are no blocks to choose from.
        layer: Name, or ``"auto"``.
        combine: How the skip meets the penultimate feature.

    Returns:
        The plan; None for a network without blocks, of which only the probe is left.
    """
    try:
        return make_plan(bench.network.module, "scl", layer=layer, combine=combine)
    except InputError as error:
        bench.warnings.append(f"Only the probe was tried. {error}")
        return None
