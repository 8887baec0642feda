"""Every score against its definition, and every influence against automatic differentiation by sample weights."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import oas
from torch import Tensor

from lowdim.errors import EmptyClassError, InputError
from lowdim.metrics import within_class_variability
from lowdim.ranking import (
    Score,
    class_variability,
    discriminant_log_probability,
    h_score,
    heldout_class_variability,
    log_evidence,
    regularised_h_score,
    shrinkage,
)
from lowdim.statistics import ClassStatistics


def samples(n: int = 60, d: int = 7, classes: int = 3, *, seed: int = 0, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    labels[: n // 5] = 0  # classes of different sizes
    means = torch.randn(classes, d, generator=generator, dtype=torch.float64)
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return means[labels] + noise * torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix / d**0.5, labels


def statistics_of(features: Tensor, labels: Tensor, classes: int = 3) -> ClassStatistics:
    return ClassStatistics.from_samples(features, labels, classes=classes)


# --- Definitions written as differentiable functions of sample weights.


def moments(w: Tensor, x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    hot = torch.nn.functional.one_hot(y, classes).double() * w.unsqueeze(1)
    counts = hot.sum(dim=0)
    means = (hot.T @ x) / counts.unsqueeze(1)
    deviation = x - means[y]
    within = (deviation.T * w) @ deviation / w.sum()
    mean = (w @ x) / w.sum()
    around = x - mean
    return counts, means, within, (around.T * w) @ around / w.sum(), mean


def naive_nc1(w: Tensor, x: Tensor, y: Tensor, classes: int = 3) -> Tensor:
    _, means, within, _, _ = moments(w, x, y, classes)
    centred = means - means.mean(dim=0)
    between = centred.T @ centred / classes
    return torch.trace(within @ torch.linalg.pinv(between, rtol=1e-10, hermitian=True))


def naive_heldout(w: Tensor, x: Tensor, y: Tensor, half: Tensor, classes: int = 3) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for part in (0, 1):
        _, means, _, _, _ = moments(w[half == part], x[half == part], y[half == part], classes)
        centred = means - means.mean(dim=0)
        inverse = torch.linalg.pinv(centred.T @ centred / classes, rtol=1e-10, hermitian=True)
        other = half != part
        deviation = x[other] - means[y[other]]
        total = total + (w[other] * ((deviation @ inverse) * deviation).sum(dim=1)).sum() / w[other].sum() / 2
    return total


def naive_h(w: Tensor, x: Tensor, y: Tensor, classes: int = 3, alpha: float | Tensor = 0.0) -> Tensor:
    counts, means, _, total, mean = moments(w, x, y, classes)
    centred = means - mean
    between = (centred.T * counts / w.sum()) @ centred
    d = x.shape[1]
    matrix = (1 - alpha) * total + alpha * torch.trace(total) / d * torch.eye(d, dtype=torch.float64)
    return (1 - alpha) * torch.trace(torch.linalg.solve(matrix, between))


def naive_evidence(alpha: float, beta: float, x: np.ndarray, y: np.ndarray) -> float:
    """The marginal likelihood as what it is: a Gaussian density in n dimensions."""
    covariance = np.eye(len(y)) / beta + x @ x.T / alpha
    return float(multivariate_normal(np.zeros(len(y)), covariance, allow_singular=False).logpdf(y))


def check_influence(
    score: Score, naive: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, keys: Tensor | None = None
) -> None:
    weights = torch.ones(len(x), dtype=torch.float64, requires_grad=True)
    value = naive(weights)
    torch.testing.assert_close(torch.tensor(score.value, dtype=torch.float64), value.detach(), rtol=1e-9, atol=0)
    (gradient,) = torch.autograd.grad(value, weights)
    assert score.influence is not None
    keys = y if keys is None else keys
    ours = score.influence(x, keys)
    for key in torch.unique(keys):
        chosen = keys == key
        expected = gradient[chosen] - gradient[chosen].mean()
        got = ours[chosen] - ours[chosen].mean()
        # The derivative of the oracle's pseudo-inverse loses digits with the square of the condition number.
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7 * float(gradient.abs().max()))


# --- NC1.


@pytest.mark.parametrize(("n", "d"), [(60, 7), (30, 40), (60, 2), (60, 1)])
def test_nc1(n: int, d: int) -> None:
    x, y = samples(n, d)
    score = class_variability(statistics_of(x, y))
    assert score.value == pytest.approx(within_class_variability(statistics_of(x, y)), rel=1e-10)
    if d > 1:
        check_influence(score, lambda w: naive_nc1(w, x, y), x, y)


def test_nc1_with_a_large_offset() -> None:
    x, y = samples()
    score, moved = class_variability(statistics_of(x, y)), class_variability(statistics_of(x + 1e6, y))
    assert moved.value == pytest.approx(score.value, rel=1e-8)


@pytest.mark.parametrize(("n", "d"), [(60, 7), (40, 60)])
def test_heldout_nc1(n: int, d: int) -> None:
    x, y = samples(n, d)
    half = torch.arange(n) // 3 % 2
    halves = [statistics_of(x[half == part], y[half == part]) for part in (0, 1)]
    check_influence(heldout_class_variability(*halves), lambda w: naive_heldout(w, x, y, half), x, y, y + 3 * half)


# --- H-score.


@pytest.mark.parametrize("d", [7, 2, 40])
def test_h_score(d: int) -> None:
    x, y = samples(60, d)
    score = h_score(statistics_of(x, y))
    assert not score.reduced
    check_influence(score, lambda w: naive_h(w, x, y), x, y)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(4, 60),
    st.integers(1, 30),
    st.integers(2, 5),
    st.integers(0, 1000),
    st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)
def test_h_scores_stay_between_0_and_k_minus_1(n: int, d: int, classes: int, seed: int, noise: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(max(n, classes + 1)) % classes
    x = torch.randn(classes, d, generator=generator, dtype=torch.float64)[labels]
    x = x + noise * torch.randn(len(labels), d, generator=generator, dtype=torch.float64)
    for score in (h_score(statistics_of(x, labels, classes)), regularised_h_score(statistics_of(x, labels, classes))):
        assert -1e-9 <= score.value <= classes - 1 + 1e-9


def test_h_score_is_unchanged_by_linear_maps_and_rank_deficient_features() -> None:
    x, y = samples(60, 7)
    generator = torch.Generator().manual_seed(1)
    wide = x @ torch.randn(7, 12, generator=generator, dtype=torch.float64) + 50
    assert h_score(statistics_of(wide, y)).value == pytest.approx(h_score(statistics_of(x, y)).value, rel=1e-8)


def test_h_score_does_not_saturate_with_few_samples() -> None:
    """Pure noise: the unreduced score is K - 1 = 2 for n - K < d, whatever the features."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(30) % 3
    x = torch.randn(30, 500, generator=generator, dtype=torch.float64)
    saturated = float(naive_h_pinv(x, y))
    assert saturated == pytest.approx(2, abs=1e-6)
    score = h_score(statistics_of(x, y))
    assert score.reduced
    good = x + 10 * torch.nn.functional.one_hot(y, 500).double()
    assert score.value < h_score(statistics_of(good, y)).value < 2
    noise_level, good_level = (regularised_h_score(statistics_of(rows, y)).value for rows in (x, good))
    assert noise_level < 0.5 * good_level


