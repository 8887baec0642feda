import warnings

import numpy as np
import pytest

from lowdim.dynamics import (
    Adam,
    GradientDescent,
    NoInvariantPartError,
    Polar,
    Problem,
    check_parsimony,
    initialize,
    low_rank_target,
    orthogonal_inputs,
    scale_recursion,
    simulate,
    stability_limit,
    whiten,
)
from lowdim.errors import InputError, NonFiniteError, ResourceError, UsageError

RANDOM = np.random.default_rng(0)
PHI = low_rank_target((12, 12), 2, RANDOM)
WEIGHTS = initialize([12] * 4, RANDOM)
GD = GradientDescent(1e-3)


def test_no_invariant_part_runs_in_full_and_says_so():
    problem = Problem(low_rank_target((12, 12), 6, np.random.default_rng(0)))
    with pytest.warns(UserWarning, match=r"width 12 <= 2 x rank 6.*Running in full"):
        run = simulate(problem, WEIGHTS, GD, steps=3)
    assert run.mode == "full"
    with pytest.raises(NoInvariantPartError, match="mode='full'"):
        simulate(problem, WEIGHTS, GD, steps=3, mode="flow")
    with pytest.raises(UsageError, match="mode='full'"):
        run.rho()


def test_unwhitened_inputs_are_refused_with_a_way_out():
    inputs = np.random.default_rng(0).standard_normal((12, 40))
    problem = Problem(np.random.default_rng(1).standard_normal((12, 40)), inputs)
    with pytest.raises(InputError, match=r"not whitened.*whitened\(\).*mode='full'"):
        simulate(problem, WEIGHTS, GD, steps=3)
    white = whiten(inputs)
    np.testing.assert_allclose(white @ white.T, np.eye(12), atol=1e-13)
    values, vectors = np.linalg.eigh(inputs @ inputs.T)
    np.testing.assert_allclose(white, vectors / np.sqrt(values) @ vectors.T @ inputs, atol=1e-12)
    with pytest.raises(InputError, match="linearly dependent"):
        whiten(np.ones((3, 5)))
    with pytest.raises(InputError, match="linearly dependent"):
        whiten(np.ones((5, 3)))


def test_a_zero_target():
    with pytest.raises(InputError, match="target Y X\\^T is zero"):
        simulate(Problem(np.zeros((12, 12))), WEIGHTS, GD, steps=3)
    with pytest.raises(InputError, match="nothing to learn"):
        low_rank_target((5, 5), 0, RANDOM)


def test_a_zero_scale():
    with pytest.raises(UsageError, match="must be > 0"):
        initialize([12, 12], RANDOM, scale=0.0)
    with pytest.raises(InputError, match="factor 2 is zero"):
        simulate(Problem(PHI), [WEIGHTS[0], 0 * WEIGHTS[1], WEIGHTS[2]], GD, steps=3)
    with pytest.raises(UsageError, match="scale"):
        simulate(Problem(PHI), WEIGHTS, GD, steps=3, scale=0.0)
    with pytest.raises(UsageError, match="scale"):
        simulate(Problem(PHI), WEIGHTS, GD, steps=3, scale=np.array([1.0, np.nan]))


@pytest.mark.parametrize("mode", ["full", "reduced"])
def test_a_step_beyond_the_stability_limit_is_stopped_with_the_limit(mode):
    limit = stability_limit(PHI, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NonFiniteError, match=rf"diverged before iteration \d+.*below {limit:.3g}"):
            simulate(Problem(PHI), WEIGHTS, GradientDescent(50.0), steps=2000, mode=mode)


