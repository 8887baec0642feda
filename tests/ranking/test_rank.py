import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lowdim._intervals import FOLD_LOSS, wilson_interval
from lowdim.data import dataset_from_arrays, load_data
from lowdim.errors import InputError, UsageError
from lowdim.finetuning import finetune
from lowdim.metrics import within_class_variability
from lowdim.models import load_model
from lowdim.probe import fit_probe
from lowdim.profiling import profile
from lowdim.profiling._passes import halves
from lowdim.ranking import (
    SCORES,
    Candidate,
    ScoreKind,
    candidates_of,
    class_variability,
    evaluate,
    h_score,
    heldout_class_variability,
    log_evidence,
    rank,
    read_candidates,
    regularised_h_score,
)
from lowdim.ranking._evaluate import _moved
from lowdim.ranking.scores._kind import SampleMean
from lowdim.report.ranking import ranking_sections
from lowdim.statistics import ClassStatistics

FACTORY = """
import torch


def linear(width: int = 8, seed: int = 0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, width), torch.nn.ReLU(), torch.nn.Linear(width, 6))


def nan(width: int = 8):
    class Poison(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.head(x.mean(dim=(2, 3)).where(x.amax() < 0, torch.nan))

    return Poison()


def broken():
    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3, 2)

        def forward(self, x):
            raise ZeroDivisionError("in the user's code")

    return Broken()
"""


