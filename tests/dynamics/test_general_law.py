"""Two invariant parts for any number of outputs: counts, recursions, reduced network, and what breaks when one is wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowdim.dynamics import (
    Bases,
    GradientDescent,
    Problem,
    _bases,
    block_forms,
    block_sizes,
    check_parsimony,
    initialize,
    low_rank_target,
    one_hot,
    orthogonal_inputs,
    reduce,
    scale_recursion,
    separation_over_time,
    separation_profile,
    simulate,
)
from lowdim.errors import UsageError

# outputs, rank, m_1, m_2 at width 30
COUNTS = [
    (20, 2, 8, 16),
    (8, 2, 20, 4),
    (5, 1, 24, 3),
    (20, 5, 5, 10),
    (25, 8, 0, 9),
    (10, 5, 15, 0),
    (30, 3, 0, 24),
    (3, 3, 24, 0),
]
RULES = {
    "plain": GradientDescent(0.02),
    "decay": GradientDescent(0.02, weight_decay=0.01),
    "momentum": GradientDescent(0.02, momentum=0.9),
    "momentum and decay": GradientDescent(0.02, weight_decay=0.01, momentum=0.9),
}


def setting(outputs, rank, seed=0, width=30, depth=3, scale=0.3):
    random = np.random.default_rng(seed)
    problem = Problem(low_rank_target((outputs, width), rank, random))
    return problem, initialize([width] * depth + [outputs], random, scale=scale)


@pytest.mark.parametrize(("outputs", "rank", "silent", "fading"), COUNTS)
@pytest.mark.parametrize("seed", range(3))
def test_plain_descent_of_other_code_has_exactly_these_singular_values(plain, outputs, rank, silent, fading, seed):
    """Nothing of the package but the problem: counts within 1e-12 of two scalar recursions written here."""
    problem, weights = setting(outputs, rank, seed)
    step, decay, steps = 0.02, 0.01, 300
    end = weights
    rho = varrho = 0.3
    for _ in range(steps):
        end = plain.descent(end, problem.phi, 1, step, decay)[-1]
        rho, varrho = rho * (1 - step * decay), varrho * (1 - step * decay) - step * varrho**5
    for layer, weight in enumerate(end):
        values = np.linalg.svd(weight, compute_uv=False)
        assert np.sum(np.abs(values - rho) < 1e-12) == (silent if layer < 2 else 0)
        assert np.sum(np.abs(values - varrho) < 1e-12) == fading
    assert block_sizes(30, outputs, rank)[2:] == (silent, fading)


@pytest.mark.parametrize(("outputs", "rank", "silent", "fading"), COUNTS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("seed", range(3))
def test_reduced_equals_full_and_both_numbers_follow_their_recursion(outputs, rank, silent, fading, rule, seed):
    problem, weights = setting(outputs, rank, seed)
    full = simulate(problem, weights, rule, steps=200, mode="full", record=50)
    reduced = simulate(problem, weights, rule, steps=200, record=50)
    assert reduced.mode == "reduced"
    assert reduced.reduction.cores[0].shape[0] == 30 - silent - fading + (silent > 0) + (fading > 0)
    for layer in (1, 2, 3):
        assert np.abs(full.weight(layer) - reduced.weight(layer)).max() <= 1e-12
        assert np.abs(full.singular_values(layer) - reduced.singular_values(layer)).max() <= 1e-12
    assert np.abs(full.end_to_end() - reduced.end_to_end()).max() <= 1e-12
    assert np.abs(full.loss() - reduced.loss()).max() <= 1e-12 * full.loss(0)
    for block, present, reaches in (("silent", silent, False), ("fading", fading, True)):
        expected = scale_recursion(0.3, rule, 200, depth=3, full_output=reaches)[::50]
        for layer in (1, 2, 3) if reaches else (1, 2):
            if present:
                np.testing.assert_allclose(reduced.rho(layer, block=block), expected, rtol=1e-12)


@given(st.integers(1, 4), st.integers(1, 12), st.integers(2, 4), st.integers(5, 12), st.integers(0, 9999))
@settings(max_examples=30, deadline=None)
def test_any_shape(rank, outputs, depth, width, seed):
    outputs, rank = min(outputs, width), min(rank, outputs, width)
    if not block_sizes(width, outputs, rank).invariant:
        return
    problem, weights = setting(outputs, rank, seed, width, depth, 0.8)
    rule = GradientDescent(1e-3, weight_decay=0.5, momentum=0.5)
    full = simulate(problem, weights, rule, steps=30, mode="full")
    reduced = simulate(problem, weights, rule, steps=30)
    for layer in range(1, depth + 1):
        assert np.abs(full.weight(layer) - reduced.weight(layer)).max() <= 1e-12
    checks = check_parsimony(full, problem=problem, rule=rule)
    assert all(check.holds for check in checks), checks


@pytest.mark.parametrize("change", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_a_wrong_count_is_seen(monkeypatch, change):
    """One direction too many breaks the reduction; one too few leaves it exact, and larger than the law allows."""
    right = _bases.block_sizes

    def wrong(inputs, outputs, rank):
        sizes = right(inputs, outputs, rank)
        silent, fading = sizes.silent + change[0], sizes.fading + change[1]
        return _bases.Sizes(inputs - silent - fading, outputs - fading, silent, fading)

    monkeypatch.setattr(_bases, "block_sizes", wrong)
    problem, weights = setting(20, 2)
    full = simulate(problem, weights, GradientDescent(0.02), steps=200, mode="full", record=50)
    reduced = simulate(problem, weights, GradientDescent(0.02), steps=200, record=50)
    gap = max(np.abs(full.weight(layer) - reduced.weight(layer)).max() for layer in (1, 2, 3))
    assert (gap > 1e-3) == (sum(change) > 0)
    assert (reduced.reduction.multiplicity == 24) == (sum(change) == 0)


def test_classes_of_other_code_and_the_scatter_of_both_parts():
    """Three of four classes have samples: rank 3, four outputs, both parts in one network."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 8)
    targets = np.concatenate([one_hot(labels, 2), np.zeros((6, 16))])
    problem = Problem(targets, orthogonal_inputs(16, 16, random))
    weights = initialize([16, 16, 16, 16, 8], random, scale=0.6)
    assert reduce(problem, weights).bases.sizes[2:] == (6, 4)
    run = simulate(problem, weights, GradientDescent(0.01), steps=200, record=50)
    for index, time in enumerate(run.times):
        expected = separation_profile(run.weights(time), problem.inputs, labels)
        np.testing.assert_allclose(separation_over_time(run, labels)[index], expected, rtol=1e-9)
    flow = simulate(problem, weights, GradientDescent(1e-3), steps=100, mode="flow")
    small = simulate(problem, weights, GradientDescent(1e-4), steps=1000, record=1000)
    np.testing.assert_allclose(flow.weight(1, 100), small.weight(1, 1000), atol=1e-4)  # entries of order .1


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_over_estimated_ranks_stay_exact(rank):
    problem, weights = setting(20, 2)
    rule = GradientDescent(0.02, weight_decay=0.01)
    full = simulate(problem, weights, rule, steps=200, mode="full", record=50)
    reduced = simulate(problem, weights, rule, steps=200, record=50, rank=rank)
    assert reduced.reduction.bases.sizes[2:] == (10 - rank, 20 - 2 * rank)
    assert max(np.abs(full.weight(l) - reduced.weight(l)).max() for l in (1, 2, 3)) <= 1e-12


