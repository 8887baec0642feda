"""The answer of each command in one sentence: what stands first in the terminal, in the JSON (``headline``) and on the page."""

import math
from collections import Counter
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
    """The layer of a measured network that separates the classes best, as the last split has it. Of two splits: where the nearest class
    mean is right most often for training samples left out of it, so that the test split judges what it did not choose; where nothing can
    be left out, on the test split itself. Of one split: by the held-out NC1."""
    rows = _of_split(result, -1)
    if len(result["data"]) > 1 and (judged := [layer for layer in rows if layer["ncc_accuracy"] is not None]):
        of_train = _chosen_on_train(result)
        return max(
            judged, key=lambda layer: (*of_train.get(_place(layer), ()), layer["ncc_accuracy"], -_nc1_or_inf(layer))
        )
    known = [layer for layer in rows if layer["nc1_heldout"] is not None]
    return min(known, key=lambda layer: layer["nc1_heldout"], default=None)


def _of_split(result: Result, place: int) -> list[Mapping[str, Any]]:
    split = result["data"][place]["split"]
    return [layer for layer in result["layers"] if layer["split"] == split]


def _chosen_on_train(result: Result) -> dict[tuple[str, str], tuple[float, float]]:
    """What the layers are chosen by, where all have it: later ones are better only if they are so here."""
    rows = _of_split(result, 0)
    known = {
        _place(layer): (layer["ncc_left_out"], -_nc1_or_inf(layer))
        for layer in rows
        if layer.get("ncc_left_out") is not None
    }
    return known if len(known) == len(rows) else {}


def _place(layer: Result) -> tuple[str, str]:
    return layer["name"], layer["pool"]


def _nc1_or_inf(layer: Result) -> float:
    return math.inf if layer["nc1_heldout"] is None else layer["nc1_heldout"]


def _regressed(result: Result) -> str:
    """Of `measure`, where labels are numbers."""
    split = result["data"][-1]["split"]
    known = [layer for layer in _of_split(result, -1) if layer["r2"] is not None]
    if not known:
        return "No layer could be judged on held-out samples: there are too few of them."
    of_train = {_place(layer): layer["r2"] for layer in _of_split(result, 0) if layer["r2"] is not None}
    best, last = max(known, key=lambda layer: of_train.get(_place(layer), -math.inf)), known[-1]
    untrained = result["config"]["model"]["random_weights"]
    of_several = any(layer["name"] != best["name"] for layer in known)
    explained = f"{percent(best['r2'])}{between(best['r2_interval'])} of the variance in the {split} samples"
    what, a_ridge = (
        listed(result["outputs"]),
        f"{'With random weights a' if untrained else 'A'} ridge on {best['name']}",
    )
    if best["r2_interval"][0] <= 0:
        which = ", the best layer," if of_several else ""
        return f"{a_ridge}{which} explains {explained}: no more, as far as these can tell, than the mean of {what}."
    if of_several:
        chosen = ", chosen on training samples" if len(result["data"]) > 1 else ""
        said = f"{'With random weights ' if untrained else ''}{best['name']} predicts {what} best{chosen}: a ridge on it explains {explained}."
    else:
        said = f"{a_ridge} predicts {what}: it explains {explained}."
    if last["name"] != best["name"]:
        tied = last["r2"] >= best["r2_interval"][0]
        said += f" The last layer is {'as good within that interval' if tied else 'worse'} ({percent(last['r2'])})."
    if last["outside"] is not None:
        plural = "s" * (last["target_rank"] > 1)
        said += (
            f" A network that predicts {what} perfectly needs {last['target_rank']} direction{plural} of features; "
            f"{percent(last['outside'])} of what varies in the last layer lies in others."
        )
    return said


