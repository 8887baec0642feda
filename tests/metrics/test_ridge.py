"""Held-out R^2 of a ridge, against scikit-learn's own pieces and against resampling."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lowdim.errors import InputError
from lowdim.metrics import heldout_ridge


def data(n=120, d=6, m=2, noise=1.0, seed=0):
    random = np.random.default_rng(seed)
    features = random.standard_normal((n, d)) * 10.0 ** np.arange(-2, d - 2)
    return features, (features / features.std(0)) @ random.standard_normal((d, m)) + noise * random.standard_normal(
        (n, m)
    )


def test_on_a_test_split_it_is_scikit_learns_ridge():
    (features, targets), (other, goal) = data(), data(80, seed=1)
    found = heldout_ridge(features, targets, (other, goal))
    scale = targets.std(axis=0)
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=120 * np.logspace(-6, 2, 17))).fit(features, targets / scale)
    expected = r2_score(goal / scale, model.predict(other), multioutput="raw_values")
    np.testing.assert_allclose(found.by_output, expected, rtol=1e-9)
    assert found.r2 == pytest.approx(expected.mean(), rel=1e-9)


def test_cross_validation_leaves_each_sample_out_of_its_own_fit():
    features, targets = data(noise=1e-9, d=3)
    assert heldout_ridge(features, targets).r2 > 1 - 1e-6
    labels = np.random.default_rng(0).standard_normal((40, 1))
    assert LinearRegression().fit(np.eye(40), labels).score(np.eye(40), labels) == pytest.approx(1)
    assert heldout_ridge(np.eye(40), labels).r2 < 0.1  # nothing is shared between samples
    part = np.random.default_rng(3).permutation(120) % 5
    features, targets = data(m=1)
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=96 * np.logspace(-6, 2, 17)))
    scale = targets.std()
    predicted = cross_val_predict(model, features, targets[:, 0] / scale, cv=PredefinedSplit(part))
    expected = r2_score(targets[:, 0] / scale, predicted)
    assert heldout_ridge(features, targets, seed=3).r2 == pytest.approx(expected, rel=1e-9)


def test_copies_stay_together():
    features, targets = data(30, d=20, noise=3.0)
    twice = np.repeat(np.arange(30), 2)
    apart, together = (heldout_ridge(features[twice], targets[twice], copies=c).r2 for c in (None, twice))
    assert apart > together + 0.1


@pytest.mark.parametrize("tested", [False, True])
def test_copies_count_once_in_the_interval(tested):
    fitted, others, twice = data(60, noise=2.0), data(60, noise=2.0, seed=1), np.repeat(np.arange(60), 2)
    test = others if tested else None
    low, high = heldout_ridge(*fitted, test).interval
    again = heldout_ridge(
        *(rows[twice] for rows in fitted),
        test and (others[0][twice], others[1][twice]),
        copies=twice,
        test_copies=twice,
    ).interval
    assert again[1] - again[0] == pytest.approx(
        high - low, rel=0.1
    )  # narrower by the root of two where copies are others


def test_units_of_features_and_outputs_do_not_matter():
    features, targets = data()
    again = heldout_ridge(features * [1, 10, 100, 1, 1e-3, 1] + 7, targets * [1e-4, 1e4] - 3)
    assert again.r2 == pytest.approx(heldout_ridge(features, targets).r2, rel=1e-8)


def test_the_interval_is_that_of_other_samples():
    """Spread of R^2 over independent test sets against what one of them says about itself."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((4, 1))

    def draw(n):
        features = random.standard_normal((n, 4))
        return features, features @ weight + 2 * random.standard_normal((n, 1))

    fitted = draw(200)
    found = [heldout_ridge(*fitted, draw(100)) for _ in range(100)]
    spread = np.std([one.r2 for one in found])
    told = np.mean([np.sqrt(np.sum(one.influence**2)) for one in found])
    assert told == pytest.approx(spread, rel=0.25)
    assert found[0].interval[1] - found[0].r2 == pytest.approx(
        1.645 * np.sqrt(np.sum(found[0].influence ** 2)), rel=1e-3
    )


def test_what_has_no_value_is_refused():
    features, targets = data()
    with pytest.raises(InputError, match="at least 10 samples"):
        heldout_ridge(features[:9], targets[:9])
    with pytest.raises(InputError, match="output is constant"):
        heldout_ridge(features, np.ones_like(targets))
    with pytest.raises(InputError, match="copies of each other"):
        heldout_ridge(features, targets, copies=np.zeros(120, int))
