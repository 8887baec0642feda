"""Choosing by cross-validated evidence, ties included; the baseline; advice."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lowdim._intervals import wilson_interval
from lowdim._job import Job
from lowdim.data import Dataset, dataset_from_arrays, load_data
from lowdim.data._dataset import Split
from lowdim.errors import InputError
from lowdim.finetuning import advise, finetune, split_outputs
from lowdim.finetuning._advise import gain_interval
from lowdim.finetuning._baseline import heldout_baseline, plain_features
from lowdim.finetuning._bench import Bench
from lowdim.finetuning._choice import (
    Evidence,
    Gathered,
    choose_method,
    decide,
    everything_may_pay,
    evidence_of,
    expected_interval,
    gather_evidence,
    heldout_predictions,
    is_far,
    paired_difference,
    probe_plan,
)
from lowdim.finetuning._plan import Options, Plan
from lowdim.models import LoadedModel, load_model
from lowdim.probe import fit_probe, fold_of
from lowdim.report.answers import headline


def entry(method: str, right: "Sequence[float] | np.ndarray", layer: str = "") -> Evidence:
    plans = [Plan(method, (layer,))] if layer else []
    return evidence_of("m", method, plans, np.array(right, dtype=float), np.zeros(len(right), dtype=int), 1.0)


def gathered(probe: np.ndarray, block: np.ndarray, average: np.ndarray, **also: np.ndarray) -> Gathered:
    return Gathered(
        probe=entry("probe", probe),
        block=entry("scl", block, "b"),
        average=entry("ensemble", average, "b"),
        also=tuple(entry(name.replace("_", "-"), right) for name, right in also.items()),
    )


def pattern(correct: int, of: int = 100, start: int = 0) -> np.ndarray:
    right = np.zeros(of)
    right[(start + np.arange(correct)) % of] = 1
    return right


def test_a_tie_goes_to_the_cheaper_and_it_is_said() -> None:
    for block, average in ((71, 70), (70, 70), (50, 69)):
        evidence = gathered(pattern(70), pattern(block, start=20), pattern(average))
        chosen, reasons = choose_method(evidence)
        assert chosen is evidence.probe
        assert len(reasons) == 2 and ("a tie, which goes to the cheaper" in reasons[1] or "worse" in reasons[1])


def test_what_is_clearly_better_is_taken() -> None:
    assert choose_method(gathered(pattern(70), pattern(78), pattern(78)))[0].method == "scl"
    assert choose_method(gathered(pattern(70), pattern(78), pattern(86)))[0].method == "ensemble"
    assert choose_method(gathered(pattern(70), pattern(50), pattern(80)))[0].method == "ensemble"
    alone = Gathered(probe=entry("probe", pattern(70)))
    assert choose_method(alone)[0] is alone.probe


def test_what_is_recommended_is_never_below_what_costs_less() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        evidence = gathered(*(rng.random(60) < rng.uniform(0.5, 0.8) for _ in range(3)))
        rows = evidence.rows()
        chosen, _ = choose_method(evidence)
        cheaper = rows[: [row is chosen for row in rows].index(True)]
        assert all(row.accuracy <= chosen.accuracy for row in cheaper)


def test_what_is_tried_besides_must_be_clearly_better() -> None:
    three = pattern(70), pattern(78), pattern(78)
    assert choose_method(gathered(*three, lp_ft=pattern(80, start=4)))[0].method == "scl"
    chosen, reasons = choose_method(gathered(*three, lp_ft=pattern(90)))
    assert chosen.method == "lp-ft"
    assert "lp-ft against scl: +12.0 ± 3.3 points, better" in reasons


@pytest.mark.parametrize(
    ("right", "losses", "chosen", "said"),
    [
        (pattern(80), 0.5, "ensemble-adapt", "+10.0 points, log loss -0.50 ± 0.00 on 100 samples, better"),
        (pattern(70), 0.5, "ensemble-adapt", "better"),
        (
            pattern(69, start=5),
            0.5,
            "ensemble-adapt",
            "-1.0 points, log loss -0.50",
        ),  # five fewer, four more: no difference
        (
            pattern(68),
            0.5,
            "probe",
            "-2.0 points, log loss -0.50 ± 0.00 on 100 samples, a tie",
        ),  # never clearly below what costs less
        (pattern(80), 1.0, "probe", "a tie"),
        (pattern(80), 1.5, "probe", "log loss +0.50 ± 0.00 on 100 samples, worse"),
    ],
)
def test_training_everything_is_judged_by_its_log_loss(
    right: np.ndarray, losses: float, chosen: str, said: str
) -> None:
    evidence = Gathered(
        probe=replace(entry("probe", pattern(70)), losses=np.ones(100)),
        everything=replace(entry("ensemble-adapt", right), losses=np.full(100, losses)),
    )
    found, (reason,) = choose_method(evidence)
    assert found.method == chosen and said in reason


def test_everything_is_trained_on_further_folds_while_it_is_open_whether_it_gains(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, asked = Bench(load_model("digits-0-4"), data, Job(folder=tmp_path)), list[int]()
    part = fold_of(bench.labels, 5, bench.job.seed)
    enough = 1 + int(np.searchsorted(np.bincount(part).cumsum(), 40))  # folds that leave out 40 samples
    order = np.argsort(np.argsort(part, kind="stable")) - np.searchsorted(np.sort(part), part)  # within its fold
    mixed = np.where(order % 3 == 0, 5.0, 1.0)  # the average is hardly better than the probe
    slow = np.where(part == 0, mixed, 5.0)  # the first fold leaves it open, the second does not
    for trained, folds, chosen in (
        (5.0, enough, "ensemble-adapt"),
        (1.0, 1, "probe"),
        (mixed, 5, None),
        (slow, enough, None),
    ):

        def predictions(bench: Bench, plan: Plan, part: np.ndarray, trained: Any = trained) -> np.ndarray:
            """All are right: what was trained is surer than the probe, or not as sure."""
            if plan.method == "adapt":
                asked.append(len(np.unique(part[part >= 0])))
            sure = np.broadcast_to(trained if plan.method == "adapt" else 2.0, len(part))
            rows = np.where(np.eye(10)[bench.labels] > 0, sure[:, None], 0.0)
            rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
            return np.where((part >= 0)[:, None], rows, np.nan)

        monkeypatch.setattr("lowdim.finetuning._choice.heldout_predictions", predictions)
        asked.clear()
        gathered = gather_evidence(bench, everything=Plan("adapt"), baseline=False)
        assert max(asked) == folds
        assert chosen is None or choose_method(gathered)[0].method == chosen


def test_everything_is_trained_where_the_network_is_far_from_the_images(
    tmp_path: Path,
) -> None:
    network, far = load_model("digits-0-4"), load_data("digits-5-9", shots=10, limit=100)
    tuned = finetune(network, far)
    assert tuned.method == "ensemble-adapt"
    assert any("may pay: no network at all gains " in reason for reason in tuned.reasons)
    assert "no block was tried: training everything is better than the probe" in tuned.reasons
    assert {row.method for row in tuned.evidence} == {"baseline", "probe", "ensemble-adapt"}
    assert any(reason.startswith("ensemble-adapt against ") and "better" in reason for reason in tuned.reasons)
    assert tuned.accuracy["test"] > finetune(network, far, method="probe").accuracy["test"] + 0.05
    assert tuned.save(tmp_path / "delta", load_model("digits-0-4"))["verified"] is True
    told = {one["position"]: one["probability"] for one in tuned.mistakes["mistakes"]}
    shares = np.exp(split_outputs(tuned.model, far["test"], network.preprocessing)[0]).max(axis=1)
    np.testing.assert_allclose([*told.values()], shares[[*told]], rtol=1e-5)


def test_nothing_is_trained_where_the_last_layer_suits_and_its_price_is_said(data: Dataset, tmp_path: Path) -> None:
    decision = decide(Bench(load_model("digits-split"), data, Job(folder=tmp_path)), Options())
    assert decision.method == "probe" and {row.method for row in decision.evidence} == {"baseline", "probe"}
    price = r"training everything \(.*, in about \d+ s to \d+ s on an idle machine\) was not tried: the probe is right in \d+ % already"
    assert any(re.search(price, reason) for reason in decision.reasons)


def test_the_price_is_that_of_an_idle_machine_and_time_left_is_counted_on_this_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes on in passes that wait for other programs; so does the time of the process, where several threads wait."""
    clock, used, threads, threads_before = 0.0, 0.0, list[int](), torch.get_num_threads()

    def waiting(network: object, inputs: object) -> None:
        nonlocal clock, used
        threads.append(torch.get_num_threads())
        clock, used = clock + 800.0, used + (1.0 if threads[-1] == 1 else 80.0)

    monkeypatch.setattr("lowdim.finetuning._bench.call", waiting)
    monkeypatch.setattr("time.perf_counter", lambda: clock)
    monkeypatch.setattr("time.process_time", lambda: used)
    plan = Plan("adapt")
    recipe = bench.recipe(plan)
    assert recipe is not None
    torch.set_num_threads(2)
    try:
        alone, busy = bench.seconds_of(plan), bench.seconds_of(plan, busy=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads_before)
    passes = 3 * recipe.epochs * len(bench.labels) / 16
    assert (alone, busy) == pytest.approx((passes, 800 * passes))