def _measure(result: Result) -> str:
    if "outputs" in result:
        return _regressed(result)
    best = best_layer(result)
    if best is None:
        if any(layer["max_per_class"] > 1 and layer["separation"] is None for layer in _of_split(result, -1)):
            return (
                "No layer tells the classes apart: their means are the same everywhere, as where features are constant."
            )
        return "No layer could be judged on held-out samples: there are too few of them in each class."
    last = [layer for layer in _of_split(result, -1) if layer["pool"] == best["pool"]][-1]
    ratio = _ratio(best["nc1"], best["nc1_chance"])
    untrained = result["config"]["model"]["random_weights"]
    the_classes = "With random weights the classes" if untrained else "The classes"
    entry = result["data"][-1]
    several = not all(_same_numbers(layer, best) for layer in _of_split(result, -1))
    if len(result["data"]) < 2:
        if (alone := best.get("ncc_left_out")) is not None:
            interval, largest = _chances(best, entry, alone)
            if guessed := _guessed(interval, largest):
                return (
                    f"{'With random weights the' if untrained else 'The'} nearest class mean, each sample left out of its own in turn, is right for "
                    f"{percent(alone)}{between(interval)}{_at(best, several)}: {guessed}."
                )
        tight = "" if best["nc1"] is None else f", NC1 {number(best['nc1'])}{ratio}"
        return f"{the_classes} separate best at {best['name']}: held-out NC1 {number(best['nc1_heldout'])}{tight}."
    interval, largest = _chances(best, entry, best["ncc_accuracy"])
    seen = best.get("samples", entry["samples"])
    judged = best["split"] if seen == entry["samples"] else f"{seen:,} of {entry['samples']:,} {best['split']}"
    right = f"{percent(best['ncc_accuracy'])} of the {judged} samples{between(interval)}"
    if guessed := _guessed(interval, largest):
        the = "With random weights the" if untrained else "The"
        return f"{the} nearest class mean is right for {right}{_at(best, several)}: {guessed}."
    collapse = "" if best["nc1"] is None else f", NC1 {number(best['nc1'])}{ratio}"
    if not several:
        the = "With random weights the" if untrained else "The"
        return f"{the} nearest class mean is right for {right}{collapse}."
    chosen = "training samples" if _chosen_on_train(result) else f"{best['split']} samples themselves"
    said = f"{the_classes} separate best at {best['name']}, chosen on {chosen}: the nearest class mean is right for {right}{collapse}."
    if last["ncc_accuracy"] is None or _same_numbers(last, best):
        return said
    if last["ncc_accuracy"] > interval[1]:
        return f"{said} For these the last layer is right more often ({percent(last['ncc_accuracy'])})."
    if last["ncc_accuracy"] >= interval[0]:
        return f"{said} The last layer is as good within that interval ({percent(last['ncc_accuracy'])})."
    why = "" if untrained else ": it was made for other classes"
    return f"{said} The last layer separates them less well ({percent(last['ncc_accuracy'])}){why}."


def _at(best: Result, several: bool) -> str:
    return f" at {best['name']}, the best layer" if several else ""


def _chances(layer: Result, entry: Result, accuracy: float) -> tuple[tuple[float, float], float]:
    """The interval of a layer's accuracy and the share of the largest class, both of the samples that have a part in its numbers."""
    seen = layer.get("samples", entry["samples"])
    alone = entry["independent"] * seen / entry["samples"]
    return wilson_interval(accuracy, alone), layer.get("max_per_class", entry["per_class_max"]) / seen


def _guessed(interval: Sequence[float] | None, share: float | None) -> str:
    """What to say of an accuracy that guessing might reach, too; earlier versions did not say how often that is right."""
    if interval is None or share is None or interval[0] > share:
        return ""
    return f"no more, as far as these can tell, than naming the largest class every time ({percent(share)})"


def _same_numbers(layer: Result, other: Result) -> bool:
    """Whether they are one tensor under two names."""
    return all(layer[key] == other[key] for key in ("width", "ncc_accuracy", "nc1", "nc1_heldout"))


_TIGHTER = 1.5
"""Times, below which classes are hardly tighter than by chance."""


def _ratio(value: float | None, chance: float | None) -> str:
    """How much tighter the classes are than they would be if labels meant nothing."""
    if value is None or not chance:
        return ""
    times = chance / value if value > 0 else math.inf
    if times == math.inf:
        tighter = "tighter"
    elif times >= _TIGHTER:
        tighter = f"{number(times)} times tighter"
    else:
        tighter = "hardly tighter" if times > 1 / _TIGHTER else "no tighter"
    return f" ({tighter} than by chance, {number(chance)})"


