import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from lowdim.dynamics import (
    GradientDescent,
    Problem,
    balanced_labels,
    balancedness_gaps,
    check_separation,
    class_separation,
    initialize,
    input_separation,
    insert_unbalanced,
    last_pair_bound,
    log_line,
    low_rank_target,
    one_hot,
    orthogonal_inputs,
    ratio_bound,
    separation_over_time,
    separation_profile,
    sharp_ratio,
    simulate,
    untrained_optimum,
)
from lowdim.errors import EmptyClassError, InputError

K, N_PER, N = 5, 10, 50
LABELS = balanced_labels(K, N_PER)


def setting(depth, scale, seed=0):
    random = np.random.default_rng(seed)
    problem = Problem(one_hot(LABELS, K), orthogonal_inputs(N, N, random))
    return problem, initialize([N] * depth + [K], random, scale=scale)


def fitted(run, time):
    profile = separation_over_time(run, LABELS, time)
    loss = run.loss(time)
    return max(np.log(2 * loss / (1e-3 * N * profile[-1])), np.log(loss / (N * K) / 1e-7))


def flow(depth, scale, seed=0):
    problem, weights = setting(depth, scale, seed)
    run = simulate(problem, weights, GradientDescent(1 / 250), steps=10**12, mode="flow", until=fitted)
    assert run.finished
    return run


def naive_separation(features, labels):
    classes = np.unique(labels)
    means = [features[:, labels == k].mean(1) for k in classes]
    overall = np.mean(means, axis=0)
    within = np.mean([np.sum((features[:, i] - means[labels[i]]) ** 2) for i in range(len(labels))])
    return within / np.mean([np.sum((mean - overall) ** 2) for mean in means])


@given(st.integers(0, 9999), st.floats(-1e3, 1e3), st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_class_separation_against_the_naive_definition_and_its_invariances(seed, shift, stretch):
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(3), random.integers(0, 3, 9)])
    features = random.standard_normal((4, 12))
    value = class_separation(features, labels)
    np.testing.assert_allclose(value, naive_separation(features, labels), rtol=1e-10)
    rotated = np.linalg.qr(random.standard_normal((4, 4)))[0] @ features
    np.testing.assert_allclose(class_separation(stretch * rotated + shift, labels), value, rtol=1e-7)


def test_class_separation_refuses_what_has_no_value():
    with pytest.raises(EmptyClassError, match="counts"):
        class_separation(np.eye(3), np.array([0, 2, 2]))
    with pytest.raises(InputError, match="coincide"):
        class_separation(np.ones((2, 4)), np.array([0, 0, 1, 1]))
    with pytest.raises(InputError, match="labels"):
        class_separation(np.ones((2, 4)), np.array([0, 1]))


@pytest.mark.parametrize("mode", ["reduced", "full"])
def test_separation_over_time_from_cores_and_from_matrices(mode):
    problem, weights = setting(4, 0.5)
    run = simulate(problem, weights, GradientDescent(1 / 50), steps=200, mode=mode, record=40)
    for index, time in enumerate(run.times):
        expected = separation_profile(run.weights(time), problem.inputs, LABELS)
        np.testing.assert_allclose(separation_over_time(run, LABELS, time), expected, rtol=1e-9)
        np.testing.assert_allclose(separation_over_time(run, LABELS)[index], expected, rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("depth", "scale"), [(3, 0.2), (4, 0.5), (4, 0.1), (6, 0.4)])
def test_the_sharp_law_and_every_assumption_in_the_flow(depth, scale, seed):
    run = flow(depth, scale, seed)
    end = run.times[-1]
    weights = run.weights(end)
    profile = separation_profile(weights, run.problem.inputs, LABELS)
    np.testing.assert_allclose(profile[0], 11.25, rtol=1e-12)
    np.testing.assert_allclose(profile[1:] / profile[:-1], sharp_ratio(scale, N_PER, depth), rtol=0.05)
    assert (profile[1:] / profile[:-1] <= ratio_bound(scale, K)).all()
    gaps = balancedness_gaps(weights)
    assert gaps[:-1].max() <= 1e-7 * scale**2
    assert gaps[-1] / last_pair_bound(scale, N, K) == pytest.approx(1, abs=1e-6)
    assert gaps[-1] > scale**2 * np.sqrt(N - 2 * K)  # the other printed form of the bound does not hold
    for weight in weights[:-1]:
        values = np.linalg.svd(weight, compute_uv=False)
        assert np.sum(np.abs(values - scale) < 1e-8) == N - 2 * K
    checks = check_separation([run.weights(0), weights], run.problem, LABELS)
    assert all(check.holds for check in checks), checks