def test_the_stability_limit_is_where_descent_leaves_the_optimum():
    phi = np.diag([3.0, 1.0, 0.5])
    limit = stability_limit(phi, 3)
    balanced = [
        np.diag(np.diag(phi) ** (1 / 3)) + 1e-6 * np.random.default_rng(l).standard_normal((3, 3)) for l in range(3)
    ]
    distance = lambda step: simulate(Problem(phi), balanced, GradientDescent(step), steps=200, mode="full").loss(200)  # noqa: E731
    assert distance(0.98 * limit) < 1e-13
    assert distance(1.02 * limit) > 1e-10


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (initialize([12, 20, 20, 12], RANDOM), "factor 1 is 20 x 12"),
        (initialize([12] * 4, RANDOM, kind="normal"), "factor 1 is not a multiple of an orthogonal"),
        ([WEIGHTS[0], WEIGHTS[1][:, :11], WEIGHTS[2]], "factor 2 takes 11 inputs, but receives 12"),
        (initialize([12, 12, 5], RANDOM), "gives 5 outputs, but the targets have 12"),
        ([WEIGHTS[0], np.full((12, 12), np.nan), WEIGHTS[2]], "factor 2 contains NaN"),
    ],
)
def test_weights_that_do_not_fit(weights, message):
    with pytest.raises(InputError, match=message):
        simulate(Problem(PHI), weights, GD, steps=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": Adam(1e-3)}, "Adam scales every entry"),
        ({"rule": Polar(1e-3), "mode": "flow"}, "limit of GradientDescent"),
        ({"rule": GradientDescent(1e-3, momentum=0.5), "mode": "flow"}, "no momentum"),
        ({"mode": "fulll"}, "Did you mean full"),
        ({"steps": 0}, "at least 1"),
        ({"record": 0}, "at least 1"),
        ({"rank": 1}, "rank 1 is below 2"),
        ({"rank": 0}, "rank 0 is below 2"),
    ],
)
def test_requests_that_make_no_sense(arguments, message):
    with pytest.raises(UsageError, match=message):
        simulate(Problem(PHI), WEIGHTS, **{"rule": GD, "steps": 3, **arguments})


def test_rules_refuse_impossible_numbers():
    for make in (
        lambda: GradientDescent(0.0),
        lambda: GradientDescent(np.array([1e-3, np.inf])),
        lambda: GradientDescent(1e-3, weight_decay=-1.0),
        lambda: GradientDescent(1e-3, momentum=1.0),
        lambda: Polar(-1.0),
        lambda: Adam(0.0),
        lambda: initialize([12, 12], RANDOM, kind="orthogonale"),
        lambda: initialize([12], RANDOM),
        lambda: scale_recursion(1.0, Adam(1e-3), 5, depth=3),
    ):
        with pytest.raises(UsageError):
            make()


def test_problems_refuse_malformed_data():
    with pytest.raises(NonFiniteError, match="targets contain NaN"):
        Problem(np.full((2, 2), np.nan))
    with pytest.raises(InputError, match="3 columns and targets 2"):
        Problem(np.eye(2), np.ones((2, 3)))
    with pytest.raises(InputError, match="matrix"):
        Problem(np.ones(3))
    with pytest.raises(InputError, match="orthonormal rows"):
        orthogonal_inputs(5, 4, RANDOM)


def test_times_and_layers_that_are_not_there():
    run = simulate(Problem(PHI), WEIGHTS, GD, steps=10, record=5)
    with pytest.raises(UsageError, match="nearest are 5 and 10"):
        run.weight(1, 7)
    with pytest.raises(UsageError, match="layers are 1 to 3"):
        run.weight(0, 5)
    flow = simulate(Problem(PHI), WEIGHTS, GD, steps=10, mode="flow")
    with pytest.raises(UsageError, match="covers 0 to 10"):
        flow.weight(1, 11)


def test_states_that_would_not_fit_in_memory():
    problem, weights = Problem(low_rank_target((200, 200), 2, RANDOM)), initialize([200] * 4, RANDOM)
    with pytest.raises(ResourceError, match=r"GiB.*record="):
        simulate(problem, weights, GD, steps=100_000, mode="full")


def test_a_history_without_training():
    with pytest.raises(InputError, match="one time only"):
        check_parsimony([WEIGHTS])
    with pytest.raises(InputError, match="no factor ever changes"):
        check_parsimony([WEIGHTS, WEIGHTS])
    with pytest.raises(UsageError, match="no invariant part of width 12"):
        check_parsimony([WEIGHTS, WEIGHTS], rank=6)
    with pytest.raises(InputError, match="5 input and 5 output"):
        check_parsimony([WEIGHTS, WEIGHTS], problem=Problem(np.eye(5)))