def _rank(result: Result) -> str:
    rows = result["scores"]
    if not rows:
        return "No candidate could be scored."
    names = dict(zip([row["model"] for row in rows], short_names([row["model"] for row in rows]), strict=True))
    best, by = rows[0], result["by"]
    value, interval = best.get(by), best["intervals"].get(by)
    of = f" of the variance of {listed(result['outputs'])}" if "outputs" in result else ""
    shares = {
        "probe_cv_accuracy": ("a probe on its features reaches", ", cross-validated"),
        "probe_accuracy": ("a probe on its features reaches", ""),
        "r2_cv": ("a ridge on its feature explains", f"{of}, cross-validated"),
        "r2": ("a ridge on its feature explains", of),
    }
    if value is None:
        said = ""
    elif by in shares:
        before, after = shares[by]
        said = f": {before} {percent(value)}{between(interval)}{after}"
    else:
        within = f" (90 % interval {number(interval[0])} to {number(interval[1])})" if interval else ""
        said = f", by {by} {number(value)}{within}"
    if by == "probe_cv_accuracy" and value is not None and best.get("probe_accuracy") is not None:
        said += f", and {percent(best['probe_accuracy'])} on the {best['probe_samples']:,} test samples"
    if best.get("random_weights"):
        said += "; its weights are random"
    guessed = _guessed(interval, result.get("guessing")) if by in ("probe_cv_accuracy", "probe_accuracy") else ""
    guessed = guessed and f" {percent(value)} is {guessed}."
    ties = [names[row["model"]] for row in rows[1:] if row["rank"] == best["rank"]]
    tied = f" It cannot be told apart from {listed(ties)} on these samples." if ties else ""
    if len(rows) == 1:
        others = f" of {1 + len(result['failed'])} that could be scored" if result.get("failed") else ""
        return f"{names[best['model']]} is the only candidate{others}{said}.{guessed}"
    return f"{names[best['model']]} {'comes first' if guessed else 'suits this data best'}{said}.{guessed}{tied}"


def _advise(result: Result) -> str:
    chosen = result["recommendation"]
    layer = f" of {chosen['layer']}" if chosen["layer"] else ""
    expected = f"{percent(chosen['expected_accuracy'])}{between(chosen['interval'])}"
    name, *ties = short_names([chosen["model"], *result.get("ties", ())])
    if result["baseline_wins"]:
        said = f"No network here does better than none; the best of them, {name} with {chosen['method']}{layer}, should reach {expected}."
    else:
        said = f"Use {name} with {chosen['method']}{layer}: it should reach {expected} on new samples."
        over = result.get("baseline_gain")  # of earlier versions, none
        if over is not None and over["interval"][0] <= 0:
            said += f" That it does better than no network at all cannot be told: {points(over)}."
    if guessed := _guessed(chosen["interval"], chosen.get("guessing")):
        said += f" {percent(chosen['expected_accuracy'])} is {guessed}."
    if chosen["model"] in result.get("untrained", ()):
        said += " Its weights are random."
    if ties:
        said += f" It cannot be told apart from {listed(ties)} on these samples."
    if why := result.get("everything"):
        said += f" Training the whole network may gain more (`method=auto` of `finetune` tries it): {why}."
    if (more := result["more_labels"]) is not None:
        before, after = more["shots"]
        said += f" {MORE_LABELS[more['helps']]}: from {before} to {after} per class the accuracy of the probe changed by {points(more)}."
    seconds = [one["seconds"] for one in result["evidence"] if _same(one, chosen)]
    return f"{said} Tuning takes {_minutes(seconds[0])}." if seconds else said


MORE_LABELS = {
    True: "More labels would help",
    False: "More labels would hardly help",
    None: "Whether more labels would help cannot be told",
}


def points(more: Result) -> str:
    """A gain of accuracy with its interval.

    Example:
        >>> points({"gain": 0.01, "interval": [-0.042, 0.062]})
        '+1.0 points (90 % interval -4.2 to +6.2)'
    """
    low, high = more["interval"]
    return f"{100 * more['gain']:+.1f} points (90 % interval {100 * low:+.1f} to {100 * high:+.1f})"


def _same(one: Result, other: Result) -> bool:
    return all(one[key] == other[key] for key in ("model", "method", "layer"))


def _minutes(seconds: float) -> str:
    """At most how long; the comparison, which fits several times, took so many seconds."""
    return "less than a minute" if seconds < 60 else f"at most about {seconds / 60:.0f} min"


