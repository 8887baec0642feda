"""An accuracy is read beside what makes it: unequal classes, and test samples that are in the training data."""

from pathlib import Path

import numpy as np
import pytest

import lowdim
from lowdim._balance import balanced_accuracy, majority_warnings
from lowdim._warnings import merged
from lowdim.data import Dataset, dataset_from_arrays
from lowdim.errors import InputError
from lowdim.finetuning import advise, finetune
from lowdim.models import load_model


def unequal() -> Dataset:
    """60 against 3 samples that features say nothing about; as many of each for the test."""
    x = np.random.default_rng(0).normal(size=(103, 4)).astype(np.float32)
    return dataset_from_arrays(x[:63], [0] * 60 + [1] * 3, x[63:], [0, 1] * 20, classes=["many", "few"])


def test_a_majority_that_explains_the_accuracy_is_said_with_the_remedy() -> None:
    tuned = finetune(load_model("features"), unequal(), method="linear-probe")
    assert tuned.accuracy["train"] == pytest.approx(60 / 63)
    assert (tuned.accuracy["balanced_train"], tuned.accuracy["balanced_test"]) == (0.5, 0.5)
    (said,) = [warning for warning in tuned.warnings if "largest class" in warning]
    assert (
        "train accuracy: 95.2 % is hardly more than the 95.2 % that always naming the largest class (many) would give"
        in said
    )
    assert "the balanced accuracy is 50.0 %" in said
    assert "`class_weights`" in said
    weighted = finetune(load_model("features"), unequal(), method="linear-probe", class_weights=True)
    assert not any("Tuning with" in warning for warning in weighted.warnings)


def test_balanced_accuracy_is_the_mean_recall() -> None:
    labels = np.repeat([0, 1, 2], [5, 3, 2])
    right = np.array([1, 1, 1, 1, 0, 1, 0, np.nan, 0, 0], dtype=float)
    assert balanced_accuracy(right, labels) == pytest.approx((4 / 5 + 1 / 2 + 0) / 3)
    balanced = np.repeat([0, 1], 10)
    assert majority_warnings("accuracy", np.ones(20), balanced, ["a", "b"]) == []
    assert majority_warnings("accuracy", np.tile([1.0, 0.0], 10), balanced, ["a", "b"]) == []
    good = np.ones(500)
    good[-3:] = 0
    assert majority_warnings("accuracy", good, np.repeat([0, 1], [400, 100]), ["a", "b"]) == []
    hardly = np.repeat(
        [1.0, 0.0], [420, 80]
    )  # more than the 400 of the largest class, unless they are 50 samples and their copies
    sizes = np.repeat([0, 1], [380, 120])
    assert majority_warnings("accuracy", hardly, sizes) == []
    assert majority_warnings("accuracy", hardly, sizes, independent=0.1)


def test_advice_has_the_balanced_accuracy_of_every_row(tmp_path: Path) -> None:
    advice = advise([lambda: load_model("features")], unequal(), tmp_path)
    assert all(
        row.balanced_accuracy == balanced_accuracy(row.correct, unequal()["train"].labels) for row in advice.evidence
    )
    assert any("largest class (many) would give" in warning for warning in advice.warnings)


def test_measure_and_rank_say_what_the_largest_class_explains(tmp_path: Path) -> None:
    data = unequal()
    profile = lowdim.measure("features", data)
    assert any("largest class (many) would give" in warning for warning in profile["warnings"])
    assert not any("class_weights" in warning for warning in profile["warnings"])
    ranking = lowdim.rank(["features"], data)
    said = [warning for warning in ranking["warnings"] if "largest class would give" in warning]
    assert len(said) == 1 and "the probe, cross-validated" in said[0]


def test_places_of_one_warning_stay_whole() -> None:
    labels = np.repeat([0, 1], [60, 3])
    said = [
        majority_warnings(what, np.ones(63) * (labels == 0), labels, ["0", "1"])[0]
        for what in ("train accuracy", "test accuracy")
    ]
    (one,) = merged(said)
    assert one.startswith("2 places (train accuracy and test accuracy): 95.2 % is hardly more")


