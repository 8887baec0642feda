"""Variational factor analysis against per-row and per-column definitions, its invariances, and planted structure."""

import numpy as np
import pytest

from lowdim.completion.solvers.table import _factor_analysis as factor_analysis
from lowdim.completion.solvers.table import _packed as packed
from lowdim.completion.solvers.table._factor_analysis import Loadings


@pytest.fixture
def loadings() -> Loadings:
    generator = np.random.default_rng(0)
    n, k1 = 7, 4
    roots = generator.normal(size=(n, k1, k1)) / 3
    covariance = roots @ roots.transpose(0, 2, 1)
    return Loadings(generator.normal(size=(n, k1)), covariance, generator.uniform(0.2, 1, n), np.ones(k1))


def planted(m: int, n: int, rank: int, noise: float, missing: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(m, rank)) @ generator.normal(size=(rank, n)) / np.sqrt(rank)
    return matrix + noise * generator.normal(size=(m, n)), generator.random((m, n)) >= missing


def test_latents_are_the_posterior_of_each_row(loadings: Loadings) -> None:
    generator = np.random.default_rng(1)
    values, observed = generator.normal(size=(5, 7)), generator.random((5, 7)) < 0.6
    observed[2] = False
    mean, covariance = factor_analysis.latents(loadings, values, observed)
    covariance = packed.unpack(covariance, 3)
    for i in range(5):
        precision, right = np.eye(3), np.zeros(3)
        for j in np.flatnonzero(observed[i]):
            w, mu = loadings.mean[j, :3], loadings.mean[j, 3]
            s, s_mu = loadings.covariance[j, :3, :3], loadings.covariance[j, :3, 3]
            precision += (np.outer(w, w) + s) / loadings.noise[j]
            right += (w * (values[i, j] - mu) - s_mu) / loadings.noise[j]
        np.testing.assert_allclose(covariance[i], np.linalg.inv(precision), rtol=1e-10)
        np.testing.assert_allclose(mean[i, :3], np.linalg.solve(precision, right), rtol=1e-10)
    np.testing.assert_array_equal(mean[:, 3], 1.0)
    np.testing.assert_allclose(mean[2, :3], 0.0, atol=1e-15)


def test_what_stands_in_missing_cells_is_ignored(loadings: Loadings) -> None:
    generator = np.random.default_rng(2)
    values, observed = generator.normal(size=(5, 7)), generator.random((5, 7)) < 0.6
    garbage = np.where(observed, values, np.nan)
    np.testing.assert_array_equal(
        factor_analysis.latents(loadings, values, observed)[0], factor_analysis.latents(loadings, garbage, observed)[0]
    )


def test_variances_agree_with_samples_of_the_posterior(loadings: Loadings) -> None:
    generator = np.random.default_rng(3)
    mean = np.concatenate([generator.normal(size=(2, 3)), np.ones((2, 1))], axis=1)
    roots = generator.normal(size=(2, 3, 3)) / 2
    covariance = roots @ roots.transpose(0, 2, 1)
    all_cells = factor_analysis.variances(loadings, mean, packed.pack(covariance))
    w, s = loadings.mean, loadings.covariance
    exact = loadings.noise + np.einsum("ja,iab,jb->ij", w[:, :3], covariance, w[:, :3])
    exact += np.einsum("ia,jab,ib->ij", mean, s, mean) + np.einsum("iab,jab->ij", covariance, s[:, :3, :3])
    np.testing.assert_allclose(all_cells, exact, rtol=1e-12)
    z = generator.multivariate_normal(mean[1, :3], covariance[1], 200_000)
    drawn = generator.multivariate_normal(w[5], s[5], 200_000)
    samples = (np.column_stack([z, np.ones(len(z))]) * drawn).sum(1)
    # five standard errors of a sample variance with heavy tails
    assert all_cells[1, 5] == pytest.approx(samples.var() + loadings.noise[5], rel=0.05)


def test_column_update_is_the_posterior_of_each_column() -> None:
    values, observed = planted(40, 6, 2, 0.3, 0.4, seed=4)
    values = np.where(observed, values, 0.0)
    start = factor_analysis._spectral_start(values, observed, 3)
    sums = factor_analysis._accumulate(start, values, observed.astype(float))
    updated = factor_analysis._update_columns(start, sums, (values**2).sum(0), observed.sum(0))
    mean, covariance = factor_analysis.latents(start, values, observed)
    second = mean[:, :, None] * mean[:, None, :]
    second[:, :3, :3] += packed.unpack(covariance, 3)
    for j in range(6):
        rows = observed[:, j]
        s = np.linalg.inv(second[rows].sum(0) / start.noise[j] + np.diag(start.precision))
        w = s @ (mean[rows] * values[rows, j, None]).sum(0) / start.noise[j]
        np.testing.assert_allclose(updated.mean[j], w, rtol=1e-9)
        squares = values[rows, j] ** 2 - 2 * values[rows, j] * (mean[rows] @ w)
        squares += np.einsum("iab,ab->i", second[rows], np.outer(w, w) + s)
        assert updated.noise[j] == pytest.approx((squares.sum() + 2e-3) / (rows.sum() + 2e-3), rel=1e-9)