def features(n: int, d: int, spread: float, seed: int, *, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    means = np.random.default_rng(99).normal(size=(classes, d))
    labels = np.arange(n) % classes
    return (means[labels] + spread * np.random.default_rng(seed).normal(size=(n, d))).astype(np.float32), labels


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Saved features of one data set by three models, from good to bad."""
    for name, spread in (("good", 0.5), ("fair", 1.0), ("poor", 2.0)):
        x, y = features(120, 6, spread, 1)
        x_test, y_test = features(80, 6, spread, 2)
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return tmp_path


def names(saved: Path) -> list[str]:
    return [str(saved / f"{name}.npz") for name in ("fair", "poor", "good")]


def test_the_better_features_come_first(saved: Path) -> None:
    data = load_data(str(saved / "good.npz"))
    (saved / "state").mkdir()
    for by in (
        "nc1",
        "nc1_heldout",
        "h_score",
        "h_score_regularised",
        "vci",
        "logme",
        "sfda",
        "ncc_accuracy",
        "probe_accuracy",
    ):
        result = rank(candidates_of(names(saved)), data, by=by, folder=saved / "state")
        assert [Path(place.candidate.name).stem for place in result.places] == ["good", "fair", "poor"], by
        assert [place.rank for place in result.places] == [1, 2, 3], by
    agreed = result.agreement["nc1"]
    assert (agreed.kendall, agreed.weighted, agreed.spearman) == pytest.approx((1, 1, 1))


def test_scores_are_those_of_the_formulas(saved: Path) -> None:
    file = str(saved / "fair.npz")
    data = load_data(file)
    result = evaluate(candidates_of([file])[0], data, folder=saved / "work")
    arrays = np.load(file)
    x, y = torch.from_numpy(arrays["x_train"]), torch.from_numpy(arrays["y_train"])
    statistics = ClassStatistics.from_samples(x, y, classes=4)
    assert result.scores["nc1"] == pytest.approx(within_class_variability(statistics), rel=1e-10)
    distances = torch.cdist(x.double(), statistics.means)
    assert result.scores["ncc_accuracy"] == pytest.approx(float((distances.argmin(dim=1) == y).double().mean()))
    probe = fit_probe(x.numpy(), y.numpy(), classes=4)
    assert result.scores["probe_cv_accuracy"] == probe.accuracy
    hits = probe.probe.log_probabilities(arrays["x_test"]).argmax(axis=1) == arrays["y_test"]
    assert result.scores["probe_accuracy"] == pytest.approx(hits.mean())
    assert (result.samples, result.probe_samples, result.width, result.parameters) == (120, 80, 6, None)
    assert result.scores["vci"] == pytest.approx(1 - result.scores["h_score"] / 3)
    by_folds = evaluate(candidates_of([file])[0], data, folder=saved / "work2", probe_on="cv")
    assert by_folds.scores["probe_accuracy"] == probe.accuracy
    assert by_folds.probe_samples == int(120 / FOLD_LOSS)


def test_images_are_ordered_by_the_frozen_head(tmp_path: Path) -> None:
    """Of several layers, as they are and mirrored: better than the last layer, and the one that fine-tuning gives."""
    data = load_data("digits-5-9", shots=12, limit=200)
    result = rank(candidates_of(["digits-0-4", "digits-split"]), data)
    assert result.by == "probe_cv_accuracy"
    first, second = (place.evaluation for place in result.places)
    assert first.name == "digits-split"
    assert first.scores["probe_cv_accuracy"] > second.scores["probe_cv_accuracy"]
    base = load_model("digits-0-4")
    tuned = finetune(base, data, method="probe").accuracy["test"]
    assert second.scores["probe_accuracy"] == pytest.approx(tuned)
    assert second.scores["probe_accuracy"] > finetune(base, data, method="linear-probe").accuracy["test"]


def test_without_the_probe_it_is_nc1_and_it_is_said(saved: Path) -> None:
    result = rank(candidates_of(names(saved)), load_data(str(saved / "good.npz")), probe=False)
    assert result.by == "nc1"
    assert any(warning.startswith("ordered by NC1 alone") for warning in result.warnings)


def test_the_probe_orders_where_nc1_would_mislead(tmp_path: Path) -> None:
    """Few directions make NC1 small; the wider features classify better."""
    x, y = features(300, 40, 3.0, 1, classes=6)
    means = np.stack([x[y == k].mean(axis=0) for k in range(6)])
    plane = np.linalg.svd(means - means.mean(axis=0))[2][:2]
    for name, rows in (("wide", x), ("narrow", x @ plane.T)):
        np.savez(tmp_path / f"{name}.npz", x_train=rows, y_train=y)
    specs = [str(tmp_path / f"{name}.npz") for name in ("wide", "narrow")]
    data = load_data(specs[0])
    by_probe, by_nc1 = (rank(candidates_of(specs), data, by=by) for by in (None, "nc1"))
    assert [Path(place.candidate.name).stem for place in by_nc1.places] == ["narrow", "wide"]
    assert [Path(place.candidate.name).stem for place in by_probe.places] == ["wide", "narrow"]


def test_one_sample_per_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two of a class"):
        rank(candidates_of(["digits"]), load_data("digits", shots=1, limit=50))


def test_few_models_have_no_interval_of_the_agreement(saved: Path) -> None:
    result = rank(candidates_of(names(saved)), load_data(str(saved / "good.npz")))
    assert {found.interval for found in result.agreement.values()} == {None}
    assert not any("too few" in warning for warning in result.warnings)  # three agree by chance: not shown
    digits = load_data("digits", limit=60)
    several = [
        Candidate(name=f"m{i}", model="digits", options={"random_weights": True}, group=f"{i % 3}") for i in range(4)
    ]
    assert any("3 independent models are too few" in warning for warning in rank(several, digits).warnings)


def test_batches_do_not_matter(saved: Path) -> None:
    candidate, data = candidates_of(names(saved))[0], load_data(str(saved / "good.npz"))
    one = evaluate(candidate, data, folder=saved / "a", batch_size=7)
    two = evaluate(candidate, data, folder=saved / "b", batch_size=120)
    for name, value in one.scores.items():
        assert value == pytest.approx(two.scores[name], rel=1e-9), name
    for name, values in one.influences.items():
        # The best precisions of LogME are known to half of the digits: the evidence is flat there.
        np.testing.assert_allclose(values, two.influences[name], rtol=0, atol=1e-7 * np.abs(values).max())


def test_deviations_are_the_lengths_of_the_influences(saved: Path) -> None:
    """And `rank` keeps the influences of the ordering score alone, with the same intervals."""
    candidates, data = candidates_of(names(saved)[:2]), load_data(str(saved / "good.npz"))
    found = evaluate(candidates[0], data, folder=saved / "lengths")
    assert set(found.deviations) == set(found.influences) >= {"nc1", "logme"}
    for name, values in found.influences.items():
        assert found.deviations[name] == pytest.approx(sum(float(value) ** 2 for value in values) ** 0.5), name
    places = rank(candidates, data, by="logme").places
    ranked = next(place.evaluation for place in places if place.candidate.name == candidates[0].name)
    assert set(ranked.influences) == {"logme"}
    for name in found.scores:
        assert ranked.interval(name) == found.interval(name), name
    low, high = ranked.interval("logme") or (0.0, 0.0)
    assert high - low == pytest.approx(2 * 1.6449 * found.deviations["logme"], rel=1e-4)


def test_adding_a_candidate_changes_no_other_score(saved: Path) -> None:
    data = load_data(str(saved / "good.npz"))
    some, more = (rank(candidates_of(names(saved)[:count]), data) for count in (2, 3))
    before = {place.candidate.name: place.as_dict() for place in some.places}
    after = {place.candidate.name: place.as_dict() for place in more.places}
    for name, row in before.items():
        for key in row.keys() - {"rank", "seconds"}:
            assert row[key] == after[name][key], key


def test_candidates_that_cannot_be_told_apart_are_tied(saved: Path) -> None:
    data = load_data(str(saved / "good.npz"))
    x, y = features(120, 6, 0.5, 1)
    x_test, y_test = features(80, 6, 0.5, 2)
    rng = np.random.default_rng(0)
    nudged = [part + 0.02 * rng.normal(size=part.shape).astype(np.float32) for part in (x, x_test)]
    np.savez(saved / "twin.npz", x_train=nudged[0], y_train=y, x_test=nudged[1], y_test=y_test)
    result = rank(candidates_of([*names(saved), str(saved / "twin.npz")]), data, by="nc1")
    places = {Path(place.candidate.name).stem: place.rank for place in result.places}
    assert places["good"] == places["twin"] == 1
    assert places["fair"] == 3
    assert places["poor"] == 4


def test_networks_with_a_head_have_source_scores(tmp_path: Path) -> None:
    data = load_data("digits", limit=200)
    by_name = {
        place.candidate.name: place.evaluation for place in rank(candidates_of(["digits", "digits-0-4"]), data).places
    }
    own, half = by_name["digits"], by_name["digits-0-4"]
    assert own.scores["nce"] > half.scores["nce"]
    assert own.scores["leep"] > half.scores["leep"]
    assert own.scores["probe_accuracy"] > half.scores["probe_accuracy"]
    assert (own.layer, own.width) == ("head:input", 24)
    # LEEP and NCE by their definitions.
    from lowdim.data import batches

    model = load_model("digits-0-4")
    images, labels, _ = next(batches(data["train"], model.preprocessing, batch_size=200))
    with torch.inference_mode():
        theta = model.module(images).double().softmax(dim=1)
    joint = torch.stack([theta[labels == k].sum(dim=0) for k in range(10)]) / 200
    conditional = joint / joint.sum(dim=0)
    leep = (conditional[labels] * theta).sum(dim=1).log().mean()
    assert half.scores["leep"] == pytest.approx(float(leep), rel=1e-5)
    source = theta.argmax(dim=1)
    entropy = 0.0
    for z in range(5):
        counts = torch.bincount(labels[source == z], minlength=10).double()
        share = counts[counts > 0] / counts.sum()
        entropy -= float(counts.sum() / 200 * (share * share.log()).sum())
    assert half.scores["nce"] == pytest.approx(-entropy, rel=1e-6)


def test_a_failing_candidate_hides_no_other(saved: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FACTORY)
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), dtype=np.uint8)
    data = dataset_from_arrays(images, np.arange(40) % 2, images, np.arange(40) % 2)
    specs = [f"{file}:{name}" for name in ("linear", "nan", "broken", "absent")]
    result = rank(candidates_of(specs), data)
    assert [place.candidate.name for place in result.places] == [specs[0]]
    assert set(result.failed) == set(specs[1:])
    assert "ZeroDivisionError" in result.failed[specs[2]]
    with pytest.raises(InputError, match="No candidate could be scored"):
        rank(candidates_of(specs[1:]), data)


def test_candidates_side_by_side_give_the_same(tmp_path: Path) -> None:
    data = load_data("digits", limit=100)
    one, two = (rank(candidates_of(["digits", "digits-0-4"]), data, jobs=jobs) for jobs in (1, 2))
    for a, b in zip(one.places, two.places, strict=True):
        rows = [place.as_dict() for place in (a, b)]
        for name, value in rows[0].items():
            if isinstance(value, float) and name != "seconds":
                assert value == pytest.approx(rows[1][name], rel=1e-6), name


def test_a_killed_run_continues(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, folder = load_data(str(saved / "good.npz")), saved / "state"
    whole = rank(candidates_of(names(saved)), data, folder=folder)
    assert not [path for path in folder.iterdir() if path.is_dir()]
    (evaluation, *_) = folder.glob("*.safetensors")
    evaluation.unlink()
    calls: list[str] = []
    import lowdim.ranking._rank as module

    original = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda c, *a, **k: (calls.append(c.name), original(c, *a, **k))[1])
    again = rank(candidates_of(names(saved)), data, folder=folder)
    assert len(calls) == 1
    first, second = (json.loads(json.dumps(result.as_dict())) for result in (whole, again))
    for result in (first, second):
        for row in result["scores"]:
            del row["seconds"]
    assert first == second


def test_a_folder_keeps_other_data_and_settings_apart(saved: Path) -> None:
    data, folder = load_data(str(saved / "good.npz")), saved / "state"
    (good,) = candidates_of([str(saved / "good.npz")])
    first = rank([good], data, folder=folder).places[0]
    half = {"limit": len(data["train"]) // 2}
    fewer = rank([good], load_data(str(saved / "good.npz"), **half), selection=half, folder=folder).places[0]
    renamed = rank([replace(good, features=str(saved / "poor.npz"))], data, folder=folder).places[0]
    assert first.evaluation.samples == 2 * fewer.evaluation.samples
    assert renamed.as_dict()["nc1"] != first.as_dict()["nc1"]


def test_a_new_score_is_one_record(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It orders, has an interval, ties and an agreement, and stands in results and on the page."""
    counting = SampleMean(lambda rows, labels, outputs: (rows[:, 0] < rows[:, 1]).double())
    kind = ScoreKind("first", -1, "First below second", "Of two features.", lambda sums: counting, share=True)
    monkeypatch.setitem(SCORES, "first", kind)
    data = load_data(str(saved / "good.npz"))
    result = rank(candidates_of(names(saved)), data, by="first")
    for place in result.places:
        arrays = np.load(place.candidate.name)
        share = np.mean(arrays["x_train"][:, 0] < arrays["x_train"][:, 1])
        row = place.as_dict()
        assert row["first"] == pytest.approx(share)
        assert row["intervals"]["first"] == list(wilson_interval(share, 120))
    values = [place.evaluation.scores["first"] for place in result.places]
    assert values == sorted(values)
    assert set(result.agreement) == {
        name for name, kind in SCORES.items() if kind.task == "classification" and not kind.of_probe
    } - {"leep", "nce"}
    (section,) = ranking_sections({**result.as_dict(), "config": {}})
    assert section.tables[0].columns[2] == "First below second"


def test_what_is_found_in_a_cache_is_not_written_again(saved: Path) -> None:
    data, cache = load_data(str(saved / "good.npz")), saved / "cache"
    first = rank(candidates_of(names(saved)), data, cache=cache)
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    again = rank(candidates_of(names(saved)), data, cache=cache)
    assert len(files) == 12  # two batches of train and of test, for three models
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")} == files
    for one, two in zip(first.places, again.places, strict=True):
        assert one.evaluation.scores == two.evaluation.scores


# --- Input.


def test_samples_that_are_not_finite_are_left_out_and_named(saved: Path) -> None:
    x, y = features(120, 6, 0.5, 1)
    x[7, 3] = np.nan
    x[9, 0] = np.inf
    np.savez(saved / "holes.npz", x_train=x, y_train=y, x_test=x[10:], y_test=y[10:])
    data = load_data(str(saved / "holes.npz"))
    found = rank(candidates_of([str(saved / "holes.npz")]), data)
    (place,) = found.places
    assert place.evaluation.samples == 118
    assert "2 of 120 samples" in found.warnings[0]
    assert "train[7], train[9]" in found.warnings[0]
    keep = np.setdiff1d(np.arange(120), [7, 9])
    expected = within_class_variability(
        ClassStatistics.from_samples(torch.from_numpy(x[keep]), torch.from_numpy(y[keep]), classes=4)
    )
    assert place.evaluation.scores["nc1"] == pytest.approx(expected, rel=1e-10)


def damaged(saved: Path, share: float, *, part: str = "x_train") -> str:
    """The good features with the rows farthest from their class means set to NaN: what is left looks better than it is."""
    arrays = dict(np.load(saved / "good.npz"))
    x, y = arrays[part], arrays[part.replace("x", "y")]
    far = np.linalg.norm(x - np.stack([x[y == label].mean(axis=0) for label in range(4)])[y], axis=1)
    x[np.argsort(-far)[: round(share * len(x))]] = np.nan
    np.savez(saved / f"{part} {share}.npz", **arrays)
    return str(saved / f"{part} {share}.npz")


def test_candidates_are_compared_on_the_same_samples(saved: Path) -> None:
    specs, data = [damaged(saved, 0.05), names(saved)[2]], load_data(names(saved)[2])
    found = rank(candidates_of(specs), data, folder=saved / "kept")
    one, other = (place.evaluation for place in found.places)
    assert one.samples == other.samples == 114
    assert one.scores == pytest.approx(other.scores)
    assert [place.rank for place in found.places] == [1, 1]
    assert (
        f"6 of 120 samples of the train split have NaN, infinite or overflowing features or outputs ({specs[0]}: 6)"
        in (found.warnings[0])
    )
    again = rank(candidates_of(specs), data, folder=saved / "kept")
    assert [place.evaluation.seconds for place in again.places] == [one.seconds, other.seconds]


def test_test_samples_that_are_not_finite_are_neither_right_nor_wrong(saved: Path) -> None:
    specs, data = [damaged(saved, 0.05, part="x_test"), names(saved)[2]], load_data(names(saved)[2])
    one, other = (place.evaluation for place in rank(candidates_of(specs), data).places)
    assert one.probe_samples == other.probe_samples == 76
    assert one.scores["probe_accuracy"] == other.scores["probe_accuracy"]


def test_a_candidate_that_is_mostly_not_finite_is_not_ranked(saved: Path) -> None:
    specs, data = [damaged(saved, 0.5), names(saved)[2]], load_data(names(saved)[2])
    found = rank(candidates_of(specs), data)
    assert [place.candidate.name for place in found.places] == specs[1:]
    assert "60 of 120 samples" in found.failed[specs[0]]
    assert "more than a tenth" in found.failed[specs[0]]
    with pytest.raises(InputError, match="No candidate could be scored"):
        rank(candidates_of(specs[:1]), data)


def test_candidates_that_leave_too_little_together_are_refused(saved: Path) -> None:
    arrays, specs = dict(np.load(saved / "good.npz")), []
    for number in range(3):
        x = arrays["x_train"].copy()
        x[5 * number : 5 * (number + 1)] = np.inf
        specs.append(str(saved / f"part {number}.npz"))
        np.savez(specs[-1], **{**arrays, "x_train": x})
    with pytest.raises(InputError, match=r"15 of 120 samples .* more than a tenth"):
        rank(candidates_of(specs), load_data(names(saved)[2]))


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_scores_do_not_depend_on_the_scale_of_saved_features(saved: Path, scale: float) -> None:
    arrays = {
        name: np.float64(array) if name[0] == "x" else array for name, array in np.load(saved / "good.npz").items()
    }
    np.savez(saved / "plain.npz", **arrays)
    np.savez(
        saved / "scaled.npz", **{name: array * scale if name[0] == "x" else array for name, array in arrays.items()}
    )
    specs = [str(saved / "plain.npz"), str(saved / "scaled.npz")]
    one, other = (place.evaluation.scores for place in rank(candidates_of(specs), load_data(specs[0])).places)
    assert len(one) > 8
    # LogME's fixed point is stopped early; its start depends on the scale.
    assert {k: v for k, v in one.items() if k != "logme"} == pytest.approx(
        {k: v for k, v in other.items() if k != "logme"}, rel=1e-6
    )


def test_one_sample_per_class_and_classes_without_samples(saved: Path) -> None:
    x, y = features(120, 6, 0.5, 1)
    data = dataset_from_arrays(x, y, x, y, classes=["a", "b", "c", "d", "empty"])
    np.savez(saved / "f.npz", x_train=x, y_train=y, x_test=x, y_test=y, class_names=["a", "b", "c", "d", "empty"])
    (place,) = rank(candidates_of([str(saved / "f.npz")]), data).places
    assert set(place.evaluation.scores) >= {"nc1", "probe_accuracy", "sfda"}
    np.savez(saved / "single.npz", x_train=x[:4], y_train=y[:4], x_test=x[4:8], y_test=y[4:8])
    single, few = candidates_of([str(saved / "single.npz")]), load_data(str(saved / "single.npz"))
    for by in (None, "nc1"):
        with pytest.raises(InputError, match="two of a class"):
            rank(single, few, by=by)
    (place,) = rank(single, few, by="ncc_accuracy").places
    assert "nc1" not in place.evaluation.scores
    assert any("single sample" in warning for warning in place.evaluation.warnings)
    json.dumps(place.as_dict())


def test_one_class_is_no_classification(saved: Path) -> None:
    x, _ = features(120, 6, 0.5, 1)
    np.savez(saved / "one.npz", x_train=x, y_train=np.zeros(120, int), x_test=x, y_test=np.zeros(120, int))
    with pytest.raises(InputError, match="at least two classes"):
        rank(candidates_of([str(saved / "one.npz")]), load_data(str(saved / "one.npz")))


def test_saved_features_of_other_samples_are_refused(saved: Path) -> None:
    data = load_data(str(saved / "good.npz"), limit=40, seed=3)
    with pytest.raises(InputError, match="are not those of the train split"):
        rank(candidates_of(names(saved)), data)
    selection = {"limit": 40, "seed": 3}
    result = rank(candidates_of(names(saved)), data, selection=selection)
    assert not result.failed
    assert result.places[0].evaluation.samples == 40


def test_several_widths_are_warned_about_and_compared_within(saved: Path) -> None:
    for width, spread in ((6, 0.4), (6, 0.8), (6, 1.6), (30, 0.4), (30, 0.8), (30, 1.6)):
        x, y = features(120, width, spread, 1)
        x_test, y_test = features(80, width, spread, 2)
        np.savez(saved / f"{width}-{spread}.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    files = sorted(str(path) for path in saved.glob("*-*.npz"))
    result = rank(candidates_of(files), load_data(files[0]), by="nc1")
    assert any("2 widths" in warning for warning in result.warnings)
    assert result.equal_width["nc1"] > 0.9
    assert result.agreement["width"].models == 6


def test_what_cannot_be_asked(saved: Path) -> None:
    data = load_data(str(saved / "good.npz"))
    with pytest.raises(UsageError, match="at least one model"):
        rank([], data)
    with pytest.raises(UsageError, match="There is no score"):
        rank(candidates_of(names(saved)), data, by="nc2")
    with pytest.raises(UsageError, match="needs the probe"):
        rank(candidates_of(names(saved)), data, by="probe_accuracy", probe=False)
    with pytest.raises(UsageError, match="more than once"):
        candidates_of(["digits", "digits"])


# --- The TOML file.


def test_a_file_of_models(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (saved / "mine.py").write_text(FACTORY)
    torch.manual_seed(0)
    (saved / "models.toml").write_text(
        """
[[models]]
name = "wide"
model = "mine.py:linear"
arguments = { width = 12, seed = 3 }
mean = [0.5, 0.5, 0.5]
std = [0.2, 0.2, 0.2]
image_size = 8
group = "run 1"
source_accuracy = 0.5

[[models]]
name = "narrow"
model = "mine.py:linear"

[[models]]
name = "saved"
features = "good.npz"
"""
    )
    monkeypatch.chdir("/")
    found = read_candidates(saved / "models.toml", offline=True)
    assert [candidate.name for candidate in found] == ["wide", "narrow", "saved"]
    assert found[2].features == str(saved / "good.npz")
    assert found[0].options["offline"]
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), dtype=np.uint8)
    data = dataset_from_arrays(images, np.arange(40) % 2, images, np.arange(40) % 2)
    result = rank(found[:2], data)
    widths = {place.candidate.name: place.evaluation.width for place in result.places}
    assert widths == {"wide": 12, "narrow": 8}
    wide = next(place for place in result.places if place.candidate.name == "wide")
    assert "mean 0.5" in wide.evaluation.preprocessing
    assert wide.as_dict()["source_accuracy"] == 0.5
    assert wide.as_dict()["group"] == "run 1"


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("[[models]\n", InputError, "cannot be read as TOML"),
        ("", InputError, "lacks the key 'models'"),
        ("x = 1\n[[models]]\nmodel = 'digits'\n", InputError, "has a key 'x'"),
        ("models = [1]", InputError, r"models\[0\] must be a table, not a whole number"),
        ("models = " + "[" * 10_000 + "]" * 10_000, InputError, "nested too deeply"),
        ("a." * 10_000 + "b = 1", InputError, "nested too deeply"),
        (f"models = {'9' * 5000}", InputError, "cannot be read as TOML"),
        ("[[models]]\nname = 'a'\n", InputError, "either model or features"),
        ("[[models]]\nmodel = 'digits'\nfeatures = 'a.npz'\n", InputError, "either model or features"),
        ("[[models]]\nmodle = 'digits'\n", InputError, "Did you mean model"),
        ("[[models]]\nmodel = 3\n", InputError, r"models\[0\].model must be text, not a whole number"),
        (
            "[[models]]\nmodel = 'digits'\nimage_size = true\n",
            InputError,
            "image_size must be a whole number or a list",
        ),
        ("[[models]]\nmodel = 'digits'\nimage_size = -1\n", InputError, "image_size must be from 1"),
        ("[[models]]\nmodel = 'digits'\nstd = [0]\n", InputError, r"std\[0\] must be a number > 0"),
        ("[[models]]\nmodel = 'digits'\n[[models]]\nmodel = 'digits'\n", UsageError, "more than once"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: str, error: type[Exception], message: str) -> None:
    (tmp_path / "m.toml").write_text(content)
    with pytest.raises(error, match=message):
        read_candidates(tmp_path / "m.toml")


def test_a_file_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_candidates(tmp_path / "absent.toml")


def test_folders_in_specs_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "m.toml").write_text(
        "[[models]]\nmodel = 'hf:encoder'\n[[models]]\nmodel = 'timm:local-dir:net'\n"
        "[[models]]\nmodel = 'hf:org/name'\n[[models]]\nmodel = 'timm:resnet18'\nweights = 'w.safetensors'\n"
    )
    first, second, third, fourth = read_candidates(tmp_path / "m.toml")
    assert first.model == f"hf:{tmp_path / 'encoder'}"
    assert second.model == f"timm:local-dir:{tmp_path / 'net'}"
    assert third.model == "hf:org/name"
    assert fourth.options["weights"] == str(tmp_path / "w.safetensors")


