"""Samples that are unlike all training samples, and how many known ones are called so."""

import numpy as np
from scipy.special import log_softmax

from lowdim.probe import ALARMS, fit_frozen_head, fit_known


def blobs(
    per_class: int, seed: int, spread: float = 1.0, classes: int = 4, d: int = 12
) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(classes), per_class)
    centres = 2 * np.random.default_rng(0).normal(size=(classes, d))
    return centres[labels] + spread * np.random.default_rng([1, seed]).normal(size=(len(labels), d)), labels


def test_five_percent_of_known_samples_are_called_unknown() -> None:
    test, _ = blobs(500, 100)
    alarms: list[float] = []
    for seed in range(8):
        x, y = blobs(25, seed)
        head = fit_frozen_head([x], y, classes=4)
        known = fit_known(x, y, head.heldout)
        assert known is not None
        alarms.append(float((known.strangeness(test, head.log_probabilities(test)) > known.threshold).mean()))
    # A little fewer: the fits without a fold are less sure than the head.
    assert -0.02 < np.mean(alarms) - ALARMS < 0.01


def test_samples_of_another_class_and_samples_between_classes_are_stranger() -> None:
    x, y = blobs(30, 0)
    head = fit_frozen_head([x], y, classes=4)
    known = fit_known(x, y, head.heldout)
    assert known is not None
    usual, _ = blobs(100, 1)
    far, between = 3 * np.random.default_rng(3).normal(size=(200, 12)), (usual[:100] + usual[100:200]) / 2
    for strange, least in ((far, 0.95), (between, 0.5)):
        found = known.strangeness(strange, head.log_probabilities(strange)) > known.threshold
        assert found.mean() > least


def test_strangeness_is_the_formula() -> None:
    x, y = blobs(3, 0, classes=2, d=5)
    heldout = log_softmax(np.random.default_rng(0).normal(size=(6, 2)) + 9 * np.eye(2)[y], axis=1)
    known = fit_known(x, y, heldout)
    assert known is not None
    # Distances to the mean of the others of the class.
    away = [((x[i] - x[(y == y[i]) & (np.arange(6) != i)].mean(axis=0)) ** 2).sum() for i in range(6)]
    flat = heldout.mean(axis=1)
    np.testing.assert_allclose(known.usual, [[np.mean(away), np.std(away)], [flat.mean(), flat.std()]])
    row, logarithms = x[:1] + 1, np.log([[0.3, 0.7]])
    distance = ((row - known.means[1]) ** 2).sum()
    expected = (distance - np.mean(away)) / np.std(away) + 0.5 * (logarithms.mean() - flat.mean()) / flat.std()
    np.testing.assert_allclose(known.strangeness(row, logarithms), expected)


def test_classes_without_samples_and_too_few_left_out() -> None:
    x, y = blobs(10, 0)
    y = np.where(y == 3, 5, y)
    head = fit_frozen_head([x], y, classes=6)
    known = fit_known(x, y, head.heldout)
    assert known is not None and np.isnan(known.means[[3, 4]]).all()
    assert np.isfinite(known.strangeness(x, head.log_probabilities(x))).all()
    assert fit_known(x[:3], np.arange(3), np.full((3, 6), np.nan)) is None