def test_rotation_changes_the_basis_only() -> None:
    values, observed = planted(60, 8, 3, 0.3, 0.3, seed=5)
    values = np.where(observed, values, 0.0)
    start = factor_analysis._spectral_start(values, observed, 4)
    sums = factor_analysis._accumulate(start, values, observed.astype(float))
    loadings = factor_analysis._update_columns(start, sums, (values**2).sum(0), observed.sum(0))
    rotated = factor_analysis._rotate(loadings, sums.second_moment, relevance=True)
    root = np.linalg.cholesky(
        sums.second_moment[:4, :4] - np.outer(sums.second_moment[4, :4], sums.second_moment[4, :4])
    )
    # the model's marginal mean and covariance of a row stay what the old latents implied
    old = (loadings.mean[:, :4] @ root) @ (loadings.mean[:, :4] @ root).T
    np.testing.assert_allclose(rotated.mean[:, :4] @ rotated.mean[:, :4].T, old, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        rotated.mean[:, 4], loadings.mean[:, :4] @ sums.second_moment[4, :4] + loadings.mean[:, 4], rtol=1e-9
    )
    energy = rotated.mean.T @ rotated.mean + rotated.covariance.sum(0)
    off_diagonal = energy[:4, :4] - np.diag(np.diag(energy)[:4])
    np.testing.assert_allclose(off_diagonal, 0, atol=1e-8 * energy.max())


def test_planted_rank_is_found_and_completed_to_the_noise() -> None:
    values, observed = planted(400, 30, 3, 0.1, 0.4, seed=6)
    fit = factor_analysis.fit(values, observed, 12, sweeps=100, tolerance=1e-5)
    mean, _ = factor_analysis.latents(fit.loadings, values, observed)
    error = (mean @ fit.loadings.mean.T - values)[~observed]
    assert np.sqrt(np.mean(error**2)) < 0.1 * 1.15  # the noise itself, and the uncertainty of 3 latents from 18 cells
    assert np.sum((fit.loadings.mean[:, :-1] ** 2).mean(0) > 1e-3) == 3
    np.testing.assert_allclose(np.sqrt(fit.loadings.noise), 0.1, rtol=0.25)


def test_noise_of_each_column_is_its_own() -> None:
    values, observed = planted(2000, 12, 2, 0.0, 0.2, seed=7)
    scales = np.linspace(0.1, 0.6, 12)
    values += scales * np.random.default_rng(8).normal(size=values.shape)
    fit = factor_analysis.fit(values, observed, 5, sweeps=60, tolerance=1e-5)
    np.testing.assert_allclose(np.sqrt(fit.loadings.noise), scales, rtol=0.15)


def test_without_latents_only_the_means_remain() -> None:
    values = np.array([[1.0], [2.0], [3.0]])
    fit = factor_analysis.fit(values, np.ones((3, 1), bool), 0)
    assert fit.loadings.rank == 0
    np.testing.assert_allclose(fit.loadings.mean, [[2.0]], rtol=1e-3)


def test_says_when_it_has_not_converged() -> None:
    values, observed = planted(100, 20, 3, 0.2, 0.4, seed=9)
    assert not factor_analysis.fit(values, observed, 8, sweeps=2).converged
    assert factor_analysis.fit(values, observed, 8, sweeps=200).converged


def test_a_pilot_on_a_part_of_the_rows_saves_sweeps_and_changes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    values, observed = planted(1200, 15, 3, 0.3, 0.3, seed=4)
    whole = factor_analysis.fit(values, observed, 10, sweeps=100)
    monkeypatch.setattr(factor_analysis, "PILOT_ROWS", 300)
    piloted = factor_analysis.fit(values, observed, 10, sweeps=100)
    assert piloted.loadings.rank == 3
    assert piloted.iterations < whole.iterations
    completed = [
        factor_analysis.latents(fit.loadings, values, observed)[0] @ fit.loadings.mean.T for fit in (whole, piloted)
    ]
    np.testing.assert_allclose(completed[0], completed[1], atol=0.03)  # a tenth of the noise
