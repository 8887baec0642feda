"""Alternating least squares: the kernel against dense solves, the search for rank and decay, noise against the oracle."""

import numpy as np
import pytest

from lowdim.completion import DeepMatrixCompletion
from lowdim.completion.entries import Entries
from lowdim.completion.entries._least_squares import pair_products, solve_rows
from lowdim.completion.solvers import _als
from lowdim.completion.solvers._als import TwoOrders, balanced, solve_als, spectral_start
from lowdim.completion.solvers._solver import Settings, hold_out


def planted(m: int, n: int, rank: int, share: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, Entries]:
    """A low-rank matrix with entries of unit variance, where it is observed, and its noisy entries."""
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(m, rank)) @ generator.normal(size=(rank, n)) / np.sqrt(rank)
    observed = generator.random((m, n)) < share
    noisy = matrix + noise * generator.normal(size=(m, n))
    return matrix, observed, Entries.from_dense(np.where(observed, noisy, np.nan))


def relative_error(completed: np.ndarray, matrix: np.ndarray) -> float:
    return float(np.linalg.norm(completed - matrix) / np.linalg.norm(matrix))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-3), (np.float64, 1e-6)])
@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_rows_are_solved_as_by_dense_least_squares(biased: bool, dtype: type, tolerance: float, k: int) -> None:
    _, _, entries = planted(30, 400, 4, 0.6, 1.0, seed=k)  # up to 260 entries in a row: three tiles
    generator = np.random.default_rng(k)
    right = generator.normal(size=(400, k)).astype(dtype)
    decay = generator.uniform(0.1, 2, k).astype(dtype)
    out = np.empty((30, k), dtype)
    solve_rows(entries.row_start, entries.cols, entries.values.astype(dtype), right, decay, biased=biased, out=out)
    for i in range(30):
        part = slice(entries.row_start[i], entries.row_start[i + 1])
        features, target = right[entries.cols[part]].astype(float), entries.values[part].copy()
        if biased:
            target -= features[:, -1]
            features[:, -1] = 1.0
        gram = features.T @ features + np.diag(decay)
        expected = np.linalg.solve(gram, features.T @ target)
        np.testing.assert_allclose(out[i], expected, rtol=tolerance, atol=tolerance)


def test_a_row_without_entries_is_zero() -> None:
    entries = Entries.from_triplets([0, 2], [1, 0], [1.0, 2.0], (3, 2))
    out = np.full((3, 2), np.nan)
    solve_rows(entries.row_start, entries.cols, entries.values, np.eye(2), np.zeros(2), biased=False, out=out)
    np.testing.assert_allclose(out, [[0, 1], [0, 0], [2, 0]], atol=1e-9)


def test_pair_products() -> None:
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(5, 3)), generator.normal(size=(4, 3))
    rows, cols = np.array([0, 4, 2]), np.array([3, 0, 1])
    np.testing.assert_allclose(pair_products(left, right, rows, cols, False), (left @ right.T)[rows, cols])
    expected = (left[:, :2] @ right[:, :2].T + left[:, 2:] + right[:, 2])[rows, cols]
    np.testing.assert_allclose(pair_products(left, right, rows, cols, True), expected)