FEW = 100
"""Test samples below which their accuracy says less than cross-validation on the training samples."""


def _finetune(result: Result) -> str:
    accuracy, layer = result["accuracy"], f" of {result['layer']}" if result["layer"] else ""
    splits = result["config"]["data"]["splits"]
    tested = splits["test"]["samples"] if accuracy["test"] is not None else 0
    own = next((one for one in result["evidence"] if one["method"] == result["method"]), None)
    untrained = result["config"]["model"].get("random_weights")
    said = f"{'With random weights, tuned' if untrained else 'Tuned'} with {result['method']}{layer}"
    measured = (
        f"{percent(accuracy['test'])} of the {tested:,} test samples are right{between(accuracy['interval'])}"
        if tested
        else ""
    )
    guessed = ""
    if own is not None and tested < FEW:
        if guessed := _guessed(own["interval"], own.get("guessing")):
            guessed = f" {percent(own['accuracy'])} is {guessed}."
        trained = splits["train"]["samples"]
        said += f": {percent(own['accuracy'])}{between(own['interval'])}, cross-validated on the {trained:,} training samples"
        said += f"; {measured}." if tested else "; no samples were held back to measure on."
    elif tested:
        said += f": {measured}."
        largest = max((one["samples"] for one in result["per_class"]), default=0)
        if guessed := _guessed(accuracy["interval"], largest / tested):
            guessed = f" {percent(accuracy['test'])} is {guessed}."
    else:
        said += "; there is no test split to measure it on."
    said += guessed
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
        said = f"{one['class']} (probability {percent(one['probability'])})"
        return f"{one['item']}: {f'unknown: it is unlike all training samples. Of its classes the network takes {said}' if one.get('unknown') else said}."
    strangers = sum(bool(one.get("unknown")) for one in predictions)
    counts = Counter(one["class"] for one in predictions if not one.get("unknown"))
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    shown = ordered if len(ordered) <= 4 else ordered[:3]
    parts = [f"{count:,} as {name}" for name, count in shown]
    if rest := ordered[len(shown) :]:
        parts.append(f"{sum(count for _, count in rest):,} as {len(rest)} other classes")
    parts += [f"{strangers:,} unknown, for being unlike all training samples"] * bool(strangers)
    said = f"{len(predictions):,} samples classified: {listed(parts, most=5)}"
    judged = result["judged"]
    whose = (
        "the labels there"
        if judged == len(predictions)
        else f"their label, of the {judged:,} with one that the network can give"
    )
    right = "" if result["accuracy"] is None else f"; {percent(result['accuracy'])} agree with {whose}"
    return f"{said}{right}."


def _export(result: Result) -> str:
    beside = f" Its tokenizer: {result['tokenizer']}." if result.get("tokenizer") else ""
    worst = result["max_difference"]
    exact = f"differ from the network's by at most {worst:.2g}" if worst else "are exactly the network's"
    return f"Written: {result['path']} ({result['bytes']:,} bytes); read back, its outputs {exact}.{beside}"


def _publish(result: Result) -> str:
    if result["address"]:
        return f"Uploaded: {result['address']} ({result['bytes']:,} bytes)."
    return f"Ready for the hub: {result['path']} ({listed(result['files'])}; {result['bytes']:,} bytes). Nothing was uploaded."


_NO_BETTER = 0.95
"""Error of a column over that of its mean from which on nothing is gained."""
_ENOUGH = 20
"""Known cells on which that can rest."""


_EXACT = 1e-6
"""Error of pixels up to 255 that is rounding."""
_PASSED = ("constant", "id", "text", "empty")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _within(interval: Sequence[float] | None) -> str:
    return f", 90 % interval {number(interval[0])} to {number(interval[1])}," if interval else ""


def _judged(column: Mapping[str, Any]) -> str:
    """A column with what its error rests on."""
    interval = column.get("error_ratio_interval")
    span = f", 90 % interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
    return f"{column['name']} ({column['error_ratio']:.2f} on {_counted(column.get('checked', 0), 'known cell')}{span})"


