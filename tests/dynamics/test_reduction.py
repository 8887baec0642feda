import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowdim.dynamics import (
    GradientDescent,
    Polar,
    Problem,
    initialize,
    low_rank_target,
    one_hot,
    orthogonal_inputs,
    reduce,
    simulate,
)
from lowdim.dynamics._bases import singular_spaces


def setting(case, seed=0, scale=1.0, width=30, rank=3, depth=3):
    random = np.random.default_rng(seed)
    outputs = width if case == 2 else rank
    problem = Problem(low_rank_target((outputs, width), rank, random))
    return problem, initialize([width] * depth + [outputs], random, scale=scale)


def assert_same(full, reduced, bound=1e-12):
    """Absolute, on weights of order 1."""
    for layer in range(1, full.depth + 1):
        assert np.abs(full.weight(layer) - reduced.weight(layer)).max() <= bound
        assert np.abs(full.singular_values(layer) - reduced.singular_values(layer)).max() <= bound
    assert np.abs(full.end_to_end() - reduced.end_to_end()).max() <= bound
    assert np.abs(full.loss() - reduced.loss()).max() <= bound * full.loss(0).max()


RULES = {
    "plain": GradientDescent(1 / 900),
    "decay": GradientDescent(1 / 900, weight_decay=1.0),
    "momentum": GradientDescent(1 / 900, momentum=0.9),
    "momentum and decay": GradientDescent(1 / 900, weight_decay=1.0, momentum=0.9),
    "schedule": GradientDescent(lambda t: 2e-3 / (1 + t / 100)),
    "polar": Polar(2e-4),
    "polar and decay": Polar(2e-4, weight_decay=0.5),
}


@pytest.mark.parametrize("case", [1, 2])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_reduced_equals_full_over_2000_iterations(case, rule):
    problem, weights = setting(case)
    full = simulate(problem, weights, rule, steps=2000, mode="full", record=50)
    assert_same(full, simulate(problem, weights, rule, steps=2000, record=50))


@pytest.mark.parametrize("case", [1, 2])
def test_over_estimated_rank_stays_exact(case):
    problem, weights = setting(case)
    full = simulate(problem, weights, GradientDescent(1 / 900), steps=2000, mode="full", record=100)
    reduced = simulate(problem, weights, GradientDescent(1 / 900), steps=2000, record=100, rank=6)
    assert reduced.reduction.multiplicity == 18
    assert_same(full, reduced)


@pytest.mark.parametrize("case", [1, 2])
def test_a_scale_per_layer(case):
    problem, _ = setting(case)
    weights = initialize([30, 30, 30, 30 if case == 2 else 3], np.random.default_rng(1), scale=[0.5, 1.0, 0.8])
    rule = GradientDescent(1e-3, weight_decay=0.1)
    full = simulate(problem, weights, rule, steps=500, mode="full", record=50)
    assert_same(full, simulate(problem, weights, rule, steps=500, record=50))


def test_whitened_samples_with_a_part_of_the_targets_out_of_reach():
    random = np.random.default_rng(0)
    problem = Problem(random.standard_normal((3, 40)), orthogonal_inputs(20, 40, random))
    weights = initialize([20, 20, 20, 3], random, scale=0.7)
    full = simulate(problem, weights, GradientDescent(1e-3), steps=300, mode="full", record=20)
    assert problem.constant > 1
    assert_same(full, simulate(problem, weights, GradientDescent(1e-3), steps=300, record=20))
    direct = 0.5 * np.linalg.norm(full.end_to_end(300) @ problem.inputs - problem.targets) ** 2
    np.testing.assert_allclose(full.loss(300), direct, rtol=1e-12)


@given(st.sampled_from([1, 2]), st.integers(1, 3), st.integers(2, 4), st.integers(7, 12), st.integers(0, 9999))
@settings(max_examples=20, deadline=None)
def test_any_shape(case, rank, depth, width, seed):
    problem, weights = setting(case, seed, 0.8, width, rank, depth)
    rule = GradientDescent(1e-3, weight_decay=0.5, momentum=0.5)
    full = simulate(problem, weights, rule, steps=50, mode="full")
    assert_same(full, simulate(problem, weights, rule, steps=50))


