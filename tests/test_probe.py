import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from lowdim._intervals import wilson_interval
from lowdim.errors import InputError, NonFiniteError
from lowdim.probe import fit_probe, fold_of


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