def _complete(result: Result) -> str:
    if "filled" in result:
        return _complete_table(result)
    own, means = result["held_out_rmse"], result["biases_only_rmse"]
    checked = bool(own is not None and means)
    error = f", with {own / means:.2f} times the error of row and column means" if checked else ""
    if "picture" in result:
        return _complete_picture(result, error)
    rows, columns = result["shape"]
    sure = _within(result.get("held_out_rmse_interval"))
    if checked and result["solver"] == "biases":
        count = result.get("held_out_entries", 0)
        error = f" by row and column means alone: root mean square error {number(own)}{sure} on {_counted(count, 'held-out one')}"
    elif checked:
        error += f" (root mean square {number(own)}{sure} against {number(means)})"
    recovered = " The matrix is recovered for sure." if result["sure"] else ""
    if result.get("test_rmse") is not None:
        within = _within(result["test_rmse_interval"])
        error += f"; {number(result['test_rmse'])}{within} on the {_counted(result['test_entries'], 'test value')}"
    return f"A matrix of {rows:,} x {columns:,} completed from {result['observed']:,} entries{error}.{recovered}"


def _complete_table(result: Result) -> str:
    filled = [one for one in result["columns"] if one["filled"]]
    empty = [one for one in result["columns"] if one.get("left")]
    alone = sum(one["left"] for one in empty if one["kind"] not in _PASSED)
    left = [
        f"{one['name']} ({one['left']:,}, {one['kind'] if one['kind'] in _PASSED else 'in rows without any value'})"
        for one in empty
    ]
    stay = f" Left empty: {listed(left)}." if left else ""
    if not filled:
        why = "no cell of a column that can be completed is empty"
        if alone:
            passed = [text for one, text in zip(empty, left, strict=True) if one["kind"] in _PASSED]
            stay = f" Left empty as well: {listed(passed)}." if passed else ""
            cells = (
                f"the {alone:,} empty cells of columns that can be completed are"
                if alone > 1
                else "the one empty cell is"
            )
            why = f"{cells} in rows that hold no value to go by"
        return f"Nothing was filled: {why}.{stay}"
    said = f"{_counted(result['filled'], 'empty cell')} filled in {_counted(len(filled), 'column')}"
    checked = sorted((one["error_ratio"], one["name"]) for one in filled if one.get("error_ratio") is not None)
    if checked:
        least, most = (f"{ratio:.2f}" for ratio in (checked[0][0], checked[-1][0]))
        span = least if least == most else f"{least} to {most}"
        mean = "their column's mean" if len(checked) > 1 else "the column's mean"
        said += f": known cells, predicted as if empty, have {span} times the error of {mean}"
    doubtful = [one for one in filled if (one.get("error_ratio") or 0) > _NO_BETTER]
    judged = [one for one in doubtful if one.get("checked", 0) >= _ENOUGH]
    useless = [one for one in judged if (one.get("error_ratio_interval") or [0])[0] > _NO_BETTER]
    unsure = [one for one in doubtful if one not in useless]
    trust = f" Least sure: {checked[-1][1]}." if len(checked) > 1 and not doubtful else ""
    if useless:
        trust += f" Do not trust {listed(map(_judged, useless))}: nothing is predicted better there than by the mean."
    if unsure:
        trust += f" Not sure that anything is gained over the mean in {listed(map(_judged, unsure))}."
    return f"{said}.{trust}{stay}"


def _complete_picture(result: Result, error: str) -> str:
    size, rmse = result["picture"], result["held_out_rmse"]
    share = size["missing"] / (size["height"] * size["width"])
    said = f"{size['missing']:,} missing pixels ({share:.1%}) of a picture of {size['width']} x {size['height']} filled"
    if rmse is None:
        return f"{said}; none could be checked."
    if rmse < _EXACT:
        return f"{said}; known pixels, predicted as if missing, are met exactly."
    decibels = f", {20 * math.log10(255 / rmse):.1f} dB"
    return f"{said}; known pixels, predicted as if missing, are off by {number(rmse)} of 255{decibels}{error}."


_LAWS = {"parsimony": "The law of parsimony", "separation": "Progressive separation"}
_CLAIMS = frozenset(
    {"invariant subspaces", "one scalar on the invariant part", "loss identity", "proven bound", "sharp law"}
)
"""Statements that the theorems claim; the others are what they assume."""


