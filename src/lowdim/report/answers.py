"""The answer of each command in one sentence: what stands first in the terminal, in the JSON (``headline``) and on the page."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lowdim._intervals import wilson_interval
from lowdim._names import short_names, step_name
from lowdim._numbers import between, listed, number, percent, share

Result = Mapping[str, Any]
PROMISE = "lowdim measures networks, chooses and tunes them, fills holes in data, and checks the theory behind."


def headline(command: str, result: Result) -> str:
    """The sentence that answers the question of a command."""
    return _ANSWERS[command](result)


def best_layer(result: Result) -> Mapping[str, Any] | None:
    """The layer of a measured network that separates the classes best on samples which had no part in the class means: by the
    accuracy of the nearest class mean on the test split, or by the held-out NC1 where only one split was measured."""
    splits = [entry["split"] for entry in result["data"]]
    rows = [layer for layer in result["layers"] if layer["split"] == splits[-1]]
    known = [layer for layer in rows if layer["nc1_heldout"] is not None]
    if len(splits) > 1 and (judged := [layer for layer in rows if layer["ncc_accuracy"] is not None]):
        return max(judged, key=lambda layer: (layer["ncc_accuracy"], -(layer["nc1_heldout"] or float("inf"))))
    return min(known, key=lambda layer: layer["nc1_heldout"], default=None)


def _regressed(result: Result) -> str:
    """Of `measure`, where labels are numbers."""
    split = result["data"][-1]["split"]
    known = [layer for layer in result["layers"] if layer["split"] == split and layer["r2"] is not None]
    if not known:
        return "No layer could be judged on held-out samples: there are too few of them."
    best, last = max(known, key=lambda layer: layer["r2"]), known[-1]
    said = (
        f"{best['name']} holds most of {listed(result['outputs'])} in linear form: a ridge on it explains {percent(best['r2'])}"
        f"{between(best['r2_interval'])} of the variance in the {split} samples."
    )
    if last["name"] != best["name"]:
        tied = last["r2"] >= best["r2_interval"][0]
        said += f" The last layer is {'as good within that interval' if tied else 'worse'} ({percent(last['r2'])})."
    if last["outside"] is not None:
        said += f" Of its variance {percent(last['outside'])} lies beyond the {last['target_rank']} direction{'s' * (last['target_rank'] > 1)} that full collapse would leave."
    return said


def _measure(result: Result) -> str:
    if "outputs" in result:
        return _regressed(result)
    best = best_layer(result)
    if best is None:
        return "No layer could be judged on held-out samples: there are too few of them in each class."
    last = [layer for layer in result["layers"] if layer["split"] == best["split"] and layer["pool"] == best["pool"]][
        -1
    ]
    ratio = _ratio(best["nc1_heldout"], best["nc1_chance"])
    if len(result["data"]) < 2:
        return f"The classes separate best at {best['name']}: held-out NC1 {number(best['nc1_heldout'])}{ratio}."
    samples = next(entry["samples"] for entry in result["data"] if entry["split"] == best["split"])
    interval = wilson_interval(best["ncc_accuracy"], samples)
    collapse = "" if best["nc1"] is None else f", NC1 {number(best['nc1'])}{ratio}"
    said = (
        f"The classes separate best at {best['name']}: the nearest class mean is right for {percent(best['ncc_accuracy'])} of the "
        f"{best['split']} samples{between(interval)}{collapse}."
    )
    if last["ncc_accuracy"] is None or last["name"] == best["name"]:
        return said
    if last["ncc_accuracy"] >= interval[0]:
        return f"{said} The last layer is as good within that interval ({percent(last['ncc_accuracy'])})."
    return f"{said} The last layer separates them less well ({percent(last['ncc_accuracy'])}): it was made for other classes."


def _ratio(value: float | None, chance: float | None) -> str:
    return f" ({number(chance)} by chance)" if value is not None and chance else ""


def _rank(result: Result) -> str:
    rows = result["scores"]
    if not rows:
        return "No candidate could be scored."
    names = dict(zip([row["model"] for row in rows], short_names([row["model"] for row in rows]), strict=True))
    best = rows[0]
    judge, words = (
        ("r2", "a ridge on its feature explains")
        if "outputs" in result
        else ("probe_accuracy", "a probe on its features reaches")
    )
    probe = best.get(judge)
    reached = "" if probe is None else f": {words} {percent(probe)}{between(best['intervals'].get(judge))}"
    ties = [names[row["model"]] for row in rows[1:] if row["rank"] == best["rank"]]
    tied = f" It cannot be told apart from {listed(ties)} on these samples." if ties else ""
    if len(rows) == 1:
        return f"{names[best['model']]} is the only candidate{reached}."
    if "outputs" in result:
        reached += f" of the variance of {listed(result['outputs'])}"
    by = "" if result["by"] in ("probe_cv_accuracy", "probe_accuracy", "r2_cv", "r2") else f", by {result['by']}"
    return f"{names[best['model']]} suits this data best{by}{reached}.{tied}"


def _advise(result: Result) -> str:
    chosen = result["recommendation"]
    layer = f" of {chosen['layer']}" if chosen["layer"] else ""
    expected = f"{percent(chosen['expected_accuracy'])}{between(chosen['interval'])}"
    name = short_names([chosen["model"]])[0]
    if result["baseline_wins"]:
        said = f"No network here does better than none; the best of them, {name} with {chosen['method']}{layer}, should reach {expected}."
    else:
        said = f"Use {name} with {chosen['method']}{layer}: it should reach {expected} on new samples."
    if (more := result["more_labels"]) is not None:
        gain = (
            f"from {more['shots'][0]} to {more['shots'][1]} per class the probe gained {100 * more['gain']:+.1f} points"
        )
        said += f" More labels would {'help' if more['helps'] else 'hardly help'}: {gain}."
    seconds = [one["seconds"] for one in result["evidence"] if _same(one, chosen)]
    return f"{said} Tuning takes {_minutes(seconds[0])}." if seconds else said


def _same(one: Result, other: Result) -> bool:
    return all(one[key] == other[key] for key in ("model", "method", "layer"))


def _minutes(seconds: float) -> str:
    """At most how long; the comparison, which fits several times, took so many seconds."""
    return "less than a minute" if seconds < 60 else f"at most about {seconds / 60:.0f} min"


def _finetune(result: Result) -> str:
    accuracy, layer = result["accuracy"], f" of {result['layer']}" if result["layer"] else ""
    if accuracy["test"] is None:
        return f"Tuned with {result['method']}{layer}; there is no test split to measure it on."
    said = f"Tuned with {result['method']}{layer}: {percent(accuracy['test'])} of the test samples are right{between(accuracy['interval'])}."
    others = {"probe": "a probe on frozen layers", "baseline": "no network at all"}
    compared = [
        f"{percent(entry['accuracy'])} with {others[entry['method']]}"
        for entry in result["evidence"]
        if entry["method"] in others and entry["method"] != result["method"]
    ]
    return f"{said} For comparison, cross-validated: {listed(compared)}." if compared else said


def _predict(result: Result) -> str:
    predictions = result["predictions"]
    if len(predictions) == 1:
        (one,) = predictions
        unlike = "; but it is unlike all training samples" if one.get("unknown") else ""
        return f"{one['item']}: {one['class']} (probability {percent(one['probability'])}){unlike}."
    counts: dict[str, int] = {}
    for one in predictions:
        counts[one["class"]] = counts.get(one["class"], 0) + 1
    said = f"{len(predictions):,} samples classified: " + listed(
        [f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1])]
    )
    right = "" if result["accuracy"] is None else f"; {percent(result['accuracy'])} agree with the labels there"
    strangers = sum(bool(one.get("unknown")) for one in predictions)
    unlike = f"; {strangers:,} unlike all training samples" if strangers else ""
    return f"{said}{right}{unlike}."


def _export(result: Result) -> str:
    beside = f" Its tokenizer: {result['tokenizer']}." if result.get("tokenizer") else ""
    return (
        f"Written: {result['path']} ({result['bytes']:,} bytes); read back, its outputs differ from the network's by at most "
        f"{result['max_difference']:.2g}.{beside}"
    )


def _publish(result: Result) -> str:
    if result["address"]:
        return f"Uploaded: {result['address']} ({result['bytes']:,} bytes)."
    return f"Ready for the hub: {result['path']} ({listed(result['files'])}; {result['bytes']:,} bytes). Nothing was uploaded."


_NO_BETTER = 0.95
"""Error of a column over that of its mean from which on nothing is gained."""


def _complete(result: Result) -> str:
    ratio = result["held_out_ratio"]
    known = ratio is not None and ratio == ratio
    error = f", with {ratio:.2f} times the error of row and column means" if known else ""
    if "filled" in result:
        columns = sum(1 for column in result["columns"] if column["filled"])
        cells = f"{result['filled']:,} empty cells filled in {columns} column{'s' * (columns != 1)}"
        said = f"{cells}{error}{' (on known cells, predicted as if empty)' * known}."
        filled = [one for one in result["columns"] if one["filled"] and one.get("error_ratio") is not None]
        useless = [one["name"] for one in filled if one["error_ratio"] > _NO_BETTER]
        worst = max(filled, key=lambda one: one["error_ratio"], default=None)
        if useless:
            said += (
                f" Do not trust {listed(useless)}: known cells there are predicted no better than by the column's mean."
            )
        elif worst is not None and len(filled) > 1:
            said += f" Least sure: {worst['name']} ({worst['error_ratio']:.2f} times the error of its mean)."
        return said
    rows, columns = result["shape"]
    rmse = f" (root mean square {number(result['held_out_rmse'])})" if result["held_out_rmse"] is not None else ""
    recovered = " The matrix is recovered for sure." if result["sure"] else ""
    return f"A matrix of {rows:,} x {columns:,} completed from {result['observed']:,} entries{error}{rmse}.{recovered}"


_LAWS = {"parsimony": "The law of parsimony", "separation": "Progressive separation"}


def _check(result: Result) -> str:
    law = _LAWS[result["config"]["theorem"]]
    groups = {kind: [one for one in result["checks"] if one["holds"] is kind] for kind in (True, False, None)}
    held = listed([one["name"] for one in groups[True]], most=9)
    if len(groups[True]) == len(result["checks"]):
        said = f"{law} holds on these weights: {held}."
    else:
        kind = False if groups[False] else None
        verb = "cannot be decided" if kind is None else "does not hold"
        why = (result.get("causes") or [first_broken(result)["reason"]])[0]
        if why.split()[0] in _ARTICLES:
            why = why[0].lower() + why[1:]
        said = f"{law} {verb} on these weights: {why}"
        for what, group in (("Not held", groups[False]), ("Undecided", groups[None])):
            numbers = [
                f"{one['name']} ({number(one['residual'])}, {number(one['tolerance'])} allowed)" for one in group
            ]
            said += f" {what}: {listed(numbers, most=9)}." if numbers else ""
        said += f" Held: {held}." if held else ""
    return said + _shares(result)


def first_broken(result: Result) -> Result:
    """The first statement that does not hold, else the first that is undecided; empty where all hold."""
    return next((one for kind in (False, None) for one in result["checks"] if one["holds"] is kind), {})


_ARTICLES = frozenset({"Every", "The", "There", "What"})
"""First words of reasons that are no symbols."""


def _shares(result: Result) -> str:
    """The least share at the last time, beside chance."""
    shares = result.get("shares")
    known = [(value, layer) for layer, value in enumerate(shares["share"][-1]) if value is not None] if shares else []
    if not shares or not known:
        return ""
    (least, layer), width, when = min(known), 2 * shares["rank"], step_name(shares["steps"][-1])
    found = f"{share(least)} of every factor (factor {layer + 1}; by chance {shares['chance'][layer]:.3g})"
    if shares["block"] == "law":
        return f" Of the squared change until {when} the law with r = {shares['rank']} allows at least {found}."
    return (
        f" What can be said without it: of the squared change until {when} the {width} directions on each side that changed most "
        f"(2r, r = {shares['rank']}) hold at least {found}."
    )


def _reproduce(result: Result) -> str:
    entries: Sequence[Result] = result["experiments"]
    verdicts = [verdict for entry in entries for verdict in entry["verdicts"] if verdict["judged"]]
    held = sum(verdict["holds"] for verdict in verdicts)
    said = f"{held} of {len(verdicts)} verdicts hold" if verdicts else unjudged(entries)
    if len(entries) == 1:
        said = f"{entries[0]['title']}: {said}"
    failed = [
        entry["id"]
        for entry in entries
        if entry["status"] == "error" or (entry["status"] == "done" and not entry["passed"])
    ]
    skipped = [entry["id"] for entry in entries if entry["status"] == "skipped"]
    said += f"; not as it should be: {listed(failed)}" if failed else ""
    return said + (f"; skipped: {listed(skipped)}." if skipped else ".")


def unjudged(entries: Sequence[Result]) -> str:
    """What is said where no verdict is judged: what is missing, in the words of the first note."""
    notes = [note for entry in entries for note in entry["notes"]]
    return f"nothing could be judged{': ' + notes[0].rstrip('.') if notes else ''}"


def _demo(result: Result) -> str:
    return tour_answer(_reproduce(result), all(entry["passed"] for entry in result["experiments"]))


def tour_answer(verdicts: str, passed: bool) -> str:
    """What `lowdim demo` says first.

    Args:
        verdicts: The answer of `reproduce` on its experiments.
        passed: Whether all of them hold.
    """
    return f"{PROMISE} {'Everything below held when it was computed here.' if passed else f'Shown here: {verdicts}'}"


_ANSWERS: dict[str, Callable[[Result], str]] = {
    "measure": _measure,
    "rank": _rank,
    "advise": _advise,
    "finetune": _finetune,
    "predict": _predict,
    "export": _export,
    "publish": _publish,
    "complete": _complete,
    "check": _check,
    "reproduce": _reproduce,
    "demo": _demo,
}
