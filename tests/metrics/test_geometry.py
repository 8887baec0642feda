import numpy as np
import pytest
import torch
from hypothesis import given, settings

import oracles
from lowdim.errors import EmptyClassError, InputError
from lowdim.metrics import (
    cdnv,
    class_distances,
    discrimination,
    geometry,
    nearest_mean,
    self_duality,
    simplex_distance,
)
from lowdim.statistics import ClassStatistics, between_span
from problems import blobs, problems, rotation, simplex, tensors


def collect(features, labels, classes):
    return ClassStatistics.from_samples(*tensors(features, labels), classes=classes, scatter="none")


@given(problems())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_everything_is_the_definition(problem):
    features, labels, classes = problem
    statistics = collect(features, labels, classes)
    found = simplex_distance(statistics)
    expected = [f(features, labels, classes) for f in (oracles.equinorm, oracles.equiangularity, oracles.etf_distance)]
    # The means round to 1e-16 of their offset of 1e3, and their differences are about 1.
    np.testing.assert_allclose(
        [found.equinorm, found.equiangularity, found.etf_distance], expected, rtol=1e-8, atol=1e-9
    )
    expected = oracles.discrimination(features, labels, classes)
    np.testing.assert_allclose(discrimination(statistics), expected, rtol=1e-9, atol=1e-13)
    pairs = cdnv(statistics)
    mean = float(pairs.sum()) / (classes * (classes - 1))
    np.testing.assert_allclose(mean, oracles.cdnv(features, labels, classes), rtol=1e-9)
    assert torch.equal(pairs, pairs.T)
    weight = np.random.default_rng(0).standard_normal((classes, features.shape[1]))
    found = self_duality(statistics, torch.from_numpy(weight))
    np.testing.assert_allclose(found, oracles.nc3(weight, features, labels, classes), rtol=1e-8, atol=1e-9)


@given(problems())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_nearest_mean_in_the_span_is_nearest_mean_in_space(problem):
    features, labels, classes = problem
    statistics = collect(features, labels, classes)
    span = between_span(statistics)
    coordinates = (torch.from_numpy(features) - span.centre) @ span.basis
    found = nearest_mean(coordinates, span.coordinates)
    means = oracles.class_means(features, labels, classes)
    distances = ((features[:, None] - means) ** 2).sum(axis=2)
    relative = distances - distances[:, :1]
    np.testing.assert_allclose(found - found[:, :1], relative, rtol=1e-7, atol=1e-9 * (1 + np.abs(relative).max()))


def test_a_simplex_frame_is_recognised_in_any_position():
    for classes, width in ((2, 2), (5, 5), (7, 30)):
        means = 4.0 * simplex(classes, width, 1.5, seed=1) + np.linspace(-5, 5, width)
        labels = np.tile(np.arange(classes), 2)
        statistics = collect(means[labels], labels, classes)
        found = simplex_distance(statistics)
        np.testing.assert_allclose([found.equinorm, found.equiangularity, found.etf_distance], 0, atol=1e-12)
        centred = torch.from_numpy(means - means.mean(axis=0))
        assert self_duality(statistics, 7 * centred) == pytest.approx(0, abs=1e-14)
        assert self_duality(statistics, -centred) == pytest.approx(2)


def test_known_geometry():
    """Means at 1, 0 and the origin's opposite: worked by hand."""
    features = np.repeat(np.array([[3.0, 0.0], [0.0, 4.0]]), 2, axis=0) + np.array([[0.0, 1.0], [0.0, -1.0]] * 2)
    statistics = collect(features, np.array([0, 0, 1, 1]), 2)
    assert float(class_distances(statistics)[0, 1]) == pytest.approx(5)
    assert float(cdnv(statistics)[0, 1]) == pytest.approx((1 + 1) / (2 * 25))
    assert discrimination(statistics) == pytest.approx(1)
    assert discrimination(collect(features + 100, np.array([0, 0, 1, 1]), 2)) < 0.01, "not centred"


def test_invariances():
    features, labels = blobs(4, 6, 8)
    statistics = collect(features, labels, 4)
    moved = collect(5.0 * features @ rotation(6, 3) + 2.0, labels, 4)
    torch.testing.assert_close(cdnv(moved), cdnv(statistics), rtol=1e-10, atol=1e-12)
    for one, two in zip(
        vars(simplex_distance(moved)).values(), vars(simplex_distance(statistics)).values(), strict=True
    ):
        assert one == pytest.approx(two, rel=1e-10)
    turned = collect(5.0 * features @ rotation(6, 3), labels, 4)
    assert discrimination(turned) == pytest.approx(discrimination(statistics), rel=1e-12)


def test_distances_of_close_means_are_exact(monkeypatch):
    """Means 1e-6 apart at an offset of 1e3: a Gram matrix would give rounding noise."""
    features = np.array([[1e3, 1e3], [1e3 + 1e-6, 1e3]])
    labels = np.array([0, 1])
    exact = features[1, 0] - features[0, 0]
    assert float(class_distances(collect(features, labels, 2))[0, 1]) == pytest.approx(exact, rel=1e-12)
    features, labels = blobs(30, 5, 3)
    direct = class_distances(collect(features, labels, 30))
    monkeypatch.setattr(geometry, "_DIRECT", 0)
    torch.testing.assert_close(class_distances(collect(features, labels, 30)), direct, rtol=1e-6, atol=1e-6)


def test_coinciding_pairs_and_bad_input():
    features = np.array([[0.0], [2.0], [0.0], [2.0], [5.0], [5.0]])
    pairs = cdnv(collect(features, np.array([0, 0, 1, 1, 2, 2]), 3))
    assert pairs[0, 1] == float("inf")
    assert pairs[0, 0] == 0
    constant = collect(np.full((6, 3), 0.1), np.arange(6) % 3, 3)
    with pytest.raises(InputError, match="coincide"):
        simplex_distance(constant)
    with pytest.raises(InputError, match="single sample"):
        cdnv(collect(np.eye(3), np.arange(3), 3))
    middle = collect(np.array([[-1.0], [0.0], [1.0]]), np.arange(3), 3)
    with pytest.raises(InputError, match="angle is undefined"):
        simplex_distance(middle)
    with pytest.raises(InputError, match="exactly zero"):
        discrimination(middle)
    features, labels = blobs(3, 4, 5)
    statistics = collect(features, labels, 3)
    with pytest.raises(InputError, match=r"\(3, 5\).*\(3, 4\)"):
        self_duality(statistics, torch.ones(3, 5))
    with pytest.raises(InputError, match="all zero"):
        self_duality(statistics, torch.zeros(3, 4))
    for metric in (simplex_distance, cdnv, discrimination, class_distances):
        with pytest.raises(EmptyClassError):
            metric(collect(features, labels, 4))


def test_the_largest_cosine_is_held_against_what_fits_in_the_dimension():
    cross = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    for count, expected in ((6, 0.0), (4, None)):
        means = cross[:count] if count == 6 else torch.eye(4).double()[:, :3] - 0.25
        statistics = ClassStatistics.from_samples(means, torch.arange(count), classes=count)
        excess = simplex_distance(statistics).cosine_excess
        centred = means - means.mean(dim=0)
        cosines = torch.nn.functional.cosine_similarity(centred[:, None], centred[None], dim=-1).fill_diagonal_(-1)
        assert excess == pytest.approx(float(cosines.max()) + (1 / 3 if count == 4 else 0), abs=1e-12)
        assert expected is None or excess == pytest.approx(expected, abs=1e-12)
    plane = ClassStatistics.from_samples(
        torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.arange(5), classes=5
    )
    assert simplex_distance(plane).cosine_excess is None