def test_test_samples_from_train_are_said_with_the_accuracy_without_them() -> None:
    """More numbers than samples: what was seen is right, the rest often is not."""
    generator = np.random.default_rng(3)
    y = generator.integers(0, 4, 120)
    x = (generator.normal(size=(120, 200)) + 0.15 * generator.normal(size=(4, 200))[y]).astype(np.float32)
    copied = dataset_from_arrays(x[:80], y[:80], np.concatenate([x[80:], x[:40]]), np.concatenate([y[80:], y[:40]]))
    tuned = finetune(load_model("features"), copied, method="linear-probe")
    plain = finetune(load_model("features"), dataset_from_arrays(x[:80], y[:80], x[80:], y[80:]), method="linear-probe")
    assert tuned.accuracy["test"] > plain.accuracy["test"] + 0.1
    assert tuned.accuracy["test_without_copies"] == plain.accuracy["test"]
    assert plain.accuracy["test_without_copies"] is None
    text = "\n".join(tuned.warnings)
    assert "40 of 80 test samples are also in train" in text
    assert f"without the samples that are also in train: {100 * plain.accuracy['test']:.1f} %" in text


@pytest.mark.parametrize("method", ["auto", "linear-probe", "scl"])
@pytest.mark.parametrize("copies", [1, 2])
def test_one_sample_per_class_is_refused_the_same_way_by_all(tmp_path: Path, method: str, copies: int) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 8, 8), np.uint8)
    single = dataset_from_arrays(np.tile(images, (copies, 1, 1)), [0, 1, 2] * copies, images, [0, 1, 2])
    with pytest.raises(InputError, match="Every class has a single sample"):
        finetune(load_model("digits-0-4"), single, method=method)
    with pytest.raises(InputError, match="Every class has a single sample"):
        advise([lambda: load_model("digits-0-4")], single, tmp_path)


def test_suspected_labels_come_in_the_order_of_their_heldout_probability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One direction tells the classes and lies among larger ones that do not, which class means are led astray by."""
    generator = np.random.default_rng(1)
    labels = np.arange(200) % 2
    x = generator.normal(size=(200, 6)) * [0.3, 4, 4, 4, 4, 4]
    x[:, 0] += 2 * labels
    wrong = generator.choice(200, 10, replace=False)
    labels[wrong] = 1 - labels[wrong]
    data = dataset_from_arrays(x, labels, x[:2], [0, 1])
    listed = {one.position for one in advise([lambda: load_model("features")], data, tmp_path / "sure").outliers}
    assert listed and listed <= set(wrong.tolist())  # only what another class is far more probable for
    monkeypatch.setattr("lowdim.finetuning._advise.SUSPICIOUS", 1)
    advice = advise([lambda: load_model("features")], data, tmp_path / "all")
    assert len({one.position for one in advice.outliers} & set(wrong.tolist())) >= 9
    assert all(one.class_ != one.nearest_class for one in advice.outliers)
    probabilities = [one.probability for one in advice.outliers]
    assert probabilities == sorted(probabilities)
    assert probabilities[0] < 0.05


def test_guessing_among_classes_of_one_size_is_said_where_a_decision_rests_on_it() -> None:
    labels = np.arange(30) % 3
    (said,) = majority_warnings("accuracy", (labels == 0).astype(float), labels, guessing=True)
    assert said == "accuracy: 33.3 % is no more, as far as so few samples can tell, than guessing would give (33.3 %)."
    assert majority_warnings("accuracy", np.ones(30), labels, guessing=True) == []


@pytest.mark.parametrize(("others", "rest"), [(0, "x alone, which any classifier reaches"), (5, "the other classes")])
def test_classes_that_are_never_held_out_are_said(others: int, rest: str, tmp_path: Path) -> None:
    """Cross-validation without them reaches 100 % where one class is left: the number is of that class alone."""
    labels = np.repeat([0, 1, 2, 3], [20, others, 1, 1])
    rows = np.random.default_rng(0).standard_normal((len(labels), 2))
    rows[-1], labels[-1] = rows[-2], 2  # a copy is no second sample
    names = ["x", "w", "y", "z"]
    data = dataset_from_arrays(rows, labels, rows, labels, classes=names)
    told = f"a single sample, which is never held out, so that what is cross-validated is the accuracy on {rest}: y"
    network = [lambda: load_model("features")]
    assert told in advise(network, data, tmp_path).warnings
    assert told in lowdim.rank(["features"], data)["warnings"]
    assert told in lowdim.finetune("features", data, method="probe", out=tmp_path / "run")["warnings"]


def test_a_class_that_is_not_tested_is_named() -> None:
    images = np.random.default_rng(0).integers(0, 255, (12, 8, 8), np.uint8)
    data = dataset_from_arrays(images, np.arange(12) % 3, images[:4], [0, 0, 1, 1], classes=["a", "b", "c"])
    warnings = finetune(load_model("digits-0-4"), data, method="linear-probe").warnings
    assert "classes without a test sample, of which the accuracy says nothing: c" in warnings
