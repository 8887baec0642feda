import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowdim.completion.entries import Entries
from lowdim.completion.solvers.gd._descent import Residual, descend, loss_and_gradients
from lowdim.completion.solvers.gd._gradient_descent import (
    compressed_network,
    curvature,
    gradient_descent,
    largest_gamma,
    orthogonal_network,
    spectral_network,
    stable_step,
)
from lowdim.dynamics import GradientDescent, Problem, simulate
from lowdim.errors import NonFiniteError, UsageError
from lowdim.experiments.deep_completion import sharpness

from .planted import low_rank, relative_error, sample


def naive_loss(target: np.ndarray, mask: np.ndarray, factors: list[np.ndarray]) -> float:
    product = factors[0]
    for factor in factors[1:]:
        product = factor @ product
    return 0.5 * float(np.sum(np.where(mask, product - target, 0) ** 2))


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 4))
def test_gradients_match_finite_differences(seed: int, count: int, width: int) -> None:
    random = np.random.default_rng(seed)
    target, mask = random.standard_normal((5, 6)), random.random((5, 6)) < 0.6
    mask[0, 0] = True
    entries = Entries.from_dense(np.where(mask, target, np.nan))
    sizes = [6, *[width] * (count - 1), 5]
    factors = [random.standard_normal((sizes[l + 1], sizes[l])) for l in range(count)]
    loss, gradients = loss_and_gradients(entries, factors)
    np.testing.assert_allclose(loss, naive_loss(target, mask, factors), rtol=1e-12)
    for layer, gradient in enumerate(gradients):
        direction = random.standard_normal(gradient.shape)
        ends = [
            naive_loss(target, mask, [f + (h * direction if l == layer else 0) for l, f in enumerate(factors)])
            for h in (-1e-5, 1e-5)
        ]
        slope = (ends[1] - ends[0]) / 2e-5
        size = np.linalg.norm(gradient) * np.linalg.norm(direction) + loss
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-7 * size)


