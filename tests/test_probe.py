import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from lowdim._intervals import wilson_interval
from lowdim.errors import InputError, NonFiniteError
from lowdim.probe import fit_probe, fold_of
from lowdim.probe._linear import StrengthPath
from lowdim.probe._logistic import Rotated


def blobs(n: int, d: int, classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return rng.normal(size=(classes, d))[labels] + spread * rng.normal(size=(n, d)), labels


@pytest.mark.parametrize(("n", "d"), [(120, 5), (40, 90)])
@pytest.mark.parametrize("strength", [1e-1, 1e-3])
def test_equals_scikit_learns_logistic_regression(n: int, d: int, strength: float) -> None:
    x, y = blobs(n, d, 3, 1.5)
    x = 7 * x + 100
    probe = fit_probe(x, y, classes=3, strengths=[strength]).probe
    assert probe.converged
    scaled = x - x.mean(axis=0)
    scaled /= np.sqrt((scaled**2).sum(axis=1).mean())
    reference = LogisticRegression(C=1 / (n * strength), tol=1e-10, max_iter=20_000).fit(scaled, y)
    np.testing.assert_allclose(probe.log_probabilities(x), reference.predict_log_proba(scaled), rtol=1e-4, atol=1e-5)


def test_heldout_predictions_come_from_probes_that_have_not_seen_the_sample() -> None:
    x, y = blobs(60, 4, 3, 1.0)
    result = fit_probe(x, y, classes=3, folds=4, strengths=[1e-2], seed=5)
    part = fold_of(y, 4, 5)
    scaled = x - x.mean(axis=0)
    scaled /= np.sqrt((scaled**2).sum(axis=1).mean())
    for fold in range(4):
        train, test = part != fold, part == fold
        reference = LogisticRegression(C=100 / train.sum(), tol=1e-10, max_iter=20_000).fit(scaled[train], y[train])
        np.testing.assert_allclose(
            result.heldout[test], reference.predict_log_proba(scaled[test]), rtol=2e-3, atol=2e-3
        )
    assert result.accuracy == np.mean(result.heldout.argmax(axis=1) == y)
    np.testing.assert_allclose(result.log_loss, -result.heldout[np.arange(60), y].mean())


def test_the_strength_has_the_smallest_heldout_loss() -> None:
    x, y = blobs(90, 60, 3, 3.0)
    result = fit_probe(x, y, classes=3)
    losses = dict(result.path)
    assert losses[result.probe.strength] == min(losses.values())
    assert len(losses) > 1
    # Noise alone: the strongest penalties win and the accuracy is that of guessing.
    noise = np.random.default_rng(1).normal(size=(300, 60))
    guess = fit_probe(noise, np.arange(300) % 3, classes=3)
    assert guess.probe.strength >= 0.1
    assert abs(guess.accuracy - 1 / 3) < 0.12


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=40), st.integers(2, 6), st.integers(0, 3))
def test_folds_are_stratified(labels: list[int], folds: int, seed: int) -> None:
    y = np.array(labels)
    part = fold_of(y, folds, seed)
    counts = np.bincount(y, minlength=5)
    np.testing.assert_array_equal(part[counts[y] == 1], -1)
    for label in np.flatnonzero(counts > 1):
        sizes = np.bincount(part[y == label], minlength=folds)
        assert sizes.max() - sizes.min() <= 1
        assert sizes.max() < counts[label]  # something of the class is left to train on
    sizes = np.bincount(part[part >= 0], minlength=folds)
    assert sizes.max() - sizes.min() <= 1


def test_single_samples_and_absent_classes() -> None:
    x, y = blobs(30, 4, 3, 0.3)
    y = np.where(y == 2, 4, y)
    x, y = np.vstack([x, x[:1] + 9]), np.append(y, 3)
    result = fit_probe(x, y, classes=6)
    assert np.isnan(result.heldout[-1]).all()
    assert np.isnan(result.correct(y)[-1])
    assert np.isfinite(result.correct(y)[:-1]).all()
    logarithms = result.probe.log_probabilities(x)
    assert np.all(logarithms[:, [2, 5]] == -np.inf)
    np.testing.assert_allclose(np.exp(logarithms).sum(axis=1), 1)
    assert (logarithms.argmax(axis=1) == y).all()


def test_offset_and_scale_do_not_matter() -> None:
    x, y = blobs(50, 6, 2, 1.0)
    first, second = fit_probe(x, y, classes=2), fit_probe(1e-3 * x + 5, y, classes=2)
    assert first.probe.strength == second.probe.strength
    np.testing.assert_allclose(first.heldout, second.heldout, atol=1e-4)