# --- Intervals.


def _scored(seed: int, n: int, d: int, tmp_path: Path) -> dict[str, tuple[float, tuple[float, float] | None]]:
    x, y = features(n, d, 1.0, seed)
    np.savez(tmp_path / f"{seed}.npz", x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
    file = str(tmp_path / f"{seed}.npz")
    result = evaluate(Candidate(name="c", features=file), load_data(file), folder=tmp_path / f"w{seed}", probe_on="cv")
    return {name: (value, result.interval(name)) for name, value in result.scores.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(40, 6), (200, 6)])
def test_intervals_cover_the_expected_score(tmp_path: Path, n: int, d: int) -> None:
    """200 samples of one population: the 90 % intervals hold the mean score of such samples about that often."""
    runs = [_scored(seed, n, d, tmp_path) for seed in range(200)]
    for name in runs[0]:
        mean = np.mean([run[name][0] for run in runs])
        intervals = [run[name][1] for run in runs]
        if intervals[0] is None:
            continue
        covered = np.mean([low <= mean <= high for low, high in intervals])  # type: ignore[misc]
        assert 0.8 <= covered <= 0.99, (name, covered)


@pytest.mark.usefixtures("unchecked_shapes")  # they take half the time of so many calls
def test_influences_predict_the_scatter() -> None:
    """Without files: the mean predicted deviation against the deviation over 100 samples of one population."""
    formulas = {
        "nc1": class_variability,
        "h_score": h_score,
        "h_score_regularised": regularised_h_score,
        "logme": log_evidence,
    }
    values: dict[str, list[float]] = {}
    deviations: dict[str, list[float]] = {}
    for seed in range(100):
        rows, labels = (torch.from_numpy(part) for part in features(120, 6, 1.0, seed))
        rows = rows.double()
        half = torch.from_numpy(halves(labels.numpy()))
        statistics = ClassStatistics.from_samples(rows, labels, classes=4)
        parts = [ClassStatistics.from_samples(rows[half == p], labels[half == p], classes=4) for p in (0, 1)]
        found = {name: (formula(statistics), labels) for name, formula in formulas.items()}
        found["nc1_heldout"] = (heldout_class_variability(*parts), labels + 4 * half)
        for name, (score, keys) in found.items():
            assert score.influence is not None
            moved = _moved(score.influence(rows, keys).numpy(), keys.numpy(), np.arange(120))
            values.setdefault(name, []).append(score.value)
            deviations.setdefault(name, []).append(float(np.sqrt(np.sum(moved**2))))
    for name, scores in values.items():
        # The standard deviation of 100 values is itself right to 7 %.
        assert np.mean(deviations[name]) == pytest.approx(np.std(scores, ddof=1), rel=0.2), name


