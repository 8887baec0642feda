import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from lowdim import statistics as module
from lowdim.errors import EmptyClassError, InputError, NonFiniteError
from lowdim.statistics import ClassStatistics, SpanScatter, between_span, span_scatter
from problems import blobs, problems, tensors

SCATTERS = ("none", "pooled", "per_class")


def collect(features, labels, classes, scatter="per_class"):
    return ClassStatistics.from_samples(*tensors(features, labels), classes=classes, scatter=scatter)


def assert_same(first, second, rtol=1e-11):
    assert torch.equal(first.counts, second.counts)
    size = float(first.means.abs().max()) + 1e-300
    torch.testing.assert_close(first.means, second.means, rtol=rtol, atol=1e-14 * size)
    # Squares are sums of squared deviations: rounding of the means enters squared, times the samples.
    torch.testing.assert_close(first.squares, second.squares, rtol=rtol, atol=first.samples * (1e-14 * size) ** 2)
    if first.scatter is not None:
        scale = float(first.squares.sum()) + first.samples * (1e-14 * size) ** 2
        torch.testing.assert_close(first.scatter, second.scatter, rtol=rtol, atol=rtol * scale)


@given(problems())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_moments_are_those_of_the_definition(problem):
    features, labels, classes = problem
    found = collect(features, labels, classes)
    np.testing.assert_allclose(found.means, oracles.class_means(features, labels, classes), rtol=1e-12, atol=1e-12)
    scale = features.var() + 1e-300
    expected = oracles.class_variances(features, labels, classes)
    np.testing.assert_allclose(found.squares / found.counts, expected, rtol=1e-9, atol=1e-12 * scale)
    within = oracles.within_scatter(features, labels, classes)
    np.testing.assert_allclose(found.scatter.sum(dim=0) / len(labels), within, rtol=1e-9, atol=1e-12 * scale)
    np.testing.assert_array_equal(found.counts, np.bincount(labels, minlength=classes))


@given(problems(), st.randoms(use_true_random=False), st.integers(1, 8), st.sampled_from(SCATTERS))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_order_batches_and_merging_change_nothing(problem, random, batch, scatter):
    features, labels, classes = problem
    once = collect(features, labels, classes, scatter)
    order = list(range(len(labels)))
    random.shuffle(order)
    width = features.shape[1]
    parts = [ClassStatistics.empty(classes, width, scatter=scatter) for _ in range(3)]
    for index, start in enumerate(range(0, len(order), batch)):
        rows = order[start : start + batch]
        parts[index % 3].update(*tensors(features[rows], labels[rows]))
    for part in parts[1:]:
        parts[0].merge(part)
    assert_same(once, parts[0])


def test_merging_with_nothing_changes_nothing():
    features, labels = blobs(3, 4, 5, offset=7.0)
    full, empty = collect(features, labels, 3), ClassStatistics.empty(3, 4, scatter="per_class")
    empty.merge(full)
    assert_same(full, empty, rtol=0)
    full.merge(ClassStatistics.empty(3, 4, scatter="per_class"))
    assert_same(full, empty, rtol=0)


def test_statistics_of_different_kinds_do_not_merge():
    kinds = [ClassStatistics.empty(2, 3, scatter=scatter) for scatter in SCATTERS]
    kinds += [ClassStatistics.empty(3, 3), ClassStatistics.empty(2, 4)]
    for first, second in itertools.permutations(kinds, 2):
        with pytest.raises(InputError, match="same classes, width and scatter"):
            first.merge(second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type_is_accumulated_in_float64(dtype):
    features, labels = tensors(*blobs(3, 5, 20))
    features = features.to(dtype)
    found = ClassStatistics.from_samples(features, labels, classes=3)
    expected = oracles.class_means(features.double().numpy(), labels.numpy(), 3)
    np.testing.assert_allclose(found.means, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_a_large_offset_costs_no_digits_of_float32_features(offset):
    """One-pass float32 moments are 10 % wrong at an offset of 1,000 deviations; the merge is not."""
    features, labels = blobs(4, 6, 500, offset=offset)
    features = features.astype(np.float32)
    found = ClassStatistics.empty(4, 6)
    for start in range(0, len(labels), 64):
        found.update(*tensors(features[start : start + 64], labels[start : start + 64]))
    np.testing.assert_allclose(found.squares / found.counts, oracles.class_variances(features, labels, 4), rtol=1e-11)


def test_constant_features_have_no_scatter_at_all():
    for value, count in itertools.product([0.1, 1e3 / 3, 1e30], [7, 1001]):
        features = torch.full((count, 5), value, dtype=torch.float64)
        labels = torch.arange(count) % 3
        found = ClassStatistics.from_samples(features, labels, classes=3)
        assert float(found.squares.max()) == 0
        assert torch.equal(found.means, features[:3])


def test_a_refused_batch_changes_nothing():
    features, labels = tensors(*blobs(3, 4, 5))
    found = ClassStatistics.from_samples(features, labels, classes=3)
    before = [found.counts.clone(), found.means.clone(), found.squares.clone(), found.scatter.clone()]
    for value in (float("nan"), float("inf"), -float("inf")):
        bad = features.clone()
        bad[7, 2] = value
        with pytest.raises(NonFiniteError, match=r"1 of 15 samples.*rows \[7\]"):
            found.update(bad, labels)
    with pytest.raises(InputError, match="width 4, but the batch has 3"):
        found.update(features[:, :3], labels)
    assert all(map(torch.equal, before, [found.counts, found.means, found.squares, found.scatter]))


def test_the_bad_row_is_named_in_a_later_block(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * 8 * 3)
    features, labels = tensors(*blobs(3, 4, 5))
    features[13, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"rows \[13\]"):
        ClassStatistics.from_samples(features, labels, classes=3)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.zeros(4, 2, 2), torch.zeros(4, dtype=torch.int64), "n x d"),
        (torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64), "n x d"),
        (torch.zeros(4, 2), torch.zeros(4, 1, dtype=torch.int64), "n x d"),
        (torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), "floating point"),
        (torch.zeros(4, 2), torch.zeros(4), "integers"),
        (torch.zeros(4, 2), torch.zeros(4, dtype=torch.bool), "integers"),
        (torch.zeros(4, 2), torch.tensor([0, 1, 2, 3]), r"0 … 2 .* range from 0 to 3"),
        (torch.zeros(4, 2), torch.tensor([0, -1, 2, 1]), "range from -1 to 2"),
    ],
)
def test_bad_samples_are_refused(features, labels, message):
    with pytest.raises(InputError, match=message):
        ClassStatistics.from_samples(features, labels, classes=3)