def test_balancing_keeps_the_product_and_gives_its_singular_values() -> None:
    generator = np.random.default_rng(1)
    left, right = generator.normal(size=(50, 4)), 100 * generator.normal(size=(30, 4))
    first, second, sizes = balanced(left, right, False)
    np.testing.assert_allclose(first @ second.T, left @ right.T, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(sizes, np.linalg.svd(left @ right.T, compute_uv=False)[:4], rtol=1e-9)
    np.testing.assert_allclose(first.T @ first, np.diag(sizes), atol=1e-9 * sizes[0])
    np.testing.assert_allclose(second.T @ second, np.diag(sizes), atol=1e-9 * sizes[0])
    biased, _, _ = balanced(left, right, True)
    np.testing.assert_array_equal(biased[:, -1], left[:, -1])


def test_exact_matrices_are_recovered_at_the_given_rank() -> None:
    matrix, _, entries = planted(400, 300, 4, 0.2, 0.0, seed=2)
    settings = Settings(rank=4, tolerance=1e-8, iterations=200, biases=False)
    solved = solve_als(entries, hold_out(entries, 0.1, 0), settings)
    assert solved.completion.converged
    assert relative_error(solved.completion.complete(entries), matrix) < 1e-7


def test_rank_is_found() -> None:
    matrix, _, entries = planted(500, 300, 6, 0.3, 0.05, seed=3)
    solved = solve_als(entries, hold_out(entries, 0.1, 0), Settings())
    assert solved.completion.factors[0].shape[1] == 6
    assert relative_error(solved.completion.complete(entries), matrix) < 0.05


@pytest.mark.parametrize("decibel", [20, 40])
def test_noise_costs_little_more_than_for_an_oracle_that_knows_the_subspaces(decibel: int) -> None:
    noise = 10 ** (-decibel / 20)
    matrix, observed, entries = planted(400, 300, 5, 0.25, noise, seed=decibel)
    solved = solve_als(entries, hold_out(entries, 0.1, 0), Settings())
    error = relative_error(solved.completion.complete(entries), matrix)
    assert error < 1.1 * oracle_error(matrix, observed, entries, 5)


def oracle_error(matrix: np.ndarray, observed: np.ndarray, entries: Entries, rank: int) -> float:
    """Least squares over the tangent space at the truth: U A^T + B V^T with the true U and V."""
    from scipy.sparse.linalg import LinearOperator, lsqr

    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    left, right = left[:, :rank], right[:rank].T
    (m, n), rows, cols = matrix.shape, entries.rows, entries.cols

    def forward(x: np.ndarray) -> np.ndarray:
        a, b = x[: n * rank].reshape(n, rank), x[n * rank :].reshape(m, rank)
        return (left[rows] * a[cols]).sum(1) + (b[rows] * right[cols]).sum(1)

    def adjoint(y: np.ndarray) -> np.ndarray:
        a, b = np.zeros((n, rank)), np.zeros((m, rank))
        np.add.at(a, cols, y[:, None] * left[rows])
        np.add.at(b, rows, y[:, None] * right[cols])
        return np.concatenate([a.ravel(), b.ravel()])

    operator = LinearOperator((entries.size, (m + n) * rank), matvec=forward, rmatvec=adjoint, dtype=float)
    x = lsqr(operator, entries.values, atol=1e-10, btol=1e-10)[0]
    fitted = left @ x[: n * rank].reshape(n, rank).T + x[n * rank :].reshape(m, rank) @ right.T
    return relative_error(fitted, matrix)


def test_decay_helps_where_entries_are_few_and_noisy() -> None:
    matrix, _, entries = planted(300, 200, 5, 0.15, 0.8, seed=5)
    solved = solve_als(entries, hold_out(entries, 0.1, 0), Settings(rank=5))
    problem, none = TwoOrders.of(entries, 0.0), np.zeros(5)
    left, right = spectral_start(problem, 5, None, 0)
    for _ in range(30):
        left, right, _ = balanced(left, right, False)
        solve_rows(problem.row_start, problem.cols, problem.by_row, right, none, biased=False, out=left)
        solve_rows(problem.col_start, problem.rows, problem.by_col, left, none, biased=False, out=right)
    completed = solved.completion.complete(entries)
    assert relative_error(completed, matrix) < 0.9 * relative_error(left @ right.T, matrix)


@pytest.mark.parametrize("seed", [60, 62, 64])
def test_the_best_decay_is_found_on_the_plateau_whichever_side_is_longer(seed: int) -> None:
    matrix, observed, entries = planted(800, 60, 3, 0.2, 1.2, seed)
    errors: list[float] = []
    for given in (entries, entries.transpose()):
        solved = solve_als(given, hold_out(given, 0.1, 0), Settings(rank=3, biases=False))
        completed = solved.completion.complete(given)
        completed = completed if given is entries else completed.T
        errors.append(float(np.linalg.norm((completed - matrix)[~observed]) / np.linalg.norm(matrix[~observed])))
    assert max(errors) < 0.7  # where the first strengths, which do nothing there, ended the search: up to .8
    np.testing.assert_allclose(errors[0], errors[1], rtol=0.02)


def test_biases_are_fitted_jointly() -> None:
    generator = np.random.default_rng(6)
    matrix, observed, _ = planted(300, 200, 2, 0.3, 0.0, seed=6)
    matrix = 50 + matrix + 3 * generator.normal(size=(300, 1)) + 2 * generator.normal(size=200)
    entries = Entries.from_dense(np.where(observed, matrix, np.nan))
    settings = Settings(rank=2, tolerance=1e-7, iterations=300)
    solved = solve_als(entries, hold_out(entries, 0.1, 0), settings)
    assert solved.completion.biased
    error = solved.completion.complete(entries) - matrix
    assert np.sqrt(np.mean(error**2)) < 1e-3


def test_single_precision_reaches_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_als, "SINGLE_PRECISION_SIZE", 0)
    matrix, _, entries = planted(1500, 1000, 10, 0.06, 0.0, seed=7)
    solved = solve_als(entries, hold_out(entries, 0.1, 0), Settings(rank=10, biases=False))
    assert solved.completion.left.dtype == np.float32
    assert solved.completion.converged
    assert relative_error(solved.completion.complete(entries), matrix) < 1e-4


