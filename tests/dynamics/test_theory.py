"""Published and independently derived numbers of the law of parsimony."""

import numpy as np
import pytest

from lowdim.dynamics import (
    Adam,
    Bases,
    GradientDescent,
    Polar,
    Problem,
    RMSprop,
    block_forms,
    check_parsimony,
    initialize,
    low_rank_target,
    orthogonal_inputs,
    scale_recursion,
    simulate,
)

STEP = 1 / 900


def lecture(case=2, seed=0):
    random = np.random.default_rng(seed)
    outputs = 30 if case == 2 else 3
    return Problem(low_rank_target((outputs, 30), 3, random)), initialize([30, 30, 30, outputs], random)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (GradientDescent(STEP), 0.950961),
        (GradientDescent(STEP, weight_decay=1.0), 0.9037),
        (GradientDescent(STEP, weight_decay=10.0), 0.5595),
        (GradientDescent(STEP, momentum=0.9), 0.7360),
        (GradientDescent(STEP, weight_decay=1.0, momentum=0.9), 0.4749),
        (Polar(1e-2), 0.5),
    ],
)
def test_rho_after_50_iterations(rule, expected):
    digits = 6 if expected == 0.950961 else 4
    assert round(scale_recursion(1.0, rule, 50, depth=3)[-1], digits) == pytest.approx(expected, abs=1e-9)
    problem, weights = lecture()
    run = simulate(problem, weights, rule, steps=50, mode="full")
    values = run.singular_values(2, 50)
    assert np.sum(np.abs(values / scale_recursion(1.0, rule, 50, depth=3)[-1] - 1) < 1e-10) == 24


@pytest.mark.parametrize(("decay", "expected"), [(0.0, 1.0), (1.0, 0.5720)])
def test_rho_with_fewer_outputs(decay, expected):
    rule = GradientDescent(1 / 90, weight_decay=decay)
    assert scale_recursion(1.0, rule, 50, depth=3, full_output=False)[-1] == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("case", [1, 2])
@pytest.mark.parametrize(
    "rule", [GradientDescent(STEP), GradientDescent(STEP, 1.0, 0.9), Polar(1e-3, 0.5)], ids=["gd", "ball", "polar"]
)
@pytest.mark.parametrize("mode", ["full", "reduced"])
def test_all_checks_hold(case, rule, mode):
    problem, weights = lecture(case)
    run = simulate(problem, weights, rule, steps=50, mode=mode)
    checks = check_parsimony(run, problem=problem, rule=rule)
    assert len(checks) == 6
    for check in checks:
        assert check.holds, check
        assert check.residual <= 1e-11, check  # in units of a change that begins at 1e-3 of the weights


@pytest.mark.parametrize("rule", [Adam(1e-2), RMSprop(1e-2)])
@pytest.mark.parametrize("seed", range(3))
def test_entrywise_optimizers_break_it(rule, seed):
    problem, weights = lecture(seed=seed)
    run = simulate(problem, weights, rule, steps=50, mode="full")
    forms = block_forms(run, Bases.from_data(problem, weights))
    assert forms.off_block.max() > 0.2
    assert (forms.off_block[-1] > 0.2).all()
    failed = {check.name for check in check_parsimony(run, problem=problem) if not check.holds}
    assert failed == {"invariant subspaces", "one scalar on the invariant part", "loss identity"}


def test_plain_descent_of_other_code_holds_with_and_without_data(plain):
    random = np.random.default_rng(3)
    weights = [0.7 * plain.orthogonal(20, random) for _ in range(4)]
    phi = random.standard_normal((20, 2)) @ random.standard_normal((2, 20)) / 20
    history = plain.descent(weights, phi, 200, 2e-3, decay=0.3)
    rule = GradientDescent(2e-3, weight_decay=0.3)
    for problem in (None, Problem(phi)):
        checks = check_parsimony(history, problem=problem, rule=rule)
        assert len(checks) == (6 if problem else 4)
        assert all(check.holds for check in checks), checks
    single = [[w.astype(np.float32) for w in step] for step in history]
    assert all(check.holds for check in check_parsimony(single, problem=Problem(phi)))


def test_adam_of_other_code_does_not_hold(plain):
    random = np.random.default_rng(3)
    weights = [plain.orthogonal(20, random) for _ in range(3)]
    phi = random.standard_normal((20, 2)) @ random.standard_normal((2, 20)) / 20
    history = plain.adam(weights, phi, 50, 1e-2)
    without = check_parsimony(history)
    assert not without[-1].holds
    assert "||change of W||_F" in without[-1].reason
    assert not all(check.holds for check in check_parsimony(history, problem=Problem(phi)))
    assert not all(check.holds for check in check_parsimony(history, rank=3))