def naive_h_pinv(x: Tensor, y: Tensor) -> Tensor:
    counts, means, _, total, mean = moments(torch.ones(len(x), dtype=torch.float64), x, y, 3)
    centred = means - mean
    return torch.trace(torch.linalg.pinv(total, rtol=1e-10, hermitian=True) @ ((centred.T * counts / len(x)) @ centred))


def test_reduced_h_score_is_the_h_score_of_reduced_features() -> None:
    x, y = samples(30, 50)
    counts, means, _, _, mean = moments(torch.ones(30, dtype=torch.float64), x, y, 3)
    del counts
    basis = torch.linalg.svd((means - mean).T, full_matrices=False).U[:, :2]
    expected = naive_h(torch.ones(30, dtype=torch.float64), x @ basis, y)
    assert h_score(statistics_of(x, y)).value == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(60, 7), (30, 40)])
def test_regularised_h_score(n: int, d: int) -> None:
    x, y = samples(n, d)
    alpha = oas(x.numpy())[1]
    total = moments(torch.ones(n, dtype=torch.float64), x, y, 3)[3]
    assert shrinkage(total, n) == pytest.approx(alpha, rel=1e-10)

    def naive(w: Tensor) -> Tensor:
        covariance = moments(w, x, y, 3)[3]
        square, variance = covariance.square().mean(), covariance.diagonal().mean()
        own = (square + variance**2) / ((n + 1) * (square - variance**2 / d))
        return naive_h(w, x, y, alpha=own)

    check_influence(regularised_h_score(statistics_of(x, y)), naive, x, y)


