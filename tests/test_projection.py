"""The last projection drawn towards the labels: its limits, its gradient by differences, and planted repairs."""

import numpy as np
import pytest
from scipy.special import log_softmax

from lowdim.errors import InputError
from lowdim.probe import draw_projection

K, D, P = 3, 5, 7


def samples(seed: int, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(K), per_class)
    centres = np.random.default_rng(0).normal(size=(K, P))
    return 3 * centres[labels] + generator.normal(size=(len(labels), P)), labels


def texts() -> np.ndarray:
    rows = np.random.default_rng(1).normal(size=(K, D))
    return 20 * rows / np.linalg.norm(rows, axis=1, keepdims=True)


def start() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(D, P))


def accuracy(projection: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    z = x @ projection.T
    return float(((z @ texts().T).argmax(axis=1) == y).mean())


def test_an_infinite_pull_leaves_the_projection_and_a_strong_one_nearly() -> None:
    x, y = samples(0, 6)
    assert draw_projection(start(), x, texts(), y, pulls=())[0].tolist() == start().tolist()
    drawn, pull = draw_projection(start(), x, texts(), y, pulls=(1e9,))
    assert pull in (1e9, np.inf)
    np.testing.assert_allclose(drawn, start(), atol=1e-6)


def test_it_is_a_minimum_of_the_stated_loss() -> None:
    """No direction goes down from the answer, and the answer lies below the start."""
    x, y = samples(3, 8)
    pull, bias = 0.5, np.full(D, 0.3)
    drawn, found = draw_projection(start(), x, texts(), y, bias=bias, pulls=(pull,))
    assert found == pull

    def loss(projection: np.ndarray) -> float:
        outputs, before = x @ projection.T + bias, x @ start().T + bias
        z = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
        unit = (
            np.mean(np.sum(texts() ** 2, axis=1)) * np.mean(np.sum(x**2, axis=1)) / np.mean(np.sum(before**2, axis=1))
        )
        data = -np.mean(log_softmax(z @ texts().T, axis=1)[np.arange(len(y)), y])
        return float(data + pull / 2 * unit * np.sum((projection - start()) ** 2))

    assert loss(drawn) < loss(start()) - 1e-3
    generator = np.random.default_rng(5)
    for _ in range(20):
        direction = generator.normal(size=(D, P))
        direction /= np.linalg.norm(direction)
        slope = (loss(drawn + 1e-5 * direction) - loss(drawn - 1e-5 * direction)) / 2e-5
        assert abs(slope) < 1e-2 * abs(loss(start()) - loss(drawn))


def test_scales_of_inputs_and_projection_change_nothing() -> None:
    x, y = samples(4, 8)
    plain, pull = draw_projection(start(), x, texts(), y, pulls=(0.1,))
    scaled, again = draw_projection(start() / 8, 4 * x, texts(), y, pulls=(0.1,))
    assert pull == again == 0.1
    np.testing.assert_allclose(8 * scaled, plain, rtol=2e-3, atol=2e-3)


def test_labels_repair_a_projection_that_is_off_and_leave_one_that_is_right() -> None:
    x, y = samples(6, 12)
    test, truth = samples(7, 200)
    drawn, pull = draw_projection(start(), x, texts(), y)
    assert np.isfinite(pull) and accuracy(drawn, test, truth) > accuracy(start(), test, truth) + 0.2
    sure = 5 * texts()[y % K] @ np.linalg.pinv(start()).T
    assert np.isinf(draw_projection(start(), sure, 10 * texts(), y)[1])


def test_what_has_no_direction_is_refused() -> None:
    x, y = samples(8, 4)
    with pytest.raises(InputError, match="zero"):
        draw_projection(np.zeros((D, P)), x, texts(), y)


def test_labels_that_mean_nothing_leave_the_projection() -> None:
    """What is fitted to a sample says nothing of one that was left out: a fit judged by its own samples would be taken."""
    generator = np.random.default_rng(11)
    x, y = generator.normal(size=(30, 40)), np.arange(30) % K
    assert np.isinf(draw_projection(generator.normal(size=(D, 40)), x, 0.05 * texts(), y, pulls=(1.0, 0.1))[1])