@pytest.mark.parametrize(
    ("baseline", "probe", "far", "said"),
    [
        # Mean losses; guessing one of two has ln 2 = .6931, so that this probe gains .5. Its losses lie 1 above and below in turn: where the
        # baseline gains the share r of that, r / sqrt(99) / .5 = .201 r is the error of r, and r (1 + 2 x .201) must reach .1: r = .0713.
        (
            0.6931,
            0.1931,
            False,
            "no network at all gains 0 ± 0 % of what the probe gains over guessing, in nats (it may pay from 10 % on)",
        ),
        (0.6580, 0.1931, False, "gains 7 ± 1 % of"),
        (0.6560, 0.1931, True, "gains 7 ± 1 % of"),
        (0.6380, 0.1931, True, "gains 11 ± 2 % of"),
        (1.1931, 0.1931, False, "gains -100 ± 20 % of"),
        (
            0.3931,
            0.4950,
            True,
            "the probe is hardly better than guessing",
        ),  # its gain, .198, is not twice its error of .1005
        (0.6991, 0.4950, False, "the probe is hardly better than guessing"),
        (0.6931, 0.4900, False, "gains 0 ± 0 % of"),
        (0.6932, 0.6932, False, "the probe is hardly better than guessing"),
        (0.6831, 0.6932, True, "the probe is hardly better than guessing"),
    ],
)
def test_a_network_is_far_where_the_images_themselves_say_much_of_what_it_says(
    baseline: float, probe: float, far: bool, said: str, tmp_path: Path
) -> None:
    ten = load_data("digits", shots=50)
    two = replace(ten, splits={"train": ten["train"].take(np.flatnonzero(ten["train"].labels < 2))})
    bench = Bench(load_model("digits-0-4"), two, Job(folder=tmp_path))
    plain = replace(entry("baseline", pattern(50)), losses=np.full(100, baseline))
    known = replace(entry("probe", pattern(90)), losses=probe + np.tile([1.0, -1.0], 50))
    found, why = is_far(bench, Gathered(baseline=plain, probe=known))
    assert (found, said in why) == (far, True), why
    found, why = is_far(bench, Gathered(baseline=plain, probe=replace(known, accuracy=0.95)))
    assert not found and why == "the probe is right in 95 % already"


