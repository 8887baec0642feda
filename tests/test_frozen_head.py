"""The frozen head: layers weighted by evidence, mirrored views."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from lowdim.errors import InputError, NonFiniteError
from lowdim.probe import fit_frozen_head, fit_frozen_views, fit_probe
from lowdim.probe._frozen import _STRENGTHS, _best, _Problem, _regressions


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def blobs(per_class: int, d: int, classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(classes), per_class)
    centres = np.random.default_rng(0).normal(size=(classes, d))
    noise = np.random.default_rng([1, seed]).normal(size=(len(labels), d))
    return unit(centres[labels] + spread * noise), labels


def accuracy(head: object, x: np.ndarray, labels: np.ndarray) -> float:
    return float((head.log_probabilities(x).argmax(axis=1) == labels).mean())  # type: ignore[attr-defined]


def problem_of(layers: list[np.ndarray], y: np.ndarray) -> _Problem:
    return _Problem.of(layers, y, int(y.max()) + 1, None, None, 0)


def test_held_out_predictions_are_of_fits_without_the_sample() -> None:
    x, y = blobs(8, 20, 4, 1.5)
    problem = problem_of([x], y)
    strength, solutions = _best(problem)
    (found,) = _regressions(problem, strength, solutions)
    for fold in range(4):
        train, test = problem.part != fold, problem.part == fold
        penalty = 1 / (strength * train.sum())
        centred = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0).sum())
        expected = LogisticRegression(C=penalty, tol=1e-8, max_iter=5000).fit(centred[train], y[train])
        np.testing.assert_allclose(
            softmax(found.left_out[test], axis=1), expected.predict_proba(centred[test]), atol=0.02
        )


def test_the_layer_that_knows_the_classes_gets_the_weight() -> None:
    good, y = blobs(10, 12, 3, 0.8)
    noise = unit(np.random.default_rng(5).normal(size=(len(y), 12)))
    test, truth = blobs(100, 12, 3, 0.8, seed=1)
    other = unit(np.random.default_rng(6).normal(size=(len(truth), 12)))
    first, second = (fit_frozen_head(layers, y, classes=3) for layers in ([good, noise], [noise, good]))
    assert first.further < second.further - 0.1
    alone = fit_frozen_head([good], y, classes=3)
    assert alone.further == 0
    best = accuracy(alone, test, truth)
    assert accuracy(first, np.hstack([test, other]), truth) > best - 0.05
    assert accuracy(second, np.hstack([other, test]), truth) > best - 0.05
    useless = fit_probe(noise, y, classes=3).probe
    assert accuracy(second, np.hstack([other, test]), truth) > accuracy(useless, other, truth) + 0.2


def test_what_is_expected_holds_for_new_samples() -> None:
    x, y = blobs(60, 16, 4, 1.6)
    head = fit_frozen_head([x], y, classes=4)
    test, truth = blobs(400, 16, 4, 1.6, seed=1)
    found = head.log_probabilities(test)
    assert abs(accuracy(head, test, truth) - head.accuracy) < 0.08
    assert abs(-found[np.arange(len(truth)), truth].mean() - head.log_loss) < 0.12
    assert head.correct(y).mean() == head.accuracy
    np.testing.assert_allclose(np.exp(head.heldout).sum(axis=1), 1)


def test_more_samples_than_decide_the_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs(60, 10, 3, 1.2)
    whole = fit_frozen_head([x, x[:, ::-1]], y, classes=3)
    monkeypatch.setattr("lowdim.probe._frozen._ENOUGH", 90)
    part = fit_frozen_head([x, x[:, ::-1]], y, classes=3)
    assert np.isfinite(part.heldout).all(axis=1).sum() == 90
    rows = np.hstack([x, x[:, ::-1]])
    found, expected = (np.exp(head.log_probabilities(rows)) for head in (part, whole))
    assert np.abs(found - expected).mean() < 0.05


def test_weights_of_classes_move_the_decision() -> None:
    x, y = blobs(40, 6, 2, 3.0)
    keep = np.r_[0:40, 40:46]
    plain, weighted = (
        fit_frozen_head([x[keep]], y[keep], classes=2, class_weights=w) for w in (None, np.array([1.0, 40 / 6]))
    )
    share = [np.mean(head.log_probabilities(x).argmax(axis=1) == 1) for head in (plain, weighted)]
    assert share[0] < 0.25 < share[1]


def test_few_and_absent_classes() -> None:
    x, y = blobs(5, 8, 3, 0.5)
    y = np.where(y == 2, 4, y)
    x, y = np.vstack([x, -x[:1]]), np.append(y, 3)
    head = fit_frozen_head([x, x], y, classes=6)
    assert np.isnan(head.heldout[-1]).all()
    assert np.isfinite(head.correct(y)[:-1]).all()
    logarithms = head.log_probabilities(np.hstack([x, x]))
    assert np.all(logarithms[:, [2, 5]] == -np.inf)
    assert (logarithms.argmax(axis=1) == y).all()


def test_one_sample_per_class_gives_a_head_and_no_accuracy() -> None:
    x, y = blobs(1, 8, 4, 0.5)
    head = fit_frozen_head([x, x], y, classes=4)
    assert np.isnan(head.accuracy) and np.isnan(head.log_loss) and np.isnan(head.heldout).all()
    test, truth = blobs(50, 8, 4, 0.5, seed=1)
    assert accuracy(head, np.hstack([test, test]), truth) > 0.8


def test_what_cannot_be_fitted() -> None:
    x, y = blobs(4, 3, 2, 0.5)
    with pytest.raises(InputError, match="two classes"):
        fit_frozen_head([x], np.zeros(8, dtype=int), classes=2)
    with pytest.raises(InputError, match="constant"):
        fit_frozen_head([np.ones((8, 3)), x], y, classes=2)
    with pytest.raises(NonFiniteError, match=r"rows \[2\]"):
        fit_frozen_head([np.where(np.arange(8)[:, None] == 2, np.nan, x)], y, classes=2)
    assert fit_frozen_head([x, np.zeros((8, 3))], y, classes=2).further == 0


def test_views_are_averaged_unless_the_mirror_image_is_another_class() -> None:
    x, y = blobs(30, 10, 2, 2.0)
    other, _ = blobs(30, 10, 2, 2.0, seed=1)
    assert fit_frozen_views([[x], [other]], y, classes=2)[1]
    centres = np.random.default_rng(0).normal(size=10)
    arrows = unit(
        np.where(y == 0, 1, -1)[:, None] * (centres - centres[::-1]) + np.random.default_rng(4).normal(size=x.shape)
    )
    head, mean = fit_frozen_views([[arrows], [arrows[:, ::-1]]], y, classes=2)
    assert not mean
    assert head.accuracy > 0.9
    assert fit_frozen_views([[x]], y, classes=2)[1] is False


def test_the_strength_is_the_best_near_by_wherever_the_search_begins() -> None:
    x, y = blobs(20, 40, 3, 2.0)
    problem = problem_of([x], y)
    found = {_STRENGTHS.index(_best(problem, first)[0]) for first in (0, 5, len(_STRENGTHS) - 1)}
    assert max(found) - min(found) <= 1
    assert min(found) > 0
