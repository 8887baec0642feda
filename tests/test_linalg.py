import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from lowdim._linalg import effective_rank, orthonormal_basis, rank_cutoff, subspace_angle
from problems import rotation


def matrix(m, n, rank, seed, decay=1.0):
    generator = np.random.default_rng(seed)
    left = np.linalg.qr(generator.standard_normal((m, m)))[0][:, :rank]
    right = np.linalg.qr(generator.standard_normal((n, n)))[0][:, :rank]
    values = decay ** np.arange(rank)
    return (left * values) @ right.T, values


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99), st.sampled_from([1.0, 0.5, 1e-2]))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_ranks_are_their_definitions(m, n, seed, decay):
    rank = 1 + seed % min(m, n, 5)
    found, values = matrix(m, n, rank, seed, decay)
    singular = np.linalg.svd(found, compute_uv=False)
    # Rounding noise of 1e-16 in the zero singular values adds about 1e-14 to the entropy.
    assert effective_rank(singular) == pytest.approx(oracles.effective_rank(found), rel=1e-9)
    assert effective_rank(values) == pytest.approx(oracles.effective_rank(np.diag(values)), rel=1e-9)
    assert effective_rank(7.5 * singular) == pytest.approx(effective_rank(singular), rel=1e-9)
    assert 1 - 1e-9 <= effective_rank(singular) <= min(m, n) + 1e-9


def test_ranks_of_known_spectra():
    assert effective_rank(np.ones(7)) == pytest.approx(7)
    assert effective_rank(np.zeros(3)) == effective_rank(np.array([])) == 0


def test_the_cutoff_follows_size_type_and_scale():
    values = np.array([3.0, 1e-15])
    assert rank_cutoff(values, 100) == pytest.approx(100 * 2.0**-52 * 3)
    found = np.linalg.svd(matrix(30, 20, 4, 0)[0].astype(np.float32).astype(np.float64), compute_uv=False)
    assert (found > rank_cutoff(found, 30, np.finfo(np.float32).eps)).sum() == 4
    assert (found > rank_cutoff(found, 30)).sum() > 4, "its rounding is information in float64"


@given(st.integers(1, 5), st.integers(0, 99), st.sampled_from([0.0, 1e-12, 1e-6, 0.3, 1.5]))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_angles_small_and_large_are_exact(size, seed, angle):
    basis = rotation(2 * size + 1, seed)
    first = basis[:, :size]
    second = first.copy()
    second[:, 0] = np.cos(angle) * first[:, 0] + np.sin(angle) * basis[:, size]
    mix = rotation(size, seed + 1)
    assert subspace_angle(first, second @ mix) == pytest.approx(angle, rel=1e-3, abs=1e-14)


def test_a_basis_spans_the_columns():
    found, _ = matrix(9, 6, 3, 1, 1e-3)
    basis = orthonormal_basis(found)
    assert basis.shape == (9, 3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(basis @ (basis.T @ found), found, atol=1e-12)