def test_a_batch_is_its_runs():
    problem, weights = setting(2)
    scales, steps, decays = np.array([1.0, 0.5, 0.2]), np.array([1e-3, 2e-3, 5e-4]), np.array([0.0, 1.0, 10.0])
    batch = simulate(problem, weights, GradientDescent(steps, decays), steps=100, scale=scales)
    for run, (scale, step, decay) in enumerate(zip(scales, steps, decays, strict=True)):
        single = simulate(problem, [scale * w for w in weights], GradientDescent(step, decay), steps=100)
        for layer in (1, 3):
            np.testing.assert_allclose(batch.weight(layer)[:, run], single.weight(layer), atol=1e-13)
        np.testing.assert_allclose(batch.loss()[:, run], single.loss(), rtol=1e-11)


def test_a_batch_of_seeds():
    problem, _ = setting(2)
    runs = [initialize([30] * 4, np.random.default_rng(seed)) for seed in range(4)]
    stacked = [np.stack([run[layer] for run in runs]) for layer in range(3)]
    batch = simulate(problem, stacked, GradientDescent(1e-3), steps=60)
    for seed, weights in enumerate(runs):
        full = simulate(problem, weights, GradientDescent(1e-3), steps=60, mode="full")
        np.testing.assert_allclose(batch.weight(2, 60)[seed], full.weight(2, 60), atol=1e-13)
        np.testing.assert_allclose(batch.end_to_end(60)[seed], full.end_to_end(60), atol=1e-13)


def test_the_invariant_coordinate_never_mixes():
    problem, weights = setting(2)
    run = simulate(problem, weights, GradientDescent(1e-3, momentum=0.9), steps=200)
    core = run.states.at(200)[1]
    assert not core[-1, :-1].any()
    assert not core[:-1, -1].any()


def test_svd_reconstructs_the_factor():
    problem, weights = setting(1)
    run = simulate(problem, weights, GradientDescent(1e-2), steps=100)
    left, values, right = run.svd(2, 100)
    np.testing.assert_allclose(left * values @ right, run.weight(2, 100), atol=1e-13)
    np.testing.assert_allclose(values, run.singular_values(2, 100), atol=1e-13)


@pytest.mark.parametrize("shape", [(200, 150), (300, 300), (12, 9)])
@pytest.mark.parametrize("rank", [1, 5, 9])
def test_singular_spaces_of_planted_rank(shape, rank):
    random = np.random.default_rng(0)
    matrix = low_rank_target(shape, rank, random)
    left, right = singular_spaces(matrix)
    assert left.shape == (shape[0], rank)
    assert right.shape == (shape[1], rank)
    np.testing.assert_allclose(left @ (left.T @ matrix @ right) @ right.T, matrix, atol=1e-13)
    np.testing.assert_allclose(left.T @ left, np.eye(rank), atol=1e-13)


def test_singular_spaces_beyond_the_first_sketch_and_of_full_rank():
    random = np.random.default_rng(0)
    assert singular_spaces(low_rank_target((400, 400), 50, random))[0].shape == (400, 50)
    assert singular_spaces(random.standard_normal((90, 80)))[0].shape == (90, 80)
    assert singular_spaces(np.zeros((90, 80)))[0].shape == (90, 0)


def test_bases_follow_the_published_formula():
    problem, weights = setting(2)
    reduction = reduce(problem, weights)
    left, _, right = np.linalg.svd(problem.phi)
    product = weights[2] @ weights[1] @ weights[0]
    spanning = np.linalg.qr(np.concatenate([right[:3].T, product.T @ left[:, :3]], 1))[0]
    first = reduction.right[0]
    np.testing.assert_allclose(first @ first.T, spanning @ spanning.T, atol=1e-13)
    np.testing.assert_allclose(reduction.right[2], weights[1] @ weights[0] @ first, atol=1e-13)


def test_classification_targets_reduce_to_the_number_of_classes():
    labels = np.repeat(np.arange(4), 5)
    random = np.random.default_rng(0)
    problem = Problem(one_hot(labels, 4), orthogonal_inputs(20, 20, random))
    reduction = reduce(problem, initialize([20, 20, 20, 4], random, scale=0.5))
    assert (reduction.rank, reduction.multiplicity, reduction.full_output) == (4, 12, False)
