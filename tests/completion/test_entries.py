import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from lowdim import _compiled
from lowdim.completion.entries import Entries
from lowdim.completion.entries._entries import LARGEST_SIDE
from lowdim.errors import InputError, NonFiniteError


@st.composite
def masked_matrices(draw: st.DrawFn) -> np.ndarray:
    """Small matrices with NaN holes and at least one entry."""
    m, n = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    matrix = np.where(rng.random((m, n)) < draw(st.floats(0.1, 1)), rng.integers(-2, 3, (m, n)), np.nan)
    matrix[rng.integers(m), rng.integers(n)] = 1.5
    return matrix


def dense(entries: Entries) -> np.ndarray:
    matrix = np.full(entries.shape, np.nan)
    matrix[entries.rows, entries.cols] = entries.values
    return matrix


def same(a: Entries, b: Entries) -> None:
    assert a.shape == b.shape
    for name in ("rows", "cols", "values", "row_start", "col_start", "col_rows"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@given(masked_matrices(), st.randoms(use_true_random=False))
def test_all_forms_of_input_give_the_same_entries(matrix: np.ndarray, random) -> None:
    entries = Entries.from_dense(matrix)
    np.testing.assert_array_equal(dense(entries), matrix)
    order = list(range(entries.size))
    random.shuffle(order)
    rows, cols, values = entries.rows[order], entries.cols[order], entries.values[order]
    same(Entries.from_triplets(rows, cols, values, entries.shape), entries)
    same(Entries.from_sparse(scipy.sparse.coo_array((values, (rows, cols)), shape=entries.shape)), entries)
    np.testing.assert_array_equal(entries.row_counts, (~np.isnan(matrix)).sum(1))
    np.testing.assert_array_equal(entries.col_counts, (~np.isnan(matrix)).sum(0))


@given(masked_matrices())
def test_column_order_is_the_row_order_of_the_transpose(matrix: np.ndarray) -> None:
    entries, transposed = Entries.from_dense(matrix), Entries.from_dense(matrix.T)
    same(entries.transpose(), transposed)
    np.testing.assert_array_equal(entries.col_rows, transposed.cols)
    np.testing.assert_array_equal(entries.col_start, transposed.row_start)


@given(masked_matrices(), st.integers(0, 2**32 - 1))
def test_select_is_masking(matrix: np.ndarray, seed: int) -> None:
    entries = Entries.from_dense(matrix)
    keep = np.random.default_rng(seed).random(entries.size) < 0.5
    selected = entries.select(keep)
    expected = matrix.copy()
    expected[entries.rows[~keep], entries.cols[~keep]] = np.nan
    np.testing.assert_array_equal(dense(selected), expected)
    np.testing.assert_array_equal(selected.row_counts, (~np.isnan(expected)).sum(1))
    np.testing.assert_array_equal(selected.col_counts, (~np.isnan(expected)).sum(0))


def test_sizes_by_hand() -> None:
    entries = Entries.from_triplets([0, 0, 1], [0, 2, 1], [1, 0, 3])
    assert (entries.size, entries.shape, entries.density) == (3, (2, 3), 0.5)
    assert entries.oversampling(1) == 3 / 4
    assert entries.with_values(np.array([4.0, 5.0, 6.0])).transpose().values.tolist() == [4.0, 6.0, 5.0]


def test_an_observed_zero_is_an_entry() -> None:
    sparse = scipy.sparse.csr_array(([0.0, 2.0], ([0, 1], [1, 0])), shape=(2, 2))
    assert Entries.from_sparse(sparse).values.tolist() == [0.0, 2.0]


def test_a_repeated_triplet_is_kept_once_and_a_contradiction_is_named() -> None:
    assert Entries.from_triplets([1, 0, 1], [1, 0, 1], [2.0, 3.0, 2.0]).values.tolist() == [3.0, 2.0]
    with pytest.raises(InputError, match=r"row 1, column 1 comes with 2.0 and again with 4.0 \(1 such\)"):
        Entries.from_triplets([1, 0, 1], [1, 0, 1], [2.0, 3.0, 4.0])


def test_repeats_among_many_rows_are_dropped_wherever_they_stand() -> None:
    generator = np.random.default_rng(0)
    rows, cols = (
        generator.integers(0, 30, 2_000),
        generator.integers(0, 20, 2_000),
    )  # 600 places, most of them several times
    matrix = generator.normal(size=(30, 20)).astype(np.float32)
    entries = Entries.from_triplets(rows, cols, matrix[rows, cols], matrix.shape)
    expected = np.full(matrix.shape, np.nan)
    expected[rows, cols] = matrix[rows, cols]
    same(entries, Entries.from_dense(expected))


def test_a_position_stored_twice_in_a_sparse_matrix_is_refused() -> None:
    twice = scipy.sparse.coo_array(([1.0, 1.0], ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(InputError, match="row 0, column 1"):
        Entries.from_sparse(twice)


@pytest.mark.parametrize(
    ("rows", "cols", "values", "message"),
    [
        ([0, -1], [0, 0], [1, 1], "Entry 1 has row -1, outside 0..1"),
        ([0, 2], [0, 0], [1, 1], "Entry 1 has row 2, outside 0..1"),
        ([0, 1], [0, 3], [1, 1], "Entry 1 has column 3, outside 0..2"),
        ([0, 2**32], [0, 0], [1, 1], "Entry 1 has row 4294967296"),
        (np.array([0, 2**64 - 1], np.uint64), [0, 0], [1, 1], "Entry 1 has row 18446744073709551615"),
        ([0.0, 1.0], [0, 0], [1, 1], "rows must be integers, but the array has dtype float64"),
        (["a", "b"], [0, 0], [1, 1], "rows must be integers"),
        ([0, 1], [0, 0], [1], "2 rows, 2 columns and 1 values"),
        ([0, 1], [0, 0], ["1", "x"], "values must hold real numbers"),
        ([0, 1], [0, 0], [1j, 1], "values must hold real numbers"),
        ([], [], [], "no observed entry"),
    ],
)
def test_bad_triplets_are_named(rows, cols, values, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Entries.from_triplets(rows, cols, values, shape=(2, 3))


def test_sides_beyond_32_bits_and_empty_sides_are_refused() -> None:
    with pytest.raises(InputError, match="too large for 32-bit indices"):
        Entries.from_triplets([0, LARGEST_SIDE], [0, 0], [1.0, 2.0])
    with pytest.raises(InputError, match="outside 0"):
        Entries.from_triplets([-1], [0], [1.0])
    with pytest.raises(InputError, match="at least one row"):
        Entries.from_dense(np.empty((0, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(bad: float) -> None:
    with pytest.raises(NonFiniteError, match=r"row 1, column 2 is (nan|inf|-inf) \(1 such\)"):
        Entries.from_triplets([0, 1], [0, 2], [1.0, bad])
    with pytest.raises(NonFiniteError, match="row 0, column 1"):
        Entries.from_sparse(scipy.sparse.coo_array(([bad], ([0], [1])), shape=(2, 2)))
    with pytest.raises(NonFiniteError, match="row 0, column 0 is inf"):
        Entries.from_dense([[np.inf, 1.0]])


def test_matrices_without_entries_or_with_other_axes_are_refused() -> None:
    with pytest.raises(InputError, match="All 6 entries are missing"):
        Entries.from_dense(np.full((2, 3), np.nan))
    with pytest.raises(InputError, match="two axes"):
        Entries.from_dense(np.ones(3))
    with pytest.raises(InputError, match="stores no entry"):
        Entries.from_sparse(scipy.sparse.csr_array((2, 2)))
    with pytest.raises(InputError, match=r"scipy\.sparse"):
        Entries.from_sparse(np.ones((2, 2)))


def test_a_single_row_and_a_full_matrix_work() -> None:
    assert Entries.from_dense(np.arange(4.0).reshape(1, 4)).transpose().shape == (4, 1)
    assert Entries.from_dense(np.ones((3, 2))).density == 1.0


def test_threads_sort_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    places = rng.choice(60 * 50, 900, replace=False)
    triplets = places // 50, places % 50, rng.standard_normal(900)
    alone = Entries.from_triplets(*triplets, (60, 50))
    monkeypatch.setattr(_compiled, "PARALLEL_WORK", 0)
    for threads in (2, 3):
        monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", threads)
        same(alone, Entries.from_triplets(*triplets, (60, 50)))
        same(alone.transpose(), Entries.from_triplets(*triplets, (60, 50)).transpose())
    by_key = np.lexsort((triplets[1], triplets[0]))
    np.testing.assert_array_equal(alone.values, triplets[2][by_key])