def test_everything_is_not_begun_where_it_would_not_end_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowdim.finetuning._choice._FAR", -np.inf)
    monkeypatch.setattr("lowdim.finetuning._choice._RIGHT", np.inf)
    first = gather_evidence(bench)
    assert everything_may_pay(bench, Options(), first, np.inf)[0] is not None
    plan, said = everything_may_pay(bench, Options(), first, 0.0)
    assert plan is None and "was not tried, for it would not end in time (`minutes`): " in said


def test_a_choice_that_was_interrupted_goes_on_to_the_same_bits(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowdim.finetuning._train.SHORT", 0.0)
    steps = list[int]()

    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("training adapt"):
            steps.append(done)
            if len(steps) == 3:
                raise KeyboardInterrupt

    def evidence(folder: str) -> Evidence:
        job = Job(folder=tmp_path / folder, progress=stop)
        bench = Bench(load_model("digits-0-4"), data, job, changes={"epochs": 4})
        found = gather_evidence(bench, everything=Plan("adapt"), folds=2, baseline=False).everything
        assert found is not None
        return found

    with pytest.raises(KeyboardInterrupt):
        evidence("broken")
    again = evidence("broken")
    assert steps[3] == 4, "the three steps before are not repeated"
    whole = evidence("whole")
    np.testing.assert_array_equal(again.losses, whole.losses)


def test_a_baseline_that_wins_is_named() -> None:
    evidence = Gathered(baseline=entry("baseline", pattern(90)), probe=entry("probe", pattern(60)))
    assert any("does not help" in reason for reason in choose_method(evidence)[1])


def test_paired_difference_by_hand() -> None:
    gain, error = paired_difference(np.array([1, 1, 0, np.nan]), np.array([1, 0, 0, 1.0]))
    assert gain == pytest.approx(1 / 3)
    assert error == pytest.approx(np.std([0, 1, 0], ddof=1) / np.sqrt(3))


def test_the_interval_is_that_of_fewer_samples() -> None:
    assert expected_interval(0.7, 250) == wilson_interval(0.7, 100, level=0.9)


def test_heldout_probe_is_the_probe_of_each_fold(bench: Bench) -> None:
    part = fold_of(bench.labels, 3, 0)
    heldout = heldout_predictions(bench, Plan("linear-probe"), part)
    features = bench.fit(Plan("linear-probe")).features()
    train, test = part != 1, part == 1
    expected = fit_probe(features[train], bench.labels[train], classes=10, seed=0).probe.log_probabilities(
        features[test]
    )
    np.testing.assert_allclose(heldout[test], expected, rtol=1e-3, atol=1e-3)  # float32 head


def test_the_ensemble_is_the_mean_of_probabilities(bench: Bench) -> None:
    plan = Plan("scl", ("blocks.4",), "pad_add")
    gathered = gather_evidence(bench, plan, folds=2)
    found = {row.method: row for row in gathered.rows()}
    assert set(found) == {"baseline", "probe", "scl", "ensemble"}
    part = fold_of(bench.labels, 2, bench.job.seed)
    known = np.isfinite(found["scl"].correct)
    block = heldout_predictions(bench, plan, np.where(known, part, -1))
    mean = np.exp(heldout_predictions(bench, probe_plan(bench), part)) + np.exp(block)
    np.testing.assert_array_equal(found["ensemble"].correct[known], (mean.argmax(axis=1) == bench.labels)[known])


@pytest.mark.parametrize("better", [True, False])
def test_a_block_is_trained_on_no_more_folds_than_are_needed(
    better: bool, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(load_model("digits-0-4"), data, Job(folder=tmp_path))
    plan, asked = Plan("layer", ("blocks.1",)), list[int]()
    part = fold_of(bench.labels, 4, bench.job.seed)
    first = int((part == 0).sum())

    def predictions(bench: Bench, plan: Plan, part: np.ndarray) -> np.ndarray:
        """The block is right and the probe wrong, or the other way round."""
        block = plan.method == "layer"
        logarithms = np.where(np.eye(10)[bench.labels if block == better else (bench.labels + 1) % 10] > 0, 0.0, -9.0)
        if block:
            asked.append(len(np.unique(part[part >= 0])))
        return np.where((part >= 0)[:, None], logarithms, np.nan)

    monkeypatch.setattr("lowdim.finetuning._choice.heldout_predictions", predictions)
    for enough, needed in ((first, 1), (first + 1, 2), (1000, 4)):
        asked.clear()
        found = gather_evidence(bench, plan, folds=4, enough=enough, baseline=False).block
        assert found is not None
        assert max(asked) == (needed if better else 1)
        assert np.isfinite(found.correct).sum() == (part < max(asked)).sum()


@pytest.mark.parametrize("enough", [True, False])
def test_a_block_that_is_worse_by_chance_on_few_samples_gets_more(
    enough: bool, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, asked = Bench(load_model("digits-0-4"), data, Job(folder=tmp_path)), list[int]()
    part = fold_of(bench.labels, 4, bench.job.seed)
    first = np.flatnonzero(part == 0)
    monkeypatch.setattr("lowdim.finetuning._choice._LEFT_OUT", len(first) + (0 if enough else 1))

    def predictions(bench: Bench, plan: Plan, part: np.ndarray) -> np.ndarray:
        """Of the first fold the block has one more wrong, elsewhere the probe half."""
        block = plan.method == "layer"
        wrong = np.isin(np.arange(len(part)), first[:1] if block else np.setdiff1d(np.arange(len(part)), first)[::2])
        answers = np.where(wrong, (bench.labels + 1) % 10, bench.labels)
        if block:
            asked.append(len(np.unique(part[part >= 0])))
        return np.where((part >= 0)[:, None], np.where(np.eye(10)[answers] > 0, 0.0, -9.0), np.nan)

    monkeypatch.setattr("lowdim.finetuning._choice.heldout_predictions", predictions)
    gather_evidence(bench, Plan("layer", ("blocks.1",)), folds=4, baseline=False)
    assert max(asked) == (1 if enough else 4)


def test_copies_of_a_sample_count_once_in_an_interval() -> None:
    right, labels = np.tile([1.0, 1.0, 0.0, 1.0], 5), np.zeros(20, dtype=int)
    few = evidence_of("m", "probe", [], right[:4], labels[:4])
    same = evidence_of("m", "probe", [], right, labels, copies=np.arange(20) % 4)
    assert same.interval == few.interval != evidence_of("m", "probe", [], right, labels).interval


def test_copies_of_a_sample_count_once_in_a_difference() -> None:
    after, before = np.array([1.0, 1, 0, 1, 1, 0, 1, np.nan]), np.array([0.0, 1, 1, 0, 0, 0, 1, 1])
    twice = np.tile(np.arange(8), 2)
    assert paired_difference(after[twice], before[twice], twice) == pytest.approx(paired_difference(after, before))
    assert gain_interval(after[twice], before[twice], twice) == pytest.approx(gain_interval(after, before))
    assert paired_difference(after[[0, 0]], before[[0, 0]], np.zeros(2, dtype=int))[1] == np.inf


def test_rows_of_a_part_agree_with_the_comparison_of_pairs() -> None:
    labels = np.zeros(100, dtype=int)
    whole = evidence_of("m", "probe", [], pattern(60), labels)
    part = np.where(np.arange(100) < 20, pattern(20), np.nan)  # right on 20 samples on which the other is right, too
    assert evidence_of("m", "scl", [], part, labels, 0.0, whole).accuracy == pytest.approx(0.6)
    assert evidence_of("m", "scl", [], part, labels).accuracy == 1


def test_the_baseline_is_judged_on_what_no_choice_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    split = load_data("digits", limit=60)["train"]
    part = fold_of(split.labels, 3, 0)
    (features,) = plain_features(split)
    found = heldout_baseline(split, part, classes=10)
    train, test = part != 1, part == 1
    expected = fit_probe(features[train], split.labels[train], classes=10).probe.log_probabilities(features[test])
    np.testing.assert_allclose(found[test], expected)
    monkeypatch.setattr("lowdim.finetuning._baseline._MOST", 30)
    part_of_it = heldout_baseline(split, part, classes=10)
    assert np.isfinite(part_of_it).any(axis=1).sum() == 30


def test_baseline_of_texts_and_pixels() -> None:
    texts = ["red apple", "red pear", "red plum", "blue sea", "blue sky", "blue ink"] * 2
    labels = np.array([0, 0, 0, 1, 1, 1] * 2)
    split = Split(name="train", kind="text", labels=labels, items=texts, read=lambda index: texts[index])
    found = heldout_baseline(split, fold_of(labels, 3, 0), classes=2)
    assert (found.argmax(axis=1) == labels).all()
    digits = load_data("digits", shots=20)
    train, test = plain_features(digits["train"], digits["test"])
    assert train.shape == (200, 16 * 16 * 3) and test.min() >= 0 and test.max() <= 1
    raw = [
        np.stack([np.asarray(digits[name].load(i)).ravel() for i in range(len(digits[name]))])
        for name in ("train", "test")
    ]
    labels = digits["train"].labels
    found = fit_probe(train, labels, classes=10).probe.log_probabilities(test).argmax(axis=1)
    expected = fit_probe(raw[0], labels, classes=10).probe.log_probabilities(raw[1]).argmax(axis=1)
    assert (found == expected).mean() > 0.99  # enlarged pixels say the same


def test_advice_prefers_the_network_that_knows_the_classes(tmp_path: Path, data: Dataset) -> None:
    calls: list[str] = []

    def broken() -> LoadedModel:
        raise InputError("no such file")

    advice = advise(
        [lambda: load_model("digits-0-4"), broken, lambda: load_model("digits-split")],
        data,
        tmp_path,
        shots=(3, 50),
        outliers=2,
        progress=lambda what, done, total: calls.append(what),
    )
    assert advice.recommendation.model == "digits-split"
    assert any("candidate 2" in warning and "no such file" in warning for warning in advice.warnings)
    full = round(2 / 3 * len(data["train"]) / len(data.classes))
    curve = [(row["shots"], row["method"]) for row in advice.learning_curve]
    assert curve == [(size, method) for size in sorted({3, full // 2, full}) for method in ("probe", "baseline")]
    known = {(row.model, row.method): row.accuracy for row in advice.evidence}
    # One protocol: the last point is the cross-validation itself.
    assert advice.learning_curve[-2]["accuracy"] == pytest.approx(known["digits-split", "probe"])
    more = advice.more_labels
    assert more is not None and more["shots"] == [full // 2, full]
    before = next(row["accuracy"] for row in advice.learning_curve if row["shots"] == full // 2)
    assert more["gain"] == pytest.approx(advice.learning_curve[-2]["accuracy"] - before)
    low, high = more["interval"]
    assert low <= more["gain"] <= high
    assert more["helps"] is (True if low > 0 else False if high < 0.02 else None)
    assert advice.evidence[0] is advice.recommendation
    assert len(advice.outliers) <= 2 and all(entry.item.startswith("train[") for entry in advice.outliers)
    assert {entry.name for entry in advice.classes} == set(data.classes)
    assert {"baseline", "probe"} <= {row.method for row in advice.evidence}
    assert advice.arguments()["method"] == advice.recommendation.method
    assert calls


def test_no_usable_candidate_is_an_error(tmp_path: Path, data: Dataset) -> None:
    def broken() -> LoadedModel:
        raise InputError("no such file")

    with pytest.raises(InputError, match="No candidate"):
        advise([broken], data, tmp_path)


@pytest.mark.parametrize(
    ("won", "lost", "samples", "answer"),
    [(60, 10, 300, True), (0, 0, 20, None), (0, 0, 600, False), (14, 12, 150, None), (3, 2, 2000, False)],
)
def test_whether_more_labels_help_is_told_by_the_interval_of_the_gain(
    won: int, lost: int, samples: int, answer: bool | None
) -> None:
    after, before = np.ones(samples), np.ones(samples)
    before[:won], after[won : won + lost] = 0, 0
    low, high = gain_interval(after, before)
    assert low < (won - lost) / samples < high
    assert (True if low > 0 else False if high < 0.02 else None) is answer


def test_vectors_that_were_brought_are_not_compared_with_themselves(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(90) % 3
    rows = generator.standard_normal((90, 6)) + 4 * np.eye(3, 6)[labels]
    wrong = labels.copy()
    wrong[5] = (wrong[5] + 1) % 3
    for given, suspected in ((labels, []), (wrong, [5])):
        split = dataset_from_arrays(rows, given, rows, given)
        advice = advise([lambda: load_model("features")], split, tmp_path / str(len(suspected)))
        assert not advice.baseline_wins and {row.method for row in advice.evidence} == {"linear-probe"}
        assert [entry.position for entry in advice.outliers] == suspected, "only labels that are suspicious are listed"
        assert not any("no model" in row.model or "baseline" in row.method for row in advice.evidence)


def test_advice_names_ties_and_says_where_more_may_be_gained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowdim.finetuning._advise._learning_curve", lambda *_: ([], None))  # another matter
    data = load_data("digits-5-9", shots=8)
    first, second = replace(load_model("digits-0-4"), name="a"), replace(load_model("digits-0-4"), name="b")
    advice = advise([lambda: first, lambda: second], data, tmp_path, shots=(), outliers=0)
    assert [advice.recommendation.model, *advice.ties] == ["a", "b"]
    assert advice.everything is not None and "no network at all gains" in advice.everything
    known = advise([lambda: load_model("digits-split")], data, tmp_path, shots=(), outliers=0)
    assert not known.ties and known.everything is None


def test_ties_and_what_may_gain_more_stand_in_the_sentence() -> None:
    chosen = {"model": "/nets/a", "method": "probe", "layer": None, "expected_accuracy": 0.3, "interval": [0.2, 0.4]}
    result = {"recommendation": chosen, "baseline_wins": False, "more_labels": None, "evidence": []}
    said = headline("advise", {**result, "ties": ["/nets/b", "c"], "everything": "reasons"})
    assert said.startswith("Use a with probe: ")
    assert said.endswith(
        " It cannot be told apart from b and c on these samples."
        " Training the whole network may gain more (`method=auto` of `finetune` tries it): reasons."
    )
    assert "told apart" not in headline("advise", {**result, "ties": [], "everything": None})


def test_what_cannot_be_told_from_no_network_is_said() -> None:
    chosen = {"model": "a", "method": "probe", "layer": None, "expected_accuracy": 0.3, "interval": [0.2, 0.4]}
    common = {"recommendation": chosen, "baseline_wins": False, "more_labels": None, "evidence": []}
    unsure = {"gain": 0.01, "interval": [-0.05, 0.07]}
    said = headline("advise", {**common, "untrained": ["a"], "baseline_gain": unsure})
    assert "better than no network at all cannot be told: +1.0 points (90 % interval -5.0 to +7.0)" in said
    assert said.endswith("Its weights are random.")
    sure = {"gain": 0.2, "interval": [0.1, 0.3]}
    said = headline("advise", {**common, "untrained": [], "baseline_gain": sure})
    assert said == "Use a with probe: it should reach 30.0 % (90 % interval 20.0 to 40.0 %) on new samples."


def test_what_was_trained_for_long_is_made_less_sure(network: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    once, twice = (
        Bench(network, data, Job(folder=tmp_path), changes={"epochs": 1, **changes}).fit(Plan("adapt")).model.head
        for changes in ({"softening": 1.0}, {})
    )
    assert torch.equal(once.weight, 2 * twice.weight)


def test_a_probe_says_what_its_folds_say() -> None:
    """Of few test samples the accuracy says little: what is known of the training samples stands beside it, as `auto` has it."""
    network, data = load_model("digits-0-4"), load_data("digits-5-9", shots=8, limit=60)
    alone, chosen = finetune(network, data, method="probe"), finetune(network, data, epochs=1)
    (own,) = alone.evidence
    (same,) = [entry for entry in chosen.evidence if entry.method == "probe"]
    assert own.accuracy == same.accuracy and own.interval == same.interval
    once = load_data("digits-5-9", shots=1, limit=60)
    assert finetune(network, once, method="probe").evidence == ()


def test_evidence_says_what_guessing_would_give() -> None:
    """Of the samples that were held out: two of three are of the first class."""
    row = evidence_of("m", "probe", [], np.array([1.0, 0.0, 1.0, np.nan]), np.array([0, 0, 1, 1]))
    assert row.guessing == row.as_dict()["guessing"] == pytest.approx(2 / 3)
