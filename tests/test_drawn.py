"""Given weights that are drawn towards the labels: their two limits, and what lies between."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from lowdim.probe import draw_towards_labels


def samples(seed: int, per_class: int = 6, classes: int = 3, d: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit-length rows around class directions, their labels, and weights that point a little beside those."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    centres = np.random.default_rng(0).normal(size=(classes, d))
    x = centres[labels] + 0.8 * generator.normal(size=(len(labels), d))
    start = centres + 1.5 * np.random.default_rng(9).normal(size=centres.shape)
    return (
        x / np.linalg.norm(x, axis=1, keepdims=True),
        labels,
        5 * start / np.linalg.norm(start, axis=1, keepdims=True),
    )


def test_an_infinite_pull_leaves_the_weights_and_a_strong_one_nearly() -> None:
    x, y, start = samples(1)
    assert draw_towards_labels(start, x, y, pulls=())[0] is start
    weight, pull = draw_towards_labels(start, x, y, pulls=(1e6,))
    assert pull in (1e6, np.inf)
    np.testing.assert_allclose(weight, start, atol=1e-5)


def test_from_zero_it_is_logistic_regression() -> None:
    x, y, _ = samples(2)
    weight, pull = draw_towards_labels(np.zeros((3, 8)), x, y, pulls=(0.01,))
    assert pull == 0.01
    expected = LogisticRegression(C=1 / (0.01 * len(y)), fit_intercept=False, tol=1e-8, max_iter=5000).fit(x, y)
    np.testing.assert_allclose(weight, expected.coef_, atol=2e-3)


def test_labels_repair_weights_that_are_off_and_leave_those_that_are_right() -> None:
    x, y, start = samples(3, per_class=16)
    test, truth, _ = samples(4, per_class=200)
    weight, pull = draw_towards_labels(start, x, y)
    assert np.isfinite(pull)
    right = [float(((test @ w.T).argmax(axis=1) == truth).mean()) for w in (start, weight)]
    assert right[1] > right[0] + 0.1
    sure = np.array([[1.0, 0.0], [0.0, 1.0]] * 4)
    assert np.isinf(draw_towards_labels(100 * np.eye(2), sure, np.arange(8) % 2)[1])


def test_a_single_sample_per_class_leaves_the_weights() -> None:
    x, y, start = samples(5, per_class=1)
    assert np.isinf(draw_towards_labels(start, x, y)[1])