def test_a_short_fit_says_that_it_has_not_converged() -> None:
    _, _, entries = planted(400, 300, 5, 0.1, 0.0, seed=8)
    solved = solve_als(entries, hold_out(entries, 0.1, 0), Settings(rank=5, iterations=3))
    assert not solved.completion.converged
    assert solved.completion.iterations == 3


def test_rows_of_the_training_matrix_are_completed_as_new_ones() -> None:
    _, _, entries = planted(200, 100, 3, 0.3, 0.1, seed=9)
    solved = solve_als(entries, hold_out(entries, 0.1, 0), Settings())
    rows, cols = np.array([0, 50, 199]), np.array([3, 99, 0])
    completed = solved.completion.complete(entries)
    np.testing.assert_allclose(solved.completion.predict(rows, cols), completed[rows, cols], rtol=1e-9)


def test_deviations_cover_new_observations() -> None:
    matrix, observed, entries = planted(600, 400, 4, 0.3, 0.3, seed=10)
    solved = solve_als(entries, hold_out(entries, 0.1, 0), Settings())
    rows, cols = np.nonzero(~observed)
    fresh = matrix[rows, cols] + 0.3 * np.random.default_rng(11).normal(size=rows.size)
    width = 1.6449 * solved.completion.deviation(rows, cols) * solved.held_out.calibration
    assert 0.88 <= np.mean(np.abs(solved.completion.predict(rows, cols) - fresh) <= width) <= 0.92


def test_rows_in_another_order_with_the_same_entries_held_out_give_the_same_answer() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(80, 2)) @ generator.normal(size=(2, 40)) + 0.2 * generator.normal(size=(80, 40))
    matrix[generator.random(matrix.shape) < 0.4] = np.nan
    entries = Entries.from_dense(matrix)
    held = hold_out(entries, 0.1, 0)
    cells = np.zeros(matrix.shape, bool)
    cells[entries.rows[held], entries.cols[held]] = True
    order = generator.permutation(80)
    other = Entries.from_dense(matrix[order])
    first, second = (
        solve_als(these, chosen, Settings()).completion.complete(these)
        for these, chosen in ((entries, held), (other, cells[order][other.rows, other.cols]))
    )
    np.testing.assert_allclose(second, first[order], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_last_fit_ends_only_where_nothing_to_speak_of_is_left(seed: int) -> None:
    matrix, observed, entries = planted(200, 500, 3, 0.0525, 0.1, seed)
    model = DeepMatrixCompletion(solver="als", rank=3, biases=False, warm_start=True)
    errors: list[float] = []
    for _ in range(10):
        completed = model.fit(entries).predict(*np.nonzero(~observed))
        errors.append(relative_error(completed, matrix[~observed]))
    assert errors[0] == pytest.approx(errors[-1], rel=5e-3)


@pytest.mark.filterwarnings("ignore:This matrix is not low-rank")
def test_held_out_entries_are_predicted_under_the_strength_that_they_choose() -> None:
    ratios: list[float] = []
    for seed in range(6):
        matrix, observed, entries = planted(200, 500, 3, 0.063, 1.0, seed)
        model = DeepMatrixCompletion(solver="als", rank=3, biases=False).fit(entries)
        away = (model.predict(*np.nonzero(~observed)) - matrix[~observed]) ** 2
        ratios.append(model.held_out_error_ / float(np.sqrt(away.mean() + 1.0)))
    assert np.mean(ratios) == pytest.approx(1, abs=0.03), ratios


@pytest.mark.filterwarnings("ignore:This matrix is not low-rank")
def test_the_last_fit_goes_on_where_the_decay_makes_its_residual_rise() -> None:
    errors: list[float] = []
    for seed in range(3):  # three entries per degree of freedom, noise as large as they are
        matrix, observed, entries = planted(100, 1200, 5, 0.1625, 1.0, seed)
        model = DeepMatrixCompletion(solver="als", rank=5, biases=False).fit(entries)
        errors.append(relative_error(model.predict(*np.nonzero(~observed)), matrix[~observed]))
    assert np.mean(errors) < 0.67, errors  # 0.64; 0.70 where it ended after three sweeps
