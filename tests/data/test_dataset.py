import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowdim.data import choose, dataset_from_arrays, load_data
from lowdim.data._dataset import (
    few_shot_indices,
    limited_indices,
    train_test_indices,
)
from lowdim.data._labels import encode_labels
from lowdim.errors import InputError, UsageError

label_arrays = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(np.array)


@given(label_arrays, st.integers(0, 3))
def test_a_split_is_stratified_and_loses_nothing(labels: np.ndarray, seed: int) -> None:
    train, test = train_test_indices(labels, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    for label in np.unique(labels):
        count = int((labels == label).sum())
        held = int((labels[test] == label).sum())
        assert held == (max(1, round(0.2 * count)) if count > 1 else 0)
    again = train_test_indices(labels, seed)
    np.testing.assert_array_equal(again[1], test)


@given(label_arrays, st.integers(1, 70), st.integers(0, 3))
def test_a_limit_keeps_proportions(labels: np.ndarray, limit: int, seed: int) -> None:
    chosen = limited_indices(labels, limit, seed)
    size = min(limit, len(labels))
    assert len(chosen) == len(set(chosen.tolist())) == size
    counts = np.bincount(labels, minlength=6)
    kept = np.bincount(labels[chosen], minlength=6)
    present = counts > 0
    if limit >= present.sum():
        assert kept[present].min() >= 1
    # Never further from its share than the guaranteed one and the rounding.
    assert np.all(np.abs(kept - counts * size / len(labels)) <= 2)


@given(label_arrays, st.integers(1, 10), st.integers(0, 3))
def test_shots_nest(labels: np.ndarray, shots: int, seed: int) -> None:
    fewer, more = few_shot_indices(labels, shots, seed), few_shot_indices(labels, shots + 1, seed)
    assert set(fewer.tolist()) <= set(more.tolist())
    np.testing.assert_array_equal(
        np.bincount(labels[fewer], minlength=6), np.minimum(np.bincount(labels, minlength=6), shots)
    )


def test_seeds_choose_differently() -> None:
    labels = np.repeat(np.arange(4), 25)
    assert not np.array_equal(limited_indices(labels, 40, 0), limited_indices(labels, 40, 1))


@pytest.mark.parametrize(
    ("values", "classes", "indices"),
    [
        ([7, 3, 7, 40], ("3", "7", "40"), [1, 0, 1, 2]),
        (["b", "a"], ("a", "b"), [1, 0]),
        (["10", "9", "9"], ("9", "10"), [1, 0, 0]),
        (["01", "1"], ("01", "1"), [0, 1]),
        ([2.0, 1.0], ("1", "2"), [1, 0]),
        (np.array([b"x", b"y"]), ("x", "y"), [0, 1]),
        ([True, False], ("False", "True"), [1, 0]),
    ],
)
def test_labels_of_any_form(values: object, classes: tuple[str, ...], indices: list[int]) -> None:
    got, names = encode_labels(values)  # type: ignore[arg-type]
    assert names == classes
    np.testing.assert_array_equal(got, indices)


@pytest.mark.parametrize("values", [[0.5, 1.0], [np.nan, 1.0], [1j, 2j]])
def test_labels_that_are_none(values: list[object]) -> None:
    with pytest.raises(InputError, match=r"[Ll]abels must be"):
        encode_labels(values)  # type: ignore[arg-type]


def test_known_names_keep_empty_classes_and_refuse_strangers() -> None:
    labels, classes = encode_labels([2, 0], ["a", "b", "c"])
    assert (labels.tolist(), classes) == ([2, 0], ("a", "b", "c"))
    labels, classes = encode_labels(["c", "a"], ["a", "b", "c"])
    assert (labels.tolist(), classes) == ([2, 0], ("a", "b", "c"))
    for values in ([3, 0], [-1, 0], ["d", "a"]):
        with pytest.raises(InputError, match="class names"):
            encode_labels(values, ["a", "b", "c"])


def test_taking_samples_twice_reads_the_right_ones() -> None:
    x = np.arange(12.0).reshape(6, 2)
    data = dataset_from_arrays(x, [0, 1, 0, 1, 0, 1], x, [0, 1, 0, 1, 0, 1])
    split = data["train"].take(np.array([5, 3, 1])).take(np.array([2, 0]))
    np.testing.assert_array_equal(split.load(0), x[1])
    np.testing.assert_array_equal(split.load(1), x[5])
    assert list(split.items) == ["train[1]", "train[5]"]
    assert split.labels.tolist() == [1, 1]


def test_choose_reports_short_classes() -> None:
    data = dataset_from_arrays(np.eye(8), [0, 0, 0, 0, 0, 0, 1, 1], np.eye(8), [0] * 8)
    few = choose(data, shots=3)
    assert few["train"].counts(2).tolist() == [3, 2]
    assert few["test"].counts(2).tolist() == [8, 0]
    assert any("fewer than 3 train samples: 1" in note for note in few.notes)


def test_unknown_split_is_named() -> None:
    with pytest.raises(InputError, match="train"):
        load_data("digits")["trian"]


@pytest.mark.parametrize("options", [{"limit": 0}, {"shots": -1}, {"label_column": "x"}])
def test_options_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        load_data("digits", **options)  # type: ignore[arg-type]


def test_unknown_data_is_an_input_error_with_a_hint() -> None:
    with pytest.raises(InputError, match="Did you mean digits"):
        load_data("digit")


@pytest.mark.parametrize("classes", [["a", "a"], ["a", "b", " a"]])
@pytest.mark.parametrize("labels", [[0, 1, 0], ["a", "a", "a"]])
def test_two_classes_of_one_name_are_refused(classes: list[str], labels: list[object]) -> None:
    with pytest.raises(InputError, match="Two classes have the name 'a'"):
        dataset_from_arrays(np.eye(3), labels, classes=classes)


def test_no_sample_is_refused() -> None:
    with pytest.raises(InputError, match=r"x_train holds no sample\."):
        dataset_from_arrays(np.zeros((0, 3)), [])
    with pytest.raises(InputError, match=r"x_test holds no sample\."):
        dataset_from_arrays(np.eye(3), [0, 1, 0], np.zeros((0, 3)), [])