def with_a_useless_column(deviation: float, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight useful columns, four classes, and one column of noise."""
    centres = 3 * np.random.default_rng(0).normal(size=(4, 8))
    rng, labels = np.random.default_rng(seed), np.repeat(np.arange(4), per_class)
    useful = centres[labels] + rng.normal(size=(len(labels), 8))
    return np.column_stack([useful, deviation * rng.normal(size=len(labels))]), labels


@pytest.mark.parametrize("deviation", [100.0, 1e3, 1e5])
def test_a_large_useless_column_does_not_hide_the_others(deviation: float) -> None:
    result = fit_probe(*with_a_useless_column(deviation, 250, 1), classes=4)
    assert result.accuracy >= 0.999
    few = fit_probe(*with_a_useless_column(deviation, 5, 2), classes=4)
    test, truth = with_a_useless_column(deviation, 250, 3)
    assert np.mean(few.probe.log_probabilities(test).argmax(axis=1) == truth) > 0.95


def test_the_path_goes_on_while_the_loss_is_the_priors() -> None:
    x, y = with_a_useless_column(25.0, 50, 1)  # too small to be scaled
    result = fit_probe(x, y, classes=4)
    assert not result.scaled
    losses = [loss for _, loss in result.path]
    assert min(losses) < 0.05
    # A loss near the prior's may rise many times before it falls.
    x, y = with_a_useless_column(1e3, 5, 1)
    strengths = [10.0**-exponent for exponent in range(12)]
    assert not StrengthPath(Rotated.of(x), x, dict.fromkeys(strengths, 1.38) | {1.0: 1.379}).is_past(np.log(4))
    assert StrengthPath(Rotated.of(x), x, dict.fromkeys(strengths, 1.38) | {1.0: 1.0}).is_past(np.log(4))


def test_iris_with_a_row_number() -> None:
    x, y = (np.asarray(array) for array in load_iris(return_X_y=True))
    plain = fit_probe(x, y, classes=3)
    number = 10_000 + 7 * np.random.default_rng(0).permutation(150)
    result = fit_probe(np.column_stack([x, number]), y, classes=3)
    assert not plain.scaled
    assert result.scaled
    assert min(plain.accuracy, result.accuracy) >= 0.96


def test_small_useful_columns_among_large_ones() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    small = 1e-4 * (3 * rng.normal(size=(3, 4))[y] + rng.normal(size=(120, 4)))
    result = fit_probe(np.hstack([small, rng.normal(size=(120, 12)), np.full((120, 1), 1 / 3)]), y, classes=3)
    assert result.scaled
    assert result.accuracy > 0.9


def test_one_small_column_of_few() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(90) % 2
    x = np.column_stack([3 * y + rng.normal(size=90), *rng.normal(size=(5, 90))])
    plain, small = fit_probe(x, y, classes=2), fit_probe(x * [1e-20, 1, 1, 1, 1, 1], y, classes=2)
    assert small.scaled
    assert small.accuracy > plain.accuracy - 0.03 > 0.85


def test_columns_of_different_scales_stay_as_they_are_where_that_is_better() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    useful, noise = 1e3 * rng.normal(size=(3, 2))[y] + rng.normal(size=(60, 2)), rng.normal(size=(60, 30))
    result = fit_probe(np.hstack([useful, noise]), y, classes=3)
    assert not result.scaled
    assert result.accuracy == 1.0


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (np.ones((4, 2)), [0, 0, 1, 1], InputError, "constant"),
        (np.eye(4), [0, 0, 0, 0], InputError, "two classes"),
        (np.eye(2), [0, 1], InputError, "two samples"),
        (np.eye(4), [0, 1, 2, 9], InputError, "Labels must lie"),
        (np.eye(4), [0.0, 1.0, 0.0, 1.0], InputError, "integer labels"),
        (np.eye(4)[:, 0], [0, 1, 0, 1], InputError, "n x d"),
        (np.full((4, 2), np.nan), [0, 1, 0, 1], NonFiniteError, "NaN"),
    ],
)
def test_input_that_cannot_be_fitted(x: np.ndarray, y: list[int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit_probe(x, np.array(y), classes=2)


def test_wilson_interval_covers() -> None:
    from scipy.stats import binom

    for share, n in ((0.5, 40), (0.9, 60)):
        hits = np.arange(n + 1)
        covered = [low <= share <= high for low, high in (wilson_interval(h / n, n) for h in hits)]
        assert 0.86 < float(binom.pmf(hits, n, share) @ np.array(covered)) < 0.95
    assert wilson_interval(0.0, 10)[0] == 0.0
    assert wilson_interval(1.0, 10)[1] == 1.0