def test_each_check_can_fail():
    problem, weights = lecture()
    run = simulate(problem, weights, GradientDescent(STEP), steps=20, mode="full")

    def names(checks):
        return {check.name for check in checks if not check.holds}

    wrong_rule = check_parsimony(run, problem=problem, rule=GradientDescent(STEP * 1.001))
    assert names(wrong_rule) == {"recursion of rho"}
    other = Problem(low_rank_target((30, 30), 3, np.random.default_rng(9)))
    assert {"invariant subspaces", "loss identity"} <= names(check_parsimony(run, problem=other))
    gaussian = initialize([30] * 4, np.random.default_rng(0), kind="normal")
    assert names(check_parsimony([gaussian, gaussian], problem=problem)) == {"orthogonal initialisation"}
    history = [run.weights(0), run.weights(10)]
    bulk = Bases.from_data(problem, weights)
    outside = np.linalg.qr(bulk.right[1], mode="complete")[0][:, 6:8]
    history[1][1] = history[1][1] @ (np.eye(30) + 1e-4 * outside @ np.diag([1, -1]) @ outside.T)
    assert names(check_parsimony(history)) == {"one scalar on the invariant part"}


def test_unwhitened_inputs_are_named_and_only_approximate():
    random = np.random.default_rng(0)
    inputs = random.standard_normal((30, 300)) / 15
    problem = Problem(random.standard_normal((3, 300)) / 15, inputs)
    weights = initialize([30, 30, 30, 3], random)
    run = simulate(problem, weights, GradientDescent(STEP), steps=50, mode="full")
    checks = {check.name: check for check in check_parsimony(run, problem=problem)}
    assert not checks["whitened inputs"].holds
    assert not checks["invariant subspaces"].holds
    whitened = problem.whitened()
    run = simulate(whitened, weights, GradientDescent(STEP), steps=50, mode="full")
    assert all(check.holds for check in check_parsimony(run, problem=whitened))


def test_orthogonal_samples_are_whitened():
    inputs = orthogonal_inputs(10, 30, np.random.default_rng(0))
    assert Problem(np.ones((2, 30)), inputs).gram is None


@pytest.mark.parametrize("scale", [1.0, 0.3, 0.1, 0.03])
def test_low_rank_bias_is_exact(scale):
    """What W_{L:1} has beyond its learned block is rho^L sqrt(m)."""
    problem, weights = lecture()
    run = simulate(problem, weights, GradientDescent(2e-3), steps=300, scale=scale)
    product = simulate(problem, weights, GradientDescent(2e-3), steps=300, scale=scale, mode="full").end_to_end(300)
    left, right = run.reduction.left[-1], run.reduction.right[0]
    rest = product - left @ (left.T @ product @ right) @ right.T
    rho = scale_recursion(scale, GradientDescent(2e-3), 300, depth=3)[-1]
    assert np.linalg.norm(rest) == pytest.approx(rho**3 * np.sqrt(24), abs=1e-13)


@pytest.mark.parametrize("case", [1, 2])
def test_block_forms_against_complete_bases(case):
    """On weights that fit no theorem: U^T W V with full orthogonal U and V, cut into blocks."""
    problem, start = lecture(case)
    bases = Bases.from_data(problem, start)
    noisy = [w + 0.1 * np.random.default_rng(l).standard_normal(w.shape) for l, w in enumerate(start)]
    forms = block_forms([noisy], bases)
    for layer, weight in enumerate(noisy):
        v = np.linalg.qr(bases.right[layer], mode="complete")[0]
        v[:, :6] = bases.right[layer]
        if layer == 2 and case == 1:
            expected = np.linalg.norm(weight @ v[:, 6:]) / np.linalg.norm(weight)
            np.testing.assert_allclose(forms.off_block[0, layer], expected, rtol=1e-10)
            continue
        blocks = (bases.directions[layer] @ v).T @ weight @ v
        size = np.linalg.norm(weight)
        off = np.sqrt(np.sum(blocks[:6, 6:] ** 2) + np.sum(blocks[6:, :6] ** 2)) / size
        rho = np.trace(blocks[6:, 6:]) / 24
        np.testing.assert_allclose(forms.off_block[0, layer], off, rtol=1e-10)
        np.testing.assert_allclose(forms.rho[0, layer], rho, rtol=1e-10)
        spread = np.linalg.norm(blocks[6:, 6:] - rho * np.eye(24)) / size
        np.testing.assert_allclose(forms.spread[0, layer], spread, rtol=1e-10)
        np.testing.assert_allclose(forms.inner[0][layer], blocks[:6, :6], atol=1e-12)  # entries of order 1