def test_flow_against_an_integration_of_the_full_network(plain):
    random = np.random.default_rng(0)
    phi = low_rank_target((8, 8), 2, random)
    weights = initialize([8] * 4, random, scale=0.6)
    run = simulate(Problem(phi), weights, GradientDescent(0.1, weight_decay=0.2), steps=300, mode="flow")

    def velocity(_, state):
        factors = list(state.reshape(3, 8, 8))
        slopes = plain.gradients(factors, phi)
        return -0.1 * np.concatenate([(g + 0.2 * w).ravel() for g, w in zip(slopes, factors, strict=True)])

    start = np.concatenate([w.ravel() for w in weights])
    reference = solve_ivp(velocity, (0, 300), start, method="DOP853", rtol=1e-11, atol=1e-13, t_eval=[150, 300])
    for index, time in enumerate([150.0, 300.0]):
        expected = reference.y[:, index].reshape(3, 8, 8)
        for layer in (1, 2, 3):
            np.testing.assert_allclose(run.weight(layer, time), expected[layer - 1], atol=2e-8)  # entries of order 1
        product = expected[2] @ expected[1] @ expected[0]
        np.testing.assert_allclose(run.loss(time), 0.5 * np.linalg.norm(product - phi) ** 2, rtol=1e-6)


def test_flow_is_the_limit_of_small_steps():
    problem, weights = setting(3, 0.5)
    limit = simulate(problem, weights, GradientDescent(0.02), steps=100, mode="flow").weight(1, 100)
    errors = []
    for parts in (4, 8):
        run = simulate(problem, weights, GradientDescent(0.02 / parts), steps=100 * parts, record=100)
        errors.append(np.abs(run.weight(1, 100 * parts) - limit).max())
    assert errors[0] < 1e-2
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


def test_gradient_descent_obeys_the_law_as_well(plain):
    """With weights of other code, read back by the check."""
    random = np.random.default_rng(5)
    inputs = plain.orthogonal(N, random)
    problem = Problem(one_hot(LABELS, K), inputs)
    weights = [0.4 * plain.orthogonal(N, random) for _ in range(3)] + [0.4 * plain.orthogonal(N, random)[:K]]
    history = [weights]
    for _ in range(5):
        history.append(plain.descent(history[-1], problem.phi, 300, 1 / 250)[-1])
    checks = check_separation(history, problem, LABELS)
    assert all(check.holds for check in checks), checks
    adam = [history[0], plain.adam(weights, problem.phi, 600, 1e-3)[-1]]
    failed = {check.name for check in check_separation(adam, problem, LABELS) if not check.holds}
    assert {"balancedness", "unchanged spectrum", "sharp law"} <= failed


def test_other_optima_do_not_separate():
    run = flow(4, 0.3)
    weights = run.weights(run.times[-1])
    inputs, phi = run.problem.inputs, run.problem.phi
    control = insert_unbalanced(weights, inputs, LABELS)
    product = np.linalg.multi_dot(control[::-1])
    np.testing.assert_allclose(product, np.linalg.multi_dot(weights[::-1]), atol=1e-12)  # entries of order 1
    profile = separation_profile(control, inputs, LABELS)
    assert np.abs(profile / profile[0] - 1).max() <= 1e-3
    checks = check_separation([run.weights(0), control], run.problem, LABELS)
    failed = {check.name for check in checks if not check.holds}
    assert {"balancedness", "unchanged spectrum", "sharp law", "proven bound"} <= failed

    gains = [0.3, 1.2, 0.05]
    written = untrained_optimum(phi, N_PER, gains)
    np.testing.assert_allclose(np.linalg.multi_dot(written[::-1]), phi, atol=1e-13)
    profile = separation_profile(written, inputs, LABELS)
    np.testing.assert_allclose(profile[1:] / profile[:-1], np.square(gains), rtol=1e-12)


def test_an_unfinished_fit_is_named():
    problem, weights = setting(4, 0.3)
    run = simulate(problem, weights, GradientDescent(1 / 250), steps=200)
    checks = {check.name: check for check in check_separation(run, problem, LABELS)}
    assert not checks["global optimality"].holds
    assert "train longer" in checks["global optimality"].reason


def test_numbers_of_the_theory():
    assert input_separation(10, 50) == pytest.approx(11.25, rel=1e-14)
    assert sharp_ratio(0.5, 10, 8) == pytest.approx(0.1875, abs=5e-5)
    assert sharp_ratio(0.1, 10, 4) == pytest.approx(0.00562, abs=5e-6)
    assert ratio_bound(0.1, 5) == pytest.approx(0.0647, abs=5e-5)
    slope, r2 = log_line(11.25 * 0.2 ** np.arange(6))
    assert slope == pytest.approx(np.log(0.2))
    assert r2 == pytest.approx(1, abs=1e-14)
    assert log_line(np.array([1.0, 0.1, 0.5, 0.01]))[1] < 0.8


@pytest.mark.parametrize(
    ("labels", "inputs", "message"),
    [
        (np.array([0] * 11 + [1] * 9 + [2] * 10), np.eye(30), "balanced"),
        (balanced_labels(3, 10), np.eye(30)[:, :29], "labels|fit"),
        (balanced_labels(3, 10), np.eye(30)[:29], "fit"),
        (balanced_labels(15, 2), np.eye(30), "fit|d > 2K"),
    ],
)
def test_settings_outside_the_theorem_are_named(labels, inputs, message):
    weights = initialize([30, 30, 30, 3], np.random.default_rng(0))
    with pytest.raises(InputError, match=message):
        check_separation([weights, weights], Problem(np.ones((3, inputs.shape[1])), inputs), labels)
