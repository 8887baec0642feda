"""The regularised optimum over free features, against a minimiser and against its conditions."""

import numpy as np
import pytest
from scipy.optimize import minimize

from lowdim.dynamics import factor_cost, free_features
from lowdim.errors import UsageError


def loss(W, H, Y, weight_decay, feature_decay):
    N = Y.shape[1]
    return np.sum((W @ H - Y) ** 2) / (2 * N) + (weight_decay * np.sum(W**2) + feature_decay * np.sum(H**2)) / 2


@pytest.mark.parametrize("width", [None, 2, 6])
def test_the_closed_form_is_what_a_minimiser_finds(width):
    random = np.random.default_rng(0)
    Y, decays = random.standard_normal((4, 9)), (0.02, 0.05)
    found = free_features(Y, *decays, width=width)
    assert loss(found.weight, found.features, Y, *decays) == pytest.approx(found.loss, rel=1e-12)
    d = width or 4

    def objective(flat):
        return loss(flat[: 4 * d].reshape(4, d), flat[4 * d :].reshape(d, 9), Y, *decays)

    best = min(minimize(objective, random.standard_normal(d * 13), method="L-BFGS-B").fun for _ in range(3))
    assert best == pytest.approx(found.loss, rel=1e-6)
    assert found.loss <= best + 1e-12


def test_it_is_a_critical_point_and_the_threshold_is_sharp():
    Y = np.repeat(np.eye(3), [9, 4, 1], axis=1)
    W_decay, H_decay = 0.01, 4.0 / (0.01 * 14**2)  # N^2 lambda_W lambda_H = 4: the second class is just given up
    found = free_features(Y, W_decay, H_decay)
    np.testing.assert_allclose(found.singular_values, [1.0, 0.0, 0.0], atol=1e-12)
    residual = (found.weight @ found.features - Y) / 14
    np.testing.assert_allclose(residual @ found.features.T + W_decay * found.weight, 0, atol=1e-12)
    np.testing.assert_allclose(found.weight.T @ residual + H_decay * found.features, 0, atol=1e-12)


def test_decays_must_be_positive():
    with pytest.raises(UsageError, match="must be > 0"):
        free_features(np.eye(2), 0.0, 1.0)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_cost_of_factors_is_attained_and_is_the_least(depth):
    random = np.random.default_rng(depth)
    left, values, right = np.linalg.svd(random.standard_normal((3, 3)))
    root = np.diag(values ** (1 / depth))
    balanced = [root] * depth
    balanced[0] = balanced[0] @ right
    balanced[-1] = left @ balanced[-1]
    cost = factor_cost(values, 0.3, depth)
    assert 0.15 * sum(np.sum(factor**2) for factor in balanced) == pytest.approx(cost, rel=1e-12)
    if depth > 1:
        other = np.eye(3) + 0.3 * random.standard_normal((3, 3))
        moved = [other @ balanced[0], balanced[1] @ np.linalg.inv(other), *balanced[2:]]
        assert 0.15 * sum(np.sum(factor**2) for factor in moved) > cost
