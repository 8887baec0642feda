"""Scalar problems of aligned factors against full matrices, integration and their own definitions."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from lowdim.dynamics import (
    GradientDescent,
    Problem,
    aligned_descent,
    balancing_factor,
    initialize,
    learning_time,
    period_two_orbit,
    simulate,
)
from lowdim.errors import UsageError


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_scalars_follow_full_matrices(depth):
    random = np.random.default_rng(depth)
    values, scales = np.array([2.0, 1.0, 0.5]), random.uniform(0.3, 0.8, (depth, 3))
    left, right, *inner = initialize([3] * (depth + 2), random)
    ends = [right, *(rotation.T for rotation in inner[: depth - 1]), left.T]
    weights = [ends[l + 1].T @ np.diag(scales[l]) @ (ends[l].T if l == 0 else ends[l]) for l in range(depth)]
    full = simulate(Problem(left @ np.diag(values) @ right.T), weights, GradientDescent(0.05), steps=80, mode="full")
    scalar = aligned_descent(values, scales, 0.05, 80)
    np.testing.assert_allclose(
        np.einsum("ir,tij,jr->tr", left, full.end_to_end(), right), scalar.prod(axis=1), atol=1e-12
    )
    for layer in range(depth):
        np.testing.assert_allclose(full.singular_values(layer + 1, 80), np.sort(scalar[-1, layer])[::-1], atol=1e-12)


def test_a_batch_of_steps_is_each_of_them():
    start = np.full((2, 2, 1), 0.5)
    both = aligned_descent(np.ones((2, 1)), start, np.array([0.1, 0.3]), 20)
    for row, step in enumerate((0.1, 0.3)):
        np.testing.assert_array_equal(both[:, :, row], aligned_descent(np.ones(1), start[:, row], step, 20))


def test_the_gap_is_multiplied_by_the_factor_in_every_step():
    values, start = np.array([1.0, 0.4]), np.array([[0.9, 0.3], [0.5, 0.6], [0.2, 0.8]])
    run = aligned_descent(values, start, 0.4, 60)
    for pair in ((0, 1), (0, 2), (1, 2)):
        gaps = run[:, pair[0]] ** 2 - run[:, pair[1]] ** 2
        np.testing.assert_allclose(gaps[1:], gaps[:-1] * balancing_factor(run[:-1], values, 0.4, pair), atol=1e-14)


@pytest.mark.parametrize(
    ("value", "depth", "excess"),
    [(1.0, 2, 1.01), (3.0, 2, 1.2), (0.5, 3, 1.1), (2.0, 4, 1.02), (1.0, 8, 1.05), (0.7, 30, 1.2)],
)
def test_the_orbit_is_where_descent_ends(value, depth, excess):
    step = excess * 2 / (depth * value ** (2 - 2 / depth))
    run = aligned_descent(np.array([value]), np.full((depth, 1), 0.9 * value ** (1 / depth)), step, 4000).prod(axis=1)
    np.testing.assert_allclose(period_two_orbit(value, step, depth), np.sort(run[-2:, 0]), rtol=1e-9)


def test_no_orbit_below_the_limit():
    with pytest.raises(UsageError, match="no orbit"):
        period_two_orbit(1.0, 1.0, 2)
    with pytest.raises(UsageError, match="smaller step"):
        period_two_orbit(1.0, 100.0, 2)


@pytest.mark.parametrize(("value", "depth", "level"), [(2.0, 2, 0.5), (1.0, 3, 0.9), (4.0, 5, 0.1)])
def test_learning_times_are_those_of_the_flow(value, depth, level):
    start = 1e-3
    passed = lambda t, a: a[0] - level * value  # noqa: E731
    passed.terminal = True
    flow = solve_ivp(
        lambda t, a: depth * a ** (2 - 2 / depth) * (value - a),
        (0, 1e4),
        [start],
        events=passed,
        rtol=1e-11,
        atol=1e-14,
    )
    assert learning_time(value, start, depth, level=level) == pytest.approx(flow.t_events[0][0], rel=1e-8)


def test_learning_starts_below_the_level():
    with pytest.raises(UsageError, match="between 0 and"):
        learning_time(1.0, 0.6, 2)
