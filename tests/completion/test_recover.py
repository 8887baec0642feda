import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowdim.completion.entries import Entries
from lowdim.completion.solvers.exact import _recover as recovery
from lowdim.completion.solvers.exact import _tangent as tangent
from lowdim.completion.solvers.exact._recover import recover
from lowdim.completion.solvers.exact._stages import balance, polish, reweighted
from lowdim.errors import UsageError

from .planted import low_rank, relative_error, sample, sample_with_least


def drawn(seed: int, m: int, n: int, k: int) -> tuple[Entries, np.ndarray, np.random.Generator]:
    random = np.random.default_rng(seed)
    mask = random.random((m, n)) < 0.6
    mask[0, 0] = True
    return Entries.from_dense(np.where(mask, random.standard_normal((m, n)), np.nan)), mask, random


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8), st.integers(1, 4))
def test_tangent_products_match_their_dense_definition(seed: int, m: int, n: int, k: int) -> None:
    entries, mask, random = drawn(seed, m, n, k)
    C, L = random.standard_normal((2, m, k))
    R, A = random.standard_normal((2, n, k))
    packs = np.concatenate([C, L], 1), np.concatenate([R, A], 1)
    dense = np.where(mask, C @ R.T + L @ A.T, 0)
    by_row, by_col, residual = np.empty((m, k)), np.empty((n, k)), np.empty(entries.size)
    tangent.tangent_products(entries.row_start, entries.cols, *packs, by_row, by_col)
    np.testing.assert_allclose(by_row, dense @ R, atol=1e-12)  # sums of at most 64 numbers of size 1
    np.testing.assert_allclose(by_col, dense.T @ L, atol=1e-12)
    tangent.tangent_residual(entries.row_start, entries.cols, entries.values, *packs, residual)
    np.testing.assert_allclose(residual, entries.values - dense[entries.rows, entries.cols], atol=1e-12)
    blocks = np.empty((m, k, k))
    tangent.gram_blocks(entries.row_start, entries.cols, R, 0.5, blocks)
    expected = [R[mask[i]].T @ R[mask[i]] + 0.5 * np.eye(k) for i in range(m)]
    np.testing.assert_allclose(blocks, expected, atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_the_weighted_step_solves_its_normal_equations(seed: int) -> None:
    """Against the dense matrix of the operator, assembled column by column from its definition."""
    m, n, k = 7, 6, 2
    entries, mask, random = drawn(seed, m, n, k)
    U, V = np.linalg.qr(random.standard_normal((m, k)))[0], np.linalg.qr(random.standard_normal((n, k)))[0]
    s = np.array([2.0, 1.0])
    sizes = k * k, m * k, n * k
    weights = np.concatenate([random.random(k * k) + 0.1, np.tile(random.random(k) + 0.1, m + n)])

    def parts(g: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        G, B, A = np.split(g, np.cumsum(sizes)[:-1])
        B, A = B.reshape(m, k), A.reshape(n, k)
        return G.reshape(k, k), B - U @ (U.T @ B), A - V @ (V.T @ A)

    def matrix(g: np.ndarray) -> np.ndarray:
        G, B, A = parts(g)
        return U @ G @ V.T + B @ V.T + U @ A.T

    def adjoint(S: np.ndarray) -> np.ndarray:
        return np.concatenate([part.ravel() for part in parts(
            np.concatenate([(U.T @ S @ V).ravel(), (S @ V).ravel(), (S.T @ U).ravel()]))])  # fmt: skip

    C, A, residual = tangent.solve_weighted(
        entries.row_start, entries.cols, entries.values, U, V, s, weights, 0.6, 1e-12, 500
    )
    found = C @ V.T + U @ A.T
    observed = np.zeros((m, n))
    observed[entries.rows, entries.cols] = entries.values
    np.testing.assert_allclose(residual, (observed - found)[entries.rows, entries.cols], atol=1e-10)
    g = np.concatenate([(U.T @ C).ravel(), (C - U @ (U.T @ C)).ravel(), A.ravel()])
    left = np.concatenate([part.ravel() for part in parts(weights * g)]) + adjoint(np.where(mask, matrix(g), 0))
    np.testing.assert_allclose(left, adjoint(observed), atol=1e-8)  # right-hand sides of size 1


@given(st.integers(0, 2**32 - 1))
def test_the_damped_step_is_the_gauss_newton_step(seed: int) -> None:
    m, n, k, damping = 6, 5, 2, 0.3
    entries, _, random = drawn(seed, m, n, k)
    L, R = random.standard_normal((m, k)), random.standard_normal((n, k))
    jacobian = np.zeros((entries.size, (m + n) * k))
    for t, (i, j) in enumerate(zip(entries.rows, entries.cols, strict=True)):
        jacobian[t, i * k : (i + 1) * k] = R[j]
        jacobian[t, (m + j) * k : (m + j + 1) * k] = L[i]
    normal = jacobian.T @ jacobian + damping * np.eye((m + n) * k)
    expected = np.linalg.solve(normal, jacobian.T @ entries.values)
    blocks = [np.linalg.inv(normal[a : a + k, a : a + k]) for a in range(0, (m + n) * k, k)]
    C, A = tangent.solve_damped(
        entries.row_start, entries.cols, entries.values, L, R,
        np.array(blocks[:m]), np.array(blocks[m:]), damping, 200, 1e-24,
    )  # fmt: skip
    np.testing.assert_allclose(np.concatenate([C.ravel(), A.ravel()]), expected, atol=1e-7)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_balance_keeps_the_product(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    left, right = random.standard_normal((6, k)), random.standard_normal((5, k))
    one, two = balance(left, right)
    np.testing.assert_allclose(one @ two.T, left @ right.T, atol=1e-12)
    np.testing.assert_allclose(one.T @ one, two.T @ two, atol=1e-12)
    gram = one.T @ one
    np.testing.assert_allclose(gram, np.diag(np.diagonal(gram)), atol=1e-12)
    np.testing.assert_allclose(np.diagonal(gram), np.linalg.svd(left @ right.T)[1][:k], atol=1e-12)


def test_polish_finds_the_matrix_from_nearby_and_reports_where_it_cannot() -> None:
    random = np.random.default_rng(0)
    target = low_rank((60, 50), 3, random)
    entries = sample(target, 0.4, random)
    U, s, Vt = np.linalg.svd(target + 0.2 * random.standard_normal(target.shape))
    root = np.sqrt(s[:3])
    polished = polish(entries, U[:, :3] * root, Vt[:3].T * root)
    assert polished.relative_residual < 1e-8
    np.testing.assert_allclose(polished.left @ polished.right.T, target, atol=1e-6)  # entries of size 1
    short = polish(entries, U[:, :2] * root[:2], Vt[:2].T * root[:2])
    assert short.relative_residual > 0.1


def test_the_reweighting_keeps_to_the_entries_and_lowers_the_tail() -> None:
    random = np.random.default_rng(1)
    target = low_rank((60, 60), 2, random)
    entries = sample(target, 0.4, random)
    first, last = (list(reweighted(entries, 5, 3, 0.8, 40, (0,)))[place] for place in (0, -1))
    assert last.values[2] / last.values[1] < 1e-3 < first.values[2] / first.values[1]
    product = (last.left * last.values) @ last.right.T
    np.testing.assert_allclose(product[entries.rows, entries.cols], entries.values, atol=1e-2)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("oversampling", [1.3, 2.0])
def test_recovery_with_the_rank_unknown(seed: int, oversampling: float) -> None:
    random = np.random.default_rng(seed)
    target = low_rank((150, 120), 4, random, condition=10)
    entries = sample_with_least(target, int(oversampling * 4 * (270 - 4)), 5, random)
    found = recover(entries, rank_bound=8, random_state=seed)
    assert (found.rank, found.converged, found.sure) == (4, True, True), found.reason
    assert relative_error(found, target) < 1e-5
    np.testing.assert_allclose(found.singular_values, np.linalg.svd(target)[1][:4], rtol=1e-4)
    np.testing.assert_allclose(found.U.T @ found.U, np.eye(4), atol=1e-10)


def test_depth_is_the_regulariser_that_recovers() -> None:
    """Depth 2 is the nuclear norm, which needs more entries than 1.5 per degree of freedom."""
    random = np.random.default_rng(3)
    target = low_rank((100, 100), 3, random, condition=100)
    entries = sample_with_least(target, int(1.5 * 3 * 197), 4, random)
    for depth in (3, 4):
        found = recover(entries, rank=3, depth=depth)
        assert relative_error(found, target) < 1e-4 and found.sure
    shallow = recover(entries, rank=3, depth=2)
    assert relative_error(shallow, target) > 1e-2 and not shallow.converged and not shallow.sure


@settings(max_examples=8)
@given(st.integers(0, 10_000), st.sampled_from([1.05, 1.1, 1.15, 1.2, 1.3]))
def test_no_sure_answer_is_wrong(seed: int, oversampling: float) -> None:
    random = np.random.default_rng(seed)
    target = low_rank((80, 80), 3, random, condition=10)
    entries = sample_with_least(target, int(oversampling * 3 * 157), 4, random)
    found = recover(entries, rank_bound=6)
    if found.sure:
        assert found.rank == 3 and relative_error(found, target) < 1e-3


def test_too_few_entries_or_noise_are_not_called_sure() -> None:
    random = np.random.default_rng(4)
    target = low_rank((60, 60), 3, random)
    few = sample(target, 0.8 * 3 * 117 / 3600, random)
    found = recover(few, rank_bound=6)
    assert not found.sure and "entries per degree of freedom" in found.reason
    noisy = recover(sample(target + 0.1 * random.standard_normal((60, 60)), 0.5, random), rank_bound=6)
    assert not noisy.converged and not noisy.sure


def test_a_row_with_too_few_entries_is_not_called_sure() -> None:
    random = np.random.default_rng(5)
    target = low_rank((40, 40), 2, random)
    mask = random.random((40, 40)) < 0.6
    mask[0] = False
    mask[0, 3] = True
    found = recover(Entries.from_dense(np.where(mask, target, np.nan)), rank_bound=4)
    assert found.rank == 2 and found.converged and not found.sure


def test_degenerate_matrices() -> None:
    zero = recover(Entries.from_dense(np.where(np.eye(4) == 1, np.nan, 0.0)))
    assert (zero.rank, zero.converged, zero.sure) == (0, True, False) and zero.U.shape == (4, 0)
    constant = recover(Entries.from_dense(np.where(np.eye(8) == 1, np.nan, 3.0)))
    assert constant.rank == 1 and relative_error(constant, np.full((8, 8), 3.0)) < 1e-8
    row = recover(Entries.from_dense([[1.0, float("nan"), 2.0]]))
    assert row.rank == 1 and not row.sure
    np.testing.assert_allclose((row.U * row.singular_values @ row.V.T)[0, [0, 2]], [1.0, 2.0], atol=1e-6)


def test_two_runs_are_bit_identical() -> None:
    random = np.random.default_rng(6)
    entries = sample(low_rank((50, 50), 2, random), 0.4, random)
    one, two = recover(entries, random_state=1), recover(entries, random_state=1)
    np.testing.assert_array_equal(one.U, two.U)
    np.testing.assert_array_equal(one.singular_values, two.singular_values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be at least 1 and below 4"),
        ({"rank": 4}, "rank must be at least 1 and below 4"),
        ({"rank_bound": 9}, "rank_bound must be"),
        ({"depth": 1}, "depth must be at least 2"),
    ],
)
def test_unusable_options_are_refused(options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recover(Entries.from_dense(np.ones((4, 5))), **options)


@pytest.mark.parametrize("patient", [True, False])
def test_a_brief_search_recovers_too_and_sooner_gives_up_on_noise(
    patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not patient:
        monkeypatch.setattr(recovery, "PATIENT", 0)
    random = np.random.default_rng(5)
    matrix = low_rank((100, 90), 2, random)
    entries = sample_with_least(matrix, 600, 3, random)
    found = recover(entries, rank_bound=6, brief=True)
    assert found.sure
    assert relative_error(found, matrix) < 1e-5
    noisy = entries.with_values(entries.values + 0.2 * random.standard_normal(entries.size))
    given_up = recover(noisy, rank_bound=6, brief=True)
    assert not given_up.sure
    assert given_up.iterations < recover(noisy, rank_bound=6).iterations
    assert patient or given_up.iterations <= 100


@pytest.mark.parametrize(("residual", "plans"), [(1e-5, 4), (1e-3, 2)])
def test_a_brief_search_goes_on_where_something_nearly_fits(
    residual: float, plans: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = []

    def follow(search: recovery._Search, plan: recovery.Plan, *_: object) -> bool:
        followed.append(plan)
        search.best = recovery.Polished(np.ones((20, 1)), np.ones((20, 1)), residual, 0)
        return False

    monkeypatch.setattr(recovery._Search, "follow", follow)
    recover(Entries.from_dense(np.ones((20, 20))), brief=True)
    assert len(followed) == plans


def test_the_reason_names_a_row_with_too_few_entries() -> None:
    random = np.random.default_rng(3)
    matrix = low_rank((40, 30), 2, random)
    observed = random.random(matrix.shape) < 0.6
    observed[5] = False
    observed[5, 3] = True
    found = recover(Entries.from_dense(np.where(observed, matrix, np.nan)), rank=2)
    assert (found.converged, found.sure) == (True, False)
    assert "some row or column has only 1" in found.reason
