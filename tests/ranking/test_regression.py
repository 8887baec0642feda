"""Candidates by how much of numbers to be predicted is linear in their features."""

import numpy as np
import pytest

from lowdim.data import dataset_from_arrays, load_data
from lowdim.errors import InputError, UsageError
from lowdim.metrics import heldout_ridge
from lowdim.ranking import candidates_of, rank


def data(n=200, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, 5))
    return x, np.column_stack([x[:, 0] - x[:, 1], x[:, 2] + 0.5 * random.standard_normal(n)])


@pytest.fixture
def saved(tmp_path):
    """Features that hold both outputs, one output, and none."""
    x, y = data()
    random = np.random.default_rng(1)
    for name, features in {"all": x, "some": x[:, 2:], "none": random.standard_normal((200, 5))}.items():
        np.savez(
            tmp_path / f"{name}.npz", x_train=features[:150], y_train=y[:150], x_test=features[150:], y_test=y[150:]
        )
    return [str(tmp_path / f"{name}.npz") for name in ("none", "some", "all")]


def test_the_order_is_that_of_the_cross_validated_r2(saved):
    found = rank(candidates_of(saved), load_data(saved[0], task="regression"))
    assert found.by == "r2_cv"
    assert [place.candidate.name for place in found.places] == saved[::-1]
    assert [place.rank for place in found.places] == [1, 2, 3]
    x, y = data()
    first = found.places[0].as_dict("regression")
    assert first["r2"] == pytest.approx(heldout_ridge(x[:150], y[:150], (x[150:], y[150:])).r2, rel=1e-9)
    low, high = first["intervals"]["r2"]
    assert low < first["r2"] < high
    assert found.places[2].evaluation.scores["r2_cv"] < 0.1
    told = found.as_dict()
    assert told["outputs"] == ["y0", "y1"]
    assert "nc1" not in told["scores"][0]
    assert set(told["agreement"]) >= {"outside", "unexplained"}


def test_equal_features_share_a_rank(saved, tmp_path):
    copy = tmp_path / "copy.npz"
    copy.write_bytes((tmp_path / "all.npz").read_bytes())
    found = rank(candidates_of([saved[2], str(copy), saved[0]]), load_data(saved[0], task="regression"))
    assert [place.rank for place in found.places] == [1, 1, 3]


def test_cross_validation_alone(saved):
    found = rank(candidates_of(saved[2:]), load_data(saved[0], task="regression"), probe_on="cv")
    scores = found.places[0].evaluation.scores
    assert scores["r2"] == scores["r2_cv"]


def test_what_does_not_fit_is_refused(saved):
    numbers = load_data(saved[0], task="regression")
    with pytest.raises(UsageError, match="nc1 is a score for classification"):
        rank(candidates_of(saved), numbers, by="nc1")
    with pytest.raises(UsageError, match="the ridge is what ranks"):
        rank(candidates_of(saved), numbers, probe=False)
    classes = dataset_from_arrays(np.eye(10), ["a", "b"] * 5)
    with pytest.raises(UsageError, match="r2_cv is a score for regression"):
        rank(candidates_of(saved), classes, by="r2_cv")
    x, y = data()
    other = dataset_from_arrays(x[:150], y[:150] + 1, x[150:], y[150:], task="regression")
    with pytest.raises(InputError, match="are not those of the train split"):
        rank(candidates_of(saved), other)