def test_empty_and_single_classes_are_refused_or_dropped():
    features, labels = blobs(3, 4, 5)
    found = collect(features, np.where(labels == 1, 0, labels), 4)
    with pytest.raises(EmptyClassError, match=r"classes \[1, 3\] have none"):
        found.require_classes()
    kept = found.without_empty()
    assert kept.counts.tolist() == [10, 5]
    assert_same(kept, collect(features, np.where(labels == 2, 1, 0), 2))
    with pytest.raises(InputError, match="At least 2 classes"):
        collect(features, np.zeros_like(labels), 1).require_classes()
    with pytest.raises(InputError, match="no samples"):
        ClassStatistics.empty(3, 2).require_classes()
    for shape in ((0, 3), (3, 0)):
        with pytest.raises(InputError, match="at least one class and one feature"):
            ClassStatistics.empty(*shape)


@pytest.mark.parametrize("scatter", SCATTERS)
def test_saved_statistics_come_back_and_damage_is_found(tmp_path, scatter):
    found = collect(*blobs(3, 4, 5), 3, scatter)
    file = tmp_path / "statistics.safetensors"
    found.save(file)
    back = ClassStatistics.load(file)
    assert_same(found, back, rtol=0)
    assert (back.scatter is None) == (scatter == "none")
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)
    with pytest.raises(InputError, match="damaged"):
        ClassStatistics.load(file)


@given(problems(), st.sampled_from(["pooled", "size_weighted"]))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_the_span_diagonalises_the_between_class_scatter(problem, weighting):
    features, labels, classes = problem
    span = between_span(collect(features, labels, classes), weighting=weighting)
    share = "class_balanced" if weighting == "pooled" else "size"
    expected = oracles.between_scatter(features, labels, classes, share)
    scale = np.trace(expected)
    assert 1 <= span.rank <= min(classes - 1, features.shape[1])
    basis = span.basis.numpy()
    np.testing.assert_allclose(basis.T @ basis, np.eye(span.rank), atol=1e-9)
    rebuilt = (basis * span.eigenvalues.numpy()) @ basis.T
    np.testing.assert_allclose(rebuilt, expected, atol=1e-9 * scale)
    np.testing.assert_allclose(span.condition, float(span.eigenvalues[0] / span.eigenvalues[-1]))


def test_the_null_direction_of_the_centred_means_never_counts():
    """K means span K - 1 directions: without the cap, rounding in the last one makes NC1 wrong by 1e11."""
    features, labels = blobs(5, 40, 8, offset=1e3)
    assert between_span(collect(features, labels, 5)).rank == 4
    features, labels = blobs(7, 3, 8)
    assert between_span(collect(features, labels, 7)).rank == 3


def test_small_eigenvalues_survive_an_ill_conditioned_span():
    """Eigenvalues 1 … 1e-20: a Gram matrix would lose all below 1e-16."""
    classes, width = 6, 12
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((width, width)))[0][: classes - 1]
    left = np.linalg.qr((np.eye(classes) - 1 / classes)[:, : classes - 1])[0]
    scales = 10.0 ** -np.arange(0, 10, 2)
    means = (left * scales) @ basis
    features, labels = np.concatenate([means, means]), np.tile(np.arange(classes), 2)
    span = between_span(collect(features, labels, classes))
    assert span.rank == 5
    np.testing.assert_allclose(span.eigenvalues.sqrt() * classes**0.5, scales, rtol=1e-6)


@given(problems())
@settings(deadline=None, max_examples=40, derandomize=True)
def test_both_routes_give_the_scatter_in_the_span(problem):
    features, labels, classes = problem
    statistics = collect(features, labels, classes)
    span = between_span(statistics)
    two_pass = span_scatter(*tensors(features, labels), statistics, span)
    one_pass = torch.einsum("kij,ir,jr->kr", statistics.scatter, span.basis, span.basis)
    scale = float(statistics.squares.max())
    torch.testing.assert_close(two_pass.projected, one_pass, rtol=1e-9, atol=1e-12 * scale)
    torch.testing.assert_close(two_pass.counts, statistics.counts)


def test_span_scatter_does_not_depend_on_blocks_or_batches(monkeypatch):
    features, labels = tensors(*blobs(4, 6, [1, 2, 9, 30]))
    statistics = ClassStatistics.from_samples(features, labels, classes=4)
    span = between_span(statistics)
    whole = span_scatter(features, labels, statistics, span)
    monkeypatch.setattr(module, "BLOCK_BYTES", 5 * 8 * 6)
    blocks = span_scatter(features, labels, statistics, span)
    one_by_one = SpanScatter.empty(statistics, span)
    for row in range(len(labels)):
        one_by_one.update(features[row : row + 1], labels[row : row + 1])
    one_by_one.update(features[:0], labels[:0])
    for other in (blocks, one_by_one):
        for mine, theirs in zip(whole.tensors(), other.tensors(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
