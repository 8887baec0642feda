"""The ratings solvers: each conditional against its definition, planted noise, honest intervals."""

import numpy as np
import pytest

from lowdim.completion.entries import Entries
from lowdim.completion.solvers._completions import solve_biases
from lowdim.completion.solvers._solver import Settings, hold_out
from lowdim.completion.solvers.ratings._kernels import update_features, update_rows
from lowdim.completion.solvers.ratings._ratings import solve_ratings, solve_ratings_quickly
from lowdim.completion.solvers.ratings._sampler import Sampler, directions


def planted(
    m: int, n: int, share: float, seed: int, noise: float = 0.9, rank: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """The expected rating of each pair, and which pairs were rated: some people and some items much more than others."""
    generator = np.random.default_rng(seed)
    factors = 0.4 * generator.normal(size=(m, rank)) @ generator.normal(size=(rank, n)) * 0.8
    expected = 3.5 + factors + 0.4 * generator.normal(size=(m, 1)) + 0.5 * generator.normal(size=n)
    popularity = np.outer(generator.gamma(2, size=m), generator.gamma(2, size=n)) / 4
    return expected, generator.random((m, n)) < np.minimum(share * popularity, 1)


def noisy(expected: np.ndarray, noise: float, seed: int) -> np.ndarray:
    return expected + noise * np.random.default_rng(seed).normal(size=expected.shape)


@pytest.fixture
def one_side() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    m, n, size = 12, 150, 4
    observed = generator.random((m, n)) < 0.6
    observed[3] = False
    values = generator.normal(size=(m, n))
    entries = Entries.from_dense(np.where(observed, values, np.nan))
    roots = generator.normal(size=(n, size, size)) / 4
    return {
        "entries": entries,
        "observed": observed,
        "values": values,
        "other": generator.normal(size=(n, size)),
        "weights_other": generator.uniform(0.5, 2, n),
        "covariance": roots @ roots.transpose(0, 2, 1),  # of [q, c]
        "prior": generator.normal(size=(m, size)),
        "precision": generator.uniform(0.5, 2, size),
        "weights": generator.uniform(0.5, 2, m),
    }


def run_rows_kernel(side: dict, normals: np.ndarray, *, variational: bool) -> tuple[np.ndarray, ...]:
    m, size = side["prior"].shape
    packed = size * (size + 1) // 2
    lower, signs = np.tril_indices(size), np.ones((size, size))
    signs[-1, :-1] = signs[:-1, -1] = -1  # of [q, -c]
    covariances = (side["covariance"] * signs)[:, lower[0], lower[1]] if variational else np.zeros((0, packed))
    out, means, errors = np.empty((m, size)), np.empty((m if len(normals) else 0, size)), np.empty(m)
    posterior = np.zeros((m if variational else 0, packed))
    entries = side["entries"]
    update_rows(
        0, m, entries.row_start, entries.cols, entries.values, side["other"], side["weights_other"], covariances,
        side["prior"], side["precision"], 1.7, side["weights"], normals, out, means, posterior, errors,
    )  # fmt: skip
    return out, means, posterior, errors


def dense_posterior(side: dict, i: int, *, variational: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Precision and mean of [p, b] of row i, and sum v E[(y - c - b - p.q)^2] for the mean, from expectations entry by entry."""
    size = side["prior"].shape[1]
    precision, right = np.diag(side["precision"]), side["precision"] * side["prior"][i]
    gram, cross, square = np.zeros((size, size)), np.zeros(size), 0.0
    for j in np.flatnonzero(side["observed"][i]):
        x = np.append(side["other"][j, :-1], 1.0)
        t = side["values"][i, j] - side["other"][j, -1]
        xx, xt, tt = np.outer(x, x), x * t, t * t
        if variational:
            s = side["covariance"][j]
            xx[:-1, :-1] += s[:-1, :-1]
            xt[:-1] -= s[:-1, -1]
            tt += s[-1, -1]
        v = side["weights_other"][j]
        gram, cross, square = gram + v * xx, cross + v * xt, square + v * tt
    scale = 1.7 * side["weights"][i]
    precision = precision + scale * gram
    mean = np.linalg.solve(precision, right + scale * cross)
    error = square - 2 * mean @ cross + mean @ gram @ mean
    if variational:
        error += np.trace(np.linalg.inv(precision) @ gram)
    return precision, mean, error


@pytest.mark.parametrize("variational", [False, True])
def test_means_of_rows_are_their_conditional_means(one_side: dict, variational: bool) -> None:
    out, _, posterior, errors = run_rows_kernel(one_side, np.zeros((0, 4)), variational=variational)
    lower = np.tril_indices(4)
    for i in range(12):
        precision, mean, error = dense_posterior(one_side, i, variational=variational)
        np.testing.assert_allclose(out[i], mean, rtol=1e-8)
        np.testing.assert_allclose(errors[i], error, rtol=1e-8, atol=1e-8)
        if variational:
            signed = np.linalg.inv(precision)
            signed[-1, :-1] *= -1
            np.testing.assert_allclose(posterior[i], signed[lower], rtol=1e-8)
    np.testing.assert_allclose(out[3], one_side["prior"][3], rtol=1e-12)  # without ratings


def test_draws_of_rows_have_the_conditional_covariance(one_side: dict) -> None:
    generator = np.random.default_rng(1)
    drawn = [run_rows_kernel(one_side, generator.normal(size=(12, 4)), variational=False)[:2] for _ in range(4000)]
    draws = np.stack([out[:3] for out, _ in drawn])
    for i in range(3):
        precision, mean, _ = dense_posterior(one_side, i, variational=False)
        np.testing.assert_allclose(drawn[-1][1][i], mean, rtol=1e-8)
        whitened = (draws[:, i] - mean) @ np.linalg.cholesky(precision)
        # 4000 draws: standard errors of .016 of a mean and of a covariance
        np.testing.assert_allclose(whitened.mean(0), 0, atol=0.08)
        np.testing.assert_allclose(np.cov(whitened.T), np.eye(4), atol=0.1)


def test_implicit_features_are_their_conditional_means_in_turn() -> None:
    generator = np.random.default_rng(2)
    m, n, size = 20, 6, 3
    observed = generator.random((m, n)) < 0.5
    columns = Entries.from_dense(np.where(observed, 1.0, np.nan)).transpose()
    shares = 1 / np.sqrt(np.maximum(observed.sum(1), 1))
    features, parameters = generator.normal(size=(n, size)), generator.normal(size=(m, size))
    precision, kappa = generator.uniform(1, 2, size), generator.uniform(1, 2, size)
    rest = parameters - shares[:, None] * (observed @ features)
    expected = features.copy()
    for j in range(n):
        for a in range(size):
            others = shares * (observed @ expected[:, a]) - shares * observed[:, j] * expected[j, a]
            left = (parameters[:, a] - others)[observed[:, j]]
            s = shares[observed[:, j]]
            expected[j, a] = precision[a] * (s @ left) / (precision[a] * (s @ s) + kappa[a])
    variances = np.zeros((n, size))
    update_features(
        columns.row_start, columns.cols, shares, precision, kappa, np.zeros((0, size)), features, rest, variances
    )
    np.testing.assert_allclose(features, expected, rtol=1e-10)
    np.testing.assert_allclose(rest, parameters - shares[:, None] * (observed @ features), atol=1e-12)
    strengths = (shares[:, None] ** 2 * observed).sum(0)
    np.testing.assert_allclose(variances, 1 / (np.outer(strengths, precision) + kappa), rtol=1e-10)


@pytest.mark.parametrize("variational", [False, True])
def test_the_noise_is_found(variational: bool) -> None:
    expected, rated = planted(400, 300, 0.4, seed=3)
    sampler = Sampler(
        Entries.from_dense(np.where(rated, noisy(expected, 0.7, 4), np.nan)), 6, 0, variational=variational
    )
    for _ in range(30):
        sampler.sweep()
    assert 1 / np.sqrt(sampler.alpha) == pytest.approx(0.7, rel=0.05)


@pytest.mark.parametrize("solve", [solve_ratings, solve_ratings_quickly])
def test_close_to_the_noise_floor_with_honest_intervals(solve) -> None:
    expected, rated = planted(500, 300, 0.5, seed=5)
    ratings = noisy(expected, 0.9, 6)
    entries = Entries.from_dense(np.where(rated, ratings, np.nan))
    held = hold_out(entries, 0.1, 0)
    solved = solve(entries, held, Settings())
    rows, cols = np.nonzero(~rated)
    error = solved.completion.predict(rows, cols) - ratings[rows, cols]
    # 9 parameters from about 150 ratings of a row and 250 of a column leave 4 % more than the noise
    assert np.sqrt(np.mean(error**2)) < 0.9 * 1.07
    assert solved.held_out.rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=0.05)
    deviation = solved.completion.deviation(rows, cols)
    assert 0.88 <= np.mean(np.abs(error) <= 1.6449 * deviation) <= 0.92
    biases = solve_biases(entries, held, Settings())
    assert solved.held_out.rmse < 0.9 * biases.held_out.rmse


def test_what_was_rated_tells_something() -> None:
    """Two groups of rows rate mostly the columns of their group, and like them: seen from the choice alone."""
    generator = np.random.default_rng(7)
    row_group, col_group = generator.integers(0, 2, 300), generator.integers(0, 2, 200)
    same = row_group[:, None] == col_group
    rated = generator.random((300, 200)) < np.where(same, 0.12, 0.04)
    ratings = np.where(same, 4.0, 2.0) + 0.5 * generator.normal(size=(300, 200))
    entries = Entries.from_dense(np.where(rated, ratings, np.nan))
    solved = solve_ratings_quickly(entries, hold_out(entries, 0.1, 0), Settings())
    first_two = rated[:40] & (np.cumsum(rated[:40], 1) <= 2)
    new = Entries.from_dense(np.where(first_two, entries.values.mean(), np.nan))  # the ratings say nothing
    completed = solved.completion.complete(new)
    like, dislike = completed[same[:40]].mean(), completed[~same[:40]].mean()
    assert like - dislike > 0.3


@pytest.mark.parametrize("solve", [solve_ratings, solve_ratings_quickly])
def test_new_rows_are_completed_from_their_ratings(solve) -> None:
    expected, rated = planted(400, 200, 0.4, seed=8)
    entries = Entries.from_dense(np.where(rated, noisy(expected, 0.5, 9), np.nan))
    training = entries.select(entries.rows < 300)
    training = Entries(training.rows, training.cols, training.values, (300, 200), training.row_start[:301])
    solved = solve(training, hold_out(training, 0.1, 0), Settings())
    fresh = np.where(rated, noisy(expected, 0.5, 9), np.nan)[300:]
    completed = solved.completion.complete(Entries.from_dense(fresh))
    missing = ~rated[300:]
    error = np.sqrt(np.mean((completed - expected[300:])[missing] ** 2))
    assert error < 0.5 * np.std(expected[300:][missing])


def test_effects_of_what_is_known_are_their_conditional_means() -> None:
    generator = np.random.default_rng(13)
    features = generator.normal(size=(30, 3))
    features = np.column_stack([features, features.sum(1)])  # one direction too many
    known = directions(features)
    assert known is not None and known.shape == (30, 3)
    entries = Entries.from_dense(generator.normal(size=(30, 5)))
    side = Sampler(entries, 2, 0, variational=True, known=(known, None)).rows
    rest = generator.normal(size=(30, 3)).astype(np.float32)
    before, precision, beta = rest.copy(), side.precision.copy(), side.beta.copy()
    side._update_effects(rest, generator)
    for a in range(3):
        gram = precision[a] * known.T @ known + beta[a] * np.eye(3)
        mean = np.linalg.solve(gram, precision[a] * known.T @ before[:, a])
        np.testing.assert_allclose(side.effects[:, a], mean, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(side.effect_variances[:, a], np.diag(np.linalg.inv(gram)), rtol=1e-3)
    np.testing.assert_allclose(rest, before - known @ side.effects, atol=1e-5)


def test_few_ratings_do_not_shrink_the_quick_factors_away() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(300, 2)) @ generator.normal(size=(2, 300)) / np.sqrt(2)
    rated = generator.random((300, 300)) < 0.05
    entries = Entries.from_dense(np.where(rated, truth + 0.1 * generator.normal(size=truth.shape), np.nan))
    solved = solve_ratings_quickly(entries, hold_out(entries, 0.1, 0), Settings())
    rows, cols = np.nonzero(~rated)
    error = np.sqrt(np.mean((solved.completion.predict(rows, cols) - truth[rows, cols]) ** 2))
    assert error < 0.2 * np.std(truth)


def test_the_seed_fixes_the_draws() -> None:
    expected, rated = planted(60, 40, 0.4, seed=10)
    entries = Entries.from_dense(np.where(rated, expected, np.nan))
    first, second = (solve_ratings(entries, hold_out(entries, 0.1, 0), Settings(seed=3)) for _ in range(2))
    np.testing.assert_array_equal(first.completion.draws.left, second.completion.draws.left)


def test_unrated_rows_and_columns_are_typical() -> None:
    expected, rated = planted(80, 60, 0.4, seed=11)
    rated[5], rated[:, 7] = False, False
    entries = Entries.from_dense(np.where(rated, noisy(expected, 0.5, 12), np.nan))
    solved = solve_ratings(entries, hold_out(entries, 0.1, 0), Settings())
    assert abs(solved.completion.predict(np.array([5]), np.array([7]))[0] - 3.5) < 1.0
    known = solved.completion.deviation(np.array([0]), np.array([0]))
    assert solved.completion.deviation(np.array([5]), np.array([7])) > known


def test_mean_and_deviation_are_those_of_the_draws() -> None:
    expected, rated = planted(60, 40, 0.4, seed=9)
    entries = Entries.from_dense(np.where(rated, noisy(expected, 0.9, 9), np.nan))
    found = solve_ratings(entries, hold_out(entries, 0.1, 0), Settings(rank=2)).completion
    rows, cols = np.array([0, 5, 59]), np.array([39, 2, 7])
    draws = found.draws
    products = np.einsum("dta,dta->dt", draws.left[:, rows, :-1], draws.right[:, cols, :-1], dtype=np.float64)
    values = products + draws.left[:, rows, -1] + draws.right[:, cols, -1]
    noise = np.mean(1 / (draws.alpha[:, None] * draws.row_weights[:, rows] * draws.col_weights[:, cols]), 0)
    told = np.einsum("dta,dta->dt", draws.left[:, rows, :-1], draws.right_means[:, cols, :-1], dtype=np.float64)
    told = told + draws.left[:, rows, -1] + draws.right_means[:, cols, -1]
    np.testing.assert_allclose(found.predict(rows, cols), found.mean + told.mean(0), rtol=1e-5)
    # the same expectation, which is told with less noise
    np.testing.assert_allclose(told.mean(0), values.mean(0), atol=4 * values.std(0).max() / np.sqrt(len(values)))
    np.testing.assert_allclose(found.deviation(rows, cols), np.sqrt(noise + values.var(0)), rtol=1e-4)