def test_a_network_that_was_trained_on_the_train_split_is_told(tmp_path: Path) -> None:
    """Rows that know their own labels, as features of a network do that was fitted to these very samples."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (2, 200))
    x = rng.standard_normal((2, 200, 4))
    x[0, :, 0] += 6 * y[0]
    x[1, :, 0] += 6 * rng.integers(0, 2, 200)
    np.savez(tmp_path / "d.npz", x_train=x[0], y_train=y[0], x_test=x[1], y_test=y[1])
    found = rank(candidates_of(["features"]), load_data(tmp_path / "d.npz"))
    assert any("cross-validated on the train split" in one and "on the test split" in one for one in found.warnings)
    np.savez(tmp_path / "d.npz", x_train=x[0, :100], y_train=y[0, :100], x_test=x[0, 100:], y_test=y[0, 100:])
    found = rank(candidates_of(["features"]), load_data(tmp_path / "d.npz"))
    assert not any("on the test split" in one for one in found.warnings)


def test_every_sample_twice_tells_no_more_than_once(tmp_path: Path) -> None:
    found = {}
    for name, times in (("once", 1), ("twice", 2)):
        (x, y), (x_test, y_test) = (
            tuple(np.repeat(part, times, axis=0) for part in features(60, 3, 1.5, seed)) for seed in (1, 2)
        )
        file = tmp_path / f"{name}.npz"
        np.savez(file, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
        result = rank(candidates_of([str(file)]), load_data(str(file)))
        found[name] = result.places[0].evaluation
    assert "60 of 120 samples of the train split are copies" in " ".join(result.warnings)
    once, twice = found.values()
    for score in ("nc1", "nc1_heldout", "h_score", "vci", "ncc_accuracy", "probe_accuracy"):
        np.testing.assert_allclose(twice.interval(score), once.interval(score), rtol=1e-6, err_msg=score)
    assert twice.trials == pytest.approx(once.trials)
    assert twice.scores["probe_cv_accuracy"] == pytest.approx(once.scores["probe_cv_accuracy"], abs=0.05)


def test_classes_without_training_samples_and_those_of_one_sample_are_said() -> None:
    x, y = features(40, 3, 0.5, 1)
    keep = y != 2
    data = dataset_from_arrays(x[keep], y[keep], x, y)
    told = "classes of the test split without training samples, always counted as wrong: 2"
    assert told in rank(candidates_of(["features"]), data).warnings
    assert told in profile(load_model("features"), data).warnings
    alone = [*np.flatnonzero(y != 2).tolist(), 2]
    said = rank(candidates_of(["features"]), dataset_from_arrays(x[alone], y[alone], x, y), probe=False).warnings
    assert any("no nc1_heldout: The held-out NC1 needs two different samples of every class." in one for one in said)


def test_what_guessing_gives_is_that_of_the_samples_that_order(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    train, test = np.repeat([0, 1], [30, 10]), np.repeat([0, 1], [8, 12])
    rows = [generator.normal(size=(len(labels), 3)) + labels[:, None] for labels in (train, test)]
    np.savez(tmp_path / "x.npz", x_train=rows[0], y_train=train, x_test=rows[1], y_test=test)
    file = str(tmp_path / "x.npz")
    found = {by: rank(candidates_of([file]), load_data(file), by=by) for by in (None, "probe_accuracy")}
    assert {by: ranking.as_dict()["guessing"] for by, ranking in found.items()} == {None: 0.75, "probe_accuracy": 0.6}