def _check(result: Result) -> str:
    law = _LAWS[result["config"]["theorem"]]
    groups = {kind: [one for one in result["checks"] if one["holds"] is kind] for kind in (True, False, None)}
    held = listed([one["name"] for one in groups[True]], most=9)
    if len(groups[True]) == len(result["checks"]):
        said = f"{law} holds on these weights: {held}."
    else:
        kind = False if groups[False] else None
        verb = "cannot be decided" if kind is None else "does not hold"
        why = reason = (result.get("causes") or [first_broken(result)["reason"]])[0]
        if why.split()[0] in _ARTICLES:
            why = why[0].lower() + why[1:]
        numbers = {
            kind: listed(
                [f"{one['name']} ({number(one['residual'])}, {number(one['tolerance'])} allowed)" for one in group],
                most=9,
            )
            for kind, group in groups.items()
        }
        claimed = [one for one in result["checks"] if one["name"] in _CLAIMS]
        if kind is False and claimed and all(one["holds"] for one in claimed):
            claims = f"What {law[0].lower() + law[1:]} claims holds on these weights"
            said = f"{claims}, but not every premise does: {numbers[False]}. {reason}"
        else:
            said = f"{law} {verb} on these weights: {why}"
            said += f" Not held: {numbers[False]}." if numbers[False] else ""
        said += f" Undecided: {numbers[None]}." if numbers[None] else ""
        said += f" Held: {held}." if held else ""
    return said + _shares(result)


def first_broken(result: Result) -> Result:
    """The first statement that does not hold, else the first that is undecided; empty where all hold."""
    return next((one for kind in (False, None) for one in result["checks"] if one["holds"] is kind), {})


_ARTICLES = frozenset({"Beside", "Every", "Large", "The", "There", "What"})
"""First words of reasons that are no symbols."""


def _shares(result: Result) -> str:
    """The least share at the last time, beside chance."""
    shares = result.get("shares")
    known = [(value, layer) for layer, value in enumerate(shares["share"][-1]) if value is not None] if shares else []
    if not shares or not known:
        return ""
    (least, layer), width, when = min(known), 2 * shares["rank"], step_name(shares["steps"][-1])
    found = f"{share(least)} of every factor (factor {layer + 1}; by chance {shares['chance'][layer]:.3g})"
    if shares["block"] == "law" and least >= 1:
        return f" The law with r = {shares['rank']} allows all of the change until {when}."
    if shares["block"] == "law":
        return f" Of the squared change until {when} the law with r = {shares['rank']} allows at least {found}."
    return (
        f" What can be said without it: of the squared change until {when} the {width} directions on each side that changed most "
        f"(2r, r = {shares['rank']}) hold at least {found}."
    )


def _reproduce(result: Result) -> str:
    entries: Sequence[Result] = result["experiments"]
    verdicts = [verdict for entry in entries for verdict in judged(entry)]
    held = sum(verdict["holds"] for verdict in verdicts)
    said = f"{held} of {len(verdicts)} verdicts hold" if verdicts else unjudged(entries)
    silent = [entry["id"] for entry in entries if entry["status"] == "done" and not judged(entry)]
    shown = sum(entry["passed"] for entry in entries if judged(entry))
    titles = [entry["title"] for entry in entries]
    what = titles[0] if len(titles) == 1 else listed([f"“{title}”" for title in titles])
    if (
        verdicts and len(entries) <= 3
    ):  # else a title such as "Adam breaks the law" beside "5 of 5 hold" reads either way
        said = f"{'shown' if all(entry['passed'] for entry in entries) else 'not shown'}, {said}"
    said = f"{what if len(entries) <= 3 else f'{shown} of {len(entries)} experiments show what is claimed'}: {said}"
    failed = [
        entry["id"]
        for entry in entries
        if entry["status"] == "error" or (entry["status"] == "done" and not entry["passed"])
    ]
    skipped = [entry["id"] for entry in entries if entry["status"] == "skipped"]
    said += f"; not as it should be: {listed(failed)}" if failed else ""
    said += f"; nothing could be judged in {listed(silent)}" if silent and verdicts else ""
    return said + (f"; skipped: {listed(skipped)}." if skipped else ".")


def judged(entry: Result) -> list[Result]:
    """The verdicts of an experiment that are judged."""
    return [verdict for verdict in entry["verdicts"] if verdict["judged"]]


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