# --- LogME.


@pytest.mark.parametrize(
    ("n", "d", "noise"), [(40, 5, 1.0), (40, 5, 0.05), (15, 30, 1.0), (12, 40, 1.0), (20, 20, 1.0)]
)
def test_logme_is_the_exact_gaussian_evidence_at_its_maximum(n: int, d: int, noise: float) -> None:
    x, y = samples(n, d, noise=noise)
    rows = x.numpy()
    best: list[float] = []
    for label in range(3):
        target = (y.numpy() == label).astype(float)

        def loss(logs: np.ndarray, target: np.ndarray = target) -> float:
            try:
                return -naive_evidence(math.exp(logs[0]), math.exp(logs[1]), rows, target)
            except np.linalg.LinAlgError:
                return math.inf

        starts = [(a, b) for a in (-6, 0, 6) for b in (0, 4)]
        options = {"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000}
        found = [
            -minimize(loss, start, method="Nelder-Mead", bounds=[(-25, 25)] * 2, options=options).fun
            for start in starts
        ]
        if n <= d:  # the limit without noise: the labels as a sample of N(0, X X^T / alpha)
            gram = rows @ rows.T
            alpha = n / float(target @ np.linalg.solve(gram, target))
            found.append(float(multivariate_normal(np.zeros(n), gram / alpha).logpdf(target)))
        best.append(max(found))
    assert log_evidence(statistics_of(x, y)).value == pytest.approx(np.mean(best) / n, rel=1e-7, abs=1e-8)


def test_logme_at_given_precisions_is_a_gaussian_density() -> None:
    """No search: the closed form at its own precisions against the density."""
    from lowdim.ranking.scores.evidence import _Fit

    for n, d in ((30, 4), (9, 25)):
        x, y = samples(n, d)
        values, vectors = torch.linalg.eigh(x.T @ x)
        keep = values > 1e-9 * values[-1]
        s, V = values[keep], vectors[:, keep]
        hot = torch.nn.functional.one_hot(y, 3).double()
        fit = _Fit.of(s, (x.T @ hot).T @ V, hot.sum(dim=0), n)
        for label in range(3):
            beta = float(fit.precision[label])
            alpha = float(fit.ratio[label]) * beta
            expected = naive_evidence(alpha, beta, x.numpy(), hot[:, label].numpy())
            assert float(fit.evidence[label]) == pytest.approx(expected, rel=1e-7, abs=1e-6)


def test_logme_has_no_influence_where_features_span_the_samples() -> None:
    assert log_evidence(statistics_of(*samples(20, 45))).influence is None


def test_logme_influence() -> None:
    """Against finite differences of the whole maximisation, by repeating one sample a little more often."""
    n = 60
    x, y = samples(n, 7)
    score = log_evidence(statistics_of(x, y))
    assert score.influence is not None
    ours = score.influence(x, y)

    def weighted(w: Tensor) -> float:
        from lowdim.ranking.scores.evidence import _Fit

        hot = torch.nn.functional.one_hot(y, 3).double() * w.unsqueeze(1)
        values, vectors = torch.linalg.eigh((x.T * w) @ x)
        keep = values > 1e-9 * values[-1]
        fit = _Fit.of(values[keep], (x.T @ hot).T @ vectors[:, keep], hot.sum(dim=0), float(w.sum()))  # type: ignore[arg-type]
        return float(fit.evidence.mean()) / float(w.sum())

    step = 1e-4
    for label in range(3):
        first, second = torch.nonzero(y == label).flatten().tolist()[:2]
        slopes = []
        for index in (first, second):
            up, down = torch.ones(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
            up[index] += step
            down[index] -= step
            slopes.append((weighted(up) - weighted(down)) / (2 * step))
        assert slopes[0] - slopes[1] == pytest.approx(float(ours[first] - ours[second]), rel=1e-5, abs=1e-9)


def test_logme_with_fewer_samples_than_features_is_not_inflated_by_empty_dimensions() -> None:
    x, y = samples(12, 6)
    padded = torch.cat([x, torch.zeros(12, 300, dtype=torch.float64)], dim=1)
    assert log_evidence(statistics_of(padded, y)).value == pytest.approx(
        log_evidence(statistics_of(x, y)).value, rel=1e-9
    )


# --- The discriminant.


@pytest.mark.parametrize(("n", "d"), [(40, 5), (24, 50)])
def test_discriminant_equals_refitting_without_each_sample(n: int, d: int) -> None:
    x, y = samples(n, d)
    statistics = statistics_of(x, y)
    ours = discriminant_log_probability(statistics)(x, y)
    assert statistics.scatter is not None
    within = statistics.scatter[0] / n
    alpha, variance = shrinkage(within, n), float(within.diagonal().mean())
    for index in range(n):
        rest = torch.arange(n) != index
        left = statistics_of(x[rest], y[rest])
        assert left.scatter is not None
        covariance = (1 - alpha) * left.scatter[0] / (n - 1) + alpha * variance * torch.eye(d, dtype=torch.float64)
        deviation = x[index] - left.means
        squared = (deviation * torch.linalg.solve(covariance, deviation.T).T).sum(dim=1)
        expected = torch.log_softmax(left.counts.double().log() - squared / 2, dim=0)[y[index]]
        torch.testing.assert_close(ours[index], expected, rtol=1e-8, atol=1e-10)


def test_discriminant_of_noise_is_a_guess_and_of_a_single_sample_unknown() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    x = torch.randn(90, 400, generator=generator, dtype=torch.float64)
    assert float(discriminant_log_probability(statistics_of(x, y))(x, y).mean()) < math.log(1 / 3) + 0.05
    x, y = torch.cat([x, x[:1] + 9]), torch.cat([y, torch.tensor([3])])
    result = discriminant_log_probability(statistics_of(x, y, 4))(x, y)
    assert result[-1].isnan()
    assert result[:-1].isfinite().all()


# --- All of them.

SCORES: list[Callable[[ClassStatistics], Score]] = [class_variability, h_score, regularised_h_score, log_evidence]


@pytest.mark.parametrize("score", SCORES)
def test_order_and_merging_do_not_matter(score: Callable[[ClassStatistics], Score]) -> None:
    x, y = samples(60, 7)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    merged = statistics_of(x[order[:25]], y[order[:25]])
    merged.merge(statistics_of(x[order[25:]], y[order[25:]]))
    assert score(merged).value == pytest.approx(score(statistics_of(x, y)).value, rel=1e-10)


@pytest.mark.parametrize("score", SCORES)
def test_rotation_and_scale_do_not_matter(score: Callable[[ClassStatistics], Score]) -> None:
    x, y = samples(60, 7)
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).Q
    assert score(statistics_of(3 * x @ rotation, y)).value == pytest.approx(score(statistics_of(x, y)).value, rel=1e-9)


@pytest.mark.parametrize("score", SCORES)
def test_degenerate_input_is_refused(score: Callable[[ClassStatistics], Score]) -> None:
    x, y = samples(60, 7)
    with pytest.raises(EmptyClassError):
        score(statistics_of(x, y, 4))
    with pytest.raises(InputError):
        score(statistics_of(x * 0, y))
    with pytest.raises(InputError):
        score(statistics_of(x, y * 0, 1))
