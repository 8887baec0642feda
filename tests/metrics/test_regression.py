"""Collapse under continuous targets, against its definition, and on features whose collapse is planted."""

import numpy as np
import pytest
import torch

from lowdim.errors import InputError, NonFiniteError
from lowdim.metrics import regression_collapse, root_law
from lowdim.metrics.ridge import HeldOut


def planted(noise, seed=0, n=60, d=8, m=2):
    random = np.random.default_rng(seed)
    targets = random.standard_normal((n, m)) * [3.0, 1.0]
    weight = random.standard_normal((m, d))
    features = targets @ np.linalg.pinv(weight).T + noise * random.standard_normal((n, d)) + 5
    return tuple(torch.from_numpy(array) for array in (features, targets, weight))


def test_values_are_those_of_the_definition():
    features, targets, weight = planted(0.3)
    found = regression_collapse(features, targets, weight)
    X, Y = features.numpy(), targets.numpy()
    H, T = X - X.mean(0), Y - Y.mean(0)
    vectors = np.linalg.eigh(H.T @ H)[1][:, ::-1]
    assert found.rank == 2
    assert found.outside == pytest.approx(np.sum((H @ vectors[:, 2:]) ** 2) / np.sum(H**2), rel=1e-10)
    projector = np.linalg.pinv(weight.numpy()) @ weight.numpy()
    assert found.outside_rows == pytest.approx(np.sum((H - H @ projector) ** 2) / np.sum(H**2), rel=1e-10)
    design = np.column_stack([np.ones(len(X)), H @ vectors[:, :2]])
    errors = [
        Y[i] - design[i] @ np.linalg.lstsq(np.delete(design, i, 0), np.delete(Y, i, 0), rcond=None)[0]
        for i in range(len(X))
    ]
    assert found.unexplained == pytest.approx(np.sum(np.square(errors)) / np.sum(T**2), rel=1e-10)


def test_planted_collapse_is_found_and_noise_undoes_it():
    exact, noisy = regression_collapse(*planted(0.0)), regression_collapse(*planted(3.0))
    assert max(exact.outside, exact.unexplained, exact.outside_rows) < 1e-12
    assert min(noisy.outside, noisy.unexplained, noisy.outside_rows) > 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rotation_shift_and_scale_change_nothing(dtype):
    features, targets, weight = (array.to(dtype) for array in planted(0.3))
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))).Q
    before = regression_collapse(features, targets, weight)
    after = regression_collapse(100 * features @ turn + 3, 7 * targets - 1, weight @ turn)
    for name in ("outside", "unexplained", "outside_rows"):
        assert getattr(after, name) == pytest.approx(
            getattr(before, name), rel=1e-4 if dtype == torch.float32 else 1e-9
        )


def test_dependent_outputs_count_once_and_the_weight_is_optional():
    features, targets, _ = planted(0.1)
    found = regression_collapse(features, torch.cat([targets, targets.sum(dim=1, keepdim=True)], dim=1))
    assert (found.rank, found.outside_rows) == (2, None)
    assert found.outside == regression_collapse(features, targets).outside


def test_what_has_no_value_is_refused():
    features, targets, weight = planted(0.1)
    with pytest.raises(InputError, match="must agree"):
        regression_collapse(features[1:], targets)
    with pytest.raises(InputError, match="must agree"):
        regression_collapse(features, targets, weight[:, 1:])
    with pytest.raises(InputError, match="targets are constant"):
        regression_collapse(features, torch.full_like(targets, 0.1))
    with pytest.raises(InputError, match="at least 4"):
        regression_collapse(features[:3], targets[:3])
    with pytest.raises(NonFiniteError, match="features contain NaN"):
        regression_collapse(features.clone().fill_(float("nan")), targets)


@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_the_root_law_is_the_least_distance_over_thresholds(outputs, seed):
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((40, outputs)) @ random.standard_normal((outputs, outputs))
    weight = random.standard_normal((outputs, 7)) * random.uniform(0.1, 2, (outputs, 1))
    values, axes = np.linalg.eigh(np.cov(mixed.T, bias=True).reshape(outputs, outputs))
    gram = weight @ weight.T / np.linalg.norm(weight @ weight.T)

    def distance(threshold):
        law = (axes * np.maximum(np.sqrt(values) - threshold, 0)) @ axes.T
        return np.linalg.norm(gram - law / np.linalg.norm(law))

    best = min(map(distance, np.linspace(0, 0.9999 * np.sqrt(values[-1]), 2001)))
    found = root_law(torch.from_numpy(weight), torch.from_numpy(mixed))
    assert best - 1e-3 < found <= best + 1e-9


def test_weights_on_the_root_law_are_at_distance_zero_of_it_and_others_are_not():
    random = np.random.default_rng(0)
    targets = random.standard_normal((200, 3)) @ np.array([[3.0, 1, 0], [0, 1, 0], [0, 0, 0.2]])
    values, axes = np.linalg.eigh(np.cov(targets.T, bias=True))
    turn = np.linalg.qr(random.standard_normal((6, 6)))[0][:3]
    for threshold in (0.0, 0.1, 0.9):  # the last one leaves fewer directions
        weight = (axes * np.sqrt(np.maximum(np.sqrt(values) - threshold, 0))) @ turn
        assert root_law(torch.from_numpy(5 * weight), torch.from_numpy(targets)) < 1e-7
        assert root_law(torch.from_numpy(5 * weight), torch.from_numpy(targets[:, ::-1].copy())) > 0.1
    with pytest.raises(InputError, match="2 outputs, but there are 3"):
        root_law(torch.ones(2, 4), torch.from_numpy(targets))


def test_no_interval_goes_beyond_all_of_the_variance() -> None:
    assert HeldOut(0.9, [0.9], np.full(4, 0.2)).interval[1] == 1
