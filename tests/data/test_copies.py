"""Identical samples are found by their bytes; they stay together, and are said."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from lowdim.data import Dataset, dataset_from_arrays, load_data
from lowdim.data._contents import first_copies
from lowdim.data._copies import copies_across, copies_within, copy_warnings
from lowdim.data._dataset import train_test_indices
from lowdim.errors import InputError
from lowdim.probe import fit_probe, fold_of
from lowdim.profiling import profile
from lowdim.profiling._passes import halves
from lowdim.ranking import candidates_of, rank

groups = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=2, max_size=60).map(np.array)


@given(groups, st.integers(0, 3))
def test_copies_stay_on_one_side_whatever_their_labels(pairs: np.ndarray, seed: int) -> None:
    labels, copies = pairs[:, 0], first_copies(pairs[:, 1])
    side = np.zeros(len(labels), dtype=int)
    train, test = train_test_indices(labels, seed, copies=copies)
    side[test] = 1
    assert sorted([*train, *test]) == list(range(len(labels)))
    for part in (side, fold_of(labels, 3, seed, copies), halves(labels, copies)):
        assert len(np.unique(np.stack([part, copies]), axis=1).T) == len(np.unique(copies))


@given(groups)
def test_without_copies_nothing_is_another(pairs: np.ndarray) -> None:
    labels, alone = pairs[:, 0], np.arange(len(pairs))
    np.testing.assert_array_equal(fold_of(labels, 3, 1, alone), fold_of(labels, 3, 1))
    np.testing.assert_array_equal(halves(labels, alone), halves(labels))
    for one, other in zip(train_test_indices(labels, 1, copies=alone), train_test_indices(labels, 1), strict=True):
        np.testing.assert_array_equal(one, other)


def noise(samples: int, seed: int, width: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Features that say nothing about the labels."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(samples, width)), generator.integers(0, 4, samples)


@pytest.mark.parametrize("seed", range(3))
def test_every_sample_twice_teaches_the_probe_nothing_about_itself(seed: int) -> None:
    """More columns than samples, so that each can be learnt by heart: found again it is right, and otherwise nothing is known."""
    x, y = noise(80, seed, 120)
    twice, labels = np.concatenate([x, x]), np.concatenate([y, y])
    assert fit_probe(twice, labels, classes=4).accuracy > 0.8
    right = fit_probe(twice, labels, classes=4, copies=np.tile(np.arange(80), 2)).accuracy
    assert right == pytest.approx(fit_probe(x, y, classes=4).accuracy, abs=0.02)
    # Three standard errors of 80 samples above the chance.
    assert right < 0.25 + 3 * (0.25 * 0.75 / 80) ** 0.5


def repeated() -> Dataset:
    """Ten samples of three classes: one twice in train, one under two labels, two also in test (one with another label)."""
    x = np.arange(20.0).reshape(10, 2)
    train, test = x[[0, 1, 2, 0, 3, 4, 2]], x[[5, 1, 3, 6]]
    return dataset_from_arrays(train, [0, 1, 2, 0, 0, 1, 1], test, [0, 1, 2, 1], classes=["a", "b", "c"])


def test_pairs_are_found_within_and_across() -> None:
    data = repeated()
    within, across = copies_within(data["train"]), copies_across(data["train"], data["test"])
    assert [part.tolist() for part in within.repeated] == [[3, 6], [0, 2]]
    assert [part.tolist() for part in within.disputed] == [[6], [2]]
    assert [part.tolist() for part in across.repeated] == [[1, 2], [1, 4]]
    assert [part.tolist() for part in across.disputed] == [[2], [4]]


def test_what_is_said_names_the_pairs() -> None:
    text = "\n".join(copy_warnings(repeated(), ["train", "test"]))
    assert "2 of 7 samples of the train split are copies" in text
    assert "train[3] = train[0], train[6] = train[2]" in text
    assert "1 samples of the train split stand under two labels" in text
    assert "train[6] (b) = train[2] (c)" in text
    assert "2 of 4 test samples are also in train" in text
    assert "test[1] = train[1], test[2] = train[4]" in text
    assert "test[2] (c) = train[4] (a)" in text
    assert copy_warnings(dataset_from_arrays(np.eye(8), [0, 1] * 4), ["train", "test"]) == []


def test_a_split_that_is_drawn_tears_no_copies_apart() -> None:
    images, labels = np.random.default_rng(1).integers(0, 255, (50, 4, 4), np.uint8), np.arange(50) % 4
    data = dataset_from_arrays(np.tile(images, (3, 1, 1)), np.tile(labels, 3))
    assert len(data["test"]) == pytest.approx(30, abs=6)
    assert not len(copies_across(data["train"], data["test"]).repeated[0])


def test_features_of_the_same_samples_are_divided_alike() -> None:
    """One network gives equal rows for different samples, another does not."""
    x, y = noise(50, 1)
    one, other = dataset_from_arrays(x, y), dataset_from_arrays(np.sign(x[:, :2]), y)
    assert list(one["test"].items) == list(other["test"].items)


def test_ranking_says_so(tmp_path: Path) -> None:
    x, y = noise(40, 2)
    np.savez(tmp_path / "saved.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    data = dataset_from_arrays(x, y, x[:20], y[:20])
    found = rank(candidates_of([str(tmp_path / "saved.npz")]), data)
    assert any("20 of 20 test samples are also in train" in warning for warning in found.warnings)


def test_half_the_test_split_from_train_is_said_with_the_accuracy_without_it(tmp_path: Path) -> None:
    x, y = noise(80, 3)
    train, test, again = (x[:60], y[:60]), (x[60:], y[60:]), (np.concatenate([x[60:], x[:20]]), [*y[60:], *y[:20]])
    copied, plain = dataset_from_arrays(*train, *again), dataset_from_arrays(*train, *test)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = nn.Sequential(nn.Linear(40, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    alone = profile(network, plain).accuracy["test"]
    found = profile(network, copied)
    assert found.accuracy["test"] != alone
    assert any(f"also in train: {100 * alone:.1f} % (with them" in warning for warning in found.warnings)
    np.savez(tmp_path / "saved.npz", x_train=x[:60], y_train=y[:60], x_test=again[0], y_test=again[1])
    np.savez(tmp_path / "plain.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    ranked, clean = (
        rank(candidates_of([str(tmp_path / name)]), data).places[0].evaluation
        for name, data in (("saved.npz", copied), ("plain.npz", plain))
    )
    share = clean.scores["probe_accuracy"]
    assert ranked.scores["probe_accuracy"] > share
    assert any(f"also in train: {100 * share:.1f} % (with them" in warning for warning in ranked.warnings)
    told = rank(candidates_of([str(tmp_path / "saved.npz")]), copied).warnings
    assert any(": test accuracy without the samples that are also in train" in warning for warning in told)
    assert not any("also in train" in warning for warning in clean.warnings)


def test_rows_that_are_no_numbers_are_nobodys_copies() -> None:
    x = np.random.default_rng(0).normal(size=(12, 3))
    x[[1, 4, 9]], x[6] = np.nan, x[2]
    data = dataset_from_arrays(x[:8], np.arange(8) % 2, x[8:], np.arange(4) % 2)
    assert [pair.tolist() for pair in copies_within(data["train"]).repeated] == [[6], [2]]
    assert not len(copies_across(data["train"], data["test"]).repeated[0])


@pytest.mark.parametrize("seed", range(4))
def test_a_share_is_one_of_samples_where_many_are_copies(seed: int) -> None:
    """Eight copies and one other, then ten different ones: never eight of the nine held out."""
    labels, copies = np.repeat([0, 1], [9, 10]), np.array([0] * 8 + [*range(8, 19)])
    _, test = train_test_indices(labels, seed, copies=copies)
    assert np.bincount(labels[test]).tolist() == [1, 2]


def test_a_class_of_one_picture_many_times_is_named(tmp_path: Path) -> None:
    for name, colours in {"a": [0] * 5, "b": range(5)}.items():
        (tmp_path / name).mkdir()
        for place, colour in enumerate(colours):
            Image.new("RGB", (8, 8), (20 * colour, 0, 90)).save(tmp_path / name / f"{place}.png")
    notes = load_data(tmp_path).notes
    assert "no test sample, for all samples are copies of one: a" in notes
    with pytest.raises(InputError, match=r"test split has samples of one class \(b\).*`split=train`"):
        profile(nn.Flatten(), load_data(tmp_path))