def test_a_share_against_its_definition_and_chance():
    """Planted: of the squared change nine parts lie in the active block and seven beside it."""
    problem, weights = setting(20, 2)
    bases = Bases.from_data(problem, weights)
    moved = [w.copy() for w in weights]
    left, right = bases.left[0], bases.right[0]
    outside = np.linalg.qr(right, mode="complete")[0][:, -1]
    moved[0] += 0.3 * np.outer(left[:, 0], right[:, 1]) + np.sqrt(0.07) * np.outer(left[:, 0], outside)
    forms = block_forms([weights, moved], bases)
    assert forms.share[1, 0] == pytest.approx(9 / 16, rel=1e-10)
    assert np.isnan(forms.share[1, 1])
    random = np.random.default_rng(0)
    shares = [
        block_forms([weights, [w + 1e-2 * random.standard_normal(w.shape) for w in weights]], bases).share[1]
        for _ in range(200)
    ]
    np.testing.assert_allclose(np.mean(shares, axis=0), forms.chance, atol=6e-3)  # standard error 1e-3
    assert forms.chance == pytest.approx([38 / 900, 38 / 900, 25 / 600])


def test_two_numbers_must_be_told_apart_by_name():
    problem, weights = setting(20, 2)
    run = simulate(problem, weights, GradientDescent(0.02), steps=2)
    with pytest.raises(UsageError, match="silent and a fading part"):
        run.rho(1)
    with pytest.raises(UsageError, match="no silent part"):
        run.rho(3, block="silent")
    assert run.rho(3).shape == (3,)