@pytest.mark.parametrize(("columns", "share"), [(3, 0.3), (17, 0.3), (64, 0.3), (65, 0.3), (65, 0.05)])
def test_residual_and_its_products_match_their_dense_definition(columns: int, share: float) -> None:
    """One pass over the entries, matrix products and sparse products; rows with no entry, a few, and many."""
    random = np.random.default_rng(columns)
    target, mask = random.standard_normal((9, 40)), random.random((9, 40)) < share
    for row in range(6):
        mask[row] = np.arange(40) < row
    entries = Entries.from_dense(np.where(mask, target, np.nan))
    left, right = random.standard_normal((9, columns)), random.standard_normal((40, columns))
    residual = Residual(entries, columns)
    more = ((0, 0), (0, residual.columns - columns))
    by_row, by_col = np.full((9, residual.columns), np.nan), np.full((40, residual.columns), np.nan)
    squares = residual(np.pad(left, more), np.pad(right, more), by_row, by_col)
    expected = np.where(mask, left @ right.T - target, 0)
    np.testing.assert_allclose(squares, (expected**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(by_row, np.pad(expected @ right, more), atol=1e-11)  # sums of numbers of size 10
    np.testing.assert_allclose(by_col, np.pad(expected.T @ left, more), atol=1e-11)


def test_fixed_steps_are_plain_gradient_descent_written_densely() -> None:
    """The fixed-step run against ten lines of dense linear algebra, to the last digits."""
    random = np.random.default_rng(0)
    target = low_rank((30, 30), 2, random) / 6
    entries = sample(target, 0.5, random)
    mask = np.zeros_like(target, bool)
    mask[entries.rows, entries.cols] = True
    network = compressed_network(entries, 2, 3, 0.3, 0.05, random)
    run = descend(entries, network, 0.02, max_iterations=400, tolerance=0)
    factors = list(network.factors)
    for _ in range(400):
        products = [np.eye(30)]
        for factor in factors:
            products.append(factor @ products[-1])
        behind = np.where(mask, products[-1] - target, 0)
        gradients = []
        for layer in range(4, -1, -1):
            gradients.insert(0, behind @ products[layer].T)
            behind = factors[layer].T @ behind
        factors = [f - 0.02 * rate * g for f, rate, g in zip(factors, network.rates, gradients, strict=True)]
    for ours, theirs in zip(run.network.factors, factors, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)  # entries of size 1, 400 steps of rounding
    assert run.residuals[-1] < 0.5, "the run should leave the start"


def test_full_observation_is_deep_factorization() -> None:
    """With all entries observed the descent is that of the dynamics room, and its compression exact."""
    random = np.random.default_rng(1)
    target = low_rank((24, 24), 2, random) / 6
    entries = Entries.from_dense(target)
    full = orthogonal_network((24, 24), 24, 3, 0.3, random)
    run = descend(entries, full, 0.03, max_iterations=150, tolerance=0)
    reference = simulate(Problem(target), list(full.factors), GradientDescent(step=0.03), steps=150, mode="full")
    product = run.network.left @ run.network.right.T
    np.testing.assert_allclose(product, reference.end_to_end(150.0), atol=1e-11)  # entries of size .1
    reduced = simulate(Problem(target), list(full.factors), GradientDescent(step=0.03), steps=150)
    np.testing.assert_allclose(product, reduced.end_to_end(150.0), atol=1e-11)


def test_the_compressed_start_spans_the_invariant_subspaces() -> None:
    random = np.random.default_rng(2)
    target = low_rank((40, 40), 3, random)
    entries = sample(target, 0.6, random)
    full = orthogonal_network((40, 40), 40, 3, 1e-3, random)
    compressed = compressed_network(entries, 3, 3, 1e-3, 0.0, random, full)
    left_vectors, _, right_vectors = entries.leading_svd(entries.values, 3, random)
    right, left = compressed.factors[0].T, compressed.factors[-1]
    product = full.factors[2] @ full.factors[1] @ full.factors[0] / 1e-9
    np.testing.assert_allclose(right.T @ right, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(left, product @ right, atol=1e-9)
    for vectors, basis in ((right_vectors, right), (left_vectors, left), (product.T @ left_vectors, right)):
        np.testing.assert_allclose(basis @ (basis.T @ vectors), vectors, atol=1e-6)  # the start moves them by 1e-9
    drawn = compressed_network(entries, 3, 3, 1e-3, 0.0, random)
    for factor in (drawn.factors[0].T, drawn.factors[-1]):
        np.testing.assert_allclose(factor.T @ factor, np.eye(6), atol=1e-12)
    leading = drawn.factors[-1][:, :3]
    signs = np.sign((leading * left_vectors).sum(axis=0))  # of singular vectors: either will do
    np.testing.assert_allclose(leading * signs, left_vectors, atol=1e-12)


def test_compressed_follows_the_original_and_fixed_outer_factors_stall() -> None:
    random = np.random.default_rng(3)
    target = low_rank((120, 120), 2, random)
    entries = sample(target, 0.3, random)
    largest = float(np.linalg.norm(target, 2))
    step = stable_step(0.3, largest, 3)
    gamma = largest_gamma(step, 0.3, largest, 3) / 2
    full = orthogonal_network((120, 120), 120, 3, 1e-3, random)
    runs = {
        name: descend(entries, network, step, adaptive=True, tolerance=1e-6, max_iterations=3_000)
        for name, network in {
            "full": full,
            "compressed": compressed_network(entries, 2, 3, 1e-3, gamma, random, full),
            "still": compressed_network(entries, 2, 3, 1e-3, 0.0, random, full),
            "spectral": spectral_network(entries, 2, 3, 1e-3, 2.0, random),
            "narrow": orthogonal_network((120, 120), 4, 3, 1e-3, random),
        }.items()
    }
    assert all(runs[name].converged for name in ("full", "compressed", "spectral", "narrow"))
    assert runs["still"].relative_residual > 0.1
    assert 0.9 < runs["compressed"].flow_time / runs["full"].flow_time < 1.1
    assert runs["narrow"].flow_time > 1.5 * runs["compressed"].flow_time


def test_the_adaptive_loss_never_rises_and_skips_the_plateau() -> None:
    random = np.random.default_rng(4)
    target = low_rank((100, 100), 2, random)
    entries = sample(target, 0.4, random)
    found = gradient_descent(entries, rank=2, tolerance=1e-6)
    assert found.converged and relative_error(found, target) < 1e-5
    assert (np.diff(found.run.residuals) <= 1e-12).all()
    fixed = gradient_descent(entries, rank=2, tolerance=1e-6, adaptive=False, max_iterations=100_000, record=500)
    assert fixed.converged and fixed.iterations > 5 * found.iterations
    # Large Euler steps lag behind growth that speeds up, so the adaptive clock runs a little ahead.
    assert 1 <= found.run.flow_time / fixed.run.flow_time <= 1.5


@pytest.mark.parametrize("form", ["compressed", "spectral", "network"])
@pytest.mark.parametrize(("depth", "scale"), [(2, 1e-3), (3, 1e-2), (4, 1e-1)])
def test_every_form_and_depth_recovers_a_rectangular_matrix(form, depth: int, scale: float) -> None:
    random = np.random.default_rng(5)
    target = low_rank((60, 90), 2, random)
    entries = sample(target, 0.5, random)
    found = gradient_descent(entries, rank=2, depth=depth, form=form, scale=scale, tolerance=1e-4, max_iterations=8_000)
    assert found.converged and found.relative_residual <= 1e-4
    assert relative_error(found, target) < 1e-3
    np.testing.assert_allclose(found.U.T @ found.U, np.eye(found.U.shape[1]), atol=1e-10)
    if depth == 3:
        assert (found.rank, found.sure) == (2, True)


def test_the_stability_law_of_the_step() -> None:
    """Near the solution the network is stable below 2 / (L s^(2 - 2/L)): the law at gamma = 0, all observed."""
    random = np.random.default_rng(6)
    target = low_rank((20, 20), 1, random) / 5
    entries = Entries.from_dense(target)
    limit = 2 * stable_step(1.0, float(np.linalg.norm(target, 2)), 3)
    start = orthogonal_network((20, 20), 20, 3, 0.05, random)
    below = descend(entries, start, 0.95 * limit, tolerance=1e-3, max_iterations=5_000)
    above = descend(entries, start, 1.05 * limit, tolerance=1e-3, max_iterations=5_000)
    assert below.converged
    assert not above.converged and above.residuals[-100:].min() > 1e-2
    with pytest.raises(NonFiniteError, match="diverged after"):
        descend(entries, start, 30 * limit, max_iterations=5_000)


@pytest.mark.parametrize(("depth", "gamma", "scale"), [(3, 0.1, 0.02), (2, 1.0, 1e-3), (2, 0.02, 1e-3)])
def test_the_stability_law_of_gamma(depth: int, gamma: float, scale: float) -> None:
    """All entries seen: the largest eigenvalue of the Hessian where a run from near zero with small steps ends."""
    random = np.random.default_rng(7)
    target = low_rank((40, 40), 2, random) / 10
    entries = Entries.from_dense(target)
    law = curvature(float(np.linalg.norm(target, 2)), depth, gamma)
    start = compressed_network(entries, 2, depth, scale, gamma, random)
    run = descend(entries, start, 0.5 / law, tolerance=1e-5, max_iterations=10_000)
    assert run.converged
    assert sharpness(entries, run.network, random) == pytest.approx(law, rel=5e-3)


@pytest.mark.parametrize(
    ("form", "gamma"), [("compressed", 0.01), ("compressed", 0.5), ("spectral", 4.0), ("network", None)]
)
def test_the_default_fixed_step_suits_the_rates(form, gamma) -> None:
    random = np.random.default_rng(8)
    target = low_rank((60, 60), 2, random)
    entries = sample(target, 0.6, random)
    options = {"rank": 2, "form": form, "gamma": gamma, "scale": 0.05, "adaptive": False, "tolerance": 1e-5}
    found = gradient_descent(entries, **options, max_iterations=4_000, record=1_000)
    assert found.converged and relative_error(found, target) < 1e-4


def test_runs_are_bit_identical() -> None:
    random = np.random.default_rng(8)
    entries = sample(low_rank((50, 40), 2, random), 0.5, random)
    one, two = (gradient_descent(entries, rank=3, max_iterations=300, random_state=4) for _ in range(2))
    np.testing.assert_array_equal(one.U, two.U)
    np.testing.assert_array_equal(one.run.residuals, two.run.residuals)
    other = gradient_descent(entries, rank=3, max_iterations=300, random_state=5)
    assert not np.array_equal(one.U, other.U)


def test_a_stall_is_not_called_on_the_initial_plateau() -> None:
    """A tiny step keeps the loss flat for thousands of iterations; the run must go on."""
    random = np.random.default_rng(9)
    entries = sample(low_rank((40, 40), 1, random), 0.5, random)
    found = gradient_descent(entries, rank=1, step=1e-9, tolerance=1e-6, max_iterations=3_000)
    assert found.converged and not found.run.stalled


def test_noise_ends_in_a_stall_with_an_unsure_answer() -> None:
    random = np.random.default_rng(10)
    target = low_rank((40, 40), 1, random)
    entries = sample(target + 0.1 * random.standard_normal((40, 40)), 0.5, random)
    found = gradient_descent(entries, rank=1, max_iterations=20_000)
    assert found.run.stalled and not found.converged and not found.sure


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be from 1 to 3"),
        ({"rank": 4}, "rank must be from 1 to 3"),
        ({"rank": 1, "depth": 1}, "at least 2 factors"),
        ({"rank": 1, "scale": 0.0}, "scale of the start must be > 0"),
        ({"rank": 1, "step": -1.0}, "step must be > 0"),
        ({"rank": 1, "form": "compresed"}, "compressed"),
    ],
)
def test_unusable_options_are_refused(options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gradient_descent(Entries.from_dense(np.ones((3, 5))), **options)


def test_all_zero_entries_are_refused() -> None:
    with pytest.raises(UsageError, match="zero matrix"):
        gradient_descent(Entries.from_dense(np.zeros((3, 5))), rank=1)


def test_stability_law_by_hand() -> None:
    # L = 2, s = 4, gamma = 3/4: (1 + 3/4 w^2) w^2 = 4 is a quadratic equation
    w2 = (-1 + np.sqrt(1 + 4 * 0.75 * 4)) / (2 * 0.75)
    assert curvature(4.0, 2, 0.75) == pytest.approx(2 * 16 / w2 + 1.5 * 16 / (1 + 0.75 * w2))
    gamma = largest_gamma(0.01, 0.5, 4.0, 2)
    assert 0.01 * 0.5 * curvature(4.0, 2, gamma) == pytest.approx(2)
    assert largest_gamma(1.0, 0.5, 4.0, 2) == 0, "too large for the inner factors alone"
    assert stable_step(0.5, 4.0, 2) == pytest.approx(1 / (0.5 * 2 * 4))


def test_a_row_with_fewer_entries_than_the_rank_is_not_sure() -> None:
    random = np.random.default_rng(3)
    matrix = low_rank((40, 30), 2, random)
    observed = random.random(matrix.shape) < 0.6
    assert gradient_descent(Entries.from_dense(np.where(observed, matrix, np.nan)), rank=2).sure
    observed[5] = False
    observed[5, 3] = True
    found = gradient_descent(Entries.from_dense(np.where(observed, matrix, np.nan)), rank=2)
    assert (found.converged, found.rank, found.sure) == (True, 2, False)
    assert "some row or column has only 1" in found.reason
